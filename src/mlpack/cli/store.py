"""The store on the command line: `mlpack store status | prune`."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import click

import mlpack
from mlpack.cli import stdout
from mlpack.cli.releases import as_json, open_console, print_json, quiet_option
from mlpack.core.environment import SIZES, STORE_MAX, Environment, parse_limit
from mlpack.core.text import sinks, words


def _limit(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    """The size of `--max`, else of the environment. BadParameter for an invalid size."""
    if text is None:
        return Environment().store_max_bytes
    try:
        return parse_limit(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}; {SIZES}") from None


@click.group()
def store() -> None:
    """The store, where every step's result is kept: what lies in it, and how it becomes smaller."""


@store.command("status")
@as_json
def status(as_json: bool) -> None:
    """Say what the store holds, by kind, and what of it running builds use. Changes nothing."""
    workspace = mlpack.Workspace()
    root, limit = workspace.root, workspace.max_bytes
    report = workspace.status()
    if as_json:
        kinds = [
            {"kind": each.kind, "count": each.count, "size_bytes": each.size_bytes, "oldest_use": _time(each.oldest_s)}
            for each in report.kinds
        ]
        oldest = _time(min((each.oldest_s for each in report.kinds), default=None))
        in_use = {"count": report.held, "size_bytes": report.held_bytes}
        record = {"path": str(root), "size_bytes": report.size_bytes, "max_bytes": limit, "oldest_use": oldest, "kinds": kinds}
        return print_json(record | {"in_use": in_use})
    limit_text = "no limit" if limit is None else f"at most {words.limit(words.size(limit))}"
    stdout.rows(f"{sinks.line(root)}: {words.size(report.size_bytes)} ({limit_text}: {STORE_MAX})")
    for each in sorted(report.kinds, key=lambda each: (-each.size_bytes, each.kind)):
        stdout.rows(
            f"  {words.size(each.size_bytes):>10}  {each.count:>6,}  {sinks.line(each.kind)}, oldest use {_time(each.oldest_s)}"
        )
    stdout.row(f"in use by running builds: {words.count(report.held, 'entry', 'entries')}, {words.size(report.held_bytes)}")
    return None


@store.command("prune")
@click.option(
    "--max", "limit", callback=_limit, metavar="SIZE", help=f"What it may take: {SIZES}. [default: {STORE_MAX}, else 50GB]"
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@as_json
@quiet_option
@click.pass_obj
def prune(quiet: bool, limit: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove what killed builds left, then what was not used for longest, until the store is small enough. What running builds use
    stays."""
    workspace = mlpack.Workspace()
    with open_console(quiet) as console:
        result = workspace.prune(limit, dry_run=dry_run)
        console.note(result.text())
        if result.refused:
            console.warn(f"{words.count(result.refused, 'entry', 'entries')} could not be removed: {result.reason}")
    if as_json:
        items = [
            {"kind": item.kind, "name": item.name, "size_bytes": item.size_bytes, "last_use": _time(item.used_s)}
            for item in result.removed
        ]
        counts = {
            "freed_bytes": result.freed_bytes,
            "size_bytes": result.size_bytes,
            "in_use": result.held,
            "refused": result.refused,
        }
        return print_json({"path": str(workspace.root), "dry_run": dry_run, "max_bytes": limit, "removed": items, **counts})
    for kind, count in sorted(Counter(item.kind for item in result.removed).items()):
        stdout.rows(f"{count:>6,}  {sinks.line(kind)}")
    return None


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


VERBS = (store,)
