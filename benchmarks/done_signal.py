"""How many microseconds a program hides that says *done* before its outputs are complete, by the lead.

One candidate's process runs a right TriMul and signals *done* some microseconds before it writes the last
quarter of its outputs, as ``signals_done_a_little_early.py`` among the plugin's cheats does, with another
lead every few calls; what it does meanwhile stands for work. Unlike the cheat it says truly what it took, so
that a table can give for each lead what it took, what the judge's clock saw beyond empty calls, and the
difference: *hidden*. It also gives how many calls were read incomplete, how many of those that were looked
at were caught, and how old the looks were. The first row is an honest program.

Needs an NVIDIA GPU; exits with 3 where there is none.

    python benchmarks/done_signal.py [--leads 0 1 2 5 10 20 50 100 200 500 1000] [--calls 12] [--looks 12]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import pathlib
import socket
import statistics
import sys
import time
from typing import Any

from command_line import finite, leave, non_negative_int, require_packages, run_benchmark, writable

require_packages("torch")

from rich.console import Console
from rich.table import Table

from ttd_core.config.settings import fill
from ttd_core.problem import Execute
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Status
from ttd_kernels.harness import gpus
from ttd_kernels.harness.candidate import Candidate
from ttd_kernels.harness.channel import Channel
from ttd_kernels.harness.checked_calls import CheckedCalls
from ttd_kernels.harness.empty_calls import EmptyCallTime, KnownEmptyCalls
from ttd_kernels.harness.evaluation_plan import EvaluationPlan
from ttd_kernels.harness.launch import KnownOfProblem, open_session
from ttd_kernels.harness.replies import EvaluationError, reply_value
from ttd_kernels.harness.shape_timer import ShapeTimer
from ttd_kernels.harness.stopwatch import Stopwatch
from ttd_kernels.harness.timing import TimingRules
from ttd_kernels.trimul import TriMul

CHEATS = pathlib.Path(__file__).parent.parent / "plugins" / "ttd_kernels" / "tests" / "cheats"
DEVICE, SHAPE = "cuda:0", TriMul.timed_shapes[0]
#: Lead of an honest program: *done* comes last.
HONEST = -1.0
#: Put after a right program: it signals *done* early, with another lead every so many calls once two warm-ups
#: are over, and claims what its kernel and the work that stands for more of it took.
SWEEP = """
import gc
import itertools

LEADS, EACH, CALLS, CYCLES_PER_US = {leads!r}, {each}, itertools.count(-2), 1980
SERVICE = next(each for each in gc.get_objects() if type(each).__name__ == "Service")


