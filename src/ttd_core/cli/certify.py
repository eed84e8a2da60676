"""``ttd certify``: prove a construction's score in exact arithmetic, or check such a proof."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import click

from ttd_core import certificate, certifying
from ttd_core.certificate import Certificate
from ttd_core.cli.output import json_option, print_json, say
from ttd_core.cli.parameters import option_option, problem_options, project_option, projected
from ttd_core.errors import UsageError
from ttd_core.plugin import registry
from ttd_core.text import showable_line


@click.command("certify")
@click.argument("names", metavar="[PROBLEM] FILE", nargs=-1, required=True)
@click.option("--check", is_flag=True, help="FILE is a certificate: verify it from scratch.")
@click.option(
    "--output",
    "-w",
    type=click.Path(path_type=pathlib.Path, dir_okay=False),
    help="Where to write the certificate; default FILE with the ending .cert.json, in this folder.",
)
@option_option
@project_option
@json_option
def certify(
    names: tuple[str, ...],
    check: bool,
    output: pathlib.Path | None,
    options: tuple[str, ...],
    project: bool,
    as_json: bool,
) -> None:
    """Prove a construction's score in exact arithmetic.

    FILE holds a construction, as for `ttd eval`. The certificate is a small JSON file beside
    the arrays as .npy; with --check, it is recomputed from those arrays and compared, under the
    options that it was made with (-o overrides them).

    \b
    Example:
      ttd certify erdos best.json
      ttd certify --check best.cert.json
    """
    if check and project:
        raise UsageError("--project changes a construction: it goes with PROBLEM FILE, not with --check")
    if check:
        path = pathlib.Path(_require_count(names, 1, "--check takes one certificate FILE")[0])
        stated, _ = certificate.read(path)
        needed = certificate.stated_options(stated, path)
        name = _installed_name(stated.get("problem"), path)
        problem = registry.load(name, needed | problem_options(options))
        _print(certifying.check(problem, path), {"checked": str(path)}, as_json)
        return
    name, file = _require_count(names, 2, "give a PROBLEM and a FILE, or --check FILE")
    problem = registry.load(name, problem_options(options))
    source = pathlib.Path(file)
    state, repair = projected(problem, source) if project else (problem.read_construction(source), "")
    proof = certifying.certify(problem, state)
    target = output or pathlib.Path(f"{source.stem}.cert.json")
    written = certificate.write(proof, target, origin={"projected": repair} if repair else None)
    done: dict[str, Any] = {"written": [str(path) for path in written]}
    _print(proof, done | ({"projected": repair} if repair else {}), as_json)


def _installed_name(name: Any, path: pathlib.Path) -> str:
    """The problem that a certificate names; never a file of Python source, which would be executed.

    :raises UsageError: when it is no plain name.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UsageError(f"{path}: its problem {showable_line(repr(name))[:60]} is no name of a problem")
    return name


def _require_count(names: tuple[str, ...], count: int, message: str) -> tuple[str, ...]:
    if len(names) != count:
        raise UsageError(f"{message}, not {len(names)} argument{'s' if len(names) != 1 else ''}")
    return names


def _print(proof: Certificate, done: dict[str, Any], as_json: bool) -> None:
    """Print a certificate.

    :param done: what was done with it: ``checked``, its file, or ``written``, all files.
    """
    statement = proof.statement()
    if as_json:
        print_json(statement | done)
        return
    say(statement["claim"])
    for name, value in statement["facts"].items():
        text = showable_line(str(value))
        say(f"{showable_line(name)}: {text if len(text) <= 100 else f'{text[:97]}...'}")
    bound = statement["bound"]
    say(f"exact: a ratio of integers of {len(bound['numerator'])} and {len(bound['denominator'])} digits")
    given = ", ".join(f"{name} = {showable_line(str(value))}" for name, value in proof.options.items())
    if "checked" in done:
        say(f"{done['checked']}: holds{f' with {given}' if given else ''}")
    else:
        if "projected" in done:
            say(f"projected: {done['projected']}")
        say(f"written: {', '.join(done['written'])}")
        say(f"check: {certificate.check_command(pathlib.Path(done['written'][0]))}")
