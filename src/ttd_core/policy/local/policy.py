"""The ``local`` backend: an open model with a LoRA adapter on this machine's CPU or its GPUs.

One model serves three roles: with its adapter it samples and is trained; with the adapter switched off it is
the base that the KL is measured against. On several devices each has a copy of it (:mod:`.parallel`).
"""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ttd_core.config import RunConfig
from ttd_core.errors import ConfigError, EnvironmentLacksError, ModelUnavailableError
from ttd_core.policy.base import Sample, SamplingParams, Sequences
from ttd_core.policy.local import checkpoint, devices, engine, loading, packed, parallel
from ttd_core.policy.local.adapter import Adapter, adapted
from ttd_core.policy.local.engine import Engine
from ttd_core.policy.local.lean import ops
from ttd_core.policy.local.lean.decode import LeanDecoder
from ttd_core.policy.local.lean.model import LeanModel, why_unsupported
from ttd_core.policy.local.lean.routes import RouteMemory
from ttd_core.policy.local.options import DEFAULT_ROWS, LocalOptions
from ttd_core.policy.local.plain import attention
from ttd_core.policy.local.plain.decode import PlainDecoder
from ttd_core.policy.local.replies import DecodeLimits, whole_groups
from ttd_core.policy.local.training import LogprobModel, PackTotals, accumulate_gradients, take_step
from ttd_core.policy.models import fetch
from ttd_core.policy.models.chat import ChatCodec, reply_limits
from ttd_core.types import Completion, Message

__all__ = ["LocalOptions", "LocalPolicy", "open_local"]

#: Fraction of the device's memory that sampling may keep while the model learns.
_KEPT_FRACTION = 0.1


def open_local(config: RunConfig) -> LocalPolicy | parallel.ParallelPolicy:
    """Fetch, load and adapt the model a config names, on as many devices as it asks for.

    :raises ModelUnavailableError: when there is no such model to be had.
    :raises EnvironmentLacksError: when the devices asked for are not here.
    :raises ConfigError: for a wrong option.
    """
    count = LocalOptions.of(config).devices
    device = devices.choose_device(config.policy.device)
    if count > 1 and device.type == "cuda" and count > torch.cuda.device_count():
        raise EnvironmentLacksError(
            f"policy.options.devices: {count} were asked for and torch finds {torch.cuda.device_count()} here"
        )
    policy = open_rank(config)
    return policy if count == 1 else parallel.start_workers(policy, config, count)


def open_rank(config: RunConfig, rank: int = 0) -> LocalPolicy:
    """The policy of one rank: the first is on the device that the config names, the others on the next."""
    device = devices.choose_device(config.policy.device)
    if device.type == "cuda" and LocalOptions.of(config).devices > 1:
        device = torch.device("cuda", (device.index or 0) + rank)
    folder = fetch.resolve(config.policy.model)
    dtype = devices.choose_dtype(config.policy.dtype, device)
    options = LocalOptions.of(config)
    keep_packed = options.engine == "lean" or (options.engine == "auto" and ops.has_triton(device))
    # Every rank reads the same files; the first says what there is to say of them.
    say = loading.say if rank == 0 else lambda _: None
    context = config.policy.context
    model, tokenizer = loading.load_model(folder, dtype, device, options.adapter, say, keep_packed, context)
    policy = LocalPolicy(model, tokenizer, config)
    # A template's own tokens may be new to the model; that is said before a run begins.
    policy.encode([{"role": "user", "content": "a prompt"}], config.policy.prefill)
    return policy


