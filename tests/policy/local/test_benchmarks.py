"""The benchmarks of the learner run on a CPU with tiny shapes, and say what they did not measure."""

from __future__ import annotations

import importlib
import importlib.util
import json
import pathlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

on_a_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="measures a GPU where there is one")


@on_a_cpu
def test_a_step_of_the_papers_size(
    benchmark: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    shape = ["--groups", "2", "--rollouts", "2", "--tokens", "36", "--prompt", "20", "--pack-tokens", "60"]
    part = ["--sampled", "33", "--packs", "1", "--steps", "50", "--price", "3600"]
    benchmark("paper_step").main(["--size", "tiny-oss", *shape, *part])
    said = capsys.readouterr().out.splitlines()
    rows = {line[:26].strip(): line for line in said}
    assert "33 of 36 tokens a reply" in rows["sampling"]
    assert "1 of 4 rollouts" in rows["gradient"]
    assert "1 of 4 rollouts" in rows["base log-probabilities"]
    assert "all of it" in rows["checkpoint"]
    gaps = {line[4:26].strip(): float(line.split()[-1]) for line in said if line.startswith("gap ")}
    assert gaps.keys() == {"routed anew", "replayed"}
    assert max(gaps.values()) < 1e-4
    assert "by extrapolation" in said[-1]
    assert said[-1].startswith("50 steps: ")


@on_a_cpu
def test_a_whole_step_is_no_extrapolation(
    benchmark: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    shape = ["--groups", "1", "--rollouts", "2", "--tokens", "5", "--prompt", "6", "--pack-tokens", "20"]
    benchmark("paper_step").main(["--size", "tiny", *shape])
    said = capsys.readouterr().out
    assert "extrapolation" not in said
    assert "2 of" not in said


def test_seconds_of_longer_replies_are_extrapolated(benchmark: Callable[[str], Any]) -> None:
    decoder = object.__new__(benchmark("timed_decoder").TimedDecoder)
    # After the first launch a step takes 2 + L / 100 seconds at own length L.
    ends, times = [32, 64, 96], [100.0]
    for end in ends[1:]:
        times.append(times[-1] + sum(2 + (end - 32 + step + 0.5) / 100 for step in range(32)))
    decoder._log = [(32, when) for when in times]
    expected = sum(2 + length / 100 for length in range(96, 200))
    assert decoder._rest(200) == pytest.approx(expected, rel=0.01)


def test_a_device_is_asked_for(
    benchmark: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, arguments in (
        ("sampling", ["--sizes", "8b"]),
        ("training", ["--sizes", "gpt-oss-20b"]),
        ("paper_step", ["--size", "gpt-oss-120b"]),
        ("step_parts", []),
        ("expert_products", []),
    ):
        with pytest.raises(SystemExit) as ended:
            benchmark(name).main(arguments)
        assert ended.value.code == 3
        assert "finds no" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_a_peer_that_is_not_installed_is_named(
    benchmark: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        benchmark("sampling").main(["--sizes", "tiny", "--peer", "vllm"])
    assert ended.value.code == 3
    (said,) = capsys.readouterr().err.splitlines()
    assert "--peer vllm: vLLM is not installed here" in said


def test_a_clocked_decoder_tells_of_the_errors_of_the_one_below(
    benchmark: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = benchmark("timed_decoder")
    decoder = object.__new__(script.TimedDecoder)
    ended = iter([["a reply"], ["another"]])

    def collect(*_: Any) -> Any:
        return next(ended)

    def decode(*_: Any) -> Iterator[Any]:
        for _ in range(2):
            yield from decoder._collect(32, [], None)
        raise RuntimeError("out of pages")

    monkeypatch.setattr(script.LeanDecoder, "_collect", lambda self, *arguments: collect(*arguments))
    monkeypatch.setattr(decoder, "_decode", decode, raising=False)
    monkeypatch.setattr(script.TimedDecoder, "_rest", lambda self, length: 0.0)
    ample = SimpleNamespace(max_tokens=[64])
    assert decoder.call([[1]], 2, ample, 0, launches=2).launches == 2
    ended = iter([["a reply"], ["another"]])
    with pytest.raises(RuntimeError, match="out of pages"):
        decoder.call([[1]], 2, ample, 0)
    monkeypatch.setattr(decoder, "_decode", lambda *_: iter(()))
    with pytest.raises(ValueError, match="no launch was made for 1 prompts of 2 replies each"):
        decoder.call([[1]], 2, ample, 0)


@pytest.mark.parametrize(("size", "adapted"), [("tiny", 7), ("tiny-moe", 4), ("tiny-oss", 4)])
def test_the_peer_gets_our_shapes(
    benchmark: Callable[[str], Any], tmp_path: pathlib.Path, size: str, adapted: int
) -> None:
    folder, targets = benchmark("vllm_peer").write_files(size, tmp_path)
    assert len(targets) == adapted
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["num_hidden_layers"] == 2
    assert ("quantization_config" in config) == (size == "tiny-oss")
    tensors = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == 2 * 2 * adapted
    query = tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"]
    assert tuple(query.shape) == (64, 32)
    assert bool(query.any())


@pytest.mark.slow
@on_a_cpu
@pytest.mark.parametrize("script", ["sampling", "training"])
def test_tables_come_row_by_row(
    benchmark: Callable[[str], Any], capsys: pytest.CaptureFixture[str], script: str
) -> None:
    extra = {
        "sampling": ["--rows", "4", "--group", "2", "--new", "8", "--quick", "--check"],
        "training": ["--rollouts", "2", "--length", "520"],
    }
    benchmark(script).main(["--sizes", "tiny", "tiny-oss", *extra[script]])
    said = capsys.readouterr().out
    assert "ended with code" not in said
    assert said.count("\ntiny-oss") >= 1
    peer = {"sampling": "ours is", "training": "of plain peft"}
    assert peer[script] in said
