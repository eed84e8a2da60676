"""The list of metrics: complete, described, and the only place where their names are spelled."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

from ttd_core.metrics import SECONDS, Described, Metric, StepTotal, Timing

CORE = pathlib.Path(__file__).parent.parent / "src" / "ttd_core"
LISTS: list[type[Described]] = [Metric, Timing, StepTotal]
MEMBERS = [member for each in LISTS for member in each]
#: Where metrics are produced, as against read; trackers add the totals.
PRODUCERS = [
    *(path for folder in ("learn", "policy", "run") for path in sorted((CORE / folder).rglob("*.py"))),
    CORE / "report" / "trackers.py",
]
READERS = {CORE / "run" / "summary.py"}
#: Texts that equal a metric's name and mean another thing: fields of events, columns, keys of JSON and pages.
OTHER_MEANINGS = {
    "cli/__init__.py": {"rollouts"},
    "cli/experiment.py": {"rollouts", "tokens", "valid"},
    "cli/best.py": {"valid"},
    "cli/compare.py": {"repeat_share", "repeats", "rollouts", "tokens", "valid", "valid_share"},
    "cli/report.py": {"rollouts"},
    "cli/rollouts.py": {"rollouts", "tokens"},
    "cli/run_progress.py": {"valid"},
    "cli/watch.py": {"valid"},
    "cli/wording.py": {"repeats", "rollouts", "valid"},
    "report/comparison.py": {"rollouts", "tokens"},
    "report/facts.py": {"rollouts", "tokens"},
    "report/figures.py": {"rollouts", "sampling"},
    "report/page.py": {"programs", "tokens"},
    "report/pooling.py": {"repeat_share", "rollouts", "tokens", "valid_share"},
    "report/trackers.py": {"rollouts", "valid"},
    "run/pending_lines.py": {"tokens"},
    "run/reading.py": {"checkpoint", "rollouts", "tokens"},
    "run/rollout_query.py": {"tokens"},
    "run/requests.py": {"requests"},
    "run/store.py": {"rollouts", "tokens"},
    "run/under_way.py": {"tokens"},
    "ui/app.py": {"rollouts"},
    "ui/following.py": {"valid"},
    "ui/views.py": {"rollouts", "tokens"},
}


def spelled(tree: ast.AST) -> set[str]:
    """Texts of a module that are no docstrings."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    }


def named(tree: ast.AST) -> set[str]:
    """Members of the lists that a module names (``Metric.KL``), and the fields that its classes declare."""
    members = {f"{each.__name__}.{member.name}": member.value for each in LISTS for member in each}
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    declared = [node.target for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]
    fields = {target.id for target in declared if isinstance(target, ast.Name)}
    return {value for member, value in members.items() if member in used} | fields


def produced() -> set[str]:
    names: set[str] = set()
    for path in PRODUCERS:
        if path not in READERS:
            tree = ast.parse(path.read_text())
            names |= spelled(tree) | named(tree)
    return names


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: f"{type(member).__name__}.{member.name}")
def test_every_metric_is_described(member: Described) -> None:
    assert member == member.value == str(member)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", member)
    for text in (member.label, member.unit, member.meaning):
        assert text == text.strip()
        assert text
    assert member.label[0].isupper()
    assert "\n" not in member.meaning


def test_labels_and_keys_are_unique() -> None:
    labels = [member.label for member in MEMBERS]
    assert sorted(set(labels)) == sorted(labels)
    # A tracker gets all of them side by side.
    keys = [*Metric, *StepTotal, *(timing.key for timing in Timing)]
    assert len(set(keys)) == len(keys)
    assert all(timing.key == f"{SECONDS}{timing}" for timing in Timing)
    assert not any(metric.startswith(SECONDS) for metric in Metric)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: f"{type(member).__name__}.{member.name}")
def test_every_metric_is_produced(member: Described) -> None:
    assert member.value in produced()


def test_a_metric_that_nothing_produces_would_be_seen() -> None:
    assert "perplexity" not in produced()
    assert named(ast.parse("x = {Metric.KL: 1}\nclass C:\n    cost: float = 0.0\n")) == {"kl", "cost"}
    assert spelled(ast.parse('"""kl"""\nx = {"loss": 1}\n')) == {"loss"}


@pytest.mark.parametrize("folder", ["learn", "run", "report", "cli"])
def test_no_metric_is_spelled_as_a_text(folder: str) -> None:
    names = {member.value for member in MEMBERS} | {SECONDS}
    for path in sorted((CORE / folder).glob("*.py")):
        allowed = OTHER_MEANINGS.get(f"{folder}/{path.name}", set())
        assert spelled(ast.parse(path.read_text())) & names == allowed, path


@pytest.mark.parametrize("name", sorted(path.name for path in (CORE / "report" / "templates").glob("*.html")))
def test_templates_take_names_from_the_list(name: str) -> None:
    text = (CORE / "report" / "templates" / name).read_text()
    assert re.findall(r"metrics(?:\.\w+|\[['\"]\w+)", text.replace("facts.metrics", "")) == []
    assert {f'"{metric}"' for metric in Metric} & set(re.findall(r'"\w+"', text)) == set()
