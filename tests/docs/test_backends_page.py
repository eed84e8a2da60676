"""The pages of backends and of the learner, held to what each backend takes; the policy on the page, run."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import attrs
import pytest
from tests.docs.reader import blocks

from ttd_core.plugin import builtins
from ttd_core.policy.local.policy import LocalOptions
from ttd_core.policy.openai.policy import OpenAIOptions
from ttd_core.policy.scripted import ScriptedOptions
from ttd_core.policy.tinker.options import TinkerOptions

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "backends.md").read_text()


def section(title: str) -> str:
    match = re.search(rf"^## [^\n]*{title}.*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[0]


def test_every_backend_is_told() -> None:
    told = re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Keys")[0], re.MULTILINE)
    assert sorted(told) == sorted(builtins.POLICIES)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (section("`openai`"), OpenAIOptions),
        (section("`tinker`"), TinkerOptions),
        (section("`scripted`"), ScriptedOptions),
        ((DOCS / "learner.md").read_text().partition("\n## ")[0], LocalOptions),
    ],
)
def test_every_option_is_told_with_its_default(text: str, options: type) -> None:
    rows = {
        name: default.strip()
        for names, default in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", text, re.MULTILINE)
        for name in re.findall(r"\w+", names)
    }
    assert rows.keys() == {field.name for field in attrs.fields(options)}
    for field in attrs.fields(options):
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert rows[field.name] == f"{field.default:g}", field.name
        elif isinstance(field.default, str):
            assert rows[field.name] == f"`{field.default}`", field.name


def test_the_policy_of_the_page_keeps_the_contract(tmp_path: pathlib.Path) -> None:
    (example,) = [block for block in blocks(PAGE) if block.language == "python"]
    (tmp_path / "test_parrot.py").write_text(example.text)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "4 passed, 3 skipped" in done.stdout, done.stdout
