"""The hooks of one run: one typed method for each, which asks the problem, the plugins and the observers.

One pluggy ``PluginManager`` per run. The problem's adapter is registered first, so pluggy asks it last:
another plugin may answer before it, or wrap it with ``@hookimpl(wrapper=True)``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pluggy

from ttd_core.errors import PluginError, RegistryClashError, TtdError, one_line
from ttd_core.plugin import spec
from ttd_core.plugin.entries import PLUGINS, Entry, clashes, entries
from ttd_core.plugin.guard import is_hosts_own, mark_as_hosts_own, stand_in
from ttd_core.plugin.registry import import_entry, provenance
from ttd_core.plugin.spec import hookimpl
from ttd_core.problem import Execute, Problem
from ttd_core.sandbox.base import Job, JobResult
from ttd_core.types import Action, Completion, Message, Reward, ScoredState, State, Verdict

#: Makes a policy or an executor from the run's config.
Factory = Callable[[Any], Any]


class ProblemAdapter:
    """Implements the domain hooks by calling the problem's methods."""

    @hookimpl
    def ttd_render_prompt(
        self, problem: Problem, state: State, history: Sequence[ScoredState]
    ) -> list[Message]:
        """See :func:`~ttd_core.plugin.spec.ttd_render_prompt`."""
        return problem.render_prompt(state, history)

    @hookimpl
    def ttd_parse_action(self, problem: Problem, completion: Completion) -> Action | Verdict:
        """See :func:`~ttd_core.plugin.spec.ttd_parse_action`."""
        return problem.parse_action(completion)

    @hookimpl
    def ttd_transition(
        self, problem: Problem, state: State, action: Action, execute: Execute
    ) -> State | Verdict:
        """See :func:`~ttd_core.plugin.spec.ttd_transition`."""
        return problem.transition(state, action, execute)

    @hookimpl
    def ttd_check(self, problem: Problem, state: State) -> Sequence[str]:
        """See :func:`~ttd_core.plugin.spec.ttd_check`."""
        return problem.check(state)

    @hookimpl
    def ttd_reward(self, problem: Problem, state: State) -> Reward:
        """See :func:`~ttd_core.plugin.spec.ttd_reward`."""
        return problem.reward(state)

    @hookimpl
    def ttd_seed_states(self, problem: Problem, rng: np.random.Generator, count: int) -> Sequence[State]:
        """See :func:`~ttd_core.plugin.spec.ttd_seed_states`."""
        return problem.seed_states(rng, count)


