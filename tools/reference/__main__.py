"""Write the pages that differ from the code, or name them."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Sequence

from tools.reference.commands import commands_page, exit_codes_page
from tools.reference.markdown import REFERENCE
from tools.reference.names import names_page
from tools.reference.runs import endings_page, events_page, metrics_page
from tools.reference.settings import config_page, problems_page

#: File under ``docs/reference`` to what writes it.
PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "config.md": config_page,
    "endings.md": endings_page,
    "events.md": events_page,
    "exit-codes.md": exit_codes_page,
    "metrics.md": metrics_page,
    "problems.md": problems_page,
    "api/index.md": names_page,
}


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or compare them."""
    check = "--check" in arguments
    differing = [name for name, page in PAGES.items() if _differs(REFERENCE / name, page(), write=not check)]
    for name in differing:
        print(f"docs/reference/{name} {'differs from the code' if check else 'written'}")
    return 1 if check and differing else 0


def _differs(path: pathlib.Path, text: str, *, write: bool) -> bool:
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
