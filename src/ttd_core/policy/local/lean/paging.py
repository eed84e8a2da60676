"""How keys and values are stored, in numbers: what the decoder allocates by, and what a plan reckons with.

Arithmetic only, without torch.
"""

from __future__ import annotations

#: Tokens of one page of keys and values.
PAGE = 64
#: Most steps that run before the host looks at what was sampled.
MAX_STEPS = 32
#: Fraction of the free device memory that the pages may take.
MEMORY_FRACTION = 0.85
#: Prompt tokens read at once, padding included.
PREFILL_TOKENS = 16_384


def pages_for(tokens: int) -> int:
    """Pages that hold ``tokens`` tokens."""
    return -(-tokens // PAGE)


def most_held(tokens: int, window: int, more: int = 0) -> int:
    """Most pages that a sequence of up to ``tokens`` holds at once of layers that see a window.

    :param window: 0 is all.
    :param more: tokens that are stored in one go.
    """
    pages = pages_for(tokens)
    return min(pages, pages_for(window + more) + 1) if window else pages
