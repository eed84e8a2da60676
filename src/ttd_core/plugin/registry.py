"""From entry points to problems: import them, check them and build them, with the plugin at fault named.

:mod:`ttd_core.plugin.entries` says what is installed without importing anything; its names are here too.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import attrs

from ttd_core.adopting.problem import AdoptedProblem, problem_class
from ttd_core.adopting.reading import read_task
from ttd_core.config import PolicyConfig, RunConfig
from ttd_core.config.settings import dump, field_types, fill
from ttd_core.errors import PluginError, TtdError, UsageError, one_line
from ttd_core.plugin.entries import (
    ADOPTED,
    PROBLEMS,
    Entry,
    ProblemEntry,
    adopted_folder,
    clashes,
    entries,
    find,
    is_adopted_reference,
    is_file_reference,
    split_file_reference,
)
from ttd_core.problem import Options, Problem

__all__ = [
    "Loaded",
    "ProblemEntry",
    "clashes",
    "entries",
    "find",
    "import_entry",
    "load",
    "load_all",
    "load_class",
    "provenance",
    "resolve",
]


@attrs.frozen
class Loaded:
    """What importing one entry gave.

    :param value: the class or module; ``None`` where it failed.
    :param error: why it failed; ``None`` where it did not.
    """

    entry: Entry
    value: Any = None
    error: TtdError | None = None


def load(name: str, options: Mapping[str, Any] | None = None) -> Problem:
    """Build a problem by name, from ``FILE.py:Class``, or from ``adopted:FOLDER``.

    :param options: its options by name, as TOML types them; those left out take their defaults.
    :raises UnknownProblemError: when nothing registers the name.
    :raises RegistryClashError: when two distributions do.
    :raises ConfigError: for an unknown option, or a value that does not fit.
    :raises PluginError: when the plugin fails to import, or its class is not a whole problem.
    """
    entry = find(name)
    cls = load_class(entry)
    filled = fill(cls.options_type, dict(options or {}), where=f"problem {cls.name}: ", noun="option")
    try:
        return cls(filled)
    except TtdError:
        raise
    except Exception as error:
        raise PluginError(entry.label, "__init__", one_line(error)) from error


def resolve(config: RunConfig) -> tuple[Problem, RunConfig]:
    """The config's problem, and the config with every option of it spelled out and files made absolute.

    :raises TtdError: as :func:`load`.
    """
    problem = load(config.problem, config.options)
    name = config.problem
    if is_file_reference(name):
        path, attribute = split_file_reference(name)
        attribute = attribute or type(problem).__qualname__
        name = f"{pathlib.Path(path).resolve()}:{attribute}"
    elif is_adopted_reference(name):
        name = f"{ADOPTED}{adopted_folder(name)}"
    return problem, attrs.evolve(
        config, problem=name, options=dump(problem.options), policy=_with_absolute_paths(config.policy)
    )


def _with_absolute_paths(policy: PolicyConfig) -> PolicyConfig:
    """The model's folder and the file of replies, wherever the run is resumed from."""
    folder, model = pathlib.Path(policy.model).expanduser(), policy.model
    # An empty name is refused by whoever opens the model: it does not mean the folder one is in.
    if model.strip() and folder.exists():
        model = str(folder.absolute())
    options = dict(policy.options)
    if isinstance(options.get("file"), str):
        options["file"] = str(pathlib.Path(options["file"]).expanduser().absolute())
    return attrs.evolve(policy, model=model, options=options)


def load_all(group: str = PROBLEMS) -> list[Loaded]:
    """Import every entry of a group; what fails is reported in its place and stops nothing else."""
    loader = load_class if group == PROBLEMS else import_entry
    outcomes = []
    for entry in entries(group):
        try:
            outcomes.append(Loaded(entry, value=loader(entry)))
        except TtdError as error:
            outcomes.append(Loaded(entry, error=error))
    return outcomes


def load_class(entry: Entry) -> type[Problem]:
    """The problem class an entry names, imported and checked.

    :raises PluginError: when it fails to import, or is not a whole problem of that name.
    :raises UsageError: when it is a file that is not there, or does not hold the class.
    """
    if is_adopted_reference(entry.value):
        return problem_class(read_task(adopted_folder(entry.value)))
    cls = import_entry(entry) if entry.distribution else _load_from_file(entry)
    complaint = _complaint(cls)
    if not complaint and entry.distribution and cls.name != entry.name:
        complaint = f"its class says name = {cls.name!r}; it must equal the entry point's name"
    if complaint:
        raise PluginError(entry.label, "import", f"{entry.value}: {complaint}")
    return cls  # type: ignore[no-any-return]


def import_entry(entry: Entry) -> Any:
    """Import what an entry names: an attribute of a module, or a module.

    :raises PluginError: naming the plugin and what went wrong, for anything that importing it raises.
    """
    module_name, _, attribute = entry.value.partition(":")
    try:
        value: Any = importlib.import_module(module_name.strip())
        for part in filter(None, attribute.strip().split(".")):
            value = getattr(value, part)
    except (Exception, SystemExit) as error:
        raise PluginError(entry.label, "import", one_line(error)) from error
    return value


def provenance(problem: Problem) -> str:
    """Name and distribution of a problem (``"erdos (ttd-math 0.1.0)"``), or its file, for messages."""
    if isinstance(problem, AdoptedProblem):
        return f"{problem.name} ({problem.adopted.folder})"
    cls = type(problem)
    value = f"{cls.__module__}:{cls.__qualname__}"
    for entry in entries():
        if entry.value.replace(" ", "") == value:
            return entry.label
    module = sys.modules.get(cls.__module__)
    return f"{cls.name} ({getattr(module, '__file__', None) or cls.__module__})"


def _load_from_file(entry: Entry) -> Any:
    path_text, attribute = split_file_reference(entry.value)
    path = pathlib.Path(path_text).resolve()
    if not path.is_file():
        raise UsageError(f"{path_text}: no such file")
    # The module needs a place in sys.modules: type hints of its classes are looked up there.
    name = f"ttd_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path_text}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(entry.label, "import", one_line(error)) from error
    own = [
        value.__qualname__
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Problem) and value.__module__ == name
    ]
    if attribute is None and len(own) == 1:
        attribute = own[0]
    if attribute is None or not hasattr(module, attribute):
        lacks = f"has no '{attribute}'" if attribute else "holds no single problem"
        hint = f"name one of its problems: {', '.join(own)}" if own else "it defines no problem"
        raise UsageError(f"{path_text}: {lacks}; {hint}")
    return getattr(module, attribute)


def _complaint(cls: Any) -> str:
    """What keeps ``cls`` from being a whole problem; empty when nothing does."""
    is_problem = inspect.isclass(cls) and issubclass(cls, Problem)
    if not is_problem:
        return "not a subclass of ttd_core.Problem"
    if missing := sorted(cls.__abstractmethods__):
        return f"it does not define {', '.join(missing)}"
    texts = {name: getattr(cls, name, None) for name in ("name", "title", "metric", "direction")}
    for name, value in texts.items():
        if not isinstance(value, str):
            return f"it does not set {name} to text"
    if texts["direction"] not in ("min", "max"):
        return f"direction is {texts['direction']!r}; it must be 'min' or 'max'"
    if not (inspect.isclass(cls.options_type) and issubclass(cls.options_type, Options)):
        return "options_type is not a subclass of ttd_core.Options"
    try:
        field_types(cls.options_type)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        return f"the type hints of {cls.options_type.__name__} cannot be read: {one_line(error)}"
    return ""
