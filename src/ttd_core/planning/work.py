"""What a model moves and multiplies: the floors of sampling and learning."""

from __future__ import annotations

import attrs

from ttd_core.planning.rates import Rates
from ttd_core.planning.workload import Workload
from ttd_core.policy.models.shape import ModelShape

#: Passes of attention's arithmetic in learning: forward, and two and a half times that backward.
_ATTENTION_BACKWARD = 2.5


@attrs.frozen
class DecodeParts:
    """What one step of sampling moves and multiplies.

    :param moved: bytes of weights that every token meets, and of keys and values.
    :param multiplied: operations of the products with those weights.
    :param experts_moved: bytes of experts.
    :param experts_multiplied: operations of their products.
    """

    moved: float
    multiplied: float
    experts_moved: float
    experts_multiplied: float


@attrs.frozen
class ModelWork:
    """A model on a device.

    :param shape: its sizes.
    :param element: bytes of a number.
    :param keep_packed: whether experts in four bits stay so.
    :param counted_experts: experts of a layer that a step of sampling reads, where they were counted.
    """

    shape: ModelShape
    element: int
    keep_packed: bool
    counted_experts: float | None = None

    def experts_read(self, rows: int) -> float:
        """Experts of a layer that a step of ``rows`` tokens reads: drawn evenly, unless they were counted."""
        experts, choices = self.shape.experts, self.shape.choices
        if not experts or self.counted_experts is not None:
            return self.counted_experts or 0.0
        return experts * (1 - (1 - choices / experts) ** rows)

    def decode_parts(self, rows: int, groups: float, prompt: int, reply: int) -> DecodeParts:
        """What one step of sampling moves and multiplies, averaged over a reply.

        :param groups: that the rows belong to; a prompt is read once for each.
        """
        shape, own = self.shape, reply / 2
        token = shape.token_bytes(self.element)
        of_prompt = sum(min(prompt, max(0.0, window - own)) if window else prompt for window in shape.windows)
        kept = token * (groups * of_prompt / max(shape.layers, 1) + rows * shape.seen(own))
        expert = shape.expert_weights * shape.expert_bytes(self.element, self.keep_packed)
        return DecodeParts(
            moved=(shape.always_weights + shape.head_weights) * float(self.element) + kept,
            multiplied=2.0 * (shape.always_weights + shape.head_weights) * rows,
            experts_moved=shape.mixtures * self.experts_read(rows) * expert,
            experts_multiplied=2.0 * shape.mixtures * shape.choices * shape.expert_weights * rows,
        )

    def decode_floor(self, rates: Rates, rows: int, groups: float, prompt: int, reply: int) -> float:
        """Seconds that one step of sampling cannot go below at the device's rates, averaged over a reply."""
        parts = self.decode_parts(rows, groups, prompt, reply)
        return max(
            (parts.moved + parts.experts_moved) / rates.bandwidth,
            (parts.multiplied + parts.experts_multiplied) / rates.products,
        )

    def decode_seconds(self, rates: Rates, rows: int, groups: float, prompt: int, reply: int) -> float:
        """Seconds of one step of sampling, averaged over a reply.

        Some kernels of a layer move and others multiply, so the two times are added.
        """
        parts = self.decode_parts(rows, groups, prompt, reply)
        rest = parts.moved / rates.bandwidth + parts.multiplied / rates.products
        experts = parts.experts_moved / rates.bandwidth + parts.experts_multiplied / rates.products
        if self.shape.packed and self.keep_packed:
            experts *= rates.packed_factor
        return (rest + experts) * rates.decode_factor + self.shape.layers * rates.decode_layer_s

    def forward_operations(self, tokens: float, context: float, logits: float) -> float:
        """Operations of a forward pass.

        :param context: tokens that attention looks back on from each, on average.
        :param logits: of the tokens, those that the head is computed for.
        """
        shape = self.shape
        return (
            tokens * (2 * shape.active_weights + self._attention(context)) + 2 * shape.head_weights * logits
        )

    def train_operations(self, tokens: float, context: float, logits: float, checkpointing: bool) -> float:
        """Operations of forward and backward pass, through frozen weights.

        :param checkpointing: whether activations are computed twice.
        """
        passes = 3 if checkpointing else 2
        attention = self._attention(context) * (passes - 1 + _ATTENTION_BACKWARD)
        products = 2 * passes * self.shape.active_weights
        return tokens * (products + attention) + 4 * self.shape.head_weights * logits

    def activation_bytes(self, tokens: float, engine: str) -> float:
        """Memory of all layers' activations, if they are kept: what each engine's trainer says of itself."""
        shape = self.shape
        if engine == "plain":
            # As ttd_core.policy.local.training has it.
            return tokens * shape.layers * shape.hidden * 50.0 * self.element
        each = 2 * shape.qkv_width + 4 * shape.hidden
        dense = shape.hidden + 3 * shape.mlp_width
        mixture = shape.choices * (2 * shape.expert_width + shape.hidden) + shape.experts
        numbers = shape.layers * each + shape.dense_layers * dense + shape.mixtures * mixture
        return tokens * numbers * float(self.element)

    def _attention(self, context: float) -> float:
        shape = self.shape
        return 4.0 * shape.layers * shape.heads * shape.head_size * shape.seen(context)


@attrs.frozen
class StepSeconds:
    """Seconds of the parts of a step that a model takes.

    :param prefill: reading prompts.
    :param decode: sampling replies.
    :param base: log-probabilities under the model without its adapter.
    :param train: gradients and the optimiser's step.
    :param rows: replies decoded at once.
    """

    prefill: float
    decode: float
    base: float
    train: float
    rows: int


def step_seconds(
    work: ModelWork, load: Workload, rates: Rates, rows: int, checkpointing: bool, engine: str
) -> StepSeconds:
    """Seconds that a step takes of the model.

    :param rows: replies that are decoded at once, as memory has it.
    """
    total = load.rollouts_here
    rows = max(1, min(rows, total))
    decode = 0.0
    for count, times in ((rows, total // rows), (total % rows, 1)):
        if count and times:
            groups = max(1.0, count / load.group_size)
            step = work.decode_seconds(rates, count, groups, load.prompt, load.reply)
            decode += times * load.reply * step
    share = 1 / load.devices
    read = load.groups * load.prompt * share
    prefill = work.forward_operations(read, load.prompt / 2, load.groups) / (
        rates.products * rates.train_share
    )
    packs = load.packs
    tokens = load.groups * (packs.count * load.prompt + load.group_size * load.reply) * share
    logits = load.rollouts * load.reply * share
    context = load.prompt + load.reply / 2
    moved = work.activation_bytes(tokens, "lean") * rates.train_passes / rates.bandwidth
    products = rates.products * rates.train_share
    base = work.forward_operations(tokens, context, logits) / products + moved / 3
    train = work.train_operations(tokens, context, logits, checkpointing) / products
    train += moved * (4 / 3 if checkpointing else 1)
    if not load.learns:
        base = train = 0.0
    return StepSeconds(prefill=prefill, decode=decode, base=base, train=train, rows=rows)
