"""What a watched tree of processes used, also of those that are gone."""

from __future__ import annotations

import os
import signal
import time

from ttd_core.sandbox.inside import watch
from ttd_core.sandbox.inside.watch import ProcessorTime, Usage


def test_time_of_a_process_that_is_gone_is_kept() -> None:
    told = ProcessorTime()
    told.add({(1, 10): Usage(cpu_s=0.1, own_cpu_s=0.1), (2, 11): Usage(cpu_s=1.0, own_cpu_s=1.0)})
    told.add({(1, 10): Usage(cpu_s=0.2, own_cpu_s=0.2)})
    assert abs(told.seconds - 1.2) < 1e-9


def test_time_of_children_that_were_waited_for_is_not_told_twice() -> None:
    told = ProcessorTime()
    told.add({(1, 10): Usage(cpu_s=0.1, own_cpu_s=0.1), (2, 11): Usage(cpu_s=1.0, own_cpu_s=1.0)})
    told.add({(1, 10): Usage(cpu_s=1.4, own_cpu_s=0.2)})
    assert abs(told.seconds - 1.4) < 1e-9


def test_a_number_used_again_is_another_process() -> None:
    told = ProcessorTime()
    told.add({(2, 11): Usage(cpu_s=1.0, own_cpu_s=1.0)})
    told.add({(2, 99): Usage(cpu_s=0.5, own_cpu_s=0.5)})
    assert abs(told.seconds - 1.5) < 1e-9


def test_this_process_uses_memory_page_tables_and_time() -> None:
    stop = time.process_time() + 0.1
    while time.process_time() < stop:
        continue
    ((key, usage),) = watch.tree_usage([os.getpid()], descendants=False).items()
    assert key == (os.getpid(), usage.started)
    assert usage.memory > 1 << 20
    assert usage.unseen > 1 << 14
    assert 0.1 <= usage.own_cpu_s <= usage.cpu_s
    assert usage.threads >= 1


def test_a_process_that_ended_uses_nothing() -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    (zombie,) = watch.tree_usage([child], descendants=True).values()
    assert (zombie.memory, zombie.unseen) == (0, 0)
    os.waitpid(child, 0)
    assert list(watch.tree_usage([child], descendants=True).values()) == [Usage()]
