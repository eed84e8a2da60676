"""Our kernel beside named peers in one process, by one clock, each checked: a table, and all numbers."""

from __future__ import annotations

import importlib
import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import torch
from kernel_clock import Call, Clock
from kernel_peers import PEERS, Form
from rich.table import Table

from ttd_kernels.harness.kernel_io import KernelInputs, OutputSpec, Shape, shape_label
from ttd_kernels.harness.random_tensors import fresh_seed, seeded_generator
from ttd_kernels.helpers import shared_memory
from ttd_kernels.problem import KernelProblem
from ttd_kernels.testing import our_program

#: What stands under each table.
CLOCK = (
    "Trusted code in the benchmark's own process, ours too: events on the GPU, all launches queued before, "
    "cache emptied before each call, two fresh inputs in turn, medians; outputs checked on a third. "
    "The judge's figures of ours are in the table before."
)
#: Marks a time in which launches were waited for.
WAITED = "*"


def our_form(problem: KernelProblem) -> Form:
    """Our program, called as the judge's candidate process would call it."""
    # what builds the argument there finds its neighbour under this name
    sys.modules.setdefault("ttd_shared_memory", shared_memory)
    service = importlib.import_module("ttd_kernels.helpers.service")
    if problem.reference_source:
        service.install_reference(problem.reference_source)
    kernel = our_program(problem.name).custom_kernel

    def prepare(inputs: KernelInputs) -> Call:
        def call() -> list[torch.Tensor]:
            # made anew each time, since a call may change it: a cache knows how full it is
            returned = kernel(service.build(inputs.argument, inputs.tensors))
            return list(returned) if isinstance(returned, tuple | list) else [returned]

        return call

    return Form("ours", prepare)


def largest_error(
    outputs: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], specs: Sequence[OutputSpec]
) -> float:
    """The largest error of any element, as a share of what is tolerated there; infinite for NaN.

    :param expected: as many of the right outputs, from the first on, as are to be compared.
    """
    worst = 0.0
    for output, right, spec in zip(outputs, expected, specs, strict=False):
        if output.shape != right.shape:
            return float("inf")
        tolerated = right.float().abs().mul_(spec.rtol).add_(spec.atol)
        share = (output.float() - right.float()).abs_().div_(tolerated).nan_to_num_(nan=float("inf"))
        worst = max(worst, float(share.max()))
    return worst


def forms_of(problem: str, names: Sequence[str]) -> tuple[list[Form], list[str]]:
    """The forms of those of the named peers that have a kernel for a problem; a line for each not here."""
    forms: list[Form] = []
    missing = []
    for name in names:
        for peer in PEERS[name]:
            if peer.problem == problem:
                lacks = peer.missing()
                if lacks:
                    missing.append(f"{name}: {lacks}")
                else:
                    forms += peer.forms()
    return forms, missing


def compare(problem: KernelProblem, names: Sequence[str], clock: Clock) -> tuple[Table, dict[str, Any]]:
    """Time ours and the named peers at every timed shape of a problem.

    :param names: of peers; those without a kernel for this problem are left out.
    :param clock: by which each is timed, on fresh inputs on its device.
    """
    found, missing = forms_of(problem.name, names)
    forms = [our_form(problem), *found]
    measured: dict[str, Any] = {"missing": missing, "forms": {form.label: {} for form in forms}}
    for shape in problem.timed_shapes:
        for form in forms:
            result = _measured(problem, form, shape, clock)
            measured["forms"][form.label][shape_label(shape)] = result
            print(json.dumps({problem.name: {form.label: {shape_label(shape): result}}}), flush=True)
    return table_of(problem, forms, measured), measured


def _measured(problem: KernelProblem, form: Form, shape: Shape, clock: Clock) -> dict[str, Any]:
    """One form at one shape, JSON: ``us``, ``error`` and ``queued_ahead``, or ``failed``."""

    def draw() -> KernelInputs:
        return problem.draw_inputs(shape, seeded_generator(fresh_seed(), clock.device))

    try:
        inputs = draw()
        expected = (form.expected or problem.expected_outputs)(inputs)
        error = largest_error(form.prepare(inputs)(), expected, problem.output_specs(shape))
        del inputs
        took = clock.time([form.prepare(draw()) for _ in range(2)])
    except Exception as failure:
        return {"failed": f"{type(failure).__name__}: {' '.join(str(failure).split())[:200]}"}
    finally:
        torch.cuda.empty_cache()
    return {"us": took.us, "queued_ahead": took.queued_ahead, "error": error if len(expected) else None}


def table_of(problem: KernelProblem, forms: Sequence[Form], measured: dict[str, Any]) -> Table:
    """Shape by shape, ours beside the peers; under it what differs, what failed, and what is not here."""
    table = Table(title=f"{problem.name} beside peers, microseconds", title_justify="left")
    table.add_column("shape")
    for column in ("floor", *(form.label for form in forms)):
        table.add_column(column, justify="right")
    results = {form.label: measured["forms"][form.label] for form in forms}
    for shape in problem.timed_shapes:
        cells = [_cell(each[shape_label(shape)]) for each in results.values()]
        table.add_row(shape_label(shape), f"{problem.floor_us(shape):.0f}", *cells)
    table.add_row("geometric mean", "", *(_mean(list(each.values())) for each in results.values()))
    table.add_row("largest error, of the tolerance", "", *(_error(each) for each in results.values()))
    lines = [CLOCK, *(f"{form.label}: {form.differs}." for form in forms if form.differs)]
    for label, each in results.items():
        failed = {one["failed"] for one in each.values() if "failed" in one}
        lines += [f"{label} failed: {text}" for text in sorted(failed)]
    if any(not one.get("queued_ahead", True) for each in results.values() for one in each.values()):
        lines.append(f"{WAITED} the GPU waited for launches, so the host's time is in it.")
    lines += [f"not here: {line}" for line in measured["missing"]]
    table.caption, table.caption_justify = "\n".join(lines), "left"
    return table


def _cell(result: dict[str, Any]) -> str:
    if "failed" in result:
        return "-"
    return f"{result['us']:.1f}" + ("" if result["queued_ahead"] else WAITED)


def _mean(results: Sequence[dict[str, Any]]) -> str:
    if any("failed" in result for result in results):
        return "-"
    return f"{statistics.geometric_mean(result['us'] for result in results):.1f}"


def _error(results: dict[str, dict[str, Any]]) -> str:
    errors = [result["error"] for result in results.values() if result.get("error") is not None]
    return f"{max(errors):.2f}" if errors else "-"
