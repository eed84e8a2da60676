"""Triton's CPU interpreter, made to judge kernels that are right on a GPU as right.

It keeps bfloat16 as bit patterns and computes with those as if they were integers; it cannot choose among an
autotuner's configurations, having nothing to time; and before Triton 3.9 it cannot loop to a bound known at
run time under NumPy 2.4. Here bfloat16 operands are widened first, the first configuration is taken, and a
tensor of one number is an index.
"""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl
from triton.runtime import interpreter

_Handle = interpreter.TensorHandle


def _is_narrow(handle):
    return handle.dtype.scalar == tl.bfloat16 and handle.data.dtype == np.uint16


def _wide(handle):
    if not _is_narrow(handle):
        return handle
    return _Handle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)


def _narrow(data):
    """float32 to the bit patterns of bfloat16, to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(data, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(data), 0x7FC0, rounded).astype(np.uint16).reshape(np.shape(data))


def _of_kind(output, kind):
    """An operation's result as the kind its operand had: comparisons stay what they are."""
    if output.data.dtype == np.float32:
        return _Handle(_narrow(output.data), kind)
    return _Handle(output.data, kind)


def _make_indices():
    """Give a bound of a loop as a number: Triton asks NumPy for that of an array of one dimension."""
    patch = interpreter._patch_lang_tensor

    def patch_lang_tensor(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patch_lang_tensor


def apply():
    """Make the changes in this process, for all kernels that it interprets."""
    builder = interpreter.InterpreterBuilder
    binary, unary, dot, cast = builder.binary_op, builder.unary_op, builder.create_dot, builder.cast_impl

    def binary_op(self, lhs, rhs, op):
        if not (_is_narrow(lhs) or _is_narrow(rhs)):
            return binary(self, lhs, rhs, op)
        return _of_kind(binary(self, _wide(lhs), _wide(rhs), op), tl.bfloat16)

    def unary_op(self, arg, op):
        if not _is_narrow(arg):
            return unary(self, arg, op)
        return _of_kind(unary(self, _wide(arg), op), tl.bfloat16)

    def create_dot(self, a, b, d, *rest):
        return dot(self, _wide(a), _wide(b), d, *rest)

    def cast_impl(self, src, dst_type):
        to_narrow = dst_type.scalar == tl.bfloat16
        if not (_is_narrow(src) or to_narrow) or src.dtype.scalar == dst_type.scalar:
            return cast(self, src, dst_type)
        wide = _wide(src)
        if to_narrow:
            return _Handle(_narrow(wide.data.astype(np.float32)), tl.bfloat16)
        return wide if dst_type.scalar == tl.float32 else cast(self, wide, dst_type)

    builder.binary_op, builder.unary_op = binary_op, unary_op
    builder.create_dot, builder.cast_impl = create_dot, cast_impl
    autotuner = triton.runtime.autotuner.Autotuner
    make = autotuner.__init__

    def with_one_configuration(self, fn, arg_names, configs, *rest, **named):
        make(self, fn, arg_names, configs[:1], *rest, **named)

    autotuner.__init__ = with_one_configuration
    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9):
        _make_indices()
