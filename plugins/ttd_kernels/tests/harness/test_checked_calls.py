"""Calls whose outputs are compared, and what is said of outputs that come after *done*."""

from __future__ import annotations

import random

import pytest

from ttd_core.types import Status
from ttd_kernels.harness.checked_calls import CheckedCalls
from ttd_kernels.harness.device_session import CallResult
from ttd_kernels.harness.looks import LookResult
from ttd_kernels.harness.replies import EvaluationError
from ttd_kernels.harness.stopwatch import Stopwatch
from ttd_kernels.rmsnorm import RmsNorm

KERNEL = RmsNorm()
SHAPE = KERNEL.small_shapes(random.Random(0))[0]


class Session:
    """A session on which the kernel is always right, and its outputs complete but for so many samples.

    :param changed: samples that were not complete at *done*.
    :param scale: of the first output; 1 is right.
    """

    device = "cpu"

    def __init__(self, changed: int = 0, scale: float = 1.0) -> None:
        self.changed, self.scale = changed, scale
        self.looks: list[bool] = []

    def call_kernel(self, _channel, inputs, _specs, _timeout_s, empty=False, look=False) -> CallResult:
        self.looks.append(look)
        first, *others = KERNEL.expected_outputs(inputs)
        found = LookResult(self.changed, 200, 5.0) if look else None
        return CallResult([first * self.scale, *others], 10.0, 700.0, 5.0, True, found)


def _calls(session: Session) -> CheckedCalls:
    return CheckedCalls(KERNEL, session, None, 1e9, Stopwatch())


def test_outputs_that_were_incomplete_at_done_are_rejected_in_words() -> None:
    calls = _calls(Session(changed=3))
    assert calls.call(SHAPE).look is None
    with pytest.raises(EvaluationError, match="before its outputs are complete: 3 of 200 samples") as raised:
        calls.call(SHAPE, look=True)
    assert raised.value.status is Status.REJECTED
    assert raised.value.message.startswith("T=16 D=128: ")


def test_wrong_outputs_are_called_wrong_whatever_a_look_found() -> None:
    with pytest.raises(EvaluationError, match="output 1 is wrong") as raised:
        _calls(Session(changed=3, scale=2.0)).call(SHAPE, look=True)
    assert raised.value.status is Status.INVALID


def test_complete_outputs_pass_and_the_time_goes_to_its_parts() -> None:
    session = Session()
    calls = _calls(session)
    assert calls.call(SHAPE, look=True).look == LookResult(0, 200, 5.0)
    calls.call(SHAPE)
    assert set(calls.watch.seconds["start"]) == {"inputs", "first calls", "calls", "reference", "comparison"}


def test_the_first_empty_calls_are_looked_at_and_the_reference_comes_before_those_that_count() -> None:
    session, order = Session(), []
    calls = _calls(session)
    call, expected = session.call_kernel, KERNEL.expected_outputs
    session.call_kernel = lambda *a, **k: order.append("call") or call(*a, **k)

    class Kernel(RmsNorm):
        """Notes when its reference is computed."""

        def expected_outputs(self, inputs):
            order.append("reference")
            return expected(inputs)

    calls._kernel = Kernel()
    calls.empty_calls(SHAPE, 4, looks=2)
    assert order == ["call", "call", "reference", "call", "reference", "call", "reference"]
