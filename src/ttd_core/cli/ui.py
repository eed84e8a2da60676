"""``ttd ui``: a local web page over a folder of runs."""

from __future__ import annotations

import pathlib
import webbrowser

import click

from ttd_core.cli.extras import imported_from_extra
from ttd_core.cli.output import complain, json_option, print_json, say

#: Where the page listens unless told otherwise.
PORT = 8420
#: The folder of runs where none is named; it may come to be while the page is open.
DEFAULT_RUNS = pathlib.Path("runs")


@click.command("ui")
@click.argument(
    "runs",
    metavar="[RUNS]",
    type=click.Path(path_type=pathlib.Path, file_okay=False, exists=True),
    required=False,
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Port; 0 for any free one."
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Interface; another lets other machines in, unencrypted.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open the page in this machine's browser.")
@json_option
def ui(runs: pathlib.Path | None, port: int, host: str, open_browser: bool, as_json: bool) -> None:
    """Watch and read runs on a local web page.

    RUNS is the folder that holds them, by default runs. Prints the page's address, whose token lets in who
    has it, and serves it until Ctrl-C. To read it on another machine, run there:
    ssh -L 8420:127.0.0.1:8420 THIS-MACHINE, and open the same address.

    \b
    Example:
      ttd ui
      ttd ui elsewhere --port 0 --open
    """
    folder = runs or DEFAULT_RUNS
    with imported_from_extra("ui", "the page needs"):
        from ttd_core.ui import server as serving  # noqa: PLC0415 - starlette and uvicorn come with an extra
    server = serving.PageServer.open(folder, host, port)
    if not serving.is_local(host):
        complain(
            f"--host {host}: other machines can reach this page, and read its traffic and token on the way; "
            "a tunnel (ssh -L) needs no such flag",
            "warning",
        )
    if not folder.exists():
        complain(
            f"there is no folder {folder} yet; the page shows a run as soon as ttd run makes one", "note"
        )
    if as_json:
        print_json({"address": server.address, "runs": str(folder)})
    else:
        say(f"{folder} is shown at {server.address}\nCtrl-C ends it")
    if open_browser:
        webbrowser.open(server.address)
    server.serve()
