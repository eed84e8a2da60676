"""Calling hooks: the problem answers, wrappers wrap, and every fault is laid at the right door."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from ttd_core.errors import PluginError, RegistryClashError, SandboxUnavailableError
from ttd_core.plugin.entries import Entry
from ttd_core.plugin.hooks import Hooks
from ttd_core.plugin.spec import hookimpl
from ttd_core.problem import Problem
from ttd_core.sandbox.base import JobResult, PythonJob
from ttd_core.types import Action, Completion, Reward, ScoredState, State, Status, Verdict


class Plain(Problem):
    """A whole problem whose every answer can be replaced."""

    name = "plain"
    title = "Plain"
    metric = "size"
    direction = "max"
    answers: ClassVar[dict[str, Any]] = {}

    def task(self) -> str:
        return "Return a number."

    def construct(self, value: Any) -> dict[str, Any]:
        return {"x": float(value)}

    def check(self, state: State) -> list[str]:
        return self._answer("check", ["x is negative"] if state.data.get("x", 0) < 0 else [])

    def reward(self, state: State) -> Reward:
        return self._answer("reward", Reward(state.data["x"], state.data["x"]))

    def render_prompt(self, state, history):
        return self._answer("render_prompt", [{"role": "user", "content": f"{len(history)} before"}])

    def parse_action(self, completion):
        return self._answer("parse_action", Action(completion.answer))

    def transition(self, state, action, execute):
        return self._answer("transition", lambda: State(action.code, {"x": execute(_job()).value}))

    def seed_states(self, rng, count):
        return self._answer("seed_states", [State(data={"x": float(i)}) for i in range(count)])

    def _answer(self, method: str, default: Any) -> Any:
        answer = self.answers.get(method, default)
        if isinstance(answer, BaseException):
            raise answer
        return answer() if callable(answer) else answer


def _job() -> PythonJob:
    return PythonJob(source="", entry="run")


def _execute(_job: Any) -> JobResult:
    return JobResult(status=Status.OK, value=4.0)


STATE = State(data={"x": 2.0})

#: One call of every domain hook.
CALLS = {
    "render_prompt": lambda hooks: hooks.render_prompt(STATE, [ScoredState(STATE, Reward(1.0, 1.0))]),
    "parse_action": lambda hooks: hooks.parse_action(Completion(text="x = 1")),
    "transition": lambda hooks: hooks.transition(STATE, Action("x"), _execute),
    "check": lambda hooks: hooks.check(STATE),
    "reward": lambda hooks: hooks.reward(STATE),
    "seed_states": lambda hooks: hooks.seed_states(np.random.default_rng(0), 2),
}


def build(*plugins: Any, answers: dict[str, Any] | None = None) -> Hooks:
    """Hooks of the plain problem, with observers as plugins."""
    problem = Plain()
    problem.answers = answers or {}  # type: ignore[misc]
    return Hooks(problem, plugins, plugins=[], origin="plain (ttd-plain 1.0)")


def test_the_problem_answers_every_hook() -> None:
    hooks = build()
    assert CALLS["render_prompt"](hooks) == [{"role": "user", "content": "1 before"}]
    assert CALLS["parse_action"](hooks) == Action("x = 1")
    assert CALLS["transition"](hooks).data == {"x": 4.0}
    assert CALLS["check"](hooks) == []
    assert hooks.check(State(data={"x": -1.0})) == ["x is negative"]
    assert CALLS["reward"](hooks) == Reward(2.0, 2.0)
    assert len(CALLS["seed_states"](hooks)) == 2


# -- faults of a problem ----------------------------------------------------------------------------


@pytest.mark.parametrize("hook", sorted(CALLS))
def test_an_exception_names_the_distribution_and_the_hook(hook: str) -> None:
    fault = ZeroDivisionError("oh\nno")
    with pytest.raises(PluginError) as caught:
        CALLS[hook](build(answers={hook: fault}))
    assert caught.value.plugin == "plain (ttd-plain 1.0)"
    assert caught.value.hook == f"ttd_{hook}"
    assert caught.value.reason.startswith("ZeroDivisionError: oh no (test_hooks.py:")
    assert caught.value.__cause__ is fault


@pytest.mark.parametrize("hook", sorted(CALLS))
def test_ctrl_c_passes(hook: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        CALLS[hook](build(answers={hook: KeyboardInterrupt()}))


@pytest.mark.parametrize("hook", sorted(CALLS))
def test_errors_for_a_person_pass(hook: str) -> None:
    with pytest.raises(SandboxUnavailableError, match="install bubblewrap"):
        CALLS[hook](build(answers={hook: SandboxUnavailableError("install bubblewrap")}))


@pytest.mark.parametrize("hook", sorted(CALLS))
def test_an_exit_is_a_fault(hook: str) -> None:
    with pytest.raises(PluginError, match="SystemExit: 3"):
        CALLS[hook](build(answers={hook: SystemExit(3)}))


OK_VERDICT = Verdict(Status.OK, state=STATE, reward=Reward(1.0, 1.0))


@pytest.mark.parametrize(
    ("hook", "answer", "complaint"),
    [
        ("render_prompt", None, "returned None instead of a list of chat messages"),
        ("render_prompt", [], "returned a list instead of a list of chat messages"),
        ("render_prompt", "hello", "returned a str instead of a list of chat messages"),
        ("render_prompt", ["hello"], "returned a message that is not"),
        ("render_prompt", [{"role": "robot", "content": "x"}], "returned a message that is not"),
        ("render_prompt", [{"role": "user", "content": 1}], "returned a message that is not"),
        ("parse_action", None, "returned None instead of an Action or a failed Verdict"),
        ("parse_action", "code", "returned a str instead of an Action or a failed Verdict"),
        ("parse_action", OK_VERDICT, "returned an ok Verdict"),
        ("transition", None, "returned None instead of a State or a failed Verdict"),
        ("transition", OK_VERDICT, "returned an ok Verdict"),
        (
            "transition",
            Verdict.failed(Status.CRASH, "x", metrics={"n": np.float32(1)}),
            "the Verdict's metrics are not JSON",
        ),
        ("check", None, "returned None instead of a list of sentences"),
        ("check", True, "returned a bool instead of a list of sentences"),
        ("check", "x is wrong", "returned a str instead of a list of sentences"),
        ("check", [1], "returned a list instead of a list of sentences"),
        ("reward", None, "returned None instead of a Reward"),
        ("reward", 1.5, "returned a float instead of a Reward"),
        ("reward", Reward(1.0, 1.0, {"n": np.int64(3)}), "the Reward's metrics are not JSON"),
        ("reward", Reward(1.0, 1.0, {"n": float("nan")}), "the Reward's metrics are not JSON"),
        ("seed_states", None, "returned None instead of a list of States"),
        ("seed_states", [1, 2], "returned a list instead of a list of States"),
        ("seed_states", [STATE], "returned 1 states, but 2 were asked for"),
    ],
)
def test_a_wrong_type_names_the_distribution_and_the_hook(hook: str, answer: Any, complaint: str) -> None:
    with pytest.raises(PluginError) as caught:
        CALLS[hook](build(answers={hook: lambda: answer}))
    assert (caught.value.plugin, caught.value.hook) == ("plain (ttd-plain 1.0)", f"ttd_{hook}")
    assert caught.value.reason.startswith(complaint)


def test_a_reward_that_is_not_finite() -> None:
    with pytest.raises(PluginError, match="value must be a finite number"):
        CALLS["reward"](build(answers={"reward": lambda: Reward(float("nan"), 1.0)}))
    forged = Reward(1.0, 1.0)
    object.__setattr__(forged, "score", float("inf"))
    with pytest.raises(PluginError, match=r"a Reward that is not finite: value 1\.0, score inf"):
        CALLS["reward"](build(answers={"reward": forged}))


def test_a_failed_verdict_is_no_fault() -> None:
    verdict = Verdict.failed(Status.PARSE_ERROR, "no code")
    assert CALLS["parse_action"](build(answers={"parse_action": verdict})) is verdict
    assert CALLS["transition"](build(answers={"transition": verdict})) is verdict


def test_what_execute_raises_is_not_the_plugins_fault() -> None:
    fault = OSError("the sandbox broke")

    def execute(_job: Any) -> JobResult:
        raise fault

    with pytest.raises(OSError, match="the sandbox broke") as caught:
        build().transition(STATE, Action("x"), execute)
    assert caught.value is fault


# -- wrappers and other plugins ---------------------------------------------------------------------


class Doubling:
    """Wraps the reward."""

    @hookimpl(wrapper=True)
    def ttd_reward(self, problem, state):
        reward = yield
        return Reward(2 * reward.value, reward.score, {"by": problem.name})


class Counting:
    """Wraps the check and sees all results."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @hookimpl(wrapper=True)
    def ttd_check(self, state):
        results = yield
        self.seen.append(results)
        return [*results, ["one more"]] if state.data["x"] > 5 else results


