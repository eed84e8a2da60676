"""`ttd math hops`: the optimiser against the programs', changes, pools, whole searches, what is refused."""

from __future__ import annotations

import importlib.resources
import json
import types

import attrs
import numpy as np
import pytest
from click.testing import CliRunner

from ttd_core import certifying
from ttd_core.errors import UsageError
from ttd_core.plugin.registry import load
from ttd_math.autocorrelation import first_bound
from ttd_math.commands import MINIMAX_PROBLEMS
from ttd_math.commands import math as command
from ttd_math.erdos import overlap_bound

torch = pytest.importorskip("torch")
from ttd_math.hopping import checkpoint, hops, interior, minimax, running, search  # noqa: E402
from ttd_math.hopping.pools import Pools  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

BOUNDS = {"ac1": first_bound, "erdos": overlap_bound}
#: Heights of starts and the last gap of an optimisation to the end. The program stops some 1e-6 above many
#: optima of `erdos`, where the steps along its arc become short: these are three that it reaches.
ENDS = {
    "ac1": (np.random.default_rng(0).uniform(0.05, 0.95, (4, 30)), 1e-9),
    "erdos": (np.random.default_rng(0).uniform(0.05, 0.95, (8, 50))[3:6], 1e-10),
}
FEW = (
    *("--coarse", "20", "--length", "40", "--cells", "10000", "--lineages", "4", "--promoted", "2"),
    *("--keep", "3", "--rounds", "3"),
)
CPU = torch.device("cpu")


@pytest.fixture(params=MINIMAX_PROBLEMS)
def name(request) -> str:
    return request.param


def program(name: str) -> types.ModuleType:
    """The strong program as a module."""
    source = importlib.resources.files("ttd_math") / "programs" / f"{name}.py"
    module = types.ModuleType(f"{name}_program")
    exec(compile(source.read_text(encoding="utf-8"), str(source), "exec"), module.__dict__)
    return module


def heights(count: int, n: int, seed: int = 0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.05, 0.95, (count, n)))


def optimised(name: str, f, soft: float, end: float, steps: int = 200):
    return interior.optimise(minimax.MINIMAX[name](), f, interior.Aims.of(f[:, 0], soft, end), steps)


def draws(count: int, seed: int = 0) -> hops.Draws:
    return hops.Draws(count, torch.Generator().manual_seed(seed))


def test_there_are_a_bound_and_moves_for_every_problem_that_the_command_takes() -> None:
    assert set(MINIMAX_PROBLEMS) == set(minimax.MINIMAX) == set(hops.MOVES) == set(running.COARSE)


def test_scores_are_the_verifier_s_bounds(name) -> None:
    problem = minimax.MINIMAX[name]()
    f = problem.finished(heights(3, 31))
    assert problem.scores(f).numpy() == pytest.approx([BOUNDS[name](row) for row in f.numpy()], rel=1e-10)
    assert torch.isinf(problem.scores(f * torch.nan)).all()


def test_values_are_quadratic_and_their_gradients_are_those_that_are_used(name) -> None:
    problem, n = minimax.MINIMAX[name](), 12
    f, d = problem.inside(heights(2, n)), heights(2, n, seed=1) - 0.5
    weights = heights(2, 2 * n - 1, seed=2)
    whole = problem.values(f) + problem.linear(f, d) + problem.bend(d)
    assert torch.allclose(whole, problem.values(f + d), rtol=0, atol=1e-12)
    # The last value comes first.
    slopes = problem.slopes(f, 0, 2 * n - 1).flip(1)
    assert torch.allclose((slopes @ d[:, :, None])[..., 0], problem.linear(f, d), rtol=0, atol=1e-12)
    pulled = (weights[:, None] @ slopes)[:, 0]
    assert torch.allclose(pulled, problem.pulled(f, weights), rtol=0, atol=1e-12)


def test_the_curvature_bounds_that_of_every_direction_and_is_semidefinite(name) -> None:
    problem, n = minimax.MINIMAX[name](), 11
    weights = heights(2, 2 * n - 1)
    curvature = problem.curvature(weights)
    assert float(torch.linalg.eigvalsh(curvature).min()) > -1e-12
    pairs = torch.eye(n).double()[:, None] + torch.eye(n).double()
    both, one = (
        (weights[0] * problem.bend(d.reshape(-1, n))).sum(-1) for d in (pairs, torch.eye(n).double())
    )
    second = both.reshape(n, n) - one[:, None] - one
    assert float(torch.linalg.eigvalsh(curvature[0] - second).min()) > -1e-12
    # It is no larger than it has to be: where the second derivative is positive, it adds little.
    assert float(curvature[0].trace()) < 2 * float(torch.linalg.eigvalsh(second).abs().sum())


