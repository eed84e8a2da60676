"""Loading models without the progress bars and advice that transformers prints."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import transformers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and warnings for a ``with`` block; errors still come through."""
    level = transformers.logging.get_verbosity()
    had_bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(level)
        if had_bars:
            transformers.logging.enable_progress_bar()
