"""The model of a run's steps (benchmarks/scale.py) against closed forms, and against a real run."""

import importlib
import math
import re
import sys

import numpy as np
import pytest

from ttd_core import config as configs
from ttd_core.run.loop import start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup

STEPS, GROUPS, SIZE = 5, 2, 10
COUNT = GROUPS * SIZE
#: Every reply takes 100 steps of a tenth of a second.
SAMPLING = 10.0
LEARNING = 4.0
#: Steps of a run of this machine.
RUN_STEPS = 3


@pytest.fixture(scope="module")
def scale(request):
    """What the scripts define, by name."""
    folder = str(request.config.rootpath / "benchmarks")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        modules = [importlib.import_module(name) for name in ("scale_model", "scale")]
        yield {name: value for module in modules for name, value in vars(module).items()}
        for module in modules:
            patch.delitem(sys.modules, module.__name__)


@pytest.fixture
def work(scale):
    """Builds the work of a run whose programs take what is said, ``slots`` at once."""

    def build(seconds, slots, early=None, **changed):
        durations = [float(seconds)] * COUNT if isinstance(seconds, int | float) else list(seconds)
        failing = [False] * COUNT if early is None else early
        return scale["Work"](
            **{
                "steps": STEPS,
                "groups": GROUPS,
                "size": SIZE,
                "sampler": scale["Sampler"](0.1),
                "lengths": lambda step: [100] * COUNT,
                "seconds": lambda step: (durations, failing),
                "slots": slots,
                "learn_rate": 100 * COUNT / LEARNING,
                **changed,
            }
        )

    return build


@pytest.fixture
def run(scale):
    """Runs some work under a schedule, named as the script's tables name it, or with its own numbers."""

    def simulate(work, name="sync", **numbers):
        schedule = scale["Schedule"](**numbers) if numbers else scale["Schedule"].named(name)
        return scale["simulate"](work, schedule)

    return simulate


# -- steps one after the other ----------------------------------------------------------------------


def test_one_core_runs_every_program_of_every_step(work, run):
    result = run(work(3.0, 1))
    assert result.seconds == pytest.approx(STEPS * (SAMPLING + COUNT * 3.0 + LEARNING))
    assert result.slots_busy == pytest.approx(STEPS * COUNT * 3.0)
    assert result.gpu_busy == pytest.approx(STEPS * (SAMPLING + LEARNING))
    assert result.gpu_idle() == pytest.approx(1 - (SAMPLING + LEARNING) / (SAMPLING + 60 + LEARNING))


def test_cores_without_end_leave_the_longest_program(work, run):
    result = run(work([2.0] * (COUNT - 1) + [50.0], COUNT))
    assert result.seconds == pytest.approx(STEPS * (SAMPLING + 50.0 + LEARNING))
    assert result.slots_idle(COUNT) == pytest.approx(
        1 - STEPS * (2 * (COUNT - 1) + 50) / (result.seconds * COUNT)
    )


@pytest.mark.parametrize("slots", [1, 3, 7, 20])
def test_equal_programs_run_in_waves(work, run, slots):
    waves = math.ceil(COUNT / slots)
    assert run(work(6.0, slots)).seconds == pytest.approx(STEPS * (SAMPLING + waves * 6.0 + LEARNING))


def test_a_sandbox_and_the_step_s_end_are_paid_for(work, run):
    result = run(work(3.0, 1, job_s=0.5, step_s=2.0))
    assert result.seconds == pytest.approx(STEPS * (SAMPLING + COUNT * 3.5 + LEARNING + 2.0))


def test_programs_start_as_soon_as_their_reply_is_complete(work, run):
    # Replies end a second after one another, and one program is done before the next begins.
    lengths = [10 * (index + 1) for index in range(COUNT)]
    result = run(work(0.5, 1, lengths=lambda step: lengths, learn_rate=math.inf))
    assert result.seconds == pytest.approx(STEPS * (COUNT + 0.5))