def swept(message):
    lead = LEADS[min(max(next(CALLS), 0) // EACH, len(LEADS) - 1)]
    stream = SERVICE.stream()
    events = [SERVICE.event(enable_timing=True) for _ in range(4)]
    SERVICE.synchronize()
    SERVICE.start_semaphore.wait(SERVICE.call_number, stream.cuda_stream)
    events[0].record(stream)
    out, target = SERVICE.kernel(SERVICE.data).reshape(-1), SERVICE.output_tensors[0].reshape(-1)
    events[1].record(stream)
    most = 3 * out.numel() // 4
    target[:most].copy_(out[:most])
    if lead >= 0:
        SERVICE.done_semaphore.signal(SERVICE.call_number, stream.cuda_stream)
    events[2].record(stream)
    if lead > 0:
        torch.cuda._sleep(int(lead * CYCLES_PER_US))
    events[3].record(stream)
    target[most:].copy_(out[most:])
    if lead < 0:
        SERVICE.done_semaphore.signal(SERVICE.call_number, stream.cuda_stream)
    SERVICE.send({{"queued": True}})
    SERVICE.synchronize()
    return {{"event_us": 1e3 * (events[0].elapsed_time(events[1]) + events[2].elapsed_time(events[3]))}}


SERVICE.do_go = swept
custom_kernel = right
"""


def program(leads: list[float], each: int) -> str:
    """A program with these leads in turn, ``each`` calls of every one."""
    return (CHEATS / "right.py").read_text() + SWEEP.format(leads=leads, each=each)


def one_call(calls: CheckedCalls, empty: EmptyCallTime, look: bool) -> dict[str, Any]:
    """One call: its times where it was right, else why it was not. JSON."""
    try:
        result = calls.call(SHAPE, look)
    except EvaluationError as error:
        if error.status not in (Status.INVALID, Status.REJECTED):
            raise
        return {"caught" if error.status is Status.REJECTED else "incomplete": error.message}
    times = {"took_us": result.claimed_us, "judge_us": result.wall_us - empty.wall_us}
    return times if result.look is None else {**times, "age_us": result.look.age_us}


def sweep(arguments: argparse.Namespace, execute: Execute) -> dict[str, Any]:
    """Every lead's calls, as JSON: ``empty``, what an empty call takes, and ``leads``."""
    problem = TriMul(fill(TriMul.options_type, {"timeout_s": 300.0}))
    plan = EvaluationPlan([], [SHAPE], [], measure=True)
    source = program(arguments.leads, arguments.calls + arguments.looks)
    candidate = Candidate(source, "", DEVICE, problem.options.limits())
    session, (ours, theirs) = open_session(problem, plan, DEVICE, KnownOfProblem()), socket.socketpair()
    try:
        job = candidate.job((theirs.fileno(), *session.descriptors), session.sizes)
        with ours, concurrent.futures.ThreadPoolExecutor(1) as runner:
            running = runner.submit(execute, job)
            channel = Channel(ours)
            try:
                calls = CheckedCalls(problem, session, channel, time.monotonic() + 300, Stopwatch())
                timer = ShapeTimer(calls, TimingRules(), 0, KnownEmptyCalls())
                channel.request({"do": "hello"}, 120.0)
                empty = timer.time_empty_call(SHAPE)
                reply_value(channel.request({"do": "load"}, 60.0), "loaded")
                for _ in range(2):
                    one_call(calls, empty, look=False)
                found: dict[str, Any] = {}
                for lead in arguments.leads:
                    looks = [number % 2 == 0 for number in range(2 * min(arguments.calls, arguments.looks))]
                    looks += [arguments.looks > arguments.calls] * abs(arguments.looks - arguments.calls)
                    found[str(lead)] = {"timed": [], "looked": []}
                    for look in looks:
                        found[str(lead)]["looked" if look else "timed"].append(one_call(calls, empty, look))
            finally:
                channel.hang_up()
                theirs.close()
                running.result()
    finally:
        session.close()
    return {"empty": {"us": empty.wall_us, "unseen_us": empty.unseen_us}, "leads": found}


def table_of(measured: dict[str, Any]) -> Table:
    """A row a lead."""
    empty = measured["empty"]
    table = Table(
        title=f"an empty call takes {empty['us']:.0f} us, its best look is {empty['unseen_us']:.1f} us old",
        title_justify="left",
    )
    for column in (
        "lead",
        "took",
        "judge's clock",
        "hidden",
        "read incomplete",
        "caught",
        "age: least, median",
    ):
        table.add_column(column, justify="right")
    for lead, rows in measured["leads"].items():
        right = [each for each in rows["timed"] if "took_us" in each]
        cells = ["-"] * 3
        if right:
            took, seen = (statistics.fmean(each[key] for each in right) for key in ("took_us", "judge_us"))
            cells = [f"{took:.1f}", f"{seen:.1f}", f"{took - seen:+.1f}"]
        incomplete = sum("incomplete" in each for each in (*rows["timed"], *rows["looked"]))
        caught = sum("caught" in each for each in rows["looked"])
        ages = sorted(each["age_us"] for each in rows["looked"] if "age_us" in each)
        age = f"{ages[0]:.1f}, {statistics.median(ages):.1f}" if ages else "-"
        count = len(rows["timed"]) + len(rows["looked"])
        table.add_row(
            "honest" if float(lead) < 0 else lead,
            *cells,
            f"{incomplete} of {count}",
            f"{caught} of {len(rows['looked'])}",
            age,
        )
    return table


def main() -> int:
    """Sweep, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    leads = [HONEST, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 300.0, 500.0, 1000.0]
    parser.add_argument("--leads", nargs="+", type=finite, default=leads, help="microseconds")
    parser.add_argument("--calls", type=non_negative_int, default=12, help="timed calls of each lead")
    parser.add_argument(
        "--looks", type=non_negative_int, default=12, help="calls of each lead that are looked at"
    )
    parser.add_argument("--json", type=writable, help="write all numbers into this file")
    arguments = parser.parse_args()
    if not gpus.count():
        leave("no GPU was found: this is measured on one")
    with LocalExecutor(1) as executor:
        measured = sweep(arguments, executor.run)
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1))
    Console(width=160).print(table_of(measured))
    return 0


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