def test_wrappers_wrap() -> None:
    counting = Counting()
    hooks = build(Doubling(), counting)
    assert hooks.reward(STATE) == Reward(4.0, 2.0, {"by": "plain"})
    assert hooks.check(STATE) == []
    assert hooks.check(State(data={"x": 9.0})) == ["one more"]
    assert counting.seen == [[[]], [[]]]


def test_a_wrapper_in_another_distribution(install, problem_source) -> None:
    install(
        "ttd-sum",
        {"sum_problem": problem_source},
        problems={"sum": "sum_problem:Sum"},
    )
    install(
        "ttd-noise",
        {
            "noise_plugin": """
                from ttd_core import Reward, hookimpl

                @hookimpl(wrapper=True)
                def ttd_reward(state):
                    reward = yield
                    if not state.code:
                        raise LookupError("no code")
                    return Reward(reward.value + 100, reward.score)
            """
        },
        plugins={"noise": "noise_plugin"},
        version="0.3",
    )
    from ttd_core.plugin import registry

    hooks = Hooks(registry.load("sum"))
    assert "noise (ttd-noise 0.3)" in hooks.plugin_names
    assert hooks.reward(State("x", {"numbers": [1.0]})).value == 101.0
    with pytest.raises(
        PluginError, match=r"^plugin noise \(ttd-noise 0\.3\): ttd_reward: LookupError: no code"
    ):
        hooks.reward(State("", {"numbers": [1.0]}))
    with pytest.raises(PluginError, match=r"^plugin sum \(ttd-sum 1\.0\): ttd_reward: KeyError: 'numbers'"):
        hooks.reward(State("x", {}))


