"""Where a file that is judged comes from: a state of a run, named as RUN:NODE."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
from typing import Any

from ttd_core.cli.folders import existing_folder
from ttd_core.errors import StorageError, UsageError
from ttd_core.run.reading import DATABASE
from ttd_core.run.reevaluate import NodeOfRun, node_with_program
from ttd_core.types import Status, Verdict

#: A run's best state is kept in ``.best/node-000012``, which ``best`` is a link to.
_BEST = re.compile(r"^node-(\d+)$")
#: Runs, the newest first, that are searched for a program.
_MOST_RUNS = 50


def named_node(name: str, runs: pathlib.Path) -> NodeOfRun:
    """The state that ``--from RUN:NODE`` names.

    :param runs: where a run is looked for by its name.
    :raises UsageError: when it is not of that form, or there is no such state.
    :raises ResumeError: when there is no such run, or its problem is missing or was changed.
    """
    run, _, node = name.rpartition(":")
    if not run or not re.fullmatch(r"[0-9]{1,18}", node):
        raise UsageError(
            f"--from {name}: RUN:NODE is needed, such as runs/first:12; `ttd best RUN` lists nodes"
        )
    return NodeOfRun.of(existing_folder(run, runs), int(node))


def comparison_facts(node: NodeOfRun, verdict: Verdict, program: str | None) -> dict[str, Any]:
    """A verdict beside the run's, as JSON; whether they agree is ``None`` where this machine cannot judge.

    :param program: that was judged in the node's place; ``None`` for its own.
    """
    here = verdict.reward.score if verdict.reward else None
    return {
        "folder": str(node.folder),
        "node": node.node,
        "start": node.parent,
        "score": node.reward.score,
        "same_program": program is None or program == node.state.code,
        "agrees": None if verdict.status is Status.INFRASTRUCTURE else here == node.reward.score,
    }


def comparison_line(node: NodeOfRun, verdict: Verdict, program: str | None) -> str:
    """The same for people."""
    problem, there = node.problem, node.reward.score
    whose = f"node {node.node} of {node.folder}"
    facts = comparison_facts(node, verdict, program)
    what = f"{whose} scored" if facts["same_program"] else f"another program than {whose}, which scored"
    line = f"{what} {problem.format_score(there)} there, from node {node.parent}"
    if verdict.status is Status.INFRASTRUCTURE:
        return f"{line}: whether they agree is not known, since this machine cannot judge it"
    if verdict.reward is None:
        return f"{line}: they do not agree, this has no score"
    if facts["agrees"]:
        return f"{line}: they agree"
    gain = problem.gain(there, verdict.reward.score)
    return f"{line}: they do not agree, this is {'better' if gain > 0 else 'worse'} by {abs(gain):.3g}"


def command_of_run(file: pathlib.Path, code: str, runs: pathlib.Path) -> str | None:
    """The command that judges a program as its run did; ``None`` where it is of no run that is known.

    :param code: the program.
    :param runs: whose runs are searched for it.
    """
    if not code:
        return None
    resolved = file.resolve()
    folder, match = resolved.parent, _BEST.match(resolved.parent.name)
    if match and folder.parent.name == ".best" and (folder.parent.parent / DATABASE).is_file():
        run, node = folder.parent.parent, int(match[1])
        changed = node_with_program(run, code) is None
        return _command(run, node) + (f" {shlex.quote(str(file))}" if changed else "")
    for run in _newest_runs(runs):
        try:
            found = node_with_program(run, code)
        except StorageError:
            continue
        if found is not None:
            return _command(run, found)
    return None


def _command(run: pathlib.Path, node: int) -> str:
    folder = pathlib.Path(os.path.relpath(run)) if run.is_relative_to(pathlib.Path.cwd()) else run
    return f"ttd eval --from {shlex.quote(f'{folder}:{node}')}"


def _newest_runs(runs: pathlib.Path) -> list[pathlib.Path]:
    databases = [path for path in runs.glob(f"*/{DATABASE}") if path.is_file()]
    databases.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parent for path in databases[:_MOST_RUNS]]
