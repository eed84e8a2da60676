"""``ttd plan``: memory, time and money before anything is loaded."""

from __future__ import annotations

import contextlib
import json
import pathlib
import sqlite3
import subprocess
import sys

import pytest

from ttd_core.planning.machines import Machine
from ttd_core.planning.models import markdown_table


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Two cores, no GPU, 16 GB, and no model here."""
    here = Machine(None, 0, 0.0, 2, 16e9, True, "this machine, which has no GPU")
    monkeypatch.setattr("ttd_core.cli.plan.this_machine", lambda: here)
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def planned(ttd, *arguments: object) -> dict:
    result = ttd("plan", "sum", *arguments, "--json")
    assert result.exit_code in (0, 1), result.output
    facts = json.loads(result.stdout)
    assert facts["memory"]["fits"] == (result.exit_code == 0) == (facts["advice"] == [])
    return facts


def test_a_laptop_gets_a_plan(ttd, summing) -> None:
    result = ttd("plan", "sum", "--preset", "laptop", "-o", "budget_s=3")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "sum with qwen2.5-coder-0.5b (0.49 billion weights) on the CPU, 2 cores"
    assert lines[1].startswith("engine: plain (transformers' own code): the model runs on the CPU")
    assert "keys and values of 32 replies at once" in result.stdout
    assert "evaluation  3.0 s a program, 2 at a time: programs that use all the" in result.stdout
    assert "model       the published sizes of Qwen/Qwen2.5-Coder-0.5B-Instruct" in result.stdout
    facts = planned(ttd, "--preset", "laptop", "-o", "budget_s=3")
    seconds = facts["seconds"]
    # Programs of three seconds on two cores, after the sampling that shares them.
    assert seconds["evaluation"] == 32 * 3 / 2
    assert seconds["rollouts"] == pytest.approx(seconds["sampling"] + 48)
    assert seconds["step"] == pytest.approx(seconds["rollouts"] + seconds["base"] + seconds["train"])
    assert facts["hours"] == pytest.approx((seconds["startup"] + 3 * seconds["step"]) / 3600)
    assert facts["price"] is None


def test_a_card_is_named_and_money_follows(ttd, summing) -> None:
    arguments = ["--model", "gpt-oss-120b", "--gpu", "h200", "--set", "policy.max_new_tokens=2048"]
    facts = planned(ttd, *arguments, "--price-per-hour", "3.5", "--evaluation-seconds", "0")
    assert facts["engine"] == "lean"
    assert facts["memory"]["weights"] == pytest.approx(65.2e9, rel=0.01)
    assert facts["price"] == pytest.approx(3.5 * facts["hours"])
    assert "experts are taken to be drawn evenly" in facts["sources"]["sampling"]
    assert facts["sources"]["machine"] == "NVIDIA H200 by its data sheet; 2 cores, as here (--cores)"
    longer = planned(ttd, *arguments, "--evaluation-seconds", "100", "--cores", "64")
    assert longer["seconds"]["evaluation"] == 512 * 100 / 64
    # Judging goes on beside sampling; the last program is judged when that has ended.
    assert longer["seconds"]["rollouts"] == max(longer["seconds"]["sampling"], 800) + 100
    shorter = planned(ttd, *arguments, "--reply-tokens", "512")
    assert shorter["seconds"]["sampling"] < facts["seconds"]["sampling"] / 3
    assert shorter["rollouts"]["longest_reply"] == 2048


def test_what_does_not_fit_says_what_to_change(ttd, summing) -> None:
    result = ttd("plan", "sum", "--model", "qwen3-8b", "--gpu", "rtx-4090")
    assert result.exit_code == 1
    last = result.stdout.splitlines()[-1]
    assert last.startswith("does not fit: learning from a pack of 32,768 tokens takes ")
    assert "set policy.context=" in last
    assert "take a card of " in last


def test_a_former_run_is_the_best_source(ttd, summing, scripted) -> None:
    begun = ttd(*scripted, "--steps", "2", "--name", "first")
    assert begun.exit_code == 0, begun.output
    facts = planned(ttd, "--from", "first", "-o", "timeout_s=20")
    assert facts["sources"]["evaluation"].endswith(": the mean of runs/first")
    # Scripted replies have no tokens: of sampling and learning the run says nothing.
    assert "assumed for 2 cores" in facts["sources"]["sampling"]
    with contextlib.closing(sqlite3.connect("runs/first/run.db")) as database, database:
        database.execute("UPDATE rollouts SET tokens = 200, seconds = 1.5")
        database.execute("UPDATE groups SET prompt_tokens = 700")
        database.execute("DELETE FROM metrics")
        measured = {"tokens_per_s": 50.0, "tokens_trained": 800.0, "seconds_base": 8.0, "seconds_train": 40.0}
        for step in (1, 2):
            # The first step starts everything up, and does not count for speed.
            rows = (measured | {"tokens_per_s": 1.0}) if step == 1 else measured
            database.executemany(f"INSERT INTO metrics VALUES ({step}, ?, ?)", rows.items())
    facts = planned(ttd, "--from", "first", "-o", "timeout_s=20", "--groups", "2", "--group-size", "8")
    assert facts["rollouts"] | {"pack_tokens": 0} == {
        **{"a_step": 16, "prompt_tokens": 700, "reply_tokens": 200, "pack_tokens": 0},
        "longest_reply": 32_068,
    }
    assert facts["sources"]["sampling"] == "runs/first, 2 finished steps: 50 tokens/s"
    assert facts["seconds"]["sampling"] == 16 * 200 / 50
    # Half of the 3,200 tokens were learned from, at 16 s and 80 s for 1,600.
    assert facts["seconds"]["base"] == pytest.approx(16 * 200 * 0.5 * 16 / 1600)
    assert facts["seconds"]["train"] == pytest.approx(16 * 200 * 0.5 * 80 / 1600)
    assert facts["seconds"]["evaluation"] == 16 * 1.5 / 2
    # Another model's speed tells nothing of this one's; its programs do.
    other = planned(ttd, "--from", "first", "--gpu", "h200", "--model", "qwen3-8b", "-o", "timeout_s=20")
    assert "measured on an H200" in other["sources"]["sampling"]
    assert other["sources"]["evaluation"].endswith(": the mean of runs/first")


def test_a_former_run_without_a_step_is_refused(ttd, summing, scripted) -> None:
    assert ttd(*scripted, "--steps", "0", "--name", "empty").exit_code == 0
    refused = ttd("plan", "sum", "--from", "empty")
    assert refused.exit_code == 2
    assert "runs/empty: no step of it is finished, so it has measured nothing yet" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "x"], "neither ttd nor sum has an option --policy"),
        (["--set", "policy.backend=tinker"], "a plan is of a model on a machine (local)"),
        (["--gpu", "h2000"], "--gpu h2000: not in the catalogue"),
        (["--gpus", "2"], "--gpus: there is no GPU here"),
        (["--gpu", "h200", "--measure"], "--measure is of this machine"),
        (["--from", "nothing"], "no run at nothing or runs/nothing"),
        (["--model", "nosuch"], "model 'nosuch' is neither a folder nor a known name"),
        (["--gpu", "h200", "--set", "policy.options.devices=2"], "2 were asked for and the machine has 1"),
        (["--set", "policy.options.devices=many"], "policy.options.devices"),
        (
            ["--set", "policy.device=cuda"],
            "policy.device = 'cuda': this machine, which has no GPU;",
        ),
        (
            ["--model", "mistral-7b-instruct-v0.3", "--set", "policy.options.engine=lean"],
            "model 'mistral-7b-instruct-v0.3' cannot run lean: model type 'mistral' is none of",
        ),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_line(ttd, summing, arguments: list[str], message: str) -> None:
    result = ttd("plan", "sum", *arguments)
    assert result.exit_code in (2, 3)
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_model_that_no_engine_computes_is_refused_as_a_run_refuses_it(ttd, summing) -> None:
    config = {"model_type": "gemma2", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    pathlib.Path("model").mkdir()
    capped = config | {"vocab_size": 10, "attn_logit_softcapping": 50.0}
    pathlib.Path("model/config.json").write_text(json.dumps(capped))
    refused = ttd("plan", "sum", "--model", "model")
    assert refused.exit_code == 3
    assert "/model' uses capped attention scores, which the local backend does not compute" in refused.stderr


def test_the_models_are_listed_as_the_page_has_them(ttd, request: pytest.FixtureRequest) -> None:
    listed = ttd("plan", "--models").stdout.splitlines()
    page = (request.config.rootpath / "docs" / "models.md").read_text(encoding="utf-8")
    assert markdown_table() in page, "print it anew: ttd_core.planning.models.markdown_table()"
    rows = [line.strip("| ").split(" | ") for line in markdown_table().splitlines()[2:]]
    assert [line.split() for line in listed[1:]] == [" ".join(row).split() for row in rows]
    assert "does not fit" in ttd("plan", "--models", "--gpu", "rtx-3060").stdout


def test_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys; from ttd_core.cli import main\n"
        "try: main(['plan', '--models'])\n"
        "except SystemExit: pass\n"
        "import ttd_core.planning.plan\n"
        "print({'torch', 'transformers', 'peft'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.slow
def test_rates_are_measured_on_this_machine(ttd, summing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ttd_core.policy.local.measuring._SECONDS", 0.02)
    facts = planned(ttd, "--preset", "laptop", "--measure")
    assert "measured here" in facts["sources"]["sampling"]
    assert facts["seconds"]["sampling"] > 0


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        (flag, value)
        for flag in ("--gpu-memory", "--price-per-hour", "--evaluation-seconds")
        for value in ("nan", "inf", "-inf", "1e308", "-1")
    ]
    + [(flag, "1" + 30 * "0") for flag in ("--gpus", "--cores", "--prompt-tokens", "--reply-tokens")],
)
def test_a_figure_that_no_machine_has_is_refused_by_name(ttd, summing, flag: str, value: str) -> None:
    result = ttd("plan", "sum", flag, value)
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert line.startswith(f"error: Invalid value for '{flag}': ")


def test_what_cannot_be_planned_says_so_before_the_model_is_looked_for(ttd, summing) -> None:
    (line,) = ttd("plan", "sum", "--set", "policy.backend=tinker", "--model", "x").output.splitlines()
    assert line.startswith("error: policy.backend = 'tinker': a plan is of a model on a machine (local)")
    result = ttd("plan", "sum", "--preset", "laptop", "--set", "policy.context=5")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert " tokens leaves no room for a reply in policy.context of 5; raise it" in result.output
    result = ttd("plan", "sum", "--preset", "laptop", "--prompt-tokens", "40000")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "leaves no room for a reply in the model's context of 32,768; choose a model" in result.output
    assert (
        "--gpu none: --models says what has room on a card" in ttd("plan", "--models", "--gpu", "none").output
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", ""], "policy.model is empty; name a folder, a hub id such as 'org/model', or one of "),
        (["--set", "policy.device=meta"], "policy.device = 'meta' is not a device; use auto, cpu, cuda or "),
        (["--set", "policy.device=cuda:-1"], "policy.device = 'cuda:-1' is not a device; "),
        (
            ["--gpu", "t4", "--set", "policy.device=cuda:1"],
            "policy.device = 'cuda:1': the machine has 1 card, numbered from 0; more with --gpus",
        ),
        (
            ["--evaluation-seconds", "x"],
            "Invalid value for '--evaluation-seconds': 'x' is not a valid number.",
        ),
    ],
)
def test_devices_and_models_that_are_none(ttd, summing, arguments: list[str], message: str) -> None:
    result = ttd("plan", "sum", "--preset", "laptop", *arguments)
    assert (result.exit_code in (2, 3), result.output.count("\n")) == (True, 1)
    assert result.output.startswith(f"error: {message}")


def test_replies_longer_than_there_is_room_for_are_told(ttd, summing) -> None:
    facts = planned(ttd, "--preset", "laptop", "--reply-tokens", "1000000")
    assert facts["sources"]["reply"] == "--reply-tokens; 1,000,000 are more than a reply may have"
    assert planned(ttd, "--gpu", "t4", "--gpus", "2", "--set", "policy.device=cuda:1")["seconds"]["step"] > 0
