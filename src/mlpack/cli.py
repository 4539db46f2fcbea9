"""Words in, exit codes out.

Results on stdout (one reference a line, or `--json`), everything else on stderr. The one place that reads the environment (beside
`console`) and the one handler of errors. Commands parse, call one verb and print; they import it when they run, because
`mlpack --help` loads nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlpack import __version__, bounded, cli_aliases, cli_care, cli_registry, interrupts
from mlpack.errors import MEANINGS, ExitCode, MlpackError, RecipeError, refusal

if TYPE_CHECKING:
    from mlpack.console import Console
    from mlpack.shared_cache import SharedCache
    from mlpack.store import Store

_CODES = "\n".join(f"  {code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())
as_json, quiet_option = cli_registry.as_json, cli_registry.quiet_option
arch_option = click.option("--arch", type=click.Choice(["x86_64", "arm64"]), default="x86_64", show_default=True)


@click.group(
    epilog=f"\b\nExit codes:\n{_CODES}", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="mlpack")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
@click.pass_context
def cli(context: click.Context, quiet: bool) -> None:
    """Take a model from weights to the smallest, fastest package that fits the team's budgets, and prove it."""
    context.obj = quiet
    bounded.configure(os.environ)
    cli_registry.look_outside(context, cli_registry.Outside(environ=os.environ, credentials=_credentials))


@cli.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
def init(model: Path) -> None:
    """Write a recipe to stdout by looking at MODEL (a Hugging Face directory, .onnx or .safetensors file)."""
    from mlpack import init as init_

    click.echo(init_.suggest(model), nl=False)


@cli.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--only", metavar="GLOB", help="Only candidates whose id matches, as in 'int8@*'.")
@click.option("--explain", is_flag=True, help="For each step that must run, the fields of its action that changed.")
@as_json
def plan(recipe: Path, only: str | None, explain: bool, as_json: bool) -> None:
    """Print the candidates of RECIPE, what is cached, and why what is not must run. Loads no framework."""
    from mlpack import pipeline

    rows = pipeline.foresee(recipe, _store(), (Path.cwd(),), only)
    if as_json:
        return cli_registry.print_json({"candidates": [row.as_json() for row in rows]})
    for row in rows:
        click.echo(f"{row.id}  {row.summary}")
        for step in row.steps if explain else ():
            click.echo(f"    {step.name}: {'cached' if step.cached else 'must run'}")
            for why in step.why:
                click.echo(f"        {why}")
    return None


@cli.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where the result goes. [default: out/<name>]")
@click.option("--only", metavar="GLOB", help="Only candidates whose id matches, as in 'int8@*'.")
@click.option(
    "--base", metavar="REF", help="Replace the image targets' base: registry reference, OCI layout, archive or directory."
)
@click.option(
    "--keep", type=click.Choice(["chosen", "all"]), default="chosen", show_default=True, help="Whose packages to leave in --out."
)
@click.option("--publish", "registry", metavar="REGISTRY", help="Publish the result to this registry when it fits the budgets.")
@click.option("--verify", is_flag=True, help="Run every step again and compare with what was made before.")
@as_json
@quiet_option
@click.pass_obj
def build(  # noqa: PLR0913 - click hands every option over by itself
    quiet: bool,
    recipe: Path,
    out: Path | None,
    only: str | None,
    base: str | None,
    keep: str,
    registry: str | None,
    verify: bool,
    as_json: bool,
) -> int:
    """Make, measure, judge, pack and boot every candidate of RECIPE; leave the best that fits its budgets in --out."""
    from mlpack import pipeline

    if registry is not None:
        cli_registry.open_registry(registry)  # a name that is none is said before the work
    with cli_registry.open_console(quiet) as console:
        options = pipeline.Options(out=out, only=only, base=base, keep_all=keep == "all", tools=_tools(), credentials=_credentials)
        shared = _shared_cache(console)
        record, folder = pipeline.build(recipe, _store(verify=verify, tier=shared), (Path.cwd(),), options, console)
        if shared is not None:
            shared.tell()
        if as_json:
            cli_registry.print_json(record)
        if record["chosen"] is None:
            return ExitCode.OVER_BUDGET
        if registry is not None:
            made = cli_registry.published(folder, cli_registry.open_whole(registry), console, sources=recipe.absolute().parent)
            release = f"{made.name}@{made.version}"
            # With --json, stdout is one JSON document.
            console.note(f"published {release}") if as_json else click.echo(release)
        elif not as_json:
            click.echo(str(folder / record["artifact"]["path"]))
    return ExitCode.OK


