"""The command that boots a package: for one request, or for a manifest of many."""

from __future__ import annotations

from pathlib import Path

import click

import mlpack
from mlpack.cli import releases, stdout
from mlpack.errors import ExitCode

_TIMEOUT_S = 60


@click.command()
@click.argument("package", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--event", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The request. [default: the package's own sample]"
)
@click.option(
    "--memory",
    "memory_mb",
    type=click.IntRange(128, 10240),
    metavar="MB",
    help="The function's memory. [default: the package's own]",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.IntRange(1, 900),
    metavar="SECONDS",
    help=f"How long to wait for an answer. [default: {_TIMEOUT_S}]",
)
@click.option(
    "--batch",
    "manifest",
    metavar="MANIFEST",
    help="Answer all requests of a manifest, a file or s3://bucket/key. The same command goes on after a stop.",
)
@click.option("--results", metavar="PLACE", help="Where the results of --batch go. [default: a folder beside the manifest]")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="KEY=COLUMN",
    help="The manifest's column for a key of requests: text=review, or features=age,income for a row. May be given again.",
)
@click.option("--format", type=click.Choice(["jsonl", "csv", "parquet"]), help="The manifest's format. [default: as its name says]")
@click.option("--model", metavar="NAME", help="The model that answers --batch, of a package of several. [default: the default one]")
@releases.as_json
@releases.quiet_option
@click.pass_obj
def run(  # noqa: PLR0913 - click hands every option over by itself
    quiet: bool,
    package: Path,
    event: Path | None,
    memory_mb: int | None,
    timeout_s: int | None,
    manifest: str | None,
    results: str | None,
    columns: tuple[str, ...],
    format: str | None,  # noqa: A002 - the option's name
    model: str | None,
    as_json: bool,
) -> int:
    """Boot PACKAGE here and call it, as its target would. PACKAGE is what a build left: its directory, or one artifact's."""
    if manifest is None:
        if results or columns or format or model:
            raise click.UsageError("--results, --column, --format and --model are for a manifest: give it as --batch MANIFEST")
        with releases.open_console(quiet) as console:
            result = mlpack.run(package, event=event, memory_mb=memory_mb, timeout_s=timeout_s or _TIMEOUT_S)
            console.note(f"booted {result.how}; initialised in {result.init_ms:.0f} ms")
            releases.print_json(result.answer if as_json else result.body)
        return ExitCode.OK
    if event or timeout_s:
        raise click.UsageError("--event and --timeout are for one request: leave them out where there is --batch")
    told = dict(map(_column, columns))
    options = mlpack.BatchOptions(results=results, columns=told, format=format, memory_mb=memory_mb, model=model)
    with releases.open_console(quiet) as console:
        answered = mlpack.run_batch(package, manifest, options=options, progress=console)
        console.note(answered.text())
    if as_json:
        releases.print_json(answered.to_json())
    elif answered.results.startswith("s3://"):
        stdout.value(answered.results)
    else:
        stdout.path(Path(answered.results))
    return ExitCode.STEP_FAILED if answered.failed else ExitCode.OK


def _column(text: str) -> tuple[str, str | list[str]]:
    key, _, names = text.partition("=")
    if not key or not names:
        raise click.UsageError(f"--column {text!r}: write KEY=COLUMN, or KEY=COLUMN,COLUMN for a row of several columns")
    return key, names.split(",") if "," in names else names


VERBS = (run,)
