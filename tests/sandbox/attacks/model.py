"""What an attack is, and how its outcome is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from ttd_core.sandbox.base import MIB, Access, Artifact, CompileJob, JobResult, Limits, ProgramJob, PythonJob

if TYPE_CHECKING:
    from attacks.world import World

#: The evidence that an attack succeeded, or an empty string. Looks at the world, not at what a job claims.
Oracle = Callable[["World", JobResult], str]


@attrs.frozen
class Attack:
    """One line of the suite.

    :param name: as printed.
    :param source: Python defining ``run(w)``, or C++; ``w`` holds the world's facts.
    :param oracle: evidence of success.
    :param language: ``python``, ``c++`` or ``compile`` (the compiling itself is the attack).
    :param limits: of the job.
    :param planted: Python defining ``run(w)``, of a job that runs before it in the same sandbox.
    :param forks: give the job leave to start processes, so that what must end them is tried.
    :param open_at: levels at which it is known to succeed, with the reason; documented in security.md.
    :param control: how it is shown to succeed unsandboxed: ``run`` (run it plainly; the same oracle must
        find evidence), or a function that returns evidence by itself.
    :param options: further keys of ``w``.
    :param control_options: keys of ``w`` that make the control milder (fewer forks).
    :param command: the compiler, for ``compile``.
    """

    name: str
    source: str
    oracle: Oracle
    language: str = "python"
    planted: str = ""
    limits: Limits = attrs.field(factory=lambda: Limits(wall_s=8.0, memory=512 * MIB))
    forks: bool = False
    open_at: dict[str, str] = attrs.field(factory=dict)
    control: str | Callable[[World], str] = "run"
    options: dict[str, Any] = attrs.field(factory=dict)
    control_options: dict[str, Any] = attrs.field(factory=dict)
    command: tuple[str, ...] = ("g++", "-std=gnu++20", "-O1")

    def job(self, facts: dict[str, Any], artifact: Artifact | None) -> PythonJob | CompileJob | ProgramJob:
        """The job that makes the attack."""
        if self.language == "python":
            return self._python_job(self.source, facts)
        if self.language == "compile":
            return CompileJob(self.source_for(facts), self.command, limits=self.limits)
        assert artifact is not None
        return ProgramJob(artifact, limits=self.limits)

    def planted_job(self, facts: dict[str, Any]) -> PythonJob:
        """The job before it."""
        return self._python_job(self.planted, facts)

    def _python_job(self, source: str, facts: dict[str, Any]) -> PythonJob:
        executables = ("/bin/true",) if self.forks else ()
        return PythonJob(
            source,
            "run",
            args=[{**facts, **self.options}],
            preload=("numpy",),
            limits=self.limits,
            access=Access(executables=executables, readable=(facts["shelf"],)),
        )

    def source_for(self, facts: dict[str, Any]) -> str:
        """The source with ``@name@`` replaced by the world's facts."""
        text = self.source
        for name, value in facts.items():
            text = text.replace(f"@{name}@", str(value))
        return text


def claims(world: World, result: JobResult) -> str:
    """For attacks that have no effect outside but what they learn: their own word for it."""
    if result.ok and result.value:
        return f"returned {str(result.value)[:120]}"
    return ""


def tells_the_secret(world: World, result: JobResult) -> str:
    """Whether anything that came back holds the world's secret."""
    told = f"{result.value} {result.output} {result.message} {result.stdout!r}"
    return "the secret came back" if world.secret in told else ""
