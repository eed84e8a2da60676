"""Memory of a run on one device: each part, the peak, and what to change where it does not fit."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Sequence

import attrs

from ttd_core.planning.machines import Machine, fitting_card
from ttd_core.planning.work import ModelWork
from ttd_core.planning.workload import Workload
from ttd_core.policy.local.lean.paging import (
    MAX_STEPS,
    MEMORY_FRACTION,
    PAGE,
    PREFILL_TOKENS,
    most_held,
    pages_for,
)

#: Fraction of the free memory beyond which activations are computed again.
_CROWDED = 0.25
#: What the driver, its libraries and torch hold besides.
_BESIDES = 0.9e9
#: Tokens that are read at once, and those whose logits are held at once.
_PREFILL, _LOGITS = {"lean": PREFILL_TOKENS, "plain": 1 << 30}, {"lean": 1024, "plain": 512}


@attrs.frozen
class MemoryPlan:
    """Memory of one device, in bytes.

    :param weights: of the model.
    :param adapter: the adapter, its master weights, gradients and Adam's two moments.
    :param cache: keys and values of the prompts and replies under way.
    :param sampling: the rest of what sampling holds: logits, activations of the prompts.
    :param training: activations and logits of the largest pack; 0 without learning.
    :param besides: what the driver and libraries hold.
    :param device: what the device has.
    :param rows: replies decoded at once that there is room for, each of full length.
    :param checkpointing: whether activations are computed twice to save memory.
    :param advice: what to change, each a sentence without its end; empty where all fits.
    """

    weights: float
    adapter: float
    cache: float
    sampling: float
    training: float
    besides: float
    device: float
    rows: int
    checkpointing: bool
    advice: Sequence[str]

    @property
    def peak(self) -> float:
        """The most there is at one time: sampling gives its memory back before learning."""
        return self.weights + self.adapter + self.besides + max(self.cache + self.sampling, self.training)

    @property
    def fits(self) -> bool:
        """Whether the device has so much."""
        return not self.advice


def plan_memory(
    work: ModelWork,
    load: Workload,
    machine: Machine,
    engine: str,
    *,
    weights: float,
    rank: int,
    adapt: str,
    checkpointing: str,
) -> MemoryPlan:
    """Reckon the memory of a run on one device of a machine.

    :param weights: bytes of the model's weights on the device.
    :param rank: of the adapter.
    :param adapt: as ``policy.options.adapt``.
    :param checkpointing: as ``learn.activation_checkpointing``.
    """
    shape, element = work.shape, work.element
    # Weights, masters, gradients and two moments; with numbers of two bytes those of both kinds.
    adapter = shape.adapter_weights(rank, adapt) * (16.0 if element == 4 else 24.0)
    fixed = weights + adapter + _BESIDES
    device = machine.device_bytes
    kept = functools.partial(kept_bytes, work, engine)
    groups_here = min(load.groups, max(1, -(-load.rollouts_here // load.group_size)))
    prompts = groups_here * kept(load.prompt)
    own = kept(load.longest + MAX_STEPS, MAX_STEPS)
    wanted = min(load.rows, load.rollouts_here)
    sampling = _sampling_bytes(work, load, engine, wanted, groups_here)
    room = max(0.0, device - fixed - sampling)
    room = room * MEMORY_FRACTION if engine == "lean" and machine.on_gpu else room
    rows = min(wanted, max(0, int((room - prompts) // own)))
    cache = prompts + (max(rows, 1) if engine == "lean" else wanted) * own
    training, again = _training_bytes(work, load, engine, checkpointing, device - weights - adapter)
    plan = MemoryPlan(
        weights=weights,
        adapter=adapter,
        cache=cache,
        sampling=sampling,
        training=training,
        besides=_BESIDES,
        device=device,
        rows=rows,
        checkpointing=again,
        advice=(),
    )
    return attrs.evolve(plan, advice=_advice(plan, work, load, machine, engine, kept, wanted))


def kept_bytes(work: ModelWork, engine: str, tokens: int, more: int = 0) -> float:
    """Memory of the keys and values of a sequence, in whole pages.

    The lean engine gives those back that no layer sees any more; the plain one keeps all.

    :param more: of the tokens, those that are stored in one go.
    """
    windows = work.shape.windows
    pages = (
        sum(most_held(tokens, window, more) for window in windows)
        if engine == "lean"
        else len(windows) * pages_for(tokens)
    )
    return float(pages * PAGE * work.shape.layer_token_bytes(work.element))


def _sampling_bytes(work: ModelWork, load: Workload, engine: str, rows: int, groups: int) -> float:
    """Logits of a step, and the activations of the prompts that are read together."""
    shape = work.shape
    # The plain decoder holds logits, log-probabilities, probabilities and their sums in float32.
    logits = rows * shape.vocabulary * (2.0 * work.element if engine == "lean" else 16.0)
    read = min(_PREFILL[engine], load.prompt * (groups if engine == "lean" else 1))
    width = shape.qkv_width + 3 * shape.hidden + 3 * max(shape.mlp_width, shape.choices * shape.expert_width)
    return logits + float(read) * width * work.element


def _training_bytes(
    work: ModelWork, load: Workload, engine: str, checkpointing: str, free: float
) -> tuple[float, bool]:
    """Activations and logits of the largest pack, and whether activations are computed again."""
    if not load.learns:
        return 0.0, False
    shape, tokens = work.shape, load.longest_pack
    all_layers = work.activation_bytes(tokens, engine)
    again = checkpointing == "on" or (checkpointing == "auto" and all_layers > _CROWDED * free)
    layer = all_layers / max(shape.layers, 1)
    inputs = float(tokens) * shape.hidden * work.element * shape.layers
    # A layer's activations and their gradients are there at once, whether kept or computed again.
    kept = inputs + 2 * layer if again else inputs + all_layers + layer
    logits = (
        min(tokens, _LOGITS[engine]) * shape.vocabulary * (2.0 * work.element if engine == "lean" else 12.0)
    )
    masks = float(tokens) ** 2 if engine == "plain" else 0.0
    return kept + logits + masks + tokens * shape.hidden * 6.0, again


def _advice(
    plan: MemoryPlan,
    work: ModelWork,
    load: Workload,
    machine: Machine,
    engine: str,
    kept: Callable[[int], float],
    wanted: int,
) -> list[str]:
    """What to change, the first first."""
    fixed = plan.weights + plan.adapter + plan.besides
    if not plan.device:
        return []
    if fixed > plan.device:
        return [
            f"the weights and the adapter take {_gb(fixed)} and {machine.device} has {_gb(plan.device)}: "
            f"{_other_device(fixed * 1.1, machine)}choose a smaller model"
        ]
    # With the tokens that policy.context is to be, where that is what helps.
    advice: list[tuple[int, str]] = []
    if plan.rows < 1:
        room = max(0.0, plan.device - fixed - plan.sampling) * MEMORY_FRACTION
        # Of a prompt as long as a reply.
        lengths = range(PAGE, load.longest + PAGE, PAGE)
        tokens = PAGE * max(1, bisect.bisect_right(lengths, room / 2, key=kept))
        advice.append(
            (
                tokens,
                f"not one reply of {load.longest:,} tokens has room beside the model: set "
                f"policy.context={tokens} or less{_or(_other_device(plan.peak, machine))}",
            )
        )
    elif engine == "plain" and plan.rows < wanted:
        advice.append((0, f"{wanted} replies at once have no room: set policy.batch={plan.rows}"))
    if fixed + plan.training > plan.device:
        advice.append(_about_training(plan, work, load, machine, engine, plan.device - fixed))
    contexts = [tokens for tokens, _ in advice if tokens]
    return [words for tokens, words in advice if not tokens or tokens == min(contexts)]


def _about_training(
    plan: MemoryPlan, work: ModelWork, load: Workload, machine: Machine, engine: str, room: float
) -> tuple[int, str]:
    """What to change where a pack has no room, and the context that it asks for, if it does."""
    pack, alone = load.longest_pack, load.prompt + load.longest
    begin = f"learning from a pack of {pack:,} tokens takes {_gb(plan.training)} beside the model"
    if not plan.checkpointing:
        return 0, f"{begin}: set learn.activation_checkpointing=on"
    low, high = 1, pack
    while low < high:
        middle = (low + high + 1) // 2
        smaller = attrs.evolve(load, prompt=0, longest=1, group_size=middle, budget=middle)
        fits = _training_bytes(work, smaller, engine, "on", 0.0)[0] <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    if low >= alone:
        return 0, f"{begin}: set learn.micro_batch_tokens={low}"
    low = max(PAGE, low // PAGE * PAGE)
    return low, (
        f"{begin}, and one prompt and reply are {alone:,} tokens: set policy.context={low} or less"
        + _or(_other_device(plan.peak, machine))
    )


def _other_device(needed: float, machine: Machine) -> str:
    """Names the smallest card that would do; ends in a comma."""
    if not machine.on_gpu:
        return f"take a machine with {_gb(needed)} of memory, "
    name = fitting_card(needed)
    return f"take a card of {_gb(needed)} or more (--gpu {name}), " if name else ""


def _or(other: str) -> str:
    return f", or {other.rstrip(', ')}" if other else ""


def _gb(value: float) -> str:
    return f"{value / 1e9:.1f} GB"