def test_a_fault_inside_a_wrapper_is_not_the_wrappers() -> None:
    with pytest.raises(PluginError) as caught:
        build(Doubling(), answers={"reward": ValueError("inner")}).reward(STATE)
    assert caught.value.plugin == "plain (ttd-plain 1.0)"


def test_a_wrapper_may_mend_a_fault() -> None:
    class Mending:
        @hookimpl(wrapper=True)
        def ttd_reward(self):
            try:
                return (yield)
            except PluginError as error:
                return Reward(0.0, 0.0, {"mended": error.hook})

    hooks = build(Mending(), answers={"reward": ValueError("inner")})
    assert hooks.reward(STATE).metrics == {"mended": "ttd_reward"}


class Before:
    @hookimpl(wrapper=True)
    def ttd_reward(self):
        raise ValueError("before")
        yield


class After:
    @hookimpl(wrapper=True)
    def ttd_reward(self):
        yield
        raise ValueError("after")


class Forgets:
    @hookimpl(wrapper=True)
    def ttd_reward(self):
        yield


class Twice:
    @hookimpl(wrapper=True)
    def ttd_reward(self):
        reward = yield
        yield
        return reward


class Never:
    @hookimpl(wrapper=True)
    def ttd_reward(self):
        if self is None:
            yield


