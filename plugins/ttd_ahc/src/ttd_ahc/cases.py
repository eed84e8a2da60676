"""What a contest's cases are made of: inputs and answers."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

#: An answer as integers, int32 [rows, width]; a contest says what a row is.
Answer = npt.NDArray[np.int32]


@attrs.frozen(eq=False)
class Case:
    """One case: the input that a seed stands for.

    :param seed: unsigned 64-bit.
    :param text: the input as a program reads it from standard input.
    :param input: the same input as the contest scores with it; of whatever type the contest likes.
    """

    seed: int
    text: str
    input: Any


class InvalidAnswer(ValueError):
    """An answer breaks a rule of the contest; the message says which, and where."""
