"""One device and several of one host: the same replies and the same step, and how long they take.

    python benchmarks/devices.py [--devices 2] [--size 0.6b] [--groups 8] [--group 64]

Random weights, prompts of 512 tokens, 128 new tokens; sampling is timed on its second call, learning on its
second step over what was sampled. `same replies` counts replies equal token for token: in bfloat16 the shapes
of the products differ with the number of rows, and a random number may fall on either side of a rounding.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence

from command_line import positive_int, require_packages, run_benchmark

require_packages("torch")

import models
import numpy as np
import tokenizers
import torch
import transformers

from ttd_core import config as configs
from ttd_core.policy.base import Sample, SamplingParams, Sequences
from ttd_core.policy.local.policy import open_local
from ttd_core.types import Message

PROMPT, NEW = 512, 128
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def write_model(folder: pathlib.Path, size: str, device: torch.device) -> None:
    """A random model and a tokenizer whose words are the ids of all tokens."""
    model = models.make(size, device)
    model.save_pretrained(folder)
    core = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({f"t{i}": i for i in range(models.vocabulary(size))}, unk_token="t0")
    )
    core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=core, chat_template=TEMPLATE).save_pretrained(
        folder
    )
    del model
    if device.type == "cuda":
        torch.cuda.empty_cache()


def run(
    folder: pathlib.Path, devices: int, prompts: Sequence[Sequence[Message]], count: int
) -> tuple[dict[tuple[int, int], Sample], float, float]:
    """The replies of the second call, its seconds, and the seconds of the second step."""
    options = {"devices": devices, "engine": "lean"}
    overrides = {"policy.model": str(folder), "policy.batch": 512, "policy.options": options}
    policy = open_local(configs.load("none", overrides=overrides | {"policy.lora_rank": 32}))
    try:
        for _ in range(2):
            start = time.perf_counter()
            params = SamplingParams(max_new_tokens=NEW, seed=1)
            samples = {(s.prompt, s.index): s for s in policy.sample(prompts, count, params)}
            sampling = time.perf_counter() - start
        batch = []
        for prompt in range(len(prompts)):
            group = [samples[prompt, index] for index in range(count)]
            completions = [sample.completion for sample in group]
            advantages = [np.full(len(c.tokens), (-1.0) ** n) for n, c in enumerate(completions)]
            batch.append(Sequences(group[0].prompt_tokens, completions, advantages))
        for _ in range(2):
            start = time.perf_counter()
            metrics = policy.train_step(batch, 1.0)
            learning = time.perf_counter() - start
        print(f"  {policy.name}: loss {metrics['loss']:.4f}, gradient {metrics['grad_norm']:.4f}", flush=True)
    finally:
        policy.close()
    return samples, sampling, learning


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", type=positive_int, default=2)
    parser.add_argument("--size", default="0.6b", choices=models.SIZES)
    parser.add_argument("--groups", type=positive_int, default=8)
    parser.add_argument("--group", type=positive_int, default=64)
    chosen = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "model"
        write_model(folder, chosen.size, device)
        ids = models.prompts(chosen.groups, PROMPT, models.vocabulary(chosen.size))
        texts = [" ".join(f"t{i}" for i in prompt) for prompt in ids]
        prompts: list[list[Message]] = [[{"role": "user", "content": text}] for text in texts]
        results = {n: run(folder, n, prompts, chosen.group) for n in (1, chosen.devices)}
    tokens = chosen.groups * chosen.group * NEW
    print(f"{chosen.size}, {chosen.groups} x {chosen.group} replies of {NEW} tokens")
    for n, (_, sampling, learning) in results.items():
        print(f"{n} devices: {tokens / sampling:10,.0f} tokens/s sampled, {tokens / learning:10,.0f} learned")
    first, second = (results[n][0] for n in (1, chosen.devices))
    same = sum(np.array_equal(first[k].completion.tokens, second[k].completion.tokens) for k in first)
    print(f"same replies: {same} of {len(first)}")


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
