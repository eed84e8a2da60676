"""Handing out processor cores."""

from __future__ import annotations

import os
import pathlib
import threading
import time

import pytest

from ttd_core import host
from ttd_core.sandbox import cores as cores_module
from ttd_core.sandbox.cores import CoreLoad, CorePool, busy_ticks, kept_cores, usable_cores


def test_jobs_spread_over_the_cores() -> None:
    cores = CorePool((0, 1, 2, 3))
    taken = [cores.take(1, False) for _ in range(4)]
    assert sorted(core for pair in taken for core in pair) == [0, 1, 2, 3]
    assert len(cores.take(1, False)) == 1, "shared when there are more jobs than cores"


def test_no_more_cores_than_there_are() -> None:
    assert CorePool((0, 1)).take(8, False) == (0, 1)


def test_an_exclusive_job_waits_for_a_core_of_its_own_and_is_not_overtaken() -> None:
    cores = CorePool((0, 1))
    first, second = cores.take(1, False), cores.take(1, False)
    order: list[str] = []

    def take(name: str, exclusive: bool) -> None:
        cores.take(1, exclusive)
        order.append(name)

    threads = []
    for name, exclusive in (("exclusive", True), ("shared", False)):
        threads.append(threading.Thread(target=take, args=(name, exclusive)))
        threads[-1].start()
        time.sleep(0.2)
    assert order == []
    cores.give_back(first, False)
    threads[0].join(5)
    threads[1].join(5)
    assert order == ["exclusive", "shared"]
    assert cores.take(1, False) == second, "the exclusive core is given to nobody else"


def test_kept_cores_are_for_no_job_but_one_that_needs_them_all() -> None:
    cores = CorePool((0, 1, 2), CoreLoad(dict), reserve=1)
    assert {cores.take(1, False) for _ in range(4)} == {(0,), (1,)}
    assert CorePool((0, 1, 2), CoreLoad(dict), reserve=1).take(2, True) == (0, 1)
    asked_for_all = CorePool((0, 1, 2), CoreLoad(dict), reserve=1)
    assert asked_for_all.take(3, True) == (0, 1, 2), "what a job was promised comes first"
    asked_for_all.give_back((0, 1, 2), True)
    assert asked_for_all.take(9, False) == (0, 1, 2)


def test_timed_jobs_wait_rather_than_run_on_a_kept_core() -> None:
    cores = CorePool((0, 1), CoreLoad(dict), reserve=1)
    first = cores.take(1, True)
    assert first == (0,)
    got: list[tuple[int, ...]] = []
    thread = threading.Thread(target=lambda: got.append(cores.take(1, True)))
    thread.start()
    time.sleep(0.05)
    assert got == []
    cores.give_back(first, True)
    thread.join(5)
    assert got == [(0,)]


def test_two_threads_of_one_core_are_kept_together(tmp_path: pathlib.Path) -> None:
    for core, siblings in {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5", 2: "2-3", 3: "2-3", 6: "odd"}.items():
        (tmp_path / f"cpu{core}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{core}" / "topology" / "thread_siblings_list").write_text(f"{siblings}\n")
    assert kept_cores(range(6), 2, tmp_path) == (1, 5)
    assert kept_cores(range(6), 3, tmp_path) == (1, 4, 5)
    assert kept_cores((0, 1, 2, 3), 2, tmp_path) == (2, 3)
    assert kept_cores((0, 1, 6, 7), 2, tmp_path) == (6, 7), "nothing says what goes with them"
    assert kept_cores((0, 1), 0, tmp_path) == ()


def test_a_quota_counts_as_cores_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: set(range(8)))
    for quota, cores in {None: 8, 16.0: 8, 8.0: 8, 3.999: 4, 3.5: 3, 0.5: 1}.items():
        monkeypatch.setattr(host, "processor_quota", lambda quota=quota: quota)
        assert usable_cores() == cores


def test_closing_wakes_those_who_wait() -> None:
    cores = CorePool((0,))
    cores.take(1, True)
    got: list[tuple[int, ...]] = []
    thread = threading.Thread(target=lambda: got.append(cores.take(1, True)))
    thread.start()
    time.sleep(0.05)
    cores.close()
    thread.join(5)
    assert got == [()]


def test_of_equal_cores_the_one_that_others_leave_alone_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores_module, "_FRESH_S", -1.0)
    samples = iter([{0: 7, 1: 5, 2: 9}, {0: 12, 1: 10, 2: 9}, {0: 0, 1: 0}, {0: 4, 1: 3}])
    cores = CorePool((0, 1, 2), CoreLoad(lambda: next(samples)))
    assert cores.take(1, False) == (2,)
    assert cores.take(1, False) == (1,), "not 2, which has a job of ours, however idle it is"
    assert cores.take(3, False) == (0, 1, 2), "nothing to choose, so nothing is measured"


def test_a_measurement_is_used_for_a_while() -> None:
    samples = iter([{0: 0, 1: 0}, {0: 5, 1: 0}])
    cores = CorePool((0, 1), CoreLoad(lambda: next(samples)))
    for _ in range(3):
        assert cores.take(1, False) == (1,)
        cores.give_back((1,), False)


def test_ticks_grow_on_a_core_that_works() -> None:
    before = busy_ticks()
    assert set(os.sched_getaffinity(0)) <= set(before)
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    after = busy_ticks()
    assert sum(after.values()) - sum(before.values()) >= 0.05 * os.sysconf("SC_CLK_TCK")


def test_where_nothing_says_how_busy_cores_are_their_numbers_decide(tmp_path: pathlib.Path) -> None:
    assert busy_ticks(tmp_path / "stat") == {}
    (tmp_path / "stat").write_text("cpu  1 2 3 4 5 6 7 8 0 0\ncpu1 1 2 3 4 5 6 7 8 0 0\nintr 12 0\n")
    assert busy_ticks(tmp_path / "stat") == {1: 27}
    load = CoreLoad(dict)
    assert CorePool((0, 1), load).take(1, False) == (0,)