def test_an_optimisation_ends_where_the_program_s_does(name) -> None:
    near, (f, end) = program(name), ENDS[name]
    optima, known, _ = optimised(name, torch.from_numpy(f), 1e-1, end)
    found, scores, steps = optimised(name, optima, 1e-4, end)
    wanted = [near.optimise(f.copy(), 1e-4, end, 200)[1] for f in optima.numpy()]
    assert scores.numpy() == pytest.approx(wanted, abs=1e-8)
    assert known.numpy() == pytest.approx(wanted, abs=1e-8)
    assert [BOUNDS[name](f) for f in found.numpy()] == pytest.approx(wanted, abs=1e-8)
    assert steps < 40 * len(f)


def test_what_one_member_does_changes_nothing_in_another(name) -> None:
    f = heights(5, 30)
    alone, score, _ = optimised(name, f[:1], 1e-2, 1e-5)
    f[1] = torch.nan
    f[2] = 0.0
    f[3, :-1] = 0.0
    f[4] *= 1e200
    found, scores, _ = optimised(name, f, 1e-2, 1e-5)
    assert torch.isinf(scores[1])
    assert float(scores[0]) == pytest.approx(float(score[0]), abs=1e-9)
    assert torch.allclose(found[0], alone[0], atol=1e-5)


def test_a_hopeless_optimisation_is_given_up_and_a_good_one_is_carried_on(name) -> None:
    f = heights(1, 30).expand(3, -1)
    like = f[:, 0]
    soft, end = 1e-2, 1e-3
    bar = torch.tensor([0.1, torch.inf, torch.inf])
    aim = torch.tensor([-torch.inf, -torch.inf, 9.0])
    aims = interior.Aims.of(like, soft, end, bar, fine=1e-6, aim=aim)
    _, scores, steps = interior.optimise(minimax.MINIMAX[name](), f, aims, 200)
    assert torch.isinf(scores[0])
    assert scores[2] < scores[1] < scores[2] + end
    assert steps < 600


def test_a_stop_ends_an_optimisation_and_what_it_has_is_judged(name) -> None:
    f = heights(2, 30)
    problem, aims = minimax.MINIMAX[name](), interior.Aims.of(f[:, 0], 1e-2, 1e-9)
    found, scores, steps = interior.optimise(problem, f, aims, 200, lambda: True)
    assert steps == 2
    assert scores.numpy() == pytest.approx([BOUNDS[name](row) for row in found.numpy()], rel=1e-10)
    aims = interior.Aims.of(f[:, 0], 1e-2, torch.tensor([1e-3, 1e-9]))
    _, most, taken = interior.optimise(problem, f, aims, 200, left=1)
    _, whole, steps = interior.optimise(problem, f, aims, 200)
    assert taken < steps
    assert (most > whole).tolist() == [False, True]


def test_every_change_leaves_the_length_and_gives_numbers(name) -> None:
    moves = hops.MOVES[name]()
    for n in (20, 61):
        f, other = moves.start(n, draws(40)), moves.start(n, draws(40, 1))
        for change, _ in moves.changes:
            new = change(f, other, draws(40, 2).choice(moves.sizes), draws(40, 3))
            assert new.shape == f.shape
            assert torch.isfinite(new).all()
            # A change of a part may find nothing to change.
            assert (new != f).any(-1).sum() > 10
        assert (moves.change(f, other, draws(40, 4)) == moves.change(f, other, draws(40, 4))).all()


def test_a_change_to_no_numbers_or_to_nothing_leaves_a_function_as_it_was() -> None:
    class Broken(hops.AutoconvolutionMoves):
        changes = ((lambda f, other, size, draws: f * torch.tensor([[torch.nan], [0.0], [1.0]]), 1),)

    f = heights(3, 20)
    assert (Broken().change(f, f, draws(3)) == f).all()


def test_parts_of_changes_are_what_they_say() -> None:
    f = heights(50, 24)
    other = heights(50, 24, seed=1)
    spliced = hops._splice(f, other, f[:, :1], draws(50))
    assert ((spliced == f) | (spliced == other) | (spliced == other.flip(-1))).all()
    swapped = hops._swap(f, other, f[:, :1], draws(50))
    assert torch.isin(swapped, f).all()
    assert (hops.read_at(f, hops.places(CPU, 24).expand(50, -1)) == f).all()
    for count in (12, 24, 35, 48):
        longer = hops.resampled(f, count)
        assert longer.shape == (50, count)
        assert torch.allclose(longer.mean(-1), f.mean(-1))
    symmetric = (f + f.flip(-1)) / 2
    kept = hops.OverlapMoves().kept(symmetric, other, draws(50))
    assert 25 < int((kept == kept.flip(-1)).all(-1).sum()) < 50


