"""Every hook is specified, documented with its exact signature and an example, and the example works."""

from __future__ import annotations

import ast
import inspect
import json
import pathlib
import re
from collections.abc import Callable

import click
import numpy as np
import pytest

from ttd_core.plugin import spec
from ttd_core.plugin.entries import Entry
from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Problem
from ttd_core.types import Action, Completion, Reward, State, Status, Verdict

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "hooks.md"
SOURCE = ast.parse(inspect.getsource(spec))
SPECS = {node.name: node for node in SOURCE.body if isinstance(node, ast.FunctionDef)}
SECTIONS = dict(re.findall(r"^## (ttd_\w+)\n(.*?)(?=^## |\Z)", DOCS.read_text(), re.MULTILINE | re.DOTALL))
FIRST_RESULT = {"render_prompt", "parse_action", "transition", "reward", "seed_states"}


class Tiny(Problem):
    """The least a problem can be."""

    name = "tiny"
    title = "Tiny"
    metric = "size"
    direction = "max"

    def task(self):
        return "Return a number."

    def construct(self, value):
        return {"x": float(value)}

    def check(self, state):
        return []

    def reward(self, state):
        return Reward(state.data["x"], state.data["x"])

    def starting_program(self):
        return "def run(seed, budget_s, **kwargs):\n    return 1\n"


def signature(name: str) -> str:
    node = SPECS[name]
    arguments = ast.unparse(node.args)
    return f"def {name}({arguments}) -> {ast.unparse(node.returns)}"


def example(name: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", SECTIONS[name], re.DOTALL)
    return block


def test_every_hook_is_specified_with_types_and_words() -> None:
    for name, node in SPECS.items():
        doc = ast.get_docstring(node) or ""
        assert node.returns is not None, name
        for argument in node.args.args:
            assert argument.annotation is not None, f"{name}({argument.arg})"
            assert f":param {argument.arg}:" in doc, f"{name}({argument.arg})"
        if ast.unparse(node.returns) != "None":
            assert ":return:" in doc, name


def test_hooks_that_stop_at_the_first_answer() -> None:
    first = {name for name in SPECS if getattr(getattr(spec, name), "ttd_spec")["firstresult"]}  # noqa: B009
    assert first == {f"ttd_{name}" for name in FIRST_RESULT}


def test_every_hook_is_documented_in_order() -> None:
    assert list(SECTIONS) == list(SPECS)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_the_documented_signature_is_the_real_one(name: str) -> None:
    (block,) = re.findall(r"```\n(def .*?)\n```", SECTIONS[name], re.DOTALL)
    assert block == signature(name)
    assert SECTIONS[name].strip().startswith("*first*" if name[4:] in FIRST_RESULT else "*all*")


# -- what each documented example does --------------------------------------------------------------


def _render_prompt(hooks: Hooks) -> None:
    messages = hooks.render_prompt(State(), [])
    assert [message["role"] for message in messages][:2] == ["system", "user"]
    assert messages[0]["content"] == "You are an expert. Improve the size."


def _parse_action(hooks: Hooks) -> None:
    declined = hooks.parse_action(Completion(text="I cannot do that"))
    assert isinstance(declined, Verdict)
    assert declined.message == "the model declined"
    read = hooks.parse_action(
        Completion(text="```python\ndef run(seed, budget_s, **kwargs):\n    return 1\n```")
    )
    assert isinstance(read, Action)


def _transition(hooks: Hooks) -> None:
    def execute(_job):
        raise AssertionError("must not run")

    verdict = hooks.transition(State(), Action("#" * 20_001), execute)
    assert isinstance(verdict, Verdict)
    assert verdict.status is Status.INVALID


def _check(hooks: Hooks) -> None:
    assert hooks.check(State(code="x")) == ["the construction is empty"]
    assert hooks.check(State(data={"x": 1.0})) == []


def _reward(hooks: Hooks) -> None:
    assert hooks.reward(State(code="12345", data={"x": 1.0})) == Reward(1.0 - 5e-9, 1.0)


def _seed_states(hooks: Hooks) -> None:
    seeds = hooks.seed_states(np.random.default_rng(0), 3)
    assert [seed.code for seed in seeds] == [Tiny().starting_program()] * 3


def _policies(hooks: Hooks) -> None:
    assert hooks.policies()["replay"].__name__ == "open_replay"


def _executors(hooks: Hooks) -> None:
    assert hooks.executors()["nearby"].__name__ == "open_nearby"


def _event(hooks: Hooks) -> None:
    hooks.event({"kind": "step_started", "step": 1})
    hooks.event({"kind": "step_finished", "step": 1, "metrics": {"kl": 0.5}})
    assert json.loads(pathlib.Path("steps.jsonl").read_text()) == {"step": 1, "kl": 0.5}


def _commands(hooks: Hooks) -> None:
    cli = click.Group("ttd")
    hooks.commands(cli)
    assert cli.commands["greet"].help == "Say hello."


EFFECTS: dict[str, Callable[[Hooks], None]] = {
    "ttd_render_prompt": _render_prompt,
    "ttd_parse_action": _parse_action,
    "ttd_transition": _transition,
    "ttd_check": _check,
    "ttd_reward": _reward,
    "ttd_seed_states": _seed_states,
    "ttd_policies": _policies,
    "ttd_executors": _executors,
    "ttd_event": _event,
    "ttd_commands": _commands,
}


@pytest.mark.parametrize("name", sorted(SPECS))
def test_the_documented_example_works(name: str, install, tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    install("ttd-example", {f"example_{name}": example(name)}, plugins={"example": f"example_{name}"})
    hooks = Hooks(Tiny(), plugins=[Entry("example", f"example_{name}", "ttd-example", "1.0")])
    assert hooks.failures == []
    assert "example (ttd-example 1.0)" in hooks.plugin_names
    EFFECTS[name](hooks)
