"""A reply token by token, each with what colours it: log-probability, gap to the base, gap recomputed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from ttd_core.run.tokens import TokenRecord

#: Tokens shown, at most.
MOST = 6000
#: Log-probabilities down to which a token counts as likely, less so, and little so.
_LIKELY = (-0.1, -1.0, -3.0)
#: Gaps in nats from which on a token counts as moved, and as moved far.
_MOVED = (0.1, 1.0)

#: What tokens may be coloured by: the container's class, and what it is called.
COLOURINGS = (("by-p", "log-probability"), ("by-b", "gap to the base"), ("by-r", "gap recomputed"))


@attrs.frozen
class Token:
    """One token.

    :param classes: of its element.
    :param tip: its numbers, in words.
    """

    text: str
    classes: str
    tip: str


def tokens_shown(record: TokenRecord) -> Sequence[Token]:
    """The tokens of a reply, as far as :data:`MOST`; empty where the policy does not spell them."""
    if not any(record.texts):
        return ()
    columns = (record.texts, record.trained, record.sampled, record.base, record.recomputed)
    return [
        _token(text, bool(trained), float(sampled), float(base), float(again))
        for text, trained, sampled, base, again in list(zip(*columns, strict=True))[:MOST]
    ]


def _token(text: str, trained: bool, sampled: float, base: float, again: float) -> Token:
    if not trained:
        return Token(text, "forced", "forced")
    shade = sum(sampled < bound for bound in _LIKELY)
    numbers = [("log-probability", sampled), ("under the base", base), ("recomputed", again)]
    told = "; ".join(f"{name} {value:.3f}" for name, value in numbers if math.isfinite(value))
    return Token(text, f"p{shade} b{_moved(sampled - base)} r{_moved(sampled - again)}", told)


def _moved(gap: float) -> str:
    """``0`` for a small gap or an unknown one; else ``u`` (likelier than there) or ``d`` with 1 or 2."""
    size = sum(abs(gap) >= bound for bound in _MOVED) if math.isfinite(gap) else 0
    return f"{'u' if gap > 0 else 'd'}{size}" if size else "0"
