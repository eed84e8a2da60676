"""The plan's arithmetic, held to the tables of docs/learner.md that were measured on one H200."""

from __future__ import annotations

import attrs
import pytest

from ttd_core.planning.machines import CARDS, Machine
from ttd_core.planning.memory import MemoryPlan, plan_memory
from ttd_core.planning.rates import (
    MEASURED,
    MEASURED_TRAINING,
    MeasuredStep,
    MeasuredTraining,
    rates_for,
    with_measured,
)
from ttd_core.planning.work import ModelWork, step_seconds
from ttd_core.planning.workload import Packs, Workload
from ttd_core.policy.local.packing import plan_packs
from ttd_core.policy.models.published import PUBLISHED
from ttd_core.policy.models.shape import shape_of

H200 = Machine(CARDS["h200"], 1, CARDS["h200"].memory, 16, 0.0, True, "a test")
#: What the page's table of sampling says besides: the floor in ms and our peak in GB.
FLOORS = {
    ("Qwen/Qwen3-0.6B", 64): (0.40, 3.4),
    ("Qwen/Qwen3-0.6B", 512): (1.27, 13.9),
    ("Qwen/Qwen3-8B", 64): (3.70, 19.6),
    ("Qwen/Qwen3-8B", 512): (9.79, 33.3),
}


def work_of(model: str) -> ModelWork:
    return ModelWork(shape_of(PUBLISHED[model], model), 2, keep_packed=True)


def memory_of(work: ModelWork, load: Workload, checkpointing: str = "auto") -> MemoryPlan:
    weights = work.shape.weight_bytes(2, keep_packed=True)
    settings = {"rank": 32, "adapt": "auto", "checkpointing": checkpointing}
    return plan_memory(work, load, H200, "lean", weights=weights, **settings)


