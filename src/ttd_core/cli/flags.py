"""Options of a problem as flags of their own: ``--cases 20`` for ``-o cases=20``; a switch takes no value."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ttd_core.config.settings import field_types
from ttd_core.errors import did_you_mean
from ttd_core.plugin import entries, registry


class ProblemCommand(click.Command):
    """A command whose PROBLEM brings flags of its own; where both have one, it is the command's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, after the problem's flags have become ``-o NAME=VALUE``.

        :raises click.UsageError: for a flag that neither the command nor the problem has.
        """
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        foreign = [arg for arg in args if arg.startswith("--") and arg != "--" and _name(arg) not in own]
        if foreign and "--help" not in args:
            installed = {entry.name for entry in entries.entries()}
            words = [arg for arg in args if not arg.startswith("-")]
            named = (word for word in words if word in installed or entries.is_reference(word))
            problem = next(named, None)
            if problem is not None:
                args = _translate(ctx, args, foreign, problem)
        return super().parse_args(ctx, args)


def _name(flag: str) -> str:
    return flag.partition("=")[0]


def _translate(ctx: click.Context, args: Sequence[str], foreign: list[str], problem: str) -> list[str]:
    """The arguments with each flag in ``foreign`` as ``-o NAME=VALUE`` of the problem."""
    kinds = field_types(registry.load_class(entries.find(problem)).options_type)
    known = {"--" + name.replace("_", "-"): name for name in kinds}
    translated: list[str] = []
    rest = iter(args)
    for arg in rest:
        if arg not in foreign:
            translated.append(arg)
            continue
        flag, equals, value = arg.partition("=")
        if flag not in known:
            hint = did_you_mean(flag, list(known)) or f" `ttd show {problem}` lists the problem's own."
            raise click.UsageError(f"neither ttd nor {problem} has an option {flag}.{hint}", ctx)
        if not equals:
            value = "true" if kinds[known[flag]] is bool else next(rest, "")
            if not value:
                raise click.UsageError(f"{flag} needs a value", ctx)
        translated += ["-o", f"{known[flag]}={value}"]
    return translated
