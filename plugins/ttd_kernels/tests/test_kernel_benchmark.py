"""The comparison with named peers: what they are called with, how they are checked, what is said without one.

Libraries that are not installed here are stood in for by modules with their interface, as their documentation
states it; the clock needs a GPU.
"""

from __future__ import annotations

import io
import json
import pathlib
import random
import re
import sys
import time
import types
from typing import Any

import pytest
import torch
from rich.console import Console

from ttd_kernels.harness.kernel_io import KernelInputs, OutputSpec, shape_label
from ttd_kernels.harness.random_tensors import seeded_generator
from ttd_kernels.mla_decode import MlaDecode
from ttd_kernels.problem import KernelProblem
from ttd_kernels.relu2_mlp import Relu2Mlp
from ttd_kernels.rmsnorm import RmsNorm
from ttd_kernels.trimul import TriMul, shape

FOLDER = pathlib.Path(__file__).parents[3] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("benchmarks are in the repository only", allow_module_level=True)
pytestmark = pytest.mark.usefixtures("benchmark")


def _errors(problem: KernelProblem, forms: list[Any], where: Any) -> list[float]:
    from kernel_comparison import largest_error

    errors = []
    for form in forms:
        inputs = problem.draw_inputs(where, seeded_generator(3, "cpu"))
        expected = (form.expected or problem.expected_outputs)(inputs)
        errors.append(largest_error(form.prepare(inputs)(), expected, problem.output_specs(where)))
    return errors


def test_all_names_every_problem_once() -> None:
    from kernels import PROBLEMS, chosen

    assert chosen(["all", "trimul"], PROBLEMS) == [
        "trimul",
        "mla_decode",
        "rmsnorm",
        "relu2_mlp",
        "dora_norm",
    ]
    assert chosen(["rmsnorm", "trimul"], PROBLEMS) == ["trimul", "rmsnorm"]
    assert chosen([], PROBLEMS) == []


def test_every_problem_has_programs_of_torch_that_compile() -> None:
    from kernel_programs import COMPILED, EAGER
    from kernels import PROBLEMS

    assert EAGER.keys() == COMPILED.keys() == PROBLEMS.keys()
    for name in ("rmsnorm", "relu2_mlp", "dora_norm"):
        problem, names = PROBLEMS[name](), {}
        where = problem.small_shapes(random.Random(1))[0]
        inputs = problem.draw_inputs(where, seeded_generator(5, "cpu"))
        exec(compile(EAGER[name], name, "exec"), names)
        from kernel_comparison import largest_error

        data = tuple(inputs.tensors[each["$tensor"]] for each in inputs.argument["$tuple"])
        returned = names["custom_kernel"](data)
        outputs = returned if isinstance(returned, tuple) else (returned,)
        assert largest_error(outputs, problem.expected_outputs(inputs), problem.output_specs(where)) < 1.0


def test_errors_are_shares_of_what_is_tolerated() -> None:
    from kernel_comparison import largest_error

    spec = OutputSpec((2,), torch.float32, rtol=0.1, atol=1.0)
    right = torch.tensor([10.0, 0.0])
    assert largest_error([right + 1.0], [right], [spec]) == pytest.approx(1.0)
    assert largest_error([right + torch.tensor([1.0, 0.0])], [right], [spec]) == pytest.approx(0.5)
    assert largest_error([right * float("nan")], [right], [spec]) == float("inf")
    assert largest_error([right[:1]], [right], [spec]) == float("inf")
    assert largest_error([right], [], [spec]) == 0.0


def test_a_peer_that_is_not_here_is_one_line_with_what_to_install(monkeypatch) -> None:
    from kernel_comparison import forms_of

    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    forms, missing = forms_of("rmsnorm", ["liger", "torch", "peft"])
    assert [form.label for form in forms] == ["torch rms_norm"]
    (line,) = missing
    assert line.startswith("liger: liger_kernel.ops.rms_norm cannot be imported (")
    assert line.endswith("install: liger-kernel")
    assert "\n" not in line


