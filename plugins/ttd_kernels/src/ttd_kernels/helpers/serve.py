"""The candidate's side of the harness: builds the inputs where it is told to, calls the kernel, copies out.

Runs in the sandbox, in the candidate's own process. Nothing it says is believed: outputs are read from
shared memory and times are bounded by the trusted side's own clock. It is loaded before the candidate's
source and keeps its own references to what it calls, so that an honest program that renames things by
accident does not break it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import sys
import time
import traceback
import types

import torch

memory = sys.modules["ttd_memory"]
attach, view = memory.attach, memory.view
_clock, _read, _write, _select = time.perf_counter, os.read, os.write, select.select
_loads, _dumps = json.loads, json.dumps
_Tensor, _walk = torch.Tensor, traceback.walk_tb


#: Longest that the word to start is waited for awake.
SPIN_S = 0.2


class Closed(Exception):
    """The trusted side hung up."""


class Service:
    """Answers the trusted side, one line of JSON for each line of JSON.

    :param descriptor: of the channel; after it come those of the inputs' and the outputs' memory.
    :param sizes: bytes of inputs and outputs.
    :param device: ``cpu`` or ``cuda:0``.
    """

    def __init__(self, descriptor, sizes, device):
        self.channel, self.device, self.buffer = descriptor, device, b""
        os.set_blocking(descriptor, False)
        self.cuda = device != "cpu"
        if self.cuda:
            torch.cuda.init()
            self.synchronize, self.stream = torch.cuda.synchronize, torch.cuda.current_stream
            self.set_stream, self.event = torch.cuda.set_stream, torch.cuda.Event
        self.inputs = attach(descriptor + 1, sizes[0], device)
        self.outputs = attach(descriptor + 2, sizes[1], device)
        if self.cuda:
            self.begun, self.done = (
                memory.Word(view(self.inputs, (at, "int32", [1]))) for at in (memory.START, memory.DONE)
            )
        self.data, self.places, self.null, self.ticket = None, [], [], 0
        self.kernel = lambda _data: tuple(self.null)

    # -- the channel ----------------------------------------------------------------------------------

    def hear(self, awake=False):
        """The next message; waited for ``awake`` where it starts a clock, for to be woken takes a while."""
        until = _clock() + (SPIN_S if awake else 0.0)
        while b"\n" not in self.buffer:
            try:
                chunk = _read(self.channel, 1 << 16)
            except BlockingIOError:
                if _clock() > until:
                    _select([self.channel], [], [])
                continue
            if not chunk:
                raise Closed
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        return _loads(line)

    def say(self, answer):
        _write(self.channel, _dumps(answer).encode() + b"\n")

    def serve(self, until):
        """Answer until told ``until``."""
        awake = False
        while True:
            told = self.hear(awake)
            awake = self.cuda and told["do"] == "prepare"
            if told["do"] == until:
                return
            try:
                answer = getattr(self, "do_" + told["do"])(told)
            except Closed:
                raise
            except BaseException as error:  # noqa: BLE001 (whatever a kernel raises is its result)
                answer = self.failure(error)
            self.say(answer)

    # -- what it is told to do --------------------------------------------------------------------------

    def do_hello(self, told):
        answer = {"torch": torch.__version__, "triton": getattr(sys.modules.get("triton"), "__version__", "")}
        if self.cuda:
            answer["device"] = torch.cuda.get_device_name()
        return answer

    def do_prepare(self, told):
        """Build the arguments of a call over memory that does not hold the inputs yet."""
        leaves = {name: view(self.inputs, place) for name, place in told["leaves"].items()}
        self.data, self.ticket = build(told["tree"], leaves), told["ticket"]
        self.places = [view(self.outputs, place) for place in told["outputs"]]
        self.null = [torch.empty_like(place) for place in self.places] if told["null"] else []
        return {"ready": True}

    def do_go(self, told):
        """Call the kernel and copy its outputs out, once the inputs are there."""
        return self.queue_on_gpu() if self.cuda else self.run_on_cpu()

    def run_on_cpu(self):
        self.say({"queued": True})
        self.hear()
        started = _clock()
        found = self.kernel(self.data)
        event_us = 1e6 * (_clock() - started)
        problem = self.copy_out(found)
        return {"wrong": problem} if problem else {"event_us": event_us}

    def queue_on_gpu(self):
        """Queue it all between two words, that inputs are there and that outputs are."""
        stream = self.stream()
        start, end = self.event(enable_timing=True), self.event(enable_timing=True)
        self.synchronize()
        self.begun.wait(self.ticket, stream.cuda_stream)
        start.record(stream)
        found = self.kernel(self.data)
        end.record(stream)
        self.set_stream(stream)
        problem = self.copy_out(found)
        self.done.write(self.ticket, stream.cuda_stream)
        self.say({"queued": True})
        self.synchronize()
        return {"wrong": problem} if problem else {"event_us": 1e3 * start.elapsed_time(end)}

    def copy_out(self, found):
        """Put the outputs into the shared memory; what is wrong with them, or nothing."""
        given = list(found) if isinstance(found, (tuple, list)) else [found]
        if len(given) != len(self.places):
            return f"returned {len(given)} values; {len(self.places)} are expected"
        for number, (one, place) in enumerate(zip(given, self.places, strict=True)):
            which = f"output {number + 1}" if len(given) > 1 else "the output"
            if type(one) is not _Tensor and type(one) is not torch.nn.Parameter:
                return f"{which} is {type(one).__name__}, not a plain tensor"
            if one.dtype != place.dtype:
                return f"{which} is {one.dtype}; {place.dtype} is expected"
            if one.shape != place.shape:
                return f"{which} has shape {list(one.shape)}; {list(place.shape)} is expected"
            if one.device != place.device:
                return f"{which} is on {one.device}; {place.device} is expected"
            place.copy_(one.detach())
        return ""

    def failure(self, error):
        """An error with the candidate's line, for the verdict."""
        line = None
        for frame, number in _walk(error.__traceback__):
            if frame.f_code.co_filename == "<candidate>":
                line = number
        text = " ".join(str(error).split())[:300]
        where = f" (line {line})" if line else ""
        sys.stderr.write("".join(traceback.format_exception(error, limit=-6))[-3000:])
        kind = "memory" if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) else "crash"
        if isinstance(error, OSError) and error.errno in {errno.EPERM, errno.EACCES, errno.EROFS}:
            kind = "forbidden"
        return {"failed": f"{type(error).__name__}: {text}{where}", "kind": kind}