@pytest.mark.parametrize(
    ("wrapper", "reason"),
    [
        (Before, "ValueError: before"),
        (After, "ValueError: after"),
        (Forgets, "the wrapper's result: returned None instead of a Reward"),
        (Twice, "the wrapper yielded twice"),
        (Never, "the wrapper returned before it yielded"),
    ],
)
def test_a_wrappers_own_fault_is_the_wrappers(wrapper: type, reason: str) -> None:
    with pytest.raises(PluginError) as caught:
        build(Doubling(), wrapper()).reward(STATE)
    assert caught.value.plugin == f"observer 2 ({wrapper.__name__})"
    assert caught.value.reason.startswith(reason)


def test_ctrl_c_passes_through_wrappers() -> None:
    closed = []

    class Closing:
        @hookimpl(wrapper=True)
        def ttd_reward(self):
            try:
                return (yield)
            finally:
                closed.append(True)

    with pytest.raises(KeyboardInterrupt):
        build(Closing(), answers={"reward": KeyboardInterrupt()}).reward(STATE)
    assert closed == [True]


def test_another_plugin_may_answer_first_or_pass() -> None:
    class Answering:
        @hookimpl
        def ttd_reward(self, state):
            return Reward(7.0, 7.0) if state.data["x"] > 5 else None

    hooks = build(Answering())
    assert hooks.reward(State(data={"x": 9.0})).value == 7.0
    assert hooks.reward(STATE).value == 2.0


def test_every_check_is_asked() -> None:
    class Strict:
        @hookimpl
        def ttd_check(self, state):
            return ["x is not 1"]

    assert build(Strict()).check(State(data={"x": -1.0})) == ["x is not 1", "x is negative"]


def test_a_check_that_forgets_to_return_is_a_fault() -> None:
    class Forgetful:
        @hookimpl
        def ttd_check(self, state):
            pass

    with pytest.raises(PluginError, match=r"observer 1 \(Forgetful\): ttd_check: returned None"):
        build(Forgetful()).check(STATE)


def test_a_wrapper_that_loses_a_seed() -> None:
    class Losing:
        @hookimpl(wrapper=True)
        def ttd_seed_states(self):
            return (yield)[1:]

    with pytest.raises(PluginError, match=r"observer 1 \(Losing\) or plain \(ttd-plain 1\.0\): .* 1 states"):
        CALLS["seed_states"](build(Losing()))


# -- registration -----------------------------------------------------------------------------------


def _entry(install, name: str, source: str) -> Entry:
    install(f"d-{name}", {f"plugin_{name}": source}, plugins={name: f"plugin_{name}"})
    return Entry(name, f"plugin_{name}", f"d-{name}", "1.0")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise OSError('no library')", "import: OSError: no library"),
        ("from ttd_core import hookimpl\n@hookimpl\ndef ttd_rewards(): pass", "Did you mean 'ttd_reward'?"),
        ("from ttd_core import hookimpl\n@hookimpl\ndef ttd_reward(sate): pass", "Argument(s) {'sate'}"),
        ("from ttd_core import hookimpl\n@hookimpl(wrapper=True)\ndef ttd_reward(): pass", "must yield once"),
        (
            "from ttd_core import hookimpl\n@hookimpl(hookwrapper=True)\ndef ttd_reward():\n    yield",
            "use wrapper=True",
        ),
    ],
)
def test_a_plugin_that_cannot_join_is_reported_and_stops_nothing(install, source: str, reason: str) -> None:
    bad = _entry(install, "bad", source)
    good = _entry(install, "good", "from ttd_core import hookimpl\n@hookimpl\ndef ttd_check(): return ['no']")
    hooks = Hooks(Plain(), plugins=[bad, good])
    (failure,) = hooks.failures
    assert failure.plugin == "bad (d-bad 1.0)"
    assert reason in str(failure)
    assert "\n" not in str(failure)
    assert hooks.check(STATE) == ["no"]


def test_an_optional_hook_of_a_later_version_is_skipped() -> None:
    class Ahead:
        @hookimpl(optionalhook=True)
        def ttd_paint(self):
            raise AssertionError("never called")

        @hookimpl(specname="ttd_check")
        def strictly(self, state):
            return ["no"]

    assert build(Ahead()).check(STATE) == ["no"]


