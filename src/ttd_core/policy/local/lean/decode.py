"""Sampling without waiting for the host: many steps at a time, from recorded graphs, over paged memory.

The host deals pages, lets up to :data:`~.decode_state.MAX_STEPS` steps run on the device, and only then
looks at what was drawn. While they run it hands out the replies that had finished before. What each reply
says is what :class:`~ttd_core.policy.local.plain.decode.PlainDecoder` makes it say, to rounding.

When the pages run out, the shortest replies are put aside, their keys and values kept in the host's memory,
and go on as soon as there is room.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ttd_core.policy.local.lean import host_state
from ttd_core.policy.local.lean.batching import (
    TILE,
    BatchRow,
    SharedPrompt,
    bucket,
    choose_layout,
    tile_prompts,
)
from ttd_core.policy.local.lean.cuda_graphs import GraphRecorder
from ttd_core.policy.local.lean.decode_state import MAX_STEPS, PAGE, DecodeState, StepLayout
from ttd_core.policy.local.lean.kv_pages import PagePool, pages_for
from ttd_core.policy.local.lean.model import LeanModel
from ttd_core.policy.local.lean.ops import on
from ttd_core.policy.local.lean.prefill import read_prompts
from ttd_core.policy.local.replies import DecodeLimits, Reply, maybe_force, stream
from ttd_core.types import StopReason


class LeanDecoder:
    """Samples replies to several prompts.

    :param model: the model.
    :param rows: most replies decoded at once.
    :param most_pages: fewer pages than the memory would hold, for tests.
    """

    def __init__(self, model: LeanModel, rows: int, most_pages: int | None = None) -> None:
        self._model = model
        self._most_rows = rows
        self._most_pages = most_pages
        #: Query heads that share a key-value head.
        self._share = model.heads[0] // model.heads[1]
        self._rows_per_tile = max(1, TILE // self._share)
        self._shape: tuple[int, ...] = ()
        self._wanted = 0
        self._pool: PagePool | None = None
        self._state: DecodeState | None = None
        self._recorder: GraphRecorder | None = None
        self._line: collections.deque[BatchRow] = collections.deque()
        self._active: list[BatchRow] = []

    # -- memory -------------------------------------------------------------------------------------

    def release(self) -> None:
        """Give the pages and the recorded graphs back."""
        self._pool = None
        self._shape = ()
        self._state = None
        self._recorder = None

    def held_bytes(self) -> int:
        """Device memory of the pages."""
        return self._pool.store.nbytes if self._pool is not None else 0

    def _provide(self, prompts: Sequence[Sequence[int]], rows: int, limits: DecodeLimits) -> None:
        """Pages, state and recorder for one call; kept from the last call where they fit."""
        model = self._model
        own = pages_for(max(limits.longest) + MAX_STEPS)
        stored = [pages_for(len(prompt) - 1) for prompt in prompts]
        width = 1 << (max(own, *stored) - 1).bit_length()
        ends = 1 << max(0, len(limits.ends) - 1).bit_length()
        shape = (bucket(rows, self._most_rows), width, ends)
        wanted = sum(stored) + rows * own
        wanted = min(wanted, self._most_pages or wanted)
        if self._pool is not None and self._shape == shape and self._wanted >= wanted:
            return
        self.release()
        page = (len(model.layers), 2, model.heads[1], PAGE, model.head_size)
        self._pool = PagePool.make(wanted, sum(stored) + own, page, model.layers[0].qkv.weight)
        self._state = DecodeState.make(shape[0], shape[0], self._rows_per_tile, width, ends, model.device)
        self._recorder = GraphRecorder(self._step, self._state.rest, model.device)
        self._shape, self._wanted = shape, wanted

    @property
    def _parts(self) -> tuple[PagePool, DecodeState, GraphRecorder]:
        if self._pool is None or self._state is None or self._recorder is None:
            raise RuntimeError("pages are provided at the start of each call")
        return self._pool, self._state, self._recorder

    # -- one call -----------------------------------------------------------------------------------

    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        shares: Sequence[range],
        temperature: float,
        limits: DecodeLimits,
        seed: int,
    ) -> Iterator[Reply]:
        """Yield finished replies, each once, in the order they finish (see :meth:`Decoder.decode`)."""
        groups = [SharedPrompt(prompt, len(share)) for prompt, share in zip(prompts, shares, strict=True)]
        self._line = collections.deque(
            BatchRow(Reply(prompt, index, stream(seed, prompt, index)), groups[prompt])
            for prompt, share in enumerate(shares)
            for index in share
        )
        self._active = []
        if not self._line:
            return
        with on(self._model.device):
            self._provide(prompts, min(self._most_rows, len(self._line)), limits)
            self._model.refresh()
        try:
            done: list[Reply] = []
            while self._line or self._active:
                with on(self._model.device):
                    self._admit()
                    steps, forced = self._launch(temperature, limits)
                yield from done
                with on(self._model.device):
                    done = self._collect(steps, forced, limits)
            yield from done
        finally:
            self._abandon(groups)

    def _abandon(self, groups: Sequence[SharedPrompt]) -> None:
        """Take back every page, also when the caller stopped listening."""
        for row in self._active:
            self._parts[0].give(row.pages)
        for group in groups:
            self._parts[0].give(group.pages or [])
            group.pages = None
        self._active, self._line = [], collections.deque()

    def _admit(self) -> None:
        """Let waiting replies in while there are rows and pages for them."""
        pool, _, _ = self._parts
        fresh: list[SharedPrompt] = []
        while self._line and len(self._active) < self._shape[0] and len(self._active) < self._most_rows:
            row = self._line[0]
            own = pages_for(row.length + MAX_STEPS)
            prompt = pages_for(row.group.stored) if row.group.pages is None else 0
            # Those under way come first: each may soon ask for one page more.
            if self._active and pool.free < own + prompt + len(self._active):
                break
            self._line.popleft()
            if row.group.pages is None:
                row.group.pages = pool.take(prompt)
                fresh.append(row.group)
            if row.aside is not None:
                row.pages = pool.take(len(row.aside))
                pool.copy_in(row.pages, row.aside)
                row.aside = None
            self._active.append(row)
        read_prompts(self._model, fresh, pool.store)

    # -- steps --------------------------------------------------------------------------------------

    def _step(self, layout: StepLayout) -> None:
        """One token for every row; what a graph records."""
        pool, state, _ = self._parts
        model, rows = self._model, layout.rows

        def attend(layer: int, qkv: Tensor) -> Tensor:
            keys, values = pool.store[:, layer, 0], pool.store[:, layer, 1]
            found: Tensor = model.steps.attend(qkv, keys, values, state, layout, model.heads)
            return found

        positions = state.starts[:rows] + state.lengths[:rows]
        hidden = model.hidden(state.last[:rows], positions, state.slots(rows), pool.store, attend)
        model.steps.draw(model.logits(*hidden), state)

    def _launch(self, temperature: float, limits: DecodeLimits) -> tuple[int, list[int]]:
        """Start the next steps; their number, and how many forced tokens each row gets."""
        steps = self._plan(limits)
        _, state, recorder = self._parts
        block, tiles = tile_prompts(self._active, self._share)
        layout = choose_layout(self._active, block, tiles, steps, self._shape[0], self._model.heads[1])
        recorder.prepare(layout)
        forced = host_state.write(state, self._active, tiles, steps, temperature, limits)
        recorder.run(layout, steps)
        return steps, forced

    def _plan(self, limits: DecodeLimits) -> int:
        """How many steps may run until the host must look; deals the pages they need."""
        for row in self._active:
            maybe_force(row.reply, limits)
        steps = min(MAX_STEPS, max(limits.longest[row.reply.prompt] - row.length for row in self._active))
        if limits.thinking is not None:
            due = [
                limits.thinking[row.reply.prompt] - row.length
                for row in self._active
                if not row.reply.was_forced
            ]
            steps = min([steps, *due])
        pool, _, _ = self._parts
        while (short := sum(self._missing(row, steps) for row in self._active)) > pool.free:
            if len(self._active) == 1:
                raise RuntimeError(f"one reply asks for {short} pages and {pool.free} are free")
            self._put_aside(min(self._active, key=lambda row: row.length))
        for row in self._active:
            row.pages += pool.take(self._missing(row, steps))
        return steps

    @staticmethod
    def _missing(row: BatchRow, steps: int) -> int:
        return max(0, pages_for(row.length + steps) - len(row.pages))

    def _put_aside(self, row: BatchRow) -> None:
        """Free a row's pages, keeping their contents."""
        pool, _, _ = self._parts
        row.aside = pool.copy_out(row.pages)
        pool.give(row.pages)
        row.pages = []
        self._active.remove(row)
        self._line.appendleft(row)

    # -- results ------------------------------------------------------------------------------------

    def _collect(self, steps: int, forced: Sequence[int], limits: DecodeLimits) -> list[Reply]:
        """Wait for the steps, append what they drew, and take out the replies that are complete."""
        pool, state, _ = self._parts
        count = len(self._active)
        tokens = state.tokens[:count, :steps].cpu().numpy()
        logprobs = state.logprobs[:count, :steps].cpu().numpy()
        ending = np.isin(tokens, list(limits.ends))
        done: list[Reply] = []
        staying: list[BatchRow] = []
        for line, row in enumerate(self._active):
            reply, given = row.reply, forced[line]
            _append(reply, tokens[line], logprobs[line], ending[line], given, limits.longest[reply.prompt])
            if reply.stop is None:
                staying.append(row)
                continue
            done.append(reply)
            pool.give(row.pages)
            row.pages = []
            row.group.users -= 1
            if not row.group.users:
                pool.give(row.group.pages or [])
                row.group.pages = None
        self._active = staying
        return done


def _append(
    reply: Reply,
    tokens: npt.NDArray[np.int32],
    logprobs: npt.NDArray[np.float32],
    ending: npt.NDArray[np.bool_],
    forced: int,
    longest: int,
) -> None:
    """Append one row's tokens up to its end; the first ``forced`` were not sampled and end nothing."""
    count = min(len(tokens), longest - len(reply.tokens))
    hits = np.flatnonzero(ending[forced:count])
    if len(hits):
        count = forced + int(hits[0]) + 1
        reply.stop = StopReason.STOP
    elif len(reply.tokens) + count >= longest:
        reply.stop = StopReason.LENGTH
    forced = min(forced, count)
    reply.tokens += tokens[:count].tolist()
    reply.logprobs += [0.0] * forced + logprobs[forced:count].tolist()
    reply.trained += [False] * forced + [True] * (count - forced)
    for _ in range(forced):
        reply.forced.popleft()
