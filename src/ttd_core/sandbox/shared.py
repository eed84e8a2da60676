"""Large data that many jobs need: taken out of each job, put into the cluster once, named by its digest.

The children of one state get the same arrays, and the cases of one program the same program. With each job
they would cross the network again; so they are put once where every node can fetch them, and a node that has
fetched one holds it for the jobs to come.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from ttd_core.sandbox.base import GIB
from ttd_core.types import array_digest

#: Bytes from which on an array is put instead of sent with the job.
LARGE_ARRAY = 128 << 10
#: Where in a job's fields an array stands: the field, then keys and indices.
Place = list[str | int]


@attrs.frozen(eq=False)
class LargeArray:
    """An array that was taken out of a job's fields.

    :param place: where it stood.
    :param digest: of :func:`~ttd_core.types.array_digest`.
    """

    place: Place
    digest: str
    array: np.ndarray[Any, Any]


def take_out(value: Any, place: Place, least: int, found: list[LargeArray]) -> Any:
    """JSON with arrays, without the large ones: ``None`` stands in their places.

    :param place: of ``value``.
    :param least: bytes of an array that is large.
    :param found: is given them.
    """
    if isinstance(value, np.ndarray):
        if value.nbytes < least:
            return value
        found.append(LargeArray(place, array_digest(value), value))
        return None
    if isinstance(value, Mapping):
        return {key: take_out(item, [*place, key], least, found) for key, item in value.items()}
    if isinstance(value, list | tuple):
        # a long list of numbers stays as it is, and costs a look at each
        if not any(isinstance(item, np.ndarray | Mapping | list | tuple) for item in value):
            return value
        return [take_out(item, [*place, index], least, found) for index, item in enumerate(value)]
    return value


def put_back(fields: dict[str, Any], place: Sequence[str | int], array: np.ndarray[Any, Any]) -> None:
    """Undo what :func:`take_out` did to one array.

    :param fields: of a job, as decoded: lists and dictionaries that may be changed.
    """
    inner: Any = fields
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = array


class SharedData:
    """What was put into the cluster, by digest; what was used longest ago is let go. Thread-safe.

    :param put: puts data into the cluster and gives what names it there; what it named may be dropped there
        once nobody holds that any more.
    :param most_bytes: of all that is held.
    """

    def __init__(self, put: Callable[[Any], Any], most_bytes: int = 2 * GIB) -> None:
        self._put = put
        self._most_bytes = most_bytes
        self._held: collections.OrderedDict[str, tuple[Any, int]] = collections.OrderedDict()
        self._lock = threading.Lock()
        #: Bytes put; and bytes that would have crossed with a job, but were there already.
        self.put_bytes = 0
        self.saved_bytes = 0

    def reference(self, digest: str, size: int, data: Any) -> Any:
        """What names the data in the cluster; it is put there if it is not held.

        :param size: bytes.
        """
        with self._lock:
            if digest in self._held:
                self._held.move_to_end(digest)
                self.saved_bytes += size
                return self._held[digest][0]
            # under the lock: of many jobs that begin at once, the first puts it
            reference = self._put(data)
            self.put_bytes += size
            self._held[digest] = reference, size
            surplus = sum(size for _, size in self._held.values()) - self._most_bytes
            while surplus > 0 and len(self._held) > 1:
                surplus -= self._held.popitem(last=False)[1][1]
            return reference

    def close(self) -> None:
        """Let go of all."""
        with self._lock:
            self._held.clear()
