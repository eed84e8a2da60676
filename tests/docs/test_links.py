"""Every link between pages leads somewhere: file, image and anchor, on a forge and on the site."""

from __future__ import annotations

import pathlib

import pytest

pytest.importorskip("markdown", reason="the docs extra is not installed: pip install -e '.[docs]'")
from tests.docs.links import broken, forge_anchors, links, site_anchors

ROOT = pathlib.Path(__file__).parents[2]
SITE = sorted(path for path in (ROOT / "docs").rglob("*.md") if "examples" not in path.parts)
OTHERS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob(".github/**/*.md"),
        *ROOT.glob("plugins/*/*.md"),
        *ROOT.glob("docs/examples/*/*.md"),
    ]
)
#: Pages whose anchors the site alone has: they are drawn from modules.
API = ROOT / "docs" / "reference" / "api"


def _name(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def on_forge(text: str) -> set[str]:
    return forge_anchors(text)


def on_site(text: str) -> set[str]:
    return site_anchors(text, ROOT / "src")


@pytest.mark.parametrize("page", SITE, ids=_name)
def test_links_of_the_site_lead_to_pages_of_the_site(page: pathlib.Path) -> None:
    assert broken(page, on_site, inside=ROOT / "docs") == []


@pytest.mark.parametrize("page", [page for page in SITE if page.parent != API], ids=_name)
def test_the_same_links_work_in_the_repository(page: pathlib.Path) -> None:
    assert broken(page, on_forge, inside=ROOT) == []


@pytest.mark.parametrize("page", OTHERS, ids=_name)
def test_links_of_other_files_work_in_the_repository(page: pathlib.Path) -> None:
    assert broken(page, on_forge, inside=ROOT) == []


def test_readme_links_and_every_plugin_are_among_them() -> None:
    names = [_name(page) for page in OTHERS]
    assert {"README.md", "CHANGELOG.md", "plugins/ttd_math/README.md"} <= set(names)
    assert sum(1 for _ in links((ROOT / "README.md").read_text(encoding="utf-8"))) > 15


def test_anchors_are_made_as_they_are() -> None:
    text = "# One, two: `three_3`\n\n```sh\n# no heading\n```\n\n## A  b\n\n## A  b\n\n### To: `tinker`\n"
    assert forge_anchors(text) == {"one-two-three_3", "a--b", "a--b-1", "to-tinker"}
    assert site_anchors(text, ROOT) == {"one-two-three_3", "a-b", "a-b_1", "to-tinker"}


def test_what_leads_nowhere_is_found(tmp_path: pathlib.Path) -> None:
    (tmp_path / "other.md").write_text("# There\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md) [b](other.md#there) [c](other.md#not) ![d](no.png) `[e](code.md)` [f](https://x.example/y#z)\n"
        "[g](#here) [h](#nowhere) [i](../page.md)\n\n# Here\n\n```\n[j](fenced.md)\n```\n\n[k]: gone.md\n"
    )
    assert broken(page, forge_anchors, inside=tmp_path) == [
        "other.md#not",
        "no.png",
        "#nowhere",
        "../page.md",
        "gone.md",
    ]
