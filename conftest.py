"""How long a test may take, for the core and the plugins alike; other fixtures stand beside their tests."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator

import pytest

#: Markers of tests that take more than the seconds that `timeout` in pyproject.toml gives.
LONG = ("slow", "peer", "ray", "gpu")
LONG_SECONDS = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give long tests their limit, unless they name one of their own."""
    for item in items:
        if item.get_closest_marker("timeout") is None and any(map(item.get_closest_marker, LONG)):
            item.add_marker(pytest.mark.timeout(LONG_SECONDS))


@pytest.fixture
def cpu_clock() -> Iterator[Callable[[], float]]:
    """A clock of the processor seconds that the test's own thread has used.

    Neither other threads nor a collection of what the tests before have left count: in a process with
    millions of objects one collection takes a second, whichever test it falls upon.
    """
    gc.disable()
    yield time.thread_time
    gc.enable()
