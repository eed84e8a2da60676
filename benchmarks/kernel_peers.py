"""Named peers of our kernels: libraries that do the same work, or nearly, with what differs said in words.

They are trusted, so they run in the benchmark's own process, by the clock of ``kernel_clock``. Each form of a
peer is called through the library's own interface and its outputs are checked like a candidate's. What a user
would do once, not for each call (joining weights, laying out a cache), is not timed.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from kernel_clock import Call
from kernel_programs import MLA
from torch.nn import functional

from ttd_kernels.harness.kernel_io import KernelInputs
from ttd_kernels.rmsnorm import EPSILON

#: The expected outputs of some inputs.
Expected = Callable[[KernelInputs], Sequence[torch.Tensor]]


@attrs.frozen
class Form:
    """One way to call a peer.

    :param label: of its column.
    :param prepare: the call on some inputs; what it does before is not timed.
    :param differs: how its work differs from the problem's, a sentence; empty where it is the same.
    :param expected: what it must return where that is not the problem's reference: as many of the outputs,
        from the first on, as it makes.
    """

    label: str
    prepare: Callable[[KernelInputs], Call]
    differs: str = ""
    expected: Expected | None = None


@attrs.frozen
class Peer:
    """A library with a kernel for one of the problems.

    :param problem: its name.
    :param modules: what must be importable.
    :param install: what to install, in one line.
    :param forms: makes its forms, once it is known to be there.
    """

    problem: str
    modules: tuple[str, ...]
    install: str
    forms: Callable[[], list[Form]]

    def missing(self) -> str:
        """Which module is not here and what to install, one line; empty when all are."""
        for name in self.modules:
            try:
                importlib.import_module(name)
            except Exception as error:
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                return f"{name} cannot be imported ({reason}); install: {self.install}"
        return ""


def cuequivariance_forms() -> list[Form]:
    """NVIDIA's triangle update: float32 in and out with two precisions, and bfloat16 in and out."""
    update = importlib.import_module("cuequivariance_torch").triangle_multiplicative_update

    def out_gate(inputs: KernelInputs) -> torch.Tensor:
        """[C, C]: the problem's own gate where it has as many rows, drawn once for other widths."""
        gate = inputs.tensors["out_gate.weight"]
        width = gate.shape[1]
        if gate.shape[0] == width:
            return gate
        generator = torch.Generator(gate.device).manual_seed(1)
        return torch.randn((width, width), generator=generator, device=gate.device) / math.sqrt(len(gate))

    def prepare(inputs: KernelInputs, dtype: torch.dtype, precision: str | None) -> Call:
        t = {name: tensor.to(dtype) for name, tensor in inputs.tensors.items()}
        arguments = {
            "direction": "outgoing",
            "mask": t["mask"],
            "norm_in_weight": t["norm.weight"],
            "norm_in_bias": t["norm.bias"],
            "p_in_weight": torch.cat([t["left_proj.weight"], t["right_proj.weight"]]),
            "g_in_weight": torch.cat([t["left_gate.weight"], t["right_gate.weight"]]),
            "norm_out_weight": t["to_out_norm.weight"],
            "norm_out_bias": t["to_out_norm.bias"],
            "p_out_weight": t["to_out.weight"],
            "g_out_weight": out_gate(inputs).to(dtype),
            "precision": precision,
        }

        def call() -> list[torch.Tensor]:
            # it reads this switch at each call, and the reference beside it needs it off
            torch.backends.cuda.matmul.allow_tf32 = True
            try:
                with torch.inference_mode():
                    return [update(t["input"], **arguments)]
            finally:
                torch.backends.cuda.matmul.allow_tf32 = False

        return call

    def expected(inputs: KernelInputs) -> list[torch.Tensor]:
        return [_gated_last(inputs, out_gate(inputs))]

    gate = "its gate stands behind the last projection and is [C, C]: equal work at C = 128, more at 384"
    half = "bfloat16 in and out, so half of the bytes; " + gate
    return [
        Form("bfloat16 products", lambda inputs: prepare(inputs, torch.float32, "bfloat16"), gate, expected),
        Form("TF32", lambda inputs: prepare(inputs, torch.float32, None), gate, expected),
        Form("bfloat16 in, out", lambda inputs: prepare(inputs, torch.bfloat16, None), half, expected),
    ]


