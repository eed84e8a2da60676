"""The openai backend over real HTTP: what it sends, retries and counts, and what it never tells."""

from __future__ import annotations

import itertools
import json
import pathlib
import runpy
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ttd_core import config as configs
from ttd_core.cli import main
from ttd_core.errors import (
    ConfigError,
    EnvironmentLacksError,
    ModelUnavailableError,
    TtdError,
    UsageError,
)
from ttd_core.policy.base import Metered, Policy, SamplingParams, Trainer
from ttd_core.policy.openai.policy import OpenAIPolicy, open_openai
from ttd_core.types import Message, StopReason

double = SimpleNamespace(**runpy.run_path(str(pathlib.Path(__file__).parents[1] / "chat_server.py")))
completion, refusal = double.completion, double.refusal

KEY = "sk-very-secret-0123456789"
PROMPTS: list[list[Message]] = [[{"role": "user", "content": text}] for text in ("first", "second")]
Open = Callable[..., OpenAIPolicy]


@pytest.fixture
def server() -> Iterator[Any]:
    with double.serving() as chat:
        yield chat


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def connect(server: Any) -> Iterator[Open]:
    """Open a policy: keyword arguments are options, those with ``__`` config keys."""
    opened: list[OpenAIPolicy] = []

    def connect(**given: Any) -> OpenAIPolicy:
        keys = {name.replace("__", "."): value for name, value in given.items() if "__" in name}
        options = {name: value for name, value in given.items() if "__" not in name}
        values = {"learn.train": False, "policy.model": "small", **keys}
        values["policy.options"] = {"base_url": server.url, "retries": 2, **options}
        opened.append(open_openai(configs.load("none", overrides=values)))
        return opened[-1]

    yield connect
    for policy in opened:
        policy.close()


def replies(policy: OpenAIPolicy, count: int = 3, **params: Any) -> list[Any]:
    return list(policy.sample(PROMPTS, count, SamplingParams(**params)))


def test_it_is_a_frozen_policy_that_counts(connect: Open) -> None:
    policy: Policy = connect()
    assert policy.name == "small (openai, 127.0.0.1)"
    assert isinstance(policy, Metered)
    assert not isinstance(policy, Trainer)


def test_what_is_asked(connect: Open, server: Any) -> None:
    policy = connect(policy__reasoning_effort="low", extra_body={"top_k": 5})
    found = replies(policy, 2, temperature=0.7, max_new_tokens=9, seed=4)
    assert sorted((s.prompt, s.index) for s in found) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len({body["seed"] for body in server.bodies}) == 4
    for body in server.bodies:
        assert body["model"] == "small"
        assert body["messages"] in PROMPTS
        assert (body["temperature"], body["max_tokens"], body["top_k"]) == (0.7, 9, 5)
        assert body["reasoning_effort"] == "low"
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert {s.completion.text for s in found} == {f"reply {body['seed']}" for body in server.bodies}
    assert all(len(s.completion.tokens) == 0 and len(s.prompt_tokens) == 0 for s in found)


def test_the_same_seed_asks_the_same(connect: Open, server: Any) -> None:
    policy = connect()
    for seed in (1, 1, 2):
        replies(policy, 1, seed=seed)
    seeds = [{body["seed"] for body in server.bodies[start : start + 2]} for start in (0, 2, 4)]
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.mark.parametrize(
    ("answer", "text", "final"),
    [
        (completion("whole"), "whole", "whole"),
        (completion("<think>so</think>\n42"), "<think>so</think>\n42", "\n42"),
        (completion("42", reasoning_content="so"), "so\n\n42", "42"),
        (completion("42", reasoning="so"), "so\n\n42", "42"),
        (completion(None), "", ""),
    ],
)
def test_thinking_is_told_from_the_answer(
    connect: Open, server: Any, answer: Any, text: str, final: str
) -> None:
    server.answer = lambda _: answer
    (one, *_) = replies(connect(), 1)
    assert (one.completion.text, one.completion.answer) == (text, final)


def test_a_cut_reply_says_so(connect: Open, server: Any) -> None:
    server.answer = lambda _: completion("cut", "length")
    assert {s.completion.stop for s in replies(connect(), 1)} == {StopReason.LENGTH}


def test_what_may_pass_is_tried_again_and_counted(connect: Open, server: Any) -> None:
    turns = itertools.count()
    fails = [refusal(429, "slow down", retry_after="0"), refusal(503, "busy", retry_after_ms="1")]
    server.answer = lambda _: fails[turn] if (turn := next(turns)) < 2 else completion("done")
    policy = connect(price_in=1.0, price_out=10.0, in_flight=1)
    assert [s.completion.text for s in replies(policy, 1)] == ["done", "done"]
    counted = policy.take_metrics()
    assert counted == {
        "requests": 2,
        "retries": 2,
        "tokens_prompt": 14,
        "tokens": 10,
        "cost": pytest.approx((14 * 1.0 + 10 * 10.0) / 1e6),
    }
    assert set(policy.take_metrics().values()) == {0}


def test_no_more_at_once_than_allowed(connect: Open, server: Any) -> None:
    def slowly(_: Any) -> Any:
        time.sleep(0.02)
        return completion("x")

    server.answer = slowly
    replies(connect(in_flight=3), 6)
    assert 1 < server.most_at_once <= 3


def test_requests_keep_their_pace(connect: Open, server: Any) -> None:
    policy = connect(requests_per_minute=1200)
    asked = time.monotonic()
    replies(policy, 3)
    # 1200 a minute are 50 ms apart; the first of six goes at once.
    assert max(server.begun) - asked > 5 * 0.05 - 0.001


