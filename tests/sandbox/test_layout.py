"""What a job may see of the files here."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from ttd_core.sandbox import layout
from ttd_core.sandbox.base import PythonJob
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.sandbox.probe import probe


@pytest.fixture
def site(tmp_path: pathlib.Path) -> pathlib.Path:
    """A site-packages folder with a library, a problem plugin and ttd itself."""
    site = tmp_path / "site-packages"
    for package in ("library", "someones_problem", "ttd_core"):
        (site / package).mkdir(parents=True)
        (site / package / "__init__.py").write_text("")
    (site / "someones_problem" / "best.json").write_text("[1]")
    (site / "_helper_of_problem.py").write_text("")
    (site / "__pycache__").mkdir()
    for name, modules, points in (
        ("library", ["library/__init__.py"], ""),
        (
            "someones-problem",
            ["someones_problem/__init__.py", "someones_problem/best.json", "_helper_of_problem.py"],
            "[ttd.problems]\nhard = someones_problem:Hard\n",
        ),
    ):
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)
        record = [*modules, f"{info.name}/METADATA", f"{info.name}/entry_points.txt", f"{info.name}/RECORD"]
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in record))
    return site


def test_plugins_and_ttd_itself_are_hidden_and_libraries_are_not(site: pathlib.Path) -> None:
    hidden = {pathlib.Path(path).name for path in layout._hidden_in([str(site)])}
    assert {"someones_problem", "_helper_of_problem.py", "ttd_core"} <= hidden
    assert "library" not in hidden


def add_single_file_problem(site: pathlib.Path, record: bool = True) -> None:
    """A problem that is one module, with its bytecode and a file of data beside the libraries."""
    (site / "__pycache__").mkdir(exist_ok=True)
    (site / "hard.py").write_text("SECRET = 'verifier'")
    (site / "__pycache__" / "hard.cpython-311.pyc").write_bytes(b"SECRET verifier")
    (site.parent / "share").mkdir(exist_ok=True)
    (site.parent / "share" / "answers.json").write_text("[1]")
    info = site / "hard-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hard\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ttd.problems]\nhard = hard:Hard\n")
    if record:
        named = ["hard.py", "../share/answers.json", "hard-1.0.dist-info/METADATA", "gone.py"]
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in named))


@pytest.mark.parametrize("record", [True, False])
def test_a_problem_of_one_file_is_hidden_with_its_bytecode(site: pathlib.Path, record: bool) -> None:
    add_single_file_problem(site, record)
    hidden = layout._hidden_in([str(site)])
    assert {str(site / "hard.py"), str(site / "__pycache__")} <= set(hidden)
    assert (str(site.parent / "share" / "answers.json") in hidden) is record
    assert str(site / "gone.py") not in hidden, "what is not there cannot be covered by a mount"


def test_bytecode_that_is_still_to_come_is_not_shown(site: pathlib.Path) -> None:
    add_single_file_problem(site)
    (site / "__pycache__" / "hard.cpython-311.pyc").unlink()
    (site / "__pycache__").rmdir()
    found = layout.Layout(
        python=sys.executable,
        search=(),
        prefix=(),
        libraries=(str(site),),
        hidden=layout._hidden_in([str(site)]),
        program="",
    )
    assert str(site / "__pycache__") not in found.covered
    assert str(site) not in found.readable(covered=True)
    assert str(site / "library") in found.readable(covered=True)


def test_every_site_packages_in_reach_is_searched(tmp_path: pathlib.Path) -> None:
    deep = tmp_path / "lib" / "tools" / "venv" / "lib" / "python3.9" / "site-packages"
    beside = tmp_path / "lib" / "python3" / "dist-packages"
    for folder in (deep, beside, tmp_path / "share" / "doc" / "site-packages"):
        folder.mkdir(parents=True)
    (tmp_path / "lib" / "loop").symlink_to(tmp_path)
    found = layout._folders_in([str(tmp_path)], {"site-packages", "dist-packages"})
    assert sorted(found) == sorted([str(deep), str(beside)])


def test_a_tree_without_what_is_hidden_keeps_the_rest(tmp_path: pathlib.Path) -> None:
    for name in ("a/x", "a/y/secret", "a/y/open", "b"):
        (tmp_path / name).mkdir(parents=True)
    hidden = (str(tmp_path / "a" / "y" / "secret"),)
    shown = {path.removeprefix(f"{tmp_path}/") for path in layout._without(str(tmp_path), hidden)}
    assert shown == {"a/x", "a/y/open", "b"}
    assert layout._without(str(tmp_path / "a" / "y" / "secret"), hidden) == []
    assert layout._without(str(tmp_path / "b"), hidden) == [str(tmp_path / "b")]
    needed = [str(tmp_path / "a" / "y" / "open")]
    beside = {path.removeprefix(f"{tmp_path}/") for path in layout._beside(str(tmp_path), needed)}
    assert beside == {"a/x", "a/y/secret", "b"}


def test_a_working_folder_among_the_system_s_is_hidden(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path.resolve()
    library = root / "src" / "app" / ".venv" / "lib" / "site-packages"
    library.mkdir(parents=True)
    (root / "src" / "app" / "problem.py").write_text("")
    (root / "src" / "app" / "runs").mkdir()
    monkeypatch.setattr(layout, "SYSTEM", (str(root),))
    monkeypatch.chdir(root / "src" / "app")
    hidden, _ = layout._not_for_jobs([str(library)], ())
    assert {str(root / "src" / "app" / name) for name in ("problem.py", "runs")} <= set(hidden)
    assert not any(str(library).startswith(path) for path in hidden)


@pytest.fixture
def with_site(site: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """The site-packages folder with a problem of one file, among those of this interpreter."""
    probe()  # of the layout as it is
    add_single_file_problem(site)
    (site / "library" / "__init__.py").write_text("VALUE = 7")
    monkeypatch.syspath_prepend(str(site))
    layout.find.cache_clear()
    yield site
    layout.find.cache_clear()


_READER = """
import os, library
def run(site):
    told = []
    for folder, _, names in os.walk(site):
        for name in names:
            try:
                with open(os.path.join(folder, name), "rb") as file:
                    told.append(os.path.join(folder, name)[len(site) + 1:] if file.read() else "")
            except OSError:
                pass
    return library.VALUE, sorted(filter(None, told))
