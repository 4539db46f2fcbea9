"""The command line: its groups, the commands of builds and images, and the one handler of errors.

Results go to stdout (one reference a line, or `--json`), everything else to stderr. Commands parse, call the library and print.
They know no other room. The library is loaded when a command runs, because `mlpack --help` loads nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click

import mlpack
from mlpack import __distribution__, __version__
from mlpack.cli import aliases, builds, care, deploy, releases, rollouts, running, stdout
from mlpack.cli import store as cli_store
from mlpack.core import interrupts
from mlpack.core.text import sinks, words
from mlpack.errors import MEANINGS, ExitCode, MlpackError, refusal

_CODES = "\n".join(f"  {code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())
_Arch = Literal["x86_64", "arm64"]
as_json, quiet_option = releases.as_json, releases.quiet_option
arch_option = click.option(
    "--arch", type=click.Choice(["x86_64", "arm64"]), help="Which of several. [default: the only one, else x86_64]"
)
one_arch_option = click.option(
    "--arch", type=click.Choice(["x86_64", "arm64"]), help="Which of several. [default: there must be only one]"
)


class _Verbs(click.Group):
    """The verbs of the command line."""

    def invoke(self, context: click.Context) -> Any:
        """Invoke as click does, except for a broken pipe, for which click would exit with 1 and no message.

        Only click's own help can break stdout's pipe, since `stdout` handles it. Any other one belongs to a program that mlpack
        spoke with.
        """
        try:
            return super().invoke(context)
        except BrokenPipeError as error:
            if {"-h", "--help"} & set(sys.argv):
                return ExitCode.OK
            raise MlpackError("a program that mlpack spoke with went away in the middle (broken pipe): try again") from error


@click.group(
    cls=_Verbs,
    epilog=f"\b\nExit codes:\n{_CODES}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="mlpack")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
@click.pass_context
def cli(context: click.Context, quiet: bool) -> None:
    """Take a model from weights to the smallest, fastest package that fits the team's budgets, and prove it."""
    from mlpack.cli.console import route_warnings
    from mlpack.core.environment import Environment

    route_warnings()
    context.obj = quiet
    Environment()  # every command reports an invalid variable


@cli.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
def init(model: Path) -> None:
    """Write a recipe to stdout by looking at MODEL (a Hugging Face directory, an .onnx or .safetensors file, a model of
    XGBoost or LightGBM)."""
    stdout.document(mlpack.suggest_recipe(model))


@cli.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--only", metavar="GLOB", help="Only candidates whose id matches, as in 'int8@*'.")
@click.option("--explain", is_flag=True, help="For each step that must run, the fields of its action that changed.")
@as_json
def plan(recipe: Path, only: str | None, explain: bool, as_json: bool) -> None:
    """Print the candidates of RECIPE, and which of their steps are cached or must run. Loads no framework."""
    forecast = mlpack.plan(recipe, only=only)
    if as_json:
        return releases.print_json(forecast.to_json())
    for row in forecast.candidates:
        stdout.row(f"{row.id}  {row.summary}")
        for step in row.steps if explain else ():
            stdout.rows(f"    {sinks.line(step.name)}: {'cached' if step.cached else 'must run'}")
            for why in step.why:
                stdout.rows(f"        {sinks.line(why)}")
        for text in filter(None, (row.why, row.search)):
            stdout.rows(f"    {sinks.line(text)}")
    stages = () if forecast.stages is None else (forecast.stages,)
    for text in (*forecast.calibration, *stages, *forecast.plugins, *forecast.requirements):
        stdout.row(text)
    return None


@cli.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", type=releases.NewPath(path_type=Path), help="Where the result goes. [default: out/<name>]")
@click.option("--only", metavar="GLOB", help="Only candidates whose id matches, as in 'int8@*'.")
@click.option(
    "--base", metavar="REF", help="Replace the image targets' base: registry reference, OCI layout, archive or directory."
)
@click.option(
    "--keep", type=click.Choice(["chosen", "all"]), default="chosen", show_default=True, help="Whose packages to leave in --out."
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of the images. May be given again.")
@click.option("--created", metavar="TIME", help="When the images were created: ISO 8601, or seconds since 1970. [default: 1970]")
@click.option("--publish", "registry", metavar="REGISTRY", help="Publish the result to this registry when it fits the budgets.")
@click.option("--effort", type=click.Choice(["full", "quick"]), default="full", help="quick: few timings, no p99. [default: full]")
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
    keep: Literal["chosen", "all"],
    labels: tuple[str, ...],
    created: str | None,
    registry: str | None,
    effort: Literal["full", "quick"],
    verify: bool,
    as_json: bool,
) -> int:
    """Make, pack and measure every candidate of RECIPE; boot the best within its budgets and leave it in --out."""
    options = mlpack.BuildOptions(
        only=only,
        keep=keep,
        effort=effort,
        base=base,
        labels=mlpack.images.parse_labels(labels, created),
        created=created,
        verify=verify,
    )
    with releases.open_console(quiet) as console:
        with mlpack.Workspace(progress=console) as workspace:
            if registry is not None:
                mlpack.open_registry(registry)  # rejects an invalid name before the build
            result = workspace.build(recipe, out=out, options=options)
            console.show(result)
        if as_json:
            releases.print_json(result.record.to_json())
        if result.artifact is None:
            return ExitCode.OVER_BUDGET
        if registry is not None:
            client = mlpack.open_registry(registry, progress=console)
            publication = client.publish(result.out, sources=recipe.absolute().parent)
            release = f"{publication.name}@{publication.version}"
            # With --json, stdout is one JSON document.
            console.note(f"published {release}") if as_json else stdout.row(release)
        elif not as_json:
            stdout.path(result.artifact)
    return ExitCode.OK


