"""Runs that the pages are made from: real ones, with scripted replies, of a problem in a file."""

from __future__ import annotations

import json
import os
import pathlib
import textwrap

import attrs
import pytest
from click.testing import CliRunner

from ttd_core.cli import main
from ttd_core.report.facts import RunFacts, read_facts

PROBLEM = """
    from ttd_core import Baseline, Problem, Reward


    class Heights(Problem):
        name = "heights"
        title = "Heights <b>& more</b>"
        metric = "sum"
        direction = "max"
        baselines = (Baseline("somebody <i>", 2.5, "a paper"), Baseline("nobody", 2.4), Baseline("far", 1.0))
        preload = ()

        def task(self):
            return "Return three numbers in [0, 1]."

        def construct(self, value):
            return {"numbers": [float(item) for item in value]}

        def check(self, state):
            numbers = state.data.get("numbers", [])
            return [f"number {n!r} <script>alert(1)</script>" for n in numbers if not 0 <= n <= 1]

        def reward(self, state):
            total = sum(state.data["numbers"])
            return Reward(total, total)

        def inject(self, state):
            return {"last": list(state.data.get("numbers", [0.1, 0.2, 0.3]))}

        def starting_program(self):
            return "def run(seed, budget_s, **kwargs):\\n    return [0.1, 0.2, 0.3]\\n"

        def plot(self, state):
            bars = "".join(
                f'<rect x="{i * 20}" y="{100 - 100 * n}" width="15" height="{100 * n}"/>'
                for i, n in enumerate(state.data["numbers"])
            )
            return f'<svg xmlns="http://www.w3.org/2000/svg" width="60" height="100">{bars}</svg>'
"""
GROW = """
def run(seed, budget_s, **kwargs):
    # <script>alert(2)</script> & "quotes"
    print("</pre><script>alert(3)</script>")
    return [min(1.0, each + {by}) for each in last]
"""
REPLIES = [
    *(f"```python\n{GROW.format(by=by)}```" for by in (0.01, 0.02, 0.03, 0.05)),
    "```python\ndef run(seed, budget_s, **kwargs):\n    return [2.0, 0.5, 0.5]\n```",
    "```python\ndef run(seed, **kwargs):\n    raise ValueError('</td><script>alert(4)</script>')\n```",
    "I have <script>alert(5)</script> no idea.",
]


@attrs.frozen
class Runs:
    """Run folders: two seeds of one config, one without reuse of states, one without a single step."""

    first: pathlib.Path
    second: pathlib.Path
    other: pathlib.Path
    empty: pathlib.Path


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Runs:
    """Made once."""
    root = tmp_path_factory.mktemp("report")
    (root / "heights.py").write_text(textwrap.dedent(PROBLEM))
    (root / "replies.json").write_text(json.dumps(REPLIES))

    def make(name: str, *more: object) -> pathlib.Path:
        arguments = [
            "run",
            f"{root}/heights.py:Heights",
            "--name",
            name,
            "--runs-dir",
            root / "runs",
            "--quiet",
        ]
        arguments += ["--policy", "scripted", "--set", f"policy.options.file={root}/replies.json"]
        arguments += ["--groups", 2, "--group-size", 4, "-o", "start=program", "-o", "timeout_s=20", *more]
        result = CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        return root / "runs" / name

    here = os.getcwd()
    os.chdir(root)
    try:
        return Runs(
            make("first", "--steps", 12),
            make("second", "--steps", 12, "--seed", 1),
            make("other", "--steps", 3, "--variant", "no-reuse"),
            make("empty", "--steps", 0),
        )
    finally:
        os.chdir(here)


@pytest.fixture(scope="session")
def first(runs: Runs) -> RunFacts:
    """The first run, read."""
    return read_facts(runs.first)
