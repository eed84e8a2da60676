"""What backends on other machines share: API keys that nobody sees, addresses, and whether anyone answers.

Keys come from the environment only. A run's config is stored and shown, so nothing secret may stand in it,
and what a server says is searched for the key before it is repeated. Candidate code gets an environment of
its own and no network (:mod:`ttd_core.sandbox`).
"""

from __future__ import annotations

import os
import re
import socket
import urllib.parse

import attrs

from ttd_core.errors import ConfigError, EnvironmentLacksError
from ttd_core.text import showable_line

_CONNECT_TIMEOUT_S = 10.0
#: Names of an address's query that hold keys.
_SECRETS = {"key", "api_key", "api-key", "apikey", "access_token", "token", "code", "sig"}
_HOST_AND_PORT = re.compile(r"[\w.-]+(:\d+)?(/[!-~]*)?$", re.ASCII)


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
        """The key in an environment variable.

        :raises EnvironmentLacksError: when it holds what no key has, such as a line break.
        """
        value = os.environ.get(variable, "").strip()
        if not all("!" <= character <= "~" for character in value):
            raise EnvironmentLacksError(
                f"{variable} holds a blank, a line break or another character that no key has; set it to the "
                "key alone"
            )
        return cls(variable, value)

    def redact(self, text: str) -> str:
        """``text``, of unknown origin, in one line that is safe to show, with the key taken out."""
        return showable_line(text.replace(self.value, "***") if self.value else text)


def checked_address(config_key: str, address: str) -> str:
    """The address without blanks around it, and without a slash at its end.

    :param config_key: that names it, for messages; a variable of the environment may too.
    :raises ConfigError: when it is no http address, or carries a password, which the config would store.
    """
    address = address.strip()
    try:
        parts = urllib.parse.urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urllib.parse.SplitResult("", "", "", "", ""), None
    if parts.username or parts.password or _SECRETS & {name.lower() for name, _ in _query(parts)}:
        raise ConfigError(
            f"{config_key} holds a password, and a config is stored; keys come from the environment"
        )
    clean = all(character.isprintable() and not character.isspace() for character in address)
    if parts.scheme not in ("http", "https") or not host or not clean or not _is_host(host):
        example = f"http://{address}" if _HOST_AND_PORT.match(address) else "http://host:port"
        raise ConfigError(f"{config_key} = '{showable_line(address)}' is no address; write it as {example}")
    return urllib.parse.urlunsplit(parts._replace(path=parts.path.rstrip("/"), fragment=""))


def _query(parts: urllib.parse.SplitResult) -> list[tuple[str, str]]:
    return urllib.parse.parse_qsl(parts.query, keep_blank_values=True)


def _is_host(host: str) -> bool:
    """Whether a name can be one of a host."""
    try:
        return ":" in host or bool(host.encode("idna"))
    except UnicodeError:
        return False


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
