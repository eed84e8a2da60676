"""``ttd eval --from RUN:NODE``: a program judged as its run judged it, from the state that it came from."""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import textwrap
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result
from tests.conftest import PROBLEM_SOURCE

from ttd_core.cli import main
from ttd_core.cli.origin import comparison_facts, comparison_line
from ttd_core.run.reading import RunReader
from ttd_core.run.reevaluate import NodeOfRun
from ttd_core.types import Status, Verdict

#: What a program is given is the state before it, so that its score is that of where it began.
INJECT = """
    def inject(self, state):
        return {"last": list(state.data.get("numbers", [0.5] * 3))}
"""
ADD = "def run(seed, budget_s, **kwargs):\n    return [min(1.0, number + 0.125) for number in last]\n"


def ttd(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """A folder with a problem in a file, and a run of two steps in which each adds to the one before."""
    folder, before = tmp_path_factory.mktemp("place"), pathlib.Path.cwd()
    os.chdir(folder)
    pathlib.Path("sums.py").write_text(textwrap.dedent(PROBLEM_SOURCE) + INJECT)
    pathlib.Path("replies.json").write_text(json.dumps([f"```python\n{ADD}```"]))
    settings = ["--set", f"policy.options.file={folder / 'replies.json'}", "-o", "start=program"]
    size = ["--steps", 2, "--groups", 1, "--group-size", 1, "--name", "run", "-o", "timeout_s=20"]
    done = ttd("run", f"{folder / 'sums.py'}:Sum", "--policy", "scripted", *settings, *size, "-q")
    assert done.exit_code == 0, done.output
    yield folder
    os.chdir(before)


def best_node() -> int:
    with RunReader.open("runs/run") as run:
        assert [record.id for record in run.states()] == [0, 1, 2]
        return run.best()[0].id


def test_a_program_of_a_run_is_judged_as_the_run_did(place: pathlib.Path) -> None:
    assert best_node() == 2
    done = ttd("eval", "--from", "runs/run:2")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0].startswith("sum: valid; sum 2.25 ")
    assert done.stdout.splitlines()[-1] == "node 2 of runs/run scored 2.25 there, from node 1: they agree"
    # By its name inside --runs-dir, and the state before, which came from the start.
    facts = json.loads(ttd("eval", "--from", "run:1", "--json").stdout)
    assert facts["score"] == 1.875
    assert facts["run"] == {
        **{"folder": "runs/run", "node": 1, "start": 0, "score": 1.875},
        **{"same_program": True, "agrees": True},
    }


def test_without_it_the_command_that_does_is_said(place: pathlib.Path) -> None:
    program = "runs/run/best/program.py"
    done = ttd("eval", "sums.py:Sum", program)
    assert done.stdout.startswith("sum: valid; sum 1.875 ")
    line = done.stdout.splitlines()[-1]
    start = "a run has this program and may have scored it otherwise; as it did: ttd "
    assert line == f"{start}eval --from runs/run:2"
    assert "2.25 there, from node 1: they agree" in ttd(*shlex.split(line.removeprefix(start))).stdout
    # A copy of it is known by its text; the first that the run found with it is named.
    pathlib.Path("copy.py").write_text(pathlib.Path(program).read_text())
    facts = json.loads(ttd("eval", "sums.py:Sum", "copy.py", "--json").stdout)
    assert facts["as_its_run"] == "ttd eval --from runs/run:1"
    pathlib.Path("copy.py").write_text(ADD.replace("0.125", "0.25"))
    assert json.loads(ttd("eval", "sums.py:Sum", "copy.py", "--json").stdout)["as_its_run"] is None


def test_a_file_in_the_place_of_a_state(place: pathlib.Path) -> None:
    pathlib.Path("more.py").write_text(ADD.replace("0.125", "0.25"))
    done = ttd("eval", "--from", "runs/run:2", "more.py")
    assert done.stdout.splitlines()[-1] == (
        "another program than node 2 of runs/run, which scored 2.25 there, from node 1: they do not agree, "
        "this is better by 0.375"
    )
    pathlib.Path("less.json").write_text("[0.5, 0.5, 2]")
    done = ttd("eval", "--from", "runs/run:2", "less.json")
    assert (done.exit_code, done.stdout.splitlines()[-1].endswith("this has no score")) == (1, True)


def test_where_this_machine_cannot_judge_nothing_is_said_to_disagree(place: pathlib.Path) -> None:
    node = NodeOfRun.of(pathlib.Path("runs/run"), 2)
    verdict = Verdict(Status.INFRASTRUCTURE, "no time was taken, since no GPU is used here")
    assert comparison_facts(node, verdict, None)["agrees"] is None
    assert comparison_line(node, verdict, None) == (
        "node 2 of runs/run scored 2.25 there, from node 1: whether they agree is not known, since this "
        "machine cannot judge it"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere:1"], "no run at nowhere or runs/nowhere"),
        (["run:9"], "runs/run: there is no node 9: its nodes are 0 to 2"),
        (["run:0"], "runs/run: node 0 is a start of the run, found from no state; nodes found from it: 1"),
        (["run"], "--from run: RUN:NODE is needed, such as runs/first:12; `ttd best RUN` lists nodes"),
        (["run:1", "sums.py:Sum", "a.py"], "--from takes the run's problem and options: leave PROBLEM, -o"),
        (["run:1", "-o", "size=3"], "--from takes the run's problem and options: leave PROBLEM, -o"),
    ],
)
def test_what_it_cannot_be(place: pathlib.Path, arguments: list[str], message: str) -> None:
    done = ttd("eval", "--from", *arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_a_problem_that_moved_or_was_changed_is_refused(place: pathlib.Path) -> None:
    """The copy in the run's folder is never executed."""
    path = pathlib.Path("sums.py")
    source = path.read_text()
    try:
        path.rename("moved.py")
        done = ttd("eval", "--from", "runs/run:2")
        assert done.exit_code == 2
        assert done.stderr == (
            f"error: {place / 'sums.py'} is missing: the run's problem. Put it back; as the run knows it, it "
            "is kept in runs/run/problem\n"
        )
        path.write_text(source.replace("0 <= n <= 1", "0 <= n <= 2"))
        done = ttd("eval", "--from", "runs/run:2")
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert "sums.py was changed: 2 lines removed or added, the first: -" in done.stderr
    finally:
        path.write_text(source)


def test_both_arguments_are_needed_without_it() -> None:
    assert "Missing argument 'PROBLEM'" in ttd("eval").stderr
    assert "Missing argument 'FILE'" in ttd("eval", "sum").stderr
