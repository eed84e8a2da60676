"""The published models side by side: which engine serves them, and memory for 512 rollouts of 8k tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ttd_core.planning.machines import CARDS, Machine
from ttd_core.planning.memory import MemoryPlan, plan_memory
from ttd_core.planning.work import ModelWork
from ttd_core.planning.workload import Workload
from ttd_core.policy.local import engine as engines
from ttd_core.policy.local.options import DEFAULT_ROWS
from ttd_core.policy.models.published import PUBLISHED
from ttd_core.policy.models.shape import ModelShape, shape_of

#: Groups, rollouts of each, and tokens of prompt and reply together.
GROUPS, GROUP_SIZE, PROMPT, REPLY = 8, 64, 1024, 7168
#: As the defaults have it.
_RANK, _PACK = 32, 8192
#: More than any device has, to learn what is needed.
_ENDLESS = 1e18


@attrs.frozen
class ModelRow:
    """One published model on a GPU.

    :param name: its hub id.
    :param shape: its sizes.
    :param engine: which serves it on a GPU.
    :param weights: bytes on the device.
    :param least: bytes with one reply at a time, and learning: what a device must have.
    :param whole: bytes with all replies at once.
    :param rows: replies at once on the machine that was asked for.
    """

    name: str
    shape: ModelShape
    engine: str
    weights: float
    least: float
    whole: float
    rows: int


def model_rows(machine: Machine) -> Iterator[ModelRow]:
    """Every published model on a card."""
    for name, config in PUBLISHED.items():
        yield _row(name, config, machine)


def _row(name: str, config: Mapping[str, Any], machine: Machine) -> ModelRow:
    shape = shape_of(config, name)
    lacks = engines.machine_lacks(on_gpu=True, has_triton=True)
    engine = engines.chosen("auto", lacks, engines.why_config_unsupported(config)).name
    work = ModelWork(shape, 2, engine == "lean")
    weights = shape.weight_bytes(2, work.keep_packed)

    def memory(device: float, rows: int) -> MemoryPlan:
        load = Workload(GROUPS, GROUP_SIZE, PROMPT, REPLY, REPLY, rows, 1, _PACK, True)
        on = attrs.evolve(machine, gpu_bytes=device)
        # Where memory is short, activations are computed twice.
        return plan_memory(
            *(work, load, on, engine),
            weights=weights,
            rank=_RANK,
            adapt="auto",
            checkpointing="on" if rows == 1 else "auto",
        )

    here = memory(machine.gpu_bytes, GROUPS * GROUP_SIZE if engine == "lean" else DEFAULT_ROWS[engine])
    return ModelRow(
        name=name,
        shape=shape,
        engine=engine,
        weights=weights,
        least=memory(_ENDLESS, 1).peak,
        whole=memory(_ENDLESS, GROUPS * GROUP_SIZE).peak,
        rows=here.rows,
    )


def table_cells(machine: Machine) -> tuple[list[str], list[list[str]]]:
    """The table's head, and its rows."""
    title = machine.card.title if machine.card is not None else ""
    head = ["model", "runs", "weights", "one reply at a time", "512 at once", f"at once on one {title}"]
    return head, [
        [
            row.name,
            row.engine,
            f"{row.weights / 1e9:.1f} GB",
            f"{row.least / 1e9:.0f} GB",
            f"{row.whole / 1e9:,.0f} GB",
            f"{row.rows}" if row.rows else "does not fit",
        ]
        for row in model_rows(machine)
    ]


def default_machine() -> Machine:
    """One H200, which the table is of where no card is named."""
    return Machine(CARDS["h200"], 1, CARDS["h200"].memory, 1, 0.0, True, "its data sheet")


def markdown_table() -> str:
    """The table on one H200, as ``docs/models.md`` has it."""
    head, rows = table_cells(default_machine())
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
