"""The kernel problems as a run sees them: registration, prompts, generators, states, runs without a GPU."""

from __future__ import annotations

import importlib.metadata
import json
import random
from collections.abc import Sequence

import attrs
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ttd_core import cli
from ttd_core.config.settings import fill
from ttd_core.errors import EnvironmentLacksError, UsageError
from ttd_core.package_files import package_text
from ttd_core.types import Action, Completion, ScoredState, State, Status
from ttd_kernels import measurements
from ttd_kernels.dora_norm import DoraNorm
from ttd_kernels.harness import evaluation, gpus
from ttd_kernels.harness.kernel_io import KernelInputs, Shape, shape_label
from ttd_kernels.harness.random_tensors import seeded_generator
from ttd_kernels.mla_decode import MlaDecode
from ttd_kernels.problem import KernelProblem
from ttd_kernels.relu2_mlp import Relu2Mlp
from ttd_kernels.rmsnorm import RmsNorm
from ttd_kernels.testing import judged
from ttd_kernels.trimul import TriMul

PROBLEMS: list[type[KernelProblem]] = [TriMul, MlaDecode, RmsNorm, Relu2Mlp, DoraNorm]


@pytest.fixture(params=PROBLEMS, ids=lambda each: each.name)
def kind(request: pytest.FixtureRequest) -> type[KernelProblem]:
    return request.param


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "count", lambda: 0)


def _scored(problem: KernelProblem) -> State:
    state = problem.examples().good[0]
    code = problem.starting_program()
    return attrs.evolve(state, code=code, output=measurements.table(state.data, problem.floors_us(), code))


def test_edits_are_the_default_of_runs_that_start_from_a_program(kind) -> None:
    assert kind.options_type().reply == "program"
    problem = kind(kind.options_type(start="program"))
    assert problem.options.reply == "edits"
    state = _scored(problem)
    asked = problem.render_prompt(state, [])[0]["content"].split("## Your turn")[1]
    # The example in the prompt is an edit of the program.
    action = problem.parse_action(Completion(asked))
    assert isinstance(action, Action)
    assert action.edits
    whole = problem.complete(state, action)
    assert isinstance(whole, Action)
    assert sum(a != b for a, b in zip(state.code.split("\n"), whole.code.split("\n"), strict=True)) == 1
    assert kind(kind.options_type(start="program", reply="parts")).options.reply == "parts"


def test_each_is_registered_under_its_own_name(kind) -> None:
    (point,) = importlib.metadata.entry_points(group="ttd.problems", name=kind.name)
    assert point.load() is kind
    assert point.dist is not None
    assert point.dist.name == "ttd-kernels"


def test_the_prompt_holds_what_a_model_needs(kind) -> None:
    problem = kind()
    state = _scored(problem)
    scored = ScoredState(state, problem.reward(state))
    (message,) = problem.render_prompt(state, [scored])
    text = message["content"]
    version = importlib.metadata.version("triton")
    for part in (
        "custom_kernel(data)",
        f"Triton {version} in short",
        "tl.dot",
        state.code.strip(),
        "Tolerance",
    ):
        assert part in text
    for shape in problem.timed_shapes:
        assert text.count(shape_label(shape)) == 2, "its floor in the task, its time in the table"
    assert "geometric mean" in state.output
    assert "$" not in text


def test_beside_a_program_a_prompt_shows_no_other_whose_lines_could_be_quoted(kind) -> None:
    alone, beside = kind().task(), kind(kind.options_type(start="program")).task()
    assert "def scaled_product" in alone
    assert "@triton.jit\n" not in beside
    for text in (alone, beside):
        assert "tl.program_id" in text
        assert "Most kernels wait for memory" in text
        assert "\n\n\n\n" not in text


#: Constants of start programs, each with another value that is as right.
CONSTANTS = {
    RmsNorm: {
        "ROWS = 1": "ROWS = 3",
        "SUM_ROWS = 16": "SUM_ROWS = 4",
        "SUM_COLUMNS = 32": "SUM_COLUMNS = 64",
    },
    TriMul: {
        "TILE = 32": "TILE = 64",
        "DEPTH = 32": "DEPTH = 16",
        "TYPE = torch.float32": "TYPE = torch.bfloat16",
    },
}


@pytest.mark.parametrize("learnt", [RmsNorm, pytest.param(TriMul, marks=pytest.mark.slow)])
def test_a_start_program_is_right_whatever_its_constants(learnt: type[KernelProblem], executor) -> None:
    problem = learnt(fill(learnt.options_type, {"start": "program", "devices": "cpu"}))
    source = problem.starting_program()
    for line, other in CONSTANTS[learnt].items():
        assert source.count(f"\n{line}\n") == 1, "one short line for an edit to quote"
        source = source.replace(f"\n{line}\n", f"\n{other}\n")
    verdict = judged(problem, source, executor.run)
    assert verdict.message.startswith("correct at 2 of 2"), verdict.message