def _gated_last(inputs: KernelInputs, gate: torch.Tensor) -> torch.Tensor:
    """The triangle update with its gate [C, C] behind the last projection, float32 [B, N, N, C]."""
    t, linear = inputs.tensors, functional.linear
    x = t["input"]
    y = functional.layer_norm(x, x.shape[-1:], t["norm.weight"], t["norm.bias"], 1e-5)
    keep = t["mask"].unsqueeze(-1).float()
    left, right = (
        linear(y, t[f"{side}_proj.weight"]) * keep * linear(y, t[f"{side}_gate.weight"]).sigmoid()
        for side in ("left", "right")
    )
    pairs = torch.einsum("bikh,bjkh->bijh", left, right)
    pairs = functional.layer_norm(
        pairs, pairs.shape[-1:], t["to_out_norm.weight"], t["to_out_norm.bias"], 1e-5
    )
    return linear(pairs, t["to_out.weight"]) * linear(y, gate).sigmoid()


def liger_forms() -> list[Form]:
    """Liger-Kernel's RMSNorm, forward and backward, with its defaults."""
    module = importlib.import_module("liger_kernel.ops.rms_norm")

    def prepare(inputs: KernelInputs) -> Call:
        x, weight, gradient = (inputs.tensors[name] for name in ("x", "weight", "gradient"))

        def call() -> list[torch.Tensor]:
            y, rows, scale, block, warps, mode = module.rms_norm_forward(
                x, weight, EPSILON, 0.0, "llama", None
            )
            back = module.rms_norm_backward(
                gradient, rows, weight, scale, 0.0, mode, block, warps, in_place=True, row_mode=None
            )
            return [y, *back]

        return call

    return [Form("Liger", prepare, "dx is written over the gradient, as is its default")]


def torch_norm_forms() -> list[Form]:
    """PyTorch's own rms_norm under autograd, eager."""

    def prepare(inputs: KernelInputs) -> Call:
        x = inputs.tensors["x"].detach().requires_grad_()
        weight = inputs.tensors["weight"].bfloat16().requires_grad_()

        def call() -> list[torch.Tensor]:
            y = functional.rms_norm(x, weight.shape, weight, EPSILON)
            dx, dweight = torch.autograd.grad(y, (x, weight), inputs.tensors["gradient"])
            return [y.detach(), dx, dweight.float()]

        return call

    differs = "weight and its gradient in bfloat16, which its fused operation asks for"
    return [Form("torch rms_norm", prepare, differs)]


