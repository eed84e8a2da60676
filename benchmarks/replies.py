"""The forms a reply may have, side by side: valid share, tokens a reply and best score of each.

    python benchmarks/replies.py --model qwen2.5-coder-0.5b --replies 64
        [--problems cp26 ahc058 ahc039 trimul] [--forms program parts edits] [--backend local] [--device auto]
        [-o cp26.timeout_s=30 -o ahc058.cases=10] [--set policy.batch=16] [--max-new-tokens 1536]
        [--keep FILE] [--sample-only] [--judge FILE]

For each problem, and each form of reply that it takes, the start's program is put to the model once, and that
many replies are sampled with the policy as a run's first step samples them, without any learning, and judged
as a run judges them. Sampling wants a GPU and judging processors: `--sample-only --keep FILE` on one machine
and `--judge FILE` on another divide the two. `new` counts valid programs that do not merely repeat the
start's. Where there is no GPU, kernels are checked in Triton's CPU interpreter: valid are those that are
correct there, and there is no score.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import pathlib
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from command_line import positive_int, run_benchmark, writable

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.config.settings import parse_assignment
from ttd_core.errors import UnknownProblemError, UsageError
from ttd_core.input_files import MAX_JSON_BYTES, read_text_file
from ttd_core.plugin import registry
from ttd_core.plugin.hooks import Hooks
from ttd_core.policy.base import Policy, SamplingParams
from ttd_core.problem import Execute
from ttd_core.run.backends import open_executor, open_policy
from ttd_core.run.evaluate import judge_reply
from ttd_core.run.novelty import same_program
from ttd_core.run.prompts import PromptMaker
from ttd_core.run.seeds import first_start
from ttd_core.sandbox.base import Executor
from ttd_core.search.archive import Archive
from ttd_core.types import Completion, Group, Reward, Rollout, State, Status, Verdict

PROBLEMS = ("ahc039", "ahc058", "trimul", "cp26")
FORMS = ("program", "parts", "edits")
#: What the verdict on a kernel begins with that is right where no time can be taken.
CHECKED = "correct at "
#: No model writes a longer reply.
MOST_TOKENS = 1 << 24
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
    hooks: Hooks, policy: Policy, start: Start, count: int, config: RunConfig
) -> tuple[Group, list[Completion]]:
    """Replies to the prompt for the start, as the first step of a run samples them; none judged yet.

    :param count: of replies.
    :return: the group without rollouts, and its replies.
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
    _, (prompt,) = PromptMaker(hooks, policy, archive, "count").render([node], params)
    samples = sorted(policy.sample([prompt], count, params), key=lambda sample: sample.index)
    return Group(node.id, prompt, samples[0].prompt_tokens, []), [each.completion for each in samples]


def judged(
    hooks: Hooks, executor: Executor, start: State, replies: Sequence[Completion]
) -> Iterator[Rollout]:
    """The replies with their verdicts, in order; a mark on the terminal for each."""

    def judge(reply: Completion) -> Rollout:
        rollout = Rollout(reply, judge_reply(hooks, start, reply, executor.run))
        print("|", end="", file=sys.stderr, flush=True)
        return rollout

    with concurrent.futures.ThreadPoolExecutor(executor.workers) as pool:
        yield from pool.map(judge, replies)
    print(file=sys.stderr)


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