@pytest.mark.parametrize(
    ("learnt", "old", "new"), [(RmsNorm, "WARPS = 4", "WARPS = 8"), (TriMul, "TILE = 32", "TILE = 64")]
)
def test_a_prompt_s_edit_is_of_a_constant(learnt: type[KernelProblem], old: str, new: str) -> None:
    problem = learnt(learnt.options_type(start="program"))
    (message,) = problem.render_prompt(_scored(problem), [])
    example = message["content"].rpartition("<<<<<<< SEARCH\n")[2]
    assert example.startswith(f"{old}\n=======\n{new}\n")


def test_the_primer_s_kernel_is_right(executor) -> None:
    """The example that every prompt shows, as a candidate for the one product it computes."""
    primer = DoraNorm().task().partition("```python\n")[2].partition("```")[0]
    source = primer + (
        "def custom_kernel(data):\n"
        "    w, a, b, scale = data\n"
        "    whole = w.float() + scale * call(b, a, 1.0)\n"
        "    return whole.square().sum(1).sqrt()\n"
    )
    problem = DoraNorm(fill(DoraNorm.options_type, {"devices": "cpu"}))
    verdict = judged(problem, source, executor.run)
    assert verdict.message.startswith("correct at 2 of 2"), verdict.message


@pytest.mark.slow
def test_our_kernels_are_right_on_the_interpreter(kind, executor) -> None:
    problem = kind(fill(kind.options_type, {"devices": "cpu"}))
    verdict = judged(problem, package_text("ttd_kernels", "programs", f"{kind.name}.py"), executor.run)
    assert verdict.message.startswith("correct at 2 of 2"), verdict.message


class _OddRmsNorm(RmsNorm):
    """One row, more rows than programs, and widths with and without a remainder."""

    def small_shapes(self, rng: random.Random) -> Sequence[Shape]:
        """See the class."""
        return [{"T": 1, "D": 33}, {"T": 37, "D": 100}, {"T": 19, "D": 2304}]


class _OddRelu2Mlp(Relu2Mlp):
    """Several tiles with a remainder, more than programs, and widths that bulk copies do not take."""

    def small_shapes(self, rng: random.Random) -> Sequence[Shape]:
        """See the class."""
        return [{"T": 130, "D": 72, "F": 264}, {"T": 5, "D": 30, "F": 64}, {"T": 9, "D": 32, "F": 50}]


class _RoundedRelu2Mlp(Relu2Mlp):
    """Sums of 257 and 256 in turn, which bfloat16 makes equal: squares must come before rounding."""

    def small_shapes(self, rng: random.Random) -> Sequence[Shape]:
        """With bulk copies and without."""
        return [{"T": 130, "D": 264, "F": 272}, {"T": 9, "D": 257, "F": 50}]

    def draw_inputs(self, shape: Shape, generator: torch.Generator) -> KernelInputs:
        """See the class; the last product takes the ones from the others."""
        inputs = super().draw_inputs(shape, generator)
        inputs.tensors["x"].fill_(1.0)
        inputs.tensors["up"].fill_(1.0)[:, 257:] = 0.0
        inputs.tensors["up"][1::2, 256] = 0.0
        inputs.tensors["down"].fill_(1.0)[:, 1::2] = -1.0
        return inputs


class _OddDoraNorm(DoraNorm):
    """Rank 1, a rank above the highest, columns that are split with a remainder, and without one."""

    def small_shapes(self, rng: random.Random) -> Sequence[Shape]:
        """See the class."""
        sizes = (130, 131, 1), (33, 700, 65), (64, 1024, 16), (20, 70, 300)
        return [dict(zip("MNr", each, strict=True)) for each in sizes]


@pytest.mark.slow
@pytest.mark.parametrize("odd", [_OddRmsNorm, _OddRelu2Mlp, _RoundedRelu2Mlp, _OddDoraNorm])
def test_our_kernels_take_sizes_that_no_block_divides(odd, executor) -> None:
    problem = odd(fill(odd.options_type, {"devices": "cpu", "triton": "refuse"}))
    verdict = judged(problem, package_text("ttd_kernels", "programs", f"{odd.name}.py"), executor.run)
    count = len(problem.small_shapes(random.Random(0)))
    assert verdict.message.startswith(f"correct at {count} of {count}"), verdict.message


