"""`ttd math polish`: objectives against the verifiers, both optimisers, whole searches, what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from ttd_core import certifying
from ttd_core.errors import EnvironmentLacksError, StorageError, UsageError
from ttd_core.plugin.registry import load
from ttd_math.autocorrelation import first_bound, second_bound
from ttd_math.commands import STEP_FUNCTIONS
from ttd_math.commands import math as command
from ttd_math.erdos import overlap_bound, random_start

torch = pytest.importorskip("torch")
from ttd_math import combs, improving  # noqa: E402
from ttd_math.polishing import ascent, changes, checkpoint, objectives, running  # noqa: E402
from ttd_math.polishing.population import Plan, Search  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

BOUNDS = {"ac1": first_bound, "ac2": second_bound, "erdos": overlap_bound}
FEW = ("--iterations", "3", "--batch", "3", "--keep", "3", "--rounds", "2", "--explore", "5")


def heights(name: str, n: int = 40) -> np.ndarray:
    rng = np.random.default_rng(3)
    return random_start(rng) if name == "erdos" else rng.random(n) * (rng.random(n) < 0.8)


def never() -> bool:
    return False


@pytest.fixture(params=STEP_FUNCTIONS)
def name(request) -> str:
    return request.param


@pytest.fixture
def polish(tmp_path, monkeypatch):
    """The command in a folder with a short function, whose problem allows short ones."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.json").write_text(json.dumps((np.random.default_rng(1).random(1000) + 0.1).tolist()))
    (tmp_path / "h.json").write_text(json.dumps(heights("erdos").tolist()))
    return lambda *words: CliRunner().invoke(command, ["polish", *words], standalone_mode=False)


def test_there_is_an_objective_for_every_problem_that_the_command_takes() -> None:
    assert set(STEP_FUNCTIONS) == set(objectives.OBJECTIVES)


def test_the_exact_loss_is_the_verifier_s_bound(name) -> None:
    objective = objectives.OBJECTIVES[name]()
    f = np.stack([heights(name), heights(name)[::-1]])
    bounds = np.exp(objective.sign * objective.exact(torch.from_numpy(f)).numpy())
    assert bounds == pytest.approx([BOUNDS[name](row) for row in f], rel=1e-10)


def test_parameters_give_the_heights_back_and_valid_ones_always(name) -> None:
    objective = objectives.OBJECTIVES[name]()
    f = torch.from_numpy(heights(name).clip(1e-3, 1 - 1e-3)[None])
    again = objective.heights(objective.parameters(f, torch.zeros(1)))
    assert (again / again.mean()).numpy() == pytest.approx((f / f.mean()).numpy(), abs=1e-6)
    far = objective.heights(torch.from_numpy(np.random.default_rng(0).normal(size=(3, 50)) * 20))
    assert far.min() >= 0
    if name == "erdos":
        assert far.max() <= 1
        assert far.mean(-1).numpy() == pytest.approx([0.5] * 3, abs=1e-9)


def test_the_gradient_is_that_of_the_smoothed_loss(name) -> None:
    objective = objectives.OBJECTIVES[name]()
    x = objective.parameters(torch.from_numpy(heights(name)[None]), torch.full((1,), 1e-3))
    x.requires_grad_(True)
    power = torch.full((1,), 50.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: objective.both(x, power)[0], (x,), atol=1e-6)