def test_pools_keep_the_best_that_are_apart() -> None:
    pools = Pools.empty(2, 3, 4, CPU)
    assert torch.isinf(pools.bars(torch.tensor([0, 1]), 0.5)).all()
    f = torch.arange(10.0).double()[:, None].expand(10, 4).reshape(2, 5, 4)
    scores = torch.tensor(
        [[3.0, 1.0, 1.05, 2.0, torch.inf], [5.0, torch.inf, torch.inf, torch.inf, torch.inf]]
    )
    pools.take(f, scores.double(), apart=0.1)
    assert pools.scores.tolist() == [[1, 2, 3], [5, torch.inf, torch.inf]]
    assert pools.f[0, :, 0].tolist() == [1, 3, 0]
    assert pools.bars(torch.tensor([0, 1]), 0.5).tolist() == [3.0, 5.5]
    parents, others = pools.parents(torch.tensor([1, 1, 0]), draws(3))
    assert parents[:2].tolist() == others[:2].tolist() == [[5] * 4] * 2
    pools.take(f[:, :1] * 0, torch.tensor([[0.9375], [4.0]]).double(), apart=0.1)
    assert pools.scores.tolist() == [[0.9375, 2, 3], [4, 5, torch.inf]]


@pytest.fixture
def hop(tmp_path, monkeypatch):
    """The command, in a folder with a function of 60 heights repeated."""
    monkeypatch.chdir(tmp_path)
    f = np.random.default_rng(1).random(60) + 0.1
    (tmp_path / "f.json").write_text(json.dumps(np.repeat(f, 20).tolist()))
    return lambda *words: CliRunner().invoke(command, ["hops", *words], standalone_mode=False)


def test_a_search_ends_in_a_certificate_that_holds(name, hop, tmp_path) -> None:
    made = hop(name, *FEW, "--time-ratio", "1", "--out", "best.json")
    assert made.exception is None, made.output
    proof = certifying.check(load(name, {}), tmp_path / "best.json")
    assert float(proof.bound) < {"ac1": 1.6, "erdos": 0.39}[name]
    origin = json.loads((tmp_path / "best.json").read_text())["origin"]
    assert origin["command"].startswith(
        f"ttd math hops {name} --from random --length 40 --coarse 20 --cells "
    )
    assert "no construction was given" in origin["start"]
    # The command is one that can be given again.
    again = command.commands["hops"].make_context("hops", origin["command"].split()[3:])
    assert again.params["time_ratio"] == 1.0
    assert origin["curve"][-1][2] == pytest.approx(float(proof.bound), rel=1e-9)
    # Three rounds at either length, and the last optimisation.
    assert sum(" heights  round " in line for line in made.output.splitlines()) == 7


def test_from_a_file_the_best_is_no_worse_than_its_start(hop, tmp_path) -> None:
    words = ("--rounds", "2", "--lineages", "2", "--cells", "40000", "--keep", "2", "--coarse", "60")
    assert hop("ac1", "--from", "f.json", *words, "--out", "best.json").exception is None
    problem = load("ac1", {})
    proof = certifying.check(problem, tmp_path / "best.json")
    assert float(proof.bound) < problem.reward(problem.read_construction(tmp_path / "f.json")).score - 0.1
    again = hop("ac1", "--from", "best.json", *words, "--out", "again.json")
    assert again.exception is None
    assert certifying.check(problem, tmp_path / "again.json").bound <= proof.bound
    origin = json.loads((tmp_path / "again.json").read_text())["origin"]
    assert origin["command"].startswith("ttd math hops ac1 --from f.json ")
    assert origin["polished"][0]["command"].startswith("ttd math hops ac1 --from best.json ")


def test_a_start_with_more_heights_than_are_asked_for_is_only_begun_with(hop, tmp_path) -> None:
    f = np.random.default_rng(3).random(2200) + 0.1
    (tmp_path / "long.json").write_text(json.dumps(f.tolist()))
    few = ("--rounds", "1", "--lineages", "1", "--promoted", "1", "--keep", "1", "--cells", "40000")
    words = ("--coarse", "55", "--length", "110", *few, "--out", "best.json")
    assert hop("ac1", "--from", "long.json", *words).exception is None
    made = json.loads((tmp_path / "best.json").read_text())
    # 110 heights, each repeated for the fewest that the problem takes.
    assert made["facts"]["values"] == 1100
    assert made["origin"]["start"].startswith("a construction of 2200 heights with SHA-256")


