"""A plan: what a config takes on a machine, and where each figure comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ttd_core.config import RunConfig
from ttd_core.errors import ModelUnavailableError, UsageError
from ttd_core.options import Options
from ttd_core.planning.former import FormerRun
from ttd_core.planning.machines import Machine
from ttd_core.planning.memory import MemoryPlan, plan_memory
from ttd_core.planning.rates import Rates, rates_for, with_measured
from ttd_core.planning.work import ModelWork, StepSeconds, step_seconds
from ttd_core.planning.workload import Workload, workload_of
from ttd_core.policy.local import engine as engines
from ttd_core.policy.local import sizes
from ttd_core.policy.local.engine import Engine
from ttd_core.policy.local.options import LocalOptions, cuda_number
from ttd_core.policy.models.outline import ModelOutline
from ttd_core.policy.models.shape import ModelShape, shape_of
from ttd_core.text import counted

#: Characters of a token, where a prompt is measured without its tokeniser.
CHARACTERS_PER_TOKEN = 3.2
#: Where a prompt's length is from that nobody told.
_ASSUMED = "assumed"


@attrs.frozen
class Assumptions:
    """What a plan is told besides the config, each ``None`` where nothing is.

    :param prompt_characters: of the problem's first prompt.
    :param prompt_tokens: of a prompt.
    :param reply_tokens: of a reply, on average.
    :param evaluation_s: seconds that a program takes to be judged, on average.
    :param measured: bytes and operations a second, and bytes of a number, measured on the machine.
    :param former: a run that measured itself.
    """

    prompt_characters: int | None = None
    prompt_tokens: int | None = None
    reply_tokens: int | None = None
    evaluation_s: float | None = None
    measured: tuple[float, float, int] | None = None
    former: FormerRun | None = None


@attrs.frozen
class TimePlan:
    """Seconds of a step by part.

    :param sampling: from the first prompt to the last reply.
    :param evaluation: that the programs need on the processors, beside sampling.
    :param rollouts: both together: judging goes on while others are sampled.
    :param base: log-probabilities under the base model.
    :param train: gradients and the optimiser's step.
    :param startup: of a run, once.
    :param steps: of the run.
    """

    sampling: float
    evaluation: float
    rollouts: float
    base: float
    train: float
    startup: float
    steps: int

    @property
    def step(self) -> float:
        """A whole step."""
        return self.rollouts + self.base + self.train

    @property
    def run(self) -> float:
        """A whole run."""
        return self.startup + self.steps * self.step


@attrs.frozen
class Plan:
    """What a run takes on a machine.

    :param model: as the config names it.
    :param shape: its sizes.
    :param engine: which serves, and why.
    :param machine: that it runs on.
    :param dtype: of the weights.
    :param load: what a step asks of the model.
    :param memory: of one device.
    :param time: of a step and the run.
    :param sources: what each figure comes from: name and sentence.
    """

    model: str
    shape: ModelShape
    engine: Engine
    machine: Machine
    dtype: str
    load: Workload
    memory: MemoryPlan
    time: TimePlan
    sources: Mapping[str, str]

    @property
    def tokens_per_s(self) -> float:
        """Sampled tokens a second, of all replies together."""
        return self.load.rollouts * self.load.reply / self.time.sampling if self.time.sampling else 0.0


def make_plan(
    config: RunConfig, options: Options, outline: ModelOutline, machine: Machine, told: Assumptions
) -> Plan:
    """Reckon what a run takes.

    :param options: of the problem.
    :param outline: of the model.
    :param told: what is known besides.
    :raises UsageError: for a backend or a number of devices that cannot be planned, and for a prompt that
        leaves no room for a reply.
    :raises ConfigError: for a wrong option of the backend.
    :raises ModelUnavailableError: when the model's config says too little, or the engine that is asked for
        cannot run it.
    """
    require_local(config)
    local = LocalOptions.of(config)
    devices = local.devices
    machine = _with_devices(machine, config.policy.device, devices)
    shape = shape_of(outline.config, f"model '{config.policy.model}'")
    lacks = engines.machine_lacks(machine.on_gpu, machine.has_triton)
    if refused := engines.why_config_refused(outline.config):
        raise ModelUnavailableError(
            f"model '{config.policy.model}' uses {refused}, which the local backend does not compute; choose "
            "a model with full or sliding attention"
        )
    unsupported = engines.why_config_unsupported(outline.config)
    if local.engine == "lean" and unsupported:
        raise ModelUnavailableError(
            f"policy.options.engine: model '{config.policy.model}' cannot run lean: {unsupported}; leave the "
            "option out"
        )
    engine = engines.chosen(local.engine, lacks, unsupported)
    dtype = _dtype(config, machine, told)
    work = ModelWork(shape, 2 if dtype == "bfloat16" else 4, engine.name == "lean")
    prompt, prompt_source = _prompt_tokens(told)
    if prompt_source != _ASSUMED:
        _require_room(config, shape, prompt)
    reply, reply_source = _reply_tokens(told)
    load = workload_of(config, shape, engine.name, prompt, reply, devices)
    if reply is not None and reply > load.longest:
        reply_source += f"; {reply:,} are more than a reply may have"
    if outline.tensors:
        weights = float(sizes.tensors_bytes(outline.tensors, work.element, work.keep_packed))
    else:
        weights = shape.weight_bytes(work.element, work.keep_packed)
    memory = plan_memory(
        *(work, load, machine, engine.name),
        weights=weights,
        rank=config.policy.lora_rank,
        adapt=local.adapt,
        checkpointing=config.learn.activation_checkpointing,
    )
    rates = rates_for(machine, engine.name)
    if told.measured is not None:
        rates = with_measured(rates, told.measured[0], told.measured[1])
    seconds = step_seconds(work, load, rates, max(1, memory.rows), memory.checkpointing, engine.name)
    time, sources = _time(config, options, machine, load, seconds, rates, told)
    sources |= {"model": outline.source, "machine": machine.source}
    sources |= {"prompt": prompt_source, "reply": reply_source}
    if shape.experts and told.former is None:
        sources["sampling"] += "; experts are taken to be drawn evenly, and rows that share them take less"
    return Plan(config.policy.model, shape, engine, machine, dtype, load, memory, time, sources)


def require_local(config: RunConfig) -> None:
    """Refuse a backend whose model runs elsewhere.

    :raises UsageError: names it.
    """
    if config.policy.backend != "local":
        raise UsageError(
            f"policy.backend = '{config.policy.backend}': a plan is of a model on a machine (local); what a "
            "server takes is the server's to say"
        )


def _with_devices(machine: Machine, wanted: str, devices: int) -> Machine:
    """The machine as the config uses it; one without its cards where it asks for the CPU.

    :param wanted: ``policy.device``.
    :param devices: that share the work.
    :raises UsageError: when it has not so many cards, or none of that number.
    :raises ConfigError: when ``wanted`` is no device.
    """
    number = cuda_number(wanted)
    if wanted == "cpu":
        machine = attrs.evolve(machine, card=None, gpus=0, gpu_bytes=0.0)
    elif number is not None and not machine.on_gpu:
        raise UsageError(f"policy.device = '{wanted}': {machine.source}; name a card with --gpu")
    elif number is not None and number >= machine.gpus:
        raise UsageError(
            f"policy.device = '{wanted}': the machine has {counted(machine.gpus, 'card')}, numbered from 0; "
            "more with --gpus"
        )
    if machine.on_gpu and devices > machine.gpus:
        raise UsageError(
            f"policy.options.devices: {devices} were asked for and the machine has {machine.gpus}"
        )
    return machine


def _require_room(config: RunConfig, shape: ModelShape, prompt: int) -> None:
    """Refuse a prompt that fills the context; the run would end with its first one."""
    if prompt < min(config.policy.context, shape.longest_context):
        return
    if shape.longest_context <= config.policy.context:
        which, what_to_do = "the model's context", "choose a model that reads more"
    else:
        which, what_to_do = "policy.context", "raise it"
    raise UsageError(
        f"a prompt of {prompt:,} tokens leaves no room for a reply in {which} of "
        f"{min(config.policy.context, shape.longest_context):,}; {what_to_do}, or shorten the prompt"
    )


def _dtype(config: RunConfig, machine: Machine, told: Assumptions) -> str:
    """The weights' numbers, as :func:`ttd_core.policy.local.devices.choose_dtype` has it."""
    if config.policy.dtype != "auto":
        return config.policy.dtype
    if told.measured is not None:
        return "bfloat16" if told.measured[2] == 2 else "float32"
    return "bfloat16" if machine.on_gpu or machine.bfloat16 else "float32"