@cli.command()
@click.argument("package", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--event", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The request. [default: the package's own sample]"
)
@click.option(
    "--memory", "memory_mb", type=click.IntRange(128, 10240), help="Memory of the function, MB. [default: the package's own]"
)
@click.option(
    "--timeout", "timeout_s", type=click.IntRange(1, 900), default=60, show_default=True, help="Seconds to wait for an answer."
)
@as_json
@quiet_option
@click.pass_obj
def run(quiet: bool, package: Path, event: Path | None, memory_mb: int | None, timeout_s: int, as_json: bool) -> None:
    """Boot PACKAGE here and call it, as its target would. PACKAGE is what a build left: its directory, or one artifact's."""
    from mlpack import pipeline

    with cli_registry.open_console(quiet) as console:
        booted = pipeline.run_package(package, event, _tools(), memory_mb=memory_mb, timeout_s=timeout_s)
        console.note(f"booted {booted.how}; initialised in {booted.init_ms:.0f} ms")
        cli_registry.print_json(booted.answer if as_json else pipeline.shown(booted.answer))


@cli.command()
@click.argument("before", type=click.Path(exists=True, path_type=Path))
@click.argument("after", type=click.Path(exists=True, path_type=Path))
@as_json
def diff(before: Path, after: Path, as_json: bool) -> None:
    """Compare two builds (directories or build.json files): size, speed and accuracy, with noise bands."""
    from mlpack import diff as diff_

    rows = diff_.compare(diff_.read(before), diff_.read(after))
    if as_json:
        return cli_registry.print_json(diff_.as_json(rows))
    return click.echo(diff_.text(rows))


for _verb in (*cli_registry.VERBS, *cli_aliases.VERBS, *cli_care.VERBS, cli_care.registry_):
    cli.add_command(_verb)
cli_care.registry_.add_command(cli_aliases.policy)


@cli.group()
def image() -> None:
    """OCI images: push, pull, inspect and validate, without a daemon."""


@image.command("push")
@click.argument("layout", type=click.Path(exists=True, path_type=Path))
@click.argument("reference")
@quiet_option
@click.pass_obj
def image_push(quiet: bool, layout: Path, reference: str) -> None:
    """Push the OCI layout or archive LAYOUT to REFERENCE (host/name:tag). Prints host/name@digest."""
    from mlpack import images

    with cli_registry.open_console(quiet) as console:
        click.echo(images.push(layout, reference, _credentials, console))


@image.command("pull")
@click.argument("reference")
@click.argument("layout", type=click.Path(path_type=Path))
@arch_option
@quiet_option
@click.pass_obj
def image_pull(quiet: bool, reference: str, layout: Path, arch: str) -> None:
    """Pull REFERENCE into the OCI layout directory LAYOUT, every byte verified. Prints the digest."""
    from mlpack import images

    with cli_registry.open_console(quiet) as console:
        click.echo(images.pull(reference, layout, arch, _credentials, console))


@image.command("inspect")
@click.argument("reference")
@arch_option
def image_inspect(reference: str, arch: str) -> None:
    """Describe an image: a layout, an archive, or a registry reference. JSON on stdout."""
    from mlpack import images

    cli_registry.print_json(images.inspect(reference, arch, _credentials, _cache_dir()))


@image.command("validate")
@click.argument("layout", type=click.Path(exists=True, path_type=Path))
@click.option("--lambda", "for_lambda", is_flag=True, help="Also check what AWS Lambda demands of an image.")
def image_validate(layout: Path, for_lambda: bool) -> int:
    """Derive every digest and size of LAYOUT anew and print each one that is wrong. Exit 3 when there is one."""
    from mlpack import images

    problems = images.validate(layout, for_lambda=for_lambda)
    for problem in problems:
        click.echo(problem)
    return ExitCode.STEP_FAILED if problems else ExitCode.OK