def test_a_stopped_search_goes_on_as_if_it_had_not_been(hop, tmp_path, monkeypatch, saving_at_most) -> None:
    monkeypatch.setattr(running, "_SAVING", 1e9)
    assert hop("erdos", *FEW, "--out", "whole.json").exception is None
    with monkeypatch.context() as patched:
        # After the first round of the second length.
        patched.setattr(running.checkpoint, "save", saving_at_most(checkpoint.save, 4))
        assert "stopped here" in str(hop("erdos", *FEW, "--out", "parts.json").exception)
    assert not (tmp_path / "parts.json").exists()
    assert hop("erdos", *FEW, "--out", "parts.json", "--resume").exception is None
    whole, parts = (np.load(tmp_path / f"{name}.h.npy") for name in ("whole", "parts"))
    assert (whole == parts).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ac1", "--length", "100"), "--length 100 is less than the 180 heights that the search begins with"),
        (("ac1", "--from", "missing.json"), "missing.json: cannot be read"),
        (("ac1", "--from", "bad.json"), "is negative"),
        (("ac1", "--from", "comb"), "--from comb is a start of ac2, not of ac1"),
        (("ac1", "--device", "abacus"), "--device abacus: torch cannot compute there"),
        (("ac1", "--resume"), "nothing to go on with"),
        (("ac1", "--seconds", "nan"), "nan is no finite number"),
        (("ac2",), "ac2"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(hop, tmp_path, words, said) -> None:
    (tmp_path / "bad.json").write_text(json.dumps([-1.0, *np.ones(1500).tolist()]))
    error = hop(*words, "--out", "best.json").exception
    assert said in str(error)
    assert "\n" not in str(error)
    assert not (tmp_path / "best.json").exists()


def test_a_search_is_gone_on_with_only_by_the_same_and_from_a_sound_file(hop, tmp_path) -> None:
    words = ("ac1", *FEW, "--out", "best.json")
    assert hop(*words).exception is None
    assert "add --resume" in str(hop(*words).exception)
    assert "seed = 0, not 7" in str(hop(*words, "--resume", "--seed", "7").exception)
    path = tmp_path / "best.hops.npz"
    parts = dict(np.load(path))
    damages = {
        "functions": -parts["functions"][0],
        "best": -parts["best"],
        "scores": parts["scores"] * np.nan,
    }
    for part, value in damages.items():
        np.savez(path, **parts | {part: value})
        error = hop(*words, "--resume").exception
        assert isinstance(error, UsageError)
        assert "not what a search left" in str(error)


def test_the_worse_half_of_lineages_makes_room_for_others_and_idle_ones_are_put_by(monkeypatch) -> None:
    plan = search.Plan("ac1", (20, 40), 20 * 39 * 8, 2, 4, 2, True, 1e9, 100, CPU)
    assert [plan.lineages_at(*at) for at in ((0, 0.0), (0, 1.0), (1, 0.0), (1, 1.0))] == [4, 2, 2, 1]
    assert plan.deadline(0) == pytest.approx(2 / 3 * 1e9)
    assert plan.deadline(1) == 1e9
    even = attrs.evolve(plan, time_ratio=1.0)
    assert [even.deadline(stage) for stage in range(2)] == [5e8, 1e9]
    begun = search.begun(plan, np.ones(20), np.random.default_rng(0))
    made = search.Search(plan, begun)
    begun.pools.scores[:, 0] = torch.tensor([4.0, 1.0, 2.0, 3.0])
    begun.attempts, begun.idle = [search._FIRST_TEST] * 4, [0, 0, 0, 0]
    made._replace([4.0, 1.0, 2.0, 3.0])
    # Each is compared with those that came to the test before it.
    assert begun.attempts == [search._FIRST_TEST] * 3 + [0]
    assert begun.tests == [[1.0, 2.0, 3.0, 4.0]]
    begun.idle = [0, search._PATIENCE, 0, 0]
    made._replace([4.0, 1.0, 2.0, 3.0])
    assert begun.retired.scores[:, 0].tolist() == [1.0]
    assert torch.isinf(begun.pools.scores[1, 0])
    made._lengthen()
    assert begun.pools.heights == 40
    assert begun.pools.scores[:, 0].tolist() == [1.0, 2.0]
    assert begun.retired.f.shape == (0, 2, 40)
