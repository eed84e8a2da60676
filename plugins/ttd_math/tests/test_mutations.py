"""A verifier with a fault must not pass its tests: each mutation below is caught by the suite named.

Every mutation is applied to a copy of the package; the suite runs against that copy in a process of its own.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import attrs
import pytest

import ttd_math

HERE = pathlib.Path(__file__).parent
SUITES = ("plain", "erdos", "autocorrelation", "circle_packing", "certify")


@attrs.frozen
class Mutation:
    """A fault: texts to replace, each found exactly once in its module."""

    what: str
    suite: str
    changes: tuple[tuple[str, str, str], ...]


def fault(what: str, suite: str, module: str, old: str, new: str) -> Mutation:
    return Mutation(what, suite, ((module, old, new),))


MUTATIONS = [
    fault(
        "let masked arrays in",
        "plain",
        "plain",
        "    if type(value) is np.ndarray:\n        return _frozen(_numeric(value, name, 1, most))",
        "    if isinstance(value, np.ndarray):\n        return _frozen(_numeric(value, name, 1, most))",
    ),
    fault(
        "let objects in", "plain", "plain", 'value.dtype.kind not in "iuf"', 'value.dtype.kind not in "iufO"'
    ),
    fault(
        "let lying numbers in",
        "plain",
        "plain",
        "if not frozenset(map(type, value)) <= _NUMBERS:",
        "if False:",
    ),
    fault(
        "keep an alias of the candidate's array",
        "plain",
        "plain",
        'copy = np.array(array, dtype=np.float64, order="C", copy=True)\n    copy.setflags(write=False)',
        "copy = np.asarray(array, dtype=np.float64)",
    ),
    fault("read on past the length limit", "plain", "plain", "if value.size > most:", "if False:"),
    fault("let NaN pass", "erdos", "erdos", "    if infinite:\n        return [infinite]\n", ""),
    fault("allow slightly negative heights", "erdos", "erdos", "if h[low] < 0:", "if h[low] < -1e-6:"),
    fault("allow heights slightly above 1", "erdos", "erdos", "if h[high] > 1:", "if h[high] > 1 + 1e-6:"),
    fault("loosen the sum", "erdos", "erdos", "SUM_TOLERANCE = 1e-9", "SUM_TOLERANCE = 1e-8"),
    fault(
        "flip a sign",
        "erdos",
        "erdos",
        'np.correlate(h, 1.0 - h, mode="full").max()',
        'np.correlate(h, 1.0 + h, mode="full").max()',
    ),
    fault("look at half the shifts", "erdos", "erdos", 'mode="full").max()', 'mode="same").max()'),
    fault(
        "ignore the length limit", "erdos", "erdos", "if not least <= h.size <= most:", "if h.size < least:"
    ),
    Mutation(
        "trust the reported bound",
        "erdos",
        (
            (
                "erdos",
                "            value = value[0]\n",
                "            self.claim = value[1] if value[1:] else 9.0\n            value = value[0]\n",
            ),
            (
                "erdos",
                "        bound = overlap_bound(h)\n        return Reward",
                '        bound = getattr(self, "claim", None) or overlap_bound(h)\n        return Reward',
            ),
        ),
    ),
    fault("reward the worse bound", "erdos", "erdos", "Reward(value=1.0 / bound", "Reward(value=bound"),
    fault(
        "never ask the exact form",
        "autocorrelation",
        "rounding",
        "    if interval.decided:\n",
        "    if True:\n",
    ),
    fault(
        "forget the error of the FFT",
        "autocorrelation",
        "convolution",
        "return values, 2.02 * growth * ROUNDOFF",
        "return values, 0.0 * growth * ROUNDOFF",
    ),
    fault("let negative heights pass", "autocorrelation", "autocorrelation", "if f[low] < 0:", "if False:"),
    fault(
        "drop the least sum",
        "autocorrelation",
        "autocorrelation",
        "return [] if found >= LEAST_SUM",
        "return [] if found >= 0",
    ),
    fault(
        "never lower heights to the ceiling",
        "autocorrelation",
        "autocorrelation",
        "np.where(f > CEILING, CEILING, f)",
        "np.where(f > CEILING, f, f)",
    ),
    fault(
        "lower infinite heights too",
        "autocorrelation",
        "autocorrelation",
        "if np.isfinite(f).all() else f",
        "if True else f",
    ),
    fault(
        "weigh the pieces wrongly",
        "autocorrelation",
        "convolution",
        "(2.0 * float((values * values).sum())",
        "(1.0 * float((values * values).sum())",
    ),
    fault(
        "lose the ends of f*f",
        "autocorrelation",
        "exact",
        "heights, _ = integers(f)\n    y = product(heights, heights)",
        "heights, _ = integers(f)\n    y = product(heights, heights)[1:] or [1]",
    ),
    fault(
        "loosen the tolerance",
        "circle_packing",
        "circle_packing",
        "TOLERANCE = Fraction(1, 10**12)",
        "TOLERANCE = Fraction(1, 10**11)",
    ),
    fault(
        "let circles overlap",
        "circle_packing",
        "circle_packing",
        "return _outside(centers, radii) + _overlapping(centers, radii)",
        "return _outside(centers, radii)",
    ),
    fault(
        "forget two walls",
        "circle_packing",
        "circle_packing",
        "np.minimum(centers, 1.0 - centers) - radii[:, None]",
        "centers - radii[:, None]",
    ),
    fault("let radii be negative", "circle_packing", "circle_packing", "if radii[lowest] < 0:", "if False:"),
    fault(
        "let rounding decide between circles",
        "circle_packing",
        "circle_packing",
        "if reach > 0 and squared_distance(centers[i], centers[j]) < reach**2:",
        "if slack[pair] < -1e-12:",
    ),
    fault(
        "count the circles wrongly",
        "circle_packing",
        "circle_packing",
        "if centers.shape != (count, 2) or radii.shape != (count,):",
        "if len(centers) != len(radii):",
    ),
    fault(
        "round an upper bound down",
        "certify",
        "certify",
        "bound=exact.first_bound(f),\n        up=True",
        "bound=exact.first_bound(f),\n        up=False",
    ),
    fault(
        "normalise the wrong way",
        "certify",
        "exact",
        "if 2 * sum(heights) < n * one:",
        "if 2 * sum(heights) > n * one:",
    ),
    fault(
        "certify heights as they are",
        "certify",
        "certify",
        "bound=exact.normalised_overlap_bound(h)",
        "bound=exact.overlap_bound(h)",
    ),
    fault(
        "shrink too little",
        "certify",
        "certify",
        "shrink = -(-worst // unit) * unit",
        "shrink = worst // unit * unit",
    ),
]


def run_suite(package: pathlib.Path, suite: str) -> subprocess.CompletedProcess[str]:
    """Run one test module against the package in a folder."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
    ]
    command += ["--rootdir", str(package), "-c", os.devnull, str(package / "tests" / f"test_{suite}.py")]
    environment = os.environ | {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, cwd=package, check=False
    )


