"""The candidate's side of the harness: builds the inputs where it is told to, calls the kernel, copies out.

Runs in the sandbox, in the candidate's own process. Nothing it says is believed: the judge reads outputs from
shared memory and bounds times by its own clock. It is loaded before the candidate's source and keeps its own
references to what it calls, so that an honest program that renames things by accident does not break it.
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

shared_memory = sys.modules["ttd_shared_memory"]
attach, tensor_at = shared_memory.attach, shared_memory.tensor_at
_clock, _read, _write, _select = time.perf_counter, os.read, os.write, select.select
_loads, _dumps = json.loads, json.dumps
_Tensor, _walk = torch.Tensor, traceback.walk_tb


#: Longest that the message to start is waited for without sleeping, seconds.
SPIN_S = 0.2


class ClosedError(Exception):
    """The judge hung up."""


class Service:
    """Answers the judge, one line of JSON for each line of JSON.

    :param descriptor: of the channel; after it come those of the inputs' and the outputs' memory.
    :param sizes: bytes of the inputs' and of the outputs' memory.
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
            self.start_semaphore, self.done_semaphore = (
                shared_memory.Semaphore(tensor_at(self.inputs, (offset, "int32", [1])))
                for offset in (shared_memory.START_OFFSET, shared_memory.DONE_OFFSET)
            )
        self.data, self.output_tensors, self.empty_outputs, self.call_number = None, [], [], 0
        self.kernel, self.spin = self.run_empty, 0

    # -- the channel ----------------------------------------------------------------------------------

    def receive(self, spin=False):
        """The next message; waited for without sleeping (``spin``) where it starts a clock, for to be woken
        takes a while."""
        until = _clock() + (SPIN_S if spin else 0.0)
        while b"\n" not in self.buffer:
            try:
                chunk = _read(self.channel, 1 << 16)
            except BlockingIOError:
                if _clock() > until:
                    _select([self.channel], [], [])
                continue
            if not chunk:
                raise ClosedError
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        return _loads(line)

    def send(self, message):
        _write(self.channel, _dumps(message).encode() + b"\n")

    def serve(self, until):
        """Answer until told ``until``."""
        spin = False
        while True:
            message = self.receive(spin)
            spin = self.cuda and message["do"] == "prepare"
            if message["do"] == until:
                return
            try:
                reply = getattr(self, "do_" + message["do"])(message)
            except ClosedError:
                raise
            except BaseException as error:  # noqa: BLE001 (whatever a kernel raises is its result)
                reply = self.failure(error)
            self.send(reply)

    # -- what it is told to do --------------------------------------------------------------------------

    def do_hello(self, message):
        reply = {"torch": torch.__version__, "triton": getattr(sys.modules.get("triton"), "__version__", "")}
        if self.cuda:
            reply["device"] = torch.cuda.get_device_name()
        return reply

    def do_prepare(self, message):
        """Build the argument of a call over memory that does not hold the inputs yet."""
        tensors = {name: tensor_at(self.inputs, location) for name, location in message["tensors"].items()}
        self.data, self.call_number = build(message["argument"], tensors), message["call_number"]
        self.spin = message["spin"]
        self.output_tensors = [tensor_at(self.outputs, location) for location in message["outputs"]]
        self.empty_outputs = (
            [torch.empty_like(tensor) for tensor in self.output_tensors] if message["empty"] else []
        )
        return {"ready": True}

    def do_go(self, message):
        """Call the kernel and copy its outputs out, once the inputs are there."""
        return self.queue_on_gpu() if self.cuda else self.run_on_cpu()

    def run_empty(self, _data):
        """Stands for the kernel before there is one: no work, but where looks at it are tried out."""
        if self.cuda and self.spin:
            torch.cuda._sleep(self.spin)
        return tuple(self.empty_outputs)

    def run_on_cpu(self):
        self.send({"queued": True})
        self.receive()
        started = _clock()
        returned = self.kernel(self.data)
        event_us = 1e6 * (_clock() - started)
        wrong = self.copy_out(returned)
        return {"wrong": wrong} if wrong else {"event_us": event_us}

    def queue_on_gpu(self):
        """Queue it all between two semaphores: that the inputs are there, and that the outputs are."""
        stream = self.stream()
        kernel_start, kernel_end = self.event(enable_timing=True), self.event(enable_timing=True)
        self.synchronize()
        self.start_semaphore.wait(self.call_number, stream.cuda_stream)
        kernel_start.record(stream)
        returned = self.kernel(self.data)
        kernel_end.record(stream)
        self.set_stream(stream)
        wrong = self.copy_out(returned)
        self.done_semaphore.signal(self.call_number, stream.cuda_stream)
        self.send({"queued": True})
        self.synchronize()
        return {"wrong": wrong} if wrong else {"event_us": 1e3 * kernel_start.elapsed_time(kernel_end)}

    def copy_out(self, returned):
        """Put the outputs into the shared memory; returns what is wrong with them, or nothing."""
        outputs = list(returned) if isinstance(returned, (tuple, list)) else [returned]
        if len(outputs) != len(self.output_tensors):
            return f"returned {len(outputs)} values; {len(self.output_tensors)} are expected"
        for number, (output, target) in enumerate(zip(outputs, self.output_tensors, strict=True)):
            which = f"output {number + 1}" if len(outputs) > 1 else "the output"
            if type(output) is not _Tensor and type(output) is not torch.nn.Parameter:
                return f"{which} is {type(output).__name__}, not a plain tensor"
            if output.dtype != target.dtype:
                return f"{which} is {output.dtype}; {target.dtype} is expected"
            if output.shape != target.shape:
                return f"{which} has shape {list(output.shape)}; {list(target.shape)} is expected"
            if output.device != target.device:
                return f"{which} is on {output.device}; {target.device} is expected"
            target.copy_(output.detach())
        return ""

    def failure(self, error):
        """An error with the candidate's line, for the verdict."""
        line = None
        for frame, number in _walk(error.__traceback__):
            if frame.f_code.co_filename == "<candidate>":
                line = number
        beyond = None if self.cuda else sys.modules["ttd_interpreter_limits"].what_is_beyond(error)
        error = beyond or error
        text = " ".join(str(error).split())[:300]
        where = f" (line {line})" if line else ""
        if beyond is None:
            sys.stderr.write("".join(traceback.format_exception(error, limit=-6))[-3000:])
        kind = "memory" if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) else "crash"
        if isinstance(error, OSError) and error.errno in {errno.EPERM, errno.EACCES, errno.EROFS}:
            kind = "forbidden"
        if beyond is not None:
            kind = "uninterpretable"
        return {"failed": f"{type(error).__name__}: {text}{where}", "kind": kind}


