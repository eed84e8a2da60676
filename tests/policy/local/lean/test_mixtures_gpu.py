"""Mixtures of experts on a CUDA device: recorded steps and Triton's kernels against transformers' model."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tests.policy.local.lean.lean_models import VOCABULARY, make_mixture
from torch.nn import functional

from ttd_core.policy.local.adapter import adapted
from ttd_core.policy.local.lean import mxfp4
from ttd_core.policy.local.lean.decode import LeanDecoder
from ttd_core.policy.local.lean.kernels import reference_expert_ops, tiles
from ttd_core.policy.local.lean.kernels.reference_expert_ops import ExpertWeights
from ttd_core.policy.local.lean.kernels.tiles import Tile
from ttd_core.policy.local.lean.mlp import Experts
from ttd_core.policy.local.lean.model import LeanModel, why_unsupported
from ttd_core.policy.local.lean.routes import RouteMemory
from ttd_core.policy.local.packed import PackedExperts
from ttd_core.policy.local.packing import build_pack
from ttd_core.policy.local.replies import DecodeLimits, DecodingReply, whole_groups
from ttd_core.policy.local.training import LogprobModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here"),
]

if torch.cuda.is_available():
    from ttd_core.policy.local.lean.kernels import triton_expert_ops

DEVICE = torch.device("cuda")
PROMPTS = [[5, 6, 7, 8], [token % VOCABULARY for token in range(150)], [11]]
KINDS = [
    ("qwen3_moe", "auto"),
    ("qwen3_moe", "all"),
    ("gpt_oss", "auto"),
    ("gpt_oss", "all"),
    ("packed", "auto"),
]


def make(kind: str, adapt: Any) -> Any:
    """A small mixture on the device, with an adapter; ``packed`` is gpt-oss with random codes."""
    if kind != "packed":
        return make_mixture(kind, adapt=adapt).to(DEVICE)
    model = make_mixture("gpt_oss", False, hidden_size=64, intermediate_size=96)
    generator = torch.Generator().manual_seed(0)
    for layer in model.model.layers:
        layer.mlp.experts = PackedExperts(layer.mlp.experts)
        for name, buffer in layer.mlp.experts.named_buffers():
            low, high = (0, 256) if name.endswith("_blocks") else (121, 125)
            buffer.copy_(torch.randint(low, high, buffer.shape, generator=generator))
    adapted(model, adapt, 3, 6)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    return model.eval().to(DEVICE)


def sampled(lean: LeanModel, routes: RouteMemory | None = None) -> list[DecodingReply]:
    """Nine replies of 100 tokens in seven rows, twice the same."""
    limits = DecodeLimits(frozenset(), [100] * 3, None, lambda _: [])
    both = []
    for _ in range(2):
        decoder = LeanDecoder(lean, 7, routes=routes)
        replies = [*decoder.decode(PROMPTS, whole_groups(3, 3), 1.0, limits, 3)]
        both.append(sorted(replies, key=lambda reply: (reply.prompt_index, reply.index)))
    assert [reply.tokens for reply in both[0]] == [reply.tokens for reply in both[1]]
    return both[1]


def expected_logprobs(plain: Any, prompt: list[int], reply: list[int]) -> torch.Tensor:
    ids = torch.tensor([prompt + reply], device=plain.device)
    rows = plain(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return rows.gather(1, ids[0, len(prompt) :, None])[:, 0]


@pytest.mark.parametrize(("kind", "adapt"), KINDS)
def test_in_float32_it_is_transformers_model(kind: str, adapt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without matrix units a large tile is thousands of instructions, and compiling them what takes time.
    monkeypatch.setattr(tiles, "TILES", dict.fromkeys((False, True), Tile(32, 32, 4, 1)))
    torch.backends.cuda.matmul.allow_tf32 = False
    model = make(kind, adapt)
    assert why_unsupported(model) == ""
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    lean = LeanModel(model)
    replies = sampled(lean)
    for reply in replies:
        expected = expected_logprobs(plain, PROMPTS[reply.prompt_index], reply.tokens).detach().cpu()
        torch.testing.assert_close(torch.tensor(reply.logprobs), expected, rtol=1e-3, atol=1e-3)
    own = [np.array(reply.tokens) for reply in replies if reply.prompt_index == 1]
    pack = build_pack(np.array(PROMPTS[1]), own, range(3), DEVICE)
    logprobs = LogprobModel(model, "on", lean)
    logprobs.set_training(pack.ids.shape[1])
    found = logprobs.pack_logprobs(pack, 1.0)
    wanted = torch.cat([expected_logprobs(plain, PROMPTS[1], reply.tolist()) for reply in own])
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    weights = torch.linspace(-1, 2, len(found), device=DEVICE)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    named = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            error = (parameter.grad - named[name].grad).norm() / named[name].grad.norm()
            assert error < 1e-3, name


@torch.no_grad()
def layer_error(mlp: Any, tokens: int) -> float:
    """How far the lean engine's experts of one layer are from the module's own, as a share of its norm."""
    experts = Experts.of(mlp, DEVICE)
    x = torch.randn(tokens, experts.router.shape[1], device=DEVICE).to(torch.bfloat16)
    logits = functional.linear(x, experts.router, experts.router_bias)
    routed = experts.operations.route(logits, experts.choices, True)
    expected = mlp.experts(x, routed[0], routed[1]).float()
    found = experts.forward(x, routed[0])[0].float()
    return float((found - expected).norm() / expected.norm())


# Few tokens are multiplied by codes, many by matrices that are decoded first.
@pytest.mark.parametrize("in_fragments", [True, False])
@pytest.mark.parametrize("tokens", [3, 40, 200, 3000])
def test_arranged_experts_compute_what_their_module_does(
    tokens: int, in_fragments: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mxfp4, "IN_FRAGMENTS", in_fragments)
    model = make("packed", "auto").to(torch.bfloat16)
    mixtures = [it for it in model.modules() if isinstance(getattr(it, "experts", None), PackedExperts)]
    assert mixtures
    for mlp in mixtures:
        assert layer_error(mlp, tokens) < 0.02
        assert mlp.experts.is_arranged("gate_up_proj")
        assert mxfp4.in_fragments(mlp.experts.gate_up_proj_blocks) == in_fragments


@torch.no_grad()
@pytest.mark.parametrize("tokens", [3, 30, 100, 300])
@pytest.mark.parametrize("in_fragments", [True, False])
def test_assembly_multiplies_by_the_same_numbers_bit_for_bit(
    tokens: int, in_fragments: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of gpt-oss's widths, so that there are many steps over inputs and a last block that is not full.
    experts, outputs, inputs = 4, 720, 2880
    generator = torch.Generator(DEVICE).manual_seed(0)
    codes, scales = [], []
    monkeypatch.setattr(mxfp4, "IN_FRAGMENTS", in_fragments)
    for _ in range(experts):
        blocks = torch.randint(0, 256, (outputs, inputs // 32, 16), generator=generator, device=DEVICE)
        exponents = torch.randint(118, 124, (outputs, inputs // 32), generator=generator, device=DEVICE)
        lying = mxfp4.arranged(blocks.to(torch.uint8), exponents.to(torch.uint8))
        codes.append(lying[0])
        scales.append(lying[1])
    weights = ExpertWeights(torch.stack(codes), torch.stack(scales))
    assert weights.fragments == in_fragments
    x = torch.randn(tokens, inputs, generator=generator, device=DEVICE).to(torch.bfloat16)
    logits = torch.randn(tokens, experts, generator=generator, device=DEVICE)
    _, _, groups = triton_expert_ops.route(logits, 2, True)
    found = []
    for assembly in None, False:
        monkeypatch.setattr(tiles, "ASSEMBLY", assembly)
        # What is wrong only at times, as a register that is written too early, shows in many runs.
        found += [triton_expert_ops.product(x, weights, groups, True) for _ in range(20)]
    for other in found[1:]:
        assert torch.equal(other, found[0])
    expected = reference_expert_ops.product(x, weights, groups, True).float()
    assert (found[0].float() - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize(("kind", "adapt"), [*KINDS, ("packed", "all")])
def test_in_bfloat16_the_learner_has_what_the_sampler_had(kind: str, adapt: str) -> None:
    model = make(kind, adapt).to(torch.bfloat16)
    lean, routes = LeanModel(model), RouteMemory()
    replies = sampled(lean, routes)
    logprobs = LogprobModel(model, "off", lean, routes)
    for index, prompt in enumerate(PROMPTS):
        own = [reply for reply in replies if reply.prompt_index == index]
        tokens = [np.array(reply.tokens) for reply in own]
        pack = build_pack(np.array(prompt), tokens, range(3), DEVICE)
        pack = logprobs.replayed(pack, np.array(prompt), tokens)
        assert pack.routes is not None
        logprobs.set_training(pack.ids.shape[1])
        found = logprobs.pack_logprobs(pack, 1.0)
        gap = (found.detach().cpu() - torch.cat([torch.tensor(reply.logprobs) for reply in own])).abs()
        assert gap.mean() < 0.1
        found.sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name
