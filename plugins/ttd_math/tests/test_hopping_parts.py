"""`ttd math hops` with long functions: matrices in parts, and memory or a device that fails on the way."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from click.testing import CliRunner

from ttd_core.errors import EnvironmentLacksError, UsageError
from ttd_math.commands import MINIMAX_PROBLEMS
from ttd_math.commands import math as command

torch = pytest.importorskip("torch")
from ttd_math.hopping import interior, minimax, parts, search  # noqa: E402
from ttd_math.hopping.parts import Parts  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
FEW = (
    *("--coarse", "20", "--length", "40", "--cells", "10000", "--lineages", "4", "--promoted", "2"),
    *("--keep", "3", "--rounds", "3"),
)


@pytest.fixture(params=MINIMAX_PROBLEMS)
def name(request) -> str:
    return request.param


@pytest.fixture
def small(monkeypatch):
    """Makes matrices large from few values on: of slopes in a part, and of what is flipped at once."""

    def set_limits(cells: int, flipped: int, alone: int = 1 << 40) -> None:
        monkeypatch.setattr(parts, "CELLS", cells)
        monkeypatch.setattr(interior, "CELLS", cells)
        monkeypatch.setattr(parts, "ALONE", alone)
        monkeypatch.setattr(minimax, "FLIPPED", flipped)

    return set_limits


def heights(count: int, n: int):
    return torch.from_numpy(np.random.default_rng(0).uniform(0.05, 0.95, (count, n)))


def optimised(name: str, f, kept: Parts | None = None):
    aims = interior.Aims.of(f[:, 0], 1e-2, 1e-5)
    return interior.optimise(minimax.MINIMAX[name](), f, aims, 60, parts=kept)


@pytest.fixture
def members(monkeypatch) -> list[int]:
    """How many members each Newton step had."""
    seen = []
    newton = interior._newton

    def noted(problem, members):
        seen.append(len(members.index))
        return newton(problem, members)

    monkeypatch.setattr(interior, "_newton", noted)
    return seen


def failing(monkeypatch, error: BaseException, most: int = 0, after: int = 0) -> None:
    """Newton steps of more than ``most`` members fail, once ``after`` were taken: as far as torch gets."""
    newton, taken = interior._newton, iter(range(after))

    def tried(problem, members):
        if len(members.index) > most and next(taken, None) is None:
            raise error
        return newton(problem, members)

    monkeypatch.setattr(interior, "_newton", tried)


@pytest.mark.parametrize("flipped", [1, 23, 3 * 23, 40 * 23, 7 * 3 * 23, 10**6])
def test_large_matrices_are_flipped_by_rows(monkeypatch, flipped) -> None:
    rows = torch.arange(3.0 * 51)[:, None].reshape(3, 51).unfold(-1, 23, 1)
    wanted = rows.flip(1)
    monkeypatch.setattr(minimax, "FLIPPED", flipped)
    made, flip = [], torch.Tensor.flip
    monkeypatch.setattr(torch.Tensor, "flip", lambda x, *dims: made.append(x.numel()) or flip(x, *dims))
    assert torch.equal(minimax._flipped(rows), wanted)
    # One row of all matrices is the least.
    assert max(made) <= max(flipped, 3 * 23)


def test_slopes_by_rows_are_those_of_all(name, monkeypatch) -> None:
    problem, f = minimax.MINIMAX[name](), heights(2, 9)
    whole = problem.slopes(f, 0, 17).clone()
    monkeypatch.setattr(minimax, "FLIPPED", 20)
    for first, last in ((0, 17), (0, 5), (5, 16), (16, 17)):
        assert torch.equal(problem.slopes(f, first, last), whole[:, first:last])


def test_results_are_the_same_in_parts_and_by_rows(name, small, members) -> None:
    f = heights(5, 30)
    found, scores, steps = optimised(name, f)
    assert max(members) == 5
    # Two members a part; then one, by whose slopes in pieces of seven or eight rows; then all alone.
    for cells, flipped, alone in (
        (2 * 59 * 30, 900, 1 << 40),
        (7 * 30, 210, 1 << 40),
        (1 << 28, 1 << 28, 30),
    ):
        members.clear()
        small(cells, flipped, alone)
        in_parts, these, taken = optimised(name, f)
        assert max(members) == (2 if cells == 2 * 59 * 30 else 1)
        assert taken == steps
        assert torch.allclose(these, scores, rtol=0, atol=1e-9)
        assert torch.allclose(in_parts, found, rtol=0, atol=1e-5)


def test_large_systems_are_factored_one_at_a_time(name, small, monkeypatch) -> None:
    factored, cholesky = [], torch.linalg.cholesky_ex

    def noted(system):
        factored.append(tuple(system.shape))
        return cholesky(system)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", noted)
    small(1 << 28, 1 << 28, alone=30)
    optimised(name, heights(3, 30))
    assert set(factored) == {(1, 30, 30)}


def test_how_many_members_a_part_has() -> None:
    kept = Parts()
    assert kept.members_at(180) == 4154
    assert kept.members_at(2880) == 16
    assert [kept.members_at(n) for n in (parts.ALONE, 23_040)] == [1, 1]
    # No matrix of a part is too large to flip at once, up to lengths at which one function's is.
    assert max(kept.members_at(n) * parts.cells_of(n) for n in range(20, 11_586)) - 1 <= minimax.FLIPPED


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_where_memory_runs_out_a_part_is_taken_as_two(name, monkeypatch, error) -> None:
    f = heights(7, 30)
    found, scores, steps = optimised(name, f)
    failing(monkeypatch, error, most=2)
    kept = Parts()
    again, same, taken = optimised(name, f, kept)
    assert taken == steps
    assert torch.allclose(same, scores, rtol=0, atol=1e-9)
    assert torch.allclose(again, found, rtol=0, atol=1e-5)
    assert kept.notes == [
        "no memory for Newton steps of 7 functions of 30 heights together: on with 3",
        "no memory for Newton steps of 3 functions of 30 heights together: on with 1",
    ]
    # It is remembered, for that length alone.
    assert (kept.members_at(30), kept.members_at(31) > 7) == (1, True)


def test_no_memory_for_one_and_other_failures_are_raised(monkeypatch) -> None:
    for error, most in ((MemoryError(), 0), (RuntimeError("cuFFT error: CUFFT_EXEC_FAILED"), 2)):
        with monkeypatch.context() as patched:
            failing(patched, error, most)
            kept = Parts()
            with pytest.raises(type(error)):
                optimised("ac1", heights(4, 30), kept)
            assert kept.under_way == ((1, 30) if most == 0 else (4, 30))


@pytest.fixture
def hop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(command, ["hops", *words], standalone_mode=False)


def test_a_search_that_ran_out_of_memory_is_the_same_search(name, hop, monkeypatch) -> None:
    assert hop(name, *FEW, "--out", "whole.json").exception is None
    failing(monkeypatch, MemoryError(), most=2)
    made = hop(name, *FEW, "--out", "parts.json")
    assert made.exception is None
    assert "no memory for Newton steps of 12 functions of 20 heights together: on with 6" in made.output
    whole, again = (json.loads(pathlib.Path(f"{out}.json").read_text()) for out in ("whole", "parts"))
    assert whole["facts"]["values"] == again["facts"]["values"]
    curves = [[point[1:] for point in made["origin"]["curve"]] for made in (whole, again)]
    # But for rounding, which the last gap of a hop makes larger.
    assert np.array(curves[1]) == pytest.approx(np.array(curves[0]), abs=1e-7)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR\nmore"),
            EnvironmentLacksError,
            "1 function of 20 heights at a time: cpu failed: cuFFT error: CUFFT_INTERNAL_ERROR: --resume to "
            "go on from best.hops.npz; where memory may be short, with a smaller --cells (it may differ)",
        ),
        (
            RuntimeError("CUDA error: CUSOLVER_STATUS_EXECUTION_FAILED, when calling `x`"),
            EnvironmentLacksError,
            "12 functions of 20 heights at a time: cpu failed: CUDA error: CUSOLVER_STATUS_EXECUTION_FAILED",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            UsageError,
            "1 function of 20 heights at a time: no memory ",
        ),
    ],
)
def test_a_device_that_fails_ends_a_search_in_one_line_from_which_it_goes_on(
    hop, monkeypatch, error, kind, said
) -> None:
    monkeypatch.setattr("ttd_math.hopping.running._SAVING", 1e9)
    with monkeypatch.context() as patched:
        taken = []
        rounds = search.Search._round

        def counted(self):
            taken.append(True)
            if len(taken) == 2:
                failing(patched, error)
            rounds(self)

        patched.setattr(search.Search, "_round", counted)
        failed = hop("ac1", *FEW, "--out", "best.json").exception
    assert isinstance(failed, kind)
    assert said in str(failed)
    assert "\n" not in str(failed)
    assert not pathlib.Path("best.json").exists()
    assert hop("ac1", *FEW, "--cells", "5000", "--out", "best.json", "--resume").exception is None


def test_a_search_that_nothing_is_kept_of_yet_says_so(hop, monkeypatch) -> None:
    failing(monkeypatch, torch.AcceleratorError("CUDA error: unspecified launch failure"))
    failed = hop("erdos", *FEW, "--out", "best.json").exception
    assert isinstance(failed, EnvironmentLacksError)
    assert "failure: begin again (nothing was kept yet); where memory" in str(failed)


def test_more_than_there_is_memory_for_is_refused_before_a_search_begins(hop) -> None:
    for words in (
        ("--coarse", str(10**12)),
        ("--lineages", "10000", "--keep", "1000", "--coarse", "10000000"),
    ):
        failed = hop("ac1", *words, "--out", "best.json").exception
        assert isinstance(failed, UsageError), failed
        assert " heights at a time: no memory left on cpu: " in str(failed)
        assert "\n" not in str(failed)


def test_a_bug_keeps_its_traceback(hop, monkeypatch) -> None:
    failing(monkeypatch, RuntimeError("The size of tensor a (3) must match that of b"))
    failed = hop("ac1", *FEW, "--out", "best.json").exception
    assert type(failed) is RuntimeError