def test_the_smoothed_maximum_is_above_the_exact_one_and_near() -> None:
    values = torch.tensor([[1.0, 3.0, 2.0, 0.0, -1e-17], [5.0, 5.0, 5.0, 5.0, 5.0]], dtype=torch.float64)
    for power in (10.0, 1e5):
        smooth = objectives.log_norm(values, torch.full((2,), power, dtype=torch.float64))
        assert smooth[0] >= math.log(3)
        assert smooth.numpy() == pytest.approx(np.log([3, 5]), abs=math.log(5) / power + 1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_both_optimisers_improve_every_row_whatever_the_others_are(name, dtype) -> None:
    objective = objectives.OBJECTIVES[name]()
    rows = np.stack([heights(name), heights(name) * 0 + 0.5, heights(name)[::-1]])
    x = objective.parameters(torch.from_numpy(rows).to(dtype), torch.full((3,), 1e-4, dtype=dtype))
    before = objective.exact(objective.heights(x))
    powers = [torch.full((3,), power, dtype=dtype) for power in (100.0, 1000.0)]
    best = ascent.converge(objective, x, powers, 20, never)
    assert (best.loss < before - 0.01)[[0, 2]].all()
    alone = ascent.converge(objective, x[:1], [power[:1] for power in powers], 20, never)
    assert float(best.loss[0]) == pytest.approx(float(alone.loss[0]), rel=0.2)
    assert objective.exact(objective.heights(best.parameters)).numpy() == pytest.approx(
        best.loss.numpy(), abs=1e-5
    )
    found = ascent.explore(objective, x, 60, torch.Generator().manual_seed(1), never)
    assert (found.loss < before - 0.005)[[0, 2]].all()


def test_a_row_that_is_no_number_does_no_harm() -> None:
    objective = objectives.Second()
    x = torch.from_numpy(np.stack([heights("ac2") + 0.1, np.full(40, np.nan)]))
    best = ascent.converge(objective, x, [torch.full((2,), 100.0, dtype=torch.float64)], 5, never)
    assert math.isfinite(best.loss[0])
    assert not math.isfinite(best.loss[1])


def test_steps_become_longer_where_the_loss_bends_down() -> None:
    class Far:
        """Falls ever faster from 0 to a least value near 7071."""

        def both(self, x, power):
            loss = (1e-14 * x**4 - 1e-6 * x**2).sum(-1)
            return loss, loss.detach()

    x, power = torch.ones((1, 1), dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    best = ascent.converge(Far(), x, [power], 25, never)
    assert float(best.parameters) == pytest.approx(7071, rel=0.01)


def test_annealing_drops_the_worse_half_again_and_again() -> None:
    objective = objectives.Second()
    rng = np.random.default_rng(0)
    rows = np.stack([combs.heights(comb, 200, rng) for comb in combs.drawn(12, (), rng)])
    x = objective.parameters(torch.from_numpy(rows), torch.full((12,), 1e-6, dtype=torch.float64))
    before = objective.exact(objective.heights(x))
    powers = [torch.full((12,), power, dtype=torch.float64) for power in (30.0, 100.0, 300.0, 1000.0, 3000.0)]
    left, best = ascent.anneal(objective, x, powers, 20, 2, never)
    assert len(set(left.tolist())) == left.numel() == 2
    assert objective.exact(objective.heights(best.parameters)).numpy() == pytest.approx(best.loss.numpy())
    assert (best.loss < before[left] - 0.05).all()
    all_left, _ = ascent.anneal(objective, x, powers, 20, 12, never)
    assert sorted(all_left.tolist()) == list(range(12))
    at_once, _ = ascent.anneal(objective, x, powers, 20, 2, lambda: True)
    assert at_once.tolist() == list(range(12))


def test_combs_are_drawn_within_their_ranges_and_between_good_ones() -> None:
    rng = np.random.default_rng(0)
    known = combs.drawn(40, (), rng)
    near = combs.drawn(400, known[:1] * 20, rng)
    for comb in (*known, *near):
        for name, (low, high, _) in combs.RANGES.items():
            assert low <= getattr(comb, name) <= high
    close = [comb for comb in near if abs(comb.begins - known[0].begins) < 0.03]
    assert 150 < len(close) < 300


def test_a_comb_is_a_block_a_gap_and_teeth() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 7, 300, 5000):
        for comb in combs.drawn(20, (), rng):
            f = combs.heights(comb, n, rng)
            assert f.shape == (n,)
            assert np.isfinite(f).all()
            assert f.min() > 0
    comb = combs.Comb(0.1, 0.4, 0.3, 100.0, 0.3, 0.2, 0.0, 50.0)
    f = combs.heights(comb, 10_000, rng)
    high = f > 0.05 * f.mean()
    assert f[:1000].sum() / f.sum() == pytest.approx(0.4, abs=0.01)
    assert not high[1000:2900].any()
    assert high[3100:].mean() == pytest.approx(0.3, abs=0.07)
    assert np.diff(high[2900:].astype(int)).clip(0).sum() == pytest.approx(70, abs=3)


@pytest.mark.parametrize("change", sorted(changes.CHANGES))
def test_changes_leave_the_length_and_give_heights(change) -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 300):
        f = rng.random(n) * (rng.random(n) < 0.7) + 1e-9
        for _ in range(20):
            named, new = changes.changed(f, [change], rng, [f, f[::-1]])
            assert named == change
            assert new.shape == f.shape
            assert np.isfinite(new).all()
            assert new.min() >= 0 < new.max()


