"""What backends on other machines share: API keys that nobody sees, addresses, and whether anyone answers.

Keys come from the environment only. A run's config is stored and shown, so nothing secret may stand in it,
and what a server says is searched for the key before it is repeated. Candidate code gets an environment of
its own and no network (:mod:`ttd_core.sandbox`).
"""

from __future__ import annotations

import os
import socket
import urllib.parse

import attrs

from ttd_core.errors import ConfigError, EnvironmentLacksError

_CONNECT_TIMEOUT_S = 10.0


@attrs.frozen
class ApiKey:
    """An API key out of the environment.

    :param variable: where it was looked for.
    :param value: the key, empty when there is none; never shown.
    """

    variable: str
    value: str = attrs.field(repr=False)

    @classmethod
    def read(cls, variable: str) -> ApiKey:
        """The key in an environment variable."""
        return cls(variable, os.environ.get(variable, "").strip())

    def redact(self, text: str) -> str:
        """``text`` in one line, with the key taken out."""
        line = " ".join(text.split())
        return line.replace(self.value, "***") if self.value else line


def checked_address(config_key: str, address: str) -> str:
    """The address without a slash at its end.

    :param config_key: that names it, for messages.
    :raises ConfigError: when it is no http address, or carries a password, which the config would store.
    """
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{config_key} = '{address}' is no address; write it as http://host:port")
    if parts.username or parts.password:
        raise ConfigError(
            f"{config_key} holds a password, and a config is stored; keys come from the environment"
        )
    return address.rstrip("/")


def require_listener(address: str, server: str) -> None:
    """Connect once, so that a server that is not there is named at once and not after its client's retries.

    :param server: what should be there, for messages.
    :raises EnvironmentLacksError: when nobody answers.
    """
    parts = urllib.parse.urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((str(parts.hostname), port), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise EnvironmentLacksError(
            f"no {server} answers at {address}: {error.strerror or error}; start it, or name another"
        ) from error