def test_options_reach_the_prompt() -> None:
    strict = TriMul(fill(TriMul.options_type, {"triton": "refuse", "generalise": "refuse"}))
    assert "must launch a Triton kernel" in strict.task()
    assert "every valid shape" in strict.task()
    assert "must launch a Triton kernel" not in TriMul().task()


def test_inputs_are_fresh_and_repeat_with_their_seed(kind) -> None:
    problem = kind()
    shape = problem.small_shapes(random.Random(0))[0]
    one, two, other = (problem.draw_inputs(shape, seeded_generator(seed, "cpu")) for seed in (1, 1, 2))
    assert one.tensors.keys() == two.tensors.keys()
    assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)
    assert not all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def test_expected_outputs_are_what_specs_say_and_leave_inputs_alone(kind) -> None:
    problem = kind()
    for shape in problem.small_shapes(random.Random(4)):
        inputs = problem.draw_inputs(shape, seeded_generator(7, "cpu"))
        before = {name: tensor.clone() for name, tensor in inputs.tensors.items()}
        outputs = problem.expected_outputs(inputs)
        wanted = [(spec.shape, spec.dtype) for spec in problem.output_specs(shape)]
        assert [(tuple(output.shape), output.dtype) for output in outputs] == wanted
        assert all(torch.isfinite(output).all() for output in outputs)
        assert all(torch.equal(before[name], tensor) for name, tensor in inputs.tensors.items())


def test_shapes_are_drawn_anew_and_hidden_ones_are_not_timed(kind) -> None:
    problem, rng = kind(), random.Random(0)
    tests, hidden = problem.test_shapes(rng, 18), problem.hidden_shapes(rng, 6)
    assert 4 <= len(tests) <= 18
    assert len(hidden) == 6
    named = {shape_label(shape) for shape in (*tests, *problem.timed_shapes)}
    assert len({shape_label(shape) for shape in hidden} - named) >= 5
    if kind is not MlaDecode:
        assert problem.test_shapes(random.Random(1), 18) != problem.test_shapes(random.Random(2), 18)
    assert all(problem.floor_us(shape) > 0 for shape in (*tests, *hidden))


def test_trimul_tests_all_masks_with_all_distributions_and_heavy_tails() -> None:
    tests = TriMul().test_shapes(random.Random(0), 18)
    kinds = {(shape["mask"], shape["x"]) for shape in tests}
    assert len(kinds) == 4
    drawn = TriMul().draw_inputs(tests[2] | {"N": 32, "x": "cauchy"}, seeded_generator(1, "cpu"))
    cauchy = drawn.tensors["input"]
    assert float(cauchy.abs().median()) == pytest.approx(2.0, rel=0.1), "the scale of the distribution"
    assert float(cauchy.abs().max()) > 1000
    drawn = TriMul().draw_inputs(tests[1] | {"N": 32, "mask": "random"}, seeded_generator(1, "cpu"))
    mask = drawn.tensors["mask"]
    assert mask.dtype is torch.int64
    assert set(mask.unique().tolist()) == {0, 1}


def test_the_cheapest_shapes_are_tested_first_and_timed_ones_have_their_floors(kind) -> None:
    problem = kind()
    plan = problem.plan("cuda:0")
    floors = [problem.floor_us(shape) for shape in plan.test_shapes]
    assert floors == sorted(floors)
    assert list(plan.floors_us) == list(problem.floors_us().values())
    assert plan.timed_shapes == problem.timed_shapes
    assert type(plan).from_json(json.loads(json.dumps(attrs.asdict(plan)))).floors_us == plan.floors_us


class Endless:
    """Calls of a kernel that takes ten seconds at each shape."""

    def __init__(self, clock: list[float]) -> None:
        self.clock, self.made = clock, 0

    def call(self, _shape) -> None:
        self.clock[0] += 10.0
        self.made += 1


@pytest.mark.parametrize(("generalise", "tried"), [("report", 2), ("refuse", 6)])
def test_hidden_shapes_that_are_only_reported_are_tried_for_a_while(generalise, tried, monkeypatch) -> None:
    clock = [50.0]
    monkeypatch.setattr(evaluation.time, "monotonic", lambda: clock[0])
    plan = TriMul(fill(TriMul.options_type, {"generalise": generalise})).plan("cuda:0")
    judge = object.__new__(evaluation.Evaluation)
    judge._plan, judge._calls = plan, Endless(clock)
    assert judge._try_hidden_shapes() == (tried, [])
    assert judge._calls.made == tried


