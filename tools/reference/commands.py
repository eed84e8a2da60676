"""What can be typed, and what a command ends with."""

from __future__ import annotations

from collections.abc import Iterator

import click

from tools.reference.markdown import code, page, summary, table
from tools.reference.settings import our_plugins
from ttd_core import certificate, errors
from ttd_core.cli import COMMANDS
from ttd_core.cli.flags import ProblemCommand
from ttd_core.cli.group import INTERRUPTED, PIPE_CLOSED
from ttd_core.plugin import entries, registry

#: What each exit code says.
EXIT_CODES = {
    0: "done",
    errors.TtdError.exit_code: "the candidate or a check failed: `ttd eval` and `ttd show` of a state that "
    "is not valid, `ttd check-problem` with a fault, `ttd certify` of what does not hold, `ttd experiment` "
    "with a run that failed or is still owed",
    errors.UsageError.exit_code: "the request is wrong: an unknown name, a bad option, a missing file",
    errors.EnvironmentLacksError.exit_code: "this machine lacks something, and the message says what to "
    "install or set; or a plugin is at fault, and the message names it",
    INTERRUPTED: "interrupted by Ctrl-C or SIGTERM; what was committed is kept",
    PIPE_CLOSED: "whoever read the output closed it, as `ttd ... | head` does",
}


def commands_page() -> str:
    """Every command, built-in or of our plugins."""
    parts = [
        "Every command has `--help` (`-h`) with an example. Commands that take a problem take its options "
        "([Problems](problems.md)) as `-o NAME=VALUE`. `ttd --version` prints the version. "
        "What a command ends with is on [Exit codes](exit-codes.md).",
        table(
            ["command", "what it does"],
            [[f"[`ttd {name}`](#ttd-{name})", lazy.help] for name, lazy in COMMANDS.items()],
        ),
    ]
    parts += [_command(f"ttd {name}", lazy.load()) for name, lazy in COMMANDS.items()]
    for distribution, name, command in plugin_commands():
        parts.append(_command(f"ttd {name}", command, f"From `{distribution}`."))
    return page("Commands", *parts)


def plugin_commands() -> Iterator[tuple[str, str, click.Command]]:
    """Distribution, name and command of each that our plugins add; those of a group one by one."""
    for entry in entries.entries(entries.PLUGINS):
        if entry.distribution in our_plugins():
            group = click.Group()
            add = getattr(registry.import_entry(entry), "ttd_commands", None)
            if add is not None:
                add(group)
            for name, command in group.commands.items():
                inner = command.commands if isinstance(command, click.Group) else {"": command}
                for last, each in inner.items():
                    yield entry.distribution, f"{name} {last}".strip(), each


def _command(name: str, command: click.Command, remark: str = "") -> str:
    context = click.Context(command, info_name=name)
    text, _, example = (command.help or "").partition("\b\n")
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    if isinstance(command, ProblemCommand):
        paragraphs.append("Every option of the problem is a flag as well: `--cases 20` is `-o cases=20`.")
    usage = " ".join(["[OPTIONS]", *map(_argument, command.params)]).strip()
    example = "\n".join(f"$ {line.strip()}" for line in example.splitlines()[1:] if line.strip())
    parts = [f"## {name}", remark, f"```\n{name} {usage}\n```", *filter(None, paragraphs)]
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    rows = [_option(each, context) for each in options]
    if rows:
        parts.append(table(["option", "takes", "default", "what"], rows))
    parts.append(f"```console\n{example}\n```")
    return "\n\n".join(filter(None, parts))


def _argument(parameter: click.Parameter) -> str:
    """An argument as usage lines write it; nothing for an option."""
    if not isinstance(parameter, click.Argument):
        return ""
    name = parameter.metavar or str(parameter.name).upper()
    return name if parameter.required or "[" in name else f"[{name}]"


def _option(option: click.Option, context: click.Context) -> list[str]:
    takes = ""
    if not option.is_flag:
        takes = code(option.make_metavar(context))
        if isinstance(option.type, click.Choice):
            takes = ", ".join(code(str(choice)) for choice in option.type.choices)
        elif isinstance(option.type, click.IntRange):
            takes = f"a whole number from {option.type.min}"
    shown = option.show_default and option.default not in (None, False)
    names = ", ".join(code(name) for name in option.opts)
    return [names, takes, code(str(option.default)) if shown else "", option.help or ""]


def exit_codes_page() -> str:
    """Every exit code, and the errors that end with it."""
    known = {0, INTERRUPTED, PIPE_CLOSED} | {cls.exit_code for cls in error_classes()}
    assert known == EXIT_CODES.keys(), "EXIT_CODES has another sentence than there are codes"
    rows = [[str(number), meaning] for number, meaning in sorted(EXIT_CODES.items())]
    classes = [
        [
            code(cls.__name__),
            ", ".join(code(base.__name__) for base in cls.__bases__),
            str(cls.exit_code),
            summary(cls),
        ]
        for cls in error_classes()
    ]
    return page(
        "Exit codes",
        "An error meant for a person is one line on standard error, `error: ...`, and no traceback. A "
        "traceback is a bug of ttd, and ends with 1 as Python's do.",
        table(["code", "meaning"], rows),
        "## Errors",
        "A failed rollout is none of these: it is a [verdict with a status](endings.md).",
        table(["error", "is a", "code", "when"], classes),
    )


def error_classes() -> list[type[errors.TtdError]]:
    """The errors of the core, each behind the one it is derived from."""
    assert issubclass(certificate.CertificateError, errors.TtdError)

    def below(cls: type[errors.TtdError]) -> Iterator[type[errors.TtdError]]:
        yield cls
        for each in cls.__subclasses__():
            if each.__module__.startswith("ttd_core."):
                yield from below(each)

    return list(below(errors.TtdError))
