"""Call a task's evaluator on a program and leave what it returned as JSON; run by the task's own Python.

``call.py PLAN``: a JSON file with the evaluator's ``path``, the ``program``'s, the ``call`` (``function`` or
``stages``), the ``thresholds`` of stages, and ``answer``, the file to write. Python 3.8 suffices.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback

_DEEPEST = 6
_LARGEST_ARRAY = 64


def plain(value, depth=0):
    """A value as JSON has it; numpy's scalars and arrays too, and a text of whatever else there is."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value if type(value) in (bool, int, float, str) or value is None else _base(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    if depth < _DEEPEST and isinstance(value, dict):
        return {str(name): plain(each, depth + 1) for name, each in value.items()}
    if depth < _DEEPEST and isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each, depth + 1) for each in value]
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return plain(value.item(), depth + 1)
    if hasattr(value, "tolist") and getattr(value, "size", _LARGEST_ARRAY + 1) <= _LARGEST_ARRAY:
        return plain(value.tolist(), depth + 1)
    return str(value)


def _base(value):
    """A number or text of a subclass as what it is a subclass of."""
    kind = next(kind for kind in (int, float, str) if isinstance(value, kind))
    return kind(value)


def as_result(returned):
    """Metrics and artifacts of what an evaluator returned: metrics, or an object that has both."""
    if isinstance(getattr(returned, "metrics", None), dict):
        return dict(returned.metrics), dict(getattr(returned, "artifacts", None) or {})
    if not isinstance(returned, dict):
        raise TypeError(f"it returned {type(returned).__name__}, not a dictionary of metrics")
    metrics = dict(returned)
    artifacts = metrics.pop("artifacts", None)
    return metrics, dict(artifacts) if isinstance(artifacts, dict) else {}


def numbers(metrics):
    """What of the metrics is merged from stage to stage: its numbers."""
    merged = {name: plain(value) for name, value in metrics.items() if name != "error"}
    return {name: float(value) for name, value in merged.items() if isinstance(value, (int, float))}


def passes(metrics, threshold):
    """Whether a stage's score, or the mean of its numbers where it has none, reaches a threshold."""
    known = numbers(metrics)
    if "combined_score" in known:
        return known["combined_score"] >= threshold
    return bool(known) and sum(known.values()) / len(known) >= threshold


def run_stages(module, program, thresholds):
    """The stages in order, each where the one before reached its threshold; their results merged."""
    metrics, artifacts = as_result(module.evaluate_stage1(program))
    for number in (2, 3):
        stage = getattr(module, f"evaluate_stage{number}", None)
        if stage is None or len(thresholds) < number - 1 or not passes(metrics, thresholds[number - 2]):
            break
        try:
            further, words = as_result(stage(program))
        except Exception as error:  # noqa: BLE001 (what a later stage raises costs that stage alone)
            traceback.print_exc()
            artifacts[f"stage{number}_stderr"] = str(error)
            metrics[f"stage{number}_passed"] = 0.0
            break
        metrics = {**numbers(metrics), **numbers(further)}
        artifacts.update(words)
    return metrics, artifacts


def evaluated(plan):
    """The evaluator's metrics and artifacts for a program."""
    path = plan["path"]
    sys.path[0] = os.path.dirname(path)  # in place of this file's folder
    spec = importlib.util.spec_from_file_location("evaluation_module", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["evaluation_module"] = module
    spec.loader.exec_module(module)
    if plan["call"] == "stages" and hasattr(module, "evaluate_stage1"):
        metrics, artifacts = run_stages(module, plan["program"], plan["thresholds"])
    else:
        metrics, artifacts = as_result(module.evaluate(plan["program"]))
    return {"metrics": plain(metrics), "artifacts": plain(artifacts)}


def complaint(error, path):
    """What an evaluator raised, in a line, with the deepest line of its own file."""
    text = " ".join(str(error).split())[:300]
    line = None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == path:
            line = number
    where = f" ({os.path.basename(path)}, line {line})" if line else ""
    return f"the evaluator raised {type(error).__name__}{': ' + text if text else ''}{where}"


def main():
    """Evaluate, and write the answer whole or not at all; whatever runs on ends with this process."""
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    try:
        text = json.dumps(evaluated(plan))
    except SystemExit as error:
        text = json.dumps({"failed": f"the evaluator called exit({error.code!r})"})
    except BaseException as error:  # noqa: BLE001 (whatever it raises is its answer)
        traceback.print_exc()
        text = json.dumps({"failed": complaint(error, plan["path"])})
    with open(plan["answer"] + ".part", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(plan["answer"] + ".part", plan["answer"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
