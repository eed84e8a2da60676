"""How fast devices are: what was measured, and what is made of it for devices that were not.

Sampling and learning are reckoned from two times: moving what must be moved once, and the arithmetic of the
products; the larger one is the floor of ``docs/learner.md``. A step of sampling takes about both, one after
the other, and a time for each layer that neither tells of: launching kernels on a GPU, the interpreter's own
work elsewhere. :data:`MEASURED` holds what that page's tables say of one H200; the constants below are fitted
to them, and ``tests/planning/test_rates.py`` holds each row of the lean engine's sampling to within a factor
of 1.25 of what the constants give, and all others to within 1.4.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ttd_core.planning.machines import Card, Machine

#: Share of a data sheet's figures that a large copy and a large product reach: 4.27 of 4.8 TB/s, 792 of 989
#: TFLOP/s, measured on an H200.
COPY_SHARE, PRODUCT_SHARE = 0.89, 0.80


@attrs.frozen
class Rates:
    """What a device does in a second, and how far above the floor an engine stays.

    :param bandwidth: bytes a second of a large copy.
    :param products: operations a second of a large matrix product.
    :param decode_factor: time of a step of sampling over that of moving and that of multiplying, added.
    :param decode_layer_s: seconds of such a step for each layer besides.
    :param train_share: share of ``products`` that the products of learning reach.
    :param train_passes: how often the activations are moved in learning, small kernels and the adapter's thin
        products among it.
    :param startup_s: seconds until the first token, the model's loading apart.
    :param source: where the figures come from, for people.
    :param packed_factor: time of the products of experts that stay packed, whose codes are decoded on the
        way, over that of the same moving and multiplying.
    """

    bandwidth: float
    products: float
    decode_factor: float
    decode_layer_s: float
    train_share: float
    train_passes: float
    startup_s: float
    source: str
    packed_factor: float = 1.0


#: Fitted to :data:`MEASURED`. By themselves (docs/learner.md, "The packed product") a layer's two products of
#: packed experts take 1.3 to 1.7 times as long as moving and multiplying: 385 µs of 228 (gpt-oss-20b, 512
#: rows), 173 of 115 (64 rows), 664 of 525 (120b, 512 rows).
_LEAN = {
    "decode_factor": 1.0,
    "decode_layer_s": 58e-6,
    "packed_factor": 1.55,
    "train_share": 0.65,
    "train_passes": 26.0,
}
#: Of transformers' ``generate`` and of plain peft, on the same H200.
_PLAIN = {"decode_factor": 3.5, "decode_layer_s": 1.7e-3, "train_share": 0.35, "train_passes": 40.0}
#: Operations a second of one core's products, by whether it multiplies bfloat16 itself. The first is fitted
#: to runs of half a billion parameters on two cores of a server's processor, which ``test_rates.py`` has.
CORE_PRODUCTS = {True: 250e9, False: 40e9}
#: Bytes a second that one core reads; several share the memory.
CORE_BANDWIDTH, MOST_BANDWIDTH = 8e9, 100e9
_CPU = {"decode_factor": 1.0, "decode_layer_s": 3e-3, "train_share": 0.6, "train_passes": 15.0}


def rates_for(machine: Machine, engine: str) -> Rates:
    """The rates of one device of a machine.

    :param engine: ``lean`` or ``plain``.
    """
    if machine.card is None:
        return Rates(
            bandwidth=min(machine.cores * CORE_BANDWIDTH, MOST_BANDWIDTH),
            products=machine.cores * CORE_PRODUCTS[machine.bfloat16],
            **_CPU,
            startup_s=5.0,
            source=f"assumed for {machine.cores} cores; --measure or --from RUN tell better",
        )
    return Rates(
        bandwidth=machine.card.bandwidth * 1e12 * COPY_SHARE,
        products=machine.card.products * 1e12 * PRODUCT_SHARE,
        **(_LEAN if engine == "lean" else _PLAIN),
        startup_s=5.0,
        source=_source(machine.card, engine),
    )


def with_measured(rates: Rates, bandwidth: float, products: float) -> Rates:
    """The same engine on a device whose copy and product were measured here."""
    return attrs.evolve(
        rates,
        bandwidth=bandwidth,
        products=products,
        source=(
            f"a copy ({bandwidth / 1e9:,.0f} GB/s) and a product ({products / 1e9:,.0f} GFLOP/s) measured "
            "here; how far above them the engine stays is assumed"
        ),
    )


def _source(card: Card, engine: str) -> str:
    of = "the lean engine" if engine == "lean" else "transformers' own code"
    if "H200" in card.title:
        return f"{of} measured on an H200"
    return f"{of} measured on an H200, scaled by memory bandwidth and arithmetic of a {card.title}"


@attrs.frozen
class MeasuredStep:
    """A step of sampling on one H200: 512-token prompts, ``docs/learner.md``.

    :param model: hub id of the published shape.
    :param rows: replies decoded at once.
    :param group: of them, those that share a prompt.
    :param engine: ``lean``, or ``plain``: transformers' ``generate``.
    :param milliseconds: of a step: of the whole call, reading the prompts included, over ``new``.
    :param new: tokens of a reply.
    :param experts: of a layer, those that the rows chose, as the page has them counted; ``None`` where they
        were not, and an even draw is near enough.
    """

    model: str
    rows: int
    group: int
    engine: str
    milliseconds: float
    new: int = 128
    experts: float | None = None


@attrs.frozen
class MeasuredTraining:
    """A step of learning on one H200, one pack: ``docs/learner.md``.

    :param model: hub id of the published shape.
    :param prompt: tokens of the shared prompt.
    :param replies: replies in the pack.
    :param length: tokens of each.
    :param checkpointing: whether activations were computed twice.
    :param engine: ``lean``, or ``plain``: peft.
    :param milliseconds: of the step.
    :param gigabytes: its peak; ``None`` where the table does not tell ours.
    """

    model: str
    prompt: int
    replies: int
    length: int
    checkpointing: bool
    engine: str
    milliseconds: float
    gigabytes: float | None


MEASURED: Sequence[MeasuredStep] = (
    MeasuredStep("Qwen/Qwen3-0.6B", 64, 64, "lean", 2.21),
    MeasuredStep("Qwen/Qwen3-0.6B", 512, 64, "lean", 4.53),
    MeasuredStep("Qwen/Qwen3-8B", 64, 64, "lean", 6.45),
    MeasuredStep("Qwen/Qwen3-8B", 512, 64, "lean", 17.47),
    MeasuredStep("Qwen/Qwen3-8B", 512, 64, "lean", 31.12, new=2048),
    MeasuredStep("Qwen/Qwen3-0.6B", 512, 1, "lean", 16.30),
    MeasuredStep("openai/gpt-oss-20b", 64, 64, "lean", 6.23, experts=31.8),
    MeasuredStep("openai/gpt-oss-20b", 512, 64, "lean", 14.17, experts=31.9),
    MeasuredStep("openai/gpt-oss-20b", 512, 64, "lean", 16.47, new=2048),
    MeasuredStep("openai/gpt-oss-120b", 64, 64, "lean", 20.94, experts=109.5),
    MeasuredStep("openai/gpt-oss-120b", 512, 64, "lean", 32.98, experts=127.2),
    MeasuredStep("openai/gpt-oss-120b", 512, 64, "lean", 38.54, new=2048),
    MeasuredStep("Qwen/Qwen3-30B-A3B", 64, 64, "lean", 17.65, experts=124.4),
    MeasuredStep("Qwen/Qwen3-30B-A3B", 512, 64, "lean", 22.71, experts=127.4),
    MeasuredStep("Qwen/Qwen3-0.6B", 64, 1, "plain", 53.6),
    MeasuredStep("Qwen/Qwen3-0.6B", 512, 1, "plain", 71.2),
    MeasuredStep("Qwen/Qwen3-8B", 64, 1, "plain", 67.1),
    MeasuredStep("Qwen/Qwen3-8B", 512, 1, "plain", 146.2),
)

MEASURED_TRAINING: Sequence[MeasuredTraining] = (
    MeasuredTraining("Qwen/Qwen3-0.6B", 1, 8, 1023, True, "lean", 127, 3.13),
    MeasuredTraining("Qwen/Qwen3-0.6B", 1, 8, 1023, False, "lean", 104, 13.67),
    MeasuredTraining("Qwen/Qwen3-0.6B", 512, 8, 512, True, "lean", 90, 2.74),
    MeasuredTraining("Qwen/Qwen3-0.6B", 512, 8, 512, False, "lean", 75, 8.69),
    MeasuredTraining("Qwen/Qwen3-0.6B", 1, 8, 1023, True, "plain", 231, None),
    MeasuredTraining("Qwen/Qwen3-8B", 512, 11, 16_384, True, "lean", 28_600, None),
    MeasuredTraining("Qwen/Qwen3-30B-A3B", 512, 8, 3584, True, "lean", 2_000, None),
)
