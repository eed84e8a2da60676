"""A pool of worker threads behind a bounded queue of jobs: what our executors have in common."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable

from ttd_core.errors import EnvironmentLacksError
from ttd_core.sandbox.base import Job, JobResult
from ttd_core.sandbox.exchange import OutputListener
from ttd_core.sandbox.futures import JobFuture


class JobPool:
    """One thread a worker, and a queue that holds twice as many jobs.

    :param workers: jobs at once.
    :param run: runs one job; called in a worker's thread.
    """

    def __init__(self, workers: int, run: Callable[[JobFuture], JobResult]) -> None:
        self.workers = workers
        self._run = run
        self._queue: queue.SimpleQueue[JobFuture | None] = queue.SimpleQueue()
        self._queue_slots = threading.Semaphore(2 * workers)
        self._lock = threading.Lock()
        self._unfinished: set[JobFuture] = set()
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._start(workers)

    def _start(self, count: int) -> None:
        for _ in range(count):
            name = f"sandbox-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                for _ in self._threads:
                    self._queue.put(None)
                raise EnvironmentLacksError(
                    f"sandbox.workers: this process can start {len(self._threads)} threads for them and no "
                    "more; set fewer workers"
                ) from error
            self._threads.append(thread)

    def grow(self, workers: int) -> None:
        """Run up to ``workers`` jobs at once from now on; never fewer than before."""
        with self._lock:
            more = workers - self.workers
            if more <= 0 or self._closed:
                return
            self.workers = workers
            self._start(more)
        for _ in range(2 * more):
            self._queue_slots.release()

    def submit(self, job: Job, listener: OutputListener | None) -> JobFuture:
        """Queue a job; blocks while there is no room.

        :raises RuntimeError: when closed.
        """
        future = JobFuture(job, listener)
        self._queue_slots.acquire()
        with self._lock:
            if self._closed:
                self._queue_slots.release()
                raise RuntimeError("the executor is closed")
            self._unfinished.add(future)
        self._queue.put(future)
        return future

    def _work(self) -> None:
        while (future := self._queue.get()) is not None:
            self._queue_slots.release()
            if future.take():
                result: JobResult | BaseException
                try:
                    result = self._run(future)
                except BaseException as error:  # noqa: BLE001 (handed to whoever waits for the job)
                    result = error
                future.finish(result)
            with self._lock:
                self._unfinished.discard(future)

    def cancel_all(self) -> bool:
        """Cancel what runs and what waits, and take no more.

        :return: False when that was done before.
        """
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            unfinished = list(self._unfinished)
        for future in unfinished:
            future.cancel()
        return True

    def join(self) -> None:
        """Wait for the workers to end, after :meth:`cancel_all`."""
        for _ in self._threads:
            self._queue.put(None)
            self._queue_slots.release()
        for thread in self._threads:
            thread.join()


def at_exit(close: Callable[[], None]) -> Callable[[], None]:
    """Have ``close`` called when the interpreter ends, unless the function returned is called before."""
    atexit.register(close)
    return lambda: atexit.unregister(close)
