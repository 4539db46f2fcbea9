"""Prune a store: when a user asks for it, and at the end of a build."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.core.environment import STORE_MAX
from mlpack.core.text import words
from mlpack.errors import MlpackError
from mlpack.pipeline.library.results import PruneResult

if TYPE_CHECKING:
    from mlpack.core.progress import Say
    from mlpack.store import care


def prune(root: Path, max_bytes: int | None, *, dry_run: bool) -> PruneResult:
    """Make a store small enough; see `Workspace.prune`."""
    from mlpack.store import care

    pruned = care.prune(root, sys.maxsize if max_bytes is None else max_bytes, dry_run=dry_run)
    if pruned is None:
        raise MlpackError(
            f"nothing was removed from {root}: this system has no locks of open files (F_OFD_SETLK), so mlpack cannot "
            "know what running builds use. With no build at work, remove the directory"
        )
    return _result(pruned, max_bytes, dry_run=dry_run)


def tidy(root: Path, max_bytes: int | None, began_s: float, say: Say) -> None:
    """Prune the store after builds that added to it. `began_s`: the start of the first one, in seconds since 1970."""
    from mlpack.store import care

    if max_bytes is None:
        return
    try:
        pruned = care.prune(root, max_bytes, wait=False)
    except OSError as error:
        say.warn(f"the store {root} could not be made smaller: {error}")
        return
    if pruned is None or not pruned.removed:
        return
    say.note(f"store: {_result(pruned, max_bytes, dry_run=False).text()} ({STORE_MAX})")
    own = sum(1 for item in pruned.removed if item.used_s >= began_s and item.kind != care.LEFT_OVER)
    if own:
        say.warn(
            f"{words.count(own, 'entry', 'entries')} of this very build did not fit into the store: it will be made again "
            f"next time. Set {STORE_MAX} to more than {words.limit(words.size(max_bytes))}"
        )


def _result(pruned: care.PruneReport, max_bytes: int | None, *, dry_run: bool) -> PruneResult:
    return PruneResult(
        removed=tuple(pruned.removed),
        freed_bytes=pruned.freed_bytes,
        size_bytes=pruned.size_bytes,
        held=pruned.held,
        refused=pruned.refused,
        reason=pruned.reason,
        max_bytes=max_bytes,
        dry_run=dry_run,
    )
