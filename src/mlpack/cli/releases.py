"""Releases on the command line: publish, list, show, pull. Commands parse, print and choose exit codes."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mlpack
from mlpack.cli import stdout
from mlpack.core.text import sinks
from mlpack.errors import ExitCode, MlpackError, RecipeError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from mlpack.cli.console import Console


def _quieter(context: click.Context, _option: click.Parameter, quiet: bool) -> None:
    context.obj = bool(context.obj) or quiet


class NewPath(click.Path):
    """A path to create and to print for scripts. A name that does not fit into one line is refused before the work."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert as click does. BadParameter for a name with a control code, a line end or the mark of a CI system's command."""
        path = super().convert(value, param, ctx)
        if stdout.printable(Path(os.fsdecode(path))) is None:
            self.fail(f"{str(path)!r} cannot be printed as one line, so no script could read where it is: name another", param, ctx)
        return path


class Amount(click.FloatRange):
    """A number from 0. BadParameter for `nan` and `inf`: with them no comparison holds, so nothing would be too young to be
    removed."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert as click does, for finite numbers in ASCII."""
        if not str(value).isascii() or not math.isfinite(number := super().convert(value, param, ctx)):
            self.fail(f"{value!r} is not a number that can be counted to", param, ctx)
        return number


as_json = click.option("--json", "as_json", is_flag=True, help="Print the whole record as JSON on stdout.")
quiet_option = click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_quieter, help="Say only what went wrong.")
registry_option = click.option(
    "--registry",
    envvar="MLPACK_REGISTRY",
    metavar="REGISTRY",
    default=".mlpack/registry",
    show_default=True,
    help="The registry: a directory, or s3://bucket/prefix?table=NAME.",
)
images_option = click.option(
    "--images", metavar="HOST/REPO", help="The container registry that images are in. [default: as the registry was created]"
)
wait_option = click.option(
    "--wait", "wait_s", type=Amount(), default=0.0, metavar="SECONDS", help="How long to wait until it is there. [default: 0]"
)


def _fields(_context: click.Context, _option: click.Parameter, prefix: str) -> list[str | CompletionItem]:
    return [name for name in mlpack.RELEASE_FIELDS if name.startswith(prefix)]


def print_json(value: Any) -> None:
    """Print a record on stdout."""
    stdout.json(value)


def open_console(quiet: bool) -> Console:
    """The console for progress."""
    from mlpack.cli.console import Console

    return Console(quiet=quiet)


class DamagedRows:
    """Receives rows that cannot be read and names each on stderr; the command goes on. `code`: the command's exit code."""

    def __init__(self) -> None:
        self.code = ExitCode.OK

    def __call__(self, error: MlpackError) -> None:
        with open_console(quiet=True) as console:
            console.warn(str(error))
        self.code = error.exit_code


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@click.option("--label", metavar="TEXT", help="Its semantic version. [default: the CI's tag, else what git describe says]")
@images_option
@registry_option
@as_json
@quiet_option
@click.pass_obj
def publish(quiet: bool, folder: Path, label: str | None, images: str | None, registry: str, as_json: bool) -> None:
    """Publish what a build left in DIR. Prints NAME@VERSION; the same content again changes nothing."""
    with open_console(quiet) as console:
        client = mlpack.open_registry(registry, images=images, progress=console)
        release = client.publish(folder, label=label)
        if images is not None and release.images and client.images_home() is None:
            console.note(
                f"{registry} does not keep that images go to {images}: the next publication without --images keeps them among its "
                f"own bytes. `mlpack registry create {registry} --images {images}` makes it the rule"
            )
    print_json(mlpack.registry_json(release)) if as_json else stdout.row(f"{release.name}@{release.version}")


@click.command("list")
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N.")
@registry_option
@as_json
def list_releases(name: str | None, limit: int | None, registry: str, as_json: bool) -> int:
    """List releases, of NAME or of every model, by name and version. A damaged row is named on stderr and passed
    over; exit 4 in the end."""
    client, damaged = mlpack.open_registry(registry), DamagedRows()
    if as_json:
        releases = itertools.islice(client.releases(name, damaged=damaged), limit)
        print_json([mlpack.registry_json(release) for release in releases])
        return damaged.code
    for each in itertools.islice(client.summaries(name, damaged=damaged), limit):
        head = each.head
        cells = (f"{each.name}@{each.version}", head.kind, f"{head.size_bytes:,} bytes", str(head.digest), head.provenance.label)
        stdout.rows("  ".join(sinks.line(cell) for cell in cells if cell))
        if stdout.has_reader_gone():
            break
    return damaged.code


@click.command()
@click.argument("reference", metavar="NAME[@VERSION|:ALIAS]")
@click.option("--field", metavar="FIELD", shell_complete=_fields, help="Print one value, for $(...): image, zip, digest, ...")
@click.option(
    "--format", "output_format", type=click.Choice(["json", "terraform", "cloudformation"]), help="Print what these programs take."
)
@click.option(
    "--presign",
    "presign_s",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    help="Print a URL of its zip that is valid for this long.",
)
@wait_option
@registry_option
@as_json
def show(  # noqa: PLR0913 - click hands every option over by itself
    reference: str, field: str | None, output_format: str | None, presign_s: int | None, wait_s: float, registry: str, as_json: bool
) -> None:
    """Show one release: the newest of NAME, NAME@VERSION, or where NAME:ALIAS points."""
    if sum((field is not None, output_format is not None or as_json, presign_s is not None)) > 1:
        raise RecipeError("--field, --format and --presign each print something of their own: give one of them")
    client = mlpack.open_registry(registry)
    release = client.show(reference, wait_s=wait_s)
    if field is not None:
        return stdout.value(client.field(release, field))
    if presign_s is not None:
        return stdout.value(client.presign(release, presign_s))
    if output_format == "json" or as_json:
        return print_json(mlpack.registry_json(release))
    if output_format == "terraform":
        return print_json(client.terraform_values(release))
    if output_format == "cloudformation":
        return print_json(client.cloudformation_parameters(release))
    return stdout.rows(mlpack.describe_release(release))


@click.command()
@click.argument("reference", metavar="NAME[@VERSION|:ALIAS]")
@click.option("--out", type=NewPath(path_type=Path), help="Where it goes. [default: NAME-VERSION, or the file's own name]")
@click.option("--file", "file", metavar="PATH|zip|layer", help="Only this file of it; zip and layer are the function's.")
@click.option("--unpacked", is_flag=True, help="What the function will see at /var/task, instead of the packages.")
@wait_option
@registry_option
@quiet_option
@click.pass_obj
def pull(  # noqa: PLR0913 - click hands every option over by itself
    quiet: bool, reference: str, out: Path | None, file: str | None, unpacked: bool, wait_s: float, registry: str
) -> None:
    """Pull a release's files, every byte verified; an interrupted pull goes on where it was. Prints where they are."""
    if file is not None and unpacked:
        raise RecipeError("--file and --unpacked exclude each other")
    with open_console(quiet) as console:
        client = mlpack.open_registry(registry, progress=console)
        release = client.show(reference, wait_s=wait_s)
        if file is None:
            return stdout.path(client.pull(release, out, unpacked=unpacked))
        target = out or Path(Path(client.path_of(release, file)).name)
        if stdout.printable(target) is None:
            raise RecipeError(f"{target}: this name cannot be printed as one line: name the file with --out")
        return stdout.path(client.pull_file(release, file, target))


VERBS: tuple[click.Command, ...] = (publish, list_releases, show, pull)
