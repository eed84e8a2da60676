"""The module ``reference`` that MLA decode programs import: the cache and the configuration they get."""

from __future__ import annotations

from dataclasses import dataclass

import torch


class KVCache:
    """Latent keys and values of all tokens so far.

    :param data: [batch, max_seq_len, kv_lora_rank + qk_rope_head_dim].
    :param seq_len: how many tokens are filled.
    """

    def __init__(self, data: torch.Tensor, seq_len: int) -> None:
        self.data = data
        self.seq_len = seq_len

    def get_data(self) -> torch.Tensor:
        """The whole cache."""
        return self.data

    def __call__(self, new: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Append ``new`` [batch, tokens, width]; the filled part as a view, and its length."""
        end = self.seq_len + new.shape[1]
        if end > self.data.shape[1]:
            raise ValueError(f"the cache holds {self.data.shape[1]} tokens; {end} are too many")
        self.data[:, self.seq_len : end] = new
        self.seq_len = end
        return self.data[:, :end], end

    forward = __call__


@dataclass
class Config:
    """Sizes and weights of one attention layer; weights are bfloat16 [out, in]."""

    batch_size: int
    dim: int
    n_heads: int
    q_lora_rank: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    seq_len: int
    max_seq_len: int
    kv_cache_shape: tuple[int, int, int]
    Q_proj_down_weight: torch.Tensor
    Q_proj_up_weight: torch.Tensor
    KV_proj_down_weight: torch.Tensor
    KV_proj_up_weight: torch.Tensor
    wo_weight: torch.Tensor
