"""Edits in a run: applied to the start's program; a reply that has no place there is told next time."""

from __future__ import annotations

import pathlib

import pytest
from click.testing import CliRunner

from ttd_core import config as configs
from ttd_core.cli import main
from ttd_core.dialogue.edits import block_text
from ttd_core.run.loop import start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup

BETTER = block_text(["    return [0.5, 0.5, 0.5]"], ["    return [1.0, 1.0, 0.5]"])
MISSING = block_text(["    return [0.4, 0.5]"], ["    return [1.0, 1.0, 1.0]"])
SAME = block_text(["    return [0.5, 0.5, 0.5]"], ["    return [0.5, 0.5, 0.5]"])


@pytest.fixture
def reference(tmp_path: pathlib.Path, problem_source: str) -> str:
    """The problem ``Sum`` as one file."""
    path = tmp_path / "sum_problem.py"
    path.write_text(problem_source)
    return f"{path}:Sum"


def test_edits_are_applied_and_a_failed_one_is_in_the_next_prompt(
    reference: str, tmp_path: pathlib.Path
) -> None:
    config = configs.load(
        reference,
        overrides={
            "policy.backend": "scripted",
            "policy.options": {"replies": [MISSING, SAME]},
            "options": {"reply": "edits", "start": "program", "timeout_s": 10.0},
            "steps": 2,
            "groups": 1,
            "group_size": 2,
        },
    )
    start_run(RunSetup.from_config(config), tmp_path / "run")
    with RunReader.open(tmp_path / "run") as run:
        rollouts = list(run.rollouts())
        prompts = [run.groups(step)[0].prompt[0]["content"] for step in (1, 2)]
        repeats = run.metrics()[1]["repeat_share"]
    # A step takes the replies from one that its seed picks.
    same, failed = sorted(rollouts[:2], key=lambda rollout: rollout.status != "ok")
    assert [same.status, failed.status] == ["ok", "edit_error"]
    assert failed.message.startswith("the block seeks lines that the program does not have")
    assert failed.output == "    return [0.5, 0.5, 0.5]"
    assert (same.fate, repeats) == ("duplicate", 0.5)
    assert "could not be applied" not in prompts[0]
    told = prompts[1].split("## A reply that could not be applied")[1]
    assert failed.message in told
    assert "Lines of the program:\n```python\n    return [0.5, 0.5, 0.5]\n```\nAvoid that." in told


def test_eval_takes_a_saved_reply_of_edits(reference: str, tmp_path: pathlib.Path) -> None:
    flags = ["-o", "reply=edits", "-o", "start=program"]
    for name, text, words in [
        ("edit.md", BETTER, "valid; sum 2.5"),
        ("missing.md", MISSING, "edit_error: the block seeks lines"),
    ]:
        (tmp_path / name).write_text(text)
        result = CliRunner().invoke(main, ["eval", reference, str(tmp_path / name), *flags])
        assert words in result.output
    assert "  |     return [0.5, 0.5, 0.5]" in result.output
