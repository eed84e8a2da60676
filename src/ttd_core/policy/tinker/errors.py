"""Errors of the tinker client as errors of ours: what the server refused, in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpx
import tinker

from ttd_core.errors import EnvironmentLacksError, TtdError
from ttd_core.policy.remote import ApiKey

#: Characters of a server's message that are shown.
_SHOWN_CHARS = 300
#: What newer clients say of servers that speak an older form of the protocol.
_OLDER = "server predates"


@contextlib.contextmanager
def plain_errors(address: str, key: ApiKey) -> Iterator[None]:
    """Turn the client's errors into ones for people; others pass.

    :raises EnvironmentLacksError: saying what the server refused, or that it cannot be reached.
    """
    try:
        yield
    except TtdError:
        raise
    except (tinker.AuthenticationError, tinker.PermissionDeniedError) as error:
        lacking = "holds a key that is refused" if key.value else "is not set"
        raise EnvironmentLacksError(
            f"{address} refuses access ({_message(error, key)}): {key.variable} {lacking}"
        ) from error
    except (tinker.APIConnectionError, httpx.HTTPError) as error:
        raise EnvironmentLacksError(
            f"{address} cannot be reached ({_message(error, key)}); resume when it is up again"
        ) from error
    except tinker.TinkerError as error:
        raise EnvironmentLacksError(f"{address} refuses: {_message(error, key)}") from error
    except ValueError as error:
        if _OLDER not in str(error):
            raise
        raise EnvironmentLacksError(
            f"{address} speaks an older form of the protocol than the installed client "
            f"(tinker {tinker.__version__}); pip install 'tinker<=0.24.1'"
        ) from error


def _message(error: Exception, key: ApiKey) -> str:
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        body = body.get("detail") or body.get("error") or body.get("message")
    message = body if isinstance(body, str) else str(error) or type(error).__name__
    return key.redact(message)[:_SHOWN_CHARS]
