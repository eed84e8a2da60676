"""``ttd doctor``: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import shutil
import sys
from collections.abc import Iterator

import attrs
import click

from ttd_core.cli.output import json_option, print_json, say
from ttd_core.config import RunConfig
from ttd_core.errors import EnvironmentLacksError, TtdError, one_line
from ttd_core.host import memory_bytes
from ttd_core.plugin.entries import PLUGINS, PROBLEMS, clashes, entries
from ttd_core.plugin.hooks import Hooks
from ttd_core.plugin.registry import load_all
from ttd_core.policy.local.engine import FAMILIES, machine_lacks
from ttd_core.run.backends import open_executor
from ttd_core.sandbox.base import Level, PythonJob
from ttd_core.sandbox.probe import probe
from ttd_core.text import showable_line

#: Optional extras, by what they bring in.
EXTRAS = {
    "openai": ["openai"],
    "ray": ["ray"],
    "report": ["jinja2", "pygments"],
    "tensorboard": ["tensorboard"],
    "testing": ["hypothesis", "pytest"],
    "tinker": ["tinker"],
    "trackio": ["trackio"],
    "ui": ["jinja2", "pygments", "starlette", "uvicorn"],
    "wandb": ["wandb"],
}
#: Less free disk than this is worth a warning: a small model and its run take this much.
DISK_WANTED = 5 * 10**9


@attrs.frozen
class Diagnosis:
    """What was found out about one thing that runs need or can use: one line of the printed report.

    :param area: machine, package, extra, sandbox, problem, plugin or storage.
    :param name: of the thing, in its area.
    :param status: ``ok``, ``absent`` (optional and not here), ``warning``, or ``failed``.
    :param detail: version, path, level, or what is wrong and what to do.
    """

    area: str
    name: str
    status: str
    detail: str


@click.command("doctor")
@json_option
def doctor(as_json: bool) -> int:
    """Check what this machine has and lacks.

    Imports every plugin and tries the sandbox. Exit code 3 when something is missing that a run needs; a
    plugin that fails is reported on its own line and stops nothing else.

    \b
    Example:
      ttd doctor
      ttd doctor --json
    """
    diagnoses = [*machine(), *packages(), *extras(), *sandbox(), *plugins(), *storage()]
    if as_json:
        print_json([attrs.asdict(diagnosis) for diagnosis in diagnoses])
    else:
        area = ""
        width = max(len(diagnosis.name) for diagnosis in diagnoses)
        for diagnosis in diagnoses:
            if diagnosis.area != area:
                area = diagnosis.area
                say(f"{area}:")
            detail = showable_line(diagnosis.detail)
            say(f"  {diagnosis.name:{width}}  {diagnosis.status:7}  {detail}".rstrip())
    lacking = [each for each in diagnoses if each.status == "failed" and each.area in ("package", "sandbox")]
    return EnvironmentLacksError.exit_code if lacking else 0


def machine() -> Iterator[Diagnosis]:
    """Python, the system, processors and memory."""
    yield Diagnosis("machine", "python", "ok", f"{platform.python_version()} at {sys.executable}")
    yield Diagnosis(
        "machine", "system", "ok", f"{platform.system()} {platform.release()} {platform.machine()}"
    )
    memory = memory_bytes() / 2**30
    usable = len(os.sched_getaffinity(0))
    yield Diagnosis("machine", "resources", "ok", f"{usable} processors, {memory:.1f} GiB of memory")


def packages() -> Iterator[Diagnosis]:
    """torch with its device, transformers, peft, and ttd itself."""
    yield _installed("package", "ttd-core", "failed", "pip install ttd-core")
    yield _torch()
    yield _installed("package", "transformers", "failed", "pip install transformers")
    yield _installed("package", "peft", "failed", "pip install peft")


def extras() -> Iterator[Diagnosis]:
    """Optional extras, each by the packages it needs."""
    for extra, needed in EXTRAS.items():
        versions = {name: _version(name) for name in needed}
        missing = [name for name, version in versions.items() if version is None]
        if missing:
            hint = f"pip install 'ttd-core[{extra}]' (lacks {', '.join(missing)})"
            yield Diagnosis("extra", extra, "absent", hint)
        else:
            yield Diagnosis("extra", extra, "ok", ", ".join(f"{name} {versions[name]}" for name in needed))


def plugins() -> Iterator[Diagnosis]:
    """Every problem and plugin, imported; and names claimed twice."""
    for group, area in ((PROBLEMS, "problem"), (PLUGINS, "plugin")):
        for loaded in load_all(group):
            if loaded.error is None:
                yield Diagnosis(area, loaded.entry.name, "ok", loaded.entry.origin)
            else:
                yield Diagnosis(area, loaded.entry.name, "failed", str(loaded.error))
        for clash in clashes(entries(group)):
            yield Diagnosis(area, "clash", "failed", str(clash))


def storage() -> Iterator[Diagnosis]:
    """The model cache and the working folder, with the space left."""
    from ttd_core.fetching import cache_folder  # noqa: PLC0415 - brings the hub's client

    for name, folder in (("model cache", cache_folder()), ("working folder", pathlib.Path.cwd())):
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(existing).free
        status, detail = "ok", f"{folder}, {free / 1e9:.1f} GB free"
        if not os.access(existing, os.W_OK):
            status, detail = "failed", f"{folder} cannot be written"
        elif free < DISK_WANTED:
            status, detail = "warning", f"{detail}; a small model and its run want {DISK_WANTED / 1e9:.0f} GB"
        yield Diagnosis("storage", name, status, detail)


def sandbox() -> Iterator[Diagnosis]:
    """The level this machine forms, each layer it is made of, and a job that really ran in it."""
    try:
        report = probe()
    except TtdError as error:
        yield Diagnosis("sandbox", "level", "failed", str(error))
        return
    formed = report.level is not Level.REFUSED
    if formed:
        detail = f"{report.level}, {report.how}; jobs end by {report.kill} and run as {report.user}"
        yield Diagnosis("sandbox", "level", "ok", detail)
    else:
        refusal = "no level can be formed; what is absent below says what to do"
        yield Diagnosis("sandbox", "level", "failed", refusal)
    for layer in report.layers:
        remedy = f"; to have it: {layer.remedy}" if layer.remedy and not layer.present else ""
        yield Diagnosis("sandbox", layer.name, "ok" if layer.present else "absent", f"{layer.detail}{remedy}")
    if formed:
        yield _trial_job()


def _trial_job() -> Diagnosis:
    try:
        with open_executor(Hooks(), RunConfig()) as executor:
            result = executor.run(PythonJob(source="def run():\n    return 1\n", entry="run"))
    except TtdError as error:
        return Diagnosis("sandbox", "trial job", "failed", str(error))
    if result.ok and result.value == 1:
        return Diagnosis(
            "sandbox", "trial job", "ok", f"{result.level}, ran in {1000 * result.wall_s:.1f} ms"
        )
    return Diagnosis("sandbox", "trial job", "failed", f"{result.status}: {result.message}")


def _torch() -> Diagnosis:
    try:
        import torch  # noqa: PLC0415 - takes seconds to load
    except ImportError as error:
        return Diagnosis("package", "torch", "failed", f"pip install torch ({one_line(error)})")
    if not torch.cuda.is_available():
        return Diagnosis(
            "package",
            "torch",
            "ok",
            f"{torch.__version__}, no CUDA device: models run on the CPU, by the plain engine",
        )
    names = {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    return Diagnosis(
        "package",
        "torch",
        "ok",
        f"{torch.__version__}, CUDA {torch.version.cuda}: {', '.join(names)}; {_engines()}",
    )


def _engines() -> str:
    """Which engine serves which models on a GPU here."""
    lacks = machine_lacks(True, importlib.util.find_spec("triton") is not None)
    if lacks:
        return f"models run by the plain engine, for {lacks}"
    return f"{', '.join(sorted(FAMILIES))} run by the lean engine, others by the plain one"


def _installed(area: str, name: str, missing: str, hint: str) -> Diagnosis:
    version = _version(name)
    return Diagnosis(area, name, "ok", version) if version else Diagnosis(area, name, missing, hint)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