def torch_mlp_forms() -> list[Form]:
    """The layer in PyTorch, eager and compiled."""

    def layer(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        return functional.linear(functional.linear(x, up).relu().square(), down)

    def prepare(inputs: KernelInputs, compiled: bool) -> Call:
        tensors = [inputs.tensors[name] for name in ("x", "up", "down")]
        run = torch.compile(layer, dynamic=False) if compiled else layer

        def call() -> list[torch.Tensor]:
            with torch.no_grad():
                return [run(*tensors)]

        return call

    return [
        Form("eager MLP", lambda inputs: prepare(inputs, compiled=False)),
        Form("compiled MLP", lambda inputs: prepare(inputs, compiled=True)),
    ]


def peft_forms() -> list[Form]:
    """PEFT's norm for DoRA."""
    layer = importlib.import_module("peft.tuners.lora.dora").DoraLinearLayer(fan_in_fan_out=False)

    def adapter(weight: torch.Tensor) -> torch.nn.Linear:
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        linear.weight = torch.nn.Parameter(weight, requires_grad=False)
        return linear

    def prepare(inputs: KernelInputs) -> Call:
        w, a, b = (inputs.tensors[name] for name in ("w", "a", "b"))
        down, up, scale = adapter(a), adapter(b), float(inputs.tensors["scale"])

        def call() -> list[torch.Tensor]:
            with torch.no_grad():
                return [layer.get_weight_norm(w, layer.get_lora_weight(down, up), scale).float()]

        return call

    return [Form("PEFT", prepare, "norms in bfloat16, and it sends a unit matrix through both adapters")]


def flashmla_forms() -> list[Form]:
    """One layer around FlashMLA's dense decode, as vLLM ships it; projections by PyTorch."""
    flash = importlib.import_module("vllm.third_party.flashmla.flash_mla_interface")
    names: dict[str, Any] = {}
    exec(compile(MLA, "<mla>", "exec"), names)
    rotate, linear, page = names["rotate"], functional.linear, 64

    def attention(inputs: KernelInputs) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """A cache with rotated keys, and attention over it for queries [B, 1, heads, 576]."""
        cache, filled = inputs.tensors["cache"].clone(), inputs.shape["prefill"]
        positions = torch.arange(filled, device=cache.device)
        cache[:, :filled, 512:] = rotate(cache[:, :filled, 512:], positions)
        batch, longest, width = cache.shape
        table = torch.arange(batch * longest // page, device=cache.device, dtype=torch.int32)
        lengths = torch.full((batch,), filled + 1, device=cache.device, dtype=torch.int32)
        pages, table = cache.view(-1, page, 1, width), table.view(batch, -1)
        plan, _ = flash.get_mla_metadata()

        def attend(query: torch.Tensor) -> torch.Tensor:
            scale = 1 / math.sqrt(192)
            out, _ = flash.flash_mla_with_kvcache(
                query, pages, table, lengths, 512, plan, softmax_scale=scale
            )
            return out  # type: ignore[no-any-return]

        return cache, attend

    def prepare(inputs: KernelInputs) -> Call:
        t, filled = inputs.tensors, inputs.shape["prefill"]
        cache, attend = attention(inputs)
        batch, heads = len(cache), t["wo_weight"].shape[1] // 128
        up = t["KV_proj_up_weight"].view(heads, 256, 512)
        key_up, value_up = up[:, :128], up[:, 128:].transpose(1, 2)
        at = torch.full((1,), filled, device=cache.device)
        x = t["x"].view(batch, -1)

        def call() -> list[torch.Tensor]:
            new = linear(x, t["KV_proj_down_weight"])
            cache[:, filled, :512] = new[:, :512]
            cache[:, filled, 512:] = rotate(new[:, None, 512:], at)[:, 0]
            q = linear(linear(x, t["Q_proj_down_weight"]), t["Q_proj_up_weight"]).view(batch, heads, 192)
            latent = torch.bmm(q[..., :128].transpose(0, 1), key_up).transpose(0, 1)
            query = torch.cat([latent, rotate(q[..., None, 128:], at)[..., 0, :]], dim=-1)
            mixed = attend(query[:, None]).view(batch, heads, 512).transpose(0, 1)
            values = torch.bmm(mixed, value_up).transpose(0, 1).reshape(batch, 1, -1)
            return [linear(values, t["wo_weight"])]

        return call

    def prepare_attention(inputs: KernelInputs) -> Call:
        _, attend = attention(inputs)
        x, heads = inputs.tensors["x"], inputs.tensors["wo_weight"].shape[1] // 128
        query = torch.randn((len(x), 1, heads, 576), device=x.device, dtype=x.dtype)
        return lambda: [attend(query)]

    keys = "its cache holds keys that were rotated when they came, so it rotates one token"
    alone = "attention alone on random queries, without projections; not checked"
    return [
        Form("FlashMLA, layer", prepare, keys),
        Form("FlashMLA, attention", prepare_attention, alone, lambda _: []),
    ]


_CUEQUIVARIANCE = ("cuequivariance_torch", "cuequivariance_ops_torch")
_PACKAGES = "cuequivariance-torch cuequivariance-ops-torch-cu13 platformdirs opt-einsum nvidia-ml-py"
#: By the name that ``--peer`` takes.
PEERS = {
    "cuequivariance": [Peer("trimul", _CUEQUIVARIANCE, _PACKAGES, cuequivariance_forms)],
    "flashmla": [
        Peer("mla_decode", ("vllm.third_party.flashmla.flash_mla_interface",), "vllm", flashmla_forms)
    ],
    "liger": [Peer("rmsnorm", ("liger_kernel.ops.rms_norm",), "liger-kernel", liger_forms)],
    "peft": [Peer("dora_norm", ("peft.tuners.lora.dora",), "peft", peft_forms)],
    "torch": [
        Peer("rmsnorm", ("torch",), "torch", torch_norm_forms),
        Peer("relu2_mlp", ("torch",), "torch", torch_mlp_forms),
    ],
}