def test_torch_s_own_are_right() -> None:
    from kernel_peers import torch_mlp_forms, torch_norm_forms

    assert max(_errors(RmsNorm(), torch_norm_forms(), {"T": 40, "D": 128})) < 1.0
    eager, _ = torch_mlp_forms()
    assert max(_errors(Relu2Mlp(), [eager], {"T": 30, "D": 40, "F": 72})) < 1.0


def _dense_decode(q, pages, table, lengths, width, plan, softmax_scale):
    """FlashMLA's dense decode as it is documented: queries [B, 1, heads, 576] over pages of 64 tokens."""
    assert plan == "a plan"
    outputs = []
    for query, places, length in zip(q, table, lengths, strict=True):
        keys = pages[places].reshape(-1, pages.shape[-1])[:length].float()
        shares = torch.softmax(query[0].float() @ keys.T * softmax_scale, dim=-1)
        outputs.append((shares @ keys[:, :width])[None])
    return torch.stack(outputs).to(q.dtype), None


def test_the_layer_around_flashmla_is_the_problem_s(monkeypatch) -> None:
    from kernel_peers import flashmla_forms

    module = types.ModuleType("flash_mla_interface")
    module.get_mla_metadata = lambda: ("a plan", None)  # type: ignore[attr-defined]
    module.flash_mla_with_kvcache = _dense_decode  # type: ignore[attr-defined]
    for name in ("vllm", "vllm.third_party", "vllm.third_party.flashmla"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "vllm.third_party.flashmla.flash_mla_interface", module)
    problem = MlaDecode()
    where = {**problem.small_shapes(random.Random(1))[1], "B": 2}
    layer, attention = flashmla_forms()
    assert max(_errors(problem, [layer], where)) < 1.0
    assert _errors(problem, [attention], where) == [0.0]


def _triangle(
    x, *, direction, mask, precision, p_in_weight, g_in_weight, p_out_weight, g_out_weight, **norms
):
    """cuEquivariance's update as it is documented, in float32."""
    assert direction == "outgoing"
    width = p_in_weight.shape[0] // 2
    t = {name: tensor.float() for name, tensor in norms.items()}
    y = torch.nn.functional.layer_norm(x.float(), x.shape[-1:], t["norm_in_weight"], t["norm_in_bias"])
    both = (y @ p_in_weight.float().T) * (y @ g_in_weight.float().T).sigmoid() * mask.float()[..., None]
    pairs = torch.einsum("bikh,bjkh->bijh", both[..., :width], both[..., width:])
    pairs = torch.nn.functional.layer_norm(pairs, (width,), t["norm_out_weight"], t["norm_out_bias"])
    return ((pairs @ p_out_weight.float().T) * (y @ g_out_weight.float().T).sigmoid()).to(x.dtype)


@pytest.mark.parametrize("channels", [128, 96])
def test_cuequivariance_gets_the_problem_s_weights_and_mask(channels: int, monkeypatch) -> None:
    from kernel_peers import cuequivariance_forms

    module = types.ModuleType("cuequivariance_torch")
    module.triangle_multiplicative_update = _triangle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuequivariance_torch", module)
    before = torch.backends.cuda.matmul.allow_tf32
    forms = cuequivariance_forms()
    errors = _errors(TriMul(), forms[:2], shape(9, 2, channels, "random", "normal"))
    assert max(errors) < 0.05
    assert torch.backends.cuda.matmul.allow_tf32 == before
    assert [form.label for form in forms] == ["bfloat16 products", "TF32", "bfloat16 in, out"]
    assert all("gate" in form.differs for form in forms)


