"""Writes the public address of the repository where it belongs, once there is one."""

from __future__ import annotations

import pathlib
import re
import urllib.parse

import tomlkit

from tools.distributions import distributions
from tools.release.metadata import ADDRESS


def write_address(root: pathlib.Path, address: str) -> None:
    """Name the repository in every ``pyproject.toml`` and in ``CITATION.cff``, in place of an earlier one.

    :param address: such as ``https://forge.example/owner/name``, without a slash or ``.git`` at its end.
    :raises ValueError: that is no such address.
    """
    parts = urllib.parse.urlsplit(address)
    if parts.scheme != "https" or "." not in parts.netloc or not re.fullmatch(r"(/[\w.~-]+)+", parts.path):
        raise ValueError(
            f"{address!r} is no address of a repository such as https://forge.example/owner/name"
        )
    if parts.query or parts.fragment or address.endswith(".git"):
        raise ValueError(f"{address!r} holds more than the address of a repository")
    for each in distributions(root):
        path = each.folder / "pyproject.toml"
        document = tomlkit.parse(path.read_text())
        project = document["project"]
        assert isinstance(project, tomlkit.items.Table)
        urls = project.setdefault("urls", tomlkit.table())
        urls[ADDRESS] = address
        urls["Issues"] = f"{address}/issues"
        path.write_text(tomlkit.dumps(document))
    citation = root / "CITATION.cff"
    text = re.sub(r"^repository-code: .*\n", "", citation.read_text(), flags=re.MULTILINE)
    citation.write_text(
        re.sub(r"^license: .*\n", rf"\g<0>repository-code: {address}\n", text, flags=re.MULTILINE)
    )
