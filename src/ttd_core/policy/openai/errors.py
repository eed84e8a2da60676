"""Failures of a server as errors for people: its own words in one line, and what to do."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Sequence

import attrs

from ttd_core.errors import (
    EnvironmentLacksError,
    ModelUnavailableError,
    PromptTooLongError,
    TtdError,
    UsageError,
    did_you_mean,
)
from ttd_core.network import proxy_for, variable_to_blame
from ttd_core.policy.openai.failures import Kind, ServerFailure
from ttd_core.policy.remote import ApiKey

#: Characters of a server's words, and models of its list, that are shown.
_SHOWN_CHARS = 300
_SHOWN_MODELS = 8
_LONGEST_SHOWN_S = 1e9
_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
#: Said by OpenSSL where a server does not speak TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF")


@attrs.frozen
class Asked:
    """What was asked of whom.

    :param address: of the server.
    :param named_by: what named the address: a config key, or a variable of the environment.
    :param model: that should reply.
    :param key: that was sent.
    :param fields: names of those fields of a request that may be left out.
    :param extra: names of the fields that the user added.
    :param timeout_s: wall seconds of a try.
    :param longest_wait_s: the longest pause that a server may ask for.
    """

    address: str
    named_by: str
    model: str
    key: ApiKey
    fields: Sequence[str]
    extra: Sequence[str]
    timeout_s: float
    longest_wait_s: float

    def shown(self, words: str) -> str:
        """Words of unknown origin in a line, cut, without the key."""
        line = self.key.redact(words)
        return line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 3] + "..."


def explained(failure: ServerFailure, asked: Asked, offered: Sequence[str] = ()) -> TtdError:
    """A failure as an error of :mod:`ttd_core.errors`.

    :param offered: models that the server lists; empty when it does not say.
    """
    proxy = proxy_for(asked.address)
    address = f"{asked.address} (by {proxy})" if proxy else asked.address
    words = asked.shown(failure.words)
    tries = "1 try" if failure.tries == 1 else f"{failure.tries} tries"
    refused = _explained_refusal(failure, asked, address, words, offered)
    if refused is not None:
        return refused
    if failure.wait_s is not None and failure.wait_s > asked.longest_wait_s:
        return EnvironmentLacksError(
            f"{address} asks to wait {min(failure.wait_s, _LONGEST_SHOWN_S):.0f} s ({words}), longer than "
            f"policy.options.longest_wait_s = {asked.longest_wait_s:g}; resume then, or raise it"
        )
    if failure.kind is Kind.UNREACHABLE:
        return EnvironmentLacksError(
            f"{address} did not answer in {tries} ({words}); {_mend_connection(failure.words, asked, proxy)}"
        )
    if failure.kind is Kind.SLOW:
        return EnvironmentLacksError(
            f"{address} did not answer in full in {tries} ({words}); see that the server works, lower "
            "policy.options.in_flight, or raise policy.options.timeout_s"
        )
    if failure.kind is Kind.BUSY:
        return EnvironmentLacksError(
            f"{address} still refuses after {tries} ({words}); lower policy.options.in_flight, set "
            "policy.options.requests_per_minute, or resume later"
        )
    if failure.kind in (Kind.UNREADABLE, Kind.HUGE):
        return EnvironmentLacksError(
            f"{address} gives no reply that can be read, in {tries}: {words}; see that it is a server of "
            "chat completions, or resume when it is well again"
        )
    return EnvironmentLacksError(
        f"{address} failed, {failure.tries - 1} retries included ({words}); resume when it is well again"
    )


def _explained_refusal(
    failure: ServerFailure, asked: Asked, address: str, words: str, offered: Sequence[str]
) -> TtdError | None:
    """The error of a request that was understood and refused; ``None`` for what may pass."""
    kind, base = failure.kind, asked.named_by
    if kind is Kind.ACCESS and failure.status == 407:
        return EnvironmentLacksError(f"{address}: the proxy wants a name and a password ({words})")
    if kind is Kind.ACCESS:
        lacking = "holds a key that is refused" if asked.key.value else "is not set"
        return EnvironmentLacksError(f"{address} refuses access ({words}): {asked.key.variable} {lacking}")
    if kind is Kind.QUOTA:
        return EnvironmentLacksError(
            f"{address}: what the account may use is used up ({words}); add to it, and resume"
        )
    if kind is Kind.MISSING:
        return _explained_missing(failure, asked, address, words, offered)
    if kind is Kind.PAGE:
        return EnvironmentLacksError(
            f"{address} answers with {words}, not with chat completions; {_mend_address(asked)}"
        )
    if kind is Kind.MOVED:
        return EnvironmentLacksError(
            f"{address} sends on to {words}, and requests do not follow; name the address it leads to with "
            f"{base}"
        )
    if kind is Kind.TOO_LONG:
        return PromptTooLongError(
            f"a prompt does not fit the context of '{asked.model}' at {address} ({words}); shorten it (a "
            "smaller -o output_chars, a shorter program) or lower policy.max_new_tokens"
        )
    if kind is Kind.LIMIT:
        return UsageError(
            f"'{asked.model}' at {address} gives no replies of policy.max_new_tokens ({words}); lower it"
        )
    if kind in (Kind.REFUSED, Kind.FILTERED):
        return UsageError(f"{address} refuses the request: {words}{_leave_out_hint(failure.words, asked)}")
    return None


def _explained_missing(
    failure: ServerFailure, asked: Asked, address: str, words: str, offered: Sequence[str]
) -> TtdError:
    """The error of a status 404: no such model, or an address that is none of chat completions."""
    if (
        not offered
        and asked.model.lower() not in failure.words.lower()
        and "model" not in failure.words.lower()
    ):
        return EnvironmentLacksError(f"{address} has no chat completions ({words}); {_mend_address(asked)}")
    others = f" It offers {', '.join(map(asked.shown, offered[:_SHOWN_MODELS]))}." if offered else ""
    return ModelUnavailableError(
        f"{address} has no model '{asked.model}' ({words}).{others}{did_you_mean(asked.model, offered)}"
    )


def without_version(asked: Asked) -> TtdError:
    """The error for an address whose models are found one folder further down."""
    return EnvironmentLacksError(
        f"{asked.address} lists no models, but {asked.address}/v1 does; {_mend_address(asked)}"
    )


def unusable_environment(error: Exception, asked_address: str) -> TtdError | None:
    """The error when no connection can be got ready because of a proxy's or certificate's variable."""
    blamed = variable_to_blame(error)
    return EnvironmentLacksError(f"{asked_address} cannot be asked: {blamed}") if blamed else None


def _mend_address(asked: Asked) -> str:
    path = urllib.parse.urlsplit(asked.address).path
    if re.search(r"/v\d\w*$", path):
        return f"see that {asked.named_by} is the address of an API"
    return f"it may lack /v1: {asked.named_by}={asked.address}/v1"


def _mend_connection(words: str, asked: Asked, proxy: str) -> str:
    """What to do about a connection that was not made, or was lost."""
    if any(sign in words for sign in _NO_TLS) and asked.address.startswith("https:"):
        return (
            f"it seems to speak http, not https: {asked.named_by}=http{asked.address.removeprefix('https')}"
        )
    if "CERTIFICATE" in words.upper() and (blamed := variable_to_blame()):
        return blamed
    if proxy:
        host = urllib.parse.urlsplit(asked.address).hostname
        return f"see that the proxy works, unset that variable, or add {host} to NO_PROXY"
    return f"start the server, or name another with {asked.named_by}"


def _leave_out_hint(words: str, asked: Asked) -> str:
    """How to leave out the field that a refusal names; empty when it names none."""
    for field in (*asked.fields, *asked.extra):
        if not re.search(rf"(?<![\w]){re.escape(field)}(?![\w])", words):
            continue
        if field in asked.extra:
            return f"; take {field} out of policy.options.extra_body"
        if field in _LIMIT_FIELDS:
            other = _LIMIT_FIELDS[1 - _LIMIT_FIELDS.index(field)]
            return f"; try policy.options.limit_field={other}, or policy.options.leave_out=['{field}']"
        return f"; to send none: policy.options.leave_out=['{field}']"
    return ""
