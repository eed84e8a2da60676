"""The judge as a process of its own: one line of JSON for each candidate in, memory out, one judgement back.

Started as ``python -P -m ttd_kernels.harness.judge_process DESCRIPTOR`` by
:class:`~ttd_kernels.harness.judge_client.JudgeProcess`, and kept for the next candidate on the same device,
since a context on a GPU takes seconds to make.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib
import json
import socket
import sys
from typing import Any

import torch

from ttd_core.errors import one_line
from ttd_kernels.harness.channel import Channel
from ttd_kernels.harness.evaluation_plan import EvaluationPlan, KernelDefinition
from ttd_kernels.harness.gpus import CPU
from ttd_kernels.harness.launch import KnownOfProblem, evaluate_over, open_session
from ttd_kernels.harness.stopwatch import Stopwatch


def serve(connection: socket.socket) -> None:
    """Evaluate candidates until the other end closes."""
    torch.set_float32_matmul_precision("highest")
    known: collections.defaultdict[tuple[str, bool], KnownOfProblem] = collections.defaultdict(KnownOfProblem)
    with connection.makefile("rb") as requests:
        for line in requests:
            request = json.loads(line)
            of_problem = known[request["problem"], request["plan"]["flush_l2"]]
            judgement = _evaluate(connection, request, of_problem)
            with contextlib.suppress(BrokenPipeError):  # nobody waits any more
                connection.sendall(json.dumps(judgement).encode() + b"\n")


def _evaluate(connection: socket.socket, request: dict[str, Any], known: KnownOfProblem) -> dict[str, Any]:
    """Evaluate one candidate: first send what its process needs, then lead it through the plan.

    :param request: what :func:`ttd_kernels.harness.judge_client.evaluation_request` says.
    :param known: from earlier candidates for the same problem; a judge has one device.
    """
    kernel = _kernel(request["problem"], request["options"])
    plan = EvaluationPlan.from_json(request["plan"])
    watch = Stopwatch()
    with watch.part("memory"):
        session = open_session(kernel, plan, request["device"], known)
    try:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                sizes = json.dumps({"sizes": session.sizes, "seconds": watch.seconds}).encode()
                socket.send_fds(connection, [sizes], [theirs.fileno(), *session.descriptors])
            return evaluate_over(Channel(ours), kernel, plan, session, request["timeout_s"], watch, known)
    finally:
        session.close()
        del session
        if request["device"] != CPU:
            # a policy may share the GPU
            torch.cuda.empty_cache()


def _kernel(name: str, options: dict[str, Any]) -> KernelDefinition:
    """The problem of a class named ``module:Class``, with these options."""
    module, _, qualified_name = name.partition(":")
    problem: Any = functools.reduce(getattr, qualified_name.split("."), importlib.import_module(module))
    kernel: KernelDefinition = problem(problem.options_type(**options))
    return kernel


def main() -> None:
    """Serve at the descriptor that the command line names."""
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        try:
            serve(connection)
        except Exception as error:
            sys.stderr.write(f"{one_line(error)}\n")
            raise


if __name__ == "__main__":
    main()
