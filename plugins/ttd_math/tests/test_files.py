"""Constructions in files of every kind: read as what they mean, or refused in one line."""

from __future__ import annotations

import gzip
import json
import pathlib
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_core import certificate, certifying
from ttd_core.cli.certify import certify
from ttd_core.cli.evaluate import evaluate, evaluate_file
from ttd_core.errors import UsageError
from ttd_core.testing.strategies import extreme_floats
from ttd_core.types import State, Status
from ttd_math.autocorrelation import FirstInequality, SecondInequality
from ttd_math.circle_packing import CirclePacking26, CirclePacking32
from ttd_math.erdos import Erdos

H = [0.25, 0.75, 0.75, 0.25]
SIDE = (np.arange(6) + 0.5) / 6
CENTERS = np.array([(x, y) for x in SIDE for y in SIDE])[:26]
RADII = np.linspace(0.01, 1 / 12, 26)
ROWS = np.column_stack([CENTERS, RADII])
FIELDS = np.array([tuple(row) for row in ROWS], [("x", "f8"), ("y", ">f8"), ("r", "f8")])


def objects(*names: str) -> list[dict[str, float]]:
    return [dict(zip(names, row, strict=True)) for row in ROWS.tolist()]


def around(**more: Any) -> list[dict[str, Any]]:
    return [{"center": row[:2], "radius": row[2]} | more for row in ROWS.tolist()]


HEIGHTS = {
    "list": H,
    "nested": [H],
    "column": [[height] for height in H],
    "claims": [H, 0.38, 4],
    "named": {"h": H},
    "another name": {"h_values": H, "c5_bound": 0.1},
    "capitals": {"H": H, "n": 4},
    "sequence": {"sequence": H, "score": 0.4},
    "values": {"n": 4, "values": H},
    "within another": {"name": "best", "solution": {"values": H}},
    "with its problem": {"problem": "erdos", "h": H},
    "array": np.array(H),
    "float32": np.array(H, np.float32),
    "column array": np.array(H)[:, None],
    "row array": np.array(H)[None],
    "big-endian": np.array(H, ">f8"),
    "by name": {"h": np.array(H), "score": np.array(0.4), "problem": np.array("erdos")},
    "by position": {"arr_0": np.array(H)},
    "column by name": {"h": np.array(H)[:, None]},
    "lines": "0.25\n0.75\n0.75\n0.25\n",
    "csv": "0.25,0.75,0.75,0.25\r\n",
    "columns": "x,h\n0.0,0.25\n0.5,0.75\n1.0,0.75\n1.5,0.25\n",
    "pandas": ',"h"\n0,0.25\n1,0.75\n2,0.75\n3,0.25\n',
}

PACKINGS = {
    "named": {"centers": CENTERS.tolist(), "radii": RADII.tolist()},
    "named, with claims": {"centers": CENTERS.tolist(), "radii": RADII.tolist(), "sum": 9.9, "n": 26},
    "positions": [CENTERS.tolist(), RADII.tolist(), 9.9],
    "circles": {"circles": objects("x", "y", "radius"), "sum_radii": 9.9},
    "objects": objects("x", "y", "r"),
    "centers of objects": around(id=3),
    "triples": ROWS.tolist(),
    "circles as triples": {"circles": ROWS.tolist()},
    "columns": {"x": ROWS[:, 0].tolist(), "y": ROWS[:, 1].tolist(), "r": ROWS[:, 2].tolist()},
    "array": ROWS,
    "fields": FIELDS,
    "by name": {"centers": CENTERS, "radii": RADII, "sum": np.array(1.0)},
    "column of radii": {"centers": CENTERS, "radii": RADII[:, None]},
    "by position": {"arr_0": CENTERS, "arr_1": RADII},
    "big-endian, column-major": {"centers": np.asfortranarray(CENTERS.astype(">f8")), "radii": RADII},
    "csv": "x,y,r\n" + "".join(f"{x!r},{y!r},{r!r}\n" for x, y, r in ROWS.tolist()),
    "csv of others": "id;x;y;radius\n" + "".join(f"0;{x!r};{y!r};{r!r}\n" for x, y, r in ROWS.tolist()),
    "rows": "".join(f"{x!r} {y!r} {r!r}\n" for x, y, r in ROWS.tolist()),
    "json lines": "".join(f"{json.dumps(circle)}\n" for circle in objects("x", "y", "r")),
}


