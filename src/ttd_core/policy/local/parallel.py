"""One policy over several devices of one host: each samples and learns from its share.

This process is rank 0 and holds the optimiser; each other rank is a process of its own with a copy of the
model (:mod:`.worker`). Replies are divided before sampling, packs before learning. Gradients
are summed on rank 0 by torch.distributed (NCCL between GPUs, Gloo between CPU processes), which takes the
step and sends everyone the new adapter. A reply depends on its seed, prompt and index alone, so N devices
give the replies and, to rounding, the step of one.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import queue
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch
import torch.distributed

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.errors import EnvironmentLacksError
from ttd_core.policy.base import Sample, SamplingParams, Sequences
from ttd_core.policy.local import messages
from ttd_core.policy.local.adapter import Adapter
from ttd_core.policy.local.sharding import share_packs, share_replies
from ttd_core.policy.local.training import Totals
from ttd_core.types import Completion, Message


@attrs.define(eq=False)
class Ranks:
    """The processes that hold one model each, as torch.distributed knows them."""

    device: torch.device
    _buffer: torch.Tensor | None = None

    @classmethod
    def join(cls, rank: int, ranks: int, meeting: pathlib.Path, device: torch.device) -> Ranks:
        """Meet the others at a file; returns when all are there."""
        # Without this Gloo looks for a network interface by the host's name; all ranks are on this host.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        torch.distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{meeting}",
            rank=rank,
            world_size=ranks,
        )
        return cls(device)

    def sum_gradients(self, adapter: Adapter) -> None:
        """Rank 0's gradients become the sum of everyone's."""
        parts = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in adapter]
        flat = torch.cat([part.flatten() for part in parts])
        torch.distributed.reduce(flat, dst=0)
        for weight, part in zip(adapter, torch.split(flat, [part.numel() for part in parts]), strict=True):
            weight.grad = part.view_as(weight).clone()

    def publish(self, adapter: Adapter) -> None:
        """Everyone gets rank 0's adapter."""
        weights = [weight.detach() for weight in adapter]
        flat = torch.cat([weight.flatten() for weight in weights])
        torch.distributed.broadcast(flat, src=0)
        parts = torch.split(flat, [weight.numel() for weight in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.copy_(part.view_as(weight))
        adapter.publish()

    def leave(self) -> None:
        """Close the connections."""
        torch.distributed.destroy_process_group()


@attrs.frozen(eq=False)
class Worker:
    """Another rank, as rank 0 sees it."""

    rank: int
    process: subprocess.Popen[bytes]
    channel: socket.socket

    def tell(self, frame: messages.Frame) -> None:
        """Send it something to do."""
        try:
            messages.send(self.channel, frame)
        except OSError as error:
            raise self.gone() from error

    def hear(self) -> messages.Frame:
        """What it answers.

        :raises EnvironmentLacksError: when it failed, in its own words, or ended.
        """
        frame = messages.receive(self.channel)
        if frame is None:
            raise self.gone()
        if frame.kind == "error":
            raise EnvironmentLacksError(f"policy.options.devices: process {self.rank} failed: {frame.header}")
        return frame

    def gone(self) -> EnvironmentLacksError:
        """Its end, as an error."""
        return EnvironmentLacksError(
            f"policy.options.devices: process {self.rank} ended (exit code {self.process.poll()}); "
            "see its messages above, and resume the run"
        )


def start(local: Any, config: RunConfig, ranks: int) -> ParallelPolicy:
    """Start the other ranks beside ``local``, the policy of rank 0.

    :raises EnvironmentLacksError: when one of them cannot open the model.
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ttd-ranks-"))
    workers = []
    for rank in range(1, ranks):
        mine, other = socket.socketpair()
        command = [sys.executable, "-m", "ttd_core.policy.local.worker"]
        command += [str(other.fileno()), str(rank), str(ranks), str(folder / "meeting")]
        process = subprocess.Popen(command, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL)
        other.close()
        workers.append(Worker(rank, process, mine))
    policy = ParallelPolicy(local, config, workers, folder)
    try:
        for worker in workers:
            worker.tell(messages.Frame("config", configs.to_toml(config)))
        for worker in workers:
            worker.hear()
        policy.meet(folder / "meeting")
    except BaseException:
        policy.close()
        raise
    return policy


class ParallelPolicy:
    """Samples with, and trains, one model on several devices.

    :param local: rank 0's policy.
    :param workers: the other ranks.
    :param folder: where they meet; removed at the end.
    """

    def __init__(
        self, local: Any, config: RunConfig, workers: Sequence[Worker], folder: pathlib.Path
    ) -> None:
        self._local = local
        self._config = config
        self._workers = list(workers)
        self._folder = folder
        self._ranks: Ranks | None = None

    def meet(self, meeting: pathlib.Path) -> None:
        """Join the other ranks and give them rank 0's adapter."""
        device = next(iter(self._local.adapter)).device
        self._ranks = Ranks.join(0, len(self._workers) + 1, meeting, device)
        self._ranks.publish(self._local.adapter)

    @property
    def name(self) -> str:
        """Model, backend and number of devices, for people."""
        return f"{self._local.name} x {len(self._workers) + 1}"

    def sample(
        self, prompts: Sequence[Sequence[Message]], count: int, params: SamplingParams
    ) -> Iterator[Sample]:
        """Yield ``count`` replies to each prompt as they finish, whichever device they come from."""
        self._local.require_room(prompts, params)
        shares = share_replies(len(prompts), count, len(self._workers) + 1)
        for worker, share in zip(self._workers, shares[1:], strict=True):
            ranges = [[one.start, one.stop] for one in share]
            header = {"prompts": [list(p) for p in prompts], "shares": ranges, "params": attrs.asdict(params)}
            worker.tell(messages.Frame("sample", header))
        found: queue.SimpleQueue[Sample | BaseException | None] = queue.SimpleQueue()
        own = self._local.sample_shares(prompts, shares[0], params)
        threads = [threading.Thread(target=_forward, args=(own, found), daemon=True)]
        threads += [
            threading.Thread(target=_forward, args=(_heard(worker), found), daemon=True)
            for worker in self._workers
        ]
        for thread in threads:
            thread.start()
        running = len(threads)
        try:
            while running:
                one = found.get()
                if one is None:
                    running -= 1
                elif isinstance(one, BaseException):
                    raise one
                else:
                    yield one
        finally:
            # Whoever stops listening early still waits: the ranks answer one request after another.
            for thread in threads:
                thread.join()

    def base_logprobs(
        self, prompt_tokens: npt.NDArray[np.int64], completions: Sequence[Completion], temperature: float
    ) -> list[npt.NDArray[np.float32]]:
        """Log-probabilities of the replies under the model without its adapter, each rank its share."""
        ranks = len(self._workers) + 1
        parts = [list(completions[rank::ranks]) for rank in range(ranks)]
        for worker, part in zip(self._workers, parts[1:], strict=True):
            texts, arrays = messages.pack_completions(part)
            header = {"texts": texts, "temperature": temperature}
            worker.tell(messages.Frame("base", header, arrays | {"prompt": prompt_tokens}))
        found = [self._local.base_logprobs(prompt_tokens, parts[0], temperature)]
        for worker, part in zip(self._workers, parts[1:], strict=True):
            arrays = worker.hear().arrays
            found.append([arrays[str(place)] for place in range(len(part))])
        return [found[place % ranks][place // ranks] for place in range(len(completions))]

    def train_step(self, batch: Sequence[Sequences], temperature: float) -> Mapping[str, float]:
        """One Adam step on the sum of all ranks' gradients."""
        shares = share_packs(batch, self._config.learn.micro_batch_tokens, len(self._workers) + 1)
        for worker, share in zip(self._workers, shares[1:], strict=True):
            worker.tell(messages.batch_frame(share, temperature))
        totals: Totals = self._local.accumulate(shares[0], temperature)
        for worker in self._workers:
            # Only when all have their gradients does the summing begin, so a rank that failed stops nobody.
            totals = totals.join(Totals(**worker.hear().header))
        if self._ranks is None:
            raise RuntimeError("the ranks have not met")
        for worker in self._workers:
            worker.tell(messages.Frame("sum"))
        self._ranks.sum_gradients(self._local.adapter)
        metrics: Mapping[str, float] = self._local.take_step(totals)
        self._ranks.publish(self._local.adapter)
        return metrics

    def save(self, folder: pathlib.Path) -> None:
        """Write adapter and optimiser; one device or several, it is the same checkpoint."""
        self._local.save(folder)

    def load(self, folder: pathlib.Path) -> None:
        """Restore adapter and optimiser exactly, on every device.

        :raises UsageError: when the folder does not hold this model's adapter.
        """
        self._local.load(folder)
        if self._ranks is None:
            raise RuntimeError("the ranks have not met")
        for worker in self._workers:
            worker.tell(messages.Frame("publish"))
        self._ranks.publish(self._local.adapter)

    def adapter_digest(self) -> str:
        """SHA-256 over the adapter's weights."""
        digest: str = self._local.adapter_digest()
        return digest

    def close(self) -> None:
        """End the other processes and release the model."""
        for worker in self._workers:
            with contextlib.suppress(EnvironmentLacksError):  # it has ended already
                worker.tell(messages.Frame("close"))
        if self._ranks is not None:
            self._ranks.leave()
        for worker in self._workers:
            try:
                worker.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.channel.close()
        for file in self._folder.glob("*"):
            file.unlink()
        self._folder.rmdir()
        self._local.close()


def _forward(samples: Iterator[Sample], found: queue.SimpleQueue[Sample | BaseException | None]) -> None:
    """Pass on what comes, then the end or the error."""
    try:
        for sample in samples:
            found.put(sample)
    except BaseException as error:  # noqa: BLE001 - raised again where the samples are taken
        found.put(error)
    else:
        found.put(None)


def _heard(worker: Worker) -> Iterator[Sample]:
    """A rank's samples until it says that it is done."""
    while (frame := worker.hear()).kind == "sample":
        yield messages.sample_of(frame)
