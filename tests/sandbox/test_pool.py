"""The threads of an executor."""

from __future__ import annotations

import threading

import pytest

from ttd_core.errors import EnvironmentLacksError
from ttd_core.sandbox.pool import JobPool


def test_more_threads_than_can_be_started_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def refuse_the_third(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_third)
    message = r"^sandbox\.workers: this process can start 2 threads for them and no more; set fewer workers$"
    with pytest.raises(EnvironmentLacksError, match=message):
        JobPool(3, lambda _job: None)  # type: ignore[arg-type, return-value]
    # Nobody waits for those that were started.
    for thread in started:
        thread.join(5)
        assert not thread.is_alive()
