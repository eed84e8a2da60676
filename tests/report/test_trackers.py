"""Trackers: what they are told, that a fault of theirs stops nothing, and real packages read back."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ttd_core.cli import main
from ttd_core.config import RunConfig
from ttd_core.errors import EnvironmentLacksError, UsageError
from ttd_core.report import trackers
from ttd_core.report.trackers import HostedSink, open_trackers
from ttd_core.run import events
from ttd_core.run.reading import RunReader

CONFIG = RunConfig(problem="dir/sums.py:Sum")


def started(step: int = 0) -> dict:
    return events.run_started(
        run="runs/x", problem="sum", policy="a", step=step, steps=3, groups=1, group_size=2
    )


def finished(step: int, **metrics: float) -> dict:
    return events.step_finished(
        step=step,
        rollouts=8,
        valid=5,
        mean_value=1.5,
        best_value=None,
        best_score=None,
        metrics=metrics,
        seconds=2.0,
    )


class Package:
    """Takes the calls that W&B and trackio share."""

    def __init__(self, fail: str = "") -> None:
        self.calls: list[tuple] = []
        self.fail = fail

    def _note(self, *call) -> None:
        self.calls.append(call)
        print("chatter")
        if call[0] == self.fail:
            raise RuntimeError("the server is gone")

    def init(self, **arguments) -> None:
        self._note("init", arguments)

    def log(self, numbers, step) -> None:
        self._note("log", step, numbers)

    def finish(self) -> None:
        self._note("finish")


@pytest.fixture
def tracked(monkeypatch, tmp_path):
    """A tracker on a given package, and the warnings it gave."""

    def make(package: Package):
        monkeypatch.setitem(
            trackers.TRACKERS, "json", lambda folder, config, step: HostedSink(package, folder, config)
        )
        warnings: list[str] = []
        (tracker,) = open_trackers(["json", "json"], tmp_path / "run", CONFIG, warnings.append)
        return tracker, warnings

    return make


def test_each_step_is_logged_and_chatter_kept_off_the_result(tracked, capsys) -> None:
    package = Package()
    tracker, warnings = tracked(package)
    tracker.ttd_event(event=started())
    tracker.ttd_event(event=finished(1, kl=0.5, loss=float("nan")))
    tracker.ttd_event(event=finished(2))
    tracker.close()
    tracker.close()
    name, arguments = package.calls[0]
    assert (name, arguments["project"], arguments["name"]) == ("init", "ttd-sums", "run")
    assert arguments["config"]["learn.kl_coefficient"] == 0.1
    base = {"rollouts": 8.0, "valid": 5.0, "step_seconds": 2.0}
    assert package.calls[1:] == [("log", 1, {"kl": 0.5, **base}), ("log", 2, base), ("finish",)]
    assert warnings == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("fail", ["init", "log", "finish"])
def test_a_failing_tracker_is_left_out_with_one_warning(tracked, fail) -> None:
    package = Package(fail)
    tracker, warnings = tracked(package)
    for event in (started(), finished(1), finished(2)):
        tracker.ttd_event(event=event)
    tracker.close()
    assert warnings == [
        "tracker json is left out from here on: RuntimeError: the server is gone (test_trackers.py:"
        + warnings[0].rpartition(":")[2]
    ]
    assert [call[0] for call in package.calls].count(fail) == 1


def test_unknown_and_missing_trackers(tmp_path, monkeypatch) -> None:
    with pytest.raises(UsageError, match=r"unknown tracker 'wandbb'. Did you mean 'wandb'\? Known: tensor"):
        open_trackers(["wandbb"], tmp_path, CONFIG, print)
    monkeypatch.setitem(trackers.TRACKERS, "nosuchpackage", trackers.TRACKERS["wandb"])
    with pytest.raises(EnvironmentLacksError, match=r"pip install 'ttd-core\[nosuchpackage\]'"):
        open_trackers(["nosuchpackage"], tmp_path, CONFIG, print)
    assert open_trackers([], tmp_path, CONFIG, print) == []


def test_a_run_says_what_is_wrong_before_it_makes_a_folder(runs) -> None:
    problem = f"{runs.first.parent.parent}/heights.py:Heights"
    folder = runs.first.parent / "untracked"
    result = CliRunner().invoke(
        main, ["run", problem, "--track", "nosuch", "--name", folder.name, "--runs-dir", str(folder.parent)]
    )
    assert result.exit_code == 2
    assert "unknown tracker 'nosuch'" in result.stderr
    assert not folder.exists()


@pytest.mark.slow
def test_tensorboard_holds_the_runs_numbers(runs) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed; pip install 'ttd-core[tensorboard]'")
    root = runs.first.parent.parent
    command = [sys.executable, "-m", "ttd_core.cli"]
    options = ["--policy", "scripted", "--set", f"policy.options.file={root}/replies.json", "--quiet"]
    more = ["--groups", "1", "--group-size", "4", "--steps", "2", "--name", "tracked", "-o", "start=program"]
    for arguments in (
        ["run", "heights.py:Heights", *options, *more, "--track", "tensorboard"],
        ["resume", "tracked", "--steps", "3", "--track", "tensorboard", "--quiet"],
    ):
        subprocess.run([*command, *arguments], cwd=root, check=True, capture_output=True)
    folder = root / "runs" / "tracked"
    reader = subprocess.run(
        [sys.executable, "-c", _READ, str(folder / "tensorboard")], check=True, capture_output=True, text=True
    )
    found = json.loads(reader.stdout.splitlines()[-1])
    with RunReader.open(folder) as run:
        steps, metrics = run.steps(), run.metrics()
    assert found["scalars"]["score_best"] == [
        [each.step, pytest.approx(each.best_score, rel=1e-6)] for each in steps if each.best_score is not None
    ]
    assert found["scalars"]["valid_share"] == [
        [step, pytest.approx(values["valid_share"])] for step, values in metrics.items()
    ]
    assert [step for step, _ in found["scalars"]["valid"]] == [1, 2, 3]
    assert 'problem = "' in found["config"]


_READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
read = EventAccumulator(sys.argv[1])
read.Reload()
scalars = {tag: [[e.step, e.value] for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
text = read.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
print(json.dumps({"scalars": scalars, "config": text}))
"""


