"""Why a request brought no reply, and whether asking again may: read from statuses, codes and words."""

from __future__ import annotations

import email.utils
import enum
import math
import re
import time
from collections.abc import Mapping

import attrs

from ttd_core.policy.openai.answers import AnswerError
from ttd_core.policy.openai.words import Codes, codes_of, codes_of_body, decoded, is_page, words_of_body


class Kind(enum.Enum):
    """What went wrong with a request; the value says whether the same request may do better later."""

    UNREACHABLE = "nobody answers, or the connection is lost", True
    SLOW = "no whole answer within the time of a try", True
    BUSY = "asked too often, or too much at once", True
    BROKEN = "the server failed", True
    UNREADABLE = "an answer that is no reply", True
    HUGE = "an answer too long to be read", False
    PAGE = "a web page in place of an answer", False
    MOVED = "the address leads elsewhere", False
    ACCESS = "the key is refused", False
    QUOTA = "what was paid for is used up", False
    MISSING = "no such model, or no such address", False
    TOO_LONG = "the prompt does not fit", False
    LIMIT = "more tokens of reply are asked for than the model gives", False
    FILTERED = "prompt or reply is refused for what it says", False
    REFUSED = "the request is refused", False

    @property
    def may_pass(self) -> bool:
        """Whether it is worth asking again."""
        return self.value[1]


@attrs.define(eq=False)
class ServerFailure(Exception):
    """A request that brought no reply.

    :param kind: what went wrong.
    :param words: the server's own, or what happened; one or more lines of unknown origin.
    :param status: of HTTP, where there was an answer.
    :param wait_s: seconds after which the server wants to be asked again; ``None`` when it does not say.
    :param again: whether the server says itself that asking again may help.
    :param tries: how often it was asked.
    """

    kind: Kind
    words: str
    status: int | None = None
    wait_s: float | None = None
    again: bool | None = None
    tries: int = 1

    @property
    def may_pass(self) -> bool:
        """Whether it is worth asking again."""
        return self.kind.may_pass if self.again is None else self.again


#: Servers word it in their own ways: "maximum context length is 8192 tokens", "prompt is too long: 9000".
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|too.(long|large|many tokens)|max_(model_len|position)"
    r"|maximum.{0,20}tokens|exceeds?.{0,40}context",
    re.IGNORECASE,
)
_TOO_LONG_NAMES = {
    "context_length_exceeded",
    "exceed_context_size_error",
    "prompt_too_long",
    "request_too_large",
}
#: Said of the limit on the reply, not of the prompt.
_LIMIT = re.compile(
    r"max_\w*tokens\W{0,4}(or\W+max_\w+\W+)?((is|value|of|must|be|should)\W+)*"
    r"(too (large|high|big|many)|at most|less|exceed|cannot|lower|between|in the range|<)"
    r"|at most \d+ completion tokens",
    re.IGNORECASE,
)
_UNKNOWN_FIELD = re.compile(
    r"unsupported|unrecogni[sz]ed|unknown|not (supported|permitted|allowed)|extra", re.I
)
_FILTER_NAMES = {
    *("content_filter", "content_filter_error", "content_policy_violation", "responsibleaipolicyviolation"),
    *(
        "data_inspection_failed",
        "datainspectionfailed",
        "moderation",
        "moderation_blocked",
        "safety_violation",
    ),
    *("invalid_prompt", "contentfilter", "1301", "sensitive_content"),
}
_FILTER_WORDS = re.compile(
    r"content.{0,3}(management|filter|polic|moderation)|filtered due to|(was|were|is|been) (flagged|filtered)"
    r"|moderation|safety (system|polic|filter|reason)|inappropriate content|responsible ai",
    re.IGNORECASE,
)
_QUOTA_NAMES = {
    *("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance"),
    *("insufficient_funds", "payment_required", "credits_exhausted", "quota_exhausted", "402"),
}
_QUOTA_WORDS = re.compile(
    r"insufficient.{0,10}(balance|credit|fund|quota)|out of credit|billing (hard )?limit|payment required"
    r"|credit balance|no credits? (left|remaining)|add (more )?credits",
    re.IGNORECASE,
)
_BUSY_NAMES = {
    *("rate_limit_exceeded", "rate_limit_error", "rate_limit", "ratelimit", "too_many_requests", "tokens"),
    *("overloaded_error", "overloaded", "engine_overloaded", "resource_exhausted", "throttlingexception"),
    *("throttled", "throttling", "slow_down", "capacity_exceeded"),
}
_BROKEN_NAMES = {
    *("server_error", "internal_server_error", "internal_error", "internalservererror", "api_error"),
    *(
        "unavailable",
        "service_unavailable",
        "serviceunavailable",
        "bad_gateway",
        "gateway_timeout",
        "timeout",
    ),
    *("upstream_error", "provider_error"),
}
_REFUSED_NAMES = {"invalid_request_error", "badrequesterror", "bad_request", "invalid_argument"}
_BY_NAME = ((_BUSY_NAMES, Kind.BUSY), (_BROKEN_NAMES, Kind.BROKEN), (_REFUSED_NAMES, Kind.REFUSED))


