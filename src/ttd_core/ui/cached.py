"""What a run's pages say, read once for each state of its database and shared by everybody who looks."""

from __future__ import annotations

import collections
import pathlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from markupsafe import Markup

from ttd_core.report.facts import RunFacts, read_facts
from ttd_core.report.page import run_sections
from ttd_core.run.browsing import RunBrowser

Value = TypeVar("Value")


class Newest(Generic[Value]):
    """The newest value for each key, made again when its version changes; the least used are forgotten.

    :param most: values kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._making: dict[object, threading.Lock] = {}
        self._values: collections.OrderedDict[object, tuple[object, Value]] = collections.OrderedDict()

    def get(self, key: object, version: object, make: Callable[[], Value]) -> Value:
        """The value of a version; several who ask at once wait for one that makes it."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values and self._values[key][0] == version:
                    self._values.move_to_end(key)
                    return self._values[key][1]
            try:
                value = make()
            except BaseException:
                with self._lock:
                    if key not in self._values:
                        self._making.pop(key, None)
                raise
            with self._lock:
                self._values[key] = (version, value)
                self._values.move_to_end(key)
                while len(self._values) > self._most:
                    forgotten, _ = self._values.popitem(last=False)
                    self._making.pop(forgotten, None)
        return value


class RunPages:
    """The facts and the sections of runs."""

    def __init__(self) -> None:
        self._facts: Newest[RunFacts] = Newest(8)
        self._sections: Newest[Markup] = Newest(4)

    def facts(self, folder: pathlib.Path) -> RunFacts:
        """A run as its last committed step left it.

        :raises TtdError: when it cannot be read.
        """
        return self._facts.get(folder, _version(folder), lambda: read_facts(folder))

    def sections(self, folder: pathlib.Path) -> Markup:
        """The report's sections of a run, without the archive's tree, which has a page of its own.

        :raises TtdError: when it cannot be read.
        """
        return self._sections.get(
            folder, _version(folder), lambda: run_sections(self.facts(folder), tree=False)
        )


def _version(folder: pathlib.Path) -> tuple[float, int, int, int]:
    with RunBrowser.open(folder) as run:
        return run.version()
