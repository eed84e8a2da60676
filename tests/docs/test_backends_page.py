"""The page of backends, held to what each of them takes."""

from __future__ import annotations

import pathlib
import re

import attrs
import pytest

from ttd_core.plugin import builtins
from ttd_core.policy.openai.policy import OpenAIOptions
from ttd_core.policy.tinker.options import TinkerOptions

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "backends.md").read_text()


def section(title: str) -> str:
    found = re.search(rf"^## [^\n]*{title}.*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def test_every_backend_is_told() -> None:
    told = re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Keys")[0], re.MULTILINE)
    assert sorted(told) == sorted(builtins.POLICIES)


@pytest.mark.parametrize(("title", "options"), [("`openai`", OpenAIOptions), ("`tinker`", TinkerOptions)])
def test_every_option_is_told_with_its_default(title: str, options: type) -> None:
    rows = {
        name: default.strip()
        for names, default in re.findall(
            r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", section(title), re.MULTILINE
        )
        for name in re.findall(r"\w+", names)
    }
    assert rows.keys() == {field.name for field in attrs.fields(options)}
    for field in attrs.fields(options):
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert rows[field.name] == f"{field.default:g}", field.name
        elif isinstance(field.default, str):
            assert rows[field.name] == f"`{field.default}`", field.name
