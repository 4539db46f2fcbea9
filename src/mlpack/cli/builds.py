"""Commands that read builds and plug-ins: diff, explain and plugins."""

from __future__ import annotations

from pathlib import Path

import click

import mlpack
from mlpack.cli import stdout
from mlpack.cli.releases import as_json, print_json


@click.command()
@click.argument("before", type=click.Path(exists=True, path_type=Path))
@click.argument("after", type=click.Path(exists=True, path_type=Path))
@as_json
def diff(before: Path, after: Path, as_json: bool) -> None:
    """Compare two builds (directories or build.json files): size, speed and accuracy, with noise bands, and what their graphs are
    made of."""
    result = mlpack.diff(before, after)
    return print_json(result.to_json()) if as_json else stdout.rows(result.text())


@click.command()
@click.argument("path", metavar="BUILD|PACKAGE|MODEL", type=click.Path(exists=True, path_type=Path))
@click.option("--candidate", metavar="ID", help="Which candidate of a build. [default: the chosen]")
@click.option(
    "--shape", "shapes", multiple=True, metavar="INPUT=1,3,224,224",
    help="For a package or model: the shape of an input to count operations for. May be given again. [default: open axes are 1]",
)  # fmt: skip
@as_json
def explain(path: Path, candidate: str | None, shapes: tuple[str, ...], as_json: bool) -> None:
    """Say where the bytes and the operations of a build's candidate, a package or an ONNX model are, what its operators compute in,
    and what was kept float and why."""
    result = mlpack.explain(path, candidate=candidate, shapes=dict(map(_shape, shapes)))
    return print_json(result.to_json()) if as_json else stdout.rows(result.text())


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, axes = text.rpartition("=")
    numbers = axes.split(",")
    if not name or not all(number.isdecimal() and 0 < int(number) < 2**31 for number in numbers if number or len(numbers) > 1):
        raise click.UsageError(f"--shape {text!r}: write INPUT=1,3,224,224, each axis at least 1")
    return name, tuple(int(number) for number in numbers if number)


@click.command()
@click.option("--schema", is_flag=True, help="The JSON Schema of a recipe instead, with what plug-ins add, for editors.")
@as_json
def plugins(schema: bool, as_json: bool) -> None:
    """List the passes and targets that plug-ins add to this installation, and what is wrong with those that cannot be used."""
    if schema:
        return print_json(mlpack.recipe_schema())
    rows = mlpack.plugins()
    if as_json:
        return print_json({"plugins": [row.to_json() for row in rows]})
    for row in rows:
        stdout.row(f"{row.kind} {row.name}  {row.distribution} {row.version}  {row.entry_point}")
        if row.problem is not None:
            stdout.row(f"    cannot be used: {row.problem}")
    if not rows:
        stdout.row("no plug-in is installed beside mlpack")
    return None


VERBS = (diff, explain, plugins)
