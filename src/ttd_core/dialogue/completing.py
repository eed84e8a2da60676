"""From what a reply proposes to the whole program, in whatever form it was asked for."""

from __future__ import annotations

from ttd_core.dialogue.applying import edited_program
from ttd_core.dialogue.merging import complete_program
from ttd_core.dialogue.protection import protected
from ttd_core.types import Action, Verdict


def whole_program(program: str, action: Action, reply: str, entry: str) -> Action | Verdict:
    """The whole program that an action stands for.

    :param program: that of the start state; empty when it has none.
    :param reply: the form replies were asked for in, as :attr:`ttd_core.options.Options.reply` has it.
    :param entry: name that a Python program must define.
    :return: the program, or a verdict when edits or parts have no place in it, or something changes that the
        program's ``EVOLVE-BLOCK`` lines keep.
    """
    whole: Action | Verdict = action
    if action.edits:
        whole = edited_program(program, action, entry)
    elif reply == "parts":
        whole = complete_program(program, action, entry)
    return whole if isinstance(whole, Verdict) else protected(program, whole)
