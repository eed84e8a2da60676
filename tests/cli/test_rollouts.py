"""``ttd rollouts``: a run's replies and verdicts as a table, and one of them whole."""

from __future__ import annotations

import json
import pathlib

import pytest

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
