"""Paged memory for keys and values: replies get pages as they grow, not room for what they might become."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from ttd_core.errors import EnvironmentLacksError
from ttd_core.policy.local.lean.decode_state import PAGE
from ttd_core.policy.local.memory import free_bytes

#: Fraction of the free device memory that the pages may take.
MEMORY_FRACTION = 0.85


def pages_for(tokens: int) -> int:
    """Pages that hold ``tokens`` tokens."""
    return -(-tokens // PAGE)


@attrs.define(eq=False)
class PagePool:
    """All pages, and which of them are free. Page 0 is never given out: idle rows write there.

    :param store: [pages, layers, 2, kv heads, PAGE, head size]; keys are 0, values 1.
    """

    store: Tensor
    _free: list[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._free = list(range(len(self.store) - 1, 0, -1))

    @classmethod
    def allocate(cls, wanted: int, least: int, shape: tuple[int, ...], like: Tensor) -> PagePool:
        """A pool of ``wanted`` pages, or of as many as the free memory holds.

        :param least: pages without which not even one reply can be decoded.
        :param shape: of one page.
        :param like: a tensor of the pages' dtype on their device.
        :raises EnvironmentLacksError: when fewer than ``least`` fit.
        """
        page_bytes = like.element_size() * int(torch.Size(shape).numel())
        on_cuda = like.device.type == "cuda"
        affordable = int(MEMORY_FRACTION * free_bytes(like.device)) // page_bytes if on_cuda else wanted
        if affordable < least:
            raise EnvironmentLacksError(
                "the device has no memory left for the keys and values of one reply: "
                f"{least * page_bytes / 1e9:.1f} GB are needed and {affordable * page_bytes / 1e9:.1f} GB "
                "may be used; lower policy.context"
            )
        return cls(torch.empty((min(wanted, affordable) + 1, *shape), dtype=like.dtype, device=like.device))

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
        return self.store[torch.tensor(pages, device=self.store.device)].cpu()

    @torch.inference_mode()
    def copy_in(self, pages: list[int], contents: Tensor) -> None:
        """Fill pages with what :meth:`copy_out` returned."""
        self.store[torch.tensor(pages, device=self.store.device)] = contents.to(self.store.device)
