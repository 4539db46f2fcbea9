"""Commands that plan, write and simulate deployments. They need neither credentials nor a network."""

from __future__ import annotations

from pathlib import Path

import click

import mlpack
from mlpack.cli import stdout
from mlpack.cli.releases import NewPath, as_json, open_console, print_json, quiet_option, registry_option
from mlpack.errors import ExitCode

recipe_option = click.option(
    "--recipe", type=click.Path(path_type=Path), help="The recipe whose `deploy` and `tags` count. [default: as the build recorded]"
)


@click.group("deploy")
def deploy_group() -> None:
    """From a release or a build to the files of its deployment on AWS, its cost and its proofs; nothing here talks to AWS."""


@deploy_group.command("plan")
@click.argument("source", metavar="DIR|RELEASE")
@recipe_option
@registry_option
@as_json
@quiet_option
@click.pass_obj
def plan(quiet: bool, source: str, recipe: Path | None, registry: str, as_json: bool) -> int:
    """Say what a deployment of DIR (a build) or RELEASE (NAME, NAME@8, NAME:prod) would be: what will exist, its cost, its limits
    with their margins, how long a rollout takes. Exit 5 when a limit does not hold or the cost is over the recipe's budget."""
    with open_console(quiet) as console:
        result = mlpack.plan_deployment(source, recipe=recipe, registry=registry, progress=console)
    print_json(result.to_json()) if as_json else stdout.rows(result.text())
    return ExitCode.OK if result.fits else ExitCode.OVER_BUDGET


@deploy_group.command("write")
@click.argument("source", metavar="DIR|RELEASE")
@click.option("-o", "--out", required=True, type=NewPath(path_type=Path), help="The directory of the deployment's files.")
@recipe_option
@registry_option
@as_json
@quiet_option
@click.pass_obj
def write(quiet: bool, source: str, out: Path, recipe: Path | None, registry: str, as_json: bool) -> None:
    """Write the files of a deployment: CloudFormation, Terraform, state machines, policies, parameters, dashboard, PLAN.md. Same
    inputs, same bytes; overrides.yaml there is yours. Prints the directory."""
    with open_console(quiet) as console:
        result = mlpack.write_deployment(source, out, recipe=recipe, registry=registry, progress=console)
        console.note(f"{len(result.changed)} of {len(result.files)} files are new; {result.plan.stack}: see {out / 'PLAN.md'}")
    print_json(result.to_json()) if as_json else stdout.path(result.out)


@deploy_group.command("check")
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--no-tools", is_flag=True, help="Ask neither Terraform nor CDK nor checkov, though they are installed.")
@as_json
def check(directory: Path, no_tools: bool, as_json: bool) -> int:
    """Run every proof over DIR that can run on this machine: digests, mlpack's own rules, linters, tools that are installed. Says
    which could not run, and why. Exit 5 when one fails."""
    report = mlpack.check_deployment(directory, tools=not no_tools)
    print_json(report.to_json()) if as_json else stdout.rows(report.text())
    return ExitCode.OK if report.ok else ExitCode.OVER_BUDGET


@deploy_group.command("simulate")
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--scenario", required=True, metavar="FILE.yaml|NAME", help="A file, or a scenario of mlpack's, such as bad-release.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Of the first run; the next has the next."
)
@click.option("--runs", type=click.IntRange(1, 10_000), help="How many runs. [default: as the scenario says]")
@as_json
def simulate(directory: Path, scenario: str, seed: int, runs: int | None, as_json: bool) -> int:
    """Try a scenario with the deployment in DIR on a virtual clock: a rollout by the very controller that ships, a worker pool,
    or callers at the peak. Exit 5 when it does not end as the scenario expects."""
    result = mlpack.simulate_deployment(directory, scenario, seed=seed, runs=runs)
    print_json(result.to_json()) if as_json else stdout.rows(result.text())
    return ExitCode.OVER_BUDGET if result.met is False else ExitCode.OK
