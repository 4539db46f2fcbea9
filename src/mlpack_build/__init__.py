"""What the command `mlpack` starts: the command line of the package `mlpack`, once that is known to be this project's.

Another project on the Python package index is called `mlpack` and installs a package of the same name. Whichever of the two was
installed last owns `mlpack/__init__.py`, and whichever is removed takes it away. So the file is read before it is run.

Promises: where the file is not ours, words instead of a traceback, and exit code 3. Imports nothing that it has not looked at.
"""

from __future__ import annotations

import sys
from importlib import util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

NAME = __name__.replace("_", "-")
"""The distribution, which this package is named after; `mlpack.__distribution__` is the same word."""
_ENVIRONMENT_IS_WRONG = 3


def main() -> None:
    """The console script."""
    if problem := fault(util.find_spec("mlpack")):
        sys.stderr.write(f"mlpack: {problem}\n")
        sys.exit(_ENVIRONMENT_IS_WRONG)
    from mlpack.cli.commands import main as start

    start()


def fault(found: ModuleSpec | None) -> str | None:
    """Why the package that `import mlpack` would take is not to be run, with what to do about it; None where it is ours."""
    again = f"pip install --force-reinstall --no-deps {NAME}"
    if found is None or found.origin is None:
        return (
            f"the package mlpack of {NAME} is not where it was installed: another distribution that has files of the same name was "
            f"probably removed. Install it again: {again}"
        )
    with open(found.origin, "rb") as file:  # noqa: PTH123 - pathlib is not loaded yet, and everybody waits for this
        if f'"{NAME}"'.encode() in file.read():
            return None
    return (
        f"{found.origin} belongs to another project{_whose()}. Two packages of one name cannot share an environment. "
        f"Give this one its own (pipx install {NAME}, or uv tool install {NAME}), or remove the other and then repair "
        f"this one: pip uninstall mlpack; {again}"
    )


def _whose() -> str:
    from importlib import metadata

    try:
        return f" (mlpack {metadata.version('mlpack')})"
    except metadata.PackageNotFoundError:
        return ""
