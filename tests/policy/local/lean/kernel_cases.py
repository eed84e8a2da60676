"""Random cases for the kernels of decoding against the reference: on a GPU, or interpreted on a CPU.

    TRITON_INTERPRET=1 python -m pytest tests/policy/local/lean/kernel_cases.py

`test_kernels.py` runs it so in a process of its own, because Triton decides once, when it is imported.
"""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch

from ttd_core.policy.local.lean.decode_state import DecodeState, StepLayout
from ttd_core.policy.local.lean.kernels import reference_ops, reference_training_ops
from ttd_core.policy.local.lean.pack_attention import (
    CopiedPromptAttention,
    MaskedAttention,
    SeparatePromptAttention,
)
from ttd_core.policy.local.lean.paging import PAGE
from ttd_core.policy.local.lean.projection import PartialProduct
from ttd_core.policy.local.packing import build_pack

triton = pytest.importorskip("triton", reason="Triton is not installed here")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("needs a CUDA device, or TRITON_INTERPRET=1", allow_module_level=True)

from ttd_core.policy.local.lean.kernels import triton_ops as kernels  # noqa: E402 - after the skip
from ttd_core.policy.local.lean.kernels import triton_training_ops  # noqa: E402 - after the skip

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
#: NumPy, which the interpreter runs on, has no bfloat16.
DTYPES = [torch.float32] if INTERPRETED else [torch.float32, torch.bfloat16]
#: Queries a tile holds in these cases.
BLOCK = 16
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


def noise(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator).to(DEVICE, dtype)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype
    tolerance = TOLERANCE.get(found.dtype, 0.0)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [96, 1024])
def test_add_norm(size: int, dtype: torch.dtype) -> None:
    x, update, weight = (
        noise(5, size, dtype=dtype),
        noise(5, size, dtype=dtype, seed=1),
        noise(size, dtype=dtype),
    )
    for extra in (None, update):
        for found, expected in zip(
            kernels.add_norm(x, extra, weight, 1e-6),
            reference_ops.add_norm(x, extra, weight, 1e-6),
            strict=True,
        ):
            close(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "size", "normed"), [((4, 2), 16, True), ((14, 2), 64, False), ((3, 3), 32, True)]
)
def test_rotate_and_store(heads: tuple[int, int], size: int, normed: bool, dtype: torch.dtype) -> None:
    tokens, pages = 7, 4
    cos, sin = noise(tokens, size, dtype=dtype), noise(tokens, size, dtype=dtype, seed=3)
    norms = (noise(size, dtype=dtype), noise(size, dtype=dtype, seed=5)) if normed else None
    slots = torch.randperm(pages * PAGE, generator=torch.Generator().manual_seed(1))[:tokens].to(DEVICE)
    results = []
    for module in (kernels, reference_ops):
        qkv = noise(tokens, (heads[0] + 2 * heads[1]) * size, dtype=dtype)
        keys = torch.zeros(pages, heads[1], PAGE, size, dtype=dtype, device=DEVICE)
        values = torch.zeros_like(keys)
        module.rotate_and_store(qkv, cos, sin, norms, 1e-6, keys, values, slots, heads)
        results.append((qkv, keys, values))
    for found, expected in zip(*results, strict=True):
        close(found, expected)


