"""Finding and loading problems: provenance, clashes, faults and files, with distributions made for real."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import attrs
import numpy as np
import pytest

from ttd_core import config as configs
from ttd_core.errors import (
    ConfigError,
    PluginError,
    RegistryClashError,
    TtdError,
    UnknownProblemError,
    UsageError,
)
from ttd_core.plugin import entries, registry
from ttd_core.problem import Options, option


@pytest.fixture
def summing(install, problem_source):
    """A distribution that brings the problem ``sum``."""
    return install(
        "ttd-sum", {"sum_problem": problem_source}, problems={"sum": "sum_problem:Sum"}, version="2.1"
    )


def test_an_entry_knows_where_it_comes_from(summing) -> None:
    entry = entries.find("sum")
    assert attrs.astuple(entry) == ("sum", "sum_problem:Sum", "ttd-sum", "2.1")
    assert entry.label == "sum (ttd-sum 2.1)"
    assert entry in registry.entries()


def test_listing_imports_no_plugin(summing) -> None:
    assert "sum" in [entry.name for entry in entries.entries()]
    assert "sum_problem" not in sys.modules


def test_load_fills_the_options(summing) -> None:
    problem = registry.load("sum", {"size": 4, "timeout_s": 5})
    assert (problem.options.size, problem.options.timeout_s, problem.options.label) == (4, 5.0, None)
    assert registry.provenance(problem) == "sum (ttd-sum 2.1)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sise": 4}, "problem sum: unknown option 'sise'. Did you mean 'size'?"),
        ({"size": "four"}, "problem sum: size needs a whole number, not 'four'"),
        ({"label": 3}, "problem sum: label needs text or none, not 3"),
        ({"reply": "bits"}, "problem sum: 'reply' must be in ('program', 'parts', 'edits') (got 'bits')"),
        ({"cpus": 0}, "problem sum: cpus must be at least 1, not 0"),
        ({"timeout_s": 0}, "problem sum: timeout_s must be above 0, not 0.0"),
        ({"budget_s": -1}, "problem sum: budget_s must be above 0, not -1.0"),
        ({"memory_mb": 0}, "problem sum: memory_mb must be at least 1, not 0"),
    ],
)
def test_a_wrong_option_is_named(summing, options, message) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.load("sum", options)
    assert str(caught.value) == message


@pytest.mark.parametrize(("name", "value"), [("cpus", 0), ("timeout_s", 0.0), ("memory_mb", -1)])
def test_a_problem_with_limits_of_its_own_keeps_their_bounds(name, value) -> None:
    @attrs.frozen
    class Roomy(Options):
        timeout_s: float = option(9.0, "less")
        cpus: int = option(4, "more")
        memory_mb: int = option(9999, "much more")

    assert Roomy(cpus=1).cpus == 1
    with pytest.raises(ValueError, match=f"'{name}' must be"):
        Roomy(**{name: value})


def test_resolve_spells_every_option_out(summing) -> None:
    config = configs.load("sum", sets=["options.size=2"])
    problem, resolved = registry.resolve(config)
    assert resolved.options["size"] == 2
    assert resolved.options["label"] == "none"
    assert set(resolved.options) == set(attrs.asdict(problem.options))
    again, twice = registry.resolve(configs.from_toml(configs.to_toml(resolved)))
    assert again.options == problem.options
    assert twice == resolved


def test_an_unknown_problem_and_the_closest_one(summing) -> None:
    with pytest.raises(
        UnknownProblemError, match=r"registers problem 'sun'\. Did you mean 'sum'\?"
    ) as caught:
        registry.find("sun")
    assert caught.value.exit_code == 2


def test_an_unknown_problem_that_a_known_distribution_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UnknownProblemError, match="It comes with ttd-math: pip install ttd-math"):
        registry.find("erdos")
    with pytest.raises(UnknownProblemError, match="None is installed: pip install ttd-math"):
        registry.find("something-else")


def test_two_distributions_that_claim_one_name(summing, install, problem_source) -> None:
    install("other-sum", {"other_sum": problem_source}, problems={"sum": "other_sum:Sum"})
    with pytest.raises(RegistryClashError, match=r"'sum' is claimed by other-sum 1\.0 and ttd-sum 2\.1"):
        registry.load("sum")
    assert [str(clash) for clash in registry.clashes(registry.entries())] == [
        "'sum' is claimed by other-sum 1.0 and ttd-sum 2.1; uninstall all but one"
    ]


BROKEN = {
    "syntax": ("def", "SyntaxError"),
    "missing": ("import no_such_module_anywhere", "No module named 'no_such_module_anywhere'"),
    "raises": ("raise RuntimeError('half\\nbuilt')", "RuntimeError: half built (broken_raises.py:1)"),
    "exits": ("import sys\nsys.exit('bye')", "SystemExit: bye (broken_exits.py:2)"),
    "no_class": ("x = 1", "has no attribute 'Thing'"),
    "no_problem": ("class Thing: pass", "not a subclass of ttd_core.Problem"),
    "abstract": (
        "from ttd_core import Problem\nclass Thing(Problem): pass",
        "does not define check, construct",
    ),
}


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_a_plugin_that_cannot_be_imported_is_named(install, kind: str) -> None:
    source, reason = BROKEN[kind]
    install("broken", {f"broken_{kind}": source}, problems={"thing": f"broken_{kind}:Thing"})
    with pytest.raises(PluginError) as caught:
        registry.load("thing")
    assert str(caught.value).startswith("plugin thing (broken 1.0): import: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Sum.name = 'other'", "its class says name = 'other'; it must equal the entry point's name"),
        ("Sum.title = None", "it does not set title to text"),
        ("Sum.direction = 'up'", "direction is 'up'; it must be 'min' or 'max'"),
        ("Sum.options_type = dict", "options_type is not a subclass of ttd_core.Options"),
        ("SumOptions.__annotations__['size'] = 'Nowhere'", "the type hints of SumOptions cannot be read"),
    ],
)
def test_a_class_that_is_no_whole_problem(install, problem_source, line: str, reason: str) -> None:
    install("half", {"half_problem": f"{problem_source}\n{line}\n"}, problems={"sum": "half_problem:Sum"})
    with pytest.raises(PluginError, match="half_problem:Sum: ") as caught:
        registry.load("sum")
    assert reason in str(caught.value)


def test_a_constructor_that_raises_is_the_plugins_fault(install, problem_source) -> None:
    source = f"{problem_source}\n    def __init__(self, options=None):\n        raise OSError('no data')\n"
    install("ctor", {"ctor_problem": source}, problems={"sum": "ctor_problem:Sum"})
    with pytest.raises(PluginError, match=r"plugin sum \(ctor 1\.0\): __init__: OSError: no data"):
        registry.load("sum")


def test_load_all_reports_each_and_stops_nothing(summing, install) -> None:
    install("broken", {"broken_all": "raise ValueError('no')"}, problems={"bad": "broken_all:Bad"})
    outcome = {loaded.entry.name: loaded for loaded in registry.load_all()}
    assert outcome["sum"].error is None
    assert outcome["sum"].value.title == "Make a sum large"
    assert isinstance(outcome["bad"].error, PluginError)
    assert outcome["bad"].value is None


def test_interrupting_an_import_passes(install) -> None:
    install("slow", {"slow_problem": "raise KeyboardInterrupt"}, problems={"slow": "slow_problem:Slow"})
    with pytest.raises(KeyboardInterrupt):
        registry.load("slow")


def test_a_problem_in_a_file(tmp_path: pathlib.Path, problem_source, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_problem.py").write_text(problem_source)
    monkeypatch.chdir(tmp_path)
    for reference in ("./my_problem.py:Sum", "my_problem.py", str(tmp_path / "my_problem.py:Sum")):
        problem = registry.load(reference, {"size": 2})
        assert len(problem.seed_states(np.random.default_rng(0), 2)) == 2
        assert problem.options.size == 2
        assert registry.provenance(problem) == f"sum ({tmp_path / 'my_problem.py'})"


def test_a_file_problem_is_resolved_to_its_place(tmp_path: pathlib.Path, problem_source, monkeypatch) -> None:
    (tmp_path / "my_problem.py").write_text(problem_source)
    monkeypatch.chdir(tmp_path)
    _, resolved = registry.resolve(configs.load("./my_problem.py"))
    monkeypatch.chdir("/")
    assert resolved.problem == f"{tmp_path / 'my_problem.py'}:Sum"
    assert registry.load(resolved.problem).name == "sum"


def test_files_that_hold_no_such_problem(tmp_path: pathlib.Path, problem_source) -> None:
    file = tmp_path / "my_problem.py"
    with pytest.raises(UsageError, match=r"my_problem\.py: no such file"):
        registry.load(f"{file}:Sum")
    file.write_text("x = 1\n")
    with pytest.raises(UsageError, match=r"has no 'Sum'; it defines no problem"):
        registry.load(f"{file}:Sum")
    file.write_text(f"{problem_source}\nclass Other(Sum):\n    name = 'other'\n")
    with pytest.raises(UsageError, match=r"holds no single problem; name one of its problems: Sum, Other"):
        registry.load(str(file))
    assert registry.load(f"{file}:Other").name == "other"
    file.write_text("raise ValueError('half')\n")
    with pytest.raises(PluginError, match=r"import: ValueError: half \(my_problem\.py:1\)"):
        registry.load(f"{file}:Sum")


def test_every_error_of_the_registry_is_for_a_person() -> None:
    for error in (PluginError("p", "h", "r"), RegistryClashError("x"), UnknownProblemError("x")):
        assert isinstance(error, TtdError)


def test_the_problems_of_an_installed_wheel_come_and_go(tmp_path: pathlib.Path, problem_source) -> None:
    """A real wheel, put on a path and taken off it, in a process of its own."""
    wheel = tmp_path / "wheel"
    (wheel / "ttd_sum-3.0.dist-info").mkdir(parents=True)
    (wheel / "sum_problem.py").write_text(problem_source)
    (wheel / "ttd_sum-3.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: ttd-sum\nVersion: 3.0\n"
    )
    (wheel / "ttd_sum-3.0.dist-info" / "entry_points.txt").write_text(
        "[ttd.problems]\nsum = sum_problem:Sum\n"
    )
    program = (
        "import sys; from ttd_core.plugin import entries;"
        "print('sum' in [entry.name for entry in entries.entries()])\n"
        f"sys.path.insert(0, {str(wheel)!r})\n"
        "print('sum' in [entry.name for entry in entries.entries()])\n"
        "from ttd_core.plugin import registry; print(registry.load('sum').title)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:3] == ["False", "True", "Make a sum large"]