def test_order_among_plugins_is_kept() -> None:
    class Last:
        @hookimpl(trylast=True)
        def ttd_reward(self):
            return Reward(1.0, 1.0)

    class First:
        @hookimpl(tryfirst=True)
        def ttd_reward(self):
            return Reward(9.0, 9.0)

    assert build(First(), Last()).reward(STATE).value == 9.0
    assert build(Last()).reward(STATE).value == 2.0  # even the problem answers before one that tries last


def test_two_distributions_that_claim_one_plugin_name() -> None:
    with pytest.raises(RegistryClashError, match=r"'x' is claimed by a 1 and b 2"):
        Hooks(Plain(), plugins=[Entry("x", "json", "a", "1"), Entry("x", "csv", "b", "2")])


def test_the_built_ins_register_as_third_parties_would() -> None:
    hooks = Hooks()
    assert any(name.startswith("ttd_core (ttd-core ") for name in hooks.plugin_names)
    assert {"local", "scripted"} <= set(hooks.policies())
    assert "local" in hooks.executors()


def test_a_backend_claimed_twice_names_both(install) -> None:
    source = "from ttd_core import hookimpl\n@hookimpl\ndef ttd_policies(): return {'mine': print}"
    first, second = _entry(install, "one", source), _entry(install, "two", source)
    assert set(Hooks(plugins=[first]).policies()) == {"mine"}
    with pytest.raises(
        RegistryClashError, match=r"'mine' is brought by one \(d-one 1\.0\) and two \(d-two 1\.0\)"
    ):
        Hooks(plugins=[first, second]).policies()


@pytest.mark.parametrize("value", [["local"], {"x": 3}, {1: print}, None])
def test_backends_of_a_wrong_type(value: Any) -> None:
    class Bringing:
        @hookimpl
        def ttd_executors(self):
            return value

    with pytest.raises(PluginError, match=r"observer 1 \(Bringing\): ttd_executors: "):
        build(Bringing()).executors()


def test_events_reach_every_observer_and_their_faults_are_theirs() -> None:
    seen = []

    class Seeing:
        @hookimpl
        def ttd_event(self, event):
            seen.append(event["kind"])

    class Failing:
        @hookimpl
        def ttd_event(self, event):
            raise KeyError(event["kind"])

    build(Seeing(), Seeing()).event({"kind": "step_finished"})
    assert seen == ["step_finished", "step_finished"]
    with pytest.raises(PluginError, match=r"observer 1 \(Failing\): ttd_event: KeyError: 'x'"):
        build(Failing()).event({"kind": "x"})


def test_observers_that_join_later_are_asked_first() -> None:
    """As a run's progress and trackers join hooks that were built before them."""
    asked = []

    def observer(name: str) -> Any:
        class Observer:
            @hookimpl
            def ttd_event(self, event: Any) -> None:
                asked.append(name)

            @hookimpl
            def ttd_render_prompt(self) -> Any:
                asked.append(name)
                return [{"role": "user", "content": name}] if name == "second" else None

        return Observer()

    hooks = build(observer("first"))
    hooks.observe([observer("second"), observer("third")])
    hooks.event({"kind": "x"})
    assert asked == ["third", "second", "first"]
    asked.clear()
    assert CALLS["render_prompt"](hooks) == [{"role": "user", "content": "second"}]
    assert asked == ["third", "second"]
    assert [name.partition(" (")[0] for name in hooks.plugin_names[1:]] == [
        "observer 1",
        "observer 2",
        "observer 3",
    ]


def test_domain_hooks_need_a_problem() -> None:
    with pytest.raises(TypeError, match="without a problem"):
        Hooks(plugins=[]).check(STATE)


def test_hooks_may_be_called_from_many_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    hooks = build(Doubling())
    states = [State(data={"x": float(i)}) for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert [reward.score for reward in pool.map(hooks.reward, states)] == [float(i) for i in range(200)]
