"""How long a test may take, for the core and the plugins alike; fixtures stand in the folders' own files."""

from __future__ import annotations

import pytest

#: Markers of tests that take more than the seconds that `timeout` in pyproject.toml gives.
LONG = ("slow", "peer", "ray", "gpu")
LONG_SECONDS = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give long tests their limit, unless they name one of their own."""
    for item in items:
        if item.get_closest_marker("timeout") is None and any(map(item.get_closest_marker, LONG)):
            item.add_marker(pytest.mark.timeout(LONG_SECONDS))
