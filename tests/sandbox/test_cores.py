"""Handing out processor cores."""

from __future__ import annotations

import threading
import time

from ttd_core.sandbox.cores import Cores


def test_jobs_spread_over_the_cores() -> None:
    cores = Cores((0, 1, 2, 3))
    taken = [cores.take(1, False) for _ in range(4)]
    assert sorted(core for pair in taken for core in pair) == [0, 1, 2, 3]
    assert len(cores.take(1, False)) == 1, "shared when there are more jobs than cores"


def test_no_more_cores_than_there_are() -> None:
    assert Cores((0, 1)).take(8, False) == (0, 1)


def test_an_exclusive_job_waits_for_a_core_of_its_own_and_is_not_overtaken() -> None:
    cores = Cores((0, 1))
    first, second = cores.take(1, False), cores.take(1, False)
    order: list[str] = []

    def take(name: str, exclusive: bool) -> None:
        cores.take(1, exclusive)
        order.append(name)

    threads = []
    for name, exclusive in (("exclusive", True), ("shared", False)):
        threads.append(threading.Thread(target=take, args=(name, exclusive)))
        threads[-1].start()
        time.sleep(0.05)
    assert order == []
    cores.give_back(first, False)
    threads[0].join(5)
    threads[1].join(5)
    assert order == ["exclusive", "shared"]
    assert cores.take(1, False) == second, "the exclusive core is given to nobody else"


def test_closing_wakes_those_who_wait() -> None:
    cores = Cores((0,))
    cores.take(1, True)
    got: list[tuple[int, ...]] = []
    thread = threading.Thread(target=lambda: got.append(cores.take(1, True)))
    thread.start()
    time.sleep(0.05)
    cores.close()
    thread.join(5)
    assert got == [()]
