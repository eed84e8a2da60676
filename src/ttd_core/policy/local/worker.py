"""One rank of a policy over several devices: ``python -m MODULE FD RANK RANKS MEETING``, of this module.

Started by :mod:`.parallel`, which alone can talk to it, over the socket ``FD``.
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
from ttd_core.policy.local.parallel import Ranks
from ttd_core.policy.local.policy import LocalPolicy, open_one


def main(arguments: list[str]) -> int:
    """Serve until told to close, or until rank 0 is gone."""
    descriptor, rank, ranks = (int(argument) for argument in arguments[:3])
    with socket.socket(fileno=descriptor) as channel:
        first = messages.receive(channel)
        if first is None:
            return 1
        try:
            policy = open_one(configs.from_toml(first.header), rank)
            messages.send(channel, messages.Frame("ready"))
            device = next(iter(policy.adapter)).device
            if device.type == "cuda":
                torch.cuda.set_device(device)
            group = Ranks.join(rank, ranks, pathlib.Path(arguments[3]), device)
            group.publish(policy.adapter)
            _serve(channel, policy, group)
        except Exception as error:  # noqa: BLE001 - rank 0 says it, with the rank
            messages.send(channel, messages.Frame("error", one_line(error)))
            return 1
        group.leave()
    return 0


def _serve(channel: socket.socket, policy: LocalPolicy, group: Ranks) -> None:
    """Answer requests one after another."""
    while (frame := messages.receive(channel)) is not None and frame.kind != "close":
        header = frame.header
        if frame.kind == "sample":
            shares = [range(first, last) for first, last in header["shares"]]
            params = SamplingParams(**header["params"])
            for sample in policy.sample_shares(header["prompts"], shares, params):
                messages.send(channel, messages.sample_frame(sample))
            messages.send(channel, messages.Frame("done"))
        elif frame.kind == "base":
            completions = messages.unpack_completions(header["texts"], frame.arrays)
            found = policy.base_logprobs(frame.arrays["prompt"], completions, header["temperature"])
            messages.send(
                channel, messages.Frame("base", None, {str(n): array for n, array in enumerate(found)})
            )
        elif frame.kind == "learn":
            totals = policy.accumulate(*messages.batch_of(frame))
            messages.send(channel, messages.Frame("totals", totals.as_dict()))
        elif frame.kind == "sum":
            group.sum_gradients(policy.adapter)
            group.publish(policy.adapter)
        elif frame.kind == "publish":
            group.publish(policy.adapter)
        else:
            raise ValueError(f"unknown request '{frame.kind}'")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
