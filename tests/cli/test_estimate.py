"""How long a run may take, said before it begins; and presets, which keep it short."""

from __future__ import annotations

import pathlib

import pytest

from ttd_core import config as configs
from ttd_core.cli import estimate

LAPTOP = dict(configs.PRESETS["laptop"])


@pytest.fixture(autouse=True)
def two_cores_and_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0, 1})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def warned(**keys: object) -> str:
    return estimate.warning(configs.load("sum", overrides={k.replace("__", "."): v for k, v in keys.items()}))


def test_the_defaults_on_a_laptop() -> None:
    # 50 x 512 x 32,768 tokens at 12 / 0.5 x 2 = 48 a second are 202.3 days.
    assert warned() == (
        "50 steps of 512 rollouts of up to 32,768 tokens on a CPU: up to 202 days, at 48 tokens/s (assumed "
        "for qwen2.5-coder-0.5b on 2 cores). --preset laptop is sized for two cores; policy.max_new_tokens "
        "bounds a reply"
    )


def test_a_preset_for_a_laptop_takes_no_hours() -> None:
    config = configs.load("sum", preset="laptop")
    assert estimate.warning(config) == ""
    assert "10 hours" in estimate.warning(configs.override(config, {"steps": 210}))


def test_hours_begin_at_two() -> None:
    one_step = {"groups": 1, "group_size": 48, "steps": 1}
    assert warned(**one_step, policy__max_new_tokens=7199) == ""
    assert "up to 2 hours" in warned(**one_step, policy__max_new_tokens=7200)
    # A reply is no longer than the context, whatever it may be told.
    assert warned(**one_step, policy__max_new_tokens=10**9, policy__context=7000) == ""


def test_what_is_not_sampled_here_is_not_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert warned(policy__backend="tinker") == ""
    assert warned(policy__device="cuda:1") == ""
    assert warned(policy__device="cpu") != ""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("pathlib.Path.glob", lambda _folder, _pattern: iter([pathlib.Path("/dev/nvidia0")]))
    assert warned() == ""


@pytest.mark.parametrize(
    ("model", "speed"),
    [
        ("qwen2.5-coder-0.5b", 48.0),
        ("qwen2.5-coder-1.5b", 16.0),
        ("smollm2-135m", 24 / 0.135),
        ("org/Model-7B-Instruct", 24 / 7),
        ("/models/2b/mine", 48.0),
        ("a-model-v2", 48.0),
    ],
)
def test_the_size_is_read_from_the_name(model: str, speed: float) -> None:
    assert estimate.tokens_per_second(model, 2) == pytest.approx(speed)


def test_a_run_that_takes_hours_is_warned_of_before_its_model_is_looked_for(ttd, summing) -> None:
    result = ttd("run", "sum", "--model", "no/such", "--json")
    first, second = result.stderr.splitlines()
    assert first.startswith("warning: 50 steps of 512 rollouts of up to 32,768 tokens on a CPU: up to 202")
    assert second.startswith("error: model 'no/such'")
    assert ttd("run", "sum", "--model", "no/such", "--preset", "laptop").stderr.count("\n") == 1


def test_a_preset_is_below_the_file_and_the_flags(ttd, summing, scripted) -> None:
    pathlib.Path("mine.toml").write_text("steps = 0\n[policy]\nlora_rank = 4\n")
    begun = ttd(*scripted, "--preset", "laptop", "--config", "mine.toml", "--name", "small")
    assert begun.exit_code == 0, begun.stderr
    stored = configs.flatten(configs.from_toml(pathlib.Path("runs/small/config.toml").read_text()))
    changed = {"steps": 0, "policy.lora_rank": 4, "groups": 2, "group_size": 4}
    assert {key: stored[key] for key in LAPTOP} == LAPTOP | changed


@pytest.mark.parametrize("name", configs.PRESETS)
def test_every_preset_is_a_config_and_its_keys_are_in_the_help(ttd, name: str) -> None:
    config = configs.flatten(configs.load("sum", preset=name))
    text = " ".join(ttd("run", "--help").stdout.split())
    for key, value in configs.PRESETS[name].items():
        assert config[key] == value
        assert f"{key}={value}" in text


def test_a_preset_that_there_is_not(ttd) -> None:
    assert "'--preset': 'huge' is not one of 'laptop', 'gpu'." in ttd("run", "sum", "--preset", "huge").stderr