def build(argument, tensors):
    """The kernel's argument out of JSON: ``{"$tensor": name}`` is a tensor, ``{"$tuple": [...]}`` a tuple,
    and ``{"$make": name, "with": {...}}`` an object of the ``reference`` module."""
    if isinstance(argument, list):
        return [build(each, tensors) for each in argument]
    if not isinstance(argument, dict):
        return argument
    if "$tensor" in argument:
        return tensors[argument["$tensor"]]
    if "$tuple" in argument:
        return tuple(build(each, tensors) for each in argument["$tuple"])
    if "$make" in argument:
        fields = {name: build(each, tensors) for name, each in argument["with"].items()}
        return getattr(sys.modules["reference"], argument["$make"])(**fields)
    return {name: build(each, tensors) for name, each in argument.items()}


def start(descriptor, sizes, device):
    """Serve the judge until it asks for the candidate; returns what goes on with that one's namespace."""
    service = Service(descriptor, sizes, device)
    service.serve("load")
    service.empty_outputs = []

    def serve_candidate(namespace):
        kernel = namespace.get("custom_kernel")
        if not callable(kernel):
            service.send({"failed": "the program defines no function custom_kernel", "kind": "crash"})
            return
        service.kernel = kernel
        service.send({"loaded": True})
        # once the judge knows enough, it hangs up
        with contextlib.suppress(ClosedError):
            service.serve("end")

    return serve_candidate


def install_reference(source):
    """Make the module ``reference`` that candidates import from."""
    module = types.ModuleType("reference")
    sys.modules["reference"] = module
    exec(compile(source, "<reference>", "exec"), module.__dict__)
