"""Proxies and certificates as the environment sets them, and which variable is wrong.

Libraries read these variables when they connect, and fail in many ways when one is wrong: an import that is
missing, a file that is not there, a server that does not answer though it is up. What is asked here is which
variable is to blame, so that a message can name it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import ssl
import urllib.parse
import urllib.request
from collections.abc import Iterator

#: What libraries for HTTP take as a proxy; SOCKS needs a package of its own.
_SCHEMES = ("http", "https", "socks5", "socks5h")
#: In an entry of NO_PROXY: what libraries trip over.
_ODD_HOST = re.compile(r"[\[/]|:.*:|[^\x00-\x7f]")
_SOCKS_PACKAGES = ("socksio", "socks")
_CERTIFICATE_FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "SSL_CERT_DIR")


def variable_to_blame(error: BaseException | None = None) -> str:
    """What is wrong with a proxy or certificate variable and what to do, in a line; empty if nothing is.

    :param error: raised while connecting, or while getting ready to; helps where a value is only odd.
    """
    return next(_complaints(error), "")


def proxy_for(address: str) -> str:
    """How an address is reached: "the proxy URL that VARIABLE names"; empty where directly."""
    parts = urllib.parse.urlsplit(address)
    host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    if urllib.request.proxy_bypass(host):
        return ""
    for scheme in (parts.scheme, "all"):
        variable, value = _value(f"{scheme}_proxy")
        if value:
            return f"the proxy {_without_password(value)} that {variable} names"
    return ""


def _complaints(error: BaseException | None) -> Iterator[str]:
    """What is wrong with each variable, the likeliest first."""
    for scheme in ("http", "https", "all"):
        variable, value = _value(f"{scheme}_proxy")
        wrong = _wrong_proxy(value) if value else ""
        if wrong:
            yield f"{variable} = '{_without_password(value)}' {wrong}"
    for variable in _CERTIFICATE_FILES:
        path = os.environ.get(variable, "")
        wrong = _wrong_certificates(path) if path else ""
        if wrong:
            yield f"{variable} = '{path}': {wrong}; name a file or folder of certificates, or unset it"
    variable, value = _value("no_proxy")
    odd = [entry.strip() for entry in value.split(",") if _ODD_HOST.search(entry)]
    if odd and type(error).__name__ == "InvalidURL":
        yield f"{variable} holds '{odd[0]}', which is no name of a host; list hosts with commas between them"


def _value(name: str) -> tuple[str, str]:
    """The variable of a name in lower case, else in upper case, and its value; empty where it is not set."""
    for variable in (name, name.upper()):
        if variable in os.environ:
            return variable, os.environ[variable]
    return name.upper(), ""


def _wrong_proxy(value: str) -> str:
    """Why a value names no proxy that can be used; empty when it does."""
    address = value if "://" in value else f"http://{value}"
    try:
        parts = urllib.parse.urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"is no address ({error}); write it as http://host:port, or unset it"
    if parts.scheme not in _SCHEMES:
        return (
            f"names a proxy of a kind that cannot be used; write it as {_SCHEMES[0]}://host:port or "
            "socks5://host:port, or unset it"
        )
    if not host or any(character.isspace() for character in value):
        return "names no host; write it as http://host:port, or unset it"
    if parts.scheme.startswith("socks") and not any(map(importlib.util.find_spec, _SOCKS_PACKAGES)):
        return (
            "names a SOCKS proxy, which needs a package that is not installed: pip install socksio pysocks; "
            "or unset it"
        )
    return ""


def _wrong_certificates(path: str) -> str:
    """Why a path leads to no certificates; empty when it does."""
    if any(os.path.isdir(part) for part in path.split(os.pathsep)):
        return ""
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        return f"{error.strerror or error}"
    return ""


def _without_password(value: str) -> str:
    """A proxy's address without the name and password that may stand in it."""
    scheme, separator, rest = value.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
