"""The ``openai`` backend: any server of OpenAI's chat completions. Its model is frozen and never learns.

Each reply is a request of its own, so that it can be judged while others are written, and the first replies
to all prompts are requested first, so that a prompt which does not fit is found before much is paid for.
Connections, pauses and tries are the affair of :mod:`.client`, what is answered that of :mod:`.answers`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import urllib.parse
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs
import numpy as np

from ttd_core.config import RunConfig
from ttd_core.errors import EnvironmentLacksError
from ttd_core.policy.base import Sample, SamplingParams
from ttd_core.policy.models.tags import answer_within
from ttd_core.policy.openai.answers import Answer
from ttd_core.policy.openai.client import ChatClient
from ttd_core.policy.openai.errors import Asked, explained, unusable_environment, without_version
from ttd_core.policy.openai.failures import Kind, ServerFailure
from ttd_core.policy.openai.options import OPTIONAL_FIELDS, OpenAIOptions, Server, checked_options
from ttd_core.policy.remote import ApiKey
from ttd_core.text import without_surrogates
from ttd_core.types import Completion, Message, StopReason

_OPENAI_ADDRESS = "https://api.openai.com/v1"
_OPEN_TIMEOUT_S = 10.0
#: What a server is asked when it lists no models, to see whether the address is one of chat completions.
_PROBE: list[Message] = [{"role": "user", "content": "Say yes."}]
#: What a probe can find that no other request would do better at.
_CERTAIN = (Kind.ACCESS, Kind.MISSING, Kind.PAGE, Kind.MOVED, Kind.QUOTA, Kind.UNREACHABLE)
T = TypeVar("T")


@attrs.define
class UsageCounts:
    """Requests and tokens so far, by the server's own count.

    :param retries: tries after the first one of a request.
    :param tokens: of replies.
    """

    requests: float = 0.0
    retries: float = 0.0
    tokens_prompt: float = 0.0
    tokens: float = 0.0


def open_openai(config: RunConfig) -> OpenAIPolicy:
    """Connect to the server that a config names.

    :raises ConfigError: for a wrong option, or when the config asks a frozen model to learn.
    :raises EnvironmentLacksError: when the key or the server is missing, or is no server of chat completions.
    """
    return OpenAIPolicy(config, checked_options(config))


class OpenAIPolicy:
    """Asks a server for replies. See :class:`ttd_core.policy.base.Policy`.

    :param config: the run's config.
    :param options: where and how to ask.
    :raises EnvironmentLacksError: when nobody answers, or the key is missing or refused.
    """

    def __init__(self, config: RunConfig, options: OpenAIOptions) -> None:
        self._model = config.policy.model
        self._effort = config.policy.reasoning_effort
        self._options = options
        key = ApiKey.read(options.key_variable)
        server = Server.of(options)
        if not key.value and server.is_openai:
            raise EnvironmentLacksError(
                f"no key: set {key.variable} in the environment, or name a server of your own with "
                "policy.options.base_url"
            )
        self._limit_field = options.limit_field or (
            "max_completion_tokens" if server.is_openai else "max_tokens"
        )
        address = server.address or _OPENAI_ADDRESS
        self._client = _connected(address, server, key, options)
        self._asked = Asked(
            address=self._client.address,
            named_by=server.named_by,
            model=self._model,
            key=key,
            fields=[name for name in OPTIONAL_FIELDS if name not in options.leave_out],
            extra=list(options.extra_body),
            timeout_s=options.timeout_s,
            longest_wait_s=options.longest_wait_s,
        )
        self._usage, self._reported = UsageCounts(), UsageCounts()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai", daemon=True)
        self._thread.start()
        self._request_slots = asyncio.Semaphore(options.in_flight)
        self._rate_limit = _RateLimit(options.requests_per_minute)
        self._offered: tuple[str, ...] = ()
        try:
            self._offered = self._run_on_loop(self._look_at_server())
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """Model and server, for people."""
        return f"{self._model} (openai, {urllib.parse.urlsplit(self._asked.address).hostname})"

    def sample(
        self, prompts: Sequence[Sequence[Message]], count: int, params: SamplingParams
    ) -> Iterator[Sample]:
        """Yield ``count`` replies to each prompt as they come; they have text but no tokens.

        A reply that the model or the server refuses to give, for what it or the prompt says, has no answer.

        :raises UsageError: when a prompt does not fit the server's context, or it refuses the request.
        :raises EnvironmentLacksError: when the server cannot be reached or refuses the key.
        """
        return self.sample_part(prompts, count, [range(count)] * len(prompts), params)

    def sample_part(
        self,
        prompts: Sequence[Sequence[Message]],
        count: int,
        indices: Sequence[Sequence[int]],
        params: SamplingParams,
    ) -> Iterator[Sample]:
        """Yield some of these replies, each requested with the seed that it has among all.

        :raises UsageError: as :meth:`sample` does.
        :raises EnvironmentLacksError: as :meth:`sample` does.
        """
        seeds = np.random.default_rng(params.seed).integers(2**31, size=(count, len(prompts)))
        wanted = sorted((index, prompt) for prompt, group in enumerate(indices) for index in group)
        futures = [
            asyncio.run_coroutine_threadsafe(
                self._request(prompt, index, prompts[prompt], params, int(seeds[index, prompt])), self._loop
            )
            for index, prompt in wanted
        ]
        try:
            for future in concurrent.futures.as_completed(futures):
                try:
                    yield future.result()
                except ServerFailure as failure:
                    raise explained(failure, self._asked, self._offered) from failure
        finally:
            for future in futures:
                future.cancel()

    def take_metrics(self) -> Mapping[str, float]:
        """Requests, retries, tokens and cost since the last call: what a step's metrics take in."""
        now = attrs.evolve(self._usage, retries=float(self._client.retries_taken))
        new = {name: total - getattr(self._reported, name) for name, total in attrs.asdict(now).items()}
        self._reported = now
        prices = self._options.price_in, self._options.price_out
        if any(prices):
            new["cost"] = (new["tokens_prompt"] * prices[0] + new["tokens"] * prices[1]) / 1e6
        return new

    def close(self) -> None:
        """Drop what is under way and the connections."""
        if self._loop.is_closed():
            return
        self._run_on_loop(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _look_at_server(self) -> tuple[str, ...]:
        """The models that the server offers, none where it does not say; whether it is one at all.

        :raises EnvironmentLacksError: when nobody answers, the key is refused, or the address is not one of
            chat completions.
        """
        try:
            models = await self._client.list_models(_OPEN_TIMEOUT_S)
        except ServerFailure as failure:
            if failure.kind in (Kind.UNREACHABLE, Kind.SLOW) or failure.status == 401:
                raise explained(failure, self._asked) from failure
            if failure.kind in (Kind.BUSY, Kind.BROKEN):
                # The list may come back, and the first request will tell.
                return ()
            models = None
        if models is not None:
            return models
        # Not every server has such a list, and some are asked one folder above their own.
        with contextlib.suppress(ServerFailure):
            if await self._client.list_models(_OPEN_TIMEOUT_S, "/v1"):
                raise without_version(self._asked)
        fields = self._fields(_PROBE, SamplingParams(max_new_tokens=1), seed=0)
        try:
            await self._client.complete_once(fields, self._options.extra_body, _OPEN_TIMEOUT_S)
        except ServerFailure as failure:
            if failure.kind in _CERTAIN:
                raise explained(failure, self._asked) from failure
        return ()

    def _fields(self, messages: Sequence[Message], params: SamplingParams, seed: int) -> dict[str, Any]:
        """The fields of a request."""
        prefix: list[Message] = [{"role": "assistant", "content": params.prefill}] if params.prefill else []
        optional = {
            "temperature": params.temperature,
            "seed": seed,
            self._limit_field: params.max_new_tokens,
            "reasoning_effort": self._effort,
        }
        return {
            "model": self._model,
            # A lone half of a surrogate pair is no character, and cannot be sent.
            "messages": [
                {"role": one["role"], "content": without_surrogates(one["content"])}
                for one in (*messages, *prefix)
            ],
            **{
                name: value
                for name, value in optional.items()
                if value not in (None, "") and name not in self._options.leave_out
            },
        }

    async def _request(
        self, prompt: int, index: int, messages: Sequence[Message], params: SamplingParams, seed: int
    ) -> Sample:
        fields = self._fields(messages, params, seed)
        async with self._request_slots:
            await self._rate_limit.wait()
            try:
                answer = await self._client.complete(fields, self._options.extra_body)
            except ServerFailure as failure:
                if failure.kind is not Kind.FILTERED:
                    raise
                answer = Answer("", refusal=self._asked.shown(failure.words))
        self._usage.requests += 1
        self._usage.tokens_prompt += answer.tokens_prompt
        self._usage.tokens += answer.tokens
        return Sample(prompt, index, self._completion(answer, params.prefill), np.zeros(0, np.int64))

    def _completion(self, answer: Answer, prefill: str) -> Completion:
        """The reply; its thinking is what the server separates, or what comes before the tag that ends it."""
        if answer.refusal:
            return Completion(answer.refusal, stop=StopReason.REFUSED, answer="")
        stop = StopReason.LENGTH if answer.cut else StopReason.STOP
        if not answer.content:
            return Completion(answer.thinking, stop=stop, answer="")
        content = prefill + answer.content.removeprefix(prefill)
        end = self._options.thinking_end
        text = f"{answer.thinking}\n\n{content}" if answer.thinking else content
        return Completion(text, stop=stop, answer=answer_within(content, end) if end else content)

    def _run_on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _connected(address: str, server: Server, key: ApiKey, options: OpenAIOptions) -> ChatClient:
    """The client of a server; nothing is asked yet.

    :raises EnvironmentLacksError: when a variable for proxies or certificates is wrong.
    """
    try:
        return ChatClient(
            address,
            server.query,
            # Servers of one's own ask for none, but the client does.
            key.value or "none",
            timeout_s=options.timeout_s,
            retries=options.retries,
            longest_wait_s=options.longest_wait_s,
        )
    except Exception as error:
        unusable = unusable_environment(error, address)
        if unusable is None:
            raise
        raise unusable from error


class _RateLimit:
    """Spaces the beginnings of requests evenly.

    :param per_minute: most of them; ``None`` for as fast as they come.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        """Wait until the next request may begin."""
        if not self._interval:
            return
        now = asyncio.get_running_loop().time()
        begin = max(now, self._next)
        self._next = begin + self._interval
        await asyncio.sleep(begin - now)