def in_own_environment(tmp_path: pathlib.Path, package: str, script: str) -> str:
    """Run a script where a package is installed beside what this environment has."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    site = next(venv.glob("lib/python*/site-packages"))
    made = subprocess.run(
        [str(python), "-m", "pip", "install", "-q", package], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"{package} cannot be installed here: {made.stderr.strip().splitlines()[-1:]}")
    paths = [path for path in sys.path if path.endswith("site-packages")]
    (site / "beside.pth").write_text("\n".join([*paths, str(pathlib.Path(trackers.__file__).parents[2])]))
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
    }
    environment |= {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [str(python), "-c", script, str(tmp_path / "run")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


_TRACK = """
import pathlib, sys
from ttd_core.config import RunConfig
from ttd_core.report.trackers import open_trackers
from ttd_core.run import events

folder = pathlib.Path(sys.argv[1])
folder.mkdir()
def fail(message):
    raise SystemExit(message)
(tracker,) = open_trackers(["{name}"], folder, RunConfig(problem="sum"), fail)
tracker.ttd_event(event=events.run_started(
    run="x", problem="sum", policy="a", step=0, steps=3, groups=1, group_size=2))
for step in (1, 2):
    tracker.ttd_event(event=events.step_finished(
        step=step, rollouts=2, valid=1, mean_value=1.0, best_value=2.0, best_score=2.0 + step,
        metrics={{"kl": 0.5}}, seconds=1.0))
tracker.close()
"""


@pytest.mark.peer
@pytest.mark.slow
def test_wandb_offline(tmp_path) -> None:
    in_own_environment(tmp_path, "wandb", _TRACK.format(name="wandb"))
    (record,) = (tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb")
    content = record.read_bytes()
    assert b"score_best" in content
    assert b"ttd-sum" in content


@pytest.mark.peer
@pytest.mark.slow
def test_trackio_on_this_machine(tmp_path) -> None:
    script = _TRACK.format(name="trackio") + _READ_TRACKIO
    assert in_own_environment(tmp_path, "trackio", script).splitlines()[-1] == "[3.0, 4.0]"


_READ_TRACKIO = """
from trackio.sqlite_storage import SQLiteStorage
logs = SQLiteStorage.get_logs("ttd-sum", "run")
print([entry["score_best"] for entry in logs])
"""
