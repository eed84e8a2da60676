"""The measurements that a state of a kernel problem holds: built, checked, shown as metrics and a table.

Times are in microseconds, arrays in the order of the timed shapes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ttd_kernels.harness.evaluation_result import EvaluationResult
from ttd_kernels.harness.stopwatch import Seconds
from ttd_kernels.harness.timing import TimingRules
from ttd_kernels.kernel_source import launched_triton_kernels

#: Times between which every kernel's lies, microseconds: below is less than a launch, above more than a day.
_LEAST_US, _MOST_US = 0.1, 1e11
#: The arrays, one number for each timed shape, and their dtypes.
_ARRAYS = {"times_us": "float64", "errors_us": "float64", "host_us": "float64", "repeats": "int64"}


def from_result(result: EvaluationResult, flushed: bool, seconds: Seconds) -> dict[str, Any]:
    """What a state keeps of an evaluation.

    ``times_us`` are the times that count, ``errors_us`` their standard errors, ``host_us`` what the host took
    to queue a call (float64 [timed shapes]), ``repeats`` how many calls were timed (int64 [timed shapes]),
    ``unseen_us`` the most that it can have done unseen after it said *done* (float64 [timed shapes]),
    ``seconds`` where the time of the evaluation went.

    :param flushed: whether the GPU's cache was emptied before each call.
    :param seconds: where the time of the evaluation went.
    """
    return {
        "device": result.device,
        "flushed": flushed,
        "tests": result.tests,
        "hidden": result.hidden,
        "untried": result.untried,
        "failed": list(result.failed),
        "times_us": np.array([timing.mean_us for timing in result.timings], np.float64),
        "errors_us": np.array([timing.error_us for timing in result.timings], np.float64),
        "host_us": np.array([timing.host_us for timing in result.timings], np.float64),
        "repeats": np.array([timing.repeats for timing in result.timings], np.int64),
        "unseen_us": np.array([timing.unseen_us for timing in result.timings], np.float64),
        "seconds": seconds,
    }


def violations(data: Mapping[str, Any], shapes: int, must_generalise: bool) -> list[str]:
    """Why these are no measurements of a valid kernel, one sentence each; empty when they may be.

    Total: it raises on no data.

    :param data: of any state.
    :param shapes: how many shapes are timed.
    :param must_generalise: whether a hidden shape that fails makes them invalid.
    """
    wrong = [
        f"{name} is not {dtype}[{shapes}]"
        for name, dtype in _ARRAYS.items()
        if not _is_array(data.get(name), dtype, shapes)
    ]
    if "unseen_us" in data and not _is_array(data["unseen_us"], "float64", shapes):
        wrong.append(f"unseen_us is not float64[{shapes}]")
    wrong += [f"{name} is no count" for name in ("tests", "hidden") if not _is_count(data.get(name))]
    if not _is_count(data.get("untried", 0)):
        wrong.append("untried is no count")
    failed = data.get("failed")
    if not isinstance(failed, list) or not all(type(each) is str for each in failed):
        wrong.append("failed is no list of texts")
    if type(data.get("device")) is not str or type(data.get("flushed")) is not bool:
        wrong.append("the device, or whether its cache was emptied, is missing")
    if not isinstance(data.get("seconds", {}), dict):
        wrong.append("seconds is no table of stages and parts")
    return wrong or list(_broken_rules(data, must_generalise))


def _broken_rules(data: Mapping[str, Any], must_generalise: bool) -> Iterator[str]:
    for name in ("times_us", "errors_us", "host_us"):
        if not np.isfinite(data[name]).all() or not (data[name] >= 0).all():
            yield f"{name} holds what is no time"
    if not ((data["times_us"] > _LEAST_US) & (data["times_us"] < _MOST_US)).all():
        yield "a time is one that no kernel takes"
    least = TimingRules().min_repeats
    if not (data["repeats"] >= least).all():
        yield f"a shape was timed fewer than {least} times"
    if len(data["failed"]) > data["hidden"]:
        yield "more shapes failed than were tried"
    if must_generalise and data["failed"]:
        yield f"it does not generalise: {data['failed'][0]}"


def _is_array(value: Any, dtype: str, length: int) -> bool:
    return type(value) is np.ndarray and value.dtype.name == dtype and value.shape == (length,)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def metrics(data: Mapping[str, Any], floors_us: Mapping[str, float], code: str) -> dict[str, Any]:
    """Valid measurements as JSON: each shape, the share of the speed of light, how far it generalises.

    :param floors_us: label of each timed shape and its floor, see :mod:`ttd_kernels.roofline`.
    :param code: the program that was measured.
    """
    times = [float(time) for time in data["times_us"]]
    floors = list(floors_us.values())
    host = [float(time) for time in data["host_us"]]
    return {
        "shapes": {
            label: {"us": time, "floor_us": floor, "of_floor": floor / time, "host_us": launching}
            for (label, floor), time, launching in zip(floors_us.items(), times, host, strict=True)
        },
        "speed_of_light": statistics.geometric_mean(floors) / statistics.geometric_mean(times),
        "generalises": f"{data['hidden'] - len(data['failed'])} of {data['hidden']}",
        **({"untried": data["untried"]} if data.get("untried") else {}),
        "triton_kernels": launched_triton_kernels(code),
        "device": data["device"],
        "flushed": data["flushed"],
        # states of before they were counted have none
        **({"seconds": data["seconds"]} if "seconds" in data else {}),
        **({"unseen_us": [float(time) for time in data["unseen_us"]]} if "unseen_us" in data else {}),
    }


def table(data: Mapping[str, Any], floors_us: Mapping[str, float], code: str) -> str:
    """Valid measurements as text, for people and for the next prompt. Parameters as for :func:`metrics`."""
    numbers = metrics(data, floors_us, code)
    errors = dict(zip(numbers["shapes"], (float(error) for error in data["errors_us"]), strict=True))
    lines = [f"{'shape':44} {'us':>9} {'+-':>7} {'floor':>7} {'of floor':>8} {'host':>7}"]
    for label, row in numbers["shapes"].items():
        lines.append(
            f"{label:44} {row['us']:9.1f} {errors[label]:7.1f} {row['floor_us']:7.0f} {row['of_floor']:8.0%} "
            f"{row['host_us']:7.0f}"
        )
    mean = statistics.geometric_mean(row["us"] for row in numbers["shapes"].values())
    floor = statistics.geometric_mean(row["floor_us"] for row in numbers["shapes"].values())
    lines.append(f"{'geometric mean':44} {mean:9.1f} {'':7} {floor:7.0f} {numbers['speed_of_light']:8.0%}")
    flushed = "cache emptied before each call" if numbers["flushed"] else "cache not emptied"
    lines.append(f"{numbers['device']}, {flushed}; correct at {data['tests']} drawn shapes")
    untried = f"; for {numbers['untried']} more no time was left" if "untried" in numbers else ""
    lines.append(f"generalises: {numbers['generalises']} shapes nobody named{untried}")
    lines += [f"  wrong at {reason}" for reason in data["failed"][:3]]
    if not numbers["triton_kernels"]:
        lines.append("it launches no Triton kernel of its own")
    return "\n".join(lines)


def examples(shapes: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two measurements that are valid, the second with times twice as long, and some that break a rule each.

    :param shapes: how many shapes are timed.
    """
    times = np.linspace(100.0, 900.0, shapes)
    good = {
        "device": "a GPU",
        "flushed": True,
        "tests": 18,
        "hidden": 6,
        "failed": [],
        "times_us": times,
        "errors_us": times / 1000,
        "host_us": times / 10,
        "repeats": np.full(shapes, 30),
    }
    bad: list[dict[str, Any]] = [
        {**good, "times_us": -times},
        {**good, "times_us": 0 * times},
        {**good, "times_us": times * np.nan},
        {**good, "times_us": times[:-1]},
        {**good, "repeats": np.zeros(shapes, np.int64)},
        {**good, "failed": ["one"] * 7},
        {**good, "hidden": -1},
    ]
    return [good, {**good, "times_us": 2 * times}], bad
