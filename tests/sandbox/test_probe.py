"""Deciding a level: what is tried, what is told when it cannot be formed."""

from __future__ import annotations

import json

import pytest

from ttd_core.errors import SandboxUnavailableError
from ttd_core.sandbox import probe
from ttd_core.sandbox.base import Level, PythonJob
from ttd_core.sandbox.isolation import IsolationMethod
from ttd_core.sandbox.local import LocalExecutor

WORKS = {"landlock_abi": 7, "seccomp": "", "landlock": "", "scope": "", "namespaces": ""}


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the kernel offers, to be changed; every method works unless the test says otherwise."""
    layers: dict[str, object] = dict(WORKS)
    monkeypatch.setattr(probe, "_kernel_layers", lambda: layers)
    monkeypatch.setattr(probe, "_why_unusable", lambda method: "")
    monkeypatch.setattr(probe, "probe", probe.probe.__wrapped__)
    return layers


def test_this_machine_forms_a_level_and_says_how() -> None:
    report = probe.probe()
    assert report.level is not Level.REFUSED, report.missing
    assert json.loads(json.dumps(report.to_json()))["level"] == report.level.value
    names = [layer.name for layer in report.layers]
    assert names == [
        "seccomp",
        "landlock",
        "landlock scopes",
        "bubblewrap",
        "namespaces",
        "control groups",
        "user per job",
    ]
    assert all(layer.remedy for layer in report.layers)


def test_the_strongest_way_is_taken(kernel: dict[str, object]) -> None:
    assert probe.choose("best").level is Level.STRONG
    assert probe.choose("standard").level is Level.STRONG
    assert probe.choose("best", Level.STANDARD).level is Level.STANDARD


def test_without_namespaces_it_is_standard(
    kernel: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_why_unusable", lambda method: "not permitted" if method.namespaces else "")
    assert probe.choose("best").level is Level.STANDARD
    with pytest.raises(
        SandboxUnavailableError, match=r"level strong cannot be formed here, only standard.*namespaces"
    ):
        probe.choose("strong")


def test_bubblewrap_that_fails_is_done_without(
    kernel: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_why_unusable", lambda method: "denied" if method.bubblewrap else "")
    chosen = probe.choose("strong")
    assert chosen.by_hand
    assert not chosen.bubblewrap


@pytest.mark.parametrize("missing", ["seccomp", "landlock"])
def test_without_seccomp_or_landlock_it_is_refused(kernel: dict[str, object], missing: str) -> None:
    kernel[missing] = "not in this kernel"
    for level in ("best", "strong", "standard"):
        with pytest.raises(SandboxUnavailableError, match=rf"only refused.*{missing}: not in this kernel"):
            probe.choose(level)


def test_without_scopes_there_is_no_standard(
    kernel: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel["scope"] = "Landlock ABI 4 has no scopes (6 has)"
    kernel["landlock_abi"] = 4
    assert probe.choose("best").level is Level.STRONG
    monkeypatch.setattr(probe, "_why_unusable", lambda method: "not permitted")
    with pytest.raises(SandboxUnavailableError, match="only refused"):
        probe.choose("standard")


def test_unprotected_must_be_named_and_says_what_is_open(
    kernel: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    kernel["landlock"] = "not in this kernel"
    chosen = probe.choose("unprotected")
    assert chosen.level is Level.REFUSED
    told = capsys.readouterr().err
    assert "UNPROTECTED" in told
    assert "every file of this user" in told


def test_a_level_that_lets_an_attack_pass_is_not_formed() -> None:
    # Landlock alone, claimed to be a level: the probe's own attacks find what it leaves open
    refused = probe._why_unusable.__wrapped__(IsolationMethod(Level.STANDARD, landlock=7, seccomp=False))
    assert "fork" in refused
    assert "socket" in refused
    assert "file outside" in probe._why_unusable.__wrapped__(
        IsolationMethod(Level.STANDARD, landlock=0, seccomp=True)
    )


def test_unprotected_jobs_still_run_under_limits(capsys: pytest.CaptureFixture[str]) -> None:
    with LocalExecutor(1, exactly=Level.REFUSED, preload=()) as executor:
        result = executor.run(PythonJob("def run(): return 1", "run"))
    assert result.value == 1, result.message
    assert result.level is Level.REFUSED
    assert "UNPROTECTED" in capsys.readouterr().err
