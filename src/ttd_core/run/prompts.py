"""The prompts of a step, made to fit: what candidates wrote is shown cut where it would fill the context.

A program may be valid and yet so long, or written in such characters, that no reply fits beside it. Its state
stays in the archive whole; only what a prompt shows of it is cut, and the prompt says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import attrs

from ttd_core.dialogue.prompting import shown_cut
from ttd_core.errors import PluginError
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import MeasuresPrompts, Policy, SamplingParams
from ttd_core.search.archive import Archive, Node
from ttd_core.text import quoted_lines, showable_line
from ttd_core.types import Failure, Message, State

_log = logging.getLogger("ttd_core")

#: A prompt shall leave this share of the context for the reply, where what candidates wrote can be cut.
_ROOM = 1 / 8
#: Below this many characters of each text it is the rest of the prompt that is long.
_LEAST = 64
#: How much of the whole prompt is shown then, as a multiple of the characters left to each text.
_WHOLE = 16
#: What stands above the hints in a prompt.
_HINTS_ABOVE = "## Hints\n\nA person who follows this search says:"


class PromptMaker:
    """Renders the prompts of a run.

    :param hooks: of the run.
    :param policy: that the prompts are for; measures them, or refuses those that are too long.
    :param archive: holds the start states.
    :param on_problem_error: whether a state whose prompt cannot be rendered leaves its place to its parent
        (``count``), or the error is raised (``stop``).
    """

    def __init__(
        self, hooks: Hooks, policy: Policy, archive: Archive, on_problem_error: Literal["count", "stop"]
    ) -> None:
        self._hooks = hooks
        self._policy = policy
        self._archive = archive
        self._on_problem_error = on_problem_error
        #: Texts of the hints that the step's prompts carry.
        self._hints: Sequence[str] = ()
        #: Characters shown of each text; ``None`` for all. Lowered when a server refuses a prompt.
        self._limit: int | None = None

    def render(
        self, picked: Sequence[Node], params: SamplingParams, hints: Sequence[str] = ()
    ) -> tuple[list[Node], list[list[Message]]]:
        """The start states, and a prompt for each.

        :param picked: the states to start from, if their prompts can be rendered.
        :param hints: of people, which each prompt ends with where there is room.
        :raises PluginError: when a seed's prompt fails, or any where that is to stop the run.
        """
        self._hints = hints
        return self._render_all(picked, params)

    def _render_all(
        self, picked: Sequence[Node], params: SamplingParams
    ) -> tuple[list[Node], list[list[Message]]]:
        pairs = [self._start_with_prompt(node, params) for node in picked]
        return [node for node, _ in pairs], [prompt for _, prompt in pairs]

    def shorter(
        self, starts: Sequence[Node], params: SamplingParams
    ) -> tuple[list[Node], list[list[Message]]] | None:
        """The prompts with half as much of what candidates wrote, after one of them was refused as too long.

        :return: ``None`` when there is nothing left to cut: it is the task that does not fit.
        """
        longest = max((_longest_text(node) for node in starts), default=0)
        limit = min(longest, self._limit or longest) // 2
        if not longest or limit < _LEAST // _WHOLE:
            if not self._hints:
                return None
            # What is too long may be the hints, which must not end the run.
            _warn_of_no_room()
            self._hints = ()
        else:
            self._limit = limit
        return self._render_all(starts, params)

    def _start_with_prompt(self, node: Node, params: SamplingParams) -> tuple[Node, list[Message]]:
        """A node and its prompt, or its nearest ancestor's.

        A state is what a candidate made of it, so rendering it may fail as judging it may; a seed is not.
        """
        try:
            return node, self._fitting(node, params)
        except PluginError as error:
            if node.parent is None or self._on_problem_error == "stop":
                raise
            _log.warning(
                f"state {node.id}: no prompt could be rendered, so its parent takes its place: "
                f"{showable_line(str(error))}"
            )
            return self._start_with_prompt(self._archive[node.parent], params)

    def _fitting(self, node: Node, params: SamplingParams) -> list[Message]:
        if not self._hints:
            return self._cut_to_fit(node, params, [])
        prompt = self._cut_to_fit(node, params, self._hints)
        if not isinstance(self._policy, MeasuresPrompts) or _leaves(0.0, self._policy, prompt, params):
            return prompt
        _warn_of_no_room()
        return self._cut_to_fit(node, params, [])

    def _cut_to_fit(self, node: Node, params: SamplingParams, hints: Sequence[str]) -> list[Message]:
        """A state's prompt, with as much of what candidates wrote as leaves room for a reply."""
        limit = self._limit
        prompt = with_hints(self._render(node, limit), hints)
        if not isinstance(self._policy, MeasuresPrompts):
            return prompt
        longest = _longest_text(node)
        room = _ROOM
        if not longest or _leaves(room, self._policy, prompt, params):
            return prompt
        if not _leaves(room, self._policy, with_hints(self._render(node, _LEAST), hints), params):
            # The task alone takes most of the context: as much is shown as fits at all.
            room = 0.0
        while not _leaves(room, self._policy, prompt, params):
            limit = min(longest, longest if limit is None else limit) * 3 // 4
            if limit < _LEAST // _WHOLE:
                break
            prompt = with_hints(self._render(node, limit), hints)
        return prompt

    def _render(self, node: Node, limit: int | None) -> list[Message]:
        history = self._archive.history(node.id)
        if limit is None:
            return self._hooks.render_prompt(node.start, history)
        shown = max(limit, _LEAST)
        prompt = self._hooks.render_prompt(
            _cut_state(node.start, shown, whole=node.seed),
            [attrs.evolve(each, state=_cut_state(each.state, shown, whole=node.seed)) for each in history],
        )
        if limit >= _LEAST or node.seed:
            return prompt
        # A problem may show more of a state than its texts.
        return [
            {"role": message["role"], "content": shown_cut(message["content"], _WHOLE * limit)}
            for message in prompt
        ]