def of_status(status: int, body: bytes, headers: Mapping[str, str]) -> ServerFailure:
    """An answer whose status says that it is none."""
    codes, words = codes_of_body(body), words_of_body(body)
    inner = codes.status
    if status in (400, 403, 422) and inner is not None and (inner == 429 or inner >= 500):
        # A gateway's status of its own, around that of the server behind it.
        status = inner
    kind = _kind(status, codes, words)
    if 300 <= status < 400:
        kind, words = Kind.MOVED, headers.get("location", "") or words
    if not words:
        words = f"status {status}"
    elif is_page(decoded(body)):
        words = f"status {status}, a web page: {words}"
    again = {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower())
    return ServerFailure(kind, words, status, asked_wait(headers), None if kind is Kind.QUOTA else again)


def of_answer(error: AnswerError, headers: Mapping[str, str]) -> ServerFailure:
    """An answer of status 200 that holds no reply."""
    if error.page:
        # Such as "502 Bad Gateway", told with a status of 200.
        status = codes_of(error.document).status
        kind = Kind.BROKEN if status is not None and (status == 429 or status >= 500) else Kind.PAGE
        return ServerFailure(kind, error.reason, 200)
    codes = codes_of(error.document)
    kind = _kind(codes.status, codes, error.reason)
    return ServerFailure(kind, error.reason, 200, asked_wait(headers))


def _kind(status: int | None, codes: Codes, words: str) -> Kind:
    """What a status, codes and words together say.

    :param status: of the answer, or the one that it names within; ``None`` where there is neither.
    """
    names = codes.names
    refusing = status is None or status in (400, 402, 403, 404, 422, 429, 451)
    if refusing and (status == 402 or names & _QUOTA_NAMES or _QUOTA_WORDS.search(words)):
        return Kind.QUOTA
    if status in (None, 400, 403, 422, 451) and (names & _FILTER_NAMES or _FILTER_WORDS.search(words)):
        return Kind.FILTERED
    if status in (401, 403, 407):
        return Kind.ACCESS
    if status in (404, 405, 410) or "model_not_found" in names:
        return Kind.MISSING
    if status in (408, 409, 425, 429):
        return Kind.BUSY
    if status is not None and status >= 500:
        return Kind.BROKEN
    unknown = _UNKNOWN_FIELD.search(words)
    if not unknown and (_LIMIT.search(words) or codes.param.startswith("max_")):
        return Kind.LIMIT
    if status == 413 or names & _TOO_LONG_NAMES or (status and _TOO_LONG.search(words)):
        return Kind.TOO_LONG
    if status is not None:
        return Kind.REFUSED
    return next((kind for known, kind in _BY_NAME if names & known), Kind.UNREADABLE)


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, at least 0; ``None`` when it does not say, or says nonsense.

    In ``Retry-After``, as seconds or as a date, or in ``Retry-After-Ms``.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?", value, re.ASCII | re.IGNORECASE):
            seconds = float(value) * unit
            return max(seconds, 0.0) if not math.isnan(seconds) else None
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
        return max(date.timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
