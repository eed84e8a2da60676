"""``ttd doctor``."""

from __future__ import annotations

import json
import re
import tomllib

import pytest

from ttd_core.cli import doctor
from ttd_core.sandbox import probe
from ttd_core.sandbox.base import Level


def test_json_covers_every_area(ttd, summing, install, monkeypatch, tmp_path, pytestconfig) -> None:
    install("broken", {"broken_doctor": "raise ValueError('no')"}, problems={"bad": "broken_doctor:Bad"})
    install("ttd-odd", {"odd_doctor": "import nothing_here"}, plugins={"odd": "odd_doctor"})
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))
    result = ttd("doctor", "--json")
    findings = {(each["area"], each["name"]): each for each in json.loads(result.stdout)}
    assert findings["machine", "python"]["status"] == "ok"
    assert findings["package", "torch"]["status"] == "ok"
    assert re.search("by the (plain|lean) engine", findings["package", "torch"]["detail"])
    assert findings["problem", "sum"]["detail"] == "ttd-sum 2.1"
    assert findings["problem", "bad"]["status"] == "failed"
    assert findings["problem", "bad"]["detail"].startswith("plugin bad (broken 1.0): import: ValueError: no")
    assert findings["plugin", "ttd_core"]["status"] == "ok"
    assert "No module named 'nothing_here'" in findings["plugin", "odd"]["detail"]
    assert str(tmp_path / "cache") in findings["storage", "model cache"]["detail"]
    level = findings["sandbox", "level"]
    if level["status"] == "ok":
        assert level["detail"].split(",")[0] in ("strong", "standard")
        assert findings["sandbox", "trial job"]["detail"].startswith(level["detail"].split(",")[0])
    project = tomllib.loads((pytestconfig.rootpath / "pyproject.toml").read_text())["project"]
    offered = set(project["optional-dependencies"]) - {"docs", "dev"}
    assert {name for area, name in findings if area == "extra"} == offered
    assert {each["status"] for each in findings.values()} <= {"ok", "absent", "warning", "failed"}
    # A broken third-party plugin does not keep this machine from running others.
    assert result.exit_code == (0 if level["status"] == "ok" else 3)


def test_which_engine_serves_on_a_gpu_is_said_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert doctor._engines() == (
        "gpt_oss, llama, qwen2, qwen3, qwen3_moe run by the lean engine, others by the plain one"
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert doctor._engines().startswith("models run by the plain engine, for Triton, which the lean engine's")


@pytest.fixture
def report() -> probe.SandboxReport:
    return probe.SandboxReport(
        level=Level.REFUSED,
        how="nothing",
        kill="a signal",
        user="this user",
        layers=(probe.LayerCheck("landlock", False, "not in the kernel", "boot another"),),
        methods=(),
    )


def test_a_machine_without_a_sandbox_says_what_to_do(ttd, monkeypatch, report: probe.SandboxReport) -> None:
    monkeypatch.setattr(doctor, "probe", lambda: report)
    findings = {each.name: each for each in doctor.sandbox()}
    assert set(findings) == {"level", "landlock"}
    assert findings["level"].status == "failed"
    assert findings["landlock"].status == "absent"
    assert findings["landlock"].detail == "not in the kernel; to have it: boot another"
    assert ttd("doctor").exit_code == 3


def test_text_has_a_line_each(ttd, summing) -> None:
    lines = ttd("doctor").stdout.splitlines()
    assert "machine:" in lines
    assert "sandbox:" in lines
    assert any(line.split()[:3] == ["sum", "ok", "ttd-sum"] for line in lines)


def test_what_a_run_needs_and_is_missing_is_exit_code_3(ttd, monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "peft" else real(name))
    result = ttd("doctor")
    assert result.exit_code == 3
    assert any(
        line.split() == ["peft", "failed", "pip", "install", "peft"] for line in result.stdout.splitlines()
    )


def test_an_extra_that_is_absent_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda _name: None)
    details = {finding.name: finding for finding in doctor.extras()}
    assert details["report"].status == "absent"
    assert details["report"].detail == "pip install 'ttd-core[report]' (lacks jinja2, pygments)"


def test_little_disk_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    import collections

    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage(10**10, 9 * 10**9, 10**9))
    assert {finding.status for finding in doctor.storage()} == {"warning"}
