"""What the contract's tests share: a sandbox, and the file that `ttd new-problem --minimal` makes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ttd_core.cli.new_problem import names_of, render
from ttd_core.sandbox.local import LocalExecutor


@pytest.fixture(scope="session")
def executor() -> Iterator[LocalExecutor]:
    """One worker of the real sandbox."""
    with LocalExecutor(workers=1) as executor:
        yield executor


@pytest.fixture(scope="session")
def minimal_source() -> str:
    """A whole problem in one file, class ``MyProblem``."""
    return render("minimal.txt", names_of("my-problem"))