def _prompt_tokens(told: Assumptions) -> tuple[int, str]:
    if told.prompt_tokens is not None:
        return told.prompt_tokens, "--prompt-tokens"
    if told.former is not None and told.former.prompt:
        return round(told.former.prompt), f"the mean of {told.former.folder}"
    if told.prompt_characters is not None:
        tokens = max(1, round(told.prompt_characters / CHARACTERS_PER_TOKEN))
        return tokens, f"the problem's first prompt, {CHARACTERS_PER_TOKEN} characters a token"
    return 1500, _ASSUMED


def _reply_tokens(told: Assumptions) -> tuple[int | None, str]:
    if told.reply_tokens is not None:
        return told.reply_tokens, "--reply-tokens"
    if told.former is not None and told.former.reply:
        return max(1, round(told.former.reply)), f"the mean of {told.former.folder}"
    return None, "as long as a reply may be; --reply-tokens for fewer"


def _time(
    config: RunConfig,
    options: Options,
    machine: Machine,
    load: Workload,
    seconds: StepSeconds,
    rates: Rates,
    told: Assumptions,
) -> tuple[TimePlan, dict[str, str]]:
    """Seconds by part, and where they come from."""
    former = told.former
    sampling, base, train = seconds.prefill + seconds.decode, seconds.base, seconds.train
    sources = dict.fromkeys(("sampling", "learning"), rates.source)
    if former is not None and former.config.policy.model == config.policy.model:
        tokens = load.rollouts * load.reply
        where = f"{former.folder}, {former.steps} finished steps"
        if former.tokens_per_s:
            sampling = tokens / former.tokens_per_s
            sources["sampling"] = f"{where}: {former.tokens_per_s:,.0f} tokens/s"
        if former.train_s and load.learns:
            base, train = (tokens * former.learned * each for each in (former.base_s, former.train_s))
            sources["learning"] = f"{where}: {former.learned:.0%} of the tokens were learned from"
    each, where_from = _evaluation(options, told, config)
    workers = max(1, config.sandbox.workers or machine.cores)
    sources["evaluation"] = f"{each:,.1f} s a program, {workers} at a time: {where_from}"
    evaluation = each * load.rollouts / workers
    alone = former is None or "finished steps" not in sources["sampling"]
    if alone and not machine.on_gpu:
        # Both want the same processors; what a former run measured of sampling has that in it.
        rollouts = sampling + evaluation
    else:
        # The last reply's program is judged when nothing is sampled any more.
        rollouts = max(sampling, evaluation) + min(each, evaluation)
    return (
        TimePlan(sampling, evaluation, rollouts, base, train, rates.startup_s, config.steps),
        sources,
    )


