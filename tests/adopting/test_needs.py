"""What a task lacks and needs, each with the file and line that says so."""

from __future__ import annotations

import pathlib
import sys

import pytest
from tests.adopting.small_tasks import EVALUATOR, OPENEVOLVE, PROGRAM, SHINKA, write

from ttd_core.adopting.modules import packages_of
from ttd_core.adopting.reading import read_task
from ttd_core.errors import UsageError


def needs(folder: pathlib.Path, evaluator: str, **files: str) -> list[tuple[str, str]]:
    task = read_task(write(folder, OPENEVOLVE | {"evaluator.py": EVALUATOR + evaluator} | files))
    return [(need.kind, need.what) for need in task.needs]


@pytest.mark.parametrize(
    ("source", "kind", "what", "line"),
    [
        ("import requests", "network", "it imports requests, which asks a server", 1),
        ("from openai import OpenAI", "network", "it imports openai, which asks a server", 1),
        ("def ask():\n    import httpx", "network", "it imports httpx, which asks a server", 2),
        ("import urllib.request\nurllib.request.urlopen('x')", "network", "it calls request.urlopen", 2),
        ("from datasets import load_dataset\nload_dataset('x')", "network", "it calls load_dataset", 2),
        ("import subprocess\nsubprocess.run(['curl', 'x'])", "network", "it starts curl", 2),
        ("import os\nkey = os.environ['SOME_API_KEY']", "key", "it reads SOME_API_KEY", 2),
        ("import os\nkey = os.environ.get('SOME_API_KEY', '')", "key", "it reads SOME_API_KEY", 2),
        ("import os\nkey = os.getenv('HF_TOKEN')", "key", "it reads HF_TOKEN", 2),
        ("import subprocess\nsubprocess.run(['docker', 'ps'])", "docker", "it starts docker", 2),
        ("from subprocess import run\nrun(['docker', 'ps'])", "docker", "it starts docker", 2),
        ("import os\nos.system('docker run x')", "docker", "it starts docker", 2),
        ("import ale_bench", "docker", "it imports ale_bench, which starts containers", 1),
    ],
)
def test_what_the_sandbox_gives_nobody(
    tmp_path: pathlib.Path, source: str, kind: str, what: str, line: int
) -> None:
    first = EVALUATOR.count("\n")
    found = needs(tmp_path / "task", source + "\n")
    assert found == [(kind, f"{what} (evaluator.py:{first + line})")]


@pytest.mark.parametrize(
    "source",
    [
        "import urllib.parse\nurllib.parse.quote('x')\n",
        "import socket\nname = socket.gethostname()\n",
        "import os\nos.environ['TOKENIZERS_PARALLELISM'] = 'false'\nos.environ['X_API_KEY'] = ''\n",
        "try:\n    import requests\nexcept ImportError:\n    requests = None\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import openai\n",
        "class Runner:\n    def run(self, words):\n        return words\nRunner().run(['docker'])\n",
        "text = 'docker run and curl are words'\n",
    ],
)
def test_what_is_no_need(tmp_path: pathlib.Path, source: str) -> None:
    assert needs(tmp_path / "task", source) == []


def test_needs_of_files_that_the_evaluator_imports_and_of_a_shell_script(tmp_path: pathlib.Path) -> None:
    helper = {"helper.py": "import os\nfrom judge import ask\n", "judge.py": "import anthropic\n"}
    task = write(tmp_path / "task", OPENEVOLVE | {"evaluator.py": "import helper\n" + EVALUATOR} | helper)
    assert [need.what for need in read_task(task).needs] == [
        "it imports anthropic, which asks a server (judge.py:1)"
    ]
    script = '#!/bin/sh\n# docker is not needed\ncd /x && docker run image "$1"\ncurl -H "$SOME_API_KEY" x\n'
    files = {"initial_program.py": PROGRAM, "evaluator/evaluate.sh": script}
    assert [(each.kind, each.what) for each in read_task(write(tmp_path / "shell", files)).needs] == [
        ("docker", "it starts docker (evaluator/evaluate.sh:3)"),
        ("network", "it starts curl (evaluator/evaluate.sh:4)"),
        ("key", "it reads SOME_API_KEY (evaluator/evaluate.sh:4)"),
    ]


def test_needs_of_a_file_that_the_evaluator_starts(tmp_path: pathlib.Path) -> None:
    evaluator = (
        EVALUATOR + "import subprocess\ncommand = ['python', 'submit.py', '-f']\nsubprocess.run(command)\n"
    )
    files = OPENEVOLVE | {"evaluator.py": evaluator, "submit.py": "import requests\n"}
    assert [need.what for need in read_task(write(tmp_path / "task", files)).needs] == [
        "it imports requests, which asks a server (submit.py:1)"
    ]


