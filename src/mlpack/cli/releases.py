"""Releases on the command line: publish, list, show, pull. Like the rest of it: parses, says, and chooses exit codes."""

from __future__ import annotations

import itertools
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlpack.cli import stdout
from mlpack.core.text import sinks
from mlpack.errors import ExitCode, MlpackError, RecipeError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from mlpack.cli.console import Console
    from mlpack.core.environment import Environment
    from mlpack.oci.distribution.keychain import Keychain
    from mlpack.registry.records import Release
    from mlpack.registry.releases.releases import Registry

_OUTSIDE = "mlpack.outside"
_WAIT_LONGEST_S = 5.0


def look_outside(context: click.Context, seen: Environment) -> None:
    """Hand the environment to every command below this one."""
    context.meta[_OUTSIDE] = seen


def outside() -> Environment:
    """What was handed over."""
    from mlpack.core.environment import Environment

    seen = click.get_current_context().meta[_OUTSIDE]
    assert isinstance(seen, Environment)
    return seen


def _quieter(context: click.Context, _option: click.Parameter, given: bool) -> None:
    context.obj = bool(context.obj) or given


class NewPath(click.Path):
    """A path that is made, and printed for scripts when it is there: a name that no line can hold is refused before the work."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click's. BadParameter for a name with a control code, a line end or the mark of a CI system's command in it."""
        made = super().convert(value, param, ctx)
        if stdout.printable(Path(os.fsdecode(made))) is None:
            self.fail(f"{str(made)!r} cannot be printed as one line, so no script could read where it is: name another", param, ctx)
        return made


class Amount(click.FloatRange):
    """A number from nothing on. BadParameter for what is none (`nan`) or has no end (`inf`): no comparison with it holds,
    so nothing would be too young to be removed."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click's, for finite numbers in ASCII."""
        if not str(value).isascii() or not math.isfinite(made := super().convert(value, param, ctx)):
            self.fail(f"{value!r} is not a number that can be counted to", param, ctx)
        return made


as_json = click.option("--json", "as_json", is_flag=True, help="Print the whole record as JSON on stdout.")
quiet_option = click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_quieter, help="Say only what went wrong.")
registry_option = click.option(
    "--registry",
    envvar="MLPACK_REGISTRY",
    default=".mlpack/registry",
    show_default=True,
    help="The registry: a directory, or s3://bucket/prefix?table=NAME.",
)
images_option = click.option(
    "--images", metavar="HOST/REPO", help="The container registry that images are in. [default: as the registry was created]"
)
wait_option = click.option(
    "--wait", "wait_s", type=Amount(), default=0.0, metavar="SECONDS", help="Wait so long until it is there."
)


def _fields(_context: click.Context, _option: click.Parameter, begun: str) -> list[str | CompletionItem]:
    from mlpack.registry.releases import forms

    return [name for name in forms.FIELDS if name.startswith(begun)]


def print_json(value: Any) -> None:
    """A record on stdout."""
    stdout.json(value)


def open_console(quiet: bool) -> Console:
    """Where progress goes."""
    from mlpack.cli.console import Console

    return Console(quiet=quiet)


def open_registry(where: str) -> Registry:
    """The registry, for whoever needs no images of it."""
    from mlpack.registry import places

    return places.open_registry(where)


def open_whole(where: str, images: str | None = None) -> Registry:
    """The registry, with the container registry that images go to: the given one, else the one it was created with."""
    from mlpack.registry import places

    return places.with_images(places.open_registry(where), images, _keychain())


def open_to_look(where: str, images: str | None = None) -> Registry:
    """The registry, with whatever container registries its releases' images are in: to look after, not to publish into."""
    from mlpack.registry import places

    return places.with_recorded_images(places.open_registry(where), images, _keychain())


class Damaged:
    """Rows that cannot be read: each is named on stderr when it is met, and the verb goes on. `code`: the verb's exit code."""

    def __init__(self) -> None:
        self.code = ExitCode.OK

    def __call__(self, error: MlpackError) -> None:
        with open_console(quiet=True) as console:
            console.warn(str(error))
        self.code = error.exit_code


def who() -> str | None:
    """Who is at work, for histories."""
    from mlpack.registry.releases import provenance

    return provenance.who(outside().variables, Path.cwd())


def _keychain() -> Keychain:
    from mlpack.oci.distribution import keychain

    return keychain.of_environment(outside().variables, outside().home)


def published(folder: Path, opened: Registry, console: Console, *, sources: Path, label: str | None = None) -> Release:
    """Publish what a build left, with what is known of the repository around `sources` and of the CI."""
    from mlpack.registry.releases import provenance

    known = provenance.read(outside().variables, sources, label)
    with console.progress(f"publish {folder.name}", _bytes_below(folder)) as moved:
        return opened.publish(folder, known, moved)


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


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
    from mlpack.registry import settings
    from mlpack.registry.releases import forms

    with open_console(quiet) as console:
        opened = open_whole(registry, images)
        release = published(folder, opened, console, sources=folder, label=label)
        if images is not None and release.images and settings.images_of(opened) is None:
            console.note(
                f"{registry} does not keep that images go to {images}: the next publication without --images keeps them among its "
                f"own bytes. `mlpack registry create {registry} --images {images}` makes it the rule"
            )
    print_json(forms.as_json(release)) if as_json else stdout.row(f"{release.name}@{release.version}")


