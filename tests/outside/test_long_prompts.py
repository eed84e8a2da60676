"""A state whose program fills the context: the next prompt shows it cut and says so, and the run goes on."""

from __future__ import annotations

import json
import pathlib
import re
import runpy
import textwrap
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ttd_core.cli import main
from ttd_core.config import SearchConfig
from ttd_core.dialogue.prompting import shown_cut
from ttd_core.plugin import registry
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import SamplingParams
from ttd_core.run.prompts import PromptMaker
from ttd_core.run.reading import RunReader
from ttd_core.search.archive import Archive
from ttd_core.types import Completion, Group, Message, Reward, Rollout, State, Status, Verdict

TESTS = pathlib.Path(__file__).parent.parent
#: Every program is this long, valid, and better than the one before it; its lines are as told.
PROBLEM = """
    from ttd_core import Action, Problem, Reward


    class Long(Problem):
        name = "long"
        title = "Long"
        metric = "number"
        direction = "max"
        preload = ()

        def task(self):
            return "Count."

        def parse_action(self, completion):
            return Action("LINES" * 4000 + "def run(seed, budget_s, last=0, **k):\\n    return last + 1\\n")

        def arguments(self, state):
            return {"seed": 0, "budget_s": 1, "last": state.data.get("n", 0)}

        def construct(self, value):
            return {"n": int(value)}

        def check(self, state):
            return []

        def reward(self, state):
            return Reward(state.data["n"], state.data["n"])
"""
#: Ordinary lines, and one that takes several tokens a character.
LINES = {"ascii": "# 123\\n", "bytes": "#\U0001f9ec\U0001f9ec\\n"}


@pytest.fixture(params=LINES)
def work(request: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty folder to work in, with the problem in ``long.py``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "long.py").write_text(textwrap.dedent(PROBLEM).replace("LINES", LINES[request.param]))
    return tmp_path


def ttd(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)


def options(steps: int, *more: object) -> list[object]:
    given: list[object] = ["run", "long.py:Long", "--name", "one", "--quiet", "--steps", steps]
    return [*given, "--groups", 1, "--group-size", 2, "-o", "timeout_s=20", *more]


def prompts(folder: pathlib.Path) -> list[str]:
    """The prompt of each step."""
    with RunReader.open(folder) as run:
        return [run.groups(step)[0].prompt[0]["content"] for step in range(1, run.last_step() + 1)]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A tiny model in a folder."""
    tiny = SimpleNamespace(**runpy.run_path(str(TESTS / "policy" / "conftest.py")))
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny.make_tokenizer()
    tiny.make_model(len(tokenizer), max_position_embeddings=2048).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_local_model_goes_on_and_so_does_a_resumed_run(work: pathlib.Path, model: pathlib.Path) -> None:
    few = ["--set", "policy.max_new_tokens=4", "--set", "policy.lora_rank=2", "--model", model]
    result = ttd(*options(2, *few))
    assert result.exit_code == 0, result.stderr
    result = ttd("resume", "one", "--steps", 3, "--quiet")
    assert result.exit_code == 0, result.stderr
    first, second, third = prompts(work / "runs" / "one")
    assert "left out" not in first
    for prompt in (second, third):
        assert "characters are left out here, for it is too long" in prompt
        # Cut no shorter than it must be, and the rest of the prompt is whole.
        assert 800 < len(prompt.encode()) < 2048
        assert "return last + 1" in prompt
        assert "## Your turn" in prompt
    with RunReader.open(work / "runs" / "one") as run:
        assert len(run.best(1)[0].code) > 15_000


@pytest.fixture
def chat() -> Iterator[Any]:
    """A server of chat completions."""
    with runpy.run_path(str(TESTS / "policy" / "chat_server.py"))["serving"]() as server:
        yield server


def test_a_server_that_refuses_a_long_prompt_is_asked_a_shorter_one(work: pathlib.Path, chat: Any) -> None:
    helpers = runpy.run_path(str(TESTS / "policy" / "chat_server.py"))

    def answer(body: dict[str, Any]) -> Any:
        length = len(body["messages"][0]["content"].encode())
        if length > 3000:
            return helpers["refusal"](400, f"maximum context length is 3000 tokens, you sent {length}")
        return helpers["completion"]("x")

    chat.answer = answer
    result = ttd(
        *options(3, "--policy", "openai", "--model", "small", "--variant", "no-training"),
        *("--set", f"policy.options.base_url={chat.url}"),
    )
    assert result.exit_code == 0, result.stderr
    first, second, third = prompts(work / "runs" / "one")
    assert "left out" not in first
    assert "left out" in second
    assert "left out" in third
    assert max(len(prompt.encode()) for prompt in (second, third)) <= 3000


def test_a_task_that_does_not_fit_is_told_as_before(
    work: pathlib.Path, chat: Any, model: pathlib.Path
) -> None:
    result = ttd(*options(1, "--model", model, "--set", "policy.context=64"))
    assert result.exit_code == 2
    assert re.search(r"the prompt is \d+ tokens long and the context holds 64", result.stderr)
    helpers = runpy.run_path(str(TESTS / "policy" / "chat_server.py"))
    chat.answer = lambda body: helpers["refusal"](400, "maximum context length is 10 tokens")
    given = options(1, "--policy", "openai", "--model", "small", "--variant", "no-training", "--name", "two")
    result = ttd(*given, "--set", f"policy.options.base_url={chat.url}")
    assert result.exit_code == 2
    assert "does not fit the context" in result.stderr


@pytest.mark.parametrize("text", ["x" * 1000, "ab\n" * 400, "\n" * 1000, "x" * 50 + "\n" + "y" * 900])
def test_what_is_cut_has_its_two_ends(text: str) -> None:
    cut = shown_cut(text, 200)
    head, said, tail = re.split(r"\n(\[\.\.\. \d+ characters .*\])\n", cut)
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head) + len(tail) <= 200
    assert json.loads(re.findall(r"\d+", said)[0]) == len(text) - len(head) - len(tail)
    assert shown_cut(text, len(text)) == text


class Bytes:
    """Measures prompts: a byte is a token."""

    def measure_prompt(self, prompt: Sequence[Message], params: SamplingParams) -> tuple[int, int]:
        return sum(len(message["content"].encode()) for message in prompt), params.context


@pytest.mark.parametrize("words", [10, 200, 256, 400])
def test_as_much_is_shown_as_leaves_an_eighth_or_else_as_fits(work: pathlib.Path, words: int) -> None:
    source = work / "long.py"
    source.write_text(source.read_text().replace('"Count."', f'"Count. " * {words}'))
    problem = registry.load("long.py:Long", {})
    archive = Archive(SearchConfig())
    archive.add_seeds([(State(), None)])
    code = "# 123\n" * 4000
    verdict = Verdict(Status.OK, state=State(code=code, data={"n": 1}), reward=Reward(1.0, 1.0))
    empty = np.zeros(0, np.int64)
    archive.admit(1, [Group(0, [], empty, [Rollout(Completion("x"), verdict)])])
    params = SamplingParams(context=2048)
    _, (prompt,) = PromptMaker(Hooks(problem), Bytes(), archive, "count").render([archive[1]], params)
    length, _ = Bytes().measure_prompt(prompt, params)
    assert "left out" in prompt[0]["content"]
    assert length < 2048
    if words <= 10:
        assert 1200 < length <= 2048 * 7 // 8
    elif words <= 200:
        # The task leaves no eighth.
        assert length > 2048 * 7 // 8
    assert archive[1].state.code == code
