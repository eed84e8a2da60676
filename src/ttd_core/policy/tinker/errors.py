"""Errors of the tinker client as errors of ours: what the server refused, in one line."""

from __future__ import annotations

import contextlib
import pathlib
import re
import traceback
from collections.abc import Iterator

import httpx
import tinker

from ttd_core.errors import EnvironmentLacksError, TtdError
from ttd_core.network import proxy_for, variable_to_blame
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
        proxy = proxy_for(address) if "://" in address else ""
        way = f", by {proxy}" if proxy else ""
        raise EnvironmentLacksError(
            f"{address} cannot be reached{way} ({_message(error, key)}); resume when it is up again"
        ) from error
    except tinker.TinkerError as error:
        raise EnvironmentLacksError(f"{address} refuses: {_message(error, key)}") from error
    except Exception as error:
        if _OLDER in str(error) and isinstance(error, ValueError):
            raise EnvironmentLacksError(
                f"{address} speaks an older form of the protocol than the installed client "
                f"(tinker {tinker.__version__}); pip install 'tinker<=0.24.1'"
            ) from error
        if not _raised_within_the_client(error):
            raise
        blamed = variable_to_blame(error)
        if blamed:
            raise EnvironmentLacksError(f"{address} cannot be asked: {blamed}") from error
        raise EnvironmentLacksError(
            f"{address} gives no answer that the client can read ({_message(error, key)}); see that it is a "
            "server of the Tinker protocol, or resume when it is well again"
        ) from error


def _raised_within_the_client(error: BaseException) -> bool:
    """Whether an error comes out of the client's own code, which trusts what a server answers."""
    folder = pathlib.Path(str(tinker.__file__)).parent
    frames = traceback.extract_tb(error.__traceback__)
    return any(folder in pathlib.Path(frame.filename).parents for frame in frames)


def _message(error: Exception, key: ApiKey) -> str:
    """The server's own words, out of whatever form its body has; the client's where there are none."""
    body = getattr(error, "body", None)
    words = _words(body) or str(error) or type(error).__name__
    title = re.search(r"<title[^>]*>(.{1,200}?)</title>", words, re.IGNORECASE | re.DOTALL)
    line = key.redact(f"a web page: {title[1]}" if title else words)
    return line[:_SHOWN_CHARS]


def _words(body: object, depth: int = 0) -> str:
    """The sentence in a body: under a name that errors have, or in a list of them."""
    if isinstance(body, str) or depth > 4:
        return body if isinstance(body, str) else ""
    if isinstance(body, list):
        return "; ".join(words for item in body[:3] if (words := _words(item, depth + 1)))
    if not isinstance(body, dict):
        return ""
    found = (_words(body.get(name), depth + 1) for name in ("detail", "error", "message", "msg"))
    words = next((words for words in found if words), "")
    place = body.get("loc")
    if words and isinstance(place, list):
        return f"{'.'.join(str(part) for part in place if part != 'body')}: {words}"
    return words
