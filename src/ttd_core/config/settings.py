"""Settings: attrs classes filled from TOML-typed values, with errors that name the key and what fits.

Shared by the run's config and by problems' options. Values are never coerced: a whole number is not taken
where text is wanted, ``3.7`` is not a number of steps, ``nan`` is no number at all. TOML cannot write an
absent value, so the word ``none`` stands for it wherever a setting may be absent.
"""

from __future__ import annotations

import datetime
import functools
import math
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union

import attrs
import cattrs
import cattrs.errors

from ttd_core.errors import ConfigError, did_you_mean

#: Written for an absent value, in files and on the command line.
NONE_WORD = "none"
#: The longest time that a setting may be, 32 years: no clock of the system takes one like 1e300.
MOST_SECONDS = 1e9
#: How attrs' own validators of numbers begin their sentences, and how ours say the same.
_BOUND = re.compile(r"'(\w+)' must be (>=|<=|>|<) ([^:]+): (.*)", re.DOTALL)
_BOUND_WORDS = {">": "above", ">=": "at least", "<": "below", "<=": "at most"}

T = TypeVar("T")


def setting(default: Any, help: str, **kwargs: Any) -> Any:
    """A keyword-only attrs field with the sentence that help pages show."""
    return attrs.field(default=default, metadata={"help": help}, kw_only=True, **kwargs)


