"""The ``ttd`` command line: one module a command group, each imported when its command is called.

Exit codes: 0 done, 1 the candidate or a check failed, 2 usage, 3 the environment lacks something,
130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import click

from ttd_core.cli.group import Lazy, TtdGroup

COMMANDS = {
    "list-problems": Lazy("ttd_core.cli.listing:list_problems", "List the installed problems."),
    "show": Lazy("ttd_core.cli.show:show", "Show a problem: metric, published results, options."),
    "plan": Lazy("ttd_core.cli.plan:plan", "Say what a run will take: memory, hours, money."),
    "run": Lazy("ttd_core.cli.run:run", "Learn on a problem, in a new run folder."),
    "resume": Lazy("ttd_core.cli.run:resume", "Continue a run from its last committed step."),
    "list-runs": Lazy("ttd_core.cli.list_runs:list_runs", "List the runs of a folder, the newest first."),
    "best": Lazy("ttd_core.cli.best:best", "Show a run's best states; evaluate them again on request."),
    "rollouts": Lazy("ttd_core.cli.rollouts:rollouts", "List a run's rollouts, or print one of them."),
    "watch": Lazy("ttd_core.cli.watch:watch", "Watch a run from another terminal."),
    "ui": Lazy("ttd_core.cli.ui:ui", "Watch and read runs on a local web page."),
    "hint": Lazy("ttd_core.cli.ask:hint", "Leave a hint for a run."),
    "stop": Lazy("ttd_core.cli.ask:stop", "Stop a run after the step under way."),
    "report": Lazy("ttd_core.cli.report:report", "Write what runs came to as one HTML file."),
    "compare": Lazy("ttd_core.cli.compare:compare", "Compare runs; seeds count as one."),
    "eval": Lazy("ttd_core.cli.evaluate:evaluate", "Judge a program or a construction from a file."),
    "experiment": Lazy(
        "ttd_core.cli.experiment:experiment",
        "Make a grid of runs and say what they came to.",
    ),
    "certify": Lazy("ttd_core.cli.certify:certify", "Prove a construction's score in exact arithmetic."),
    "new-problem": Lazy("ttd_core.cli.new_problem:new_problem", "Begin a problem of your own."),
    "adopt": Lazy(
        "ttd_core.cli.adopt:adopt",
        "Read a task of another framework as a problem.",
    ),
    "check-problem": Lazy(
        "ttd_core.cli.check_problem:check_problem", "Check that a problem keeps the contract."
    ),
    "doctor": Lazy("ttd_core.cli.doctor:doctor", "Check what this machine has and lacks."),
}


@click.command(
    "ttd",
    cls=TtdGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="ttd-core", prog_name="ttd")
def main() -> None:
    """A language model learns while it attacks one hard problem.

    \b
    Example:
      ttd list-problems
      ttd run erdos --preset laptop -o start=program -o reply=parts -o budget_s=3 -o timeout_s=8
    """