class Hooks:
    """Calls the hooks of one run. Thread-safe once built.

    Every method raises :class:`~ttd_core.errors.PluginError`, naming the plugin and the hook, when an
    implementation raises or returns a wrong type. Errors meant for a person pass as they are.

    :param problem: the run's problem; ``None`` for lookups alone (backends, commands).
    :param observers: objects implementing hooks, usually ``ttd_event``; asked before the plugins.
    :param plugins: entries to import instead of every installed one.
    :param origin: the problem's name and distribution for errors; found when left out.
    :raises RegistryClashError: when two distributions register a plugin under one name.
    """

    def __init__(
        self,
        problem: Problem | None = None,
        observers: Iterable[Any] = (),
        *,
        plugins: Sequence[Entry] | None = None,
        origin: str | None = None,
    ) -> None:
        self.problem = problem
        #: Plugins that could not be imported or registered: reported, they stop nothing else.
        self.failures: list[PluginError] = []
        self._manager = pluggy.PluginManager("ttd")
        self._manager.add_hookspecs(spec)
        self._origin = ""
        if problem is not None:
            self._origin = origin if origin is not None else provenance(problem)
            self._register(ProblemAdapter(), self._origin, answers=True)
        for entry in self._entries(plugins):
            try:
                self._register(import_entry(entry), entry.label)
            except PluginError as error:
                self.failures.append(error)
        self._observers = 0
        self.observe(observers)

    def asking(self, problem: Problem) -> Hooks:
        """The same plugins, asked about another form of the problem: one with other options."""
        other = copy.copy(self)
        other.problem = problem
        return other

    def observe(self, observers: Iterable[Any]) -> None:
        """Register further observers; each is asked before all that was registered earlier."""
        for observer in observers:
            self._observers += 1
            self._register(observer, f"observer {self._observers} ({type(observer).__name__})")

    @property
    def plugin_names(self) -> list[str]:
        """Names of everything registered, with distributions, the problem first."""
        return [name for name, _ in self._manager.list_name_plugin()]

    def render_prompt(self, state: State, history: Sequence[ScoredState]) -> list[Message]:
        """The chat messages for a group that starts at ``state``."""
        call = self._manager.hook.ttd_render_prompt
        return list(self._call(call, state=state, history=history))

    def parse_action(self, completion: Completion) -> Action | Verdict:
        """The action in a reply, or a failed verdict."""
        return self._call(self._manager.hook.ttd_parse_action, completion=completion)  # type: ignore[no-any-return]

    def transition(self, state: State, action: Action, execute: Execute) -> State | Verdict:
        """The state an action leads to, or a failed verdict; what ``execute`` raises passes through."""
        call = self._manager.hook.ttd_transition
        return self._call(call, state=state, action=action, execute=_marking_errors(execute))  # type: ignore[no-any-return]

    def check(self, state: State) -> list[str]:
        """Violations found by every implementation; empty when the state is valid."""
        results = self._call(self._manager.hook.ttd_check, state=state)
        return [violation for violations in results for violation in violations]

    def reward(self, state: State) -> Reward:
        """The reward of a valid state."""
        return self._call(self._manager.hook.ttd_reward, state=state)  # type: ignore[no-any-return]

    def seed_states(self, rng: np.random.Generator, count: int) -> list[State]:
        """The ``count`` states a run starts from."""
        states = list(self._call(self._manager.hook.ttd_seed_states, rng=rng, count=count))
        if len(states) != count:
            raise PluginError(
                self._suspects("ttd_seed_states"),
                "ttd_seed_states",
                f"returned {len(states)} states, but {count} were asked for",
            )
        return states

    def event(self, event: Mapping[str, Any]) -> None:
        """Give an event to every observer and plugin."""
        self._guarded(self._manager.hook.ttd_event, event=event)

    def policies(self) -> dict[str, Factory]:
        """Policy backends by name.

        :raises RegistryClashError: when two plugins bring one name.
        """
        return self._backends(self._manager.hook.ttd_policies, "policy backend")

    def executors(self) -> dict[str, Factory]:
        """Executors by name.

        :raises RegistryClashError: when two plugins bring one name.
        """
        return self._backends(self._manager.hook.ttd_executors, "executor")

    def commands(self, cli: Any) -> None:
        """Let every plugin add its commands to the ``ttd`` group."""
        self._guarded(self._manager.hook.ttd_commands, cli=cli)

    def _entries(self, plugins: Sequence[Entry] | None) -> Sequence[Entry]:
        """The entries given, or else every installed one.

        :raises RegistryClashError: when two distributions register a plugin under one name.
        """
        installed = entries(PLUGINS) if plugins is None else plugins
        for clash in clashes(installed):
            raise clash
        return installed

    def _register(self, plugin: Any, label: str, *, answers: bool = False) -> None:
        try:
            self._manager.register(stand_in(self._manager, plugin, label, answers=answers), name=label)
        except pluggy.PluginValidationError as error:
            # pluggy's message spans lines: the plugin, the hook, the two signatures.
            reason = " ".join(str(error).split()).partition("Argument(s)")
            raise PluginError(label, "registration", "".join(reason[1:]) or str(reason[0])) from error

    def _call(self, hook: pluggy.HookCaller, **arguments: Any) -> Any:
        """Call a hook of the problem."""
        if self.problem is None:
            raise TypeError("these hooks were built without a problem")
        return self._guarded(hook, problem=self.problem, **arguments)

    def _guarded(self, hook: pluggy.HookCaller, **arguments: Any) -> Any:
        """Call a hook; what goes wrong names its plugin, but for errors meant for a person and our own."""
        try:
            return hook(**arguments)
        except TtdError:
            raise
        except Exception as error:
            if is_hosts_own(error):
                raise
            # The guards name the culprit of all they see; what is left is pluggy's own complaint.
            raise PluginError(self._suspects(hook.name), hook.name, one_line(error)) from error

    def _suspects(self, hook: str) -> str:
        """Who may be to blame for a hook's result: the plugins around the problem, and the problem."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        others = [each.plugin_name for each in implementations if each.plugin_name != self._origin]
        return " or ".join([*others, self._origin]) if self._origin else " or ".join(others)

    def _backends(self, hook: pluggy.HookCaller, what: str) -> dict[str, Factory]:
        """The backends of all plugins, by name."""
        merged: dict[str, Factory] = {}
        for of_one_plugin in self._guarded(hook):
            for name, factory in of_one_plugin.items():
                if name in merged:
                    raise RegistryClashError(
                        f"{what} '{name}' is brought by {' and '.join(self._owners(hook, name))}; "
                        "uninstall all but one"
                    )
                merged[name] = factory
        return merged

    def _owners(self, hook: pluggy.HookCaller, name: str) -> list[str]:
        """The plugins that bring a backend of this name."""
        owners = []
        for implementation in hook.get_hookimpls():
            backends: Any = {} if implementation.wrapper else implementation.function()
            if name in backends:
                owners.append(implementation.plugin_name)
        return sorted(owners)


def _marking_errors(execute: Execute) -> Execute:
    """``execute``, with what it raises marked as the host's own: no plugin is to blame for it."""

    def marking(job: Job) -> JobResult:
        try:
            return execute(job)
        except Exception as error:
            mark_as_hosts_own(error)
            raise

    return marking
