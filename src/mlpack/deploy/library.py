"""The library's functions for deployments: plan, write and simulate.

Promises: nothing is printed, nothing is asked of AWS; each function does what the command of its name does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core.environment import AnyPath, Environment
from mlpack.core.progress import Progress, Silent
from mlpack.errors import LimitError

if TYPE_CHECKING:
    from mlpack.deploy.check.records import DeploymentReport
    from mlpack.deploy.planning import DeploymentPlan
    from mlpack.deploy.simulate.simulating import SimulationResult
    from mlpack.deploy.sources import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenDeployment:
    """A deployment's directory.

    Attributes:
        out: The directory.
        files: Every file of mlpack's in it, by its path.
        changed: Those that are new or have other bytes than before.
        plan: What the files are of.
    """

    out: Path
    files: tuple[str, ...]
    changed: tuple[str, ...]
    plan: DeploymentPlan

    def to_json(self) -> dict[str, Any]:
        """The attributes as JSON values."""
        return {
            "out": str(self.out),
            "files": list(self.files),
            "changed": list(self.changed),
            "plan": self.plan.to_json(),
        }


def plan_deployment(
    source: AnyPath,
    *,
    recipe: AnyPath | None = None,
    registry: AnyPath | None = None,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
) -> DeploymentPlan:
    """Say what a deployment would be: what will exist, what it costs, which limits hold, how long a rollout takes.

    Args:
        source: A build's directory, or a release: `NAME`, `NAME@VERSION` or `NAME:ALIAS`.
        recipe: The file whose `deploy` and `tags` count. None is what the build recorded of its recipe.
        registry: Where releases are. None is the command's: `MLPACK_REGISTRY`, else `.mlpack/registry`.
        progress: Receives notes about progress. None prints nothing.
        environ: The environment variables that `docs/interface.md` lists. None is the process's own environment.

    Returns:
        The plan. `fits` is False where a limit does not hold, or the bill is over the recipe's budget; `over` says why.

    Raises:
        RecipeError: There is no such source; the section is missing or wrong, or asks for what the package cannot do.
        ServiceError: The registry could not be reached.
    """
    from mlpack.deploy import planning, sources

    with sources.opened(_source(source, recipe, registry, progress, environ)) as service:
        return planning.plan(service)


def write_deployment(
    source: AnyPath,
    out: AnyPath,
    *,
    recipe: AnyPath | None = None,
    registry: AnyPath | None = None,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
) -> WrittenDeployment:
    """Write a deployment's directory. The same inputs give the same bytes; `overrides.yaml` in it is never overwritten.

    Args:
        source: As of `plan_deployment`.
        out: The directory: a new one, or one that an earlier call wrote.
        recipe: As of `plan_deployment`.
        registry: As of `plan_deployment`.
        progress: As of `plan_deployment`.
        environ: As of `plan_deployment`.

    Returns:
        The files, and the plan that they are of.

    Raises:
        RecipeError: As of `plan_deployment`; or `out` has other files, or files of mlpack's that somebody changed.
        LimitError: A limit does not hold, or the bill is over the budget. Nothing is written.
        ServiceError: The registry could not be reached.
    """
    from mlpack.deploy import planning, sources
    from mlpack.deploy import write as writing
    from mlpack.deploy.design import design

    with sources.opened(_source(source, recipe, registry, progress, environ)) as service:
        graph = design(service)
        plan = planning.plan(service, graph)
        if not plan.fits:
            raise LimitError("\n".join((f"{plan.stack} does not fit, and nothing is written:", *plan.over)))
        made = writing.files(service, graph, plan, writing.own_part(Path(out)))
    changed = writing.write(made, Path(out))
    return WrittenDeployment(out=Path(out), files=tuple(made), changed=changed, plan=plan)


def check_deployment(directory: AnyPath, *, tools: bool = True, environ: Mapping[str, str] | None = None) -> DeploymentReport:
    """Run every proof over a deployment's directory that can run on this machine. Nothing is applied, nothing leaves the machine.

    Args:
        directory: What `write_deployment` wrote.
        tools: Whether Terraform, CDK and checkov are asked too, where they are installed.
        environ: The variables that these tools see. None is the process's own environment.

    Returns:
        Each proof with its findings. `ok` is False where one failed; one that could not run says why, and is no failure.

    Raises:
        RecipeError: The directory is none that `write_deployment` wrote.
    """
    from mlpack.deploy.check import check

    return check(Path(directory), Environment(environ).variables, tools=tools)


def simulate_deployment(directory: AnyPath, scenario: AnyPath, *, seed: int = 0, runs: int | None = None) -> SimulationResult:
    """Try a scenario with a deployment's numbers on a virtual clock: a rollout with the very controller that ships, a worker pool,
    or callers at the peak.

    Args:
        directory: What `write_deployment` wrote.
        scenario: A file of YAML, or the name of a scenario that comes with mlpack, such as `bad-release`.
        seed: Of the first run; each run has the next one. The same seed gives the same result.
        runs: How many. None is as many as the scenario says.

    Returns:
        What happened in the runs. `met` is whether nearly all of them ended as the scenario expects; None where it expects nothing.

    Raises:
        RecipeError: The directory has no deployment, the scenario is wrong, or the two do not go together.
    """
    from mlpack.deploy.simulate.simulating import simulate

    return simulate(Path(directory), str(scenario), seed=seed, runs=runs)


def _source(
    source: AnyPath,
    recipe: AnyPath | None,
    registry: AnyPath | None,
    progress: Progress | None,
    environ: Mapping[str, str] | None,
) -> Source:
    from mlpack.deploy.sources import Source

    return Source(
        name=str(source),
        recipe=None if recipe is None else Path(recipe),
        registry=None if registry is None else str(registry),
        environ=environ,
        progress=progress or Silent(),
    )
