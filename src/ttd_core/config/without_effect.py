"""Settings that change nothing beside the others of a config: told before a run, never refused."""

from __future__ import annotations

from collections.abc import Iterator

from ttd_core.config.schema import DeadlineConfig, RunConfig


def without_effect(config: RunConfig) -> Iterator[str]:
    """A sentence for each choice that was made and that nothing comes of, with what to do."""
    standard = RunConfig()
    if config.keep != standard.keep and config.cascade is None:
        yield f"keep = {config.keep:g} changes nothing without cascade; set cascade, like [0.1, 1.0], as well"
    if config.cascade is not None and len(config.cascade) == 1:
        yield (
            "cascade = [1.0] runs every program once with all of its budget, as a run without it does; begin "
            "with a smaller share, like [0.1, 1.0]"
        )
    yield from _of_deadline(config.deadline)


def _of_deadline(deadline: DeadlineConfig) -> Iterator[str]:
    if not deadline.set:
        if deadline.then != DeadlineConfig().then:
            yield (
                f"deadline.then = '{deadline.then}' changes nothing where there is no deadline; set "
                "deadline.share or deadline.seconds as well"
            )
    elif deadline.share == 1 and deadline.seconds is None:
        yield (
            "deadline.share = 1 waits for every verdict, as a run without a deadline does; set a smaller "
            "share, or deadline.seconds"
        )
