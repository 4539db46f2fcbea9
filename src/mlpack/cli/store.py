"""The store on the command line: where it lies, how large it may be, `mlpack store status | prune`, and the end of a build."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlpack.cli import stdout
from mlpack.cli.releases import as_json, open_console, outside, print_json, quiet_option
from mlpack.core import interrupts
from mlpack.core.text import quantities, sinks, words
from mlpack.errors import MlpackError, RecipeError

if TYPE_CHECKING:
    from mlpack.cli.console import Console
    from mlpack.store.care import Item, PruneResult
    from mlpack.store.local import Store

SETTING = "MLPACK_STORE_MAX"
MAX_BYTES = 50_000_000_000
"""Where nothing is said: some twenty models of 500 MB with all that is made of them, on a disk that any builder has."""
_SIZES = "a size such as 20GB, 0 for nothing, or none for no limit"


def where(environ: Mapping[str, str]) -> Path:
    """The store's directory: what the environment names, else the user's cache."""
    from mlpack.store.local import place

    if named := environ.get("MLPACK_STORE"):
        return place(named)
    return place(environ.get("XDG_CACHE_HOME") or "~/.cache") / "mlpack"


def most(environ: Mapping[str, str]) -> int | None:
    """How many bytes the store may take; None for any number. RecipeError for what is no size."""
    said = environ.get(SETTING)
    try:
        return _size(said) if said else MAX_BYTES
    except ValueError as error:
        raise RecipeError(f"{SETTING}: {error} (or {_SIZES.partition(', ')[2]})") from None


def _size(said: str) -> int | None:
    if said.strip() in ("none", "0"):
        return None if said.strip() == "none" else 0
    return quantities.parse_size(said)


def _limit(_context: click.Context, _option: click.Parameter, said: str | None) -> int | None:
    """What `--max` says, else the environment. BadParameter for what is no size."""
    if said is None:
        return most(outside().environ)
    try:
        return _size(said)
    except ValueError as error:
        raise click.BadParameter(f"{error}; {_SIZES}") from None


@click.group()
def store() -> None:
    """The store, where every step's result is kept: what lies in it, and how it becomes smaller."""


@store.command("status")
@as_json
def status(as_json: bool) -> None:
    """Say what the store holds, by kind, and what of it running builds use. Changes nothing."""
    from mlpack.store import care

    root, limit = where(outside().environ), most(outside().environ)
    found = care.status(root)
    if as_json:
        kinds = [
            {"kind": each.kind, "count": each.count, "size_bytes": each.size_bytes, "oldest_use": _time(each.oldest_s)}
            for each in found.kinds
        ]
        oldest = _time(min((each.oldest_s for each in found.kinds), default=None))
        held = {"count": found.held, "size_bytes": found.held_bytes}
        said = {"path": str(root), "size_bytes": found.size_bytes, "max_bytes": limit, "oldest_use": oldest, "kinds": kinds}
        return print_json(said | {"in_use": held})
    bound = "no limit" if limit is None else f"at most {words.limit(words.size(limit))}"
    stdout.rows(f"{sinks.line(root)}: {words.size(found.size_bytes)} ({bound}: {SETTING})")
    for each in sorted(found.kinds, key=lambda each: (-each.size_bytes, each.kind)):
        stdout.rows(
            f"  {words.size(each.size_bytes):>10}  {each.count:>6,}  {sinks.line(each.kind)}, oldest use {_time(each.oldest_s)}"
        )
    stdout.row(f"in use by running builds: {words.count(found.held, 'entry', 'entries')}, {words.size(found.held_bytes)}")
    return None


@store.command("prune")
@click.option(
    "--max", "limit", callback=_limit, metavar="SIZE", help=f"What it may take: {_SIZES}. [default: {SETTING}, else 50GB]"
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@as_json
@quiet_option
@click.pass_obj
def prune(quiet: bool, limit: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove what killed builds left, then what was not used for longest, until the store is small enough. What running builds use
    stays."""
    from mlpack.store import care

    root = where(outside().environ)
    with open_console(quiet) as console:
        found = care.prune(root, _or_any(limit), dry_run=dry_run)
        if found is None:
            raise MlpackError(
                f"nothing was removed from {root}: this system has no locks of open files (F_OFD_SETLK), so nobody can say "
                "what running builds use. With no build at work, remove the directory"
            )
        console.note(_summary(found, limit, dry_run=dry_run))
        if found.refused:
            console.warn(f"{words.count(found.refused, 'entry', 'entries')} could not be removed: {found.reason}")
    if as_json:
        items = [_plain(item) for item in found.removed]
        counts = {"freed_bytes": found.freed_bytes, "size_bytes": found.size_bytes, "in_use": found.held, "refused": found.refused}
        return print_json({"path": str(root), "dry_run": dry_run, "max_bytes": limit, "removed": items, **counts})
    for kind, count in sorted(Counter(item.kind for item in found.removed).items()):
        stdout.rows(f"{count:>6,}  {sinks.line(kind)}")
    return None


def _or_any(limit: int | None) -> int:
    return sys.maxsize if limit is None else limit


def _plain(item: Item) -> dict[str, Any]:
    return {"kind": item.kind, "name": item.name, "size_bytes": item.size_bytes, "last_use": _time(item.used_s)}


def _summary(found: PruneResult, limit: int | None, *, dry_run: bool) -> str:
    entries = words.count(len(found.removed), "entry", "entries")
    said = (
        f"{entries} ({words.size(found.freed_bytes)}) {'would go' if dry_run else 'removed'}; {words.size(found.size_bytes)} left"
    )
    if limit is not None and found.size_bytes > limit:
        more = f"; {words.count(found.held, 'entry is', 'entries are')} in use by running builds" if found.held else ""
        return f"{said}, more than {words.limit(words.size(limit))}{more}"
    return said


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def kept_small(opened: Store, limit: int | None, console: Console) -> Iterator[None]:
    """Prune the store at the end of a build that put something in, also of one that fails; never of one that is interrupted."""
    began_s = datetime.now(UTC).timestamp()
    try:
        yield
    except MlpackError:
        if not interrupts.seen():
            _tidy(opened, limit, began_s, console)
        raise
    _tidy(opened, limit, began_s, console)


def _tidy(opened: Store, limit: int | None, began_s: float, console: Console) -> None:
    from mlpack.store import care

    if limit is None or not opened.grew:
        return
    opened.release()
    try:
        found = care.prune(opened.root, limit, wait=False)
    except OSError as error:
        console.warn(f"the store {opened.root} could not be made smaller: {error}")
        return
    if found is None or not found.removed:
        return
    console.note(f"store: {_summary(found, limit, dry_run=False)} ({SETTING})")
    own = sum(1 for item in found.removed if item.used_s >= began_s and item.kind != care.LEFT_OVER)
    if own:
        console.warn(
            f"{words.count(own, 'entry', 'entries')} of this very build did not fit into the store: it will be made again "
            f"next time. Set {SETTING} to more than {words.limit(words.size(limit))}"
        )


VERBS = (store,)