@click.command("list")
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N.")
@registry_option
@as_json
def list_(name: str | None, limit: int | None, registry: str, as_json: bool) -> int:
    """List releases, of NAME or of every model, by name and version, as they are read. A damaged row is named on stderr and passed
    over; exit 4 in the end."""
    from mlpack.registry.releases import forms

    opened, damaged = open_registry(registry), Damaged()
    if as_json:
        print_json([forms.as_json(release) for release in itertools.islice(opened.releases(name, damaged), limit)])
        return damaged.code
    for each in itertools.islice(opened.listed(name, damaged), limit):
        head = each.head
        cells = (f"{each.name}@{each.version}", head["kind"], f"{head['size_bytes']:,} bytes", head["digest"], head.get("label"))
        stdout.rows("  ".join(sinks.line(cell) for cell in cells if cell))
        if stdout.reader_left():
            break
    return damaged.code


@click.command()
@click.argument("reference", metavar="NAME[@VERSION|:ALIAS]")
@click.option("--field", metavar="FIELD", shell_complete=_fields, help="Print one value, for $(...): image, zip, digest, ...")
@click.option(
    "--format", "format_", type=click.Choice(["json", "terraform", "cloudformation"]), help="Print what these programs take."
)
@click.option("--presign", "presign_s", type=click.IntRange(min=1), metavar="SECONDS", help="Print a URL of its zip, for so long.")
@wait_option
@registry_option
@as_json
def show(  # noqa: PLR0913 - click hands every option over by itself
    reference: str, field: str | None, format_: str | None, presign_s: int | None, wait_s: float, registry: str, as_json: bool
) -> None:
    """Show one release: the newest of NAME, NAME@VERSION, or where NAME:ALIAS points."""
    from mlpack.registry.releases import forms

    if sum((field is not None, format_ is not None or as_json, presign_s is not None)) > 1:
        raise RecipeError("--field, --format and --presign each print something of their own: give one of them")
    opened = open_registry(registry)
    release = found(opened, reference, wait_s)
    if field is not None:
        return stdout.value(forms.field(opened, release, field))
    if presign_s is not None:
        return stdout.value(forms.presigned(opened, release, presign_s))
    if format_ == "terraform":
        return print_json(forms.deployment(release, opened.place.blobs))
    if format_ == "cloudformation":
        return print_json(forms.parameters(release, opened.place.blobs))
    if format_ == "json" or as_json:
        return print_json(forms.as_json(release))
    return stdout.rows(forms.text(release))


def found(opened: Registry, reference: str, wait_s: float = 0.0) -> Release:
    """The release, as soon as it is there; RecipeError when that takes longer than asked for."""
    from mlpack.registry.rows import rows

    wanted, deadline, pause_s = rows.parse_reference(reference), time.monotonic() + wait_s, 0.2
    while True:
        try:
            return opened.show(wanted)
        except RecipeError:
            if (left := deadline - time.monotonic()) <= 0:
                raise
            time.sleep(min(pause_s, left))
            pause_s = min(pause_s * 2, _WAIT_LONGEST_S)


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
    from mlpack.registry import places
    from mlpack.registry.releases import task_root

    if file is not None and unpacked:
        raise RecipeError("--file and --unpacked exclude each other")
    opened = open_registry(registry)
    release = found(opened, reference, wait_s)
    opened = places.with_images_of(opened, release, _keychain())
    with open_console(quiet) as console:
        if file is not None:
            return stdout.path(_pull_file(opened, release, file, out, console))
        folder = out or Path(f"{release.name}-{release.version}")
        # What the store of a whole release holds: its packages; the evidence is small beside them.
        size = sum(one["compressed_bytes"] or 0 for one in release.packages.values())
        with console.progress(f"pull {release.name}@{release.version}", size or release.artifact["size_bytes"]) as moved:
            if unpacked:
                task_root.pull(opened, release, folder, moved)
            else:
                opened.pull(release, folder, moved)
    return stdout.path(folder)


def _pull_file(opened: Registry, release: Release, file: str, out: Path | None, console: Console) -> Path:
    from mlpack.registry.releases import forms, releases

    path = {"zip": releases.function_zip, "layer": forms.layer_zip}.get(file, lambda _: file)(release)
    if path is None:
        raise RecipeError(f"{release.name}@{release.version} is an {release.artifact['kind']}, which has no {file}")
    target = out or Path(Path(path).name)
    if stdout.printable(target) is None:
        raise RecipeError(f"{target}: this name cannot be printed as one line; say with --out what the file is to be called")
    if target.is_dir():
        raise RecipeError(f"{target}: a directory; say with --out what the file is to be called")
    named = release.files.get(path)
    with console.progress(f"pull {path}", (opened.place.blobs.size(named) if named else None) or 1) as moved:
        opened.fetch(release, path, target, moved)
    return target


VERBS: tuple[click.Command, ...] = (publish, list_, show, pull)