@cli.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=releases.NewPath(path_type=Path), help="Keep what the step makes here. [default: it is removed]")
def step(folder: Path, out: Path | None) -> None:
    """Run again the failed step that a build left in FOLDER (repro/...), which fails as it did."""
    stdout.rows(mlpack.rerun_step(folder, out=out))


for _verb in (
    *running.VERBS,
    *builds.VERBS,
    *releases.VERBS,
    *aliases.VERBS,
    *care.VERBS,
    care.registry_group,
    *cli_store.VERBS,
    deploy.deploy_group,
    *rollouts.VERBS,
):
    cli.add_command(_verb)
care.registry_group.add_command(aliases.policy)


@cli.group()
def image() -> None:
    """OCI images: push, pull, inspect and validate, without a daemon."""


@image.command("push")
@click.argument("layout", metavar="LAYOUT[:TAG|@DIGEST]")
@click.argument("reference")
@one_arch_option
@quiet_option
@click.pass_obj
def image_push(quiet: bool, layout: str, reference: str, arch: _Arch | None) -> None:
    """Push one image of the OCI layout or archive LAYOUT to REFERENCE (host/name:tag), without attestations. Prints
    host/name@digest."""
    with releases.open_console(quiet) as console:
        stdout.value(mlpack.images.push(layout, reference, arch=arch, progress=console))


@image.command("pull")
@click.argument("reference")
@click.argument("layout", type=click.Path(path_type=Path))
@arch_option
@quiet_option
@click.pass_obj
def image_pull(quiet: bool, reference: str, layout: Path, arch: _Arch | None) -> None:
    """Pull REFERENCE into the OCI layout directory LAYOUT, every byte verified. Prints the digest."""
    with releases.open_console(quiet) as console:
        stdout.value(mlpack.images.pull(reference, layout, arch=arch, progress=console))


@image.command("inspect")
@click.argument("reference")
@arch_option
def image_inspect(reference: str, arch: _Arch | None) -> None:
    """Describe an image: LAYOUT[:TAG|@DIGEST], an archive, or a registry reference. JSON on stdout."""
    releases.print_json(mlpack.images.inspect(reference, arch=arch))


@image.command("validate")
@click.argument("layout", metavar="LAYOUT[:TAG|@DIGEST]")
@one_arch_option
@click.option("--lambda", "for_lambda", is_flag=True, help="Also check what AWS Lambda demands of an image.")
def image_validate(layout: str, arch: _Arch | None, for_lambda: bool) -> int:
    """Derive every digest and size of LAYOUT anew and print each one that is wrong. Exit 3 when there is one."""
    problems = mlpack.images.validate(layout, arch=arch, for_lambda=for_lambda)
    for problem in problems:
        stdout.row(problem)
    return ExitCode.STEP_FAILED if problems else ExitCode.OK


def main() -> None:
    """The console script: run the command line and exit with its code."""
    interrupts.listen()
    whole = sys.stdout
    try:
        code = cli.main(standalone_mode=False)
    except SystemExit as left:
        # click replaces stdout when the reader of its help has left. That is no failure.
        code = left.code if sys.stdout is whole else ExitCode.OK
    except click.exceptions.Exit as left:
        code = left.exit_code
    except click.ClickException as error:
        code = _usage_error(error)
    except (KeyboardInterrupt, click.exceptions.Abort):
        code = _interrupted()
    except MlpackError as error:
        code = _interrupted() if interrupts.pending() else _complain(error)
    except (OSError, MemoryError) as error:
        code = _out_of_resources(error)
    except Exception as error:  # noqa: BLE001 - the one handler: any other exception is a bug
        code = _interrupted() if interrupts.pending() else _bug(error)
    stdout.end(whole)
    sys.exit(int(code or 0))


def _usage_error(error: click.ClickException) -> int:
    """Print click's message about the command line, which quotes it unescaped."""
    import io

    from mlpack.cli.console import say

    output = io.StringIO()
    error.show(output)
    usage, mark, message = output.getvalue().partition("\nError: ")  # usage is ours, the message quotes
    say(f"{usage}{mark}{sinks.line(message)}" if mark else sinks.line(usage))
    return ExitCode.RECIPE


def _interrupted() -> int:
    from mlpack.cli.console import tell

    tell("interrupted; nothing half-made was kept")
    return ExitCode.INTERRUPTED


def _out_of_resources(error: OSError | MemoryError) -> int:
    from mlpack.cli.console import tell

    if (message := refusal(error)) is None:
        return _bug(error)
    tell(message)
    return ExitCode.STEP_FAILED


def _complain(error: MlpackError) -> int:
    from mlpack.cli.console import complain

    complain(error)
    return error.exit_code


def _bug(error: Exception) -> int:
    """Write a log that can be pasted into an issue, and print its path."""
    import platform
    import tempfile
    import traceback

    from mlpack.cli.console import say
    from mlpack.core.distribution import version_of

    others = (f"{name} {version_of(name)}" for name in ("torch", "onnx", "onnxruntime", "numpy", "click"))
    versions = "\n".join((f"{__distribution__} {__version__}", *others))
    here = f"python {platform.python_version()} on {platform.platform()}"
    body = "\n\n".join((here, versions, " ".join(sys.argv), traceback.format_exc()))
    with tempfile.NamedTemporaryFile("w", prefix="mlpack-bug-", suffix=".log", delete=False, encoding="utf-8") as log:
        log.write(words.clean(body))
    for note in getattr(error, "__notes__", ()):
        say(sinks.lines(note))
    say(f"{sinks.told(f'a bug: {type(error).__name__}: {error}')}\nThe log for an issue: {log.name}")
    return ExitCode.BUG
