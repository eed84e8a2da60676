"""A small task of our own in each form, as files by name."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

PROGRAM = '''"""Points whose mutual distances are large."""
# EVOLVE-BLOCK-START
def place(count):
    return [index / count for index in range(count)]
# EVOLVE-BLOCK-END
'''
EVALUATOR = """import importlib.util


def evaluate(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    points = sorted(program.place(5))
    gaps = [right - left for left, right in zip(points, points[1:])]
    return {"combined_score": min(gaps), "count": len(points)}
"""
CONFIG = """max_iterations: 50
llm:
  primary_model: some-model
  temperature: 0.7
prompt:
  system_message: Spread five points over the unit interval.
  num_top_programs: 3
database:
  population_size: 50
evaluator:
  timeout: 20
  parallel_evaluations: 3
diff_based_evolution: true
"""
OPENEVOLVE = {"initial_program.py": PROGRAM, "evaluator.py": EVALUATOR, "config.yaml": CONFIG}

STAGES = """from openevolve.evaluation_result import EvaluationResult


def evaluate(program_path):
    return EvaluationResult(metrics={"combined_score": 1.0}, artifacts={})


def evaluate_stage1(program_path):
    return {"combined_score": 0.5}


def evaluate_stage2(program_path):
    return {"combined_score": 1.0}


def evaluate_stage3(program_path):
    return {"combined_score": 2.0}
"""

SHINKA_EVALUATOR = """import argparse

from shinka.core import run_shinka_eval


def mean(results):
    return {"combined_score": sum(results) / len(results)}


def main(program_path, results_dir):
    run_shinka_eval(
        program_path=program_path,
        results_dir=results_dir,
        experiment_fn_name="run_once",
        num_runs=3,
        aggregate_metrics_fn=mean,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--program_path")
    parser.add_argument("--results_dir")
    arguments = parser.parse_args()
    main(arguments.program_path, arguments.results_dir)
"""
RUN_EVO = '''from shinka.core import EvolutionConfig
from shinka.launch import LocalJobConfig

job_config = LocalJobConfig(eval_program_path="evaluate.py", time="00:02:30", conda_env="other")
FIRST = "Make the mean large. "
search_task_sys_msg = FIRST + """Any float
is allowed."""
evo_config = EvolutionConfig(task_sys_msg=search_task_sys_msg, num_generations=10, language="python")
'''
SHINKA = {
    "initial.py": "def run_once(seed):\n    return float(seed)\n",
    "evaluate.py": SHINKA_EVALUATOR,
    "run_evo.py": RUN_EVO,
}

TASK_YML = """files:
  - {"name": "submission.py", "source": "@SUBMISSION@"}
  - {"name": "reference.py", "source": "reference.py"}
  - {"name": "eval.py", "source": "../eval.py"}
lang: "py"
description: |
  Add two vectors.
config:
  main: "eval.py"
templates:
  Python: "../template.py"
tests:
  - {"size": 16, "masked": True}
  - {"size": 32, "kind": "cauchy"}
benchmarks:
  - {"size": 1024, "masked": False}
test_timeout: 60
benchmark_timeout: 90
ranked_timeout: 120
ranking_by: "geom"
"""
GPU_EVAL = """import os
import sys

from reference import check_implementation, generate_input


def main():
    from submission import custom_kernel
    sys.exit(0 if check_implementation(generate_input(4), custom_kernel) else 112)


main()
"""
GPU_REFERENCE = """import torch


def generate_input(size):
    return torch.ones(size, device="cuda")


def check_implementation(data, kernel):
    return bool((kernel(data) == 2 * data).all())
"""
GPU_MODE = {
    "eval.py": GPU_EVAL,
    "template.py": "import torch\n\n\ndef custom_kernel(data):\n    return data + data\n",
    "vectoradd/task.yml": TASK_YML,
    "vectoradd/reference.py": GPU_REFERENCE,
}


def write(folder: pathlib.Path, files: Mapping[str, str]) -> pathlib.Path:
    """A folder with some files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder
