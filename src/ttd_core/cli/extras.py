"""What an extra of ``ttd-core`` brings, loaded only by the commands that need it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ttd_core.errors import EnvironmentLacksError


@contextlib.contextmanager
def imported_from_extra(extra: str, who_needs: str) -> Iterator[None]:
    """Say what to install where an import inside fails.

    :param extra: the extra that brings what is imported.
    :param who_needs: begins the message, such as ``the page needs``.
    :raises EnvironmentLacksError: when a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise EnvironmentLacksError(
            f"{who_needs} the package {error.name}; install it with: pip install 'ttd-core[{extra}]'"
        ) from error
