"""vLLM on random weights of the same shapes; what `benchmarks/sampling.py --peer vllm` starts as a child.

The model's config and adapter are written by :mod:`models`, so shapes and adapted projections are ours: rank
32 on every projection, of mixtures of experts on attention. Weights are those of ours, tensor by tensor
(:mod:`random_weights`), handed to vLLM's model as a checkpoint's are: they decide which experts a step reads.
The adapter's numbers are of the same size as ours, not the same. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import engines
from command_line import leave, positive_int

#: Batch sizes that vLLM records graphs for, and those of the rows measured; its own list takes longer.
CAPTURED = [1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512]
_RANK = 32
_MODES = {"base": "vLLM", "lora": "vLLM, adapter"}
#: So that nothing is asked of the network, and the engine runs in the process that measures it.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_USE_DEEP_GEMM": "0",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
}


def why_missing() -> str:
    """Why vLLM cannot be measured here; empty if it can."""
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed here (pip install vllm==0.24.0 in an environment of its own)"
    return ""


def jobs(sizes: Sequence[str], modes: Sequence[str], shape: Sequence[str]) -> list[engines.Job]:
    """One engine for each size and mode, and a plainer setting to try where one brings nothing.

    :param modes: ``base`` or ``lora``.
    :param shape: the arguments that say what is sampled: rows, group, prompt, new tokens.
    """
    made = []
    for size in sizes:
        for mode in modes:
            name = f"{size}, {_MODES[mode]}"
            command = [__file__, "--size", size, "--mode", mode, *shape]
            eager = engines.Job(f"{name} (eager)", [*command, "--eager"], _ENVIRONMENT, quiet=True)
            otherwise = eager
            if size.startswith("gpt-oss"):
                # Triton's kernels for packed experts need a release of Triton that fits.
                marlin = ["--options", '{"moe_backend": "marlin"}']
                otherwise = engines.Job(
                    f"{name} (marlin)", [*command, *marlin], _ENVIRONMENT, quiet=True, otherwise=eager
                )
            made.append(engines.Job(name, command, _ENVIRONMENT, quiet=True, otherwise=otherwise))
    return made


def write_files(size: str, folder: pathlib.Path, seed: int = 7) -> tuple[pathlib.Path, list[str]]:
    """The model's ``config.json`` in ``folder``, and its adapter, as peft saves one, in a folder within.

    :return: the adapter's folder, and the names of what it adapts.
    """
    import models
    import torch
    from safetensors.torch import save_file

    model = models.make(size, torch.device("meta"))
    config = model.config.to_dict() | {"eos_token_id": 0, "bos_token_id": 0, "dtype": "bfloat16"}
    if model.config.model_type == "gpt_oss":
        kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
        config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": kept}
    config["architectures"] = [type(model).__name__]
    (folder / "config.json").write_text(json.dumps(config, default=str))
    adapted = models.adapt(model, rank=_RANK)
    # Of a small model peft keeps whole names.
    targets = sorted({name.rpartition(".")[2] for name in adapted.peft_config["default"].target_modules})
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            if "lora_A" in name:
                # As peft draws it.
                most = parameter.shape[1] ** -0.5
                drawn = torch.empty(parameter.shape).uniform_(-most, most, generator=generator)
            else:
                drawn = torch.randn(parameter.shape, generator=generator) * 0.01
            tensors[name.replace(".default.", ".")] = drawn.to(torch.bfloat16)
    adapter = folder / "adapter"
    adapter.mkdir()
    save_file(tensors, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": _RANK,
        "lora_alpha": _RANK,
        "bias": "none",
        "target_modules": targets,
        "base_model_name_or_path": "",
    }
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    return adapter, targets


def weights_for(size: str, device: Any) -> Iterator[tuple[str, Any]]:
    """Our weights of a size, under the names that checkpoints have for them, drawn one after another.

    :param device: where they are drawn: a checkpoint's size is never held twice.
    """
    import models
    import random_weights
    import torch

    model = models.make(size, torch.device("meta"))
    is_mixture = models.experts_of(model.config) > 0
    for name, tensor in random_weights.drawn(models.weights(model), is_mixture, device):
        yield from random_weights.as_published(name, tensor)


def _draw_as_ours(size: str) -> None:
    """Have vLLM's dummy loader hand the model our weights, as its other loader hands it a checkpoint's.

    What makes its kernels' layouts of them comes afterwards, as with a checkpoint.
    """
    from vllm.model_executor.model_loader import dummy_loader

    def load(_: Any, model: Any, _config: Any) -> None:
        parameters = dict(model.named_parameters())
        device = next(iter(parameters.values())).device
        found = model.load_weights(weights_for(size, device))
        # Scales of attention's numbers, where it has any, are no part of a checkpoint; those of packed
        # experts are.
        apart = ("q_scale", "k_scale", "v_scale", "prob_scale")
        missing = sorted(name for name in parameters.keys() - found if not name.endswith(apart))
        if missing:
            raise RuntimeError(f"vLLM took none of our weights as {', '.join(missing[:3])}")

    dummy_loader.DummyModelLoader.load_weights = load


def _engine_options(
    arguments: argparse.Namespace, model: pathlib.Path, targets: Sequence[str]
) -> dict[str, Any]:
    options: dict[str, Any] = {
        "model": str(model),
        "skip_tokenizer_init": True,
        "load_format": "dummy",
        "dtype": "bfloat16",
        "seed": 0,
        "max_model_len": -(-(arguments.prompt + arguments.new + 64) // 1024) * 1024,
        "max_num_seqs": max(arguments.rows),
        "enable_prefix_caching": True,
        "gpu_memory_utilization": 0.85,
        "generation_config": "vllm",
        "enforce_eager": arguments.eager,
    }
    if not arguments.size.startswith("gpt-oss"):
        # Sinks and windows want a backend of vLLM's own choice.
        options["attention_backend"] = "FLASH_ATTN"
    if not arguments.eager:
        sizes = sorted({*(size for size in CAPTURED if size <= max(arguments.rows)), *arguments.rows})
        options["compilation_config"] = {"cudagraph_capture_sizes": sizes}
    if arguments.mode == "lora":
        # Without the names vLLM would wrap the embedding, the head and the experts too.
        options |= {"enable_lora": True, "max_lora_rank": _RANK, "max_loras": 1}
        options["lora_target_modules"] = list(targets)
    return {**options, **json.loads(arguments.options)}


def _measure(arguments: argparse.Namespace, llm: Any, request: Any, start: float) -> None:
    """Send a row for each number of rows."""
    import torch
    from vllm import SamplingParams

    def generate(count: int, group: int, new: int, seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, 100_000, (count, arguments.prompt), generator=generator).tolist()
        params = SamplingParams(
            n=group,
            temperature=1.0,
            top_p=1.0,
            top_k=-1,
            max_tokens=new,
            min_tokens=new,
            ignore_eos=True,
            logprobs=0,
            detokenize=False,
        )
        began = time.perf_counter()
        prompts = [{"prompt_token_ids": one} for one in ids]
        found = llm.generate(prompts, params, use_tqdm=False, lora_request=request)
        took = time.perf_counter() - began
        tokens = sum(len(reply.token_ids) for one in found for reply in one.outputs)
        if tokens != count * group * new:
            raise RuntimeError(f"vLLM returned {tokens} tokens of {count * group * new}")
        return took

    for rows in arguments.rows:
        group = min(arguments.group, rows)
        names = {
            "size": arguments.size,
            "rows": rows,
            "group": group,
            "engine": _MODES[arguments.mode] + (" (eager)" if arguments.eager else ""),
        }
        with engines.guarded(**names):
            generate(rows // group, group, min(arguments.new, 40), 1)
            torch.cuda.reset_peak_memory_stats()
            took = generate(rows // group, group, arguments.new, 2)
            engines.send(
                **names,
                rate=rows * arguments.new / took,
                ms=took / arguments.new * 1e3,
                start=start,
                peak=torch.cuda.max_memory_allocated(),
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve one engine; see :mod:`engines`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", required=True)
    parser.add_argument("--mode", choices=_MODES, default="lora")
    parser.add_argument("--rows", nargs="+", type=positive_int, default=[64, 512])
    parser.add_argument("--group", type=positive_int, default=64)
    parser.add_argument("--prompt", type=positive_int, default=512)
    parser.add_argument("--new", type=positive_int, default=128)
    parser.add_argument("--eager", action="store_true", help="neither torch.compile nor CUDA graphs")
    parser.add_argument("--options", default="{}", help="JSON: more arguments of vllm.LLM")
    chosen = parser.parse_args(arguments)
    if reason := why_missing():
        leave(reason)
    os.environ |= {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        adapter, targets = write_files(chosen.size, folder)
        began = time.perf_counter()
        import vllm

        # Imports most of vLLM, which is start-up too.
        _draw_as_ours(chosen.size)
        imported = time.perf_counter() - began
        engines.wait_for_turn()
        began = time.perf_counter()
        options = _engine_options(chosen, folder, targets)
        try:
            llm = vllm.LLM(**options)
        except (TypeError, ValueError) as error:
            unknown = [key for key in ("attention_backend", "generation_config") if key in str(error)]
            if not unknown:
                raise
            llm = vllm.LLM(**{key: value for key, value in options.items() if key not in unknown})
        start = imported + time.perf_counter() - began
        request = None
        if chosen.mode == "lora":
            from vllm.lora.request import LoRARequest

            request = LoRARequest("adapter", 1, str(adapter))
        _measure(chosen, llm, request, start)
        # finish() leaves without unwinding.
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
        engines.finish()


if __name__ == "__main__":
    main()
