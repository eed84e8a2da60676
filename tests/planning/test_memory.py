"""Memory: what is said to change where a run does not fit makes it fit."""

from __future__ import annotations

import re

import attrs
import pytest

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.options import Options
from ttd_core.planning.machines import CARDS, Machine, named_machine
from ttd_core.planning.memory import kept_bytes
from ttd_core.planning.plan import Assumptions, Plan, make_plan, notes
from ttd_core.planning.work import ModelWork
from ttd_core.policy.models.outline import ModelOutline
from ttd_core.policy.models.published import published

HERE = Machine(None, 0, 0.0, 16, 64e9, True, "a test")


def plan_of(model: str, gpu: str, config: RunConfig | None = None, **keys: object) -> Plan:
    found = published(model)
    assert found is not None
    overrides = {"policy.model": model} | {key.replace("__", "."): value for key, value in keys.items()}
    config = configs.override(config or configs.load("none"), overrides)
    machine = named_machine(HERE, gpu, None, None, None)
    return make_plan(config, Options(), ModelOutline(found[1], {}, "a test"), machine, Assumptions())


CASES = [
    ("qwen3-8b", "rtx-4090", {}),
    ("qwen3-8b", "rtx-4090", {"policy.context": 20_000}),
    ("qwen3-4b", "rtx-4080", {"learn.activation_checkpointing": "off"}),
    ("qwen3-0.6b", "rtx-3060", {"learn.micro_batch_tokens": 400_000, "policy.max_new_tokens": 4000}),
    ("Mistral-7B-Instruct-v0.3", "h100", {"policy.batch": 512, "policy.max_new_tokens": 4000}),
    ("qwen3-32b", "h100", {}),
]


@pytest.mark.parametrize(("model", "gpu", "keys"), CASES)
def test_advice_makes_it_fit(model: str, gpu: str, keys: dict[str, object]) -> None:
    config = configs.override(configs.load("none"), keys)
    plan = plan_of(model, gpu, config)
    assert not plan.memory.fits
    for _ in range(4):
        told = " ".join(plan.memory.advice)
        changes = dict(re.findall(r"set ([a-z_.]+)=([a-z0-9]+)", told))
        if changes:
            values = {key: int(value) if value.isdigit() else value for key, value in changes.items()}
            config = configs.override(config, values)
        else:
            gpu = re.findall(r"--gpu ([a-z0-9-]+)", told)[0]
        plan = plan_of(model, gpu, config)
        if plan.memory.fits:
            break
    assert plan.memory.fits, plan.memory.advice
    assert plan.memory.peak <= plan.memory.device


def test_a_model_that_no_card_holds_is_told_so() -> None:
    plan = plan_of("llama-3.3-70b-instruct", "h100")
    (advice,) = plan.memory.advice
    assert advice.startswith("the weights and the adapter take 151.")
    assert advice.endswith("choose a smaller model")


def test_packed_experts_stay_packed_on_the_lean_engine_alone() -> None:
    lean, plain = (
        plan_of("gpt-oss-120b", "h200", policy__options={"engine": engine}) for engine in ("lean", "plain")
    )
    assert lean.memory.weights == pytest.approx(65.2e9, rel=0.01)
    assert plain.memory.weights == pytest.approx(233.6e9, rel=0.01)
    assert not plain.memory.fits
    assert "policy.options.engine asks for it" in plain.engine.reason


def test_fewer_rows_than_asked_for_are_no_failure_where_replies_wait() -> None:
    plan = plan_of("qwen3-8b", "h200", policy__context=32_768)
    assert plan.memory.fits
    assert 0 < plan.memory.rows < 512
    assert notes(plan)[0].startswith(f"{plan.memory.rows} of 512 replies have room at once")
    assert plan_of("qwen3-8b", "h200", policy__context=1024).memory.rows == 512


def test_windows_hide_a_prompt_from_the_time_and_from_the_lean_engines_pages() -> None:
    plan = plan_of("gpt-oss-20b", "h200", policy__context=8192)
    whole = attrs.evolve(plan.shape, windows=(0,) * plan.shape.layers)
    assert plan.shape.seen(8192) < whole.seen(8192) / 1.9
    assert plan.shape.token_bytes(2) == whole.token_bytes(2)
    # The page on the learner says what 512 replies of 8,192 tokens take.
    work = ModelWork(plan_of("gpt-oss-120b", "h200").shape, 2, keep_packed=True)
    assert 512 * kept_bytes(work, "lean", 8192 + 32, 32) == pytest.approx(160.7e9, rel=1e-3)
    assert 512 * kept_bytes(work, "plain", 8192 + 32, 32) == pytest.approx(311.7e9, rel=1e-3)
    # So all of 20b's 512 have room.
    assert plan.memory.rows == 512
    assert plan.memory.cache < 512 * whole.token_bytes(2) * 8192 * 0.55


def test_several_devices_share_a_step() -> None:
    one = plan_of("qwen3-8b", "h200")
    config = configs.override(
        configs.load("none"), {"policy.model": "qwen3-8b", "policy.options": {"devices": 4}}
    )
    found = published("qwen3-8b")
    assert found is not None
    machine = named_machine(HERE, "h200", None, 4, None)
    four = make_plan(config, Options(), ModelOutline(found[1], {}, "a test"), machine, Assumptions())
    assert 3 < one.time.sampling / four.time.sampling < 5
    assert one.time.train / four.time.train == pytest.approx(4)
    assert four.memory.weights == one.memory.weights


def test_every_card_has_a_title_and_grows_by_memory() -> None:
    assert all(card.title.startswith("NVIDIA") for card in CARDS.values())
    assert CARDS["h200"].memory == pytest.approx(139.3 * 2**30, rel=0.01)
