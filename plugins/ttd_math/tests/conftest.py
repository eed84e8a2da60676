"""Hypothesis settings, and what tests of searches on a device share.

No deadline, since the machine may be busy and first calls import and plan.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from ttd_core.errors import StorageError

settings.register_profile("ttd", deadline=None)
settings.load_profile("ttd")


@pytest.fixture
def saving_at_most() -> Callable[..., Callable[..., None]]:
    """Makes of what saves checkpoints, and a number, what fails once so many are on disk."""

    def made(save: Callable[..., None], count: int) -> Callable[..., None]:
        left = iter(range(count - 1))

        def saved(*given) -> None:
            save(*given)
            if next(left, None) is None:
                raise StorageError("stopped here")

        return saved

    return made
