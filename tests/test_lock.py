"""``constraints.txt`` pins all that the distributions lead to, on every Python and machine they name."""

from __future__ import annotations

import itertools
import pathlib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tools.distributions import ROOT, distributions, requirements
from tools.installed import installed_versions
from tools.lock import HEADER, UNPINNED, pinned_version, read_pins, unpinned

LOCK = ROOT / "constraints.txt"
PINS = read_pins(LOCK)
MACHINES = ["x86_64", "aarch64"]
ENVIRONMENTS = [
    {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
    }
    for python, machine in itertools.product(distributions()[0].pythons, MACHINES)
]


@pytest.mark.parametrize(
    "environment", ENVIRONMENTS, ids=lambda each: f"{each['python_version']}-{each['platform_machine']}"
)
def test_every_requirement_is_pinned_within_its_bound(environment: dict[str, str]) -> None:
    needed = list(requirements())
    assert len(needed) > 40
    assert unpinned(PINS, needed, environment) == []


def test_what_requirements_lead_to_is_pinned_too() -> None:
    versions = installed_versions(requirements())
    assert {"torch", "markupsafe", "pytest"} <= versions.keys(), "direct and indirect ones are installed"
    loose = sorted(name for name in versions.keys() - UNPINNED if pinned_version(PINS, name, {}) is None)
    assert loose == [], "run `make lock`"


def test_the_file_is_written_by_make_lock() -> None:
    assert LOCK.read_text().startswith(HEADER)
    names = [canonicalize_name(pin.name) for pin in PINS]
    assert names == sorted(names)


def test_a_missing_pin_and_one_out_of_bounds_are_named() -> None:
    pins = [Requirement("numpy==1.25.0"), Requirement("rich==13.9.0; python_version < '3.12'")]
    needed = [
        Requirement(text) for text in ("NumPy>=1.26", "rich>=13.7", "scipy", "pywin32; sys_platform == 'x'")
    ]
    assert unpinned(pins, needed, {"python_version": "3.12"}) == [
        "NumPy is pinned to 1.25.0, outside >=1.26",
        "rich is not pinned",
        "scipy is not pinned",
    ]
    assert pinned_version(pins, "rich", {"python_version": "3.11"}) == "13.9.0"


def test_a_bound_is_no_pin(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "constraints.txt"
    path.write_text("# all\nnumpy>=1.26  # newer\n")
    with pytest.raises(ValueError, match=r"constraints.txt pins no version in 'numpy>=1.26  # newer'"):
        read_pins(path)
    with pytest.raises(ValueError, match="rich is pinned twice: 1, 2"):
        pinned_version([Requirement("rich==1"), Requirement("rich==2")], "rich", {})
