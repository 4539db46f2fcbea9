"""Rollouts on the command line: start, status, answer, abort. Commands parse, print and choose exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

import mlpack
from mlpack.cli import stdout
from mlpack.cli.releases import as_json, open_console, print_json, quiet_option, registry_option
from mlpack.core.text import sinks
from mlpack.errors import ExitCode

if TYPE_CHECKING:
    from mlpack import RolloutStatus


@click.group()
def rollout() -> None:
    """Give a release an alias's traffic step by step, on AWS or on what AWS_ENDPOINT_URL names."""


@rollout.command("start")
@click.argument("reference", metavar="NAME@VERSION")
@click.option("--to", "alias", required=True, metavar="ALIAS", help="The alias whose traffic it gets, as in prod.")
@click.option(
    "--deployment",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The directory that `mlpack deploy write` made.",
)
@click.option("--here", is_flag=True, help="Lead it from this process until it ends, in the place of the state machine.")
@click.option("--prepare", is_flag=True, help="Print the input of its state machine, which somebody else starts.")
@click.option("--force", is_flag=True, help="Start although gates refuse; the history keeps that, and why.")
@click.option("--why", metavar="TEXT", help="The reason, for the history.")
@registry_option
@as_json
@quiet_option
@click.pass_obj
def rollout_start(  # noqa: PLR0913 - click hands every option over by itself
    quiet: bool,
    reference: str,
    alias: str,
    deployment: Path,
    here: bool,
    prepare: bool,
    force: bool,
    why: str | None,
    registry: str,
    as_json: bool,
) -> int:
    """Start a rollout to ALIAS, after its gates. Its stack has brought the code. Prints its name; exit 5 where it was led from here
    and rolled back."""
    with open_console(quiet) as console:
        options = mlpack.RolloutOptions(here=here, prepare=prepare, force=force, why=why, told=console.note)
        status = mlpack.start_rollout(reference, alias, deployment, options=options, registry=registry)
    if prepare:
        print_json({"rollout": dict(status.document)})
    else:
        print_json(status.to_json()) if as_json else stdout.row(status.id)
    return ExitCode.OVER_BUDGET if status.phase == "rolled_back" else ExitCode.OK


@rollout.command("status")
@click.argument("reference", metavar="NAME:ALIAS")
@click.option("--number", type=click.IntRange(min=1), metavar="N", help="The N-th rollout of the alias. [default: the newest]")
@click.option("--replay", is_flag=True, help="Make each decision again from its evidence. Exit 3 where one has other bytes.")
@registry_option
@as_json
def rollout_status(reference: str, number: int | None, replay: bool, registry: str, as_json: bool) -> int:
    """Say how a rollout is, and on which numbers each decision was made."""
    status = mlpack.rollout_status(reference, number=number, registry=registry)
    replayed = dict(status.replay()) if replay else {}
    if as_json:
        print_json(status.to_json() | ({"replay": [replayed[look] for look in sorted(replayed)]} if replay else {}))
    else:
        _print(status, replayed)
    return ExitCode.OK if all(replayed.values()) else ExitCode.STEP_FAILED


@rollout.command("answer")
@click.argument("reference", metavar="NAME:ALIAS")
@click.argument("answer", type=click.Choice(["advance", "roll-back"]))
@registry_option
def rollout_answer(reference: str, answer: Literal["advance", "roll-back"], registry: str) -> None:
    """Answer a rollout that asks because it is undecided for too long."""
    word: Literal["advance", "roll_back"] = "roll_back" if answer == "roll-back" else "advance"
    stdout.row(mlpack.answer_rollout(reference, word, registry=registry).id)


@rollout.command("abort")
@click.argument("reference", metavar="NAME:ALIAS")
@click.option("--why", metavar="TEXT", help="The reason, for its trail.")
@registry_option
@as_json
def rollout_abort(reference: str, why: str | None, registry: str, as_json: bool) -> None:
    """End a rollout that is under way: all traffic goes to the old version, at once."""
    status = mlpack.abort_rollout(reference, why=why, registry=registry)
    print_json(status.to_json()) if as_json else _print(status, {})


def _print(status: RolloutStatus, replayed: dict[int, bool]) -> None:
    for number, look in enumerate(status.looks, 1):
        action = look["action"]
        what = f"shift to {action['percent']} %" if action["kind"] == "shift" else str(action["kind"]).replace("_", " ")
        again = "" if number not in replayed else "  same bytes" if replayed[number] else "  OTHER BYTES"
        stdout.rows(f"{number}  {sinks.line(what)}{again}  {sinks.line(look['why'])}")
        for row in look["verdicts"]:
            stdout.rows(f"    {sinks.line(row['metric'])}: {sinks.line(row['verdict'])}: {sinks.line(row['why'])}")
    head = f"{status.id}: {status.name}@{status.version} to {status.alias}: {status.phase}, {status.percent} %"
    stdout.rows(f"{sinks.line(head)}: {sinks.line(status.why)}")


VERBS = (rollout,)