class LocalPolicy:
    """Samples with, and trains, one adapted model.

    :param model: a transformers causal language model on its device, with attention that is known.
    :param tokenizer: its tokeniser, with a chat template.
    :param config: the run's config.
    """

    def __init__(self, model: Any, tokenizer: Any, config: RunConfig) -> None:
        attention.require_known_attention(model.config, config.policy.model)
        attention.install(model)
        self._config = config
        self._device: torch.device = model.device
        torch.manual_seed(config.seed)
        policy = config.policy
        #: The transformers model, adapter layers in place.
        self.model = model
        self._peft = adapted(model, LocalOptions.of(config).adapt, policy.lora_rank, policy.lora_alpha)
        self._peft.eval()
        #: Which engine serves, and why.
        self.engine = self._choose_engine()
        lean_model = LeanModel(self.model) if self.engine.name == "lean" else None
        #: Experts chosen while sampling, if they are to be replayed.
        self._routes = self._make_routes(lean_model)
        self._logprob_model = LogprobModel(
            model, config.learn.activation_checkpointing, lean_model, self._routes
        )
        #: The adapter: all that is trained.
        self.adapter = Adapter(self._peft)
        learn = config.learn
        self._optimiser = torch.optim.Adam(
            list(self.adapter),
            lr=learn.learning_rate,
            betas=(learn.beta1, learn.beta2),
            eps=learn.epsilon,
        )
        self._codec = ChatCodec(tokenizer, config.policy, _end_tokens(model))
        self._embeddings: int = model.get_input_embeddings().weight.shape[0]
        self._decoder = self._make_decoder(lean_model)

    @property
    def name(self) -> str:
        """Model and backend, for people."""
        dtype = str(next(self._logprob_model.causal.parameters()).dtype).removeprefix("torch.")
        return f"{self._config.policy.model} (local, {self._device}, {dtype})"

    def sample(
        self, prompts: Sequence[Sequence[Message]], count: int, params: SamplingParams
    ) -> Iterator[Sample]:
        """Yield ``count`` replies to each prompt as they finish."""
        return self.sample_indices(prompts, whole_groups(len(prompts), count), params)

    def sample_part(
        self,
        prompts: Sequence[Sequence[Message]],
        count: int,
        indices: Sequence[Sequence[int]],
        params: SamplingParams,
    ) -> Iterator[Sample]:
        """Yield some of ``count`` replies to each prompt; each draws from random numbers of its own."""
        return self.sample_indices(prompts, indices, params)

    def check_prompts_fit(self, prompts: Sequence[Sequence[Message]], params: SamplingParams) -> None:
        """Refuse prompts that do not fit the context.

        :raises PromptTooLongError: names both lengths.
        """
        self._limits([len(self.encode(prompt, params.prefill)) for prompt in prompts], params)

    def measure_prompt(self, prompt: Sequence[Message], params: SamplingParams) -> tuple[int, int]:
        """Tokens of a prompt, and those that it and a reply may have together."""
        tokens = len(self._codec.encode(prompt, params.prefill))
        return tokens, min(params.context, self._logprob_model.longest_context)

    def sample_indices(
        self, prompts: Sequence[Sequence[Message]], indices: Sequence[Sequence[int]], params: SamplingParams
    ) -> Iterator[Sample]:
        """Yield some of the replies to each prompt as they finish.

        :param indices: which, by index within the prompt's group.
        """
        encoded = [self.encode(prompt, params.prefill) for prompt in prompts]
        limits = self._limits([len(tokens) for tokens in encoded], params)
        for reply in self._decoder.decode(encoded, indices, params.temperature, limits, params.seed):
            if reply.stop is None:
                raise RuntimeError("the decoder yielded a reply without a stop reason")
            tokens, logprobs, trained = reply.arrays()
            text, answer = self._codec.decode(reply.tokens, params.prefill)
            yield Sample(
                prompt=reply.prompt_index,
                index=reply.index,
                completion=Completion(
                    text=text,
                    tokens=tokens,
                    logprobs=logprobs,
                    trained=trained,
                    stop=reply.stop,
                    answer=answer,
                ),
                prompt_tokens=np.array(encoded[reply.prompt_index], dtype=np.int64),
            )

    def encode(self, prompt: Sequence[Message], prefill: str) -> list[int]:
        """Token ids of a prompt, all of which the model knows.

        :raises ModelUnavailableError: when the tokeniser has tokens that the model was never given.
        """
        tokens = self._codec.encode(prompt, prefill)
        if max(tokens) >= self._embeddings:
            raise ModelUnavailableError(
                f"the tokeniser of model '{self._config.policy.model}' makes token {max(tokens)} of a prompt "
                f"and the model knows {self._embeddings} tokens; take the tokeniser it was trained with"
            )
        return tokens

    def _choose_engine(self) -> Engine:
        """Lean where that can run and the config does not say otherwise.

        :raises ConfigError: for a wrong option.
        :raises ModelUnavailableError: when it is ``lean`` and the model does not fit.
        """
        wanted = LocalOptions.of(self._config).engine
        reason = why_unsupported(self.model)
        if wanted == "lean" and reason:
            raise ModelUnavailableError(
                f"policy.options.engine: model '{self._config.policy.model}' cannot run lean: {reason}; "
                "leave the option out"
            )
        on_gpu = self._device.type == "cuda"
        chosen = engine.chosen(wanted, engine.machine_lacks(on_gpu, ops.has_triton(self._device)), reason)
        if chosen.name != "lean" and packed.has_adapted(self.model):
            raise ModelUnavailableError(
                "policy.options.adapt: packed experts learn on the lean engine only, on which model "
                f"'{self._config.policy.model}' does not run: {reason or chosen.reason}; leave the option out"
            )
        return chosen

    def _make_routes(self, lean_model: LeanModel | None) -> RouteMemory | None:
        """Where experts are kept between sampling and learning, if the config asks for it.

        :raises ConfigError: when they cannot be.
        """
        options = LocalOptions.of(self._config)
        if not options.replay_routing:
            return None
        if lean_model is None or not lean_model.mixtures:
            raise ConfigError(
                "policy.options.replay_routing: the model is no mixture of experts on the lean engine; leave "
                "the option out"
            )
        if options.devices > 1:
            raise ConfigError(
                "policy.options.replay_routing: a reply may be learnt from on another device than it was "
                "sampled on; use policy.options.devices = 1"
            )
        return RouteMemory()

    def _make_decoder(self, lean_model: LeanModel | None) -> PlainDecoder | LeanDecoder:
        rows = self._config.policy.batch
        if lean_model is not None:
            return LeanDecoder(lean_model, rows or DEFAULT_ROWS["lean"], routes=self._routes)
        model = self._logprob_model
        return PlainDecoder(
            model.backbone, model.head, model.layers, self._device, rows or DEFAULT_ROWS["plain"]
        )

    def _release_sampling_memory(self) -> None:
        """Give sampling's memory back before learning, if it is more than a small part of the device."""
        if isinstance(self._decoder, LeanDecoder) and self._device.type == "cuda":
            _, device_bytes = torch.cuda.mem_get_info(self._device)
            if self._decoder.held_bytes() > _KEPT_FRACTION * device_bytes:
                self._decoder.release()

    def _limits(self, prompt_lengths: Sequence[int], params: SamplingParams) -> DecodeLimits:
        """Where replies end; refuses prompts that leave no room.

        :raises PromptTooLongError: names the prompt's length and the context's.
        """
        limits = reply_limits(prompt_lengths, params, self._logprob_model.longest_context)
        return DecodeLimits(
            end_tokens=self._codec.end_tokens,
            max_tokens=limits.max_tokens,
            thinking_tokens=limits.thinking_tokens,
            closing=self._codec.closing,
        )

    def without_adapter(self) -> AbstractContextManager[Any]:
        """The base model for the length of a ``with`` block."""
        adapter: AbstractContextManager[Any] = self._peft.disable_adapter()
        return adapter

    # -- learning -----------------------------------------------------------------------------------

    def date_prompts(self, day: datetime.date) -> None:
        """Have prompts say that it is this day, where the chat template asks."""
        self._codec.date_prompts(day)

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """The text of each token by itself."""
        return self._codec.token_texts(tokens)

    def base_logprobs(
        self, prompt_tokens: npt.NDArray[np.int64], completions: Sequence[Completion], temperature: float
    ) -> list[npt.NDArray[np.float32]]:
        """Log-probabilities of the replies under the model without its adapter."""
        self._release_sampling_memory()
        with self.without_adapter(), torch.inference_mode():
            return self._logprob_model.reply_logprobs(
                prompt_tokens, completions, temperature, self._config.learn.micro_batch_tokens
            )

    def train_step(self, batch: Sequence[Sequences], temperature: float) -> Mapping[str, float]:
        """One Adam step on the batch's summed loss, accumulated pack by pack."""
        return self.take_step(self.accumulate_gradients(batch, temperature))

    def accumulate_gradients(self, batch: Sequence[Sequences], temperature: float) -> PackTotals:
        """The first half of a step: the batch's gradient, in the adapter's master weights."""
        self._release_sampling_memory()
        return accumulate_gradients(self._logprob_model, self.adapter, batch, temperature, self._config.learn)

    def take_step(self, totals: PackTotals) -> Mapping[str, float]:
        """The second half: one Adam step along the gradient.

        :param totals: of the first half, of all ranks.
        """
        return take_step(self.adapter, self._optimiser, totals)

    def save(self, folder: pathlib.Path) -> None:
        """Write the adapter (as peft reads it) and the optimiser's state."""
        checkpoint.save(folder, self._peft, self.adapter, self._optimiser)

    def load(self, folder: pathlib.Path) -> None:
        """Restore adapter and optimiser exactly.

        :raises UsageError: when the folder does not hold this model's adapter.
        """
        checkpoint.load(folder, self.adapter, self._optimiser)

    def adapter_digest(self) -> str:
        """SHA-256 over the adapter's weights."""
        return self.adapter.digest()

    def close(self) -> None:
        """Give the model's memory back."""
        self._optimiser.zero_grad(set_to_none=True)
        del self._decoder, self._peft, self._logprob_model, self.model, self.adapter, self._optimiser
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _end_tokens(model: Any) -> list[int]:
    """Token ids that end a reply by the model's generation config."""
    end_tokens = model.generation_config.eos_token_id
    if end_tokens is None:
        return []
    several = list(end_tokens) if isinstance(end_tokens, list | tuple) else [end_tokens]
    if not all(type(token) is int for token in several):
        raise ModelUnavailableError(
            f"the model's generation_config.json: eos_token_id is {end_tokens!r}, no token id or list of them"
        )
    return several