def _evaluation(options: Options, told: Assumptions, config: RunConfig) -> tuple[float, str]:
    """Seconds that judging one program keeps a worker busy."""
    if told.evaluation_s is not None:
        return told.evaluation_s, "--evaluation-seconds"
    former = told.former
    if former is not None and former.config.problem == config.problem:
        return former.evaluation_s, f"the mean of {former.folder}"
    return (
        options.evaluation_s,
        "programs that use all the time they are given; --evaluation-seconds for less",
    )


def notes(plan: Plan) -> Sequence[str]:
    """What a reader should know besides, a sentence each."""
    found = []
    memory, load = plan.memory, plan.load
    wanted = min(load.rows, load.rollouts_here)
    if plan.engine.name == "lean" and 0 < memory.rows < wanted:
        found.append(
            f"{memory.rows} of {wanted} replies have room at once at full length; the others wait, or are "
            "swapped out to the host's memory"
        )
    if load.learns and memory.checkpointing:
        found.append("activations are computed twice in learning, to save memory")
    return found


def as_json(plan: Plan, price_per_hour: float | None) -> dict[str, Any]:
    """A plan as JSON: bytes, seconds, and where they come from."""
    memory, time = plan.memory, plan.time
    parts = attrs.asdict(memory, filter=attrs.filters.exclude("advice"))
    return {
        "model": plan.model,
        "weights": plan.shape.weights,
        "active_weights": plan.shape.active_weights + plan.shape.head_weights,
        "dtype": plan.dtype,
        "engine": plan.engine.name,
        "engine_reason": plan.engine.reason,
        "machine": {
            "device": plan.machine.device,
            "gpus": plan.machine.gpus,
            "device_bytes": plan.machine.device_bytes,
            "cores": plan.machine.cores,
        },
        "rollouts": load_facts(plan.load),
        "memory": {**parts, "peak": memory.peak, "fits": memory.fits},
        "advice": list(memory.advice),
        "notes": list(notes(plan)),
        "seconds": {**attrs.asdict(time), "step": time.step, "run": time.run},
        "tokens_per_s": plan.tokens_per_s,
        "hours": time.run / 3600,
        "price": None if price_per_hour is None else time.run / 3600 * price_per_hour,
        "sources": dict(plan.sources),
    }


def load_facts(load: Workload) -> dict[str, Any]:
    """A step's size as JSON."""
    return {
        "a_step": load.rollouts,
        "prompt_tokens": load.prompt,
        "reply_tokens": load.reply,
        "longest_reply": load.longest,
        "pack_tokens": load.longest_pack,
    }