def test_modules_that_are_lacking_and_those_that_are_not(tmp_path: pathlib.Path) -> None:
    evaluator = (
        "import json, numpy, absent_one.sub\nfrom helper import x\nfrom absent_two import y\n"
        "try:\n    import absent_three\nexcept ImportError:\n    absent_three = None\n"
        "def later():\n    import absent_four\n" + EVALUATOR
    )
    files = {"evaluator.py": evaluator, "helper.py": "import absent_five\nx = 1\n"}
    program = {"initial_program.py": "import absent_six\n" + PROGRAM}
    task = read_task(write(tmp_path / "task", OPENEVOLVE | files | program))
    assert task.lacks == ("absent_five", "absent_one", "absent_six", "absent_two")
    assert (
        "evaluator.py:5: absent_three is imported where it is installed, and it is not installed"
        in task.unused
    )
    assert "evaluator.py:9: absent_four is imported by a function, and it is not installed" in task.unused


def test_a_module_of_the_frameworks_own_that_is_not_supplied_is_lacking(tmp_path: pathlib.Path) -> None:
    evaluator = SHINKA["evaluate.py"] + "from shinka.utils import other\n"
    assert read_task(write(tmp_path / "task", SHINKA | {"evaluate.py": evaluator})).lacks == ("shinka",)


def test_a_module_in_a_folder_above_is_named_and_not_looked_for_in_an_index(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"shared_part.py": ""})
    task = read_task(
        write(tmp_path / "task", OPENEVOLVE | {"evaluator.py": "import shared_part\n" + EVALUATOR})
    )
    assert task.lacks == ("shared_part",)
    where = f"{tmp_path / 'shared_part.py'}, outside the task's folder: copy it in"
    assert task.unused[0] == f"evaluator.py:1: it imports shared_part, which is {where}"
    assert packages_of(task.lacks, task.folder) == []


def test_packages_are_named_as_the_folder_requires_them(tmp_path: pathlib.Path) -> None:
    write(
        tmp_path,
        {"requirements.txt": "# needed\nJAX[cpu]>=0.4 ; python_version > '3'\n-r other.txt\nbm25s==0.3\n"},
    )
    assert packages_of(["jax", "sklearn", "bm25s", "a_b"], tmp_path) == [
        "JAX[cpu]>=0.4",
        "scikit-learn",
        "bm25s==0.3",
        "a-b",
    ]


def test_another_python_is_asked_what_it_has(tmp_path: pathlib.Path) -> None:
    folder = write(
        tmp_path / "task", OPENEVOLVE | {"evaluator.py": "import numpy\nimport absent_one\n" + EVALUATOR}
    )
    assert read_task(folder, sys.executable).lacks == ("absent_one",)
    bare = tmp_path / "bare"
    # A Python without the packages of this environment.
    bare.write_text(f'#!/bin/sh\nshift\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    assert read_task(folder, str(bare)).lacks == ("absent_one", "numpy")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, "cannot be started: No such file or directory"),
        ("#!/bin/sh\necho hello\n", "not a Python that can be asked what it has: it said nothing"),
        ("#!/bin/sh\necho wrong >&2\nexit 3\n", "not a Python that can be asked what it has: wrong"),
    ],
)
def test_what_is_no_python_is_refused(tmp_path: pathlib.Path, script: str | None, message: str) -> None:
    python = tmp_path / "python"
    if script is not None:
        python.write_text(script)
        python.chmod(0o755)
    folder = write(tmp_path / "task", OPENEVOLVE | {"evaluator.py": "import absent_one\n" + EVALUATOR})
    with pytest.raises(UsageError) as refused:
        read_task(folder, str(python))
    assert message in str(refused.value)


def test_programs_that_are_not_on_the_path(tmp_path: pathlib.Path) -> None:
    source = (
        "import subprocess, sys\ncommand = ['no-such-compiler', 'x']\nsubprocess.run(command)\n"
        "subprocess.run([sys.executable, 'x'])\nsubprocess.check_output('no-such-tool -v', shell=True)\n"
        "subprocess.run(['sh', '-c', 'true'])\n"
    )
    task = read_task(write(tmp_path / "task", OPENEVOLVE | {"evaluator.py": EVALUATOR + source}))
    assert task.programs == ("no-such-compiler (evaluator.py:13)", "no-such-tool (evaluator.py:15)")


def test_a_cuda_device_is_wanted_only_where_nobody_asks_whether_there_is_one(tmp_path: pathlib.Path) -> None:
    wants = EVALUATOR + "def make(torch):\n    return torch.ones(3, device='cuda')\n"
    assert read_task(write(tmp_path / "a", OPENEVOLVE | {"evaluator.py": wants})).gpu == "evaluator.py:12"
    asks = wants + "def have(torch):\n    return torch.cuda.is_available()\n"
    assert read_task(write(tmp_path / "b", OPENEVOLVE | {"evaluator.py": asks})).gpu == ""


def test_what_a_task_fetches_is_said_and_not_run(tmp_path: pathlib.Path) -> None:
    task = read_task(write(tmp_path / "task", OPENEVOLVE | {"download_dataset.sh": "curl x\n"}))
    said = "download_dataset.sh: not run; run it yourself where the evaluator needs what it fetches"
    assert said in task.unused
