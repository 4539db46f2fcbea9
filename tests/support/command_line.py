"""The command line in the test's own process, and the environment of a child that is asked what it loads."""

from __future__ import annotations

import os
import signal
import sys

from mlpack.cli import commands as cli


def run(*arguments: object) -> int:
    """The command line in this process; its exit code."""
    before = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = ["mlpack", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as left:
        return int(left.code or 0)
    finally:
        sys.argv = before[0]
        signal.signal(signal.SIGTERM, before[1])
    raise AssertionError("main always exits")


def unmeasured() -> dict[str, str]:
    """This environment without coverage: a child that counts its lines loads modules for that."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
