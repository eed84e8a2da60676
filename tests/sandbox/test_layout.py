"""What a job may see of the files here."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

from ttd_core.sandbox import layout


@pytest.fixture
def site(tmp_path: pathlib.Path) -> pathlib.Path:
    """A site-packages folder with a library, a problem plugin and ttd itself."""
    site = tmp_path / "site-packages"
    for package in ("library", "someones_problem", "ttd_core"):
        (site / package).mkdir(parents=True)
        (site / package / "__init__.py").write_text("")
    (site / "someones_problem" / "best.json").write_text("[1]")
    (site / "_helper_of_problem.py").write_text("")
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
