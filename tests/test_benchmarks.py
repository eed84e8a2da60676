"""Every benchmark is imported and says what it can do, and what takes seconds is measured once.

So none stands broken until somebody wants to measure. Those that need a GPU, another package or a cluster are
held by mypy and their ``--help`` alone; ``tests/policy/local/test_benchmarks.py`` runs the learner's at tiny
shapes.
"""

from __future__ import annotations

import importlib
import json
import pathlib
import re
import runpy
import subprocess
import sys

import pytest
import torch

from ttd_core.errors import SandboxUnavailableError

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"
#: Run by the Python of another package's environment, which has what they import.
PEERS = {"archive_peer", "sandbox_peer"}
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.usefixtures("benchmark")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in PEERS])
def test_a_benchmark_says_how_it_is_called(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = FOLDER / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    if "ArgumentParser(" not in script.read_text(encoding="utf-8"):
        # What several share, and no command of its own.
        runpy.run_path(str(script), run_name=name)
        return
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"usage: {name}.py")


KEPT = {
    "problem": "cp26",
    "reply": "program",
    "policy": "a model",
    "text": "hello",
    "tokens": 3,
    "status": "ok",
}


@pytest.mark.usefixtures("benchmark")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no reply; hand in a file that --keep wrote"),
        (b"\n\n", "holds no reply; hand in a file that --keep wrote"),
        (b"\x89PNG\r\n\x1a\n\xff", "not a text file: not UTF-8 text: byte 0 cannot be read"),
        (json.dumps(KEPT).encode()[:50], "line 1: not JSON (Expecting value at character 51); hand in a "),
        (json.dumps(KEPT).encode() + b"\n[1]\n", "line 2: no JSON object; hand in a file that --keep wrote"),
        (b'{"name": "something else"}', "line 1: 'problem' must be text"),
        (b"[" * 100_000, "line 1: "),
        *(
            (json.dumps({**KEPT, key: value}).encode(), f"line 1: '{key}' must be ")
            for key, value in [
                ("text", None),
                ("reply", 5),
                ("tokens", -1),
                ("tokens", 10**18),
                ("tokens", True),
            ]
        ),
    ],
)
def test_a_file_of_replies_that_is_none_is_one_line(
    content: bytes,
    message: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_bytes(content)
    script = FOLDER / "replies.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--judge", str(path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {path}")
    assert message in said


@pytest.mark.usefixtures("benchmark")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_kept_replies_are_read_in_the_encodings_of_text_files(encoding: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "replies.jsonl"
    lines = [json.dumps({**KEPT, "text": "a\u2028b"}, ensure_ascii=False), json.dumps(KEPT)]
    path.write_bytes("\r\n".join(lines).encode(encoding))
    policy, replies = runpy.run_path(str(FOLDER / "replies.py"))["read_replies"](path)
    assert policy == "a model"
    assert [(each.text, len(each.tokens)) for each in replies["cp26", "program"]] == [
        ("a\u2028b", 3),
        ("hello", 3),
    ]


@pytest.mark.usefixtures("benchmark")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--replies", "0"], "argument --replies: must be a whole number from 1 to 1000000000, not '0'"),
        (
            ["--keep", "/nowhere/replies.jsonl"],
            "argument --keep: '/nowhere/replies.jsonl' cannot be written: No such file",
        ),
        (["--judge", "x", "--sample-only", "--keep", "/dev/null"], "give one of them"),
    ],
)
def test_what_could_not_be_kept_is_said_before_it_is_sampled(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = FOLDER / "replies.py"
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name="__main__")
    assert message in capsys.readouterr().err


#: What an option that takes a number refuses, by the function that reads it.
REFUSED = {
    "positive_int": ["0", "-1", "1.5", "nan", "inf", "", "9" * 5000],
    "non_negative_int": ["-1", "0.5", "nan", "1000000001"],
    "positive_float": ["0", "-1", "nan", "inf", "-inf", "1e300", "soon"],
    "non_negative_float": ["-0.1", "nan", "inf", "1e10"],
    "finite": ["nan", "inf", "-inf", "x"],
    "share": ["0", "-0.5", "1.1", "nan", "half"],
}
#: Such options of every benchmark, and of a subcommand of one: ``limits archive --states``.
NUMBERS = [
    (name, *found)
    for name in NAMES
    for found in re.findall(
        r"""(\w+)\.add_argument\(\s*f?"--([\w-]+)",[^)]*?type=(\w+(?:_int|_float)|finite|share|int|float)\b""",
        (FOLDER / f"{name}.py").read_text(encoding="utf-8"),
    )
]


@pytest.mark.usefixtures("benchmark")
@pytest.mark.parametrize(("name", "parser", "option", "kind"), NUMBERS)
def test_a_number_that_makes_no_sense_is_refused_in_one_line(
    name: str,
    parser: str,
    option: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    part = [parser] if name == "limits" else []
    script = runpy.run_path(str(FOLDER / f"{name}.py"), run_name=name)
    for text in REFUSED[kind]:
        monkeypatch.setattr(sys, "argv", [name, *part, f"--{option}={text}"])
        with pytest.raises(SystemExit) as ended:
            script["main"]()
        assert ended.value.code == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert f": error: argument --{option}: must be " in said
        assert len(said) < 200


@pytest.mark.usefixtures("benchmark")
@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("positive_int", "1", 1),
        ("non_negative_int", "0", 0),
        ("positive_float", "1e9", 1e9),
        ("non_negative_float", "0", 0.0),
        ("finite", "-1", -1.0),
        ("share", "1", 1.0),
    ],
)
def test_a_number_at_the_border_is_taken(kind: str, text: str, value: float) -> None:
    assert runpy.run_path(str(FOLDER / "command_line.py"))[kind](text) == value


