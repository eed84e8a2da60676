"""A future whose ``cancel`` also works while its job runs, and then ends the job."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading

from ttd_core.sandbox.base import Job, JobResult
from ttd_core.sandbox.exchange import OutputListener


class JobFuture(concurrent.futures.Future[JobResult]):
    """The result of a job to come.

    It stays cancellable until its result is set; :meth:`running` says whether a worker has it.

    :param job: what to run.
    :param listener: called with each piece of output as it comes, in the worker's thread.
    """

    def __init__(self, job: Job, listener: OutputListener | None = None) -> None:
        super().__init__()
        self.job = job
        self.listener = listener
        self._taken = False

    def running(self) -> bool:
        """Whether its job is being run."""
        return self._taken and not self.done()

    def take(self) -> bool:
        """Mark it as being run.

        :return: False when it was cancelled before; those who wait for it are told.
        """
        if self.cancelled():
            self.set_running_or_notify_cancel()
            return False
        self._taken = True
        return True

    def finish(self, result: JobResult | BaseException) -> None:
        """Set the result, unless it was cancelled meanwhile."""
        try:
            if isinstance(result, BaseException):
                self.set_exception(result)
            else:
                self.set_result(result)
        except concurrent.futures.InvalidStateError:
            # cancelled while it ran; a second notification is refused the same way and means nothing
            with contextlib.suppress(concurrent.futures.InvalidStateError, RuntimeError):
                self.set_running_or_notify_cancel()


class CancelSignal:
    """A descriptor that becomes readable when a future is cancelled."""

    def __init__(self, future: JobFuture) -> None:
        # One thread cancels, another closes; the number of a closed descriptor may be another file's.
        self._closing = threading.Lock()
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        future.add_done_callback(self._raise)

    def _raise(self, future: concurrent.futures.Future[JobResult]) -> None:
        with self._closing:
            if future.cancelled() and self.descriptor >= 0:
                os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        """Release the descriptor; called before the future is finished, from the same thread."""
        with self._closing:
            descriptor, self.descriptor = self.descriptor, -1
        os.close(descriptor)
