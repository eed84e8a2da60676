"""From layers to a config: defaults, the variant, a preset, a TOML file, the command line; later wins.

A variant counts in the layer that names it: one named on the command line also overrides the file.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pathlib
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs
import tomli_w

from ttd_core.config.presets import PRESETS
from ttd_core.config.schema import (
    RESUMABLE_KEYS,
    VARIANTS,
    DeadlineConfig,
    LearnConfig,
    PolicyConfig,
    RunConfig,
    SandboxConfig,
    SearchConfig,
)
from ttd_core.config.settings import (
    absent_as_word,
    describe,
    describe_fields,
    field_types,
    fill,
    fits,
    is_huge,
    parse_assignment,
    sentence_of,
)
from ttd_core.errors import ConfigError, UsageError, did_you_mean
from ttd_core.input_files import read_text_file


@attrs.frozen
class Difference:
    """One key on which two configs differ.

    :param key: dotted.
    :param first: its value in the first config; ``None`` where that has no such option.
    :param second: the same of the second.
    """

    key: str
    first: Any
    second: Any

    def __str__(self) -> str:
        return f"{self.key}: {absent_as_word(self.first)!r} -> {absent_as_word(self.second)!r}"


def load(
    problem: str,
    *,
    file: str | pathlib.Path | None = None,
    sets: Sequence[str] = (),
    variant: str | None = None,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Resolve a config from its layers.

    :param problem: the problem's name, or ``FILE.py:Class``; empty takes the file's.
    :param file: a TOML file with any of the keys.
    :param sets: ``KEY=VALUE`` texts, as given to ``--set``.
    :param variant: a name in :data:`VARIANTS`.
    :param preset: a name in :data:`PRESETS`; its keys come before the file's.
    :param overrides: dotted keys to values that have flags of their own, same rank as ``sets``.
    :raises ConfigError: for an unknown key or variant, a value that does not fit, a file that cannot be
        read or is for another problem, or two different values for one key on the command line.
    """
    layers = [] if preset is None else [_entries(PRESETS[preset])]
    if file is not None:
        layers.append(_read_file(pathlib.Path(file)))
        named = layers[-1].get("problem", problem)
        if problem and named != problem:
            raise ConfigError(f"{file}: it is for problem '{named}', but '{problem}' was asked for")
    flags = dict(overrides or {})
    flags |= {"variant": variant} if variant is not None else {}
    flags |= {"problem": problem} if problem else {}
    config = _build([*layers, parse_sets(sets, flags)])
    if not config.problem:
        raise ConfigError("no problem named; `ttd list-problems` shows the installed ones")
    return config


def from_layers(layers: Sequence[Mapping[str, Any]]) -> RunConfig:
    """Resolve a config from tables, the lowest first: nested, or with dotted keys, or both.

    :raises ConfigError: for an unknown key or variant, or a value that does not fit.
    """
    return _build([_entries(layer) for layer in layers])


