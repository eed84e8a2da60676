"""The ``tinker`` backend: a model that samples and learns behind the Tinker protocol.

The server is the hosted service, or one's own SkyRL server, which is how a run outgrows one machine: it holds
the model, the adapter and the optimiser; here are the chat format, the forced tokens, the advantages and the
order of steps. A checkpoint is the server's own, by the path that it gave; the folder of the run holds that
path. Log-probabilities are of temperature 1 on both ways of the protocol, so others are refused.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tinker
from tinker import types as protocol

from ttd_core.config import PolicyConfig, RunConfig
from ttd_core.config.settings import fill
from ttd_core.errors import (
    ConfigError,
    EnvironmentLacksError,
    ModelUnavailableError,
    UsageError,
    did_you_mean,
)
from ttd_core.policy.base import Sample, SamplingParams, Sequences
from ttd_core.policy.models import fetch
from ttd_core.policy.models.chat import ChatCodec, reply_limits
from ttd_core.policy.models.quiet import quiet
from ttd_core.policy.models.tokenizer import load_tokenizer
from ttd_core.policy.remote import ApiKey, checked_address, require_listener
from ttd_core.policy.tinker.batch import build_data, fill_recomputed, protocol_loss, step_metrics
from ttd_core.policy.tinker.errors import plain_errors
from ttd_core.policy.tinker.options import KEY_VARIABLE, TinkerOptions
from ttd_core.policy.tinker.sampling import GroupSampler, await_result
from ttd_core.types import Completion, Message, StopReason

#: A checkpoint's only file: where the server keeps it.
_CHECKPOINT = "tinker.json"
#: The client insists on a key of this form; servers of one's own take any.
_NO_KEY = "tml-none"


def open_tinker(config: RunConfig) -> TinkerPolicy:
    """Connect to the server that a config names.

    :raises ConfigError: for a wrong option, or a setting that the protocol does not have.
    :raises EnvironmentLacksError: when key, server or model are missing.
    """
    options_given = config.policy.options
    if {"api_key", "key"} & options_given.keys():
        raise ConfigError(
            "policy.options must hold no key, for a config is stored; put it in the environment, as "
            f"{KEY_VARIABLE}"
        )
    options = fill(TinkerOptions, options_given, prefix="policy.options.")
    if config.policy.temperature != 1.0:
        raise ConfigError(
            "policy.temperature: the Tinker protocol gives log-probabilities of temperature 1, so no other "
            "can be learned from; leave it at 1"
        )
    if config.policy.lora_alpha != 32.0:
        raise ConfigError("policy.lora_alpha: the Tinker protocol fixes it at 32; leave it there")
    # The client reports errors to the server; they may quote the problem or the model, so they stay here
    # unless the user says otherwise.
    os.environ.setdefault("TINKER_TELEMETRY", "0")
    return TinkerPolicy(config, options)


class TinkerPolicy:
    """Samples with, and trains, an adapter on a server.

    See :class:`ttd_core.policy.base.Policy` and :class:`ttd_core.policy.base.Trainer`.

    :param config: the run's config.
    :param options: which server, and how it counts.
    """

    def __init__(self, config: RunConfig, options: TinkerOptions) -> None:
        self._config = config
        self._options = options
        self._key = ApiKey.read(KEY_VARIABLE)
        self._address = options.base_url and checked_address("policy.options.base_url", options.base_url)
        if self._address:
            require_listener(self._address, "Tinker server")
        elif not self._key.value:
            raise EnvironmentLacksError(
                f"no key: set {KEY_VARIABLE} in the environment, or name a server of your own with "
                "policy.options.base_url"
            )
        self._codec = _load_codec(options.tokenizer or config.policy.model, config.policy)
        base_url = {"base_url": self._address} if self._address else {}
        with self._plain_errors():
            self._service = tinker.ServiceClient(api_key=self._key.value or _NO_KEY, **base_url)
            self._longest_context = options.longest_context or self._offered_context(base_url)
        # Clients of the service, made when they are first needed: of the adapter in training, of its weights
        # as they are sampled from, of the model without it.
        self._training: Any = None
        self._sampling: Any = None
        self._base: Any = None
        # Of what made the adapter what it is: the weights themselves stay on the server.
        self._digest = _hash("new", config.policy.model, str(config.policy.lora_rank), str(config.seed))

    @property
    def name(self) -> str:
        """Model and server, for people."""
        return f"{self._config.policy.model} (tinker, {self._address or 'hosted'})"

    def sample(
        self, prompts: Sequence[Sequence[Message]], count: int, params: SamplingParams
    ) -> Iterator[Sample]:
        """Yield ``count`` replies to each prompt as they finish, in parts of a group.

        :raises PromptTooLongError: before sampling starts, when a prompt does not fit the context.
        """
        encoded = [self._codec.encode(prompt, params.prefill) for prompt in prompts]
        limits = reply_limits([len(tokens) for tokens in encoded], params, self._longest_context)
        with self._plain_errors():
            if self._sampling is None:
                self._sampling = await_result(self._trainer().save_weights_and_get_sampling_client())
            sampler = GroupSampler(self._sampling, self._codec, limits, self._options.replies_per_request)
            for prompt, index, reply in sampler.replies(encoded, count, params.seed):
                text, answer = self._codec.decode(reply.tokens, params.prefill)
                stop = reply.stop or StopReason.LENGTH
                yield Sample(
                    prompt=prompt,
                    index=index,
                    completion=Completion(text, *reply.arrays(), stop=stop, answer=answer),
                    prompt_tokens=np.array(encoded[prompt], dtype=np.int64),
                )

    def measure_prompt(self, prompt: Sequence[Message], params: SamplingParams) -> tuple[int, int]:
        """Tokens of a prompt, and those that it and a reply may have together."""
        return len(self._codec.encode(prompt, params.prefill)), min(params.context, self._longest_context)

    def date_prompts(self, day: datetime.date) -> None:
        """Have prompts say that it is this day, where the chat template asks."""
        self._codec.date_prompts(day)

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """The text of each token by itself."""
        return self._codec.token_texts(tokens)

    def base_logprobs(
        self, prompt_tokens: npt.NDArray[np.int64], completions: Sequence[Completion], temperature: float
    ) -> list[npt.NDArray[np.float32]]:
        """Log-probabilities of the replies under the model without an adapter, float32 [length] each."""
        with self._plain_errors():
            if self._base is None:
                self._base = await_result(
                    self._service.create_sampling_client(base_model=self._config.policy.model)
                )
            answers = [
                self._base.compute_logprobs(
                    protocol.ModelInput.from_ints([*prompt_tokens.tolist(), *completion.tokens.tolist()])
                )
                for completion in completions
            ]
            # Some servers give none for the first token, others leave it out: the reply's are the last ones.
            return [
                np.array(await_result(answer)[-len(completion.tokens) :], np.float32)
                if len(completion.tokens)
                else np.zeros(0, np.float32)
                for answer, completion in zip(answers, completions, strict=True)
            ]

    def train_step(self, batch: Sequence[Sequences], temperature: float) -> Mapping[str, float]:
        """One Adam step on the summed loss of the batch (see ``policy.options.sequence_loss``)."""
        learn = self._config.learn
        data, replies = build_data(batch, self._options.sequence_loss)
        adam = protocol.AdamParams(
            learning_rate=learn.learning_rate, beta1=learn.beta1, beta2=learn.beta2, eps=learn.epsilon
        )
        with self._plain_errors():
            trainer = self._trainer()
            # Both are sent before the first is waited for.
            backward = trainer.forward_backward(data, *protocol_loss(learn))
            step = trainer.optim_step(adam)
            backward, step = await_result(backward), await_result(step)
        self._sampling = None
        learned = hashlib.sha256()
        for reply in replies:
            learned.update(reply.tokens.tobytes() + reply.advantages.tobytes())
        self._digest = _hash(self._digest, learned.hexdigest())
        logprobs = [output["logprobs"].to_numpy() for output in backward.loss_fn_outputs]
        fill_recomputed(batch, logprobs)
        return step_metrics(logprobs, replies, learn, getattr(step, "metrics", None) or {})

    def save(self, folder: pathlib.Path) -> None:
        """Have the server keep adapter and optimiser, and write down by which path."""
        name = f"ttd-{uuid.uuid4().hex[:16]}"
        with self._plain_errors():
            saved = await_result(self._trainer().save_state(name, ttl_seconds=self._options.keep_seconds))
        record = {
            "path": saved.path,
            "model": self._config.policy.model,
            "rank": self._config.policy.lora_rank,
            "digest": self._digest,
        }
        (folder / _CHECKPOINT).write_text(json.dumps(record, indent=1))

    def load(self, folder: pathlib.Path) -> None:
        """Go on from what :meth:`save` had the server keep.

        :raises UsageError: when the folder holds no such record, or one of another model or rank.
        :raises EnvironmentLacksError: when the server has it no more.
        """
        file = folder / _CHECKPOINT
        try:
            record = json.loads(file.read_text())
            path, digest = str(record["path"]), str(record["digest"])
            saved_by = record["model"], record["rank"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"checkpoint {file} cannot be read: {error}") from error
        if saved_by != (self._config.policy.model, self._config.policy.lora_rank):
            raise UsageError(
                f"checkpoint {folder} belongs to another model or adapter rank; resume with its own config"
            )
        with self._plain_errors():
            self._training = await_result(
                self._service.create_training_client_from_state_with_optimizer(path)
            )
        self._sampling, self._digest = None, digest

    def adapter_digest(self) -> str:
        """SHA-256 over all that the adapter has learned from, in order: it changes with every step."""
        return self._digest

    def close(self) -> None:
        """End the session; the server frees what it held for it."""
        self._training = self._sampling = self._base = None
        with contextlib.suppress(tinker.TinkerError):  # a server that is gone has nothing to free
            if hasattr(self._service, "close"):
                await_result(self._service.close("success"))
            else:
                self._service.holder.close()

    def _trainer(self) -> Any:
        """The client of the adapter in training, made when it is first needed."""
        if self._training is None:
            policy = self._config.policy
            self._training = await_result(
                self._service.create_lora_training_client(
                    base_model=policy.model, rank=policy.lora_rank, seed=self._config.seed
                )
            )
        return self._training

    def _offered_context(self, base_url: Mapping[str, str]) -> int:
        """Most tokens of prompt and reply that the model takes, as far as the server says.

        :raises ModelUnavailableError: when the server does not have the model.
        """
        if hasattr(self._service, "close"):
            client = tinker.RestClient(api_key=self._key.value or _NO_KEY, **base_url)
            capabilities = await_result(client.get_server_capabilities())
        else:
            capabilities = self._service.get_server_capabilities()
        models = {model.model_name: model for model in capabilities.supported_models}
        name = self._config.policy.model
        if name not in models:
            shown = ", ".join(str(known) for known in list(models)[:8])
            hint = did_you_mean(name, [known for known in models if known])
            raise ModelUnavailableError(
                f"the Tinker server does not have model '{name}'; it offers {shown}.{hint}"
            )
        return int(getattr(models[name], "max_context_length", None) or 1 << 30)

    def _plain_errors(self) -> contextlib.AbstractContextManager[None]:
        return plain_errors(self._address or "the hosted Tinker service", self._key)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _load_codec(name: str, config: PolicyConfig) -> ChatCodec:
    """The chat format of a folder or a hub id; of the hub's files, only those it needs."""
    folder = pathlib.Path(name).expanduser()
    try:
        if not folder.is_dir():
            with quiet():
                folder = fetch.tokenizer_files(name)
        tokenizer = load_tokenizer(folder)
        generation = folder / "generation_config.json"
        eos = json.loads(generation.read_text()).get("eos_token_id") if generation.is_file() else None
    except (OSError, ValueError, ModelUnavailableError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelUnavailableError(
            f"no tokeniser for '{name}' ({line}); name a folder with policy.options.tokenizer"
        ) from error
    end_tokens = eos if isinstance(eos, list) else [] if eos is None else [eos]
    return ChatCodec(tokenizer, config, end_tokens)