def test_resampling_keeps_the_integral() -> None:
    f = np.random.default_rng(0).random(12)
    for count in (1, 5, 12, 31):
        assert changes.resampled(f, count).mean() == pytest.approx(f.mean())
    assert changes.resampled(f, 12) == pytest.approx(f)


def test_a_search_ends_in_a_certificate_that_holds_and_is_no_worse_than_its_start(
    name, polish, tmp_path
) -> None:
    start, length = ("h.json", "200") if name == "erdos" else ("f.json", "2000")
    made = polish(name, "--from", start, "--length", length, "--out", "best.json", *FEW)
    assert made.exception is None, made.output
    problem = load(name, {})
    proof = certifying.check(problem, tmp_path / "best.json")
    first = problem.reward(problem.read_construction(tmp_path / start)).score
    assert problem.better(float(proof.bound), first)
    origin = json.loads((tmp_path / "best.json").read_text())["origin"]
    assert origin["command"].startswith(f"ttd math polish {name} --from {start} --length {length} --batch 3 ")
    assert "SHA-256" in origin["start"]
    assert origin["curve"][-1][2] == pytest.approx(float(proof.bound), rel=1e-9)
    assert sum(" heights  round " in line for line in made.output.splitlines()) == 4


def test_a_search_from_combs_remembers_them_and_ends_in_a_certificate(polish, tmp_path) -> None:
    words = ("--from", "comb", "--coarse", "1000", "--lineages", "2", *FEW)
    made = polish("ac2", *words, "--out", "best.json")
    assert made.exception is None, made.output
    proof = certifying.check(load("ac2", {}), tmp_path / "best.json")
    assert float(proof.bound) > 0.6
    origin = json.loads((tmp_path / "best.json").read_text())["origin"]
    assert origin["start"] == "random combs of 1000 heights: no construction was given"
    said = json.loads(bytes(np.load(tmp_path / "best.polish.npz")["said"]).decode())
    losses = [loss for loss, _ in said["combs"]]
    assert len(losses) == 4
    assert losses == sorted(losses)
    assert math.exp(-losses[0]) == pytest.approx(float(proof.bound), rel=1e-9)


def test_what_is_said_of_the_start_is_carried_on(polish, tmp_path) -> None:
    assert polish("ac2", "--from", "f.json", *FEW, "--out", "one.json").exception is None
    assert polish("ac2", "--from", "one.json", *FEW, "--out", "two.json").exception is None
    assert polish("ac2", "--from", "two.json", *FEW, "--out", "three.json").exception is None
    origin = json.loads((tmp_path / "three.json").read_text())["origin"]
    assert origin["command"].startswith("ttd math polish ac2 --from f.json ")
    starts = [made["command"].split()[5] for made in origin["polished"]]
    assert starts == ["one.json", "two.json"]


def test_a_start_with_more_heights_than_are_asked_for_is_halved(polish, tmp_path) -> None:
    f = np.random.default_rng(2).random(6000) + 0.1
    (tmp_path / "long.json").write_text(json.dumps(f.tolist()))
    few = ("--rounds", "1", "--iterations", "1", "--batch", "1", "--out", "best.json")
    assert polish("ac2", "--from", "long.json", "--length", "1500", *few).exception is None
    assert np.load(tmp_path / "best.f.npy").size == 1500
    origin = json.loads((tmp_path / "best.json").read_text())["origin"]
    assert origin["start"].startswith("a construction of 6000 heights with SHA-256")
    halved = improving.halved(f, 1500)
    assert halved == pytest.approx(f.reshape(-1, 4).mean(axis=1))
    # What cannot be halved often enough stays too long, and is refused.
    (tmp_path / "odd.json").write_text(json.dumps(f[:3002].tolist()))
    assert improving.halved(f[:3002], 1500).size == 1501
    error = polish("ac2", "--from", "odd.json", "--length", "1500", "--out", "none.json").exception
    assert "--length 1500 is less than the 1501 heights" in str(error)