def parse_sets(sets: Sequence[str], flags: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Dotted keys and checked values of ``--set`` texts, ready for :func:`override`.

    :param flags: dotted keys to values that have flags of their own, same rank as ``sets``.
    :raises ConfigError: naming the text that is wrong and what fits, or the key that a flag sets otherwise.
    """
    values: dict[str, Any] = {}
    for text in sets:
        key, value = parse_assignment(text)
        # `--set policy.model=123` means the text, whatever TOML reads into it.
        if _schema().get(key) is str and not isinstance(value, str):
            value = text.partition("=")[2].strip()
        for leaf, checked in _entries({key: value}, where=f"--set {text}: ").items():
            values[leaf] = _merge(values.get(leaf), checked)
    return values if flags is None else _command_line(values, _entries(flags))


def override(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The config with dotted keys changed.

    :raises ConfigError: for an unknown key, or a value that does not fit.
    """
    return _build([_entries(attrs.asdict(config)), _entries(values)])


def to_toml(config: RunConfig) -> str:
    """Every key with its value, as TOML; absent values are the word ``none``."""
    return tomli_w.dumps(absent_as_word(attrs.asdict(config)))


def from_toml(text: str, where: str = "config") -> RunConfig:
    """Inverse of :func:`to_toml`; keys left out take their defaults.

    :param where: the file's name, for messages.
    :raises ConfigError: when it is no TOML, or a key or value is wrong.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not valid TOML: {error}") from error
    entries = _entries(tree, where=f"{where}: ")
    try:
        return _build([entries])
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def flatten(config: RunConfig) -> dict[str, Any]:
    """Dotted keys to values, options included."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                name = f'"{key}"' if "." in key else key
                walk(f"{prefix}.{name}" if prefix else name, item)
        else:
            flat[prefix] = value

    walk("", attrs.asdict(config))
    return flat


def digest(config: RunConfig) -> str:
    """SHA-256 over every key that shapes a step: equal exactly when :func:`diff` is empty."""
    shaping = {key: value for key, value in flatten(config).items() if key not in RESUMABLE_KEYS}
    return hashlib.sha256(_canonical(shaping).encode()).hexdigest()


def diff(
    first: RunConfig, second: RunConfig, *, ignore: Collection[str] = RESUMABLE_KEYS
) -> list[Difference]:
    """Keys on which two configs differ, sorted.

    :param ignore: keys that are left out; those that may change on resume by default.
    """
    old, new = flatten(first), flatten(second)
    return [
        Difference(key, old.get(key), new.get(key))
        for key in sorted((old.keys() | new.keys()) - set(ignore))
        if key not in old or key not in new or _canonical(old[key]) != _canonical(new[key])
    ]


def describe_settings() -> Iterator[tuple[str, str, Any, str]]:
    """Key, what fits it, default and help of every setting, in the order of the classes."""
    for name, kind, default, help_text in describe_fields(RunConfig):
        if name not in _SECTIONS:
            yield name, kind, default, help_text
    for section, cls in _SECTIONS.items():
        for name, kind, default, help_text in describe_fields(cls):
            yield f"{section}.{name}", kind, default, help_text


_SECTIONS: dict[str, type] = {
    "search": SearchConfig,
    "learn": LearnConfig,
    "policy": PolicyConfig,
    "sandbox": SandboxConfig,
    "deadline": DeadlineConfig,
}


@functools.cache
def _schema() -> dict[str, Any]:
    """Dotted key to type of every setting; a table of options is one setting."""
    schema = {key: kind for key, kind in field_types(RunConfig).items() if key not in _SECTIONS}
    for section, cls in _SECTIONS.items():
        schema |= {f"{section}.{key}": kind for key, kind in field_types(cls).items()}
    return schema


def read_toml(path: pathlib.Path) -> dict[str, Any]:
    """The tables of a TOML file.

    :raises ConfigError: when it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(read_text_file(path))
    except UsageError as error:
        raise ConfigError(str(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def _read_file(path: pathlib.Path) -> dict[str, Any]:
    return _entries(read_toml(path), where=f"{path}: ")


def _command_line(sets: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """Both as one layer; neither outranks the other, so they must not contradict."""
    for key, value in flags.items():
        if key in sets and sets[key] != value and not isinstance(value, dict):
            raise ConfigError(f"{key} is given twice: {sets[key]!r} by --set and {value!r} by its own flag")
    return _merge(sets, flags)  # type: ignore[no-any-return]


def _entries(tree: Mapping[str, Any], *, where: str = "", prefix: str = "") -> dict[str, Any]:
    """Checked values by dotted key, from nested tables or dotted keys, in any mixture."""
    entries: dict[str, Any] = {}
    for name, value in tree.items():
        key = prefix + name
        if key in _SECTIONS and isinstance(value, Mapping):
            entries |= _entries(value, where=where, prefix=f"{key}.")
            continue
        leaf, nested = _locate(key, value, where)
        try:
            checked = fits(nested, _schema()[leaf])
            if is_huge(checked) and leaf != "seed":  # of which any size is one
                raise ValueError("needs a whole number, not one of so many digits")
            _require_plain(checked)
        except ValueError as error:
            raise ConfigError(f"{where}{key} {error}") from error
        entries[leaf] = _merge(entries.get(leaf), checked)
    return entries


def _locate(key: str, value: Any, where: str) -> tuple[str, Any]:
    """The setting a dotted key belongs to; what lies deeper, inside a table of options, is nested."""
    schema = _schema()
    if key in schema:
        return key, value
    for table in (name for name, kind in schema.items() if describe(kind) == "a table"):
        if key.startswith(f"{table}."):
            for part in reversed(key.removeprefix(f"{table}.").split(".")):
                value = {part: value}
            return table, value
    if key in _SECTIONS:
        example = next(iter(field_types(_SECTIONS[key])))
        raise ConfigError(f"{where}{key} is a section; set one of its keys, such as {key}.{example}")
    hint = did_you_mean(key, schema) or did_you_mean(key, _SECTIONS)
    raise ConfigError(f"{where}unknown key '{key}'.{hint or ' `ttd run --list-settings` shows every key.'}")


def _require_plain(value: Any) -> None:
    """Refuse what JSON cannot hold: a TOML date, a number that is not finite."""
    try:
        _canonical(value)
    except ValueError as error:
        raise ValueError("holds what no option can be: a number that is not finite") from error
    except TypeError as error:
        raise ValueError(f"holds what no option can be: {error}") from error


def _merge(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: _merge(old.get(key), item) for key, item in new.items()}
    return new


def _variant_changes(name: str) -> dict[str, Any]:
    """What a variant sets: every key that any variant sets, so one variant replaces another whole."""
    if name not in VARIANTS:
        known = ", ".join(VARIANTS)
        raise ConfigError(f"unknown variant '{name}'.{did_you_mean(name, VARIANTS)} Known: {known}.")
    standard = flatten(RunConfig())
    touched = {key: standard[key] for changes in VARIANTS.values() for key in changes}
    return touched | VARIANTS[name]


def _build(layers: Sequence[Mapping[str, Any]]) -> RunConfig:
    values: dict[str, Any] = {}
    for layer in layers:
        if "variant" in layer:
            values |= _variant_changes(layer["variant"])
        for key, value in layer.items():
            values[key] = _merge(values.get(key), value)
    top = {key: value for key, value in values.items() if "." not in key}
    for section, cls in _SECTIONS.items():
        inner = {k.removeprefix(f"{section}."): v for k, v in values.items() if k.startswith(f"{section}.")}
        top[section] = fill(cls, inner, prefix=f"{section}.")
    try:
        return RunConfig(**top)
    except (ValueError, TypeError) as error:
        raise ConfigError(sentence_of(error)) from error


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)
