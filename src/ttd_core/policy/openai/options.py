"""What ``policy.options`` takes for the ``openai`` backend, and where it leads."""

from __future__ import annotations

import os
import re
import urllib.parse
from typing import Any, Literal

import attrs

from ttd_core.config import RunConfig
from ttd_core.config.settings import MOST_SECONDS, at_least, at_most, fill, setting
from ttd_core.errors import ConfigError, did_you_mean
from ttd_core.policy.remote import checked_address

PREFIX = "policy.options."
#: The environment variable that names a server where the option does not.
BASE_VARIABLE = "OPENAI_BASE_URL"
#: Fields of a request that a server may not know.
OPTIONAL_FIELDS = ("temperature", "seed", "max_tokens", "max_completion_tokens", "reasoning_effort")
#: Ends of an address that the client adds itself.
_PATHS = re.compile(r"/((chat/)?completions|models)/*$")


def _known_fields(_instance: Any, attribute: attrs.Attribute[Any], value: list[str]) -> None:
    for name in value:
        if name not in OPTIONAL_FIELDS:
            hint = did_you_mean(name, OPTIONAL_FIELDS)
            raise ValueError(f"{attribute.name}: '{name}' is none of {', '.join(OPTIONAL_FIELDS)}.{hint}")


@attrs.frozen
class OpenAIOptions:
    """What ``policy.options`` takes."""

    base_url: str | None = setting(None, "address that ends in /v1; default OPENAI_BASE_URL, else OpenAI's")
    key_variable: str = setting("OPENAI_API_KEY", "environment variable that holds the key")
    in_flight: int = setting(16, "most requests at once", validator=at_least(1))
    requests_per_minute: float | None = setting(None, "most requests begun a minute", validator=at_least(0.1))
    retries: int = setting(6, "tries after the first one of a request", validator=at_least(0))
    timeout_s: float = setting(
        600.0, "wall seconds of one try", validator=[at_least(1), at_most(MOST_SECONDS)]
    )
    longest_wait_s: float = setting(
        120.0,
        "longest pause before another try that a server may ask for",
        validator=[at_least(0), at_most(MOST_SECONDS)],
    )
    limit_field: Literal["max_tokens", "max_completion_tokens"] | None = setting(
        None, "how the server calls policy.max_new_tokens; default max_tokens, OpenAI's own the other"
    )
    leave_out: list[str] = attrs.field(
        factory=list,
        validator=_known_fields,
        metadata={"help": "fields that the server does not take, such as seed"},
        kw_only=True,
    )
    thinking_end: str = setting("</think>", "what ends thinking that a server leaves in the reply's text")
    price_in: float = setting(0.0, "price of a million prompt tokens", validator=at_least(0))
    price_out: float = setting(0.0, "price of a million reply tokens", validator=at_least(0))
    extra_body: dict[str, Any] = attrs.field(
        factory=dict, metadata={"help": "further fields of each request, such as top_k"}, kw_only=True
    )


@attrs.frozen
class Server:
    """Which server is asked.

    :param address: without a query; ``None`` for OpenAI's.
    :param query: the fields of the address's query.
    :param named_by: the config key or the variable that named the address.
    """

    address: str | None
    query: dict[str, str]
    named_by: str

    @classmethod
    def of(cls, options: OpenAIOptions) -> Server:
        """The server that the option names, else the environment.

        :raises ConfigError: when that is no address.
        """
        named_by, given = PREFIX + "base_url", options.base_url
        if given is None and os.environ.get(BASE_VARIABLE, "").strip():
            named_by, given = BASE_VARIABLE, os.environ[BASE_VARIABLE]
        if given is None:
            return cls(None, {}, named_by)
        parts = urllib.parse.urlsplit(checked_address(named_by, given))
        query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        path = _PATHS.sub("", parts.path)
        return cls(urllib.parse.urlunsplit(parts._replace(path=path, query="")), query, named_by)

    @property
    def is_openai(self) -> bool:
        """Whether it is OpenAI's own, which needs a key and calls some fields otherwise."""
        host = urllib.parse.urlsplit(self.address or "").hostname or ""
        return self.address is None or host == "openai.com" or host.endswith(".openai.com")


def checked_options(config: RunConfig) -> OpenAIOptions:
    """The options of a config that this backend can run.

    :raises ConfigError: for a wrong option, or when the config asks what a frozen model cannot do.
    """
    given = config.policy.options
    if {"api_key", "key"} & given.keys():
        raise ConfigError(
            "policy.options must hold no key, for a config is stored; put it in the environment, as "
            "OPENAI_API_KEY or as the variable that policy.options.key_variable names"
        )
    options = fill(OpenAIOptions, given, prefix=PREFIX)
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
    return options