@pytest.mark.parametrize(
    "row", MEASURED, ids=lambda row: f"{row.model}-{row.rows}-{row.group}-{row.new}-{row.engine}"
)
def test_a_measured_step_is_reckoned_within_a_factor(row: MeasuredStep) -> None:
    work, rates = attrs.evolve(work_of(row.model), counted_experts=row.experts), rates_for(H200, row.engine)
    load = Workload(row.rows // row.group, row.group, 512, row.new, row.new, row.rows, 1, 8192, learns=False)
    seconds = step_seconds(work, load, rates, row.rows, False, row.engine)
    # `generate` reads each row's prompt by itself, which the plain engine does not.
    lean = row.engine == "lean"
    found, factor = seconds.decode + seconds.prefill * lean, 1.25 if lean else 1.4
    assert 1 / factor < found / row.new / (row.milliseconds / 1e3) < factor


def test_a_measured_step_of_the_papers_size_is_reckoned() -> None:
    """gpt-oss-120b, 8 x 64 rollouts of 2,048 tokens, prompts of 1,500: the page has its minutes by part."""
    work, rates = work_of("openai/gpt-oss-120b"), rates_for(H200, "lean")
    load = Workload(8, 64, 1500, 2048, 2048, 512, 1, 16_384, learns=True)
    seconds = step_seconds(work, load, rates, 512, True, "lean")
    assert (seconds.prefill + seconds.decode) / 60 == pytest.approx(1.43, rel=0.15)
    assert seconds.base / 60 == pytest.approx(0.58, rel=0.15)
    assert seconds.train / 60 == pytest.approx(1.80, rel=0.15)


def test_experts_are_drawn_evenly_unless_they_were_counted() -> None:
    work = work_of("Qwen/Qwen3-30B-A3B")
    assert work.experts_read(1) == pytest.approx(8)
    assert work.experts_read(64) == pytest.approx(125.9, abs=0.1)
    assert attrs.evolve(work, counted_experts=12).experts_read(64) == 12
    assert work_of("Qwen/Qwen3-8B").experts_read(64) == 0


@pytest.mark.parametrize("row", MEASURED_TRAINING, ids=lambda row: f"{row.model}-{row.prompt}-{row.engine}")
def test_measured_learning_is_reckoned_within_a_factor(row: MeasuredTraining) -> None:
    work, rates = work_of(row.model), rates_for(H200, row.engine)
    load = Workload(1, row.replies, row.prompt, row.length, row.length, 512, 1, 10**9, learns=True)
    seconds = step_seconds(work, load, rates, row.replies, row.checkpointing, row.engine)
    assert 1 / 1.4 < seconds.train / (row.milliseconds / 1e3) < 1.4
    if row.gigabytes is not None:
        memory = memory_of(work, load, "on" if row.checkpointing else "off")
        peak = memory.weights + memory.adapter + memory.training
        assert 1 / 1.2 < peak / (row.gigabytes * 1e9) < 1.2


@pytest.mark.parametrize(("model", "rows"), FLOORS)
def test_floor_and_peak_of_sampling_are_those_of_the_table(model: str, rows: int) -> None:
    work, (floor, peak) = work_of(model), FLOORS[model, rows]
    found = work.decode_floor(rates_for(H200, "lean"), rows, rows / 64, 512, 128)
    assert found * 1e3 == pytest.approx(floor, rel=0.02)
    memory = memory_of(work, Workload(rows // 64, 64, 512, 128, 128, rows, 1, 8192, learns=True))
    # The table's benchmark has no optimiser.
    assert memory.weights + memory.cache + memory.sampling + memory.adapter / 4 == pytest.approx(
        peak * 1e9, rel=0.2
    )


def test_two_cores_are_reckoned_within_a_factor_of_two() -> None:
    """First steps of two runs of qwen2.5-coder-0.5b on erdos, on average: 2 x 16, at most 192 tokens."""
    cpu = attrs.evolve(H200, card=None, gpus=0, gpu_bytes=0.0, cores=2, host_bytes=25e9)
    work = ModelWork(work_of("Qwen/Qwen2.5-Coder-0.5B-Instruct").shape, 2, keep_packed=False)
    rates = rates_for(cpu, "plain")
    # The longest of a step's replies, all sampled at once, says how many steps there are.
    longest = Workload(2, 16, 870, 192, 192, 32, 1, 3072, learns=True)
    sampled = step_seconds(work, longest, rates, 32, False, "plain")
    assert 0.5 < (sampled.prefill + sampled.decode + 32 * 0.95 / 2) / 61.3 < 2
    learned = step_seconds(work, attrs.evolve(longest, reply=103), rates, 32, False, "plain")
    assert 0.5 < learned.base / 12.8 < 2
    assert 0.5 < learned.train / 60.5 < 2


def test_a_long_pack_of_the_page() -> None:
    """One rollout of 16,384 tokens of an 8B model takes 28 GB."""
    memory = memory_of(work_of("Qwen/Qwen3-8B"), Workload(1, 1, 512, 16_384, 16_384, 1, 1, 1, True), "on")
    assert memory.weights + memory.adapter + memory.training == pytest.approx(28e9, rel=0.1)


def test_the_tables_are_those_of_the_page(request: pytest.FixtureRequest) -> None:
    page = (request.config.rootpath / "docs" / "learner.md").read_text(encoding="utf-8").splitlines()
    for step in (row for row in MEASURED if row.engine == "lean"):
        size = step.model.removeprefix("openai/gpt-oss-").removeprefix("Qwen/Qwen3-")
        rows = f"{step.rows // step.group} x {step.group}"
        rows += "" if step.group > 1 else ", no shared prompts"
        # Several tables have such rows; only one is this measurement.
        starts = f"| {size}, {rows} |", f"| {size}, {rows}, extrapolated |"
        lines = [line for line in page if line.startswith(starts)]
        assert sum(f" {step.milliseconds:.2f} |" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("prompt", "reply", "size", "budget"), [(10, 7, 16, 50), (100, 300, 8, 64), (5, 5, 3, 999)]
)
def test_packs_are_those_of_the_learner(prompt: int, reply: int, size: int, budget: int) -> None:
    packs, planned = Packs.of(prompt, reply, size, budget), plan_packs(prompt, [reply] * size, budget)
    assert packs.count == len(planned)
    assert packs.replies == max(len(members) for members in planned)
    assert packs.tokens == prompt + reply * packs.replies


def test_rates_scale_with_the_card_and_with_what_was_measured() -> None:
    small = attrs.evolve(H200, card=CARDS["rtx-4090"])
    rates, fast = rates_for(small, "lean"), rates_for(H200, "lean")
    assert rates.bandwidth / fast.bandwidth == pytest.approx(1.01 / 4.8)
    assert "scaled by memory bandwidth and arithmetic" in rates.source
    assert "scaled" not in fast.source
    measured = with_measured(rates, 1e12, 2e14)
    assert (measured.bandwidth, measured.products) == (1e12, 2e14)
    assert "measured here" in measured.source
    slow = rates_for(attrs.evolve(small, card=None, bfloat16=False, cores=4), "plain")
    assert (
        slow.products
        == 2 * rates_for(attrs.evolve(small, card=None, bfloat16=False, cores=2), "plain").products
    )
