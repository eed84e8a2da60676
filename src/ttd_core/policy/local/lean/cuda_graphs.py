"""A decoding step recorded once for each layout and replayed: one call from the host instead of hundreds."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ttd_core.policy.local.lean.decode_state import StepLayout


class GraphRecorder:
    """Runs a step as often as asked; on a CUDA device from a recorded graph.

    :param step: computes one step of a layout; reads and writes tensors that keep their address.
    :param rest: makes a trial run of the step harmless.
    :param device: where it runs; without CUDA the step is simply called.
    """

    def __init__(
        self, step: Callable[[StepLayout], None], rest: Callable[[], None], device: torch.device
    ) -> None:
        self._step = step
        self._rest = rest
        self._recorded = device.type == "cuda"
        self._graphs: dict[StepLayout, torch.cuda.CUDAGraph] = {}
        # Graphs are replayed one after another, so all may use the same memory for what passes within one.
        self._memory = torch.cuda.graph_pool_handle() if self._recorded else None

    @torch.inference_mode()
    def prepare(self, layout: StepLayout) -> None:
        """Record the layout if it is new. Disturbs the step's state: call before writing it."""
        if not self._recorded or layout in self._graphs:
            return
        self._rest()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            # Kernels are compiled and libraries choose theirs on the first run: not while recording.
            self._step(layout)
        torch.cuda.current_stream().wait_stream(side)
        self._rest()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
            self._step(layout)
        self._graphs[layout] = graph

    @torch.inference_mode()
    def run(self, layout: StepLayout, count: int) -> None:
        """``count`` steps, without waiting for them."""
        for _ in range(count):
            if self._recorded:
                self._graphs[layout].replay()
            else:
                self._step(layout)
