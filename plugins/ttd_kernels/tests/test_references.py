"""References against naive forms: loops that say what is meant, in float64, on small inputs."""

from __future__ import annotations

import math

import pytest
import torch

from ttd_kernels.dora_norm import DoraNorm
from ttd_kernels.harness.random_tensors import seeded_generator
from ttd_kernels.mla_decode import FULL, MlaDecode
from ttd_kernels.mla_decode import shape as decode_shape
from ttd_kernels.relu2_mlp import Relu2Mlp
from ttd_kernels.rmsnorm import RmsNorm
from ttd_kernels.trimul import TriMul
from ttd_kernels.trimul import shape as triangle_shape


def _norm(row: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    centred = row - row.mean()
    return centred / torch.sqrt((centred**2).mean() + 1e-5) * weight + bias


def _sigmoid(value: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + torch.exp(-value))


@pytest.mark.parametrize("mask", ["ones", "random"])
@pytest.mark.parametrize("kind", ["normal", "cauchy"])
def test_triangle_update_is_what_its_loops_say(mask: str, kind: str) -> None:
    problem, n, c = TriMul(), 4, 8
    inputs = problem.draw_inputs(triangle_shape(n, 2, c, mask, kind), seeded_generator(3, "cpu"))
    w = {name: tensor.double() for name, tensor in inputs.tensors.items()}
    expected = torch.zeros(2, n, n, c, dtype=torch.float64)
    for b in range(2):
        rows = [
            [_norm(w["input"][b, i, j], w["norm.weight"], w["norm.bias"]) for j in range(n)] for i in range(n)
        ]

        def side(
            name: str, i: int, k: int, b: int = b, rows: list[list[torch.Tensor]] = rows
        ) -> torch.Tensor:
            value = w[f"{name}_proj.weight"] @ rows[i][k] * w["mask"][b, i, k]
            return value * _sigmoid(w[f"{name}_gate.weight"] @ rows[i][k])

        for i in range(n):
            for j in range(n):
                pair = sum(side("left", i, k) * side("right", j, k) for k in range(n))
                assert isinstance(pair, torch.Tensor)
                pair = _norm(pair, w["to_out_norm.weight"], w["to_out_norm.bias"])
                gate = _sigmoid(w["out_gate.weight"] @ rows[i][j])
                expected[b, i, j] = w["to_out.weight"] @ (pair * gate)
    (output,) = problem.expected_outputs(inputs)
    torch.testing.assert_close(output.double(), expected, rtol=1e-4, atol=1e-4)


def test_the_mask_matters_at_every_pixel() -> None:
    problem = TriMul()
    inputs = problem.draw_inputs(triangle_shape(6, 1, 8, "random", "normal"), seeded_generator(1, "cpu"))
    ((words, mistaken),) = list(problem.known_mistakes(inputs))
    assert words == "the mask is ignored"
    assert not torch.allclose(mistaken[0], problem.expected_outputs(inputs)[0], rtol=2e-2, atol=2e-2)


def _bfloat(value: float) -> float:
    return float(torch.tensor(value).bfloat16())


def test_decode_is_what_its_loops_say() -> None:
    sizes = {"dim": 32, "heads": 2, "q_rank": 16, "kv_rank": 8, "nope": 4, "rope": 4, "v": 6}
    problem, filled = MlaDecode(), 5
    inputs = problem.draw_inputs(
        decode_shape(filled, batch=2, longest=9, **sizes), seeded_generator(5, "cpu")
    )
    w = {name: tensor.double() for name, tensor in inputs.tensors.items()}

    def turned(value: torch.Tensor, position: int) -> torch.Tensor:
        half = len(value) // 2
        out = value.clone()
        for i in range(half):
            theta = _bfloat(10000 ** (-i / half))
            angle = _bfloat(_bfloat(position) * theta)
            cosine, sine = _bfloat(math.cos(angle)), _bfloat(math.sin(angle))
            out[i] = value[i] * cosine - value[half + i] * sine
            out[half + i] = value[half + i] * cosine + value[i] * sine
        return out

    rank, nope, rope, width = sizes["kv_rank"], sizes["nope"], sizes["rope"], sizes["v"]
    expected = torch.zeros(2, 1, sizes["dim"], dtype=torch.float64)
    caches = w["cache"].clone()
    for b in range(2):
        x = w["x"][b, 0]
        caches[b, filled] = w["KV_proj_down_weight"] @ x
        query = (w["Q_proj_up_weight"] @ (w["Q_proj_down_weight"] @ x)).view(sizes["heads"], nope + rope)
        heads = []
        for head, q in enumerate(query):
            up = w["KV_proj_up_weight"].view(sizes["heads"], nope + width, rank)[head]
            q_turned = turned(q[nope:], filled)
            scores = torch.stack(
                [
                    q[:nope] @ (up[:nope] @ held[:rank]) + q_turned @ turned(held[rank:], position)
                    for position, held in enumerate(caches[b, : filled + 1])
                ]
            )
            shares = torch.softmax(scores / math.sqrt(nope + rope), 0)
            heads.append(
                sum(s * (up[nope:] @ held[:rank]) for s, held in zip(shares, caches[b], strict=False))
            )
        expected[b, 0] = w["wo_weight"] @ torch.cat(heads)
    output, cache = problem.expected_outputs(inputs)
    torch.testing.assert_close(output.double(), expected, rtol=5e-2, atol=3e-2)
    torch.testing.assert_close(cache.double(), caches, rtol=1e-2, atol=1e-2)
    assert torch.equal(inputs.tensors["cache"][:, filled:], torch.zeros_like(cache[:, filled:]))


def test_rope_positions_are_rounded_as_the_model_was_trained() -> None:
    """Near position 4100 the rounded angle is off by radians, and the reference must be, too."""
    worst = max(abs(_bfloat(position) - position) for position in range(4090, 4110))
    assert worst > 5
    assert FULL["rope"] == 64


def test_norm_and_its_gradients_are_what_autograd_says() -> None:
    problem = RmsNorm()
    inputs = problem.draw_inputs({"T": 5, "D": 12}, seeded_generator(2, "cpu"))
    x = inputs.tensors["x"].double().requires_grad_()
    weight = inputs.tensors["weight"].double().requires_grad_()
    y = torch.stack([row / torch.sqrt((row**2).mean() + 1e-6) for row in x]) * weight
    y.backward(inputs.tensors["gradient"].double())
    outputs = problem.expected_outputs(inputs)
    for one, two in zip(outputs, (y, x.grad, weight.grad), strict=True):
        assert two is not None
        torch.testing.assert_close(one.double(), two.detach(), rtol=1e-2, atol=1e-2)


def test_the_layer_squares_what_is_positive() -> None:
    problem = Relu2Mlp()
    inputs = problem.draw_inputs({"T": 3, "D": 8, "F": 10}, seeded_generator(2, "cpu"))
    x, up, down = (inputs.tensors[name].double() for name in ("x", "up", "down"))
    expected = torch.zeros(3, 8, dtype=torch.float64)
    for t in range(3):
        for f in range(10):
            expected[t] += max(0.0, float(up[f] @ x[t])) ** 2 * down[:, f]
    torch.testing.assert_close(problem.expected_outputs(inputs)[0].double(), expected, rtol=1e-2, atol=1e-2)


def test_row_norms_are_those_of_the_sum() -> None:
    problem = DoraNorm()
    inputs = problem.draw_inputs({"M": 6, "N": 10, "r": 2}, seeded_generator(2, "cpu"))
    w, a, b, scale = (inputs.tensors[name].double() for name in ("w", "a", "b", "scale"))
    expected = [
        math.sqrt(sum(float(w[i, j] + scale[0] * (b[i] @ a[:, j])) ** 2 for j in range(10))) for i in range(6)
    ]
    norms = problem.expected_outputs(inputs)[0].double()
    torch.testing.assert_close(norms, torch.tensor(expected, dtype=torch.float64), rtol=1e-3, atol=1e-4)
    alone = torch.linalg.vector_norm(w, dim=1)
    assert not torch.allclose(norms, alone, rtol=5e-3, atol=1e-3)
