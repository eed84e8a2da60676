"""Errors are for people: one line, an exit code, a place in the documented tree."""

from __future__ import annotations

import inspect
import re

import pytest

from ttd_core import errors
from ttd_core.errors import PluginError, TtdError, did_you_mean, one_line

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, TtdError)
}
EXIT_CODES = {
    "TtdError": 1,
    "UsageError": 2,
    "UnknownProblemError": 2,
    "ConfigError": 2,
    "PromptTooLongError": 2,
    "ResumeError": 2,
    "EnvironmentLacksError": 3,
    "ModelUnavailableError": 3,
    "SandboxUnavailableError": 3,
    "StorageError": 3,
    "RegistryClashError": 3,
    "PluginError": 3,
}


def test_exit_codes() -> None:
    assert {name: cls.exit_code for name, cls in CLASSES.items()} == EXIT_CODES


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = re.findall(r"^([ │├└─]*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    assert [name for _, name in drawn] == list(EXIT_CODES)
    parents: list[tuple[int, type]] = []
    for indent, name in drawn:
        depth = len(indent)
        while parents and parents[-1][0] >= depth:
            parents.pop()
        if parents:
            assert issubclass(CLASSES[name], parents[-1][1]), name
        parents.append((depth, CLASSES[name]))


def test_usage_errors_are_value_errors() -> None:
    assert issubclass(errors.UsageError, ValueError)
    assert not issubclass(errors.EnvironmentLacksError, ValueError)


def test_a_plugin_error_names_plugin_hook_and_reason() -> None:
    error = PluginError("p (d 1.0)", "ttd_check", "it broke")
    assert str(error) == "plugin p (d 1.0): ttd_check: it broke"
    assert (error.plugin, error.hook, error.reason) == ("p (d 1.0)", "ttd_check", "it broke")


def test_did_you_mean() -> None:
    assert did_you_mean("erdso", ["erdos", "cp26"]) == " Did you mean 'erdos'?"
    assert did_you_mean("zzz", ["erdos", "cp26"]) == ""
    assert did_you_mean("x", []) == ""


def _raised(error: BaseException) -> BaseException:
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_one_line_says_what_and_where() -> None:
    text = one_line(_raised(ValueError("first\n  second")))
    assert re.fullmatch(r"ValueError: first second \(test_errors\.py:\d+\)", text)
    assert re.fullmatch(r"KeyError \(test_errors\.py:\d+\)", one_line(_raised(KeyError())))
    assert one_line(ValueError("never raised")) == "ValueError: never raised"


def test_one_line_is_short() -> None:
    text = one_line(ValueError("x" * 1000))
    assert len(text) < 330
    assert text.endswith("...")