def write(folder: pathlib.Path, value: Any) -> pathlib.Path:
    """A file that holds a value, in the form it would have."""
    if isinstance(value, dict) and any(isinstance(item, np.ndarray) for item in value.values()):
        np.savez(folder / "file.npz", **value)
        return folder / "file.npz"
    if isinstance(value, np.ndarray):
        np.save(folder / "FILE.NPY", value)
        return (
            (folder / "FILE.NPY").with_suffix(".NPY")
            if (folder / "FILE.NPY").exists()
            else folder / "FILE.NPY.npy"
        )
    path = folder / ("file.txt" if isinstance(value, str) else "file.json")
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize("name", HEIGHTS)
def test_heights_in_every_form(name, tmp_path) -> None:
    problem = Erdos()
    path = write(tmp_path, HEIGHTS[name])
    for file in (path, tmp_path / f"{path.name}.gz"):
        if file != path:
            file.write_bytes(gzip.compress(path.read_bytes()))
        assert problem.read_construction(file).data["h"].tolist() == H
        assert evaluate_file("erdos", problem, file).ok


@pytest.mark.parametrize("name", PACKINGS)
def test_packings_in_every_form(name, tmp_path) -> None:
    problem = CirclePacking26()
    verdict = evaluate_file("cp26", problem, write(tmp_path, PACKINGS[name]))
    assert verdict.ok, verdict.message
    assert verdict.state.data["centers"].tolist() == CENTERS.tolist()
    assert verdict.state.data["radii"].tolist() == RADII.tolist()


def without(circles: list[dict[str, float]], name: str) -> list[dict[str, float]]:
    return [*circles[:7], {key: value for key, value in circles[7].items() if key != name}, *circles[8:]]


WRONG = [
    (Erdos, {"result": {"h": H}}, "has none of the keys h, h_values, heights, values, .*, f; it has result"),
    (Erdos, {}, "it has none at all"),
    (Erdos, {"problem": "ac1", "h": H}, "holds a construction of 'ac1', not of erdos"),
    (Erdos, {"problem": ["erdos"], "h": H}, "holds a construction of"),
    (Erdos, {"problem": np.arange(3), "h": np.array(H)}, "holds a construction of"),
    (Erdos, {"format": np.arange(3), "x": np.array(H)}, "has none of the keys"),
    (Erdos, "h = [0.25, 0.75]", "not JSON: .*where 'h = "),
    (Erdos, "[0.25, 0.75, ]", "not JSON: .* where"),
    (Erdos, ["0.25", "0.75"], r"h\[0\] is a str instead of a number"),
    (Erdos, [0.25, None], r"h\[1\] is a NoneType instead of a number"),
    (Erdos, [H, H], "one row or column of numbers is needed, not 2 rows"),
    (Erdos, np.zeros((4, 2)), r"one row or column of numbers is needed, not shape \(4, 2\)"),
    (Erdos, np.zeros(4, complex), "h has dtype complex128"),
    (Erdos, np.zeros(4, bool), "h has dtype bool"),
    (Erdos, np.zeros(4, np.longdouble), "h has dtype float128"),
    (Erdos, np.array(["0.5"] * 4), "h has dtype <U3"),
    (CirclePacking26, without(objects("x", "y", "r"), "r"), "circle 7 has none of the keys r, radius, radii"),
    (CirclePacking26, without(objects("x", "y", "r"), "y"), "circle 7 has none of the keys y; it has x, r"),
    (CirclePacking26, {"x": [0.5], "y": [0.5, 0.6], "r": [0.1]}, "x and y must be lists of as many numbers"),
    (CirclePacking26, {"x": 3, "y": {}, "r": [0.1]}, "x and y must be lists of numbers"),
    (CirclePacking26, {"centers": CENTERS.tolist(), "r": 3}, "has none of the keys radii, radius"),
    (CirclePacking26, {"centers": CENTERS.T, "radii": RADII}, r"centers must have shape \(n, 2\)"),
    (CirclePacking26, [[*map(str, row)] for row in ROWS], r"centers\[0\]\[0\] is a str instead of a number"),
]


