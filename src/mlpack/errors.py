"""Everything that can stop a build, and the exit code each one ends with.

Promises: each class has one exit code, and a message says what happened, the likely reason and what to do. Anything that is
not an `MlpackError` is a bug (exit 1). That no candidate fits the budgets is an answer, not an error: see `records.Decision`.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR),
}


class ExitCode(IntEnum):
    """What `mlpack` ends with. CI scripts depend on these numbers: extend, never renumber."""

    OK = 0
    BUG = 1
    RECIPE = 2
    STEP_FAILED = 3
    SERVICE = 4
    OVER_BUDGET = 5
    UNASKED = 6
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "everything asked for was done",
    ExitCode.BUG: "a bug in mlpack: a log with versions and traceback was written, its path is printed",
    ExitCode.RECIPE: "the recipe, the data or the command line is wrong; every problem is listed",
    ExitCode.STEP_FAILED: "a step failed",
    ExitCode.SERVICE: "an external service (registry, package index) failed or could not be reached",
    ExitCode.OVER_BUDGET: "no candidate fits the budgets or limits (what was measured is written), or a gate refuses a promotion",
    ExitCode.UNASKED: "verify found nothing wrong, and could not ask a container registry for every image",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C or SIGTERM)",
}


def full_disk(text: str) -> OSError | None:
    """The error of a full disk or quota, when these words of an exception or a program's are about one; else None.

    By the words, because copies of whole trees (`shutil.Error`) and child processes have no errno to give.
    """
    number = next((each for each in (errno.ENOSPC, errno.EDQUOT) if os.strerror(each) in text), None)
    return OSError(number, os.strerror(number)) if number else None


class FullDiskError(OSError):
    """The disk of a place is full. `said`: in words, with what to do about that very place."""

    def __init__(self, number: int, place: str, way_out: str) -> None:
        super().__init__(number, os.strerror(number), place)
        self.said = f"{os.strerror(number).lower()} in {place}: {way_out}"


def full_disk_error(place: Path, way_out: str, number: int = errno.ENOSPC) -> FullDiskError:
    """The error to raise when the disk of this place is full: it names the place and says what is left there."""
    there = next((each for each in (place, *place.parents) if each.exists()), place)
    try:
        left = shutil.disk_usage(there).free
    except OSError:
        return FullDiskError(number, str(place), way_out)
    return FullDiskError(number, f"{place}, which has {left:,} bytes left", way_out)


@contextmanager
def disk_of(place: Path, way_out: str) -> Iterator[None]:
    """Within it a disk or quota that is full is said to be this place's, with what to do there."""
    try:
        yield
    except FullDiskError:
        raise  # whoever said so was nearer
    except OSError as error:
        full = error if error.errno in _FULL else full_disk(str(error))
        if full is None or full.errno is None:
            raise
        raise full_disk_error(place, way_out, full.errno) from error


class MlpackError(Exception):
    """A failure with a known meaning. The message is written for the user, not for us."""

    exit_code: ExitCode = ExitCode.STEP_FAILED


class RecipeError(MlpackError):
    """The recipe, its data or the command line is wrong. `problems` holds every one of them, a line each."""

    exit_code = ExitCode.RECIPE

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class PassError(MlpackError):
    """A pass could not do its work on this model."""


class MeasureError(MlpackError):
    """The packed bytes could not be run or read."""


class PackError(MlpackError):
    """A package could not be written, or it broke when it was booted."""


class NamingError(PackError):
    """The name of an image is malformed, or names nothing or several things: the command line or the recipe is to be changed."""

    exit_code = ExitCode.RECIPE


class LimitError(PackError):
    """A hard limit of the target is exceeded. Says what to cut, largest first."""

    exit_code = ExitCode.OVER_BUDGET


class PluginError(MlpackError):
    """A pass or target of an installed plug-in cannot be used, or failed by a fault of its own."""


class ServiceError(MlpackError):
    """A registry, package index or other service failed. `retryable`: whether trying again could help."""

    exit_code = ExitCode.SERVICE

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


def refusal(error: OSError | MemoryError) -> str | None:
    """What to tell the user when the machine has refused what it may refuse anybody (space, permission, memory) and nobody on the
    way knew more; None for what was not foreseen, which is a bug."""
    if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
        return "this machine does not have the memory for it: use a larger one"
    if isinstance(error, FullDiskError):
        return error.said
    if full := full_disk(str(error)):
        error = full if error.errno is None else error
    if error.errno is None or error.errno not in _FULL | _REFUSED:
        return None
    way_out = "free some, or point MLPACK_STORE at a larger disk" if error.errno in _FULL else "mend that, or name another place"
    return f"{os.strerror(error.errno).lower()}{f' ({error.filename})' if error.filename else ''}: {way_out}"
