"""One rank of a policy over several devices: ``python -m MODULE FD RANK RANKS RENDEZVOUS``, of this module.

Started by :mod:`.parallel`, which alone talks to it, over the socket ``FD``. It is first sent the run's
``config`` and answers ``ready``; then one request is answered after another:

- ``sample``: with a ``sample`` for each reply as it finishes, then ``done``;
- ``base_logprobs``: with the same;
- ``accumulate``: gradients of a batch are summed in this process; with ``totals``;
- ``reduce``: gradients go to rank 0, whose new adapter comes back; no answer;
- ``broadcast``: rank 0's adapter comes; no answer;
- ``close``: the process ends.

What fails is answered with ``error``, and ends it.
"""

from __future__ import annotations

import pathlib
import socket
import sys

import torch

from ttd_core import config as configs
from ttd_core.errors import one_line
from ttd_core.policy.base import SamplingParams
from ttd_core.policy.local import messages
from ttd_core.policy.local.parallel import ProcessGroup
from ttd_core.policy.local.policy import LocalPolicy, open_rank


def main(arguments: list[str]) -> int:
    """Serve until told to close, or until rank 0 is gone."""
    descriptor, rank, ranks = (int(argument) for argument in arguments[:3])
    with socket.socket(fileno=descriptor) as channel:
        first = messages.receive(channel)
        if first is None:
            return 1
        try:
            policy = open_rank(configs.from_toml(first.header), rank)
            messages.send(channel, messages.RankMessage("ready"))
            device = next(iter(policy.adapter)).device
            if device.type == "cuda":
                torch.cuda.set_device(device)
            group = ProcessGroup.join(rank, ranks, pathlib.Path(arguments[3]), device)
            group.broadcast(policy.adapter)
            _serve(channel, policy, group)
        except Exception as error:  # noqa: BLE001 - rank 0 says it, with the rank
            messages.send(channel, messages.RankMessage("error", one_line(error)))
            return 1
        group.leave()
    return 0


def _serve(channel: socket.socket, policy: LocalPolicy, group: ProcessGroup) -> None:
    """Answer requests one after another."""
    while (request := messages.receive(channel)) is not None and request.kind != "close":
        header = request.header
        if request.kind == "sample":
            indices = [range(first, last) for first, last in header["indices"]]
            params = SamplingParams(**header["params"])
            for sample in policy.sample_indices(header["prompts"], indices, params):
                messages.send(channel, messages.sample_message(sample))
            messages.send(channel, messages.RankMessage("done"))
        elif request.kind == "base_logprobs":
            completions = messages.decode_completions(header["texts"], request.arrays)
            logprobs = policy.base_logprobs(request.arrays["prompt"], completions, header["temperature"])
            arrays = {str(index): array for index, array in enumerate(logprobs)}
            messages.send(channel, messages.RankMessage("base_logprobs", None, arrays))
        elif request.kind == "accumulate":
            batch, temperature = messages.read_batch(request)
            totals = policy.accumulate_gradients(batch, temperature)
            arrays = messages.recomputed_arrays(batch)
            messages.send(channel, messages.RankMessage("totals", totals.as_dict(), arrays))
        elif request.kind == "reduce":
            group.reduce_gradients(policy.adapter)
            group.broadcast(policy.adapter)
        elif request.kind == "broadcast":
            group.broadcast(policy.adapter)
        else:
            raise ValueError(f"unknown request '{request.kind}'")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
