"""Where the programs and root file systems are that packages are booted and emulated with: on the path, or as the environment says.

Promises: what the environment names is there, or a RecipeError names the variable. Runs nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from mlpack.errors import RecipeError
from mlpack.store.local import place

_VARIABLES = {"aws-lambda-rie": "MLPACK_RIE", "arm64-root": "MLPACK_ARM64_ROOT"}
_ROOTS = ("arm64-root",)
"""Names that mean a directory, and are on no path."""


def finder(environ: Mapping[str, str]) -> Callable[[str], Path | None]:
    """What says where a program of a name is: by its variable, else on the path; None where it is nowhere."""

    def find(name: str) -> Path | None:
        variable = _VARIABLES.get(name, "")
        named = environ.get(variable)
        if name in _ROOTS:
            if named and not place(named).is_dir():
                raise RecipeError(f"{variable}: {named} is no directory: mend or unset it")
            return place(named).absolute() if named else None
        found = shutil.which(_program(named) if named else name)
        if named and not found:
            raise RecipeError(f"{variable}: {named} is no program that can be run: mend or unset it")
        return Path(found).absolute() if found else None

    return find


def _program(named: str) -> str:
    """A program as the environment names it: a path, or a bare word for PATH."""
    return str(place(named)) if "/" in named else named
