"""Which experts were chosen while sampling, kept so that learning may take the same ones.

The router is frozen, but what it sees rounds differently in products of another shape, and a near tie then
falls the other way: the learner computes another function of the weights than the one that was sampled from.
With routes replayed only the rounding is left between the two.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

#: Experts of some tokens, [tokens, mixture layers, choices], in the smallest type that holds their numbers.
Routes = npt.NDArray[np.integer]
Tokens = npt.NDArray[np.int64]
#: Most bytes of routes that are kept; those of the oldest replies go first.
MOST_BYTES = 8 << 30


def route_dtype(experts: int) -> torch.dtype:
    """The type of a route's numbers."""
    return torch.uint8 if experts <= 256 else torch.int16


class RouteMemory:
    """The routes of prompts and of replies to them, found by their tokens.

    :param most_bytes: see :data:`MOST_BYTES`.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._routes: collections.OrderedDict[bytes, Routes] = collections.OrderedDict()
        self._most_bytes = most_bytes
        self._bytes = 0

    def put(self, prompt: Sequence[int], reply: Sequence[int], of_prompt: Routes, of_reply: Routes) -> None:
        """Keep the routes of one reply.

        :param of_prompt: of all tokens of the prompt but its last.
        :param of_reply: of the prompt's last token and of the reply's, but its last.
        """
        self._put(_key(prompt), of_prompt)
        self._put(_key(prompt, reply), of_reply)

    def _put(self, key: bytes, routes: Routes) -> None:
        if key in self._routes:
            self._bytes -= self._routes.pop(key).nbytes
        self._routes[key] = routes
        self._bytes += routes.nbytes
        while self._bytes > self._most_bytes:
            _, oldest = self._routes.popitem(last=False)
            self._bytes -= oldest.nbytes

    def of_pack(self, prompt: Tokens, replies: Sequence[Tokens], device: torch.device) -> Tensor | None:
        """int32 [mixture layers, tokens of the pack, choices]; ``None`` if a reply's are not kept.

        A reply's last token was never read while sampling. Nothing depends on what it is given here.
        """
        of_prompt = self._routes.get(_key(prompt))
        of_replies = [self._routes.get(_key(prompt, reply)) for reply in replies]
        if of_prompt is None or any(routes is None for routes in of_replies):
            return None
        known = [routes for routes in of_replies if routes is not None]
        parts = [of_prompt, known[0][:1]]
        for routes in known:
            parts += [routes[1:], routes[-1:]]
        joined = np.concatenate(parts).astype(np.int32)
        return torch.from_numpy(joined).to(device).transpose(0, 1).contiguous()


def _key(*parts: Sequence[int] | Tokens) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        tokens = np.asarray(part, np.int64)
        digest.update(len(tokens).to_bytes(8, "little") + tokens.tobytes())
    return digest.digest()
