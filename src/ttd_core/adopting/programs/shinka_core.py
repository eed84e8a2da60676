"""What evaluators of ShinkaEvolve import of it: run a program's function, and score what it returns."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import json
import math
import os
import time


def load_program(path):
    """A program's module."""
    spec = importlib.util.spec_from_file_location("program", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _timed(function, arguments):
    began = time.perf_counter()
    returned = function(**arguments)
    return returned, time.perf_counter() - began


def _timed_in_worker(path, name, arguments):
    return _timed(getattr(load_program(path), name), arguments)


def _all_runs(path, name, every, workers):
    """What the function returned for each set of arguments, in their order, and the seconds it took."""
    module = load_program(path)
    if not hasattr(module, name):
        raise AttributeError(f"the program has no function {name}")
    if workers <= 1 or len(every) <= 1:
        return [_timed(getattr(module, name), arguments) for arguments in every]
    with concurrent.futures.ProcessPoolExecutor(min(workers, len(every))) as pool:
        jobs = [pool.submit(_timed_in_worker, path, name, arguments) for arguments in every]
        return [job.result() for job in jobs]


def _plain(value):
    return value.tolist() if hasattr(value, "tolist") else str(value)


def save_json_results(results_dir, metrics, correct, error=None, verbose=True):
    """Write ``metrics.json`` and ``correct.json``."""
    os.makedirs(results_dir, exist_ok=True)
    for name, content in (("correct", {"correct": bool(correct), "error": error}), ("metrics", metrics)):
        with open(os.path.join(results_dir, f"{name}.json"), "w") as file:
            json.dump(content, file, indent=4, default=_plain)


def _failed_metrics(given):
    usual = {"combined_score": 0.0, "execution_time_mean": 0.0, "execution_time_std": 0.0}
    usual.update({"num_successful_runs": 0, "num_valid_runs": 0, "num_invalid_runs": 0})
    usual["all_validation_errors"] = []
    return {name: (given or {}).get(name, value) for name, value in usual.items()}


def run_shinka_eval(
    program_path,
    results_dir,
    experiment_fn_name,
    num_runs,
    get_experiment_kwargs=None,
    aggregate_metrics_fn=None,
    validate_fn=None,
    plotting_fn=None,
    default_metrics_on_error=None,
    early_stop_method=None,
    early_stop_threshold=None,
    early_stop_score_fn=None,
    early_stop_kwargs=None,
    run_workers=1,
    max_workers_cap=None,
    verbose=None,
):
    """Run a program's function, check and score what it returns, write both files.

    Nothing is drawn, whatever ``plotting_fn`` would.

    :return: metrics, whether every run is valid, and the first error.
    """
    if early_stop_method not in (None, "none"):
        raise NotImplementedError("early stopping needs shinka itself in the task's Python (--python)")
    workers = min(run_workers, max_workers_cap or run_workers)
    errors = []
    valid = invalid = 0
    try:
        every = [
            (get_experiment_kwargs(i) if get_experiment_kwargs else {"seed": i + 1}) for i in range(num_runs)
        ]
        timed = _all_runs(program_path, experiment_fn_name, every, workers)
        results, seconds = [each for each, _ in timed], [took for _, took in timed]
        complaints = []
        for result in results if validate_fn else ():
            good, words = validate_fn(result)
            valid, invalid = valid + bool(good), invalid + (not good)
            if not good:
                errors.append(f"Validation failed: {words}" if words else "Validation failed")
                complaints += [words] if words and words not in complaints else []
        metrics = (
            aggregate_metrics_fn(results) if aggregate_metrics_fn else {"num_successful_runs": len(results)}
        )
        mean = sum(seconds) / len(seconds) if seconds else 0.0
        spread = math.sqrt(sum((each - mean) ** 2 for each in seconds) / len(seconds)) if seconds else 0.0
        metrics.update({"execution_time_mean": mean, "execution_time_std": spread})
        if validate_fn:
            metrics.update({"num_valid_runs": valid, "num_invalid_runs": invalid})
            metrics["all_validation_errors"] = complaints
        score = metrics.get("combined_score")
        if score is not None and not math.isfinite(score):
            errors.append(f"combined_score is {score}")
    except Exception as error:  # noqa: BLE001 (whatever is raised is told in correct.json)
        print(f"Evaluation error: {error}")
        metrics = _failed_metrics(default_metrics_on_error)
        errors.append(str(error) or type(error).__name__)
    metrics.pop("extra_data", None)
    correct, first = not errors, errors[0] if errors else None
    save_json_results(results_dir, metrics, correct, first)
    return metrics, correct, first