"""


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_job_reads_libraries_and_nothing_of_problems(with_site: pathlib.Path, number: int) -> None:
    methods = probe().methods
    if number >= len(methods):
        pytest.skip("fewer methods can be formed here")
    with LocalExecutor(1, exactly=methods[number]) as executor:
        result = executor.run(PythonJob(_READER, "run", args=[str(with_site)]))
    assert result.ok, result.message
    value, files = result.value
    assert value == 7
    assert files == [
        "library-1.0.dist-info/METADATA",
        "library-1.0.dist-info/RECORD",
        "library/__init__.py",
    ], methods[number]


def test_hidden_ones_are_left_out_of_what_may_be_read(site: pathlib.Path) -> None:
    found = layout.Layout(
        python=sys.executable,
        search=(),
        prefix=(),
        libraries=(str(site),),
        hidden=layout._hidden_in([str(site)]),
        program="",
    )
    named = {pathlib.Path(path).name for path in found.readable(covered=False)}
    assert "library" in named
    assert not named & {"someones_problem", "ttd_core", "site-packages"}
    assert str(site) in found.readable(covered=True)


def test_the_running_interpreter_and_its_libraries_are_shown() -> None:
    found = layout.find()
    assert any(str(np.__file__).startswith(folder) for folder in found.libraries)
    assert any(path.startswith(sys.base_prefix) for path in found.search)
    assert all(pathlib.Path(path).is_absolute() for path in (*found.prefix, *found.libraries))
    home = str(pathlib.Path.home())
    assert home not in {*found.prefix, *found.libraries}
