"""Aliases on the command line: promote, rollback, history, and the policies they ask. Parses, says, and chooses exit codes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import click

from mlpack.cli import stdout
from mlpack.cli.releases import Damaged, as_json, open_console, open_registry, print_json, quiet_option, registry_option, who
from mlpack.core.text import sinks, times
from mlpack.errors import ExitCode, RecipeError

if TYPE_CHECKING:
    from mlpack.cli.console import Console
    from mlpack.registry.aliases.aliases import MoveResult
    from mlpack.registry.aliases.policies import Policy
    from mlpack.registry.rows.rows import Move, Reference

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
    from functools import partial

    from mlpack.registry.aliases import aliases, gates, policies
    from mlpack.registry.rows import rows

    wanted = rows.parse_reference(reference)
    aliases.check_names(wanted, alias)
    place = open_registry(registry).place
    wish = aliases.MoveRequest(who=who(), why=why, force=force, expect=expect)
    with open_console(quiet) as console:
        judge = partial(gates.judge, place, policies.of_alias(place, wanted.name, alias))
        _say_outcome(aliases.promote(place, wanted, alias, wish, judge), console, as_json=as_json)


@click.command()
@click.argument("reference", metavar="NAME:ALIAS")
@click.option("--why", metavar="TEXT", help="The reason, for the history.")
@expect_option
@registry_option
@as_json
@quiet_option
@click.pass_obj
def rollback(quiet: bool, reference: str, why: str | None, expect: int | None, registry: str, as_json: bool) -> None:
    """Point an alias back at the last good release before. Needs the table alone. Prints NAME@VERSION."""
    from mlpack.registry.aliases import aliases

    place = open_registry(registry).place
    with open_console(quiet) as console:
        outcome = aliases.rollback(place, _alias(reference), aliases.MoveRequest(who=who(), why=why, expect=expect))
        _say_outcome(outcome, console, as_json=as_json)


@click.command()
@click.argument("reference", metavar="NAME:ALIAS")
@click.option(
    "--at", "at", metavar="TIME", help="Only what was live then: 2026-11-24 or 2026-11-24T09:30+01:00, UTC unless it says."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the last N moves.")
@registry_option
@as_json
def history(reference: str, at: str | None, limit: int | None, registry: str, as_json: bool) -> None:
    """List an alias's moves, newest first, as they are read; or what was live at a time."""
    from mlpack.registry.aliases import aliases

    place, wanted = open_registry(registry).place, _alias(reference)
    if at is not None:
        move = aliases.live_at(place, wanted, times.parse_time(at))
        return print_json(aliases.as_json(move)) if as_json else stdout.rows(_line(move))
    moves = itertools.islice(aliases.history(place, wanted, whole=as_json), limit)
    if as_json:
        return print_json([aliases.as_json(move) for move in moves])
    for move in moves:
        stdout.rows(_line(move))
        if stdout.reader_left():
            break
    return None


def _alias(text: str) -> Reference:
    from mlpack.registry.rows import rows

    wanted = rows.parse_reference(text)
    if wanted.alias is None:
        raise RecipeError(f"{text!r} is not an alias: write NAME:ALIAS, as in {wanted.name}:prod")
    return wanted


def _line(move: Move) -> str:
    """A move on one line; the reason comes last, because it is anything."""
    name, version, previous = (sinks.line(each) for each in (move.name, move.version, move.previous))
    before = f", before {name}@{previous}" if move.previous else ""
    said = f"{move.revision}  {sinks.line(move.when)}  {name}@{version}  {sinks.line(move.kind)}{before}"
    by = f"by {sinks.line(move.who or 'unknown')}{'  forced' if move.forced else ''}"
    return f"{said}  {by}{f'  {sinks.line(move.why)}' if move.why else ''}"


def _say_outcome(outcome: MoveResult, console: Console, *, as_json: bool) -> None:
    from mlpack.registry.aliases import aliases

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
        return print_json(aliases.as_json(move) | {"moved": outcome.moved})
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
    """Set the whole policy of an alias: what is not said is not asked. NAME:ALIAS goes before *:ALIAS."""
    from mlpack.registry.aliases import policies

    wanted = policies.Policy(
        subject=policies.parse_subject(subject), budgets=policies.parse_budgets(budgets), refuses=policies.parse_refuses(refuses)
    )
    made = policies.put(open_registry(registry).place, wanted, who(), expect)
    print_json(policies.as_json(made)) if as_json else stdout.rows(_policy_line(made))


@policy.command("show")
@click.argument("subject", required=False, metavar="[NAME:ALIAS|*:ALIAS]")
@registry_option
@as_json
def policy_show(subject: str | None, registry: str, as_json: bool) -> int:
    """Show one policy, or all that were set. A damaged one is named on stderr and passed over; exit 4 in the end."""
    from mlpack.registry.aliases import policies

    place = open_registry(registry).place
    if subject is not None:
        one = policies.get(place, subject)
        print_json(policies.as_json(one)) if as_json else stdout.rows(_policy_line(one))
        return ExitCode.OK
    damaged = Damaged()
    found = policies.listed(place, damaged)
    if as_json:
        print_json([policies.as_json(each) for each in found])
        return damaged.code
    for each in found:
        stdout.rows(_policy_line(each))
    return damaged.code


@policy.command("remove")
@click.argument("subject", metavar="NAME:ALIAS|*:ALIAS")
@expect_option
@registry_option
def policy_remove(subject: str, expect: int | None, registry: str) -> None:
    """Remove a policy. What is not there is removed already."""
    from mlpack.registry.aliases import policies

    policies.remove(open_registry(registry).place, subject, who(), expect)


def _policy_line(one: Policy) -> str:
    from mlpack.core.text import words
    from mlpack.registry.aliases import policies

    said = policies.as_json(one)
    written = {key: "true" if value is True else words.limit(words.number(value, 6)) for key, value in said["budgets"].items()}
    budgets = "  ".join(sinks.line(f"{key}={value}") for key, value in written.items()) or "no budgets"
    refuses = ", ".join(one.refuses) or "no regression"
    return f"{sinks.line(one.subject)}  revision {one.revision}  {budgets}  refuses {sinks.line(refuses)}"


VERBS: tuple[click.Command, ...] = (promote, rollback, history)
