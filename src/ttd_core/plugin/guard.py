"""Guards around hook implementations: what a plugin raises or wrongly returns becomes an error that names it.

A plugin is registered as a stand-in whose every hook is the plugin's own, inside a guard. So the plugin at
fault is known where the fault happens, whichever wrappers lie around it. Three things pass untouched: errors
meant for a person (:class:`~ttd_core.errors.TtdError`), what the host's own ``execute`` raised, and Ctrl-C.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Generator
from typing import Any, NoReturn

import pluggy

from ttd_core.errors import PluginError, TtdError, did_you_mean, one_line
from ttd_core.plugin import spec
from ttd_core.plugin.results import complaint_about, complaint_about_outcome

_HOST_MARK = "_ttd_raised_by_host"

_HOOKS = frozenset(name for name in vars(spec) if name.startswith("ttd_"))


def mark_as_hosts_own(error: BaseException) -> None:
    """Let an exception through every guard: the host raised it inside a plugin's call."""
    setattr(error, _HOST_MARK, True)


def is_hosts_own(error: BaseException) -> bool:
    """Whether the host raised it."""
    return getattr(error, _HOST_MARK, False)


def stand_in(manager: pluggy.PluginManager, plugin: Any, label: str, *, answers: bool = False) -> Any:
    """An object with the plugin's hook implementations, each guarded, to register in its place.

    :param label: the plugin's name with its distribution, for errors.
    :param answers: whether ``None`` is refused, as from a problem, which has nobody behind it to answer.
    :raises PluginError: when an implementation fits no hook, or is an old-style wrapper.
    """
    guarded: dict[str, Any] = {}
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            continue
        hook = options.get("specname") or name
        if hook not in _HOOKS:
            if options.get("optionalhook"):
                continue
            raise PluginError(label, hook, f"there is no such hook.{did_you_mean(hook, _HOOKS)}")
        if options.get("hookwrapper"):
            raise PluginError(label, hook, "hookwrapper=True is not supported; use wrapper=True")
        function = getattr(plugin, name)
        if options.get("wrapper"):
            if not inspect.isgeneratorfunction(function):
                raise PluginError(label, hook, "a wrapper must yield once and return the result")
            guard = _guard_wrapper(function, label, hook)
        else:
            guard = _guard(function, label, hook, answers)
        guarded[name] = spec.hookimpl(**options)(guard)
    return types.SimpleNamespace(**guarded)


def _guard(function: Callable[..., Any], label: str, hook: str, answers: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again, named
            raise_named(error, label, hook)
        complaint = complaint_about(hook, result, answers)
        if complaint:
            raise PluginError(label, hook, complaint)
        return result

    return guarded


def _guard_wrapper(
    function: Callable[..., Any], label: str, hook: str
) -> Callable[..., Generator[None, Any, Any]]:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Generator[None, Any, Any]:
        generator = function(*args, **kwargs)
        try:
            next(generator)
        except StopIteration as stop:
            raise PluginError(label, hook, "the wrapper returned before it yielded") from stop
        except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again, named
            raise_named(error, label, hook)
        try:
            inner = yield
        except GeneratorExit:
            generator.close()
            raise
        except BaseException as failure:  # noqa: BLE001 - handed to the wrapper, as pluggy does
            result = _finish(generator.throw, failure, label, hook)
        else:
            result = _finish(generator.send, inner, label, hook)
        complaint = complaint_about_outcome(hook, result)
        if complaint:
            raise PluginError(label, hook, f"the wrapper's result: {complaint}")
        return result

    return guarded


def _finish(resume: Callable[[Any], Any], value: Any, label: str, hook: str) -> Any:
    """Resume a wrapper after its yield and take what it returns."""
    try:
        resume(value)
    except StopIteration as stop:
        return stop.value
    except BaseException as error:
        if error is value or not isinstance(error, Exception | SystemExit):
            raise
        raise_named(error, label, hook)
    raise PluginError(label, hook, "the wrapper yielded twice")


def raise_named(error: BaseException, label: str, hook: str) -> NoReturn:
    """Raise an error of a plugin: as it is where it passes untouched, else as one that names the plugin."""
    if isinstance(error, TtdError) or is_hosts_own(error):
        raise error
    raise PluginError(label, hook, one_line(error)) from error
