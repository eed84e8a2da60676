"""What ``policy.options`` takes for the ``tinker`` backend."""

from __future__ import annotations

from typing import Literal

import attrs

from ttd_core.config.settings import at_least, setting

#: The environment variable that holds the key.
KEY_VARIABLE = "TINKER_API_KEY"


@attrs.frozen
class TinkerOptions:
    """Which server, and how it adds up losses.

    Hosted Tinker sums the loss over all tokens, as ttd means it. SkyRL's JAX backend divides each sequence's
    by its length and the gradient by the number of sequences; ``sequence_loss = "mean"`` multiplies both
    back into the advantages, so that the step is the same.
    """

    base_url: str | None = setting(None, "address of a server of one's own; default the hosted service")
    tokenizer: str | None = setting(None, "folder or hub id of the tokeniser; default policy.model")
    longest_context: int | None = setting(
        None, "most tokens the model takes; default what the server says", validator=at_least(2)
    )
    sequence_loss: Literal["sum", "mean"] = setting(
        "sum",
        "how the server adds a sequence's token losses: hosted sums, SkyRL's JAX backend takes the mean",
    )
    replies_per_request: int = setting(
        8, "replies asked for at once; fewer stream sooner", validator=at_least(1)
    )
    keep_seconds: int | None = setting(
        None, "how long the server keeps a checkpoint; default for good", validator=at_least(3600)
    )
