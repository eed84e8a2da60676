"""Run by the Python of ``ttt-discover``'s environment: its evaluator on Ray, as its training loop calls it.

Arguments: a folder, workers, evaluations; the program comes on standard input. Prints one JSON object:
evaluations a second with all workers, and the seconds of each evaluation made alone.
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
import sys
import time
from typing import Any

import ray
from ttt_discover.environments.sandbox_reward_evaluator import SandboxRewardEvaluator


class Evaluator(SandboxRewardEvaluator):  # type: ignore[misc]  # not installed where types are checked
    """The evaluator with its two abstract methods."""

    def get_program_entrypoint(self) -> str:
        return "run"

    def get_reward(self, code: str, state: Any) -> Any:
        return self.run_eval_code(code)


def main(folder: str, workers: int, evaluations: int) -> None:
    """Measure and print."""
    code = sys.stdin.read()
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    evaluator = Evaluator("benchmark", folder, num_cpus_per_task=1, eval_timeout=60)
    expected = evaluator.run_eval_code(code)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        list(pool.map(evaluator.run_eval_code, [code] * 2 * workers))
        started = time.perf_counter()
        values = list(pool.map(evaluator.run_eval_code, [code] * evaluations))
        rate = evaluations / (time.perf_counter() - started)
    alone = []
    for _ in range(max(20, evaluations // 2)):
        started = time.perf_counter()
        evaluator.run_eval_code(code)
        alone.append(time.perf_counter() - started)
    agree = all(abs(value - expected) < 1e-9 for value in values)
    print(json.dumps({"rate": rate, "alone": alone, "value": float(expected), "agree": agree}))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
