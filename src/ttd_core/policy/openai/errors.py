"""Errors of the openai library as errors of ours: what was refused, in one line, with what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence

import openai

from ttd_core.errors import (
    EnvironmentLacksError,
    ModelUnavailableError,
    PromptTooLongError,
    UsageError,
    did_you_mean,
)
from ttd_core.policy.remote import ApiKey

#: Servers word it in their own ways: "maximum context length is 8192 tokens", "prompt is too long: 9000".
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|too.(long|large|many tokens)|max_(model_len|position)"
    r"|maximum.{0,20}tokens",
    re.IGNORECASE,
)
#: Characters of a server's message, and models of its list, that are shown.
_SHOWN_CHARS = 300
_SHOWN_MODELS = 8


def explained(
    error: Exception, address: str, model: str, key: ApiKey, retries: int, offered: Sequence[str]
) -> Exception:
    """The library's error as one for people.

    :param offered: models that the server lists; empty when it does not say.
    :return: an error of :mod:`ttd_core.errors`; the given one when it is none of the library's.
    """
    reason = key.redact(_message(error))[:_SHOWN_CHARS]
    if isinstance(error, openai.APIConnectionError):
        cause = key.redact(str(error.__cause__ or error))[:_SHOWN_CHARS]
        tries = "1 try" if retries == 0 else f"{retries + 1} tries"
        return EnvironmentLacksError(
            f"{address} did not answer in {tries} ({cause}); start the server, or name another with "
            "policy.options.base_url"
        )
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        lacking = "holds a key that is refused" if key.value else "is not set"
        return EnvironmentLacksError(f"{address} refuses access ({reason}): {key.variable} {lacking}")
    if isinstance(error, openai.NotFoundError):
        others = f" It offers {', '.join(offered[:_SHOWN_MODELS])}." if offered else ""
        return ModelUnavailableError(
            f"{address} has no model '{model}' ({reason}).{others}{did_you_mean(model, offered)}"
        )
    if isinstance(error, openai.RateLimitError):
        return EnvironmentLacksError(
            f"{address} still refuses after {retries + 1} tries ({reason}); lower policy.options.in_flight, "
            "set policy.options.requests_per_minute, or resume later"
        )
    if isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError) or _is_413(error):
        if _TOO_LONG.search(reason):
            return PromptTooLongError(
                f"a prompt does not fit the context of '{model}' at {address} ({reason}); shorten it (a "
                "smaller -o output_chars, a shorter program) or lower policy.max_new_tokens"
            )
        return UsageError(f"{address} refuses the request: {reason}")
    if isinstance(error, openai.OpenAIError):
        return EnvironmentLacksError(
            f"{address} failed, {retries} retries included ({reason}); resume when it is well again"
        )
    return error


def _is_413(error: Exception) -> bool:
    return isinstance(error, openai.APIStatusError) and error.status_code == 413


def _message(error: Exception) -> str:
    """The server's own sentence, out of whatever form its body has."""
    body = getattr(error, "body", None)
    while isinstance(body, dict):
        body = body.get("error") or body.get("message") or body.get("detail")
    return body if isinstance(body, str) else str(error)