def test_what_there_was_no_time_for_is_said() -> None:
    state = TriMul().examples().good[0]
    data = {**state.data, "hidden": 2, "untried": 4}
    assert TriMul().check(State(data=data)) == []
    table = measurements.table(data, TriMul().floors_us(), "")
    assert "generalises: 2 of 2 shapes nobody named; for 4 more no time was left" in table
    assert "no time was left" not in measurements.table(state.data, TriMul().floors_us(), "")
    assert TriMul().check(State(data={**data, "untried": -1})) == ["untried is no count"]


def test_a_state_that_does_not_generalise_is_reported_or_refused() -> None:
    state = TriMul().examples().good[0]
    narrow = State(code="x", data={**state.data, "failed": ["N=200: the output is wrong"]})
    assert TriMul().check(narrow) == []
    assert TriMul().reward(narrow).metrics["generalises"] == "5 of 6"
    strict = TriMul(fill(TriMul.options_type, {"generalise": "refuse"}))
    assert strict.check(narrow) == ["it does not generalise: N=200: the output is wrong"]
    assert strict.check(state) == []


def test_the_metrics_tell_the_share_of_the_floor() -> None:
    problem = MlaDecode()
    floors = np.array([problem.floor_us(shape) for shape in problem.timed_shapes])
    data = {**problem.examples().good[0].data, "times_us": 2 * floors}
    reward = problem.reward(State(data=data))
    assert reward.metrics["speed_of_light"] == pytest.approx(0.5)
    assert reward.value == pytest.approx(1000 / reward.score)


def test_states_of_before_seconds_were_counted_stay_valid() -> None:
    state = TriMul().examples().good[0]
    assert "seconds" not in TriMul().reward(state).metrics
    counted = State(code="x", data={**state.data, "seconds": {"tests": {"calls": 1.5}}})
    assert TriMul().check(counted) == []
    assert TriMul().reward(counted).metrics["seconds"] == {"tests": {"calls": 1.5}}
    wrong = State(code="x", data={**state.data, "seconds": "long"})
    assert TriMul().check(wrong) == ["seconds is no table of stages and parts"]


def test_kernel_s_times_are_never_read_from_a_file(tmp_path) -> None:
    path = tmp_path / "times.json"
    path.write_text("[1, 2, 3]")
    with pytest.raises(UsageError, match="measured by the judge"):
        TriMul().read_construction(path)


@pytest.mark.usefixtures("no_gpu")
def test_a_run_without_a_gpu_says_so_in_one_line(kind, tmp_path) -> None:
    with pytest.raises(EnvironmentLacksError, match="no GPU was found here"):
        kind().require_machine()
    arguments = ["run", kind.name, "--policy", "scripted", "--runs-dir", str(tmp_path), "--name", "x"]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 3, result.output
    assert "no GPU was found here" in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.usefixtures("no_gpu")
def test_eval_without_a_gpu_reports_correctness_and_no_score(tmp_path) -> None:
    path = tmp_path / "kernel.py"
    path.write_text(RmsNorm().starting_program())
    result = CliRunner().invoke(cli.main, ["eval", "rmsnorm", str(path), "--json"])
    assert result.exit_code == 3, result.output
    assert "correct at 2 of 2 small shapes" in result.output
    assert '"score": null' in result.output


@pytest.mark.usefixtures("no_gpu")
def test_devices_are_chosen_by_option(monkeypatch) -> None:
    assert gpus.chosen("auto") == ["cpu"]
    with pytest.raises(UsageError, match="no GPU '0' here"):
        gpus.chosen("0")
    monkeypatch.setattr(gpus, "count", lambda: 4)
    assert gpus.chosen("auto") == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    assert gpus.chosen("2, 0,2") == ["cuda:2", "cuda:0"]
    assert gpus.chosen("cpu") == ["cpu"]
    with pytest.raises(UsageError, match="no GPU '4' here"):
        gpus.chosen("0,4")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("flag", [["-o", "devices=1"], ["--devices", "1"], ["-o", "devices=1,0"]])
def test_one_device_needs_no_quotes(flag: list[str], tmp_path) -> None:
    path = tmp_path / "kernel.py"
    path.write_text(RmsNorm().starting_program())
    result = CliRunner().invoke(cli.main, ["eval", "rmsnorm", str(path), *flag])
    assert result.exit_code == 2, result.output
    assert "there is no GPU '1' here" in result.output


def test_a_failure_of_the_sandbox_is_ours() -> None:
    from ttd_core.sandbox.base import JobResult
    from ttd_core.types import Action

    problem = TriMul(fill(TriMul.options_type, {"devices": "cpu"}))
    result = JobResult(Status.INFRASTRUCTURE, "the fork server is gone")
    verdict = problem.transition(State(), Action("x = 1\n"), lambda _job: result)
    assert verdict.status is Status.INFRASTRUCTURE
    assert verdict.message == "the fork server is gone"
