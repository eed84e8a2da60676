"""The contract's checks of a verifier: known answers judged rightly, repeatable, total, hard to fool."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

from ttd_core.errors import PluginError
from ttd_core.scores import Direction, gain
from ttd_core.testing import extremes, hostile
from ttd_core.testing.leaves import Leaf, leaves, replaced
from ttd_core.testing.subject import Finding, Subject, shorten
from ttd_core.types import Action, State, Verdict

#: Answers spoiled in every way; more would show nothing new.
_SPOILED = 3


def find_in_examples(subject: Subject) -> Iterator[Finding]:
    """Answers the author knows to be good are valid, those known to be bad are refused."""
    examples = subject.examples
    if not examples.good and not subject.valid_answers:
        yield Finding(
            "no answer is known to be good", "let examples() return Examples(good=[...]) with valid answers"
        )
    if not examples.bad:
        yield Finding(
            "no answer is known to be bad",
            "let examples() return Examples(bad=[...]), one for each rule that an answer can break",
        )
    for number, verdict in enumerate(subject.good_verdicts, start=1):
        if not verdict.ok:
            yield Finding(
                f"good example {number} is refused: {verdict.message or verdict.status.sentence}",
                "correct the example, or the rule in construct or check that refuses it",
            )
    for number, answer in enumerate(examples.bad, start=1):
        verdict = subject.evaluate(answer)
        if verdict.ok:
            yield Finding(
                f"bad example {number} is accepted with score {_score(verdict):.10g}",
                "let check return a violation for the rule that it breaks",
            )


def find_lost_in_storage(subject: Subject) -> Iterator[Finding]:
    """A state stored as JSON and arrays comes back as the same state, with the same verdict."""
    for valid in subject.valid_answers:
        arrays: dict[str, Any] = {}
        state = valid.state
        try:
            text = json.dumps(state.to_json(arrays), allow_nan=False)
        except (TypeError, ValueError) as error:
            yield Finding(
                f"{valid.label} cannot be stored: {error}",
                "keep finite numbers, text, lists, dicts and plain arrays in a construction",
            )
            continue
        back = State.from_json(json.loads(text), arrays)
        verdict = subject.evaluate(back)
        if back.digest != state.digest or verdict.reward != valid.reward:
            yield Finding(
                f"{valid.label} is judged otherwise after it was stored and read again",
                "let check and reward depend on state.data alone",
            )


def find_unrepeatable(subject: Subject) -> Iterator[Finding]:
    """The same state gets the same verdict: at once, later, after others, from a problem built anew."""
    states = [valid.state for valid in subject.valid_answers]
    for answer in (*subject.examples.good, *subject.examples.bad):
        state = answer if isinstance(answer, State | Action) else subject.construct(answer)
        states += [state] if isinstance(state, State) else []
    if not states:
        return
    digests = [state.digest for state in states]
    first = [subject.evaluate(state) for state in states]
    later = [subject.evaluate(state) for state in reversed(states)][::-1]
    rebuilt = subject.rebuilt()
    after_rebuild = [rebuilt.evaluate(state) for state in reversed(states)][::-1]
    for one, two, three in zip(first, later, after_rebuild, strict=True):
        if _judgement(one) != _judgement(two) or _judgement(one) != _judgement(three):
            other = two if one != two else three
            yield Finding(
                f"the same state is judged {_in_words(one)} and then {_in_words(other)}",
                "let check and reward depend on state.data alone: no random numbers, no clock, no memory",
            )
            return
    if digests != [state.digest for state in states]:
        yield Finding("check or reward changes the state it judges", "copy what you want to change")


def find_crashes(subject: Subject) -> Iterator[Finding]:
    """No value crashes ``construct``, no state crashes ``check``, no state that passes crashes ``reward``.

    Neither do numbers of any size, and lists of any length take bounded time.
    """
    for value in hostile.values():
        try:
            subject.evaluate(value)
        except PluginError as error:
            yield _crash(error, f"an answer that is {shorten(value)}")
            break
    states = [State(), State(data={"anything": 1})]
    for valid in subject.valid_answers[:1]:
        data = valid.state.data
        for key in data:
            states.append(State(data={other: data[other] for other in data if other != key}))
            for value in hostile.values():
                states.append(State(data={**data, key: value}))
    for state in states:
        try:
            subject.evaluate(state)
        except PluginError as error:
            yield _crash(error, f"a state with {_contents(state)}")
            break
    yield from extremes.find_overflows(subject)
    yield from extremes.find_unbounded(subject)


def find_accepted_nonsense(subject: Subject) -> Iterator[Finding]:
    """NaN, nothing, wrong shapes and arrays that hide entries are refused wherever numbers stand."""
    if subject.evaluate(State()).ok:
        yield Finding(
            "check accepts a state without anything in it", "refuse a construction without its parts"
        )
    seen: set[str] = set()
    for valid in subject.valid_answers[:_SPOILED]:
        for leaf in leaves(valid.state.data):
            for finding in _accepted_in_place_of(subject, valid.state, leaf):
                if finding.fix not in seen:
                    seen.add(finding.fix)
                    yield finding
    for answer, verdict in zip(subject.examples.good, subject.good_verdicts, strict=True):
        if verdict.ok and not isinstance(answer, State | Action):
            for finding in _accepted_hidden(subject, answer):
                if finding.fix not in seen:
                    seen.add(finding.fix)
                    yield finding


def find_believed_reports(subject: Subject) -> Iterator[Finding]:
    """A score that an answer reports about itself is never believed."""
    for answer, verdict in zip(subject.examples.good, subject.good_verdicts, strict=True):
        if verdict.reward is None or not isinstance(answer, list | tuple | dict):
            continue
        score = verdict.reward.score
        for leaf in leaves(answer):
            # A number beside other values that equals the score is a report; alone it is the answer itself.
            if leaf.is_array or not leaf.path or not math.isclose(leaf.value, score, rel_tol=1e-6):
                continue
            for claim in _better_claims(score, subject.problem.direction):
                on_claim = subject.evaluate(replaced(answer, leaf.path, claim))
                if on_claim.ok and not math.isclose(_score(on_claim), score, rel_tol=1e-9):
                    yield Finding(
                        f"an answer that claims {claim:.4g} instead of {score:.4g} gets score "
                        f"{_score(on_claim):.4g}",
                        "compute the score from the construction; never take one that the answer reports",
                    )
                    return


def _better_claims(score: float, direction: Direction) -> list[float]:
    """Scores that would be better: by so little that it looks true, by a lot, and by more than can be."""
    step = gain(direction, 0.0, abs(score) or 1.0)
    return [score + 1e-3 * step, score + 0.5 * step, score + 2.0 * step + math.copysign(1.0, step)]


def find_unordered_rewards(subject: Subject) -> Iterator[Finding]:
    """Among valid answers, the one with the better score has the larger reward."""
    rewards = [valid.reward for valid in subject.valid_answers]
    if len({reward.score for reward in rewards}) < 2:
        yield Finding(
            "fewer than two scores are known, so nothing shows that the reward grows with the score",
            "let examples() give two good answers with different scores",
        )
    for one, two in itertools.combinations(rewards, 2):
        better, worse = (one, two) if subject.problem.better(one.score, two.score) else (two, one)
        if one.score != two.score and not better.value > worse.value:
            yield Finding(
                f"score {better.score:.6g} is better than {worse.score:.6g} (direction "
                f"{subject.problem.direction!r}), but its reward {better.value:.6g} is not larger than "
                f"{worse.value:.6g}",
                "reward what is better more, say 1 / score or -score when a smaller score is better",
            )
            return


def _accepted_in_place_of(subject: Subject, state: State, leaf: Leaf) -> Iterator[Finding]:
    """Nonsense in place of one leaf of a valid state that is still accepted."""
    where = leaf.where("data")
    if not leaf.is_array:
        for special in (math.nan, math.inf, -math.inf):
            if _state_passes(subject, state, leaf, special):
                yield _not_finite(f"{special} as {where}")
                return
        return
    array = leaf.array
    for name, spoiled in hostile.spoiled_entries(array):
        if _state_passes(subject, state, leaf, leaf.like(spoiled)):
            yield _not_finite(f"{name} of {where}")
            break
    for name, misshapen in hostile.wrong_shapes(array):
        if _state_passes(subject, state, leaf, leaf.like(misshapen)):
            yield Finding(
                f"check accepts {name} as {where}",
                "compare the shape with the one you mean before anything else",
            )
            break


def _not_finite(what: str) -> Finding:
    return Finding(
        f"check accepts {what}",
        "ask for what must hold (0 <= x <= 1, np.isfinite), since NaN makes x < 0 false too",
    )


def _state_passes(subject: Subject, state: State, leaf: Leaf, new: Any) -> bool:
    """Whether the state passes with ``new`` in place of a leaf of its data."""
    return _passes_check(subject, State(data=replaced(state.data, leaf.path, new)))


def _passes_check(subject: Subject, state: State) -> bool:
    """Whether ``check`` finds nothing wrong; what ``reward`` makes of the state does not matter."""
    try:
        return not subject.hooks.check(state)
    except PluginError:
        # A crash is no acceptance; the check for crashes reports it.
        return False


def _accepted_hidden(subject: Subject, answer: Any) -> Iterator[Finding]:
    """Arrays that hide a NaN and are accepted, where the NaN in the open would not be."""
    for leaf in leaves(answer):
        if not leaf.is_array or _answer_passes(subject, answer, leaf, hostile.with_nan(leaf.array)):
            continue
        for name, hiding in hostile.hiding_arrays(leaf.array):
            if _answer_passes(subject, answer, leaf, hiding):
                yield Finding(
                    f"{name} with a NaN under it is accepted in {leaf.where('the answer')}",
                    "copy the numbers with np.array(value, dtype=float) in construct, which hides nothing",
                )


def _answer_passes(subject: Subject, answer: Any, leaf: Leaf, new: Any) -> bool:
    """Whether the answer is constructed and passes with ``new`` in place of one of its leaves."""
    try:
        state = subject.construct(replaced(answer, leaf.path, new))
    except PluginError:
        return False  # again, a crash is no acceptance
    return isinstance(state, State) and _passes_check(subject, state)


def _crash(error: PluginError, on: str) -> Finding:
    hook = error.hook.removeprefix("ttd_")
    if hook == "construct":
        return Finding(
            f"construct fails: {error.reason}", "raise ValueError for what cannot be read as a construction"
        )
    return Finding(
        f"{hook} fails on {on}: {error.reason}",
        "test type and shape first, and return a violation for what does not fit",
    )


def _contents(state: State) -> str:
    if not state.data:
        return "nothing in it"
    return ", ".join(f"data[{key!r}] = {shorten(value, 40)}" for key, value in state.data.items())


def _judgement(verdict: Verdict) -> Any:
    """What must be the same whenever the same state is judged."""
    return (verdict.status, verdict.message, verdict.reward)


def _in_words(verdict: Verdict) -> str:
    return f"{_score(verdict):.10g}" if verdict.ok else f"{verdict.status} ({verdict.message})"


def _score(verdict: Verdict) -> float:
    assert verdict.reward is not None
    return verdict.reward.score