@pytest.fixture
def package(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the package and its tests, found before the installed one."""
    ignore = shutil.ignore_patterns("__pycache__", "best")
    shutil.copytree(pathlib.Path(ttd_math.__file__).parent, tmp_path / "ttd_math", ignore=ignore)
    shutil.copytree(HERE, tmp_path / "tests", ignore=ignore)
    # Fixtures and time limits that all packages share.
    shutil.copy(HERE.parents[2] / "conftest.py", tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_the_copy_without_a_fault_passes(package, suite) -> None:
    (package / "tests" / "test_origin.py").write_text(
        "import ttd_math\n\n\ndef test_origin():\n    assert ttd_math.__file__.startswith("
        + repr(str(package))
        + ")\n"
    )
    for name in (suite, "origin"):
        result = run_suite(package, name)
        assert result.returncode == 0, result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what.replace(" ", "-"))
def test_every_mutation_is_caught(package, mutation) -> None:
    for module, old, new in mutation.changes:
        path = package / "ttd_math" / f"{module}.py"
        source = path.read_text()
        assert source.count(old) == 1, f"{module}.py holds {source.count(old)} of {old!r}"
        path.write_text(source.replace(old, new))
        compile(path.read_text(), str(path), "exec")
    result = run_suite(package, mutation.suite)
    assert result.returncode == 1, f"{mutation.what}: not caught\n{result.stdout}"
    assert " failed" in result.stdout, result.stdout
    assert "error during collection" not in result.stdout