def attention_case(
    own: list[int],
    prompts: list[int],
    owner: list[int],
    heads: tuple[int, int],
    size: int,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, DecodeState, int]:
    """Pages dealt at random; rows grouped by prompt into tiles, as the decoder does."""
    width = 1 + max(-(-max(own) // PAGE), -(-max(prompts) // PAGE))
    dealt = torch.randperm(500, generator=torch.Generator().manual_seed(2)).add(1).tolist()
    rows_per_tile = BLOCK // (heads[0] // heads[1])
    groups = {p: [r for r, o in enumerate(owner) if o == p] for p in range(len(prompts))}
    tiles = [
        (p, rows[i : i + rows_per_tile])
        for p, rows in groups.items()
        for i in range(0, len(rows), rows_per_tile)
    ]
    state = DecodeState.allocate(len(own), len(tiles) + 1, rows_per_tile, width, 2, DEVICE)
    for row, length in enumerate(own):
        state.own_lengths[row] = length - 1
        for index in range(-(-length // PAGE)):
            state.page_table[row, index] = dealt.pop()
    prompt_pages = [[dealt.pop() for _ in range(-(-length // PAGE))] for length in prompts]
    for tile, (prompt, rows) in enumerate(tiles):
        state.tile_lengths[tile] = prompts[prompt]
        state.tile_rows[tile, : len(rows)] = torch.tensor(rows)
        state.tile_page_table[tile, : len(prompt_pages[prompt])] = torch.tensor(prompt_pages[prompt])
    qkv = noise(len(own), (heads[0] + 2 * heads[1]) * size, dtype=dtype)
    # What no row has written must never be read: poison it.
    keys = noise(501, heads[1], PAGE, size, dtype=dtype)
    values = noise(501, heads[1], PAGE, size, dtype=dtype, seed=9)
    used = torch.cat([state.page_table.flatten(), state.tile_page_table.flatten()]).unique()
    unused = torch.ones(501, dtype=torch.bool)
    unused[used.cpu().long()] = False
    keys[unused.to(DEVICE)] = math.nan
    values[unused.to(DEVICE)] = math.nan
    return qkv, keys, values, state, len(tiles) + 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "size"), [((4, 2), 16), ((7, 1), 32), ((2, 2), 64)])
@pytest.mark.parametrize(("prompt_splits", "own_splits"), [(1, 1), (3, 1), (2, 4)])
def test_attention(
    heads: tuple[int, int], size: int, prompt_splits: int, own_splits: int, dtype: torch.dtype
) -> None:
    own, prompts, owner = [1, 64, 65, 200, 7], [0, 63, 130], [0, 1, 2, 2, 2]
    qkv, keys, values, state, tiles = attention_case(own, prompts, owner, heads, size, dtype)
    layout = StepLayout(len(own), tiles, BLOCK, prompt_splits, own_splits)
    found = kernels.attend(qkv, keys, values, state, layout, heads)
    close(found, reference_ops.attend(qkv, keys, values, state, layout, heads))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("prompt_splits", "own_splits"), [(1, 1), (2, 4)])
@pytest.mark.parametrize("window", [0, 70, 64 * 9])
def test_windows_and_sinks(
    window: int, prompt_splits: int, own_splits: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads, size = (4, 2), 16
    own, prompts, owner = [1, 71, 200], [63, 700], [0, 1, 1]
    qkv, keys, values, state, tiles = attention_case(own, prompts, owner, heads, size, dtype)
    layout = StepLayout(len(own), tiles, BLOCK, prompt_splits, own_splits)
    sinks = noise(heads[0], dtype=dtype) * 3
    expected = reference_ops.attend(qkv, keys, values, state, layout, heads, window, sinks)
    close(kernels.attend(qkv, keys, values, state, layout, heads, window, sinks), expected)
    if 0 < window <= kernels.UNDIVIDED:
        # What cannot be seen any more may be gone.
        for row, length in enumerate(own):
            state.page_table[row, : max(0, length - window) // PAGE] = 0
        close(kernels.attend(qkv, keys, values, state, layout, heads, window, sinks), expected)
        monkeypatch.setattr(kernels, "UNDIVIDED", 0)
        close(kernels.attend(qkv, keys, values, state, layout, heads, window, sinks), expected)


def test_a_group_larger_than_a_tile() -> None:
    heads, size = (8, 1), 16
    owner = [0] * 20 + [1] * 3
    qkv, keys, values, state, tiles = attention_case([3] * 23, [70, 5], owner, heads, size, torch.float32)
    layout = StepLayout(23, tiles, BLOCK, 2, 1)
    assert tiles == 13
    found = kernels.attend(qkv, keys, values, state, layout, heads)
    close(found, reference_ops.attend(qkv, keys, values, state, layout, heads))


@pytest.mark.parametrize("dtype", DTYPES)
def test_swiglu(dtype: torch.dtype) -> None:
    both = noise(3, 2 * 1100, dtype=dtype)
    close(kernels.swiglu(both), reference_ops.swiglu(both))


def partial_product(tokens: int, outputs: list[int], ranks: list[int], dtype: torch.dtype) -> PartialProduct:
    """As a projection makes it: each layer's B in a block of its own, A rows padded to a multiple of 8."""
    rows = -(-sum(ranks) // 8) * 8
    lora_b = torch.zeros(rows, sum(outputs), dtype=dtype, device=DEVICE)
    row, column = 0, 0
    for rank, width in zip(ranks, outputs, strict=True):
        lora_b[row : row + rank, column : column + width] = noise(rank, width, dtype=dtype, seed=row)
        row, column = row + rank, column + width
    both = noise(tokens, sum(outputs) + rows, dtype=dtype)
    # What A makes of the padding is never read as anything but zero.
    both[:, sum(outputs) + sum(ranks) :] = 0
    return PartialProduct(both, lora_b, tuple(ranks))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "ranks"), [(3, [3, 3]), (17, [32, 16]), (130, [8, 8])])
def test_adapted_swiglu(tokens: int, ranks: list[int], dtype: torch.dtype) -> None:
    found, expected = (
        module.adapted_swiglu(partial_product(tokens, [200, 200], ranks, dtype))
        for module in (kernels, reference_ops)
    )
    alike(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("tokens", "heads", "size", "normed", "ranks"),
    [
        (5, (4, 2), 32, True, [3, 3, 3]),
        (18, (6, 1), 64, False, [16, 8, 4]),
        (3, (2, 2), 16, True, [3, 3, 3]),
        (3, (2, 2), 32, True, []),
    ],
)
def test_adapted_rotate_and_store(
    tokens: int, heads: tuple[int, int], size: int, normed: bool, ranks: list[int], dtype: torch.dtype
) -> None:
    pages = 4
    cos, sin = noise(tokens, size, dtype=dtype), noise(tokens, size, dtype=dtype, seed=3)
    norms = (noise(size, dtype=dtype), noise(size, dtype=dtype, seed=5)) if normed else None
    slots = torch.randperm(pages * PAGE, generator=torch.Generator().manual_seed(1))[:tokens].to(DEVICE)
    outputs = [count * size for count in (heads[0], heads[1], heads[1])]
    results = []
    for module in (kernels, reference_ops):
        if ranks:
            product = partial_product(tokens, outputs, ranks, dtype)
        else:
            product = PartialProduct(
                noise(tokens, sum(outputs), dtype=dtype), torch.zeros(0, sum(outputs), device=DEVICE), ()
            )
        keys = torch.zeros(pages, heads[1], PAGE, size, dtype=dtype, device=DEVICE)
        values = torch.zeros_like(keys)
        qkv = module.adapted_rotate_and_store(product, cos, sin, norms, 1e-6, keys, values, slots, heads)
        results.append((qkv, keys, values))
    for found, expected in zip(*results, strict=True):
        alike(found, expected)


@pytest.mark.parametrize("vocabulary", [5, 4096, 9000])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sample(vocabulary: int, temperature: float) -> None:
    rows = 24
    logits = noise(rows, vocabulary, dtype=torch.float32) * 4
    states = []
    for module in (kernels, reference_ops):
        state = DecodeState.allocate(rows + 2, 1, 1, 1, 2, DEVICE)
        state.temperature.fill_(temperature)
        state.uniforms.copy_(torch.rand(state.uniforms.shape, generator=torch.Generator().manual_seed(4)))
        state.uniforms[0, :2] = torch.tensor([0.0, 0.999])
        state.remaining[:rows] = torch.arange(rows) % 3
        state.forced_tokens[3, 0], state.forced_tokens[4, 1] = 2, 1
        state.end_tokens[0] = 1
        for _ in range(2):
            module.sample(logits, state)
        states.append(state)
    for name in ("new_tokens", "next_input", "own_lengths", "remaining", "step"):
        close(getattr(states[0], name), getattr(states[1], name))
    close(states[0].new_logprobs, states[1].new_logprobs)
    assert states[0].new_tokens[3, 0] == 2


def test_what_cannot_be_sampled_never_is() -> None:
    logits = torch.full((64, 5000), -math.inf, device=DEVICE)
    logits[:, [17, 4099]] = torch.tensor([0.0, 1.0], device=DEVICE)
    state = DecodeState.allocate(64, 1, 1, 1, 1, DEVICE)
    state.uniforms[:, 0] = torch.linspace(0, 1 - 2**-24, 64)
    kernels.sample(logits, state)
    found = state.new_tokens[:, 0].tolist()
    share = 1 / (1 + math.e)
    assert found == [17 if u / 63 < share else 4099 for u in range(64)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("added", [True, False])
def test_add_norm_backward(dtype: torch.dtype, added: bool) -> None:
    total, weight, given = (noise(*shape, dtype=dtype) for shape in ((5, 96), (96,), (6, 96)))
    above = noise(5, 96, dtype=dtype, seed=7) if added else None
    results = [
        module.add_norm_backward(total, weight, 1e-6, above, given[:5])
        for module in (triton_training_ops, reference_training_ops)
    ]
    close(*results)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "size", "normed"), [((4, 2), 16, True), ((7, 1), 32, False)])
def test_rotate_and_its_backward(heads: tuple[int, int], size: int, normed: bool, dtype: torch.dtype) -> None:
    tokens = 6
    # The rows lie apart, as they do beside what the adapters' A makes of the input.
    qkv = noise(tokens, (heads[0] + 2 * heads[1]) * size + 8, dtype=dtype)[:, :-8]
    angles = torch.rand(tokens, size // 2, generator=torch.Generator().manual_seed(1)).repeat(1, 2) * 6
    cos, sin = angles.cos().to(DEVICE, dtype), angles.sin().to(DEVICE, dtype)
    norms = (noise(size, dtype=dtype), noise(size, dtype=dtype, seed=5)) if normed else None
    grads = tuple(noise(tokens, heads[n], size, dtype=dtype, seed=n + 20) for n in (0, 1, 1))
    results = []
    for module in (triton_training_ops, reference_training_ops):
        query, key = module.rotate(qkv, cos, sin, norms, 1e-6, heads)
        results.append((query, key, module.rotate_backward(qkv, cos, sin, norms, 1e-6, heads, grads)))
    for found, expected in zip(*results, strict=True):
        close(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_swiglu_backward(dtype: torch.dtype) -> None:
    both, grad = noise(3, 2 * 1100, dtype=dtype), noise(3, 1100, dtype=dtype)
    close(triton_training_ops.swiglu_backward(both, grad), reference_training_ops.swiglu_backward(both, grad))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_target_logprobs(dtype: torch.dtype, temperature: float) -> None:
    targets = torch.tensor([0, 4095, 4096, 4999], device=DEVICE)
    temperature_tensor = torch.tensor([temperature], device=DEVICE)
    results = []
    for module in (triton_training_ops, reference_training_ops):
        logits = noise(4, 5000, dtype=dtype) * 3
        kept = logits.clone()
        plain = module.target_logprobs(logits, targets, temperature_tensor, False)
        close(logits, kept)
        results.append((plain, module.target_logprobs(logits, targets, temperature_tensor, True), logits))
    for found, expected in zip(*results, strict=True):
        close(found, expected)


@pytest.mark.skipif(INTERPRETED, reason="flash attention needs a CUDA device")
@pytest.mark.parametrize("lengths", [[40], [7, 300, 1]])
def test_flash_attention_of_packs(lengths: list[int]) -> None:
    rng = np.random.default_rng(0)
    replies = [rng.integers(0, 9, length) for length in lengths]
    pack = build_pack(rng.integers(0, 9, 70), replies, range(len(lengths)), DEVICE)
    tokens = pack.ids.shape[1]
    q, k, v, grad = (noise(tokens, n, 64, dtype=torch.bfloat16, seed=n) for n in (8, 2, 2, 8))
    v = noise(tokens, 2, 64, dtype=torch.bfloat16, seed=50)
    masked = MaskedAttention(pack.mask)
    wide = [part.float() for part in (q, k, v)]
    expected = masked.forward(*wide)
    wanted = masked.backward(grad.float(), *wide, expected)
    for kind in CopiedPromptAttention, SeparatePromptAttention:
        attention = kind.of(pack)
        found = attention.forward(q, k, v)
        near(found[0], expected[0])
        for one, other in zip(attention.backward(grad, q, k, v, found), wanted, strict=True):
            near(one, other)


def alike(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Of 16 bits as whole tensors: a sum in another order may round to the number beside."""
    (close if found.dtype == torch.float32 else near)(found, expected)


def near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """bfloat16 against float32, over the whole tensor."""
    assert ((found.float() - expected).norm() / expected.norm()).item() < 1e-2
