"""The problem's options as flags."""

from __future__ import annotations

import json
import pathlib

import pytest


@pytest.mark.parametrize("form", [["--size", "2"], ["--size=2"], ["-o", "size=2"]])
def test_a_problems_option_is_a_flag(ttd, summing, form) -> None:
    pathlib.Path("two.json").write_text("[0.5, 0.5]")
    assert ttd("eval", "sum", "two.json", *form).exit_code == 0
    assert ttd("eval", *form, "sum", "two.json").exit_code == 0


def test_a_switch_takes_no_value(ttd) -> None:
    pytest.importorskip("ttd_ahc")
    facts = json.loads(ttd("show", "ahc039", "--official", "--first-seed", "7", "--json").stdout)
    values = {option["name"]: option["value"] for option in facts["options"]}
    assert (values["official"], values["first_seed"]) == (True, 7)
    assert json.loads(ttd("show", "ahc039", "--official=false", "--json").stdout)["options"]


def test_a_flag_nobody_has(ttd, summing) -> None:
    result = ttd("show", "sum", "--sise", "5")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: neither ttd nor sum has an option --sise. Did you mean '--size'? See: ttd show --help\n"
    )
    assert "`ttd show sum` lists the problem's own" in ttd("show", "sum", "--zzz").stderr
    assert ttd("show", "sum", "--size").stderr.startswith("error: --size needs a value")


def test_a_commands_own_flag_comes_first(ttd, summing) -> None:
    assert ttd("show", "sum", "--json", "--size", "4").exit_code == 0
    assert "No such option" in ttd("show", "--nothing").stderr


def test_a_value_that_does_not_fit(ttd, summing) -> None:
    result = ttd("show", "sum", "--size", "many")
    assert result.exit_code == 2
    assert "size" in result.stderr
