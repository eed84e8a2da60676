"""Attention in which the replies of a group share one copy of their prompt's keys and values.

Registered with transformers under the name ``ttd``. Given a :class:`ReplyCache` it decodes one token a row:
each row attends to its group's prompt (stored once, read once for all the group's rows) and to its own
reply, and the two softmaxes are joined exactly over one normaliser. Without one it is plain scaled
dot-product attention: causal when no mask is given (prompts), else under the caller's mask (training). Layers
with sliding windows or attention sinks are computed so in all three cases.

Left out: chunked and linear attention, and capped scores; :func:`require_known_attention` refuses such models
by name.
"""

from __future__ import annotations

import inspect
from typing import Any

import attrs
import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ttd_core.errors import ModelUnavailableError
from ttd_core.policy.local.plain.sliding_window import windowed_attention

#: Under which this attention is registered with transformers.
NAME = "ttd"
#: Layer types of transformers that are computed here.
_KNOWN = {"full_attention", "sliding_attention"}
#: Tokens by which the memory of every row grows.
_GROWTH = 256


@attrs.define(eq=False)
class PromptCache:
    """Keys and values of one prompt, per layer [kv heads, prompt length, head size]."""

    keys: list[Tensor] = attrs.field(factory=list)
    values: list[Tensor] = attrs.field(factory=list)

    def update(
        self, keys: Tensor, values: Tensor, _layer: int, *_: Any, **_others: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by each attention layer while the prompt is read."""
        self.keys.append(keys[0])
        self.values.append(values[0])
        return keys, values


@attrs.define(eq=False)
class ReplyCache:
    """Keys and values of the replies being decoded, one row each, grown as needed.

    Rows ``0 .. len(prompts) - 1`` are in use; a finished row is overwritten by the last one.

    :param layers: number of attention layers.
    :param rows: most replies decoded at once.
    :param capacity: tokens per row allocated now.
    :param keys: per layer [rows, kv heads, capacity, head size]; ``values`` likewise.
    :param prompts: the prompt of each row in use.
    :param lengths: tokens stored of each row in use.
    """

    layers: int
    rows: int
    capacity: int = _GROWTH
    keys: list[Tensor] = attrs.field(factory=list)
    values: list[Tensor] = attrs.field(factory=list)
    prompts: list[PromptCache] = attrs.field(factory=list)
    lengths: list[int] = attrs.field(factory=list)
    _step: _StepPlan | None = None

    def add(self, prompt: PromptCache) -> None:
        """Start a reply to ``prompt`` in the next free row."""
        self.prompts.append(prompt)
        self.lengths.append(0)

    @torch.inference_mode()
    def drop(self, row: int) -> None:
        """End the reply in ``row``; the last row takes its place."""
        last = len(self.prompts) - 1
        if row != last:
            length = self.lengths[last]
            for layer in range(len(self.keys)):
                self.keys[layer][row, :, :length] = self.keys[layer][last, :, :length]
                self.values[layer][row, :, :length] = self.values[layer][last, :, :length]
            self.prompts[row], self.lengths[row] = self.prompts[last], self.lengths[last]
        self.prompts.pop()
        self.lengths.pop()

    def begin_step(self, device: torch.device) -> None:
        """Plan one decoding step: where each row writes, what it may read, which rows share a prompt."""
        longest = max(self.lengths) + 1
        if longest > self.capacity:
            self._grow(longest + _GROWTH)
        lengths = torch.tensor(self.lengths, device=device)
        width = min(self.capacity, -(-longest // 64) * 64)
        masked = torch.arange(width, device=device)[None, :] > lengths[:, None]
        groups: dict[int, tuple[PromptCache, list[int]]] = {}
        for row, prompt in enumerate(self.prompts):
            groups.setdefault(id(prompt), (prompt, []))[1].append(row)
        shared = [(prompt, torch.tensor(rows, device=device)) for prompt, rows in groups.values()]
        self._step = _StepPlan(torch.arange(len(self.lengths), device=device), lengths, width, masked, shared)

    def end_step(self) -> None:
        """Count the token each row has just read."""
        self.lengths = [length + 1 for length in self.lengths]

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: Any, **_others: Any
    ) -> tuple[Tensor, Tensor]:
        """Write each row's new key and value [rows, kv heads, 1, head size] at its own end."""
        if layer == len(self.keys):
            shape = (self.rows, keys.shape[1], self.capacity, keys.shape[3])
            self.keys.append(keys.new_zeros(shape))
            self.values.append(values.new_zeros(shape))
        plan = self.plan
        self.keys[layer][plan.rows, :, plan.lengths] = keys[:, :, 0]
        self.values[layer][plan.rows, :, plan.lengths] = values[:, :, 0]
        return keys, values

    @property
    def plan(self) -> _StepPlan:
        """The step under way."""
        if self._step is None:
            raise RuntimeError("begin_step must be called before the model")
        return self._step

    def _grow(self, capacity: int) -> None:
        for store in (self.keys, self.values):
            for layer, old in enumerate(store):
                store[layer] = old.new_zeros((*old.shape[:2], capacity, old.shape[3]))
                store[layer][:, :, : self.capacity] = old
        self.capacity = capacity


@attrs.frozen(eq=False)
class _StepPlan:
    """Index tensors of one decoding step, shared by all layers.

    :param rows: int64 [rows], 0 and up.
    :param lengths: int64 [rows], tokens stored of each row, which is where it writes the next.
    :param width: reply positions read, a multiple of 64.
    :param masked: bool [rows, width], True where a row must not look.
    :param shared: each prompt with the rows that share it.
    """

    rows: Tensor
    lengths: Tensor
    width: int
    masked: Tensor
    shared: list[tuple[PromptCache, Tensor]]


def shared_prompt_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    replies: ReplyCache | None = None,
    sliding_window: int | None = None,
    s_aux: Tensor | None = None,
    position_ids: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function transformers calls.

    :param query: [rows, heads, length, head size].
    :param key: [rows, kv heads, length, head size]; ``value`` likewise. Not read while decoding.
    :param attention_mask: of a pack, bool [1, 1, length, length]; ``None`` is causal.
    :param scaling: of the scores; default the head size to the power of -1/2.
    :param replies: set while decoding; then ``length`` is 1.
    :param sliding_window: positions a token sees, itself included.
    :param s_aux: the heads' sinks [heads], by the name transformers gives them.
    :param position_ids: int64 [rows, length].
    :return: [rows, length, heads, head size], and no weights.
    """
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if replies is not None:
        layer = int(getattr(module, "layer_idx", 0))
        return _decode(query, replies, layer, scale, sliding_window, s_aux), None
    if sliding_window is None and s_aux is None:
        output, _ = sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            scaling=scaling,
            is_causal=attention_mask is None,
            **kwargs,
        )
        return output, None
    if position_ids is None:
        position_ids = torch.arange(query.shape[2], device=query.device)[None]
        if attention_mask is not None:
            raise RuntimeError(f"{type(module).__name__} does not say where the tokens of a pack are")
    output = windowed_attention(query, key, value, attention_mask, position_ids, scale, sliding_window, s_aux)
    return output, None


def _decode(
    query: Tensor, replies: ReplyCache, layer: int, scale: float, window: int | None, sinks: Tensor | None
) -> Tensor:
    """Attention of one token a row to the shared prompt and to the row's own reply."""
    rows, heads, _, size = query.shape
    plan = replies.plan
    own_keys = replies.keys[layer][:rows, :, : plan.width]
    own_values = replies.values[layer][:rows, :, : plan.width]
    kv_heads = own_keys.shape[1]
    # Heads that share a key-value head become rows of one matrix product.
    grouped = (query * scale).view(rows, kv_heads, heads // kv_heads, size)
    own_scores = torch.matmul(grouped, own_keys.transpose(2, 3)).float()
    masked = plan.masked
    if window is not None:
        masked = masked | (torch.arange(plan.width, device=query.device) <= plan.lengths[:, None] - window)
    own_scores.masked_fill_(masked[:, None, None, :], float("-inf"))
    if sinks is not None:
        # One more column that no value belongs to.
        sink = sinks.float().view(1, kv_heads, -1, 1).expand(rows, -1, -1, 1)
        own_scores = torch.cat([own_scores, sink], dim=-1)
    result = torch.empty_like(grouped)
    for prompt, members in plan.shared:
        keys, values = prompt.keys[layer], prompt.values[layer]
        prompt_length = keys.shape[1]
        queries = grouped[members].transpose(0, 1).reshape(kv_heads, -1, size)
        shape = (kv_heads, len(members), heads // kv_heads, prompt_length)
        prompt_scores = torch.matmul(queries, keys.transpose(1, 2)).float().view(shape).transpose(0, 1)
        if window is not None:
            last_unseen = prompt_length + plan.lengths[members, None] - window
            unseen = torch.arange(prompt_length, device=query.device) <= last_unseen
            prompt_scores = prompt_scores.masked_fill(unseen[:, None, None, :], float("-inf"))
        weights = torch.cat([prompt_scores, own_scores[members]], dim=-1).softmax(dim=-1).to(query.dtype)
        prompt_weights = weights[..., :prompt_length]
        own_weights = weights[..., prompt_length : prompt_length + plan.width]
        flat_weights = prompt_weights.transpose(0, 1).reshape(kv_heads, -1, prompt_length)
        from_prompt = torch.matmul(flat_weights, values)
        from_prompt = from_prompt.view(kv_heads, len(members), heads // kv_heads, size).transpose(0, 1)
        result[members] = from_prompt + torch.matmul(own_weights, own_values[members])
    return result.view(rows, 1, heads, size)


def cache_argument(backbone: torch.nn.Module) -> str:
    """By which name a model takes its cache: transformers 5.24 has renamed it."""
    return "cache" if "cache" in inspect.signature(backbone.forward).parameters else "past_key_values"


def install(model: Any) -> None:
    """Make ``model`` use this attention."""
    AttentionInterface.register(NAME, shared_prompt_attention)
    model.set_attn_implementation(NAME)


def require_known_attention(config: Any, name: str) -> None:
    """Refuse models whose attention this module does not compute.

    :raises ModelUnavailableError: names the feature.
    """
    unknown = sorted(set(getattr(config, "layer_types", None) or []) - _KNOWN)
    if getattr(config, "attn_logit_softcapping", None) is not None:
        unknown.append("capped attention scores")
    if unknown:
        raise ModelUnavailableError(
            f"model '{name}' uses {', '.join(unknown)}, which the local backend does not compute; choose a "
            "model with full or sliding attention (Qwen2, Qwen3, Llama, SmolLM, Mistral, Gemma 3, gpt-oss)"
        )
