"""``ttd rollouts``: a run's replies and verdicts as a table, and one of them whole."""

from __future__ import annotations

import json
import os
import pathlib
import sys

import numpy as np
import pytest
from tests.terminal import shown_on

from ttd_core.cli.tokens import show_tokens
from ttd_core.learn.learner import LearnedLogprobs
from ttd_core.run.reading import RunReader
from ttd_core.run.store import RunStore
from ttd_core.run.tokens import keep_tokens
from ttd_core.types import Completion, Group, Rollout, Status, Verdict

THOUGHT = (
    "<think>\nIs two too much?\n</think>\n```python\ndef run(seed, budget_s, **kwargs):\n"
    "    print('\\x1b[2Jverdict    ok')\n    return [2.0, 0.5, 0.5]\n```"
)


@pytest.fixture
def judged(ttd, summing, scripted, replies):
    """A run of two steps whose third reply was thought about and breaks a rule."""
    texts = json.loads(replies.read_text())
    replies.write_text(json.dumps([texts[0], texts[1], THOUGHT, texts[3]]))
    assert ttd(*scripted, "--steps", 2, "--name", "judged", "--quiet").exit_code == 0
    return "judged"


def table(ttd, *flags: object) -> list[dict]:
    result = ttd("rollouts", "judged", "--json", *flags)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_table_of_rollouts(ttd, judged) -> None:
    rows = table(ttd)
    assert [row["rollout"] for row in rows] == [
        f"{s}/{g}/{i}" for s in (1, 2) for g in (0, 1) for i in range(4)
    ]
    assert {row["status"] for row in rows} == {"ok", "invalid", "parse_error"}
    first = next(row for row in rows if row["status"] == "ok")
    assert first["score"] in (2.25, 0.75)
    assert first["advantage"] is not None
    lines = ttd("rollouts", judged).stdout.splitlines()
    assert lines[0].split() == ["ROLLOUT", "STATUS", "SCORE", "ADVANTAGE", "TOKENS", "SECONDS", "MESSAGE"]
    assert len(lines) == 17
    assert any(line.split()[1] == "invalid" and "number 2.0 is not in [0, 1]" in line for line in lines)


def test_some_of_them(ttd, judged) -> None:
    assert {row["status"] for row in table(ttd, "--status", "invalid")} == {"invalid"}
    assert {row["step"] for row in table(ttd, "--step", 2)} == {2}
    assert len(table(ttd, "--limit", 3)) == 3
    text = ttd("rollouts", judged, "--limit", 3).stdout
    assert text.endswith("\n13 more; --limit 16 lists them all\n")
    assert ttd("rollouts", judged, "--status", "memory").stdout == "no such rollout\n"


def test_one_of_them_whole(ttd, judged) -> None:
    name = table(ttd, "--status", "invalid", "--step", 2)[0]["rollout"]
    facts = table(ttd, "--show", name)
    assert (facts["rollout"], facts["status"]) == (name, "invalid")
    assert facts["thinking"] == "<think>\nIs two too much?\n</think>"
    assert facts["reply"].strip().startswith("```python")
    assert facts["thinking"] + facts["reply"] == THOUGHT
    assert facts["program"].startswith("def run(")
    assert facts["prompt"][0]["role"] == "user"
    text = ttd("rollouts", judged, "--show", name).stdout
    assert "verdict    invalid number 2.0 is not in [0, 1]" in text
    for title in ("prompt, user:", "thinking:", "reply:", "program:", "output:"):
        assert f"\n{title}\n  | " in text
    # What the program printed is quoted and cannot clear the screen, nor pass for a verdict.
    assert "\x1b" not in text
    assert "  | \\x1b[2Jverdict    ok" in text
    assert text.count("\nverdict ") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--show", "3/0"], "'3/0' is not STEP/GROUP/INDEX, such as 3/0/12."),
        (["--show", "9/0/0"], "runs/judged: there is no step 9: it has steps 1 to 2"),
        (["--show", "1/0/99"], "there is no rollout 1/0/99: group 0 has indices 0 to 3"),
        (["--show", "1/7/0"], "there is no rollout 1/7/0: its groups are 0 to 1"),
        (["--step", "3"], "there is no step 3: it has steps 1 to 2"),
        (["--status", "odd"], "'odd' is not one of"),
    ],
)
def test_what_is_not_there(ttd, judged, flags: list[str], message: str) -> None:
    result = ttd("rollouts", judged, *flags)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_run_without_a_step(ttd, summing, scripted) -> None:
    assert ttd(*scripted, "--steps", 0, "--name", "empty", "--quiet").exit_code == 0
    assert ttd("rollouts", "empty").stdout == "no such rollout\n"
    assert "it has no finished step yet" in ttd("rollouts", "empty", "--show", "1/0/0").stderr
    assert pathlib.Path("runs/empty").is_dir()


