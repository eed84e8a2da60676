"""What benchmarks share of a command line: the numbers they take, and how they say what a machine lacks.

Counts, seconds and shares are refused outside of their bounds in one line with exit status 2: each of those
functions is a ``type`` of :meth:`argparse.ArgumentParser.add_argument`, which puts the option's name before
it. Where a package, a GPU or something else is missing, one line and exit status 3 say so, never a traceback.

Only the standard library is imported: the Python of another package's environment reads this too.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import pathlib
import sys
from collections.abc import Callable
from typing import NoReturn

#: The largest count, and the most seconds or dollars, that are taken: what no measurement here comes near.
LARGEST = 10**9
#: Exit status where this machine lacks something.
LACKING = 3


def leave(reason: str) -> NoReturn:
    """End the benchmark: this machine lacks what it needs.

    :param reason: what, in one line.
    :raises SystemExit: always.
    """
    print(f"{pathlib.Path(sys.argv[0]).name}: {' '.join(reason.split())}", file=sys.stderr)
    raise SystemExit(LACKING)


def require_packages(*names: str) -> None:
    """Leave unless all of these can be imported; called above the imports that would fail.

    :raises SystemExit: where one is missing.
    """
    for name in names:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            leave(_missing(name))


def require_gpu(advice: str = "") -> None:
    """Leave unless torch finds a GPU.

    :param advice: what can be done without one.
    :raises SystemExit: where there is none.
    """
    require_packages("torch")
    import torch

    if not torch.cuda.is_available():
        leave(f"measures a GPU, and torch finds none here{advice and '; '}{advice}")


def run_benchmark(main: Callable[[], int | None]) -> int | None:
    """A benchmark, with an error for a person as one line.

    :return: the exit status.
    :raises SystemExit: where a package is missing.
    """
    from ttd_core.errors import TtdError

    try:
        return main()
    except TtdError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        leave(_missing(error.name or str(error)))


def _missing(package: str) -> str:
    return f"the package {package} is not installed here, and this measures with it"


def positive_int(text: str) -> int:
    """A whole number from 1.

    :raises argparse.ArgumentTypeError: for what is none.
    """
    return _whole(text, 1)


def non_negative_int(text: str) -> int:
    """A whole number from 0, where 0 means something: none of them, or all.

    :raises argparse.ArgumentTypeError: for what is none.
    """
    return _whole(text, 0)


def positive_float(text: str) -> float:
    """A number above 0: seconds, megabytes, tokens on average.

    :raises argparse.ArgumentTypeError: for what is none, ``nan`` and ``inf`` among it.
    """
    number = _number(text)
    if not 0 < number <= LARGEST:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most {LARGEST}, not {_shown(text)}")
    return number


def non_negative_float(text: str) -> float:
    """A number from 0: a wait, a price.

    :raises argparse.ArgumentTypeError: for what is none, ``nan`` and ``inf`` among it.
    """
    number = _number(text)
    if not 0 <= number <= LARGEST:
        raise argparse.ArgumentTypeError(f"must be from 0 to {LARGEST}, not {_shown(text)}")
    return number


def finite(text: str) -> float:
    """A number of either sign, neither ``nan`` nor ``inf``.

    :raises argparse.ArgumentTypeError: for what is none.
    """
    number = _number(text)
    if not abs(number) <= LARGEST:
        raise argparse.ArgumentTypeError(f"must be from {-LARGEST} to {LARGEST}, not {_shown(text)}")
    return number


def share(text: str) -> float:
    """A share of something: above 0, at most 1.

    :raises argparse.ArgumentTypeError: for what is none.
    """
    number = _number(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {_shown(text)}")
    return number


def writable(text: str) -> pathlib.Path:
    """A file that results are written into at the end: made now, where there is none, so that none are lost.

    :raises argparse.ArgumentTypeError: where it cannot be written.
    """
    path = pathlib.Path(text)
    try:
        path.open("ab").close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise argparse.ArgumentTypeError(f"{_shown(text)} cannot be written: {reason}") from error
    return path


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= LARGEST:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from {least} to {LARGEST}, not {_shown(text)}"
        )
    return number


def _number(text: str) -> float:
    """The number that a text is; ``nan``, which fits no bound, for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _shown(text: str) -> str:
    """A text for a message: quoted, in one line, not too long."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
