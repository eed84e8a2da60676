"""Pages of keys and values: memory for what is there, not for what might come."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from ttd_core.errors import EnvironmentLacksError
from ttd_core.policy.local.lean.decode_state import PAGE
from ttd_core.policy.local.memory import free_bytes

#: Share of the free device memory that the pages may take.
SHARE = 0.85


def pages_for(tokens: int) -> int:
    """Pages that hold ``tokens`` tokens."""
    return -(-tokens // PAGE)


@attrs.define(eq=False)
class PagePool:
    """All pages, and which of them are free. Page 0 is nobody's: rows at rest write there.

    :param store: [pages, layers, 2, kv heads, PAGE, head size]; keys are 0, values 1.
    """

    store: Tensor
    _free: list[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._free = list(range(len(self.store) - 1, 0, -1))

    @classmethod
    def make(cls, wanted: int, least: int, shape: tuple[int, ...], like: Tensor) -> PagePool:
        """A pool of ``wanted`` pages, or of as many as the free memory holds.

        :param least: pages without which not even one reply can be decoded.
        :param shape: of one page.
        :raises EnvironmentLacksError: when fewer than ``least`` fit.
        """
        size = like.element_size() * int(torch.Size(shape).numel())
        room = int(SHARE * free_bytes(like.device)) // size if like.device.type == "cuda" else wanted
        if room < least:
            raise EnvironmentLacksError(
                "the device has no memory left for the keys and values of one reply: "
                f"{least * size / 1e9:.1f} GB are needed and {room * size / 1e9:.1f} GB may be used; "
                "lower policy.context"
            )
        return cls(torch.empty((min(wanted, room) + 1, *shape), dtype=like.dtype, device=like.device))

    @property
    def free(self) -> int:
        """Pages free."""
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """``count`` free pages; the caller has checked :attr:`free`."""
        return [self._free.pop() for _ in range(count)]

    def give(self, pages: list[int]) -> None:
        """Take pages back."""
        self._free.extend(reversed(pages))

    @torch.inference_mode()
    def copy_out(self, pages: list[int]) -> Tensor:
        """The contents of some pages, in the host's memory."""
        return self.store[torch.tensor(pages, device=self.store.device)].cpu()

    @torch.inference_mode()
    def copy_in(self, pages: list[int], contents: Tensor) -> None:
        """Fill pages with what :meth:`copy_out` gave."""
        self.store[torch.tensor(pages, device=self.store.device)] = contents.to(self.store.device)
