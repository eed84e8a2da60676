"""The lean decoder: many steps from recorded CUDA graphs between two looks by the host, over paged memory.

The host gives out pages, lets up to :data:`~.paging.MAX_STEPS` steps run on the device, and only then
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
from ttd_core.policy.local.lean.decode_state import DecodeState, StepLayout
from ttd_core.policy.local.lean.host_state import write_state
from ttd_core.policy.local.lean.kv_pages import PageMemory
from ttd_core.policy.local.lean.model import LeanModel
from ttd_core.policy.local.lean.ops import on_device
from ttd_core.policy.local.lean.paging import MAX_STEPS, PAGE, most_held, pages_for
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
        self._wanted_pages: list[int] = []
        #: Most pages that one row holds, of each kind of layers.
        self._most_own: list[int] = []
        self._memory: PageMemory | None = None
        self._state: DecodeState | None = None
        self._recorder: GraphRecorder | None = None
        self._waiting: collections.deque[BatchRow] = collections.deque()
        self._active: list[BatchRow] = []

    # -- memory -------------------------------------------------------------------------------------

    def release(self) -> None:
        """Free the pages, the state and the recorded graphs."""
        self._memory = None
        self._state_shape = ()
        self._state = None
        self._recorder = None
        self._new_routes = None

    def held_bytes(self) -> int:
        """Device memory of the pages."""
        return self._memory.nbytes if self._memory is not None else 0

    def _allocate(self, prompts: Sequence[Sequence[int]], rows: int, limits: DecodeLimits) -> None:
        """Pages, state and recorder for one call; kept from the last call where they fit."""
        model = self._model
        own_pages = pages_for(max(limits.max_tokens) + MAX_STEPS)
        prompt_pages = [pages_for(len(prompt) - 1) for prompt in prompts]
        width = 1 << (max(own_pages, *prompt_pages) - 1).bit_length()
        end_tokens = 1 << max(0, len(limits.end_tokens) - 1).bit_length()
        shape = (bucket(rows, self._max_rows), width, end_tokens)
        longest = max(limits.max_tokens) + MAX_STEPS
        self._most_own = [most_held(longest, window, MAX_STEPS) for window in model.windows]
        counts = [self._page_counts(kind, prompts, rows) for kind in range(len(model.windows))]
        wanted = [count for count, _ in counts]
        enough = len(wanted) == len(self._wanted_pages) and all(
            held >= count for held, count in zip(self._wanted_pages, wanted, strict=True)
        )
        if self._memory is not None and self._state_shape == shape and enough:
            return
        self.release()
        members = [sum(place[0] == kind for place in model.places) for kind in range(len(model.windows))]
        shapes = [(count, 2, model.heads[1], PAGE, model.head_size) for count in members]
        self._memory = PageMemory.allocate(model.windows, counts, shapes, model.layers[0].qkv.weight)
        tile_rows, windowed = self._rows_per_tile, len(model.windows) > 1
        self._state = DecodeState.allocate(
            shape[0], shape[0], tile_rows, width, end_tokens, model.device, windowed
        )
        self._recorder = GraphRecorder(self._step, self._state.make_idle, model.device)
        if self._routes is not None:
            self._new_routes = model.new_routes(MAX_STEPS, shape[0])
        self._state_shape, self._wanted_pages = shape, wanted

    def _page_counts(self, kind: int, prompts: Sequence[Sequence[int]], rows: int) -> tuple[int, int]:
        """Pages of one kind of layers: what all rows may hold, and what one reply needs."""
        own, window = self._most_own[kind], self._model.windows[kind]
        of_prompts = sum(most_held(len(prompt) - 1, window) for prompt in prompts)
        wanted = of_prompts + rows * own
        return min(wanted, self._max_pages or wanted), of_prompts + own

    @property
    def _allocated(self) -> tuple[PageMemory, DecodeState, GraphRecorder]:
        if self._memory is None or self._state is None or self._recorder is None:
            raise RuntimeError("pages are allocated at the start of each call")
        return self._memory, self._state, self._recorder

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
        memory, _, _ = self._allocated
        for row in self._active:
            memory.release(row.held)
        for prompt in prompts:
            memory.release(prompt.held or memory.begin(0))
            prompt.held = None
        self._active, self._waiting = [], collections.deque()

    def _admit(self) -> None:
        """Let waiting replies in while there are rows and pages for them."""
        memory, _, _ = self._allocated
        unread: list[SharedPrompt] = []
        max_rows = min(self._state_shape[0], self._max_rows)
        # Those under way come first: each may soon ask for one page more, unless it holds all it ever will.
        kept = [
            sum(len(row.held[kind].pages) < most for row in self._active)
            for kind, most in enumerate(self._most_own)
        ]
        while self._waiting and len(self._active) < max_rows:
            row = self._waiting[0]
            prompt, new = row.prompt, row.prompt.held is None
            row.held = row.held or memory.begin(0)
            held = prompt.held or memory.begin(prompt.stored)
            of_prompt = memory.missing(held, prompt.stored) if new else [0] * len(held)
            own = memory.missing(row.held, row.own_length + MAX_STEPS)
            needed = [sum(parts) for parts in zip(own, of_prompt, kept, strict=True)]
            if self._active and not memory.has(needed):
                break
            self._waiting.popleft()
            kept = [count + 1 for count in kept]
            if new:
                memory.grow(held, prompt.stored)
                prompt.held = held
                unread.append(prompt)
            if row.swapped is not None:
                memory.copy_in(row.held, row.swapped)
                row.swapped = None
            self._active.append(row)
        stores = [pool.store for pool in memory.pools]
        prefill(self._model, unread, stores, self._routes is not None)

    # -- steps --------------------------------------------------------------------------------------

    def _step(self, layout: StepLayout) -> None:
        """One token for every row; what a graph records."""
        memory, state, _ = self._allocated
        model, rows = self._model, layout.rows
        stores = [pool.store for pool in memory.pools]
        states = [state, state.of_windows()][: len(stores)]

        def attend(layer: int, qkv: Tensor) -> Tensor:
            kind, number = model.places[layer]
            keys, values = stores[kind][:, number, 0], stores[kind][:, number, 1]
            window, sinks = model.layers[layer].window, model.layers[layer].sinks
            output: Tensor = model.ops.attend(
                qkv, keys, values, states[kind], layout, model.heads, window, sinks
            )
            return output

        positions = state.own_starts[:rows] + state.own_lengths[:rows]
        routes = None if self._new_routes is None else torch.empty_like(self._new_routes[0, :, :rows])
        slots = [own.next_slots(rows) for own in states]
        residual, update = model.forward(state.next_input[:rows], positions, slots, stores, attend, routes)
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
        memory, _, _ = self._allocated
        for row in self._active:
            memory.drop_unseen(row.held, row.own_length)
        while not memory.has(short := self._missing_pages(steps)):
            if len(self._active) == 1:
                free = [pool.free for pool in memory.pools]
                raise RuntimeError(f"one reply asks for {short} pages and {free} are free")
            self._swap_out(min(self._active, key=lambda row: row.own_length))
        for row in self._active:
            memory.grow(row.held, row.own_length + steps)
        return steps

    def _missing_pages(self, steps: int) -> list[int]:
        """Pages of each pool that the rows need for the next steps."""
        memory, _, _ = self._allocated
        missing = [memory.missing(row.held, row.own_length + steps) for row in self._active]
        return [sum(counts) for counts in zip(*missing, strict=True)]

    def _swap_out(self, row: BatchRow) -> None:
        """Free a row's pages, keeping their contents in the host's memory; it is the next to be admitted."""
        memory, _, _ = self._allocated
        row.swapped = memory.copy_out(row.held)
        memory.release(row.held)
        self._active.remove(row)
        self._waiting.appendleft(row)

    # -- results ------------------------------------------------------------------------------------

    def _collect(self, steps: int, forced: Sequence[int], limits: DecodeLimits) -> list[DecodingReply]:
        """Wait for the steps, append what they sampled, and take out the replies that are complete."""
        memory, state, _ = self._allocated
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
            memory.release(row.held)
            row.prompt.unfinished -= 1
            if not row.prompt.unfinished:
                memory.release(row.prompt.held or memory.begin(0))
                row.prompt.held = None
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
