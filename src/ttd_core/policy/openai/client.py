"""Asks a server of chat completions over HTTP: bounded in bytes and seconds, tried again while it may pass.

The openai library makes the requests; what comes back is read by :mod:`.answers` alone, and how long to wait
before another try is decided here, as the library gives up where a server asks for more than two minutes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import openai

from ttd_core.policy.openai import failures
from ttd_core.policy.openai.answers import Answer, AnswerError, read_answer, read_models
from ttd_core.policy.openai.failures import Kind, ServerFailure

#: Bytes of an answer that are read.
MAX_ANSWER_BYTES = 32 << 20
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0


class _UnfinishedRead(openai.OpenAIError):
    """An answer that was not read on.

    :param kind: why.
    :param words: the same, with what the server says.
    """

    def __init__(self, kind: Kind, words: str) -> None:
        super().__init__(words)
        self.kind = kind
        self.words = words


class _BoundedClient(openai.DefaultAsyncHttpxClient):
    """Reads every answer at once, refusals too, but no more of it than is allowed."""

    async def send(self, request: Any, *, stream: bool = False, **given: Any) -> Any:
        """Send a request; the answer is read in full, whatever ``stream`` says.

        :raises _UnfinishedRead: when it is too long, or the request was led elsewhere and lost its body.
        """
        response = await super().send(request, stream=True, **given)
        try:
            if response.request.method != request.method:
                # A POST that was led on arrives as a GET.
                raise _UnfinishedRead(Kind.MOVED, str(response.url))
            content = bytearray()
            async for part in response.aiter_bytes():
                content += part
                if len(content) > MAX_ANSWER_BYTES:
                    raise _UnfinishedRead(Kind.HUGE, f"an answer of more than {MAX_ANSWER_BYTES >> 20} MiB")
        finally:
            await response.aclose()
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        return type(response)(
            response.status_code,
            headers=headers,
            content=bytes(content),
            request=response.request,
            history=response.history,
        )


class ChatClient:
    """Asks one server. Its methods run on one event loop.

    :param address: that ends in ``/v1``, mostly; ``None`` for OpenAI's.
    :param query: fields of the address's query.
    :param key: the key; some text where the server needs none.
    :param timeout_s: wall seconds of one try, in all.
    :param retries: tries after the first one.
    :param longest_wait_s: the longest pause that a server may ask for.
    :raises Exception: whatever the library raises when the environment's proxies or certificates are wrong.
    """

    def __init__(
        self,
        address: str | None,
        query: Mapping[str, str],
        key: str,
        timeout_s: float,
        retries: int,
        longest_wait_s: float,
    ) -> None:
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url=address,
            default_query=dict(query),
            max_retries=0,
            timeout=timeout_s,
            http_client=_BoundedClient(),
        )
        self._timeout_s = timeout_s
        self._retries = retries
        self._longest_wait_s = longest_wait_s
        #: As it is asked.
        self.address = str(self._client.base_url).rstrip("/")
        #: Tries after first ones so far.
        self.retries_taken = 0

    async def complete(self, fields: Mapping[str, Any], extra: Mapping[str, Any]) -> Answer:
        """The reply to a request, asked for until it comes or cannot be expected any more.

        :param fields: of the request, as the library knows them.
        :param extra: further ones.
        :raises ServerFailure: the last one.
        """
        for attempt in range(self._retries + 1):
            try:
                return await self.complete_once(fields, extra, self._timeout_s)
            except ServerFailure as failure:
                failure.tries = attempt + 1
                wait = failure.wait_s or 0.0
                if attempt == self._retries or not failure.may_pass or wait > self._longest_wait_s:
                    raise
            self.retries_taken += 1
            await asyncio.sleep(wait or _pause(attempt))
        raise AssertionError("unreachable: the last try returns or raises")

    async def complete_once(
        self, fields: Mapping[str, Any], extra: Mapping[str, Any], timeout_s: float
    ) -> Answer:
        """The reply to a request, asked for once.

        :raises ServerFailure: when there is none.
        """
        create: Any = self._client.chat.completions.with_raw_response.create
        response = await self._response(lambda: create(extra_body=dict(extra), **fields), timeout_s)
        try:
            return read_answer(response.content)
        except AnswerError as error:
            raise failures.of_answer(error, response.headers) from error

    async def list_models(self, timeout_s: float, folder: str = "") -> tuple[str, ...] | None:
        """The models that the server lists; ``None`` when what it answers is no such list.

        :param folder: within the address, where to look for the list.
        :raises ServerFailure: when it refuses, or does not answer.
        """
        address = f"{self.address}{folder}"
        client = self._client if not folder else self._client.with_options(base_url=address)
        listing: Any = client.models.with_raw_response.list
        response = await self._response(listing, timeout_s)
        return read_models(response.content)

    async def close(self) -> None:
        """Drop the connections."""
        await self._client.close()

    async def _response(self, send: Callable[[], Awaitable[Any]], timeout_s: float) -> Any:
        """The answer to a request, of whatever content.

        :raises ServerFailure: when its status refuses, or there is none.
        """
        try:
            async with asyncio.timeout(timeout_s):
                answered = await send()
        except openai.APIStatusError as error:
            response = error.response
            raise failures.of_status(response.status_code, response.content, response.headers) from error
        except (openai.APITimeoutError, TimeoutError) as error:
            cause = f"{type(error.__cause__).__name__}: " if "Connect" in repr(error.__cause__) else ""
            kind = Kind.UNREACHABLE if cause else Kind.SLOW
            raise ServerFailure(kind, f"{cause}nothing whole within {timeout_s:g} s") from error
        except (openai.OpenAIError, OSError, ValueError) as error:
            raise _of_exception(error) from error
        return answered.http_response


def _of_exception(error: BaseException) -> ServerFailure:
    """What the library raised, when there was no answer."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, _UnfinishedRead):
        cause = cause.__cause__
    if cause is not None:
        return ServerFailure(cause.kind, cause.words)
    cause = error.__cause__ or error
    words = str(cause) or type(cause).__name__
    return ServerFailure(Kind.UNREACHABLE, words)


def _pause(attempt: int) -> float:
    """Seconds before another try where the server does not say: growing, and not all the same."""
    return float(min(_FIRST_PAUSE_S * 2.0**attempt, _LONGEST_PAUSE_S) * random.uniform(0.75, 1.0))