def test_a_reply_is_given_out_before_the_others_come(connect: Open, server: Any) -> None:
    release, turns = threading.Event(), itertools.count()

    def first_only(_: Any) -> Any:
        if next(turns) > 0:
            release.wait(10)
        return completion("x")

    server.answer = first_only
    stream = connect().sample(PROMPTS, 2, SamplingParams())
    next(stream)
    assert not release.is_set()
    release.set()
    assert len(list(stream)) == 3


def test_an_abandoned_step_asks_no_further(connect: Open, server: Any) -> None:
    policy = connect(in_flight=1)
    stream = policy.sample(PROMPTS, 50, SamplingParams())
    next(stream)
    stream.close()
    time.sleep(0.1)
    asked = len(server.bodies)
    time.sleep(0.1)
    assert len(server.bodies) == asked < 100
    server.bodies.clear()
    assert len(replies(policy, 1)) == 2


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (refusal(401, f"bad key {KEY}"), EnvironmentLacksError, "OPENAI_API_KEY holds a key that is refused"),
        (refusal(404, "no such model"), ModelUnavailableError, "has no model 'small'.*It offers small"),
        (
            refusal(400, "This model's maximum context length is 64 tokens; your messages hold 91"),
            UsageError,
            "a prompt does not fit .* 64 tokens; your messages hold 91",
        ),
        (
            (400, {"detail": "prompt is too long: 91 > 64"}, {}),
            UsageError,
            "a prompt does not fit .*91 > 64",
        ),
        (refusal(400, "temperature must be 1"), UsageError, "refuses the request: temperature must be 1"),
        (refusal(429, "quota", retry_after_ms="1"), EnvironmentLacksError, "after 3 tries .*in_flight"),
        (refusal(500, "oh", retry_after_ms="1"), EnvironmentLacksError, "failed, 2 retries included .*oh"),
    ],
)
def test_refusals_are_one_line(
    connect: Open, server: Any, answer: Any, error: type[TtdError], words: str
) -> None:
    server.answer = lambda _: answer
    with pytest.raises(error, match=words) as caught:
        replies(connect(), 1)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_nobody_there(connect: Open) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(EnvironmentLacksError, match=rf"{address} did not answer in 1 try \("):
        connect(base_url=address)


def test_a_refused_key_is_found_before_anything_runs(connect: Open, server: Any) -> None:
    server.models = refusal(401, "no")
    with pytest.raises(EnvironmentLacksError, match="refuses access"):
        connect()


def test_a_server_without_a_list_of_models_will_do(connect: Open, server: Any) -> None:
    server.models = refusal(404, "no such page")
    assert len(replies(connect(), 1)) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"learn__train": True}, "frozen model and cannot learn; add --variant no-training"),
        ({"api_key": "sk-1"}, "must hold no key"),
        ({"base_url": "http://me:word@host/v1"}, "holds a password"),
        ({"base_url": "host:80"}, "is no address"),
        ({"in_fligth": 3}, "in_fligth'. Did you mean 'in_flight'"),
        ({"in_flight": 0}, "in_flight must be at least 1"),
        ({"policy__thinking_tokens": 9}, "no final answer can be forced"),
        ({"policy__prefill": "x"}, "continue_final_message"),
    ],
)
def test_what_cannot_be_is_refused_at_once(connect: Open, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        connect(**given)


def test_a_prefill_is_continued_by_servers_that_can(connect: Open, server: Any) -> None:
    server.answer = lambda _: completion("and on")
    policy = connect(policy__prefill="Begin ", extra_body={"continue_final_message": True})
    found = replies(policy, 1, prefill="Begin ")
    assert [s.completion.text for s in found] == ["Begin and on"] * 2
    assert server.bodies[-1]["continue_final_message"] is True
    assert server.bodies[-1]["messages"][-1] == {"role": "assistant", "content": "Begin "}


def test_no_key_is_needed_for_a_server_of_ones_own(
    connect: Open, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert len(replies(connect(), 1)) == 2
    with pytest.raises(EnvironmentLacksError, match="set OPENAI_API_KEY"):
        connect(base_url="none")
    monkeypatch.setenv("OTHER", "sk-other")
    replies(connect(key_variable="OTHER"), 1)
    assert server.keys[-1] == "Bearer sk-other"


def test_a_whole_run_keeps_count_and_keeps_the_key(
    server: Any, tmp_path: pathlib.Path, install: Any, problem_source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    install("ttd-sum", {"sum_problem": problem_source}, problems={"sum": "sum_problem:Sum"})
    program = (
        "import os\n\ndef run(seed, budget_s, **kwargs):\n"
        "    print(sorted(os.environ))\n"
        "    assert not any('OPENAI' in name for name in os.environ)\n"
        "    return [0.5, 0.75, 1.0]\n"
    )
    server.answer = lambda _: completion(f"```python\n{program}```")
    arguments = [
        *("run", "sum", "--policy", "openai", "--model", "small", "--variant", "best-of-n"),
        *("--set", f"policy.options.base_url={server.url}", "--runs-dir", str(tmp_path), "--name", "one"),
        *("--steps", "2", "--groups", "1", "--group-size", "2", "-o", "timeout_s=20", "--json"),
    ]
    main(arguments, standalone_mode=False)
    result = json.loads(capsys.readouterr().out)
    assert result["best_score"] == 2.25
    assert (result["valid"], result["rollouts"], result["adapter_after"]) == (4, 4, "")
    log = [json.loads(line) for line in (tmp_path / "one" / "log.jsonl").read_text().splitlines()]
    steps = [event["metrics"] for event in log if event["kind"] == "step_finished"]
    assert [(m["tokens"], m["tokens_prompt"], m["requests"]) for m in steps] == [(10, 14, 2)] * 2
    assert all(m["tokens_per_s"] > 0 for m in steps)
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert KEY.encode() not in file.read_bytes(), file
