"""The ``openai`` backend: any server of OpenAI's chat completions. Its model is frozen and never learns.

Each reply is a request of its own, so that it can be judged while others are written, and the first replies
to all prompts are requested first, so that a prompt which does not fit is found before much is paid for. The
client retries what may pass (lost connections, 408, 409, 429, 5xx) with growing pauses, or as long as the
server says.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import attrs
import numpy as np
import openai

from ttd_core.config import RunConfig
from ttd_core.config.settings import at_least, fill, setting
from ttd_core.errors import ConfigError, EnvironmentLacksError
from ttd_core.policy.base import Sample, SamplingParams
from ttd_core.policy.openai.errors import explained
from ttd_core.policy.remote import ApiKey, checked_address
from ttd_core.types import Completion, Message, StopReason

_PREFIX = "policy.options."
_OPEN_TIMEOUT_S = 10.0
T = TypeVar("T")


@attrs.frozen
class OpenAIOptions:
    """What ``policy.options`` takes."""

    base_url: str | None = setting(None, "address that ends in /v1; default OPENAI_BASE_URL, else OpenAI's")
    key_variable: str = setting("OPENAI_API_KEY", "environment variable that holds the key")
    in_flight: int = setting(16, "most requests at once", validator=at_least(1))
    requests_per_minute: float | None = setting(None, "most requests begun a minute", validator=at_least(0.1))
    retries: int = setting(6, "tries after the first one of a request", validator=at_least(0))
    timeout_s: float = setting(600.0, "wall seconds of one try", validator=at_least(1))
    limit_field: Literal["max_tokens", "max_completion_tokens"] | None = setting(
        None, "how the server calls policy.max_new_tokens; default max_tokens, OpenAI's own the other"
    )
    thinking_end: str = setting("</think>", "what ends thinking that a server leaves in the reply's text")
    price_in: float = setting(0.0, "price of a million prompt tokens", validator=at_least(0))
    price_out: float = setting(0.0, "price of a million reply tokens", validator=at_least(0))
    extra_body: dict[str, Any] = attrs.field(
        factory=dict, metadata={"help": "further fields of each request, such as top_k"}, kw_only=True
    )


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
    :raises EnvironmentLacksError: when the key or the server is missing.
    """
    options_given = config.policy.options
    if {"api_key", "key"} & options_given.keys():
        raise ConfigError(
            "policy.options must hold no key, for a config is stored; put it in the environment, as "
            "OPENAI_API_KEY or as the variable that policy.options.key_variable names"
        )
    options = fill(OpenAIOptions, options_given, prefix=_PREFIX)
    if config.learn.train:
        raise ConfigError(
            "policy.backend = 'openai' is a frozen model and cannot learn; add --variant no-training or "
            "--variant best-of-n (or learn.train = false)"
        )
    if config.policy.thinking_tokens is not None:
        raise ConfigError(
            "policy.thinking_tokens: no final answer can be forced on a model behind the openai backend; "
            "limit policy.max_new_tokens or policy.reasoning_effort instead"
        )
    if config.policy.prefill and "continue_final_message" not in options.extra_body:
        raise ConfigError(
            "policy.prefill: chat completions begin a message of their own; a server that continues one "
            "(vLLM) needs policy.options.extra_body = {continue_final_message = true, "
            "add_generation_prompt = false}"
        )
    return OpenAIPolicy(config, options)


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
        self._key = ApiKey.read(options.key_variable)
        address = options.base_url and checked_address(_PREFIX + "base_url", options.base_url)
        if not self._key.value and not address:
            raise EnvironmentLacksError(
                f"no key: set {self._key.variable} in the environment, or name a server of your own with "
                "policy.options.base_url"
            )
        self._client = openai.AsyncOpenAI(
            # Servers of one's own ask for none, but the client does.
            api_key=self._key.value or "none",
            base_url=address,
            max_retries=options.retries,
            timeout=options.timeout_s,
        )
        self._address = str(self._client.base_url).rstrip("/")
        self._limit_field = options.limit_field or ("max_tokens" if address else "max_completion_tokens")
        self._usage, self._reported = UsageCounts(), UsageCounts()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai", daemon=True)
        self._thread.start()
        self._request_slots = asyncio.Semaphore(options.in_flight)
        self._rate_limit = _RateLimit(options.requests_per_minute)
        self._offered: tuple[str, ...] = ()
        try:
            self._offered = self._run_on_loop(self._list_models())
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """Model and server, for people."""
        return f"{self._model} (openai, {self._client.base_url.host})"

    def sample(
        self, prompts: Sequence[Sequence[Message]], count: int, params: SamplingParams
    ) -> Iterator[Sample]:
        """Yield ``count`` replies to each prompt as they come; they have text but no tokens.

        :raises UsageError: when a prompt does not fit the server's context, or it refuses the request.
        :raises EnvironmentLacksError: when the server cannot be reached or refuses the key.
        """
        seeds = np.random.default_rng(params.seed).integers(2**31, size=(count, len(prompts)))
        futures = [
            asyncio.run_coroutine_threadsafe(
                self._request(prompt, index, prompts[prompt], params, int(seeds[index, prompt])), self._loop
            )
            for index in range(count)
            for prompt in range(len(prompts))
        ]
        try:
            for future in concurrent.futures.as_completed(futures):
                try:
                    yield future.result()
                except openai.OpenAIError as error:
                    raise self._explained(error, self._options.retries) from error
        finally:
            for future in futures:
                future.cancel()

    def take_metrics(self) -> Mapping[str, float]:
        """Requests, retries, tokens and cost since the last call: what a step's metrics take in."""
        now = attrs.evolve(self._usage)
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

    async def _list_models(self) -> tuple[str, ...]:
        """What the server offers; nothing where it does not say."""
        quick = self._client.with_options(max_retries=0, timeout=_OPEN_TIMEOUT_S)
        try:
            return tuple(model.id for model in (await quick.models.list()).data)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.APIConnectionError) as error:
            raise self._explained(error, retries=0) from error
        except openai.OpenAIError:
            # Not every server has such a list; the first request will tell.
            return ()

    async def _request(
        self, prompt: int, index: int, messages: Sequence[Message], params: SamplingParams, seed: int
    ) -> Sample:
        fields: dict[str, Any] = {"temperature": params.temperature, "seed": seed}
        if params.max_new_tokens is not None:
            fields[self._limit_field] = params.max_new_tokens
        if self._effort:
            fields["reasoning_effort"] = self._effort
        prefix = [{"role": "assistant", "content": params.prefill}] if params.prefill else []
        async with self._request_slots:
            await self._rate_limit.wait()
            response = await self._client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[*messages, *prefix],  # type: ignore[list-item]
                extra_body=self._options.extra_body,
                **fields,
            )
        answer = response.parse()
        self._count(answer.usage, response.retries_taken)
        return Sample(
            prompt, index, self._completion(answer.choices[0], params.prefill), np.zeros(0, np.int64)
        )

    def _completion(self, choice: Any, prefill: str) -> Completion:
        """The reply; its thinking is what the server separates, or what comes before the tag that ends it."""
        content = prefill + (choice.message.content or "").removeprefix(prefill)
        thinking = _field(choice.message, "reasoning_content") or _field(choice.message, "reasoning") or ""
        end = self._options.thinking_end
        answer = content.rpartition(end)[2] if end else content
        stop = StopReason.LENGTH if choice.finish_reason == "length" else StopReason.STOP
        return Completion(f"{thinking}\n\n{content}" if thinking else content, stop=stop, answer=answer)

    def _count(self, usage: Any, retries: int) -> None:
        self._usage.requests += 1
        self._usage.retries += retries
        if usage is not None:
            self._usage.tokens_prompt += usage.prompt_tokens or 0
            self._usage.tokens += usage.completion_tokens or 0

    def _explained(self, error: Exception, retries: int) -> Exception:
        return explained(error, self._address, self._model, self._key, retries, self._offered)

    def _run_on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _field(message: Any, name: str) -> str | None:
    """A text field of a message that only some servers send."""
    value = getattr(message, name, None)
    return value if isinstance(value, str) else None


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
