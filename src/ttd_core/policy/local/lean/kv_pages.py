"""Paged memory for keys and values: replies get pages as they grow, not room for what they might become.

Layers that see a window of tokens have pages of their own, which are given back once nothing sees them; so a
long reply holds few of them. A pool serves the layers that see everything, another one those that do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from ttd_core.errors import EnvironmentLacksError
from ttd_core.policy.local.lean.paging import MEMORY_FRACTION, PAGE, pages_for
from ttd_core.policy.local.memory import free_bytes


@attrs.define(eq=False)
class HeldPages:
    """The pages that one sequence of tokens holds of one pool.

    :param first: how many pages' worth of tokens before them are not stored, or not any more.
    :param pages: in order.
    """

    first: int = 0
    pages: list[int] = attrs.field(factory=list)


@attrs.define(eq=False)
class PagePool:
    """All pages of one kind of layers, and which are free. Page 0 is never given out: idle rows write there.

    :param store: [pages, layers, 2, kv heads, PAGE, head size]; keys are 0, values 1.
    :param window: tokens that these layers see, the newest included; 0 is all.
    """

    store: Tensor
    window: int = 0
    _free: list[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._free = list(range(len(self.store) - 1, 0, -1))

    def first_seen(self, length: int) -> int:
        """The first page that the token after ``length`` others of its sequence, or a later one, sees."""
        return max(0, length + 1 - self.window) // PAGE if self.window else 0

    @property
    def free(self) -> int:
        """How many pages are free."""
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """``count`` free pages; the caller has checked :attr:`free`."""
        return [self._free.pop() for _ in range(count)]

    def give_back(self, pages: list[int]) -> None:
        """Make pages free again."""
        self._free.extend(reversed(pages))

    @torch.inference_mode()
    def copy_out(self, pages: list[int]) -> Tensor:
        """The contents of some pages, in the host's memory."""
        return self.store[self._indices(pages)].cpu()

    @torch.inference_mode()
    def copy_in(self, pages: list[int], contents: Tensor) -> None:
        """Fill pages with what :meth:`copy_out` returned."""
        self.store[self._indices(pages)] = contents.to(self.store.device)

    def _indices(self, pages: list[int]) -> Tensor:
        # Of no pages too, whose type would be a float's.
        return torch.tensor(pages, dtype=torch.int64, device=self.store.device)


@attrs.frozen(eq=False)
class PageMemory:
    """The pools of all kinds of layers; what a sequence holds is one :class:`HeldPages` for each.

    :param pools: first that of layers that see everything, if there are any.
    """

    pools: Sequence[PagePool]

    @classmethod
    def allocate(
        cls,
        windows: Sequence[int],
        counts: Sequence[tuple[int, int]],
        shapes: Sequence[tuple[int, ...]],
        like: Tensor,
    ) -> PageMemory:
        """Pools of as many pages as wanted, or of as many as the free memory holds.

        :param windows: of each kind of layers.
        :param counts: pages wanted of each, and those without which not even one reply can be decoded.
        :param shapes: of one page of each.
        :param like: a tensor of the pages' dtype on their device.
        :raises EnvironmentLacksError: when fewer than the least fit.
        """
        sizes = [like.element_size() * int(torch.Size(shape).numel()) for shape in shapes]
        given = [wanted for wanted, _ in counts]
        if like.device.type == "cuda":
            memory = int(MEMORY_FRACTION * free_bytes(like.device))
            needed = sum(least * size for (_, least), size in zip(counts, sizes, strict=True))
            if memory < needed:
                raise EnvironmentLacksError(
                    "the device has no memory left for the keys and values of one reply: "
                    f"{needed / 1e9:.1f} GB are needed and {memory / 1e9:.1f} GB "
                    "may be used; lower policy.context"
                )
            # Pages of windows are few, however long replies become; the others take what is left.
            for kind in reversed(range(len(counts))):
                others = sum(least * size for (_, least), size in [*zip(counts, sizes, strict=True)][:kind])
                share = memory - others if kind == 0 else min(memory - others, memory // 4)
                wanted, least = counts[kind]
                given[kind] = max(least, min(wanted, share // sizes[kind]))
                memory -= given[kind] * sizes[kind]
        return cls(
            [
                PagePool(torch.empty((count + 1, *shape), dtype=like.dtype, device=like.device), window)
                for count, shape, window in zip(given, shapes, windows, strict=True)
            ]
        )

    @property
    def nbytes(self) -> int:
        """Device memory of all pages."""
        return sum(pool.store.nbytes for pool in self.pools)

    def begin(self, length: int) -> list[HeldPages]:
        """Nothing held yet, by a sequence whose first ``length`` tokens are all stored before one is read."""
        return [HeldPages(pool.first_seen(length)) for pool in self.pools]

    def missing(self, held: Sequence[HeldPages], length: int) -> list[int]:
        """Pages to take of each pool until ``length`` tokens are stored."""
        return [max(0, pages_for(length) - one.first - len(one.pages)) for one in held]

    def has(self, counts: Sequence[int]) -> bool:
        """Whether so many pages of each pool are free."""
        return all(count <= pool.free for count, pool in zip(counts, self.pools, strict=True))

    def grow(self, held: Sequence[HeldPages], length: int) -> None:
        """Take the pages that are :meth:`missing`; the caller has asked :meth:`has`."""
        for one, pool, count in zip(held, self.pools, self.missing(held, length), strict=True):
            one.pages += pool.take(count)

    def drop_unseen(self, held: Sequence[HeldPages], length: int) -> None:
        """Give back what nothing sees from the token after ``length`` others on."""
        for one, pool in zip(held, self.pools, strict=True):
            count = min(pool.first_seen(length) - one.first, len(one.pages))
            if count > 0:
                pool.give_back(one.pages[:count])
                del one.pages[:count]
                one.first += count

    def release(self, held: Sequence[HeldPages]) -> None:
        """Give back everything."""
        for one, pool in zip(held, self.pools, strict=True):
            pool.give_back(one.pages)
            one.pages = []

    def copy_out(self, held: Sequence[HeldPages]) -> list[Tensor]:
        """The contents of what is held, in the host's memory."""
        return [pool.copy_out(one.pages) for one, pool in zip(held, self.pools, strict=True)]

    def copy_in(self, held: Sequence[HeldPages], contents: Sequence[Tensor]) -> None:
        """Take pages and fill them with what :meth:`copy_out` returned."""
        for one, pool, part in zip(held, self.pools, contents, strict=True):
            one.pages = pool.take(len(part))
            pool.copy_in(one.pages, part)
