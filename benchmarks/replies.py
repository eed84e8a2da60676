"""The forms a reply may have, side by side: valid share, tokens a reply and best score of each.

    python benchmarks/replies.py --model qwen2.5-coder-0.5b --replies 64
        [--problems cp26 ahc058 ahc039 trimul] [--forms program parts edits] [--backend local] [--device auto]
        [-o cp26.timeout_s=30 -o ahc058.cases=10] [--set policy.batch=16] [--max-new-tokens 1536]
        [--keep FILE]

For each problem, and each form of reply that it takes, the start's program is put to the model once, and that
many replies are sampled with the policy as a run's first step samples them, without any learning, and judged
as a run judges them. `new` counts valid programs that do not merely repeat the start's. Where there is no
GPU, kernels are checked in Triton's CPU interpreter: valid are those that are correct there, and there is no
score.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.config.settings import parse_assignment
from ttd_core.errors import UsageError
from ttd_core.plugin import registry
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import Policy, SamplingParams
from ttd_core.problem import Execute
from ttd_core.run.backends import open_executor, open_policy
from ttd_core.run.deadline import wait_for
from ttd_core.run.novelty import same_program
from ttd_core.run.pending import PendingRollouts
from ttd_core.run.prompts import PromptMaker
from ttd_core.run.rollout import Judging, StepRollouts
from ttd_core.run.seeds import first_start
from ttd_core.search.archive import Archive
from ttd_core.text import counted
from ttd_core.types import Group, Reward, Rollout, State, Status

PROBLEMS = ("ahc039", "ahc058", "trimul", "cp26")
FORMS = ("program", "parts", "edits")
#: What the verdict on a kernel begins with that is right where no time can be taken.
CHECKED = "correct at "
#: What replies start from, and what it is worth where that could be found out.
Start = tuple[State, Reward | None]


def start_of(hooks: Hooks, execute: Execute) -> Start:
    """The scored start; where this machine cannot score it, the starting program alone."""
    assert hooks.problem is not None
    try:
        return first_start(hooks, execute)
    except UsageError as error:
        print(f"{hooks.problem.name}: {error}", file=sys.stderr)
        return State(hooks.problem.starting_program() or ""), None


def is_valid(rollout: Rollout) -> bool:
    """Whether a program is right: scored, or checked where nothing can be scored."""
    verdict = rollout.verdict
    return verdict.ok or (verdict.status is Status.INFRASTRUCTURE and verdict.message.startswith(CHECKED))


def sampled(
    hooks: Hooks,
    policy: Policy,
    execute: Execute,
    start: Start,
    count: int,
    config: RunConfig,
) -> Group:
    """One group of replies to the prompt for the start, judged.

    :param count: of replies.
    """
    archive = Archive(config.search)
    (node,) = archive.add_seeds([start])
    params = SamplingParams(
        temperature=config.policy.temperature,
        context=config.policy.context,
        max_new_tokens=config.policy.max_new_tokens,
        thinking_tokens=config.policy.thinking_tokens,
        prefill=config.policy.prefill,
        seed=config.seed,
    )
    starts, prompts = PromptMaker(hooks, policy, archive, "count").render([node], params)

    def note(done: str) -> None:
        print(done, end="", file=sys.stderr, flush=True)

    judging = Judging(hooks, execute, config.sandbox.workers or 2)
    # Nothing is kept of them before its step is begun, and here none ever is.
    pending = PendingRollouts(pathlib.Path(), enabled=False)
    rollouts = StepRollouts(judging, pending, starts, prompts, lambda *_: note("."), lambda *_: note("|"))
    rollouts.sample(policy, count, params, {})
    wait_for(rollouts)
    judging.close()
    (group,) = rollouts.groups()
    print(file=sys.stderr)
    return group


def row_of(name: str, form: str, group: Group, start: Start, hooks: Hooks) -> list[str]:
    """One line of the table."""
    problem = hooks.problem
    assert problem is not None
    valid = [rollout for rollout in group if is_valid(rollout)]
    new = [rollout for rollout in valid if not same_program(rollout.verdict.code, start[0].code)]
    scores = [rollout.verdict.reward.score for rollout in valid if rollout.verdict.reward is not None]
    tokens = [len(rollout.completion.tokens) for rollout in group]
    ends = collections.Counter(str(rollout.verdict.status) for rollout in group if not is_valid(rollout))
    return [
        name,
        form,
        f"{len(valid)} of {len(group.rollouts)}",
        str(len(new)),
        f"{statistics.mean(tokens):.0f}" if any(tokens) else "not counted",
        problem.format_score(problem.best_of(scores)) if scores else "none",
        problem.format_score(start[1].score) if start[1] is not None else "none",
        ", ".join(f"{count} {status}" for status, count in ends.most_common()),
    ]


def kept(path: pathlib.Path, name: str, form: str, group: Group) -> None:
    """Add the replies to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        for rollout in group:
            verdict = rollout.verdict
            facts: Mapping[str, Any] = {
                "problem": name,
                "reply": form,
                "status": str(verdict.status),
                "message": verdict.message,
                "tokens": len(rollout.completion.tokens),
                "score": verdict.reward.score if verdict.reward is not None else None,
                "text": rollout.completion.text,
            }
            file.write(json.dumps(facts) + "\n")


def options_of(assignments: Sequence[str], name: str) -> dict[str, Any]:
    """The options of one problem among ``PROBLEM.NAME=VALUE``."""
    pairs = (parse_assignment(each, "-o") for each in assignments)
    return {key.removeprefix(f"{name}."): value for key, value in pairs if key.startswith(f"{name}.")}


def takes(name: str, form: str) -> bool:
    """Whether a problem takes replies of this form."""
    try:
        registry.load(name, {"start": "program", "reply": form})
    except UsageError:
        return False
    return True


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--backend", default="local")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--replies", type=int, default=64)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS))
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--max-new-tokens", type=int, default=1536)
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="PROBLEM.NAME=VALUE")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--keep", type=pathlib.Path, help="add the replies to this file of JSON lines")
    return parser.parse_args()


def main() -> None:
    """Sample, judge, print the table."""
    given = arguments()
    overrides = {
        "policy.model": given.model,
        "policy.backend": given.backend,
        "policy.device": given.device,
        "policy.max_new_tokens": given.max_new_tokens,
        **dict(parse_assignment(each) for each in given.settings),
    }
    policy: Policy | None = None
    rows = []
    for name in given.problems:
        for form in given.forms:
            if not takes(name, form):
                continue
            options = {"start": "program", "reply": form, **options_of(given.options, name)}
            config = configs.load(name, overrides={**overrides, "options": options})
            problem, config = registry.resolve(config)
            hooks = Hooks(problem)
            policy = policy if policy is not None else open_policy(hooks, config)
            with open_executor(hooks, config) as executor:
                start = start_of(hooks, executor.run)
                print(f"{name}, {form}", file=sys.stderr)
                group = sampled(hooks, policy, executor.run, start, given.replies, config)
            rows.append(row_of(name, form, group, start, hooks))
            if given.keep is not None:
                kept(given.keep, name, form, group)
    if policy is None:
        raise SystemExit("none of these problems takes such a form of reply")
    header = ["problem", "reply", "valid", "new", "tokens", "best score", "start's score", "the others"]
    replies = counted(given.replies, "reply", "replies")
    print(f"{policy.name}, {replies} each, {given.max_new_tokens} tokens at most\n")
    for row in [header, ["---"] * len(header), *rows]:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
