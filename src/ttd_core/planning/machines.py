"""Machines: the one this process runs on, asked of the system and not of torch, or one that is named."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Mapping

import attrs

from ttd_core.errors import UsageError, did_you_mean
from ttd_core.host import memory_bytes
from ttd_core.text import counted

#: Bytes of what is called a GB of a card, less what the driver keeps: one of 141 GB has 139 GiB.
_CALLED_GB = 0.988 * 2**30
#: Seconds that the driver's own command may take.
_ASK_S = 10.0


@attrs.frozen
class Card:
    """A GPU by its data sheet.

    :param title: its name.
    :param gigabytes: of memory, as its name has it, less what error correction takes of it.
    :param bandwidth: of that memory, 10^12 bytes a second.
    :param products: 10^12 operations a second of dense bfloat16 matrix products.
    """

    title: str
    gigabytes: float
    bandwidth: float
    products: float

    @property
    def memory(self) -> float:
        """What a program may have of it, in bytes."""
        return usable(self.gigabytes)


#: By the names that ``--gpu`` takes.
CARDS: Mapping[str, Card] = {
    "b200": Card("NVIDIA B200", 180, 8.0, 2250),
    "h200": Card("NVIDIA H200", 141, 4.8, 989),
    "h100": Card("NVIDIA H100 SXM", 80, 3.35, 989),
    "h100-pcie": Card("NVIDIA H100 PCIe", 80, 2.0, 756),
    "a100-80": Card("NVIDIA A100 80 GB", 80, 2.0, 312),
    "a100-40": Card("NVIDIA A100 40 GB", 40, 1.555, 312),
    "rtx-pro-6000": Card("NVIDIA RTX PRO 6000", 96, 1.79, 503),
    "l40s": Card("NVIDIA L40S", 45.5, 0.864, 362),
    "a6000": Card("NVIDIA RTX A6000", 48, 0.768, 155),
    "rtx-5090": Card("NVIDIA GeForce RTX 5090", 32, 1.79, 210),
    "rtx-4090": Card("NVIDIA GeForce RTX 4090", 24, 1.01, 165),
    "rtx-3090": Card("NVIDIA GeForce RTX 3090", 24, 0.936, 71),
    "l4": Card("NVIDIA L4", 22.8, 0.3, 121),
    "rtx-4080": Card("NVIDIA GeForce RTX 4080", 16, 0.717, 97),
    "t4": Card("NVIDIA T4", 15.2, 0.32, 65),
    "rtx-3060": Card("NVIDIA GeForce RTX 3060", 12, 0.36, 51),
}


@attrs.frozen
class Machine:
    """What a plan reckons with.

    :param card: its GPUs' kind; ``None`` for a machine without.
    :param gpus: how many.
    :param gpu_bytes: memory of each.
    :param cores: processors that may be used.
    :param host_bytes: the host's memory; 0 where it is not known.
    :param bfloat16: whether the processor multiplies bfloat16 itself.
    :param source: where all this is known from, for people.
    :param has_triton: whether the lean engine's kernels can be compiled.
    """

    card: Card | None
    gpus: int
    gpu_bytes: float
    cores: int
    host_bytes: float
    bfloat16: bool
    source: str
    has_triton: bool = True

    @property
    def on_gpu(self) -> bool:
        """Whether models run on a GPU."""
        return self.card is not None

    @property
    def device_bytes(self) -> float:
        """Memory of one device that a model runs on."""
        return self.gpu_bytes if self.card is not None else self.host_bytes

    @property
    def device(self) -> str:
        """One device, for people."""
        return self.card.title if self.card is not None else f"the CPU, {self.cores} cores"


def this_machine() -> Machine:
    """The machine that this process runs on.

    Cards that the catalogue does not have are reckoned as the one that comes next by memory, which is said.
    """
    cores = len(os.sched_getaffinity(0))
    host = float(memory_bytes())
    found = _cards_here()
    if not found:
        return Machine(None, 0, 0.0, cores, host, _has_bfloat16(), "this machine, which has no GPU")
    name, memory = found[0]
    card = _card_called(name, memory)
    source = "this machine"
    if card is None:
        card = attrs.evolve(_nearest(memory), title=name)
        source += f"; '{name}' is not in the catalogue: its rates are those of a {_nearest(memory).title}"
    has_triton = importlib.util.find_spec("triton") is not None
    return Machine(card, len(found), memory, cores, host, _has_bfloat16(), source, has_triton)


def named_machine(
    here: Machine, gpu: str | None, gpu_memory: float | None, gpus: int | None, cores: int | None
) -> Machine:
    """A machine named on the command line; what is not named is as it is here.

    :param gpu: a name of the catalogue, or ``none``.
    :param gpu_memory: of each card, in GB as its name has it.
    :raises UsageError: for a name that is not in the catalogue.
    """
    machine = here
    if gpu is not None and gpu.lower() == "none":
        machine = attrs.evolve(here, card=None, gpus=0, gpu_bytes=0.0, source="this machine without a GPU")
    elif gpu is not None:
        key = gpu.lower().replace(" ", "-")
        if key not in CARDS:
            raise UsageError(
                f"--gpu {gpu}: not in the catalogue ({', '.join(CARDS)}, or none).{did_you_mean(key, CARDS)} "
                "Another card: the nearest of these, with --gpu-memory"
            )
        card = CARDS[key]
        machine = attrs.evolve(
            here,
            has_triton=True,
            card=card,
            gpus=1,
            gpu_bytes=card.memory,
            source=f"{card.title} by its data sheet",
        )
    if gpu_memory is not None:
        if machine.card is None or (gpu is None and not here.on_gpu):
            card = _nearest(usable(gpu_memory))
            source = f"a GPU of {gpu_memory:g} GB, with the rates of a {card.title}"
            machine = attrs.evolve(machine, card=card, gpus=1, source=source)
        machine = attrs.evolve(machine, gpu_bytes=usable(gpu_memory))
    if gpus is not None:
        if machine.card is None:
            raise UsageError("--gpus: there is no GPU here; name one with --gpu or --gpu-memory")
        machine = attrs.evolve(machine, gpus=gpus)
    if cores is not None:
        return attrs.evolve(machine, cores=cores)
    if machine == here:
        return here
    return attrs.evolve(machine, source=f"{machine.source}; {counted(here.cores, 'core')}, as here (--cores)")


def usable(gigabytes: float) -> float:
    """Bytes that a program may have of a card of so many GB by its name."""
    return gigabytes * _CALLED_GB


def fitting_card(needed: float) -> str:
    """The name of the smallest card that has so many bytes; empty where none has."""
    fitting = [(card.gigabytes, name) for name, card in CARDS.items() if card.memory >= needed]
    return min(fitting)[1] if fitting else ""


def _cards_here() -> list[tuple[str, float]]:
    """Name and memory in bytes of each GPU that this process may use."""
    command = shutil.which("nvidia-smi")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if command is None or hidden in ("", "-1") or not _device_files():
        return []
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=_ASK_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.rpartition(",") for line in told.splitlines()]
    cards = [(name.strip(), float(memory) * 2**20) for name, _, memory in rows if memory.strip().isdigit()]
    visible = [each for each in (hidden or "").split(",") if each.strip()]
    return cards[: len(visible)] if visible else cards


def _device_files() -> bool:
    """Whether the system has a device of the driver's: its command may be there without."""
    return any(pathlib.Path("/dev").glob("nvidia[0-9]*"))


def _card_called(name: str, memory: float) -> Card | None:
    """The card of the catalogue that the driver calls so; of several, the one of that memory."""
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    found = []
    for card in CARDS.values():
        own = set(re.findall(r"[a-z0-9]+", card.title.lower())) - {"nvidia", "geforce", "gb", "80", "40"}
        if {word for word in own if any(letter.isdigit() for letter in word)} <= words:
            found.append((len(own & words), -abs(card.memory - memory), card.title, card))
    return max(found)[3] if found else None


def _nearest(memory: float) -> Card:
    """The largest card of at most so many bytes, or the smallest of all."""
    smaller = [card for card in CARDS.values() if card.memory <= memory * 1.02]
    pick = max(smaller, key=lambda card: card.gigabytes, default=None)
    return pick or min(CARDS.values(), key=lambda card: card.gigabytes)


def _has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself, as torch is asked elsewhere."""
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", flags, re.MULTILINE)
    words = set(found[1].split()) if found else set()
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