# -- the next step sampled meanwhile ----------------------------------------------------------------


def test_pipelined_steps_hide_programs_that_fit_beside_the_gpu_s_work(work, run):
    programs = 8.0
    result = run(work(programs, COUNT), "pipelined")
    # The last step's programs have only the learning of the step before beside them.
    assert result.seconds == pytest.approx(STEPS * (SAMPLING + LEARNING) + programs - LEARNING)


def test_pipelined_steps_keep_one_core_busy_from_the_first_reply_on(work, run):
    result = run(work(3.0, 1), "pipelined")
    assert result.seconds == pytest.approx(SAMPLING + STEPS * COUNT * 3.0 + LEARNING)


@pytest.mark.parametrize("slots", [1, 4, 20])
@pytest.mark.parametrize("seconds", [0.5, 3.0, 40.0])
def test_pipelined_is_never_slower_and_never_quicker_than_either_device(work, run, slots, seconds):
    one = work(seconds, slots)
    sync, overlapped = run(one), run(one, "pipelined")
    assert overlapped.seconds <= sync.seconds
    assert overlapped.seconds >= max(overlapped.gpu_busy, overlapped.slots_busy / slots)
    assert (overlapped.gpu_busy, overlapped.slots_busy) == pytest.approx((sync.gpu_busy, sync.slots_busy))


# -- short runs first, and a deadline ---------------------------------------------------------------


def test_a_cascade_costs_its_first_parts_and_the_best_quarter(work, run):
    result = run(work(10.0, 1), first=0.1, keep=0.25, beats=0.0)
    going_on = GROUPS * math.ceil(0.25 * SIZE)
    assert result.slots_busy == pytest.approx(STEPS * (COUNT * 1.0 + going_on * 10.0))
    assert result.seconds == pytest.approx(STEPS * (SAMPLING + COUNT * 1.0 + going_on * 10.0 + LEARNING))


def test_of_a_cascade_with_cores_without_end_a_step_takes_both_parts(work, run):
    result = run(work(10.0, COUNT), first=0.1, keep=0.25, beats=0.0)
    assert result.seconds == pytest.approx(STEPS * (SAMPLING + 1.0 + 10.0 + LEARNING))


def test_a_program_that_fails_early_costs_a_cascade_no_second_part(work, run):
    early = [index % SIZE != 0 for index in range(COUNT)]  # one of each group does not
    seconds = [0.25 if fails else 10.0 for fails in early]
    result = run(work(seconds, 1, early), first=0.1, keep=0.25, beats=0.0)
    assert result.slots_busy == pytest.approx(STEPS * (GROUPS * 9 * 0.25 + GROUPS * (1.0 + 10.0)))


def test_a_deadline_leaves_the_slow_ones_to_a_later_step(work, run):
    seconds = [1.0] * (COUNT - 2) + [12.0] * 2
    result = run(work(seconds, COUNT), deadline=0.9)
    # The last step waits for all of its own. What is learned is the same in all, sooner or later.
    assert result.seconds == pytest.approx(
        (STEPS - 1) * (SAMPLING + 1.0) + SAMPLING + 12.0 + STEPS * LEARNING
    )
    assert result.late == 2 * (STEPS - 1)
    assert result.gpu_busy == pytest.approx(STEPS * (SAMPLING + LEARNING))


def test_a_schedule_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match="a schedule is sync or pipelined"):
        scale["Schedule"].named("pipelined+sooner")


# -- sampling ---------------------------------------------------------------------------------------


def test_a_step_of_sampling_costs_its_weights_rows_and_keys(scale):
    sampler = scale["Sampler"](step_s=0.01, row_s=0.001, token_s=1e-6)
    ends = sampler.ends([320] * 4)
    # Keys of 4 rows, on average 160 tokens of each.
    assert ends == pytest.approx([320 * (0.01 + 4 * 0.001 + 4 * 160 * 1e-6)] * 4)


