"""The verbs that look at what builds left: two compared, one explained. Each imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from mlpack import stdout
from mlpack.cli_registry import as_json, print_json


@click.command()
@click.argument("before", type=click.Path(exists=True, path_type=Path))
@click.argument("after", type=click.Path(exists=True, path_type=Path))
@as_json
def diff(before: Path, after: Path, as_json: bool) -> None:
    """Compare two builds (directories or build.json files): size, speed and accuracy, with noise bands."""
    from mlpack import diff as diff_

    rows = diff_.compare(diff_.read(before), diff_.read(after))
    if as_json:
        return print_json(diff_.as_json(rows))
    return stdout.rows(diff_.text(rows))


VERBS = (diff,)
