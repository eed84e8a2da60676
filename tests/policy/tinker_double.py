"""The Tinker client's classes with the arithmetic done here, on a tiny model: exact tests in milliseconds.

Every call is first bound to the signature of the installed client's own method, so that what the backend asks
for is what the client takes.
"""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import tinker
import torch

REAL = {"Service": tinker.ServiceClient, "Training": tinker.TrainingClient, "Sampling": tinker.SamplingClient}


class Given:
    """A future that is done."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def result(self) -> Any:
        return self._value

    def future(self) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_result(self._value)
        return future


def as_client(method: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse what the installed client's method of this name would not take; answer with a future."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Given:
        real = getattr(REAL[type(self).__name__], method.__name__)
        inspect.signature(real).bind(self, *args, **kwargs)
        return Given(method(self, *args, **kwargs))

    return call


class Server:
    """What is kept on the server's side.

    :param make: makes a policy on the tiny model with a LoRA adapter of a rank.
    """

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make
        self.saved: dict[str, Any] = {}
        self.passes: list[Any] = []

    def offer(self) -> Any:
        model = SimpleNamespace(model_name="tiny", max_context_length=512)
        return SimpleNamespace(supported_models=[model])


class Service:
    """Stands for the service client."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @as_client
    def create_lora_training_client(self, base_model: str, rank: int, seed: int) -> Any:
        assert base_model == "tiny"
        return Training(self._server, rank, seed)

    @as_client
    def create_training_client_from_state_with_optimizer(self, path: str) -> Any:
        rank, weights, optimiser = self._server.saved[path]
        training = Training(self._server, rank, 0)
        with torch.no_grad():
            for parameter, value in zip(training.parameters, weights, strict=True):
                parameter.copy_(value)
        training.optimiser.load_state_dict(optimiser)
        return training

    @as_client
    def create_sampling_client(self, base_model: str) -> Any:
        assert base_model == "tiny"
        return Sampling(Training(self._server, 1, 0).policy, base=True)

    @as_client
    def close(self, status: str) -> None: ...


if not hasattr(tinker.ServiceClient, "close"):
    # Clients up to 0.24.1 say what is offered themselves, and are closed by what they hold.
    del Service.close
    Service.get_server_capabilities = lambda self: self._server.offer()  # type: ignore[attr-defined]
    Service.holder = SimpleNamespace(close=lambda: None)  # type: ignore[attr-defined]


class Training:
    """Stands for a training client: gradients add up until a step takes them."""

    def __init__(self, server: Server, rank: int, seed: int) -> None:
        self._server, self._rank = server, rank
        torch.manual_seed(seed)
        self.policy = server.make(rank)
        self.parameters = list(self.policy.adapter.masters.values())
        self.optimiser = torch.optim.AdamW(self.parameters, weight_decay=0.0)

    @as_client
    def save_weights_and_get_sampling_client(self) -> Any:
        return Sampling(self.policy, base=False)

    @as_client
    def forward_backward(self, data: Any, loss_fn: str, loss_fn_config: Any = None) -> Any:
        assert (loss_fn, loss_fn_config) == ("importance_sampling", None)
        self._server.passes.append(data)
        outputs = []
        for datum in data:
            assert set(datum.loss_fn_inputs) == {"target_tokens", "logprobs", "advantages"}
            given = {name: torch.from_numpy(t.to_numpy().copy()) for name, t in datum.loss_fn_inputs.items()}
            found = logprobs(self.policy, datum.model_input.to_ints(), given["target_tokens"])
            (-(given["advantages"] * (found - given["logprobs"]).exp()).sum()).backward()
            outputs.append({"logprobs": tinker.types.TensorData.from_torch(found.detach())})
        return SimpleNamespace(loss_fn_outputs=outputs, metrics={})

    @as_client
    def optim_step(self, adam_params: Any) -> Any:
        self.optimiser.param_groups[0] |= {
            "lr": adam_params.learning_rate,
            "betas": (adam_params.beta1, adam_params.beta2),
            "eps": adam_params.eps,
        }
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        self.optimiser.step()
        self.optimiser.zero_grad()
        return SimpleNamespace(metrics={"double/grad_norm": float(norm)})

    @as_client
    def save_state(self, name: str, ttl_seconds: int | None) -> Any:
        path = f"tinker://double/weights/{name}"
        weights = [parameter.detach().clone() for parameter in self.parameters]
        self._server.saved[path] = (self._rank, weights, self.optimiser.state_dict())
        return SimpleNamespace(path=path)


class Sampling:
    """Stands for a sampling client: draws token by token from whole forward passes."""

    def __init__(self, policy: Any, base: bool) -> None:
        self._policy, self._base = policy, base

    @as_client
    @torch.no_grad()
    def sample(self, prompt: Any, num_samples: int, sampling_params: Any) -> Any:
        assert sampling_params.temperature == 1.0
        sequences = []
        for number in range(num_samples):
            generator = torch.Generator().manual_seed(sampling_params.seed + number)
            ids, tokens, chances = prompt.to_ints(), [], []
            while len(tokens) < sampling_params.max_tokens:
                row = self._policy.model(torch.tensor([[*ids, *tokens]])).logits[0, -1].log_softmax(-1)
                tokens.append(int(torch.multinomial(row.exp(), 1, generator=generator)))
                chances.append(float(row[tokens[-1]]))
                if tokens[-1] in sampling_params.stop:
                    break
            stopped = tokens[-1] in sampling_params.stop
            sequence = {"tokens": tokens, "logprobs": chances, "stop_reason": "stop" if stopped else "length"}
            sequences.append(SimpleNamespace(**sequence))
        return SimpleNamespace(sequences=sequences)

    @as_client
    @torch.no_grad()
    def compute_logprobs(self, prompt: Any) -> Any:
        assert self._base
        ids = prompt.to_ints()
        with self._policy.without_adapter():
            return [None, *logprobs(self._policy, ids[:-1], torch.tensor(ids[1:])).tolist()]


def logprobs(policy: Any, ids: list[int], targets: torch.Tensor) -> torch.Tensor:
    """Log-probability of each target, [length]."""
    rows = policy.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return rows.gather(1, targets[:, None].long())[:, 0]
