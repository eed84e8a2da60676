"""What kernel problems say: to a model in the prompt, to people in a table of times."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ttd_kernels import rules, timing
from ttd_kernels.case import label

if TYPE_CHECKING:
    from ttd_kernels.problem import KernelProblem


def task(problem: KernelProblem) -> str:
    """The statement, how programs are judged, and a primer of the Triton that is installed."""
    shapes = "\n".join(f"- {label(shape)}: floor {problem.floor_us(shape):.0f} us" for shape in problem.timed)
    text = importlib.resources.files("ttd_kernels").joinpath("prompts", "primer.md").read_text("utf-8")
    must = "A program must launch a Triton kernel of its own.\n" if problem.options.triton == "refuse" else ""
    general = (
        "It must be right at every valid shape, also at those not listed.\n"
        if problem.options.generalise == "refuse"
        else "Other valid shapes are tried too, and reported.\n"
    )
    return (
        f"{problem.statement().strip()}\n\n"
        f"## How it is judged\n\nScore: the geometric mean of the mean times at these shapes, in "
        f"microseconds (the floor is the least that memory and matrix units of an H200 allow):\n{shapes}\n"
        f"Each call gets fresh inputs at fresh addresses, each output is checked, and time is the GPU's own, "
        f"from when the inputs are there to the end of all work. Launches are queued before that, unless the "
        f"program waits for the GPU; then what the host does afterwards is timed as well. {must}{general}\n"
        f"{text.strip().replace('$triton', importlib.metadata.version('triton'))}"
    )


def metrics(problem: KernelProblem, data: Mapping[str, Any], code: str) -> dict[str, Any]:
    """A valid state's numbers, JSON: each shape, the share of the speed of light, whether it generalises."""
    times = [float(time) for time in data["times_us"]]
    floors = [problem.floor_us(shape) for shape in problem.timed]
    host = [float(time) for time in data["host_us"]]
    return {
        "shapes": {
            label(shape): {"us": time, "floor_us": floor, "of_floor": floor / time, "host_us": launching}
            for shape, time, floor, launching in zip(problem.timed, times, floors, host, strict=True)
        },
        "speed_of_light": timing.geometric_mean(floors) / timing.geometric_mean(times),
        "generalises": f"{data['hidden'] - len(data['failed'])} of {data['hidden']}",
        "triton_kernels": rules.triton_kernels(code),
        "device": data["device"],
        "flushed": data["flushed"],
    }


def table(problem: KernelProblem, data: Mapping[str, Any], code: str) -> str:
    """A valid state's numbers for people and for the next prompt."""
    facts = metrics(problem, data, code)
    errors = dict(zip(facts["shapes"], (float(error) for error in data["errors_us"]), strict=True))
    lines = [f"{'shape':44} {'us':>9} {'+-':>7} {'floor':>7} {'of floor':>8} {'host':>7}"]
    for name, row in facts["shapes"].items():
        lines.append(
            f"{name:44} {row['us']:9.1f} {errors[name]:7.1f} {row['floor_us']:7.0f} {row['of_floor']:8.0%} "
            f"{row['host_us']:7.0f}"
        )
    mean = timing.geometric_mean([row["us"] for row in facts["shapes"].values()])
    floor = timing.geometric_mean([row["floor_us"] for row in facts["shapes"].values()])
    lines.append(f"{'geometric mean':44} {mean:9.1f} {'':7} {floor:7.0f} {facts['speed_of_light']:8.0%}")
    flushed = "cache emptied before each call" if facts["flushed"] else "cache not emptied"
    lines.append(f"{facts['device']}, {flushed}; correct at {data['tests']} drawn shapes")
    lines.append(f"generalises: {facts['generalises']} shapes nobody named")
    lines += [f"  wrong at {reason}" for reason in data["failed"][:3]]
    if not facts["triton_kernels"]:
        lines.append("it launches no Triton kernel of its own")
    return "\n".join(lines)
