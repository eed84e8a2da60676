"""What can be set: keys of a config, options of backends and problems."""

from __future__ import annotations

import importlib
import json
import tomllib
from collections.abc import Iterable, Sequence
from typing import Any

from tools.reference.markdown import ROOT, code, page, table, value
from ttd_core import config
from ttd_core.config.settings import describe_fields
from ttd_core.options import Options
from ttd_core.plugin import entries, registry
from ttd_core.problem import Baseline, Problem

#: Backends with options of their own, and the class that holds these.
BACKEND_OPTIONS = {
    "local": "ttd_core.policy.local.policy:LocalOptions",
    "openai": "ttd_core.policy.openai.policy:OpenAIOptions",
    "tinker": "ttd_core.policy.tinker.options:TinkerOptions",
}


def config_page() -> str:
    """Every key of a run's config, the variants, and the options of policy backends."""
    sections: dict[str, list[list[str]]] = {}
    for key, fits, default, meaning in config.describe_settings():
        section = key.rpartition(".")[0]
        mark = "may change" if key in config.RESUMABLE_KEYS else ""
        sections.setdefault(section, []).append([code(key), fits, value(default), mark, meaning])
    titles = {
        "": "The run",
        "search": "Search",
        "learn": "Learning",
        "policy": "Policy",
        "sandbox": "Sandbox",
        "deadline": "Deadline of a step",
    }
    header = ["key", "takes", "default", "on resume", "meaning"]
    parts = [f"## {titles[name]}\n\n{table(header, rows)}" for name, rows in sections.items()]
    variants = [
        [code(name), ", ".join(code(f"{key} = {json.dumps(each)}") for key, each in changes.items())]
        for name, changes in config.VARIANTS.items()
    ]
    presets = [
        [code(name), ", ".join(code(f"{key} = {json.dumps(each)}") for key, each in keys.items())]
        for name, keys in config.PRESETS.items()
    ]
    backends = [
        f"### policy.options of {name}\n\n" + _options_table(describe_fields(_located(target)))
        for name, target in BACKEND_OPTIONS.items()
    ]
    return page(
        "Config keys",
        "Everything that determines a run. A key is set in a TOML file (`--config FILE`), by "
        "`--set KEY=VALUE`, or by a flag of [`ttd run`](commands.md#ttd-run); "
        "[Set up a run](../configure.md) says which wins. An absent value is the word `none`. A value is "
        "never coerced: one that does not fit is refused, saying what would. `ttd run --list-settings` "
        "prints the same.",
        *parts,
        "## Variants",
        "`--variant NAME` is the paper's Table 8: the full method and its seven ablations.",
        table(["variant", "sets"], variants),
        "## Presets",
        "`--preset NAME` is a size to begin with: its keys come before those of a file and of the command "
        "line. The run's stored config has them spelled out.",
        table(["preset", "sets"], presets),
        "## Options of policy backends",
        "What `policy.options` takes depends on `policy.backend`. `scripted` takes `replies`, a list of "
        "texts, or `file`, a JSON file that holds one. [Choose a model or a server](../backends.md) and "
        "[The learner](../learner.md) say more of the others.",
        *backends,
    )


def _options_table(rows: Iterable[tuple[str, str, Any, str]]) -> str:
    return table(
        ["option", "takes", "default", "meaning"],
        ([code(name), fits, value(default), meaning] for name, fits, default, meaning in rows),
    )


def _located(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def problems_page() -> str:
    """Every problem of our distributions with every option."""
    parts = [
        "What `ttd show PROBLEM` prints of each problem published beside the core. Options are set by "
        "`-o NAME=VALUE`, or under `[options]` of a config.",
        "## Options of every problem",
        _options_table(describe_fields(Options)),
        "Where a problem gives one of these another default or sentence, a table below has it again.",
    ]
    for distribution in sorted(our_plugins()):
        found = [entry for entry in entries.entries() if entry.distribution == distribution]
        parts.append(_distribution(distribution, [registry.load_class(entry) for entry in found]))
    return page("Problems", *parts)


def _distribution(name: str, classes: Sequence[type[Problem]]) -> str:
    """The problems of one distribution; options that all of them have are told once."""
    tables = {cls: describe_fields(cls.options_type) for cls in classes}
    known = describe_fields(Options)
    shared = [row for row in tables[classes[0]] if all(row in rows for rows in tables.values())]
    shared = [row for row in shared if row not in known]
    parts = [f"## {name}"]
    if shared and len(classes) > 1:
        known = [*known, *shared]
        parts.append(f"Options of all its problems:\n\n{_options_table(shared)}")
    for cls, rows in tables.items():
        parts.append(_problem(cls, [row for row in rows if row not in known]))
    return "\n\n".join(parts)


def _problem(cls: type[Problem], own: Sequence[tuple[str, str, Any, str]]) -> str:
    aim = "smaller" if cls.direction == "min" else "larger"
    defines = cls.signature if cls.language == "python" else "a whole program"
    facts = [
        ["score", f"{cls.metric}; {aim} is better"],
        ["a candidate", f"{cls.language}: {code(defines) if cls.language == 'python' else defines}"],
    ]
    for each in cls.baselines:
        facts.append([each.label, " ".join(filter(None, [_known(each), f"({each.origin})"]))])
    options = f"\n\n{_options_table(own)}" if own else ""
    return f"### {cls.name}\n\n{cls.title}.\n\n{table(['', ''], facts)}{options}"


def _known(baseline: Baseline) -> str:
    """A published score with the digits that are known of it."""
    places = baseline.decimals
    return f"{baseline.score:.10g}" if places is None else f"{baseline.score:.{places}f}"


def our_plugins() -> set[str]:
    """Names of the distributions in ``plugins/``."""
    files = sorted((ROOT / "plugins").glob("*/pyproject.toml"))
    return {tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"] for path in files}
