"""gpt-oss with packed experts: read as published, run as transformers runs it unpacked, and resumed."""

from __future__ import annotations

import json
import math
import pathlib
import warnings

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.policy.conftest import make_config, make_tokenizer
from tests.policy.local.lean.lean_models import make_mixture
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from ttd_core.errors import EnvironmentLacksError, ModelUnavailableError
from ttd_core.policy.base import SamplingParams, Sequences
from ttd_core.policy.local import loading, memory
from ttd_core.policy.local.lean.mlp import Experts
from ttd_core.policy.local.lean.mxfp4 import (
    GROUP,
    LARGEST_ARRANGED_SCALE,
    PLACES,
    VALUES,
    arrange,
    arranged,
    unpack,
    unpack_arranged,
)
from ttd_core.policy.local.packed import PackedExperts, standing_in
from ttd_core.policy.local.policy import LocalPolicy, open_local
from ttd_core.policy.models.folder import read_folder

CPU = torch.device("cpu")
PROMPT = [{"role": "user", "content": "a prompt that is longer than the window"}]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder as gpt-oss is published: packed experts, everything else as numbers, several end tokens."""
    folder: pathlib.Path = tmp_path_factory.mktemp("gpt-oss")
    tokenizer = make_tokenizer()
    model = make_mixture("gpt_oss", False, hidden_size=64, vocab_size=len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    generator = torch.Generator().manual_seed(0)

    def random(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator, dtype=torch.uint8)

    weights = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name.endswith(("gate_up_proj", "down_proj")):
            experts, inputs, outputs = tensor.shape
            weights[f"{name}_blocks"] = random(0, 256, experts, outputs, inputs // GROUP, GROUP // 2)
            weights[f"{name}_scales"] = random(122, 126, experts, outputs, inputs // GROUP)
        else:
            weights[name] = tensor
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [len(tokenizer) - 1, 3]}))
    return folder


def test_every_code_and_scale_as_transformers_and_the_table_have_it() -> None:
    # Every byte, so every code in both halves, under every scale that is a number.
    blocks = torch.arange(256, dtype=torch.uint8).view(1, 16, 1, 16).repeat(1, 1, 255, 1)
    scales = torch.arange(255, dtype=torch.uint8).repeat(1, 16, 1)
    for dtype in torch.float32, torch.bfloat16:
        found = unpack(blocks, scales, dtype)
        expected = convert_moe_packed_tensors(blocks, scales, dtype=dtype).transpose(1, 2)
        assert found.dtype == dtype
        assert torch.equal(found.view(torch.uint8), expected.contiguous().view(torch.uint8))
    codes = torch.tensor([code for byte in range(256) for code in (byte & 15, byte >> 4)])
    for scale in 100, 126, 127, 130:
        found = unpack(blocks[:, :, :1], torch.full((1, 16, 1), scale, dtype=torch.uint8), torch.bfloat16)
        assert found.flatten().tolist() == [VALUES[code] * 2.0 ** (scale - 127) for code in codes]


def test_arranged_codes_unpack_to_the_same_bits() -> None:
    generator = torch.Generator().manual_seed(1)
    blocks = torch.randint(0, 256, (3, 40, 5, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(0, 255, (3, 40, 5), generator=generator, dtype=torch.uint8)
    for dtype in torch.float32, torch.bfloat16:
        found = unpack_arranged(arrange(blocks), scales.transpose(1, 2), dtype)
        expected = unpack(blocks, scales, dtype)
        assert torch.equal(found.view(torch.uint8), expected.view(torch.uint8))
    # Byte j of a group has inputs j and j + 16; published ones have 2 j and 2 j + 1.
    first = arrange(blocks)[0, 2, 7]
    published = torch.stack([blocks[0, 7, 2] & 15, blocks[0, 7, 2] >> 4], dim=-1).flatten()
    assert torch.equal(first, published[:16] | published[16:] << 4)


def test_codes_in_fragments_unpack_to_the_same_bits() -> None:
    generator = torch.Generator().manual_seed(1)
    blocks = torch.randint(0, 256, (48, 4, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(0, 255, (48, 4), generator=generator, dtype=torch.uint8)
    codes, by_fragment = arranged(blocks, scales)
    assert codes.shape == (2, 3, 512)
    assert by_fragment.shape == (2, 3, 32)
    for dtype in torch.float32, torch.bfloat16:
        found, expected = unpack_arranged(codes, by_fragment, dtype), unpack(blocks, scales, dtype)
        assert torch.equal(found.view(torch.uint8), expected.view(torch.uint8))
    # Thread 4 g + t has a word of outputs g and g + 8: here of g 3 and t 2, of inputs 32 to 63 of row 11.
    word = int(codes[0, 0].view(torch.int32)[4 * (4 * 3 + 2) + 3]) & 0xFFFFFFFF
    published = torch.stack([blocks[11, 1] & 15, blocks[11, 1] >> 4], dim=-1).flatten().tolist()
    for place, bits in enumerate(PLACES):
        for half in range(2):
            found_code = sum((word >> (at + 16 * half) & 1) << bit for bit, at in enumerate(bits))
            assert found_code == published[2 * 2 + half + 8 * place]
    # A matrix that is not whole fragments lies by row.
    assert arranged(blocks[:40], scales[:40])[0].shape == (4, 40, 16)
    assert arranged(blocks[:, :3], scales[:, :3])[0].shape == (3, 48, 16)


def test_a_module_arranges_its_codes_in_place_once_and_stays_what_it_was(published: pathlib.Path) -> None:
    model, _ = loading.load_model(published, torch.bfloat16, CPU, "refuse", lambda _: None, True)
    before, _ = loading.load_model(published, torch.bfloat16, CPU, "refuse", lambda _: None, True)
    for layer in model.model.layers:
        experts = layer.mlp.experts
        for name in ("gate_up_proj", "down_proj"):
            memory_of = {part: getattr(experts, f"{name}_{part}").data_ptr() for part in ("blocks", "scales")}
            assert not experts.is_arranged(name)
            # The second time there is nothing to do.
            assert experts.arrange(name)
            assert experts.arrange(name)
            assert experts.is_arranged(name)
            for part, address in memory_of.items():
                assert getattr(experts, f"{name}_{part}").data_ptr() == address
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, before(ids).logits)
    # The lean engine reads them as they lie, whichever way that is.
    for one, other in zip(model.model.layers, before.model.layers, strict=True):
        for found, expected in zip(
            *(Experts.of(it.mlp, CPU).projections for it in (one, other)), strict=True
        ):
            assert found.weights.arranged
            assert not expected.weights.arranged
            assert (found.outputs, found.weights.inputs) == (expected.outputs, expected.weights.inputs)
            for expert in range(len(expected.weights.values)):
                bits = [it.weights.of(expert, torch.bfloat16) for it in (found, expected)]
                assert torch.equal(*bits)
    with standing_in(model), standing_in(before):
        shapes = [{name: p.shape for name, p in it.named_parameters()} for it in (model, before)]
    assert shapes[0] == shapes[1]


def test_scales_too_large_to_arrange_leave_codes_as_published(published: pathlib.Path) -> None:
    model, _ = loading.load_model(published, torch.bfloat16, CPU, "refuse", lambda _: None, True)
    experts = model.model.layers[0].mlp.experts
    experts.down_proj_scales[1, 2, 0] = LARGEST_ARRANGED_SCALE
    assert experts.arrange("down_proj")
    experts.gate_up_proj_scales[1, 2, 0] = LARGEST_ARRANGED_SCALE + 1
    kept = experts.gate_up_proj_blocks.clone()
    assert not experts.arrange("gate_up_proj")
    assert torch.equal(experts.gate_up_proj_blocks, kept)
    gate_and_up, down = Experts.of(model.model.layers[0].mlp, CPU).projections
    assert (gate_and_up.weights.arranged, down.weights.arranged) == (False, True)


def test_packed_experts_stay_packed_and_say_what_transformers_says(published: pathlib.Path) -> None:
    said: list[str] = []
    packed, _ = loading.load_model(published, torch.float32, CPU, "refuse", said.append, True)
    unpacked, _ = loading.load_model(published, torch.float32, CPU, "refuse", said.append)
    assert not said
    for layer in packed.model.layers:
        assert isinstance(layer.mlp.experts, PackedExperts)
        assert layer.mlp.experts.gate_up_proj_blocks.dtype == torch.uint8
    assert packed.generation_config.eos_token_id == [packed.config.vocab_size - 1, 3]
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(packed(ids).logits, unpacked(ids).logits, rtol=1e-4, atol=1e-4)


def opened(folder: pathlib.Path, engine: str, adapt: str = "auto") -> LocalPolicy:
    config = make_config(
        policy__model=str(folder),
        policy__device="cpu",
        policy__dtype="float32",
        policy__options={"engine": engine, "adapt": adapt},
    )
    policy = open_local(config)
    assert isinstance(policy, LocalPolicy)
    return policy


@pytest.mark.parametrize("adapt", ["auto", "all"])
def test_a_policy_learns_saves_and_goes_on(
    adapt: str, published: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    lean, plain = opened(published, "lean", adapt), opened(published, "plain", adapt)
    params = SamplingParams(context=512, max_new_tokens=9, seed=5)
    samples = sorted(lean.sample([PROMPT], 3, params), key=lambda sample: sample.index)
    others = sorted(plain.sample([PROMPT], 3, params), key=lambda sample: sample.index)
    for one, other in zip(samples, others, strict=True):
        assert one.completion.tokens.tolist() == other.completion.tokens.tolist()
        np.testing.assert_allclose(one.completion.logprobs, other.completion.logprobs, atol=1e-4)
    completions = [sample.completion for sample in samples]
    advantages = [np.full(len(c.tokens), index - 1.0) for index, c in enumerate(completions)]
    batch = [Sequences(samples[0].prompt_tokens, completions, advantages)]
    steps = [lean.train_step(batch, 1.0), plain.train_step(batch, 1.0)]
    assert steps[0]["logprob_gap_max"] < 1e-4
    assert steps[0]["grad_norm"] == pytest.approx(steps[1]["grad_norm"], rel=1e-3)
    lean.save(tmp_path)
    resumed = opened(published, "lean", adapt)
    resumed.load(tmp_path)
    assert resumed.adapter_digest() == lean.adapter_digest()
    assert resumed.train_step(batch, 1.0) == lean.train_step(batch, 1.0)
    assert resumed.adapter_digest() == lean.adapter_digest()
    # Others load it: peft, on the model as transformers unpacks it.
    bare, _ = loading.load_model(published, torch.float32, CPU)
    with warnings.catch_warnings():
        # peft asks transformers by a name that transformers has since deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        adapted = peft.PeftModel.from_pretrained(bare, str(tmp_path))
    plain.load(tmp_path)
    ids = torch.tensor(batch[0].prompt_tokens)[None]
    with torch.inference_mode():
        torch.testing.assert_close(adapted(ids).logits, plain.model(ids).logits, rtol=1e-5, atol=1e-5)
    experts = [name for name, _ in adapted.named_parameters() if "lora" in name and "experts" in name]
    # A and B of two matrices in two layers.
    assert len(experts) == (8 if adapt == "all" else 0)


def test_packed_experts_learn_on_the_lean_engine_only(published: pathlib.Path) -> None:
    model, tokenizer = loading.load_model(published, torch.float32, CPU, "refuse", lambda _: None, True)
    config = make_config(policy__options={"engine": "plain", "adapt": "all"})
    with pytest.raises(ModelUnavailableError, match="packed experts learn on the lean engine only"):
        LocalPolicy(model, tokenizer, config)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("missing", "is not whole: 1 of its"),
        ("shape", "does not fit its config.json: 'model.layers.1.mlp.experts.down_proj_scales' is"),
        ("no number", "'model.layers.1.mlp.experts.down_proj_scales' holds scales that are no numbers"),
        ("left over", "1 weights have no place in the model that it describes"),
    ],
)
def test_what_is_broken_is_refused(
    change: str, line: str, published: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for file in published.iterdir():
        if file.name != "model.safetensors":
            (tmp_path / file.name).symlink_to(file)
    weights = load_file(published / "model.safetensors")
    name = "model.layers.1.mlp.experts.down_proj_scales"
    if change == "missing":
        del weights[name]
    elif change == "shape":
        weights[name] = weights[name][:, :-1].clone()
    elif change == "no number":
        weights[name][0, 0, 0] = 255
    else:
        weights["model.layers.1.mlp.experts.extra"] = torch.zeros(2)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelUnavailableError) as caught:
        loading.load_model(tmp_path, torch.float32, CPU, keep_packed=True)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fused", [True, False])
def test_experts_of_qwen_load_one_by_one_and_fused(fused: bool, tmp_path: pathlib.Path) -> None:
    tokenizer = make_tokenizer()
    model = make_mixture("qwen3_moe", False, vocab_size=len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in stored.items() if ".mlp.experts." not in name}
    for index, layer in enumerate(model.model.layers):
        start = f"model.layers.{index}.mlp.experts."
        gate_up, down = layer.mlp.experts.gate_up_proj.data, layer.mlp.experts.down_proj.data
        if fused:
            kept |= {f"{start}gate_up_proj": gate_up.clone(), f"{start}down_proj": down.clone()}
            continue
        for expert in range(len(down)):
            gate, up = gate_up[expert].chunk(2)
            parts = {"gate_proj": gate, "up_proj": up, "down_proj": down[expert]}
            kept |= {f"{start}{expert}.{name}.weight": part.clone() for name, part in parts.items()}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded, _ = loading.load_model(tmp_path, torch.float32, CPU)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_what_does_not_fit_is_said_before_it_is_loaded(
    published: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cuda = read_folder(published), torch.device("cuda")
    packed, unpacked = (memory.weight_bytes(folder, torch.bfloat16, keep) for keep in (True, False))
    blocks = sum(math.prod(t.shape) for name, t in folder.tensors.items() if name.endswith("_blocks"))
    assert unpacked - packed == 4 * blocks - blocks - blocks // 16
    model, _ = loading.load_model(published, torch.bfloat16, CPU, keep_packed=True)
    assert packed == sum(t.nbytes for t in model.state_dict().values())
    # Two layers, two key-value heads of 16, keys and values, two bytes each.
    reply = 1000 * 2 * 2 * 2 * 16 * 2
    assert memory.reply_bytes(folder.config, torch.bfloat16, 1000) == reply
    for free, keep, line in (
        (packed + reply, True, ""),
        (packed + reply - 1, True, "one reply of policy.context = 1000 tokens 0.0 GB, and cuda has"),
        (packed, False, "(the lean engine keeps experts packed, 0.0 GB: leave policy.options.engine out)"),
        (packed - 1, True, "GB free; choose a smaller model or a device with more memory"),
    ):
        monkeypatch.setattr(memory, "free_bytes", lambda _, free=free: free)
        if not line:
            memory.require_room(folder, torch.bfloat16, cuda, keep, 1000)
            continue
        with pytest.raises(EnvironmentLacksError) as caught:
            memory.require_room(folder, torch.bfloat16, cuda, keep, 1000)
        assert line in str(caught.value)
        assert "\n" not in str(caught.value)
    memory.require_room(folder, torch.bfloat16, CPU, True, 1000)
