"""Settings: nothing is coerced, and every refusal says what fits."""

from __future__ import annotations

import pathlib
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_core import config as configs
from ttd_core.config import settings
from ttd_core.errors import ConfigError


@attrs.frozen
class Sample:
    count: int = settings.setting(3, "how many", validator=settings.at_least(1))
    share: float = settings.setting(0.5, "which share", validator=settings.between(0, 1))
    mode: Literal["fast", "slow"] = settings.setting("fast", "how")
    limit: int | None = settings.setting(None, "at most")
    names: tuple[str, ...] = settings.setting(("a",), "which")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (bool, True, True),
        (str, "x", "x"),
        (int | None, None, None),
        (int | None, "none", None),
        (int | None, 4, 4),
        (str | None, "none", None),
        (int | str, "four", "four"),
        (Literal["a", "b"], "b", "b"),
        (tuple[int, ...], [1, 2], (1, 2)),
        (list[float], [1, 2.5], [1.0, 2.5]),
        (dict[str, Any], {"a": [1]}, {"a": [1]}),
        (pathlib.Path, "/tmp", pathlib.Path("/tmp")),
    ],
)
def test_fits(kind: Any, value: Any, expected: Any) -> None:
    result = settings.fits(value, kind)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (int, 3.0, "a whole number"),
        (int, True, "a whole number"),
        (int, "3", "a whole number"),
        (float, "3", "a number"),
        (float, True, "a number"),
        (float, float("nan"), "a number"),
        (float, float("inf"), "a number"),
        (float, 10**400, "a number"),
        (bool, 1, "true or false"),
        (bool, "False", "true or false"),
        (str, 3, "text"),
        (int | None, "many", "a whole number or none"),
        (Literal["a", "b"], "c", "one of 'a', 'b'"),
        (Literal["a", "b"], ["a"], "one of 'a', 'b'"),
        (tuple[int, ...], [1, "x"], "a list, each a whole number"),
        (list[str], "abc", "a list, each text"),
        (dict[str, Any], 5, "a table"),
    ],
)
def test_does_not_fit(kind: Any, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"needs {words}, not") as caught:
        settings.fits(value, kind)
    assert "\n" not in str(caught.value)


def test_a_type_no_setting_can_have() -> None:
    with pytest.raises(ValueError, match="type that no setting can have: complex"):
        settings.fits(5, complex)


def test_fill_takes_defaults_and_values() -> None:
    assert settings.fill(Sample, {}) == Sample()
    assert settings.fill(Sample, {"count": 5, "limit": 2}) == Sample(count=5, limit=2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuont": 1}, r"f\.toml: unknown key 's\.cuont'\. Did you mean 'count'\?"),
        ({"zzz": 1}, r"f\.toml: unknown key 's\.zzz'\. Known: count, limit, mode, names, share\."),
        ({"count": "x"}, r"f\.toml: s\.count needs a whole number, not 'x'"),
        ({"count": 0}, r"f\.toml: s\.count must be at least 1, not 0"),
        ({"share": 1.0}, r"f\.toml: s\.share must be in \[0, 1\), not 1\.0"),
        ({"mode": "medium"}, r"f\.toml: s\.mode needs one of 'fast', 'slow', not 'medium'"),
    ],
)
def test_fill_names_key_and_place(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        settings.fill(Sample, values, where="f.toml: ", prefix="s.")


@given(
    st.builds(
        Sample,
        count=st.integers(1, 10**9),
        share=st.floats(0, 1, exclude_max=True),
        mode=st.sampled_from(["fast", "slow"]),
        limit=st.none() | st.integers(),
        names=st.lists(st.text(), max_size=3).map(tuple),
    )
)
def test_dump_and_fill_are_inverse(sample: Sample) -> None:
    assert settings.fill(Sample, settings.dump(sample)) == sample


def test_describe_fields() -> None:
    rows = {name: (kind, default, help) for name, kind, default, help in settings.describe_fields(Sample)}
    assert rows["count"] == ("a whole number", 3, "how many")
    assert rows["limit"] == ("a whole number or none", "none", "at most")
    assert rows["mode"][0] == "one of 'fast', 'slow'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", ("a", 1)),
        ("a=1.5", ("a", 1.5)),
        ("a = true", ("a", True)),
        ("a='1'", ("a", "1")),
        ("a=[1, 2]", ("a", [1, 2])),
        ("a={b = 1}", ("a", {"b": 1})),
        ("a=qwen2.5-coder-0.5b", ("a", "qwen2.5-coder-0.5b")),
        ("a=x=y", ("a", "x=y")),
        ("a=", ("a", "")),
        ("a=2024-01-01", ("a", "2024-01-01")),
        ("a=1\nb = 2", ("a", "1\nb = 2")),
    ],
)
def test_parse_assignment(text: str, expected: tuple[str, Any]) -> None:
    key, value = settings.parse_assignment(text)
    assert (key, value) == expected
    assert type(value) is type(expected[1])


@pytest.mark.parametrize("text", ["a", "=1", " = 1", ""])
def test_parse_assignment_refuses(text: str) -> None:
    with pytest.raises(ConfigError, match="write -o KEY=VALUE"):
        settings.parse_assignment(text, "-o")


@given(st.text())
def test_parse_value_takes_any_text(text: str) -> None:
    assert isinstance(settings.parse_value(text), str | bool | int | float | list | dict)


@pytest.mark.parametrize(
    ("check", "value", "sentence"),
    [
        (attrs.validators.gt(0), 0, "x.size must be above 0, not 0"),
        (attrs.validators.ge(1), 0, "x.size must be at least 1, not 0"),
        (attrs.validators.lt(1), 2, "x.size must be below 1, not 2"),
        (attrs.validators.le(1), 2, "x.size must be at most 1, not 2"),
        (attrs.validators.in_((1, 2)), 3, "x.'size' must be in (1, 2) (got 3)"),
    ],
)
def test_bounds_of_attrs_are_told_as_ours_are(check: Any, value: int, sentence: str) -> None:
    kind = attrs.make_class("Kind", {"size": attrs.field(type=int, default=1, validator=check)})
    with pytest.raises(ConfigError) as caught:
        settings.fill(kind, {"size": value}, prefix="x.")
    assert str(caught.value) == sentence


@pytest.mark.parametrize("key", ["steps", "groups", "sandbox.workers", "deadline.seconds", "policy.context"])
def test_whole_numbers_have_a_bound(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key} needs a (whole )?number.*, not one of so many digits$"):
        configs.load("sum", sets=[f"{key}=1{'0' * 400}"])