def at_least(minimum: float) -> Any:
    """Attrs validator: the value is ``None`` or not below ``minimum``."""

    def validate(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not value >= minimum:
            raise ValueError(f"{attribute.name} must be at least {minimum:g}, not {value!r}")

    return validate


def at_most(maximum: float) -> Any:
    """Attrs validator: the value is ``None`` or not above ``maximum``."""

    def validate(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not value <= maximum:
            raise ValueError(f"{attribute.name} must be at most {maximum:,.0f}, not {value!r}")

    return validate


def is_share(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Attrs validator: the value is ``None`` or a part of a whole: above 0 and at most 1."""
    if value is not None and not 0 < value <= 1:
        raise ValueError(f"{attribute.name} must be above 0 and at most 1, not {value!r}")


def is_day(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Attrs validator: the value is empty, or a day of the calendar as YYYY-MM-DD."""
    try:
        told = value and datetime.date.fromisoformat(value).isoformat()
    except ValueError:
        told = None
    if told != value:
        raise ValueError(f"{attribute.name} must be a day like 2026-01-31, or empty, not {value!r}")


def between(low: float, high: float) -> Any:
    """Attrs validator: ``low <= value < high``."""

    def validate(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not low <= value < high:
            raise ValueError(f"{attribute.name} must be in [{low:g}, {high:g}), not {value!r}")

    return validate


def field_types(cls: type) -> dict[str, Any]:
    """Name to resolved type of each field of an attrs class that its constructor takes."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints.get(field.name, Any) for field in attrs.fields(cls) if field.init}


def describe(kind: Any) -> str:
    """What fits a type, in words: ``"a whole number"``, ``"one of 'min', 'max'"``."""
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "a table"}
    origin = typing.get_origin(kind)
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(kind))
    if origin in (Union, types.UnionType):
        members = [describe(m) for m in typing.get_args(kind) if m is not types.NoneType]
        absent = [NONE_WORD] if types.NoneType in typing.get_args(kind) else []
        return " or ".join(members + absent)
    if origin in (list, tuple):
        return f"a list, each {describe(typing.get_args(kind)[0])}"
    if origin in (dict, Mapping):
        return "a table"
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def fits(value: Any, kind: Any) -> Any:
    """``value`` as ``kind``, checked.

    :raises ValueError: saying what would fit.
    """
    if typing.get_origin(kind) in (list, tuple) and not isinstance(value, list | tuple):
        raise ValueError(f"needs {describe(kind)}, not {value!r}")
    try:
        return _converter().structure(value, kind)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        shown = "one of so many digits" if is_huge(value) else repr(value)
        raise ValueError(f"needs {describe(kind)}, not {shown}") from error
    except cattrs.errors.StructureHandlerNotFoundError as error:
        raise ValueError(f"is of a type that no setting can have: {describe(kind)}") from error


def is_huge(value: Any) -> bool:
    """Whether a value is a whole number beyond 64 bits, which no database keeps and few floats hold."""
    return type(value) is int and abs(value) >= 1 << 63


def fill(
    cls: type[T], values: Mapping[str, Any], *, where: str = "", prefix: str = "", noun: str = "key"
) -> T:
    """An instance of an attrs class from values by field name; fields not named keep their defaults.

    :param where: put before every message (a file, a problem).
    :param prefix: put before every key (``"search."``).
    :param noun: what a key is called in messages.
    :raises ConfigError: for an unknown key (with the closest known one), or a value that does not fit.
    """
    kinds = field_types(cls)
    filled: dict[str, Any] = {}
    for key, value in values.items():
        if key not in kinds:
            hint = did_you_mean(key, kinds) or f" Known: {', '.join(sorted(kinds))}."
            raise ConfigError(f"{where}unknown {noun} '{prefix}{key}'.{hint}")
        try:
            filled[key] = fits(value, kinds[key])
        except ValueError as error:
            raise ConfigError(f"{where}{prefix}{key} {error}") from error
    try:
        return cls(**filled)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}{prefix}{sentence_of(error)}") from error


def sentence_of(error: Exception) -> str:
    """What a validator said of a value, in the words of this module's own."""
    # attrs' validators may put the field and the value behind their sentence.
    sentence = str(error.args[0] if error.args else error)
    bound = _BOUND.fullmatch(sentence)
    return f"{bound[1]} must be {_BOUND_WORDS[bound[2]]} {bound[3]}, not {bound[4]}" if bound else sentence


def parse_assignment(text: str, flag: str = "--set") -> tuple[str, Any]:
    """Key and TOML-typed value of ``KEY=VALUE``; a value that is no TOML is taken as text.

    :raises ConfigError: when there is no ``=`` or no key.
    """
    key, separator, raw = text.partition("=")
    key, raw = key.strip(), raw.strip()
    if not separator or not key:
        raise ConfigError(f"{flag} {text}: write {flag} KEY=VALUE")
    return key, parse_value(raw)


def parse_value(raw: str) -> Any:
    """A TOML value, or the text itself where it is none (so names need no quotes)."""
    try:
        document = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        return raw
    value = document.get("value")
    # A date, or text that smuggles in a second line, is not a value any setting has.
    single = set(document) == {"value"} and isinstance(value, str | bool | int | float | list | dict)
    return value if single else raw


def dump(instance: Any) -> dict[str, Any]:
    """What :func:`fill` takes to build an equal instance: plain values, every field named."""
    fields = (field.name for field in attrs.fields(type(instance)) if field.init)
    return {name: absent_as_word(_converter().unstructure(getattr(instance, name))) for name in fields}


def describe_fields(cls: type) -> list[tuple[str, str, Any, str]]:
    """Name, what fits, default and help of each field of an attrs class."""
    kinds = field_types(cls)
    rows = []
    for field in attrs.fields(cls):
        if field.name in kinds:
            default = field.default
            if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
                # One that depends on other fields: what it is where those have their defaults.
                default = getattr(cls(), field.name) if default.takes_self else default.factory()
            plain = absent_as_word(_converter().unstructure(default))
            rows.append((field.name, describe(kinds[field.name]), plain, field.metadata.get("help", "")))
    return rows


def absent_as_word(value: Any) -> Any:
    """A copy in which every ``None`` is the word ``none``, ready for TOML."""
    if value is None:
        return NONE_WORD
    if isinstance(value, Mapping):
        return {key: absent_as_word(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [absent_as_word(item) for item in value]
    return value


def _exactly(kind: type, *, also: tuple[type, ...] = ()) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _kind: Any) -> Any:
        if type(value) is not kind and type(value) not in also:
            raise ValueError(f"not {kind.__name__}")
        return kind(value)

    return structure


def _number(value: Any, _kind: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


def _choice(value: Any, kind: Any) -> Any:
    for choice in typing.get_args(kind):
        if type(choice) is type(value) and choice == value:
            return value
    raise ValueError("not one of the choices")


def _union(value: Any, kind: Any) -> Any:
    members = typing.get_args(kind)
    if types.NoneType in members and (value is None or value == NONE_WORD):
        return None
    for member in members:
        if member is not types.NoneType:
            try:
                return fits(value, member)
            except ValueError:
                continue
    raise ValueError("fits no member")


def _is_literal(kind: Any) -> bool:
    return typing.get_origin(kind) is Literal


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (Union, types.UnionType)


@functools.cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)
    converter.register_structure_hook(int, _exactly(int))
    converter.register_structure_hook(bool, _exactly(bool))
    converter.register_structure_hook(str, _exactly(str))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_func(_is_literal, _choice)
    converter.register_structure_hook_func(_is_union, _union)
    return converter