def main() -> None:
    """The console script: run the command line and exit with its code."""
    interrupts.listen()
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as left:
        code = left.exit_code
    except click.ClickException as error:
        error.show()
        code = ExitCode.RECIPE
    except (KeyboardInterrupt, click.exceptions.Abort):
        code = _interrupted()
    except MlpackError as error:
        code = _interrupted() if interrupts.seen() else _complain(error)
    except (OSError, MemoryError) as error:
        code = _refused(error)
    except Exception as error:  # noqa: BLE001 - the one handler: whatever is not an MlpackError is a bug
        code = _interrupted() if interrupts.seen() else _bug(error)
    sys.exit(int(code or 0))


def _interrupted() -> int:
    click.echo("mlpack: interrupted; nothing half-made was kept", err=True)
    return ExitCode.INTERRUPTED


def _refused(error: OSError | MemoryError) -> int:
    if (said := refusal(error)) is None:
        return _bug(error)
    click.echo(f"mlpack: {said}", err=True)
    return ExitCode.STEP_FAILED


def _complain(error: MlpackError) -> int:
    from mlpack.console import annotate

    for line in error.problems if isinstance(error, RecipeError) else (str(error),):
        click.echo(f"mlpack: {line}", err=True)
    annotate(error)
    return error.exit_code


def _bug(error: Exception) -> int:
    """Write a log that can be pasted into an issue, and print its path."""
    import platform
    import tempfile
    import traceback

    from mlpack.transform import version_of

    versions = "\n".join(f"{name} {version_of(name)}" for name in ("mlpack", "torch", "onnx", "onnxruntime", "numpy", "click"))
    here = f"python {platform.python_version()} on {platform.platform()}"
    body = "\n\n".join((here, versions, " ".join(sys.argv), traceback.format_exc()))
    with tempfile.NamedTemporaryFile("w", prefix="mlpack-bug-", suffix=".log", delete=False) as log:
        log.write(body)
    click.echo(f"mlpack: a bug: {type(error).__name__}: {error}\nThe log for an issue: {log.name}", err=True)
    return ExitCode.BUG


def _cache_dir() -> Path:
    from mlpack.store import place

    if store := os.environ.get("MLPACK_STORE"):
        return place(store)
    return place(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mlpack"


def _store(*, verify: bool = False, tier: SharedCache | None = None) -> Store:
    from mlpack.store import Store

    return Store(_cache_dir(), verify=verify, tier=tier)


def _shared_cache(console: Console) -> SharedCache | None:
    """The store's second tier, when MLPACK_CACHE names one."""
    if not os.environ.get("MLPACK_CACHE"):
        return None
    from mlpack import shared_cache

    return shared_cache.configured(os.environ, console)


def _tools() -> Callable[[str], Path | None]:
    """Where programs that boot packages are: the emulator also by MLPACK_RIE."""
    import shutil

    def find(name: str) -> Path | None:
        named = os.environ.get("MLPACK_RIE") if name == "aws-lambda-rie" else None
        found = shutil.which(_program(named) if named else name)
        if named and not found:
            raise RecipeError(f"MLPACK_RIE: {named} is no program that can be run: mend or unset it")
        return Path(found).absolute() if found else None

    return find


def _program(named: str) -> str:
    """A program as the environment names it: a path, or a bare word for PATH."""
    from mlpack.store import place

    return str(place(named)) if "/" in named else named


def _credentials(host: str) -> tuple[str, str] | None:
    """User and password for a registry, from Docker's own configuration file."""
    from mlpack.oci import auth
    from mlpack.store import place

    path = place(os.environ.get("DOCKER_CONFIG") or "~/.docker") / "config.json"
    return auth.from_docker_config(path.read_bytes(), host) if path.is_file() else None


if __name__ == "__main__":
    main()