def test_the_table_says_what_differs_what_failed_and_what_is_not_here() -> None:
    from kernel_comparison import table_of
    from kernel_peers import Form

    problem = RmsNorm()
    labels = [shape_label(each) for each in problem.timed_shapes]
    good = {label: {"us": 100.0, "queued_ahead": True, "error": 0.25} for label in labels}
    waited = {label: {"us": 50.0, "queued_ahead": False, "error": None} for label in labels}
    failed = good | {labels[0]: {"failed": "OutOfMemoryError: too large"}}
    forms = [
        Form("ours", lambda _: list),
        Form("one", lambda _: list, "half of the work"),
        Form("two", lambda _: list),
    ]
    measured = {"forms": {"ours": good, "one": waited, "two": failed}, "missing": ["three: not here"]}
    written = io.StringIO()
    Console(width=150, file=written).print(table_of(problem, forms, measured))
    text = written.getvalue()
    assert "50.0*" in text
    assert "0.25" in text
    for line in (
        "one: half of the work.",
        "two failed: OutOfMemoryError: too large",
        "three: not here",
        "* the",
    ):
        assert line in text
    mean = next(line for line in text.splitlines() if "geometric mean" in line)
    assert [cell.strip() for cell in re.split("[│┃]", mean)][3:-1] == ["100.0", "50.0", "-"]


class _HostClock:
    """Seconds of the host, for what runs on it."""

    device = "cpu"

    def time(self, calls):
        """The time of one call of each, in turn."""
        from kernel_clock import GpuTime

        began = time.perf_counter()
        for call in calls:
            call()
        return GpuTime(1e6 * (time.perf_counter() - began) / len(calls), queued_ahead=True)


class _SmallRmsNorm(RmsNorm):
    """Two small shapes."""

    timed_shapes = ({"T": 24, "D": 64}, {"T": 8, "D": 96})


def test_each_form_is_drawn_for_checked_and_timed_at_every_shape(monkeypatch, capsys) -> None:
    import kernel_comparison
    from kernel_peers import PEERS, Form, Peer

    def torch_as_ours(problem: KernelProblem) -> Form:
        return Form("ours", lambda inputs: lambda: problem.expected_outputs(inputs))

    def careless(inputs: KernelInputs):
        x, weight, gradient = (inputs.tensors[name] for name in ("x", "weight", "gradient"))
        if x.shape[1] == 96:
            raise RuntimeError("widths of\nmany kinds")
        return lambda: [x, gradient, weight]

    monkeypatch.setattr(kernel_comparison, "our_form", torch_as_ours)
    monkeypatch.setitem(
        PEERS, "careless", [Peer("rmsnorm", ("torch",), "", lambda: [Form("careless", careless)])]
    )
    table, measured = kernel_comparison.compare(_SmallRmsNorm(), ["torch", "careless"], _HostClock())
    forms = measured["forms"]
    assert list(forms) == ["ours", "torch rms_norm", "careless"]
    labels = [shape_label(each) for each in _SmallRmsNorm.timed_shapes]
    assert all(list(each) == labels for each in forms.values())
    assert all(forms["ours"][label]["error"] == 0.0 for label in labels)
    assert all(0.0 < forms["torch rms_norm"][label]["error"] < 1.0 for label in labels)
    assert all(forms["torch rms_norm"][label]["us"] > 0.0 for label in labels)
    assert forms["careless"][labels[0]]["error"] > 1.0
    assert forms["careless"][labels[1]] == {"failed": "RuntimeError: widths of many kinds"}
    lines = capsys.readouterr().out.splitlines()
    assert len([json.loads(line) for line in lines]) == 6, "each as soon as it is measured"
    assert len(table.rows) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_clock_sees_the_gpu_s_time_and_not_the_host_s() -> None:
    from kernel_clock import GpuClock

    cycles = 1_000_000
    sleep = [lambda: torch.cuda._sleep(cycles), lambda: torch.cuda._sleep(cycles)]
    took = GpuClock(5).time(sleep)  # type: ignore[arg-type]
    assert took.queued_ahead
    assert 400 < took.us < 1200