def test_where_the_device_is_full_replies_wait(scale):
    lengths = [320] * 8
    whole = scale["Sampler"](0.01).ends(lengths).max()
    halved = scale["Sampler"](0.01, room=4 * 320).ends(lengths).max()
    assert whole == pytest.approx(3.2)
    # All eight reach half their length; then four of them go on to their end, and the other four after that.
    assert halved == pytest.approx(1.5 * whole)
    assert scale["Sampler"](0.01, rows=4).ends(lengths).max() == pytest.approx(2 * whole)


def test_the_measured_rates_come_back(scale):
    model = scale["MODELS"]["8b"]()
    for rows, rate in ((64, 9977), (512, 28_419)):
        seconds = model.sampler.step_s + rows * model.sampler.row_s
        assert rows / seconds == pytest.approx(rate, rel=0.01)


# -- a run of this machine --------------------------------------------------------------------------


def scripted_run(folder, slots, naps):
    """Make a run whose programs sleep; the seconds of each step's programs, and of all steps' rollouts."""
    program = "import time\n\n\ndef run(seed, budget_s, **kwargs):\n    time.sleep({})\n    return [0.5] * 40"
    wanted = {
        "steps": RUN_STEPS,
        "groups": 2,
        "group_size": len(naps) // 2,
        "policy.backend": "scripted",
        "policy.options.replies": [f"```python\n{program.format(nap)}\n```" for nap in naps],
        "sandbox.workers": slots,
        "options.timeout_s": 20,
        "options.start": "program",
    }
    start_run(RunSetup.from_config(configs.load("erdos", overrides=wanted)), folder)
    with RunReader.open(folder) as reader:
        steps = range(1, RUN_STEPS + 1)
        seconds = [[each.seconds for each in reader.rollouts(step)] for step in steps]
        took = sum(metrics["seconds/rollouts"] for metrics in reader.metrics().values())
    assert all(len(of_step) == len(naps) for of_step in seconds)
    return seconds, took


@pytest.mark.slow
def test_a_run_whose_programs_sleep_takes_what_the_model_says(scale, run, tmp_path):
    slots = 2
    naps = np.random.default_rng(5).uniform(0.3, 1.5, 16).round(3).tolist()
    # Measured rates in: what a program costs beyond its own time, its sandbox and the driver, in a run whose
    # programs end at once.
    at_once, took = scripted_run(tmp_path / "at-once", slots, [0.0] * 16)
    beyond = (took * slots - sum(map(sum, at_once))) / (RUN_STEPS * 16)
    seconds, took = scripted_run(tmp_path / "asleep", slots, naps)
    assert sum(map(sum, seconds)) > RUN_STEPS * sum(naps)
    modelled = run(
        scale["Work"](
            steps=RUN_STEPS,
            groups=2,
            size=8,
            sampler=scale["Sampler"](0.0),
            lengths=lambda step: [1] * 16,
            seconds=lambda step: (seconds[step - 1], [False] * 16),
            slots=slots,
            job_s=beyond,
        )
    )
    print(f"{slots} at once: the run took {took:.2f} s, the model says {modelled.seconds:.2f} s")
    assert took == pytest.approx(modelled.seconds, rel=0.05)


def test_the_table_is_printed(scale, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scale.py", "--steps", "2", "--size", "4", "--cores", "8", "64"])
    scale["main"]()
    printed = capsys.readouterr().out
    assert "gpt-oss-120b: ASSUMED" in printed
    assert printed.count("pipelined+cascade+deadline") == 4
    assert "without the cores" in printed


@pytest.mark.slow
def test_the_page_has_the_table_that_its_command_prints(scale, capsys, monkeypatch, request):
    page = (request.config.rootpath / "docs" / "scale.md").read_text()
    command = re.search(r"`python benchmarks/(scale\.py --model 8b [^`]+)`", page)
    assert command is not None
    monkeypatch.setattr(sys, "argv", command[1].split())
    scale["main"]()
    assert capsys.readouterr().out in page
