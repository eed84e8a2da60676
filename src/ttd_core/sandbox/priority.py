"""Lower priority for candidates, so that the thread that drives a GPU never waits for a processor.

Three mechanisms of the kernel say who comes first on a busy core, and each is of no effect where another
decides: a process's own nice value, the weight of its control group, and, where neither is set up (a plain
login on many desktops and virtual machines), the weight of its session (autogroup). All three are lowered;
none is ever raised, and no privilege is needed.
"""

from __future__ import annotations

import contextlib
import pathlib
import time

#: Added to the nice value of candidates: a tenth of the weight of an ordinary process.
LOWERED = 10
#: An unprivileged process may set ten sessions a second, all processes together.
_PAUSE_S = 0.02
_LONGEST_S = 0.5


def lower_session(pid: int, nice: int) -> None:
    """Lower the weight of a process's session, and of all that it starts in it, where sessions have one.

    :param pid: leader of the session.
    :param nice: as of a process, 1 to 19.
    """
    enabled = pathlib.Path("/proc/sys/kernel/sched_autogroup_enabled")
    with contextlib.suppress(OSError):  # a kernel without, or the process has just ended
        if enabled.read_text().strip() != "1":
            return
        deadline = time.monotonic() + _LONGEST_S
        while True:
            try:
                pathlib.Path(f"/proc/{pid}/autogroup").write_text(str(nice))
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return
                time.sleep(_PAUSE_S)
