"""The way in which a run judges its replies, as its config names it; refused where its problem lacks it."""

from __future__ import annotations

import pathlib

import numpy as np

from ttd_core.config import RunConfig
from ttd_core.errors import ConfigError
from ttd_core.plugin.guard import raise_named
from ttd_core.plugin.hooks import Hooks
from ttd_core.plugin.registry import provenance
from ttd_core.run.cascade import CascadeJudging, plan_stages
from ttd_core.run.judging import Judging
from ttd_core.run.known_verdicts import KnownVerdicts
from ttd_core.run.problem_record import ProblemRecord
from ttd_core.sandbox.base import Executor


def open_judging(hooks: Hooks, config: RunConfig, executor: Executor, folder: pathlib.Path) -> Judging:
    """What judges the replies of a run.

    :param folder: the run's, which keeps its verdicts by program where equal ones are judged once.
    :raises PluginError: when the problem cannot be made with another budget.
    """
    run, workers, on_error = executor.run, executor.workers, config.on_problem_error
    if config.cascade is not None:
        return CascadeJudging(hooks, run, workers, on_error, config.cascade, config.keep)
    if config.same_program == "judge":
        return Judging(hooks, run, workers, on_error)
    problem = hooks.problem
    assert problem is not None
    record = ProblemRecord.of(problem, config.problem)
    known = KnownVerdicts(folder, problem, record.source or record.origin)
    return Judging(hooks, run, workers, on_error, known)


def require_choices(hooks: Hooks, config: RunConfig) -> None:
    """Refuse a way to judge that the problem has no use for.

    :raises ConfigError: in one line.
    :raises PluginError: when the problem fails to say, or cannot be made with another budget.
    """
    problem = hooks.problem
    assert problem is not None
    if config.cascade is not None:
        if not _tells_budget(hooks, config):
            raise ConfigError(
                f"cascade = {list(config.cascade)}: {problem.name} tells its programs no budget, so there is "
                "no part of it to begin with; leave cascade out"
            )
        plan_stages(hooks, config.cascade)
        if config.same_program != "judge":
            raise ConfigError(
                f"same_program = '{config.same_program}' and cascade exclude each other, for how far a "
                "program goes depends on the others of its group; set one of them"
            )
    if config.same_program == "reuse" and not problem.deterministic:
        raise ConfigError(
            f"same_program = 'reuse': {problem.name} does not say that a verdict follows from program and "
            "start alone (a measured time, or a program that looks at the clock, may come out differently); "
            "'reuse-anyway' takes the first verdict all the same"
        )


def budget_warning(hooks: Hooks, config: RunConfig) -> str:
    """What to say of a budget that does nothing, or less than was meant; empty where there is nothing.

    :param config: with the problem's options as resolved.
    :raises PluginError: when the problem fails to say whether it tells its programs.
    """
    problem = hooks.problem
    assert problem is not None
    budget, timeout = problem.options.budget_s, problem.options.timeout_s
    if budget is None:
        return ""
    if not _tells_budget(hooks, config):
        return f"options.budget_s = {budget:g} changes nothing: {problem.name} tells its programs no budget"
    if budget > timeout:
        return (
            f"options.budget_s = {budget:g} is more than options.timeout_s = {timeout:g}: programs that use "
            "all the time they are told are stopped before; raise timeout_s"
        )
    return ""


def _tells_budget(hooks: Hooks, config: RunConfig) -> bool:
    problem = hooks.problem
    assert problem is not None
    start = hooks.seed_states(np.random.default_rng(config.seed), 1)[0]
    try:
        return problem.tells_budget(start)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again, named
        raise_named(error, provenance(problem), "tells_budget")