def keep(path: pathlib.Path, name: str, form: str, policy: str, rollouts: Sequence[Rollout]) -> None:
    """Add replies, and what is known of them, to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        for rollout in rollouts:
            verdict = rollout.verdict
            facts: Mapping[str, Any] = {
                "problem": name,
                "reply": form,
                "policy": policy,
                "status": str(verdict.status),
                "message": verdict.message,
                "tokens": len(rollout.completion.tokens),
                "score": verdict.reward.score if verdict.reward is not None else None,
                "text": rollout.completion.text,
            }
            file.write(json.dumps(facts) + "\n")


def read_replies(path: pathlib.Path) -> tuple[str, dict[tuple[str, str], list[Completion]]]:
    """What ``--keep`` wrote: the policy, and the replies by problem and form.

    :raises UsageError: when it cannot be read, or a line is not as ``--keep`` writes it; says which.
    """
    replies: dict[tuple[str, str], list[Completion]] = {}
    policy = ""
    for number, line in enumerate(read_text_file(path, MAX_JSON_BYTES).split("\n"), 1):
        if not line.strip():
            continue
        try:
            name, form, policy, reply = read_reply(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{path}, line {number}: {error or 'nested too deeply'}; hand in a file that --keep wrote"
            ) from error
        replies.setdefault((name, form), []).append(reply)
    if not replies:
        raise UsageError(f"{path} holds no reply; hand in a file that --keep wrote")
    return policy, replies


def read_reply(line: str) -> tuple[str, str, str, Completion]:
    """Problem, form, policy and reply of a line that ``--keep`` wrote.

    :raises ValueError: when it is none.
    """
    try:
        facts = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at character {error.pos + 1})") from error
    if not isinstance(facts, dict):
        raise ValueError("no JSON object")
    for key in ("problem", "reply", "policy", "text"):
        if not isinstance(facts.get(key), str):
            raise ValueError(f"'{key}' must be text")
    count = facts.get("tokens")
    if type(count) is not int or not 0 <= count <= MOST_TOKENS:
        raise ValueError(f"'tokens' must be a whole number from 0 to {MOST_TOKENS:,}")
    # Which tokens they were is not kept, and no judge asks; the table counts them.
    arrays = np.zeros(count, np.int64), np.zeros(count, np.float32), np.zeros(count, np.bool_)
    return facts["problem"], facts["reply"], facts["policy"], Completion(facts["text"], *arrays)


def options_of(assignments: Sequence[str], name: str) -> dict[str, Any]:
    """The options of one problem among ``PROBLEM.NAME=VALUE``."""
    pairs = (parse_assignment(each, "-o") for each in assignments)
    return {key.removeprefix(f"{name}."): value for key, value in pairs if key.startswith(f"{name}.")}


def takes(name: str, form: str) -> bool:
    """Whether a problem takes replies of this form.

    :raises UnknownProblemError: when there is no such problem.
    """
    try:
        registry.load(name, {"start": "program", "reply": form})
    except UnknownProblemError:
        raise
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
    parser.add_argument("--replies", type=positive_int, default=64)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS))
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--max-new-tokens", type=positive_int, default=1536)
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="PROBLEM.NAME=VALUE")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--keep", type=writable, help="add the replies to this file of JSON lines")
    parser.add_argument("--sample-only", action="store_true", help="with --keep: judge nothing")
    parser.add_argument("--judge", type=pathlib.Path, help="judge what --keep wrote, and load no model")
    given = parser.parse_args()
    if given.sample_only and given.keep is None:
        parser.error("--sample-only needs --keep FILE")
    if given.sample_only and given.judge is not None:
        parser.error("--sample-only judges nothing, and --judge samples nothing: give one of them")
    return given


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
    author, known = read_replies(given.judge) if given.judge is not None else ("", {})
    rows = []
    for name in given.problems:
        for form in given.forms:
            if not takes(name, form) or (given.judge is not None and (name, form) not in known):
                continue
            options = {"start": "program", "reply": form, **options_of(given.options, name)}
            config = configs.load(name, overrides={**overrides, "options": options})
            problem, config = registry.resolve(config)
            hooks = Hooks(problem)
            if policy is None and given.judge is None:
                policy = open_policy(hooks, config)
                author = policy.name
            print(f"{name}, {form}", file=sys.stderr)
            with open_executor(hooks, config) as executor:
                start = start_of(hooks, executor.run)
                if policy is not None:
                    group, replies = sampled(hooks, policy, start, given.replies, config)
                else:
                    group, replies = Group(0, [], np.zeros(0, np.int64), []), known[name, form]
                if given.sample_only:
                    unjudged = Verdict.failed(Status.INFRASTRUCTURE, "not judged")
                    rollouts = [Rollout(reply, unjudged) for reply in replies]
                else:
                    rollouts = list(judged(hooks, executor, start[0], replies))
            rows.append(row_of(name, form, attrs.evolve(group, rollouts=rollouts), start, hooks))
            if given.keep is not None:
                keep(given.keep, name, form, author, rollouts)
    if not rows:
        raise SystemExit("none of these problems takes such a form of reply, or none was kept")
    header = ["problem", "reply", "valid", "new", "tokens", "best score", "start's score", "the others"]
    print(f"{author}, {given.max_new_tokens} tokens at most\n")
    for row in [header, ["---"] * len(header), *rows]:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