@pytest.mark.parametrize(("problem", "value", "message"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_meant_is_refused_in_one_line(problem, value, message, tmp_path) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        problem().read_construction(write(tmp_path, value))
    assert "\n" not in str(refusal.value)


def test_tolerances_and_infinities_are_judged_as_ever(tmp_path) -> None:
    tight = {"centers": [[0.1, 0.1], *CENTERS[1:].tolist()], "radii": [0.1 + 1e-7, *RADII[1:].tolist()]}
    assert (
        "leaves the square by 1e-07"
        in evaluate_file("cp26", CirclePacking26(), write(tmp_path, tight)).message
    )
    verdict = evaluate_file(
        "cp26", CirclePacking26(), write(tmp_path, {"centers": CENTERS * np.nan, "radii": RADII})
    )
    assert verdict.message == "centers[0, 0] is nan: 52 of 52 values are not finite"


NAMES = ["h", "f", "x", "y", "r", "circles", "centers", "radii", "center", "problem", "format"]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | extreme_floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(
                ["h", "f", "x", "y", "r", "circles", "centers", "radii", "center", "problem", "format"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@pytest.mark.parametrize(
    "problem",
    [Erdos(), FirstInequality(), SecondInequality(), CirclePacking26(), CirclePacking32()],
    ids=lambda problem: problem.name,
)
def test_arbitrary_values_in_files(problem, tmp_path) -> None:
    examples = read = 0

    @settings(max_examples=200, database=None)
    @given(JSON_VALUES)
    def reads(value) -> None:
        nonlocal examples, read
        examples += 1
        (tmp_path / "file.json").write_text(json.dumps(value))
        try:
            state = problem.read_construction(tmp_path / "file.json")
        except UsageError:
            return
        read += 1
        assert isinstance(problem.check(state), list)

    reads()
    print(f"{problem.name}: {examples} files of random JSON, {read} read and judged, 0 exceptions")


def certified(folder: pathlib.Path) -> pathlib.Path:
    path = folder / "best.cert.json"
    certificate.write(certifying.certify(Erdos(), State(data={"h": np.array(H)})), path)
    return path


def test_certificates_are_read_whatever_saved_or_packed_them(tmp_path) -> None:
    path = certified(tmp_path)
    text = path.read_text()
    array = (tmp_path / "best.cert.h.npy").read_bytes()
    for content in (
        text.encode("utf-8-sig"),
        text.replace("\n", "\r\n").encode("utf-16"),
        gzip.compress(text.encode()),
    ):
        path.write_bytes(content)
        assert CliRunner().invoke(certify, ["--check", str(path)]).exit_code == 0
        assert evaluate_file("erdos", Erdos(), path).ok
    (tmp_path / "best.cert.h.npy").write_bytes(gzip.compress(array))
    assert CliRunner().invoke(certify, ["--check", str(path)]).exit_code == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": "./evil.py:Evil"}, "is no name of a problem"),
        ({"problem": ["erdos"]}, "is no name of a problem"),
        ({"problem": "no-such-problem"}, "no-such-problem"),
        ({"format": ["ttd certificate 1"]}, "not a certificate"),
        ({"arrays": {"x": ["best.cert.h.npy"]}}, "is not the name of an array file beside it"),
        ({"arrays": {"x": "a\0.npy"}}, "cannot be read"),
        ({"arrays": 3}, "its data cannot be read"),
        ({"data": {"h": {"$array": [1]}}}, "its data cannot be read"),
        ({"data": 3}, "its data cannot be read"),
        ({"data": {"h": {"$array": "0"}}}, "its data cannot be read"),
        ({"bound": {"decimal": [[[[]]]]}}, "bound does not hold"),
        ({"claim": float("nan")}, "claim does not hold"),
        ({"facts": None}, "facts does not hold"),
    ],
    ids=range(13),
)
def test_hostile_certificates_are_refused_and_execute_nothing(change, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = certified(tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    error = CliRunner().invoke(certify, ["--check", str(path)]).exception
    assert isinstance(error, UsageError | certificate.CertificateError | certificate.TtdError)
    assert message in str(error)
    assert "\n" not in str(error)
    assert not (tmp_path / "executed").exists()


def test_an_array_file_that_holds_something_else(tmp_path) -> None:
    path = certified(tmp_path)
    for content in (b"[0.25, 0.75]", b"", b"PK\x05\x06" + b"\0" * 18):
        (tmp_path / "best.cert.h.npy").write_bytes(content)
        error = CliRunner().invoke(certify, ["--check", str(path)]).exception
        assert isinstance(error, UsageError | certificate.CertificateError)


def test_eval_tells_what_a_file_of_another_kind_is(tmp_path) -> None:
    (tmp_path / "h.json.gz").write_bytes(gzip.compress(json.dumps(H).encode()))
    assert evaluate_file("erdos", Erdos(), tmp_path / "h.json.gz").status is Status.OK
    (tmp_path / "h.npz").write_bytes(b"\x80\x04\x95")
    with pytest.raises(UsageError, match="a pickle, which is never read"):
        evaluate_file("erdos", Erdos(), tmp_path / "h.npz")


@pytest.mark.parametrize("problem", [FirstInequality, SecondInequality])
@pytest.mark.parametrize("key", ["f", "heights", "sequence", "values", "f_values", "height_sequence"])
def test_public_names_of_heights(problem, key, tmp_path) -> None:
    path = write(tmp_path, {key: [1.0] * 1000, "score": 1.5})
    assert problem().read_construction(path).data["f"].tolist() == [1.0] * 1000


OFF = [0.25, 0.75, 1.000002, 0.0, *H[:2], 0.5, 0.499999]


@pytest.fixture
def off(tmp_path) -> pathlib.Path:
    """Heights whose sum is off by 1e-6, one of them above 1."""
    return write(tmp_path, OFF)


def test_a_sum_that_is_off_is_refused_by_how_much_and_can_be_projected(off, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = CliRunner().invoke(evaluate, ["erdos", str(off)]).output
    assert plain.startswith("erdos: invalid: h[2] = 1.000002 is above 1; h sums to 4.000001")
    assert "off by 1e-06\n--project moves it to the nearest that is valid: the heights were moved" in plain
    wrong_length = write(tmp_path, [0.5])
    assert "--project" not in CliRunner().invoke(evaluate, ["erdos", str(wrong_length)]).output
    off = write(tmp_path, OFF)
    result = CliRunner().invoke(evaluate, ["erdos", str(off), "--project", "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.output)
    assert facts["projected"].startswith(
        "the heights were moved by at most 2e-06, so that they lie in [0, 1]"
    )
    assert "sum to n/2 = 4 (the sum was 4.000001" in facts["projected"]
    text = CliRunner().invoke(evaluate, ["erdos", str(off), "--project"]).output
    assert text.splitlines()[-1] == f"projected: {facts['projected']}"

    made = CliRunner().invoke(certify, ["erdos", str(off), "--project", "-w", "off.json"])
    assert made.exit_code == 0, made.output
    assert f"projected: {facts['projected']}" in made.output
    statement = json.loads((tmp_path / "off.json").read_text())
    assert statement["origin"] == {"projected": facts["projected"]}
    assert certifying.check(Erdos(), tmp_path / "off.json").state.data["h"].max() <= 1.0


def test_what_is_valid_is_not_projected(tmp_path) -> None:
    path = write(tmp_path, H)
    result = CliRunner().invoke(evaluate, ["erdos", str(path), "--project", "--json"])
    assert json.loads(result.output)["projected"] is None
    assert Erdos().project(State(data={"h": np.array(H)}))[0].data["h"].tolist() == pytest.approx(H)


@pytest.mark.parametrize(
    ("problem", "value", "message"),
    [
        ("erdos", [float("nan"), 0.5], "no projection of these heights: h[0] is nan"),
        ("erdos", [0.5] * 1001, "no projection of these heights: h has 1001 values"),
        ("cp26", [[0.5, 0.5, 0.1]] * 26, "cp26 has no repair to offer"),
    ],
)
def test_what_has_no_honest_repair_is_refused(problem, value, message, tmp_path) -> None:
    result = CliRunner().invoke(evaluate, [problem, str(write(tmp_path, value)), "--project"])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
