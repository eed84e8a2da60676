"""CUDA graphs: a decoding step recorded once for each layout and replayed, one call instead of hundreds."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ttd_core.policy.local.lean.decode_state import StepLayout


class GraphRecorder:
    """Runs a step as often as asked; on a CUDA device from a recorded graph.

    :param step: computes one step of a layout; reads and writes tensors that keep their address.
    :param make_idle: makes a trial run of the step harmless.
    :param device: where it runs; without CUDA the step is simply called.
    """

    def __init__(
        self, step: Callable[[StepLayout], None], make_idle: Callable[[], None], device: torch.device
    ) -> None:
        self._step = step
        self._make_idle = make_idle
        self._records = device.type == "cuda"
        self._graphs: dict[StepLayout, torch.cuda.CUDAGraph] = {}
        # Graphs are replayed one after another, so all may use the same memory for what passes within one.
        self._memory_pool = torch.cuda.graph_pool_handle() if self._records else None

    @torch.inference_mode()
    def prepare(self, layout: StepLayout) -> None:
        """Record the layout if it is new. Disturbs the step's state: call before writing it."""
        if not self._records or layout in self._graphs:
            return
        self._make_idle()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            # Kernels are compiled and libraries choose theirs on the first run: not while recording.
            self._step(layout)
        torch.cuda.current_stream().wait_stream(side)
        self._make_idle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory_pool, capture_error_mode="thread_local"):
            self._step(layout)
        self._graphs[layout] = graph

    @torch.inference_mode()
    def run(self, layout: StepLayout, count: int) -> None:
        """Start ``count`` steps of a layout that was prepared; returns without waiting for them."""
        for _ in range(count):
            if self._records:
                self._graphs[layout].replay()
            else:
                self._step(layout)