#: Commands that need a GPU, with what stands in for one where something does.
ON_A_GPU = {
    "attention": "",
    "contention --device cuda": "--device cpu stands in for one",
    "done_signal": "",
    "expert_products": "",
    "judging": "--devices cpu checks small shapes",
    "kernels": "",
    "paper_step": "try --size tiny-oss",
    "sampling": "try --sizes tiny",
    "step_parts": "",
    "training": "try --sizes tiny",
    "vllm_peer --size 0.6b": "",
}


@pytest.mark.usefixtures("benchmark")
@pytest.mark.parametrize("command", ON_A_GPU)
def test_without_a_gpu_one_line_says_so(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("measures a GPU where there is one")
    name, *arguments = command.split()
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 3
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"{name}.py: ")
    assert said.endswith(ON_A_GPU[command])


#: Makes torch a package that is not installed, then runs the script that is named.
WITHOUT_TORCH = """
import importlib.util, runpy, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else find(name, package)
sys.argv = sys.argv[1:]
sys.path.insert(0, FOLDER)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("name", sorted({command.split()[0] for command in ON_A_GPU} - {"vllm_peer"}))
def test_without_torch_one_line_says_so(name: str) -> None:
    program = WITHOUT_TORCH.replace("FOLDER", repr(str(FOLDER)))
    script = [sys.executable, "-c", program, str(FOLDER / f"{name}.py")]
    ran = subprocess.run(script, capture_output=True, text=True)
    assert ran.returncode == 3
    assert ran.stderr == f"{name}.py: the package torch is not installed here, and this measures with it\n"


@pytest.mark.usefixtures("benchmark")
def test_an_error_for_a_person_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    run = runpy.run_path(str(FOLDER / "command_line.py"))["run_benchmark"]

    def lacks_a_sandbox() -> None:
        raise SandboxUnavailableError("bubblewrap is not installed")

    def lacks_a_package() -> None:
        importlib.import_module("no_such_package")

    assert run(lacks_a_sandbox) == 3
    assert capsys.readouterr().err == "error: bubblewrap is not installed\n"
    with pytest.raises(SystemExit) as ended:
        run(lacks_a_package)
    assert ended.value.code == 3
    assert "the package no_such_package is not installed here" in capsys.readouterr().err
    assert run(lambda: 1) == 1


#: What each says at its end, by its name and its arguments; ``FOLDER`` is one that the test gives.
SHORT = {
    "adopting --no-score FOLDER": "no",
    "ahc": "cores",
    "budgets --problem erdos --seeds 1 --seconds 0.5 1 --processes 1": "last doubling",
    "budgets --problem ac2 --seeds 1 --seconds 0.5 --processes 1 --calls 2 --set FIRST=450.0": "spread",
    "attacks --only NaN": "0 outcomes not as documented",
    "cascade --steps 1 --cascade-steps 1 --groups 1 --size 4 --budget 1": "WENT ON",
    "contention --seconds 0.1 --budget 0.1": "nothing, again",
    "driver --tokens 400 --sizes 4 --wait 0.01": "its size there",
    "limits archive --states 1000": "the best state",
    "replies --backend scripted --model none --replies 2 --problems cp26 --forms program "
    '--set policy.options.replies=["hello"]': "2 parse_error",
    "report_page --steps 1": "opened in",
    "schedule --steps 2 --groups 1 --program 0.1": "pipelined, deadline.share",
    "verifiers --quick": "met",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", SHORT)
def test_a_short_measurement_comes_to_its_end(command: str, tmp_path: pathlib.Path) -> None:
    name, *arguments = command.replace("FOLDER", str(tmp_path / "folder")).split()
    script = str(FOLDER / f"{name}.py")
    ran = subprocess.run([sys.executable, script, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert SHORT[command] in ran.stdout


@pytest.mark.slow
def test_a_run_of_any_size_is_read(tmp_path: pathlib.Path) -> None:
    script = [sys.executable, str(FOLDER / "limits.py")]
    subprocess.run([*script, "database", "--rollouts", "9216", "--folder", tmp_path / "run"], check=True)
    ran = subprocess.run([*script, "read", tmp_path / "run"], check=True, capture_output=True, text=True)
    assert "8,704 rollouts" in ran.stdout
    assert "exit " not in ran.stdout
