"""The lean decoder: many steps from recorded CUDA graphs between two looks by the host, over paged memory.

The host gives out pages, lets up to :data:`~.decode_state.MAX_STEPS` steps run on the device, and only then
looks at what was sampled. While they run it yields the replies that had finished before. What each reply says
is what :class:`~ttd_core.policy.local.plain.decode.PlainDecoder` makes it say, to rounding.

When the pages run out, the shortest replies are swapped out, their keys and values kept in the host's memory,
and go on as soon as there is room.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ttd_core.policy.local.lean.batching import (
    MAX_TILE_QUERIES,
    BatchRow,
    SharedPrompt,
    bucket,
    choose_layout,
    tile_prompts,
)
from ttd_core.policy.local.lean.cuda_graphs import GraphRecorder
from ttd_core.policy.local.lean.decode_state import MAX_STEPS, PAGE, DecodeState, StepLayout
from ttd_core.policy.local.lean.host_state import write_state
from ttd_core.policy.local.lean.kv_pages import PagePool, pages_for
from ttd_core.policy.local.lean.model import LeanModel
from ttd_core.policy.local.lean.ops import on_device
from ttd_core.policy.local.lean.prefill import prefill
from ttd_core.policy.local.lean.routes import RouteMemory
from ttd_core.policy.local.replies import DecodeLimits, DecodingReply, queue_forced
from ttd_core.types import StopReason


class LeanDecoder:
    """Samples replies to several prompts.

    :param model: the model.
    :param max_rows: most replies decoded at once.
    :param max_pages: fewer pages than the memory would hold, for tests.
    :param routes: is given the experts of each reply's tokens, if the model has some.
    """

    def __init__(
        self,
        model: LeanModel,
        max_rows: int,
        max_pages: int | None = None,
        routes: RouteMemory | None = None,
    ) -> None:
        self._model = model
        self._max_rows = max_rows
        self._max_pages = max_pages
        self._routes = routes if model.mixtures else None
        #: The experts of the coming steps, [MAX_STEPS, mixtures, rows, choices], while they are recorded.
        self._new_routes: Tensor | None = None
        #: Query heads that share a key-value head.
        self._heads_per_kv = model.heads[0] // model.heads[1]
        self._rows_per_tile = max(1, MAX_TILE_QUERIES // self._heads_per_kv)
        self._state_shape: tuple[int, ...] = ()
        self._wanted_pages = 0
        self._pool: PagePool | None = None
        self._state: DecodeState | None = None
        self._recorder: GraphRecorder | None = None
        self._waiting: collections.deque[BatchRow] = collections.deque()
        self._active: list[BatchRow] = []

    # -- memory -------------------------------------------------------------------------------------

    def release(self) -> None:
        """Free the pages, the state and the recorded graphs."""
        self._pool = None
        self._state_shape = ()
        self._state = None
        self._recorder = None
        self._new_routes = None

    def held_bytes(self) -> int:
        """Device memory of the pages."""
        return self._pool.store.nbytes if self._pool is not None else 0

    def _allocate(self, prompts: Sequence[Sequence[int]], rows: int, limits: DecodeLimits) -> None:
        """Pages, state and recorder for one call; kept from the last call where they fit."""
        model = self._model
        own_pages = pages_for(max(limits.max_tokens) + MAX_STEPS)
        prompt_pages = [pages_for(len(prompt) - 1) for prompt in prompts]
        width = 1 << (max(own_pages, *prompt_pages) - 1).bit_length()
        end_tokens = 1 << max(0, len(limits.end_tokens) - 1).bit_length()
        shape = (bucket(rows, self._max_rows), width, end_tokens)
        wanted = sum(prompt_pages) + rows * own_pages
        wanted = min(wanted, self._max_pages or wanted)
        if self._pool is not None and self._state_shape == shape and self._wanted_pages >= wanted:
            return
        self.release()
        page_shape = (len(model.layers), 2, model.heads[1], PAGE, model.head_size)
        least = sum(prompt_pages) + own_pages
        self._pool = PagePool.allocate(wanted, least, page_shape, model.layers[0].qkv.weight)
        self._state = DecodeState.allocate(
            shape[0], shape[0], self._rows_per_tile, width, end_tokens, model.device
        )
        self._recorder = GraphRecorder(self._step, self._state.make_idle, model.device)
        if self._routes is not None:
            self._new_routes = model.new_routes(MAX_STEPS, shape[0])
        self._state_shape, self._wanted_pages = shape, wanted

    @property
    def _allocated(self) -> tuple[PagePool, DecodeState, GraphRecorder]:
        if self._pool is None or self._state is None or self._recorder is None:
            raise RuntimeError("pages are allocated at the start of each call")
        return self._pool, self._state, self._recorder

    # -- one call -----------------------------------------------------------------------------------

    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        indices: Sequence[Sequence[int]],
        temperature: float,
        limits: DecodeLimits,
        seed: int,
    ) -> Iterator[DecodingReply]:
        """Yield finished replies, each once, in the order they finish.

        :param prompts: token ids of each prompt.
        :param indices: which replies to each prompt, by index within its group.
        """
        shared = [SharedPrompt(prompt, len(group)) for prompt, group in zip(prompts, indices, strict=True)]
        self._waiting = collections.deque(
            BatchRow(DecodingReply.begin(seed, prompt, index), shared[prompt])
            for prompt, group in enumerate(indices)
            for index in group
        )
        self._active = []
        if not self._waiting:
            return
        with on_device(self._model.device):
            self._allocate(prompts, min(self._max_rows, len(self._waiting)), limits)
            self._model.load_adapter()
        try:
            finished: list[DecodingReply] = []
            while self._waiting or self._active:
                with on_device(self._model.device):
                    self._admit()
                    steps, forced = self._launch(temperature, limits)
                yield from finished
                with on_device(self._model.device):
                    finished = self._collect(steps, forced, limits)
            yield from finished
        finally:
            self._release_pages(shared)

    def _release_pages(self, prompts: Sequence[SharedPrompt]) -> None:
        """Take back every page, also when the caller stopped listening."""
        pool, _, _ = self._allocated
        for row in self._active:
            pool.give_back(row.pages)
        for prompt in prompts:
            pool.give_back(prompt.pages or [])
            prompt.pages = None
        self._active, self._waiting = [], collections.deque()

    def _admit(self) -> None:
        """Let waiting replies in while there are rows and pages for them."""
        pool, _, _ = self._allocated
        unread: list[SharedPrompt] = []
        max_rows = min(self._state_shape[0], self._max_rows)
        while self._waiting and len(self._active) < max_rows:
            row = self._waiting[0]
            own_pages = pages_for(row.own_length + MAX_STEPS)
            prompt_pages = pages_for(row.prompt.stored) if row.prompt.pages is None else 0
            # Those under way come first: each may soon ask for one page more.
            if self._active and pool.free < own_pages + prompt_pages + len(self._active):
                break
            self._waiting.popleft()
            if row.prompt.pages is None:
                row.prompt.pages = pool.take(prompt_pages)
                unread.append(row.prompt)
            if row.swapped is not None:
                row.pages = pool.take(len(row.swapped))
                pool.copy_in(row.pages, row.swapped)
                row.swapped = None
            self._active.append(row)
        prefill(self._model, unread, pool.store, self._routes is not None)

    # -- steps --------------------------------------------------------------------------------------

    def _step(self, layout: StepLayout) -> None:
        """One token for every row; what a graph records."""
        pool, state, _ = self._allocated
        model, rows = self._model, layout.rows

        def attend(layer: int, qkv: Tensor) -> Tensor:
            keys, values = pool.store[:, layer, 0], pool.store[:, layer, 1]
            window, sinks = model.layers[layer].window, model.layers[layer].sinks
            output: Tensor = model.ops.attend(qkv, keys, values, state, layout, model.heads, window, sinks)
            return output

        positions = state.own_starts[:rows] + state.own_lengths[:rows]
        routes = None if self._new_routes is None else torch.empty_like(self._new_routes[0, :, :rows])
        residual, update = model.forward(
            state.next_input[:rows], positions, state.next_slots(rows), pool.store, attend, routes
        )
        if routes is not None and self._new_routes is not None:
            self._new_routes[:, :, :rows].index_copy_(0, state.step, routes[None])
        model.ops.sample(model.logits(residual, update), state)

    def _launch(self, temperature: float, limits: DecodeLimits) -> tuple[int, list[int]]:
        """Start the next steps; their number, and how many forced tokens each row gets."""
        steps = self._plan_steps(limits)
        _, state, recorder = self._allocated
        tile_queries, tiles = tile_prompts(self._active, self._heads_per_kv)
        layout = choose_layout(
            self._active, tile_queries, tiles, steps, self._state_shape[0], self._model.heads[1]
        )
        recorder.prepare(layout)
        forced = write_state(state, self._active, tiles, steps, temperature, limits)
        recorder.run(layout, steps)
        return steps, forced

    def _plan_steps(self, limits: DecodeLimits) -> int:
        """How many steps may run until the host must look; gives out the pages they need."""
        for row in self._active:
            queue_forced(row.reply, limits)
        remaining = [limits.max_tokens[row.reply.prompt_index] - row.own_length for row in self._active]
        steps = min(MAX_STEPS, max(remaining))
        if limits.thinking_tokens is not None:
            until_forced = [
                limits.thinking_tokens[row.reply.prompt_index] - row.own_length
                for row in self._active
                if not row.reply.was_forced
            ]
            steps = min([steps, *until_forced])
        pool, _, _ = self._allocated
        while (short := sum(self._missing_pages(row, steps) for row in self._active)) > pool.free:
            if len(self._active) == 1:
                raise RuntimeError(f"one reply asks for {short} pages and {pool.free} are free")
            self._swap_out(min(self._active, key=lambda row: row.own_length))
        for row in self._active:
            row.pages += pool.take(self._missing_pages(row, steps))
        return steps

    @staticmethod
    def _missing_pages(row: BatchRow, steps: int) -> int:
        return max(0, pages_for(row.own_length + steps) - len(row.pages))

    def _swap_out(self, row: BatchRow) -> None:
        """Free a row's pages, keeping their contents in the host's memory; it is the next to be admitted."""
        pool, _, _ = self._allocated
        row.swapped = pool.copy_out(row.pages)
        pool.give_back(row.pages)
        row.pages = []
        self._active.remove(row)
        self._waiting.appendleft(row)

    # -- results ------------------------------------------------------------------------------------

    def _collect(self, steps: int, forced: Sequence[int], limits: DecodeLimits) -> list[DecodingReply]:
        """Wait for the steps, append what they sampled, and take out the replies that are complete."""
        pool, state, _ = self._allocated
        count = len(self._active)
        tokens = state.new_tokens[:count, :steps].cpu().numpy()
        logprobs = state.new_logprobs[:count, :steps].cpu().numpy()
        routes = self._new_routes
        chosen = None if routes is None else routes[:steps, :, :count].transpose(1, 2).cpu().numpy()
        is_end = np.isin(tokens, list(limits.end_tokens))
        finished: list[DecodingReply] = []
        staying: list[BatchRow] = []
        for index, row in enumerate(self._active):
            reply = row.reply
            max_tokens = limits.max_tokens[reply.prompt_index]
            _append(reply, tokens[index], logprobs[index], is_end[index], forced[index], max_tokens)
            if chosen is not None:
                row.routes.append(chosen[:, index].copy())
            if reply.stop is None:
                staying.append(row)
                continue
            finished.append(reply)
            self._keep_routes(row)
            pool.give_back(row.pages)
            row.pages = []
            row.prompt.unfinished -= 1
            if not row.prompt.unfinished:
                pool.give_back(row.prompt.pages or [])
                row.prompt.pages = None
        self._active = staying
        return finished

    def _keep_routes(self, row: BatchRow) -> None:
        """Hand the experts of a finished reply to the memory of routes."""
        if self._routes is None:
            return
        of_reply = np.concatenate(row.routes)[: len(row.reply.tokens)]
        of_prompt = row.prompt.routes if row.prompt.routes is not None else of_reply[:0]
        self._routes.put(row.prompt.tokens, row.reply.tokens, of_prompt, of_reply)


def _append(
    reply: DecodingReply,
    tokens: npt.NDArray[np.int32],
    logprobs: npt.NDArray[np.float32],
    is_end: npt.NDArray[np.bool_],
    forced: int,
    max_tokens: int,
) -> None:
    """Append one row's tokens up to its end; the first ``forced`` were not sampled and end nothing."""
    count = min(len(tokens), max_tokens - len(reply.tokens))
    hits = np.flatnonzero(is_end[forced:count])
    if len(hits):
        count = forced + int(hits[0]) + 1
        reply.stop = StopReason.STOP
    elif len(reply.tokens) + count >= max_tokens:
        reply.stop = StopReason.LENGTH
    forced = min(forced, count)
    reply.append_forced(tokens[:forced].tolist())
    reply.append_sampled(tokens[forced:count].tolist(), logprobs[forced:count].tolist())
    for _ in range(forced):
        reply.forced.popleft()