def build(tree, leaves):
    """Arguments out of JSON: ``{"$leaf": name}`` is a tensor, ``{"$tuple": [...]}`` a tuple, and
    ``{"$make": name, "with": {...}}`` an object of the ``reference`` module."""
    if isinstance(tree, list):
        return [build(each, leaves) for each in tree]
    if not isinstance(tree, dict):
        return tree
    if "$leaf" in tree:
        return leaves[tree["$leaf"]]
    if "$tuple" in tree:
        return tuple(build(each, leaves) for each in tree["$tuple"])
    if "$make" in tree:
        given = {name: build(each, leaves) for name, each in tree["with"].items()}
        return getattr(sys.modules["reference"], tree["$make"])(**given)
    return {name: build(each, leaves) for name, each in tree.items()}


def start(descriptor, sizes, device):
    """Serve the trusted side until it asks for the candidate; what then goes on with it."""
    service = Service(descriptor, sizes, device)
    service.serve("load")
    service.null = []

    def judge(namespace):
        kernel = namespace.get("custom_kernel")
        if not callable(kernel):
            service.say({"failed": "the program defines no function custom_kernel", "kind": "crash"})
            return
        service.kernel = kernel
        service.say({"loaded": True})
        # once the trusted side knows enough, it hangs up
        with contextlib.suppress(Closed):
            service.serve("end")

    return judge


def reference_module(source):
    """The module ``reference`` that candidates import from."""
    module = types.ModuleType("reference")
    sys.modules["reference"] = module
    exec(compile(source, "<reference>", "exec"), module.__dict__)
