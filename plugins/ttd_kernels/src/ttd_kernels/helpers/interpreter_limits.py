"""What Triton's CPU interpreter, and a machine without a GPU, cannot run, told apart from a candidate's bugs.

The interpreter says so in several ways: by errors of its own, by operations it does not have, and by Triton's
"forget to add @triton.jit" over functions that exist for GPUs only; torch and CUDA's libraries by errors over
what is not there. libdevice's functions silently give nothing; here they raise.
"""

from __future__ import annotations

import inspect
import linecache
import re

from triton.runtime import interpreter

#: Files that raise errors only where there is no GPU.
_GPU_FILES = re.compile(
    r"/torch/cuda/|/triton/runtime/driver\.py|/triton/backends/|/cuda/(pathfinder|bindings)/"
)
_UNSUPPORTED = re.compile(r"not supported|unsupported", re.IGNORECASE)
#: Errors by which a program itself asks for a GPU.
_ASKED = (AssertionError, RuntimeError, ValueError, NotImplementedError, TypeError)
_GPU_WORDS = re.compile(r"\b(cuda|gpu|nvidia|hopper|is_cuda)\b", re.IGNORECASE)
#: What a launch returns on a GPU has these; interpreted, it returns nothing.
_COMPILED = {
    "asm",
    "metadata",
    "kernel",
    "function",
    "n_regs",
    "n_spills",
    "n_max_threads",
    "packed_metadata",
}


_no_gpu = None


class NotInterpretedError(Exception):
    """A function that only GPUs have was called in the interpreter."""


def apply(no_gpu):
    """Make libdevice's functions raise.

    :param no_gpu: a regular expression of what is said by whoever misses a GPU.
    """
    global _no_gpu
    _no_gpu = re.compile(no_gpu)
    from triton.language.extra import libdevice  # noqa: PLC0415 - not every release has it

    for name, function in inspect.getmembers(libdevice, inspect.isfunction):
        if function.__module__ == libdevice.__name__:
            setattr(libdevice, name, _raising(name))


def _raising(name):
    def not_interpreted(*_arguments, **_named):
        raise NotInterpretedError(f"libdevice.{name} is a function of GPUs")

    return not_interpreted


def what_is_beyond(error):
    """The error that says it is for want of a GPU, among one and those it came from; ``None`` for a bug.

    :param error: what the candidate's process raised.
    """
    chain, interpreted = [], False
    while error is not None and error not in chain:
        chain.append(error)
        interpreted = interpreted or type(error).__name__ == "InterpreterError"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return next((each for each in chain if _is_beyond(each, interpreted)), None)


def _is_beyond(error, interpreted):
    text, (file, line) = str(error), _raised_at(error)
    if isinstance(error, NotInterpretedError) or _GPU_FILES.search(file):
        return True
    if file == interpreter.__file__:
        lacking = isinstance(error, NotImplementedError) or _UNSUPPORTED.search(text)
        return bool(lacking) and type(error).__name__ != "InterpreterError"
    if isinstance(error, AttributeError):
        if isinstance(error.obj, interpreter.InterpreterBuilder | interpreter.InterpretedFunction):
            return True
        return error.obj is None and error.name in _COMPILED
    if interpreted and isinstance(error, ValueError) and "forget to add @triton.jit" in text:
        # What interpreted kernels call of Triton's is patched, but for what lies beyond the language proper.
        return True
    if file == "<candidate>" and type(error) in _ASKED and not interpreted:
        said = text or linecache.getline(file, line)
        return bool(_GPU_WORDS.search(said) or _no_gpu.search(said))
    return isinstance(error, (*_ASKED, OSError)) and bool(_no_gpu.search(text))


def _raised_at(error):
    """The file and line where an error was raised."""
    trace = error.__traceback__
    if trace is None:
        return "", 0
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename, trace.tb_lineno