def with_hints(prompt: list[Message], hints: Sequence[str]) -> list[Message]:
    """A prompt whose last message of the user ends with hints, quoted as what a person says.

    :param prompt: of whatever problem; itself where there are no hints.
    """
    if not hints:
        return prompt
    quoted = "\n\n".join(quoted_lines(hint, "> ") for hint in hints)
    section = f"{_HINTS_ABOVE}\n\n{quoted}"
    last = max((place for place, each in enumerate(prompt) if each["role"] == "user"), default=None)
    if last is None:
        return [*prompt, {"role": "user", "content": section}]
    asked: Message = {"role": "user", "content": f"{prompt[last]['content'].rstrip()}\n\n{section}"}
    return [*prompt[:last], asked, *prompt[last + 1 :]]


def _warn_of_no_room() -> None:
    _log.warning("the hints do not fit the model's context beside the task, so a prompt goes without them")


def _leaves(share: float, policy: MeasuresPrompts, prompt: Sequence[Message], params: SamplingParams) -> bool:
    """Whether a prompt leaves a share of the context for the reply, a token at least."""
    tokens, context = policy.measure_prompt(prompt, params)
    room = int(context * share)
    return tokens + max(1, min(room, params.max_new_tokens or room)) <= context


def _longest_text(node: Node) -> int:
    """Characters of the longest text that a candidate wrote and a prompt may show; 0 for none."""
    texts = [text for failure in node.failures.values() for text in (failure.message, failure.output)]
    # What a run starts from was given by a person, who is told when it does not fit.
    if node.seed:
        return max(map(len, texts), default=0)
    return max(_LEAST, *map(len, [*texts, node.state.code, node.state.output]))


def _cut_state(state: State, limit: int, *, whole: bool) -> State:
    """A state as a prompt shows it.

    :param limit: most characters of each text.
    :param whole: whether its program and output stay as they are.
    """
    failures = {
        status: Failure(shown_cut(failure.message, limit), shown_cut(failure.output, limit))
        for status, failure in state.failures.items()
    }
    if whole:
        return attrs.evolve(state, failures=failures)
    return attrs.evolve(
        state, code=shown_cut(state.code, limit), output=shown_cut(state.output, limit), failures=failures
    )
