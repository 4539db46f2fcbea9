"""What a call goes by that its arguments do not say: the variables of the environment, and what they mean.

Promises: every variable means the same to the library and to the command (`docs/interface.md`). The process's own variables are
read here and nowhere else (the terminal's are the console's), and only where the caller gave no others; every room is handed them.
A variable is looked at when it is needed; a wrong one is a RecipeError that names it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from mlpack.core.files import bounded
from mlpack.core.text import quantities
from mlpack.errors import RecipeError

AnyPath = str | os.PathLike[str]

STORE_MAX = "MLPACK_STORE_MAX"
STORE_MAX_BYTES = 50_000_000_000
"""Where nothing is said: some twenty models of 500 MB with all that is made of them, on a disk that any builder has."""
SIZES = "a size such as 20GB, 0 for nothing, or none for no limit"
REGISTRY = ".mlpack/registry"
"""The registry, where neither the caller nor `MLPACK_REGISTRY` names one."""

_PROGRAMS = {"aws-lambda-rie": "MLPACK_RIE", "arm64-root": "MLPACK_ARM64_ROOT"}
_ROOTS = ("arm64-root",)
"""Names that mean a directory, and are on no path."""


class Environment:
    """The variables of a call, and what they say."""

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        """Take the variables, and the limits of memory that they set (`bounded.SETTINGS`).

        Args:
            variables: What to read; None is the process's own environment.

        Raises:
            RecipeError: One of the limits is no number.
        """
        self.variables: Mapping[str, str] = os.environ if variables is None else variables
        bounded.configure(self.variables)

    @property
    def store(self) -> Path:
        """The store's directory: `MLPACK_STORE`, else `mlpack` in the user's cache."""
        if path := self.variables.get("MLPACK_STORE"):
            return place(path)
        return place(self.variables.get("XDG_CACHE_HOME") or "~/.cache") / "mlpack"

    @property
    def store_max_bytes(self) -> int | None:
        """How many bytes the store may take (`MLPACK_STORE_MAX`); None for any number."""
        text = self.variables.get(STORE_MAX)
        try:
            return parse_limit(text) if text else STORE_MAX_BYTES
        except ValueError as error:
            raise RecipeError(f"{STORE_MAX}: {error} (or {SIZES.partition(', ')[2]})") from None

    @property
    def home(self) -> Path:
        """The user's directory; the root where there is none: no HOME, and a user that is in no list, as containers have them."""
        try:
            return Path.home()
        except RuntimeError:
            return Path(os.sep)

    @property
    def registry(self) -> str:
        """The registry that is meant where nobody names one."""
        return self.variables.get("MLPACK_REGISTRY") or REGISTRY

    def program(self, name: str) -> Path | None:
        """Where a program or a root file system is: by its variable, else on the path; None where it is nowhere. Runs nothing."""
        variable = _PROGRAMS.get(name, "")
        value = self.variables.get(variable)
        if name in _ROOTS:
            if value and not place(value).is_dir():
                raise RecipeError(f"{variable}: {value} is no directory: mend or unset it")
            return place(value).absolute() if value else None
        # A bare word is looked up on the path, as a shell would.
        path = shutil.which((str(place(value)) if "/" in value else value) if value else name)
        if value and not path:
            raise RecipeError(f"{variable}: {value} is no program that can be run: mend or unset it")
        return Path(path).absolute() if path else None


def place(text: str) -> Path:
    """A path that a setting names, as an absolute one, `~` replaced.

    Children work in other directories, and no shell has replaced the `~` of a value that stands in a CI system's own file.
    """
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:  # no home directory of that name
        return Path(text).absolute()


def parse_limit(text: str) -> int | None:
    """A size of the store in bytes; None for `none`. ValueError for what is no size."""
    if text.strip() in ("none", "0"):
        return None if text.strip() == "none" else 0
    return quantities.parse_size(text)