@pytest.fixture
def tokens(judged) -> None:
    """Tokens beside the first rollout, as a policy that has them leaves them."""
    verdict = Verdict.failed(Status.PARSE_ERROR, "no")
    reply = Completion(
        "x",
        np.arange(4),
        np.array([-0.05, -0.5, 0, -4.0], np.float32),
        np.array([True, True, False, True]),
    )
    learned = LearnedLogprobs(np.full(4, -2.0, np.float32), np.array([-0.05, -0.5, -9, -4.25], np.float32))

    class Spelling:
        def token_texts(self, ids: list[int]) -> list[str]:
            return ["def", " run\x1b[2J", "<end>", "\n\u202e"]

    group = Group(0, [], np.arange(2), [Rollout(reply, verdict)])
    kept = keep_tokens([group], {(0, 0): learned}, Spelling(), 100)
    assert kept is not None
    with RunStore.open(pathlib.Path("runs") / judged) as store:
        store.arrays.save(kept.arrays)
        with store._transaction():
            kept.write(store._connection, 1)


def test_the_tokens_of_one_as_a_table(ttd, judged, tokens) -> None:
    result = ttd("rollouts", judged, "--show", "1/0/0", "--tokens")
    assert result.stdout.splitlines() == [
        "TOKEN  ID  TEXT         SAMPLED  BASE     RECOMPUTED",
        "0      0   def          -0.0500  -2.0000  -0.0500",
        "1      1   ␣run\\x1b[2J  -0.5000  -2.0000  -0.5000",
        "2      2   <end>        forced",
        "3      3   \\n\\u202e     -4.0000  -2.0000  -4.2500",
        "",
        "4 tokens, 3 of them chosen; mean log-probability sampled -1.517; mean log-probability base -2; "
        "recomputed differs by 0.25 at most",
    ]
    facts = json.loads(ttd("rollouts", judged, "--show", "1/0/0", "--tokens", "--json").stdout)
    assert facts["ids"] == [0, 1, 2, 3]
    assert facts["sampled"][2] is None


def test_the_tokens_of_one_in_colours(judged, tokens, monkeypatch) -> None:
    screen, terminal = os.openpty()
    with open(terminal, "w") as stdout, RunReader.open(pathlib.Path("runs") / judged) as run:
        monkeypatch.setattr(sys, "stdout", stdout)
        show_tokens(run.tokens(1)[0, 0])
    text = shown_on(screen)
    assert "def\x1b[0m\x1b[32m run\\x1b[2J\x1b[0m\x1b[34m<end>\x1b[0m\x1b[31m\r\n\\u202e\x1b[0m" in text
    assert (
        "log-probability when sampled: plain above -0.1, green above -1, yellow above -3, red below" in text
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tokens"], "--tokens goes with --show STEP/GROUP/INDEX"),
        (["--show", "1/0/1", "--tokens"], "no tokens are kept of 1/0/1; those of 1 rollout of this step"),
        (
            ["--show", "2/0/0", "--tokens"],
            "no tokens are kept of 2/0/0; a run keeps them where keep_tokens is",
        ),
    ],
)
def test_tokens_that_are_not_kept(ttd, judged, tokens, flags: list[str], message: str) -> None:
    result = ttd("rollouts", judged, *flags)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr
