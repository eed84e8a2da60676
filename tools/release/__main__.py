"""The command line of ``make release-check``: one line a check, and a last one."""

from __future__ import annotations

import argparse
import concurrent.futures
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from tools.distributions import ROOT
from tools.release import environments, metadata
from tools.release.address import write_address
from tools.release.build import build, check_with_twine
from tools.release.check import Check, CheckResult, carry_out

#: Checks that read files alone.
METADATA: dict[str, Callable[[pathlib.Path], str]] = {
    "versions": metadata.check_versions,
    "changelog": metadata.check_changelog,
    "tag": metadata.check_tag,
    "tree": metadata.check_tree,
    "address": metadata.check_address,
    "pins": metadata.check_pins,
    "environment": metadata.check_environment,
}
#: Environments tried at once: what takes the time is imports, one processor each.
AT_ONCE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, print, and say in the exit status whether all holds."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("--address", metavar="URL", help="first write the repository's public address")
    parser.add_argument("--quick", action="store_true", help="check what the files say, and build nothing")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    if options.address:
        try:
            write_address(ROOT, options.address)
        except ValueError as error:
            parser.error(str(error))
    results = [_carry_out(Check(name, partial(check, ROOT))) for name, check in METADATA.items()]
    if not options.quick:
        results += _check_wheels(ROOT / "dist")
    failed = [result for result in results if result.failed]
    skipped = sum(result.word == "skip" for result in results)
    hold = len(results) - len(failed) - skipped
    verdict = f"not ready: {', '.join(each.name for each in failed)}" if failed else "ready to be tagged"
    seconds = time.monotonic() - started
    print(f"{verdict} ({hold} checks hold, {skipped} skipped, {len(failed)} failed, {seconds:.0f} s)")
    return 1 if failed else 0


def _check_wheels(wheels: pathlib.Path) -> list[CheckResult]:
    results = [_carry_out(Check("build", partial(build, ROOT, wheels)))]
    if results[0].failed:
        return results
    results.append(_carry_out(Check("twine", partial(check_with_twine, wheels))))
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for result in pool.map(carry_out, environments.checks(ROOT, wheels)):
            print(result, flush=True)
            results.append(result)
    return results


def _carry_out(check: Check) -> CheckResult:
    result = carry_out(check)
    print(result, flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
