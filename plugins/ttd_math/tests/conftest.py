"""What tests of searches on a device share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ttd_core.errors import StorageError


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
