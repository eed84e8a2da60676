"""Measure and empty a folder that a job wrote to, whatever it holds: no depth, name or mode can stop it.

Only for when every process of the job has ended, so that nothing changes underneath; measuring is safe
before, and then never counts too little.
"""

from __future__ import annotations

import math
import os
import stat

_ENTRY_BYTES = 4096


def used_bytes(path: str) -> float:
    """Bytes that files beneath a folder occupy, 4 KiB for each entry itself.

    :return: infinity where a part cannot be looked into: too deep for a path, or closed to us.
    """
    total = 0
    waiting = [path]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    total += _ENTRY_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except FileNotFoundError:
            continue  # the job removed it meanwhile
        except OSError:
            return math.inf
    return total


def empty(path: str) -> bool:
    """Remove all that lies in a folder.

    Folders inside are emptied by moving what they hold up to the top, so depth costs neither stack nor
    descriptors.

    :return: whether it is empty now.
    """
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    moved = 0
    try:
        while names := os.listdir(top):
            for name in names:
                if not stat.S_ISDIR(os.lstat(name, dir_fd=top).st_mode):
                    os.unlink(name, dir_fd=top)
                    continue
                os.chmod(name, 0o700, dir_fd=top)
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
                try:
                    for inner in os.listdir(below):
                        moved += 1
                        os.rename(inner, f".removed-{moved}-{os.getpid()}", src_dir_fd=below, dst_dir_fd=top)
                finally:
                    os.close(below)
                os.rmdir(name, dir_fd=top)
        return True
    except OSError:
        return False
    finally:
        os.close(top)