@pytest.mark.parametrize(
    ("start", "precision"), [("random", "float64"), ("random", "float32"), ("comb", "float64")]
)
def test_a_stopped_search_goes_on_as_if_it_had_not_been(
    polish, tmp_path, monkeypatch, saving_at_most, start, precision
) -> None:
    words = ("ac2", "--from", start, "--coarse", "500", "--length", "1000", "--precision", precision, *FEW)
    assert polish(*words, "--out", "whole.json").exception is None
    with monkeypatch.context() as patched:
        # After the first round of the second length.
        patched.setattr(running.checkpoint, "save", saving_at_most(checkpoint.save, 3))
        assert "stopped here" in str(polish(*words, "--out", "parts.json").exception)
    assert not (tmp_path / "parts.json").exists()
    assert polish(*words, "--out", "parts.json", "--resume").exception is None
    whole, parts = (np.load(tmp_path / f"{name}.f.npy") for name in ("whole", "parts"))
    assert (whole == parts).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ac2", "--length", "10"), "--length 10 is less than the"),
        (("ac2", "--from", "random", "--coarse", "100"), "needs at least 1000 heights"),
        (("ac2", "--from", "comb", "--coarse", "100"), "needs at least 1000 heights"),
        (("ac1", "--from", "comb"), "--from comb is a start of ac2, not of ac1"),
        (("ac2", "--from", "missing.json"), "missing.json: cannot be read"),
        (("ac2", "--from", "bad.json"), "is negative"),
        (("erdos", "--from", "f.json"), "sums to"),
        (("ac2", "--device", "abacus"), "--device abacus: torch cannot compute there"),
        (("ac2", "--device", "meta"), "--device meta: torch cannot compute there"),
        (("ac2", "--resume"), "nothing to go on with"),
        (("ac2", "--seconds", "0"), "0"),
        (("ac2", "--seconds", "nan"), "nan is no finite number"),
        (("cp26",), "cp26"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(polish, tmp_path, words, said) -> None:
    (tmp_path / "bad.json").write_text(json.dumps([-1.0, *np.ones(1500).tolist()]))
    error = polish(*words, "--out", "best.json").exception
    assert said in str(error)
    assert "\n" not in str(error)
    assert not (tmp_path / "best.json").exists()


def test_a_search_is_not_begun_over_another_nor_gone_on_with_by_another(polish, tmp_path) -> None:
    words = ("ac2", "--from", "f.json", *FEW, "--out", "best.json")
    assert polish(*words).exception is None
    assert "add --resume" in str(polish(*words).exception)
    error = polish(*words, "--resume", "--seed", "7").exception
    assert isinstance(error, UsageError)
    assert "seed = 0, not 7" in str(error)
    assert polish(*words, "--resume", "--rounds", "3").exception is None


@pytest.mark.parametrize("damage", ["text", "array", "heights", "random", "combs"])
def test_a_damaged_checkpoint_is_refused(polish, tmp_path, damage) -> None:
    words = ("ac2", "--from", "f.json", *FEW, "--out", "best.json")
    assert polish(*words).exception is None
    path = tmp_path / "best.polish.npz"
    parts = dict(np.load(path))
    if damage == "text":
        np.savez(path, **parts | {"said": np.frombuffer(b"[]", np.uint8)})
    elif damage == "array":
        np.savez(path, functions=np.ones(3))
    elif damage == "heights":
        np.savez(path, **parts | {"functions": -parts["functions"]})
    else:
        wrong = (
            {"random": {"bit_generator": "dice"}} if damage == "random" else {"combs": [[0.1, {"apart": 3}]]}
        )
        said = json.loads(bytes(parts["said"]).decode()) | wrong
        np.savez(path, **parts | {"said": np.frombuffer(json.dumps(said).encode(), np.uint8)})
    error = polish(*words, "--resume").exception
    assert isinstance(error, UsageError)
    assert "not what a search left" in str(error)
    assert "\n" not in str(error)


def test_a_checkpoint_that_cannot_be_written_is_told(tmp_path) -> None:
    standing = checkpoint.Standing([[(0.0, np.ones(2))]], 0, 0, 0.0, {}, [])
    with pytest.raises(StorageError, match="cannot be written"):
        checkpoint.save(tmp_path / "no" / "file.npz", standing, {})


def test_ever_fewer_lineages_go_on_each_with_its_own_pool() -> None:
    few = {
        "batch": 8,
        "cells": 1 << 20,
        "keep": 2,
        "lineages": 8,
        "iterations": 2,
        "combs": False,
        "explore": 4,
    }
    place = {"device": torch.device("cpu"), "precision": torch.float64}
    plan = Plan(problem="ac2", lengths=(30, 60), seconds=1e9, rounds=4, **few, **place)
    rng = np.random.default_rng(0)
    standing = checkpoint.Standing([[(9.0, rng.random(30))]], 0, 0, 0.0, dict(rng.bit_generator.state), [])
    counts = []
    for _ in Search(plan, standing).run():
        counts.append(len(standing.lineages))
        heads = [pool[0][0] for pool in standing.lineages]
        assert heads == sorted(heads)
        assert all(len(pool) <= 2 for pool in standing.lineages)
        for loss, f in standing.lineages[0]:
            assert math.exp(-loss) == pytest.approx(second_bound(f), rel=1e-10)
    assert counts == [8, 5, 3, 2, 1, 1, 1, 1]
    assert [plan.deadline(stage) for stage in range(2)] == [5e8, 1e9]


def test_of_combs_a_quarter_goes_on_at_each_length_and_no_round_is_begun_that_cannot_end() -> None:
    few = {
        "batch": 12,
        "cells": 1 << 20,
        "keep": 2,
        "lineages": 8,
        "iterations": 2,
        "combs": True,
        "explore": 16,
    }
    place = {"device": torch.device("cpu"), "precision": torch.float64}
    plan = Plan(problem="ac2", lengths=(200, 400, 800), seconds=1e9, rounds=2, **few, **place)
    rng = np.random.default_rng(0)

    def standing():
        return checkpoint.Standing([[(9.0, rng.random(200))]], 0, 0, 0.0, dict(rng.bit_generator.state), [])

    search = Search(plan, standing())
    counts = []
    for _ in search.run():
        counts.append(len(search.standing.lineages))
    assert counts == [8, 8, 2, 2, 1, 1]
    assert len(search.standing.combs) == 16
    late = standing()
    late.rounds, late.seconds = 1, 2e8
    assert not Search(plan, late)._stage_is_over()
    # Another round as long as the one before would end after half of the time, when the next length begins.
    late.seconds = 3e8
    assert Search(plan, late)._stage_is_over()


def test_lengths_double_as_often_as_fits() -> None:
    assert improving.doubled(1000, None, "of the start") == (1000,)
    assert improving.doubled(1000, 4000, "of the start") == (1000, 2000, 4000)
    assert improving.doubled(1000, 7999, "of the start") == (1000, 2000, 4000)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (MemoryError(), UsageError, "3 functions of 1000 heights at a time: no memory left on cpu: "),
        (
            RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR\nmore"),
            EnvironmentLacksError,
            "3 functions of 1000 heights at a time: cpu failed: cuFFT error: CUFFT_INTERNAL_ERROR: --resume "
            "to go on from best.polish.npz; where memory may be short, with a smaller --batch or --cells",
        ),
    ],
)
def test_a_device_that_fails_ends_a_search_in_one_line_from_which_it_goes_on(
    polish, tmp_path, monkeypatch, error, kind, said
) -> None:
    rounds, left = Search._round, iter(range(1))

    def tried(self):
        if next(left, None) is None:
            raise error
        rounds(self)

    words = ("ac1", "--from", "f.json", *FEW, "--out", "best.json")
    with monkeypatch.context() as patched:
        patched.setattr(Search, "_round", tried)
        failed = polish(*words).exception
    assert isinstance(failed, kind)
    assert said in str(failed)
    assert "\n" not in str(failed)
    assert polish(*words, "--batch", "2", "--resume").exception is None


def test_more_heights_than_there_is_memory_for_are_refused(polish) -> None:
    failed = polish("ac1", "--from", "random", "--coarse", str(10**12), "--out", "best.json").exception
    assert isinstance(failed, UsageError)
    assert str(failed).startswith("1 function of 1000000000000 heights at a time: no memory left on cpu: ")
