"""Stands for a program beside its evaluator: a call gives what was recorded for it, or is asked for.

What was recorded lies in ``record`` of the folder that ``TTD_SPLIT`` names, a file a call: the digest of
its name and arguments, and which of equal calls it is. A call that is not there is written to ``asked``, and
waits until the whole evaluation ends; it is run again when the answer is known.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import time

import ttd_values

_FOLDER = os.environ.get("TTD_SPLIT", "")


def call(name, args, kwargs):
    """What a function of the program returned, or raised."""
    try:
        arguments = ttd_values.encode([list(args), dict(kwargs)])
    except ttd_values.NotDataError as error:
        refuse(f"the evaluator calls {name} with {error}, which is no data")
    except RecursionError:
        refuse(f"the evaluator calls {name} with something that holds itself")
    key = hashlib.sha256(f"{name}\0{arguments}".encode("utf-8", "surrogatepass")).hexdigest()
    identity = _claim(key)
    try:
        with open(os.path.join(_FOLDER, "record", identity), encoding="utf-8") as file:
            known = json.load(file)
    except FileNotFoundError:
        _leave("asked", identity, json.dumps({"identity": identity, "name": name, "arguments": arguments}))
        _wait()
    _clock.advance(known["seconds"], known["cpu"])
    if "raised" in known:
        kind = getattr(builtins, known["raised"][0], None)
        usable = isinstance(kind, type) and issubclass(kind, Exception)
        raise (kind if usable and kind not in _WITH_ARGUMENTS else RuntimeError)(known["raised"][1])
    return ttd_values.decode(known["returned"])


#: Errors of Python's own that a text alone does not make.
_WITH_ARGUMENTS = (UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError)


def refuse(reason):
    """End the evaluation: it cannot be split. Never returns."""
    _leave("refused", "reason", reason)
    _wait()


def _claim(key):
    """The first number of equal calls that no process has taken."""
    number = 0
    while True:
        path = os.path.join(_FOLDER, "used", f"{key}.{number}")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            return f"{key}.{number}"
        except FileExistsError:
            number += 1


def _leave(folder, name, text):
    path = os.path.join(_FOLDER, folder, name)
    with open(f"{path}.part", "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    os.replace(f"{path}.part", path)


def _wait():
    sleep = time.sleep
    while True:
        sleep(3600)


class _Clock:
    """The clocks of this process, moved on by the seconds that calls took where they ran."""

    def __init__(self):
        self._passed = {"wall": 0.0, "cpu": 0.0}
        for kind, names in (
            ("wall", ("time", "perf_counter", "monotonic")),
            ("cpu", ("process_time", "thread_time")),
        ):
            for name in names:
                self._move(name, kind, 1)
                self._move(f"{name}_ns", kind, 10**9)
        self._move("clock_gettime", None, 1)
        self._move("clock_gettime_ns", None, 10**9)

    def _move(self, name, kind, unit):
        read = getattr(time, name, None)
        if read is None:
            return
        convert = int if unit > 1 else float

        def moved(*clock):
            of = kind or ("cpu" if clock and clock[0] in _CPU_CLOCKS else "wall")
            return read(*clock) + convert(self._passed[of] * unit)

        setattr(time, name, moved)

    def advance(self, seconds, cpu):
        self._passed["wall"] += seconds
        self._passed["cpu"] += cpu


_CPU_CLOCKS = (time.CLOCK_PROCESS_CPUTIME_ID, time.CLOCK_THREAD_CPUTIME_ID)
_clock = _Clock()
