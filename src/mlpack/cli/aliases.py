"""Aliases on the command line: promote, rollback, history, and policies. Commands parse, print and choose exit codes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import click

import mlpack
from mlpack.cli import stdout
from mlpack.cli.releases import DamagedRows, as_json, open_console, print_json, quiet_option, registry_option
from mlpack.core.text import sinks, words
from mlpack.errors import ExitCode

if TYPE_CHECKING:
    from mlpack import Move, MoveResult, Policy
    from mlpack.cli.console import Console

expect_option = click.option(
    "--expect", type=click.IntRange(min=0), metavar="REVISION", help="Change it only when it is at this revision (0: not there)."
)


@click.command()
@click.argument("reference", metavar="NAME@VERSION")
@click.option("--to", "alias", required=True, metavar="ALIAS", help="The alias to move, as in prod or canary.")
@click.option("--force", is_flag=True, help="Move it although gates refuse; the history keeps that, and why.")
@click.option("--why", metavar="TEXT", help="The reason, for the history.")
@expect_option
@registry_option
@as_json
@quiet_option
@click.pass_obj
def promote(  # noqa: PLR0913 - click hands every option over by itself
    quiet: bool, reference: str, alias: str, force: bool, why: str | None, expect: int | None, registry: str, as_json: bool
) -> None:
    """Point ALIAS at NAME@VERSION, after its gates: the alias's budgets, and what is live. Prints NAME@VERSION."""
    with open_console(quiet) as console:
        client = mlpack.open_registry(registry)
        _print_outcome(client.promote(reference, alias, force=force, why=why, expect=expect), console, as_json=as_json)


@click.command()
@click.argument("reference", metavar="NAME:ALIAS")
@click.option("--why", metavar="TEXT", help="The reason, for the history.")
@expect_option
@registry_option
@as_json
@quiet_option
@click.pass_obj
def rollback(quiet: bool, reference: str, why: str | None, expect: int | None, registry: str, as_json: bool) -> None:
    """Point an alias back at the last good release before this one. On AWS it needs only the table. Prints NAME@VERSION."""
    with open_console(quiet) as console:
        _print_outcome(mlpack.open_registry(registry).rollback(reference, why=why, expect=expect), console, as_json=as_json)


@click.command()
@click.argument("reference", metavar="NAME:ALIAS")
@click.option(
    "--at", "at", metavar="TIME", help="Only what was live then: 2026-11-24 or 2026-11-24T09:30+01:00, UTC unless it says."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the last N moves.")
@registry_option
@as_json
def history(reference: str, at: str | None, limit: int | None, registry: str, as_json: bool) -> None:
    """List an alias's moves, newest first; or, with --at, say what was live then."""
    client = mlpack.open_registry(registry)
    if at is not None:
        move = client.live_at(reference, at)
        return print_json(mlpack.registry_json(move)) if as_json else stdout.rows(_line(move))
    moves = itertools.islice(client.history(reference, whole=as_json), limit)
    if as_json:
        return print_json([mlpack.registry_json(move) for move in moves])
    for move in moves:
        stdout.rows(_line(move))
        if stdout.has_reader_gone():
            break
    return None


def _line(move: Move) -> str:
    """A move on one line. The reason comes last, because it is free text."""
    name, version, previous = (sinks.line(each) for each in (move.name, move.version, move.previous))
    before = f", before {name}@{previous}" if move.previous else ""
    head = f"{move.revision}  {sinks.line(move.when)}  {name}@{version}  {sinks.line(move.kind)}{before}"
    by = f"by {sinks.line(move.who or 'unknown')}{'  forced' if move.forced else ''}"
    return f"{head}  {by}{f'  {sinks.line(move.why)}' if move.why else ''}"


def _print_outcome(outcome: MoveResult, console: Console, *, as_json: bool) -> None:
    move = outcome.move
    for gate in move.gates if outcome.moved else ():
        note = console.note if gate["ok"] else console.warn
        note(f"{gate['gate']}: {gate['detail']}")
    what = f"{move.name}:{move.alias}"
    if not outcome.moved:
        console.note(f"{what} was at {move.name}@{move.version} already, since {move.when}")
    else:
        before = f"was {move.name}@{move.previous}" if move.previous else "is new"
        console.note(f"{what} {before}; revision {move.revision}")
    if as_json:
        return print_json(mlpack.registry_json(outcome))
    return stdout.row(f"{move.name}@{move.version}")


@click.group()
def policy() -> None:
    """What an alias asks of a release: budgets, and which regressions against what is live refuse a promotion."""


@policy.command("set")
@click.argument("subject", metavar="NAME:ALIAS|*:ALIAS")
@click.option(
    "--budget", "budgets", multiple=True, metavar="KEY=VALUE", help="As in a recipe: latency_p95=20ms. May be given again."
)
@click.option(
    "--refuse", "refuses", multiple=True, metavar="MEASURE", help="size, latency, cold_start, accuracy, or none. [default: all]"
)
@expect_option
@registry_option
@as_json
def policy_set(
    subject: str, budgets: tuple[str, ...], refuses: tuple[str, ...], expect: int | None, registry: str, as_json: bool
) -> None:
    """Set the whole policy of an alias, in place of the one before. A policy of NAME:ALIAS goes before *:ALIAS."""
    saved = mlpack.open_registry(registry).policies.set(subject, budgets=budgets, refuses=refuses, expect=expect)
    print_json(mlpack.registry_json(saved)) if as_json else stdout.rows(_policy_line(saved))


@policy.command("show")
@click.argument("subject", required=False, metavar="[NAME:ALIAS|*:ALIAS]")
@registry_option
@as_json
def policy_show(subject: str | None, registry: str, as_json: bool) -> int:
    """Show one policy, or all that were set. A damaged one is named on stderr and passed over; exit 4 in the end."""
    policies = mlpack.open_registry(registry).policies
    if subject is not None:
        one = policies.get(subject)
        print_json(mlpack.registry_json(one)) if as_json else stdout.rows(_policy_line(one))
        return ExitCode.OK
    damaged = DamagedRows()
    rows = policies.all(damaged=damaged)
    if as_json:
        print_json([mlpack.registry_json(each) for each in rows])
        return damaged.code
    for each in rows:
        stdout.rows(_policy_line(each))
    return damaged.code


@policy.command("remove")
@click.argument("subject", metavar="NAME:ALIAS|*:ALIAS")
@expect_option
@registry_option
def policy_remove(subject: str, expect: int | None, registry: str) -> None:
    """Remove a policy. That there is none is no error."""
    mlpack.open_registry(registry).policies.remove(subject, expect=expect)


def _policy_line(one: Policy) -> str:
    record = mlpack.registry_json(one)
    budgets = "  ".join(sinks.line(f"{key}={_limit(value)}") for key, value in record["budgets"].items()) or "no budgets"
    refuses = ", ".join(one.refuses) or "no regression"
    return f"{sinks.line(one.subject)}  revision {one.revision}  {budgets}  refuses {sinks.line(refuses)}"


def _limit(value: float | bool | str) -> str:
    if isinstance(value, str):
        return value
    return "true" if value is True else words.limit(words.number(value, 6))


VERBS: tuple[click.Command, ...] = (promote, rollback, history)
