"""One policy over several devices of one host: each samples and learns from its shard.

This process is rank 0 and holds the optimiser; each other rank is a process of its own with a copy of the
model (:mod:`.worker`). Replies are divided before sampling, packs before learning. Gradients are summed on
rank 0 by torch.distributed (NCCL between GPUs, Gloo between CPU processes), which takes the step and sends
everyone the new adapter. A reply depends on its seed, prompt and index alone, so N devices give the replies
and, to rounding, the step of one.
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
from ttd_core.policy.local.replies import whole_groups
from ttd_core.policy.local.sharding import shard_packs, shard_replies
from ttd_core.policy.local.training import PackTotals
from ttd_core.types import Completion, Message

_RENDEZVOUS = "rendezvous"
_END_TIMEOUT_S = 20.0
#: Samples of one rank, then ``None`` at its end, or the error that ended it.
_SampleQueue = queue.SimpleQueue[Sample | BaseException | None]


@attrs.define(eq=False)
class ProcessGroup:
    """This process's membership in torch.distributed's group of ranks; calls are collective.

    :param device: of this rank.
    """

    device: torch.device

    @classmethod
    def join(cls, rank: int, ranks: int, rendezvous: pathlib.Path, device: torch.device) -> ProcessGroup:
        """Meet the other ranks at a file; returns when all are there."""
        # Without this Gloo looks for a network interface by the host's name; all ranks are on this host.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        torch.distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{rendezvous}",
            rank=rank,
            world_size=ranks,
        )
        return cls(device)

    def reduce_gradients(self, adapter: Adapter) -> None:
        """Rank 0's gradients become the sum of everyone's."""
        parts = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in adapter]
        flat = torch.cat([part.flatten() for part in parts])
        torch.distributed.reduce(flat, dst=0)
        for weight, part in zip(adapter, torch.split(flat, [part.numel() for part in parts]), strict=True):
            weight.grad = part.view_as(weight).clone()

    def broadcast(self, adapter: Adapter) -> None:
        """Everyone gets rank 0's adapter."""
        weights = [weight.detach() for weight in adapter]
        flat = torch.cat([weight.flatten() for weight in weights])
        torch.distributed.broadcast(flat, src=0)
        parts = torch.split(flat, [weight.numel() for weight in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.copy_(part.view_as(weight))
        adapter.copy_to_model()

    def leave(self) -> None:
        """Close the connections."""
        torch.distributed.destroy_process_group()


@attrs.frozen(eq=False)
class WorkerProcess:
    """Another rank, as rank 0 sees it.

    :param channel: socket to it.
    """

    rank: int
    process: subprocess.Popen[bytes]
    channel: socket.socket

    def send(self, message: messages.RankMessage) -> None:
        """Send it something to do.

        :raises EnvironmentLacksError: when it has ended.
        """
        try:
            messages.send(self.channel, message)
        except OSError as error:
            raise self._lost() from error

    def receive(self) -> messages.RankMessage:
        """What it answers.

        :raises EnvironmentLacksError: when it failed, in its own words, or ended.
        """
        message = messages.receive(self.channel)
        if message is None:
            raise self._lost()
        if message.kind == "error":
            raise EnvironmentLacksError(
                f"policy.options.devices: process {self.rank} failed: {message.header}"
            )
        return message

    def _lost(self) -> EnvironmentLacksError:
        return EnvironmentLacksError(
            f"policy.options.devices: process {self.rank} ended (exit code {self.process.poll()}); "
            "see its messages above, and resume the run"
        )


def start_workers(local: Any, config: RunConfig, ranks: int) -> ParallelPolicy:
    """Start the other ranks beside ``local``, the policy of rank 0.

    :raises EnvironmentLacksError: when one of them cannot open the model.
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ttd-ranks-"))
    workers = []
    for rank in range(1, ranks):
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "ttd_core.policy.local.worker"]
        command += [str(theirs.fileno()), str(rank), str(ranks), str(folder / _RENDEZVOUS)]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        workers.append(WorkerProcess(rank, process, ours))
    policy = ParallelPolicy(local, config, workers, folder)
    try:
        for worker in workers:
            worker.send(messages.RankMessage("config", configs.to_toml(config)))
        for worker in workers:
            worker.receive()
        policy.join_group()
    except BaseException:
        policy.close()
        raise
    return policy


class ParallelPolicy:
    """Samples with, and trains, one model on several devices.

    :param local: rank 0's policy, a :class:`~ttd_core.policy.local.policy.LocalPolicy`.
    :param workers: the other ranks.
    :param folder: of their rendezvous file; removed at the end.
    """

    def __init__(
        self, local: Any, config: RunConfig, workers: Sequence[WorkerProcess], folder: pathlib.Path
    ) -> None:
        self._local = local
        self._config = config
        self._workers = list(workers)
        self._folder = folder
        self._group: ProcessGroup | None = None

    @property
    def _ranks(self) -> int:
        return len(self._workers) + 1

    def join_group(self) -> None:
        """Join the other ranks and give them rank 0's adapter."""
        device = next(iter(self._local.adapter)).device
        self._group = ProcessGroup.join(0, self._ranks, self._folder / _RENDEZVOUS, device)
        self._group.broadcast(self._local.adapter)

    def _joined_group(self) -> ProcessGroup:
        if self._group is None:
            raise RuntimeError("the ranks have not joined")
        return self._group

    @property
    def name(self) -> str:
        """Model, backend and number of devices, for people."""
        return f"{self._local.name} x {self._ranks}"

    @property
    def engine(self) -> object:
        """Which engine serves on each device, and why."""
        return self._local.engine

    def sample(
        self, prompts: Sequence[Sequence[Message]], count: int, params: SamplingParams
    ) -> Iterator[Sample]:
        """Yield ``count`` replies to each prompt as they finish, whichever device they come from."""
        return self.sample_part(prompts, count, whole_groups(len(prompts), count), params)

    def sample_part(
        self,
        prompts: Sequence[Sequence[Message]],
        count: int,
        indices: Sequence[Sequence[int]],
        params: SamplingParams,
    ) -> Iterator[Sample]:
        """Yield some of ``count`` replies to each prompt; each draws from random numbers of its own."""
        self._local.check_prompts_fit(prompts, params)
        shards = shard_replies(indices, self._ranks)
        for worker, shard in zip(self._workers, shards[1:], strict=True):
            header = {
                "prompts": [list(prompt) for prompt in prompts],
                "indices": [list(group) for group in shard],
                "params": attrs.asdict(params),
            }
            worker.send(messages.RankMessage("sample", header))
        arrived: _SampleQueue = queue.SimpleQueue()
        sources = [self._local.sample_indices(prompts, shards[0], params)]
        sources += [_samples_from(worker) for worker in self._workers]
        threads = [
            threading.Thread(target=_forward, args=(source, arrived), daemon=True) for source in sources
        ]
        for thread in threads:
            thread.start()
        running = len(threads)
        try:
            while running:
                arrival = arrived.get()
                if arrival is None:
                    running -= 1
                elif isinstance(arrival, BaseException):
                    raise arrival
                else:
                    yield arrival
        finally:
            # Whoever stops listening early still waits: the ranks answer one request after another.
            for thread in threads:
                thread.join()

    def measure_prompt(self, prompt: Sequence[Message], params: SamplingParams) -> tuple[int, int]:
        """Tokens of a prompt, and those that it and a reply may have together."""
        size: tuple[int, int] = self._local.measure_prompt(prompt, params)
        return size

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """The text of each token by itself."""
        texts: list[str] = self._local.token_texts(tokens)
        return texts

    def base_logprobs(
        self, prompt_tokens: npt.NDArray[np.int64], completions: Sequence[Completion], temperature: float
    ) -> list[npt.NDArray[np.float32]]:
        """Log-probabilities of the replies under the model without its adapter, each rank its shard."""
        shards = [list(completions[rank :: self._ranks]) for rank in range(self._ranks)]
        for worker, shard in zip(self._workers, shards[1:], strict=True):
            texts, arrays = messages.encode_completions(shard)
            header = {"texts": texts, "temperature": temperature}
            worker.send(messages.RankMessage("base_logprobs", header, arrays | {"prompt": prompt_tokens}))
        logprobs = [self._local.base_logprobs(prompt_tokens, shards[0], temperature)]
        for worker, shard in zip(self._workers, shards[1:], strict=True):
            arrays = worker.receive().arrays
            logprobs.append([arrays[str(index)] for index in range(len(shard))])
        return [logprobs[index % self._ranks][index // self._ranks] for index in range(len(completions))]

    def train_step(self, batch: Sequence[Sequences], temperature: float) -> Mapping[str, float]:
        """One Adam step on the sum of all ranks' gradients."""
        shards = shard_packs(batch, self._config.learn.micro_batch_tokens, self._ranks)
        for worker, shard in zip(self._workers, shards[1:], strict=True):
            worker.send(messages.batch_message(shard, temperature))
        totals: PackTotals = self._local.accumulate_gradients(shards[0], temperature)
        for worker, shard in zip(self._workers, shards[1:], strict=True):
            # Only when all have their gradients does the reduction begin, so a rank that failed stops nobody.
            answer = worker.receive()
            messages.fill_recomputed(shard, answer.arrays)
            totals = totals.merge(PackTotals(**answer.header))
        group = self._joined_group()
        for worker in self._workers:
            worker.send(messages.RankMessage("reduce"))
        group.reduce_gradients(self._local.adapter)
        metrics: Mapping[str, float] = self._local.take_step(totals)
        group.broadcast(self._local.adapter)
        return metrics

    def save(self, folder: pathlib.Path) -> None:
        """Write adapter and optimiser; one device or several, it is the same checkpoint."""
        self._local.save(folder)

    def load(self, folder: pathlib.Path) -> None:
        """Restore adapter and optimiser exactly, on every device.

        :raises UsageError: when the folder does not hold this model's adapter.
        """
        self._local.load(folder)
        group = self._joined_group()
        for worker in self._workers:
            worker.send(messages.RankMessage("broadcast"))
        group.broadcast(self._local.adapter)

    def adapter_digest(self) -> str:
        """SHA-256 over the adapter's weights."""
        digest: str = self._local.adapter_digest()
        return digest

    def close(self) -> None:
        """End the other processes and release the model."""
        for worker in self._workers:
            with contextlib.suppress(EnvironmentLacksError):  # it has ended already
                worker.send(messages.RankMessage("close"))
        if self._group is not None:
            self._group.leave()
        for worker in self._workers:
            try:
                worker.process.wait(timeout=_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.channel.close()
        for file in self._folder.glob("*"):
            file.unlink()
        self._folder.rmdir()
        self._local.close()


def _forward(samples: Iterator[Sample], arrived: _SampleQueue) -> None:
    """Pass on what comes, then the end or the error."""
    try:
        for sample in samples:
            arrived.put(sample)
    except BaseException as error:  # noqa: BLE001 - raised again where the samples are taken
        arrived.put(error)
    else:
        arrived.put(None)


def _samples_from(worker: WorkerProcess) -> Iterator[Sample]:
    """A rank's samples until it says that it is done."""
    while (message := worker.receive()).kind == "sample":
        yield messages.read_sample(message)
