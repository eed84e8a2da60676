"""The forge's files: workflows that run what a developer runs, pinned actions, least rights; forms."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
import yaml
from tools.distributions import distributions

ROOT = pathlib.Path(__file__).parent.parent
FORGE = ROOT / ".github"
WORKFLOWS = {path.name: path for path in sorted((FORGE / "workflows").glob("*.yml"))}
FORMS = [path for path in sorted((FORGE / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]
MAKE = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
#: What may be run with rights over the machine: installing system packages.
AS_ROOT = {"system", "browser"}


def parse(path: pathlib.Path) -> dict[Any, Any]:
    parsed = yaml.safe_load(path.read_text())
    assert isinstance(parsed, dict)
    return parsed


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in parse(WORKFLOWS[name])["jobs"].values() for step in job["steps"]]


def commands(name: str) -> list[str]:
    return [step["run"] for step in steps(name) if "run" in step]


def test_there_is_a_workflow_for_tests_docs_and_wheels() -> None:
    assert sorted(WORKFLOWS) == ["docs.yml", "test.yml", "wheels.yml"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_to_a_commit_with_their_version_beside_it(name: str) -> None:
    used = re.findall(r"uses: (.*)$", WORKFLOWS[name].read_text(), re.MULTILINE)
    assert len(used) == sum("uses" in step for step in steps(name)) > 0
    for line in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_read_the_sources_and_no_more(name: str) -> None:
    workflow = parse(WORKFLOWS[name])
    assert workflow["permissions"] == {"contents": "read"}
    # YAML 1.1 reads the key `on` as true.
    assert set(workflow[True]) <= {"push", "pull_request", "workflow_dispatch"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert 0 < job["timeout-minutes"] <= 150
    for step in steps(name):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    assert "secrets" not in WORKFLOWS[name].read_text()
    assert workflow["concurrency"]["cancel-in-progress"] is True


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_runs_make_targets_and_nothing_else(name: str) -> None:
    for command in commands(name):
        words = command.split()
        if words[0] == "sudo":
            words = words[1:]
            assert set(words[1:]) <= AS_ROOT
        assert words[0] == "make"
        assert set(words[1:]) <= set(MAKE)


def test_the_workflows_run_what_they_are_named_for() -> None:
    jobs = parse(WORKFLOWS["test.yml"])["jobs"]
    assert [step["run"] for step in jobs["all"]["steps"] if "run" in step][-2:] == [
        "make test",
        "make test-all",
    ]
    assert commands("docs.yml") == ["make docs"]
    assert commands("wheels.yml")[-1] == "make release-check"


def test_the_tests_run_on_every_python_that_the_metadata_names() -> None:
    jobs = parse(WORKFLOWS["test.yml"])["jobs"]
    pythons = [*jobs["fast"]["strategy"]["matrix"]["python"]]
    pythons += [
        step["with"]["python-version"] for step in jobs["all"]["steps"] if "setup-python" in str(step)
    ]
    assert sorted(pythons) == distributions()[0].pythons
    several = [step["with"]["python-version"] for step in steps("wheels.yml") if "setup-python" in str(step)]
    assert sorted(several[0].split()) == distributions()[0].pythons


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_is_one(path: pathlib.Path) -> None:
    form = parse(path)
    assert set(form) == {"name", "description", "labels", "body"}
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    names = [field["id"] for field in fields]
    assert len(set(names)) == len(names) > 0
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_holes_are_not_reported_in_public() -> None:
    assert parse(FORGE / "ISSUE_TEMPLATE" / "config.yml") == {"blank_issues_enabled": False}
    assert "Report a vulnerability" in (FORGE / "ISSUE_TEMPLATE" / "bug.yml").read_text()
    assert "Report a vulnerability" in (ROOT / "SECURITY.md").read_text()


def test_the_hooks_of_git_use_the_tools_of_the_environment() -> None:
    repositories = parse(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert [hook["entry"].split()[0] for hook in hooks] == [
        f".venv/bin/{tool}" for tool in ("ruff", "ruff", "mypy")
    ]
