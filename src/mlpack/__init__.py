"""From weights to the smallest, fastest package that fits the team's budgets, measured on the bytes that will ship.

This is the library. Its names are loaded at first use, so that importing it is quick:

    import mlpack

    result = mlpack.build("recipe.yaml")
    print(result.chosen, result.artifact)

What can go wrong is an exception of `mlpack.errors`. Nothing is printed; `progress` takes a `Progress` to be told.
"""

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
"""The one source of the version: the distribution's metadata are made from it."""

__distribution__ = "mlpack-build"
"""What mlpack is called where people install it: on the Python package index `mlpack` is another project. Every message that says
what to install is made from this (`distribution.install`), and the command knows by it whose package it found (`mlpack_build`)."""

# onnxruntime 1.31 on Linux keeps a usage database below ~/.cache/Microsoft and can upload it. A build reports to nobody, so it is
# switched off before anything can import the engine; whoever wants it can still set the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # noqa: TID251 - sets, does not read

if TYPE_CHECKING:
    from mlpack import errors
    from mlpack.core.progress import Progress
    from mlpack.deploy.check.records import DeploymentReport
    from mlpack.deploy.library import WrittenDeployment, check_deployment, plan_deployment, simulate_deployment, write_deployment
    from mlpack.deploy.planning import DeploymentPlan, RolloutStep
    from mlpack.deploy.rollouts.library import (
        RolloutOptions,
        RolloutStatus,
        abort_rollout,
        answer_rollout,
        rollout_status,
        start_rollout,
    )
    from mlpack.deploy.simulate.simulating import SimulationResult
    from mlpack.pipeline.library import images
    from mlpack.pipeline.library.builds import build, diff, explain, plan, rerun_step, run, run_batch, suggest_recipe
    from mlpack.pipeline.library.extensions import PluginRow, plugins, recipe_schema
    from mlpack.pipeline.library.results import BatchOptions, BatchResult, DiffResult, PlanResult, PruneResult, RunResult
    from mlpack.pipeline.library.workspace import BuildOptions, Workspace
    from mlpack.pipeline.outcome import BuildResult, Startup, Summary, SummaryRow
    from mlpack.pipeline.outlook import PlannedCandidate
    from mlpack.pipeline.transform import PlannedStep
    from mlpack.registry.aliases.aliases import MoveResult
    from mlpack.registry.aliases.policies import Policy
    from mlpack.registry.audit import AuditEntry
    from mlpack.registry.infrastructure.blueprint import RegistryOptions
    from mlpack.registry.library.forms import RELEASE_FIELDS, describe_release, registry_json, why_reserved
    from mlpack.registry.library.policies import Policies
    from mlpack.registry.library.registry import Registry, open_registry
    from mlpack.registry.library.setup import create_registry, registry_template
    from mlpack.registry.library.upkeep import Upkeep
    from mlpack.registry.moving.transfer import ImportResult
    from mlpack.registry.records import Release, ReleaseHead, ReleasePackage
    from mlpack.registry.releases.releases import ReleaseSummary
    from mlpack.registry.rows.rows import Move
    from mlpack.registry.upkeep.care import VerificationReport
    from mlpack.registry.upkeep.collection import CollectionPlan, RetentionPolicy
    from mlpack.report.diff import MeasureChange
    from mlpack.report.explain import Explanation
    from mlpack.report.record import BuildRecord
    from mlpack.store.care import StoreStatus

__all__ = [
    "RELEASE_FIELDS",
    "AuditEntry",
    "BatchOptions",
    "BatchResult",
    "BuildOptions",
    "BuildRecord",
    "BuildResult",
    "CollectionPlan",
    "DeploymentPlan",
    "DeploymentReport",
    "DiffResult",
    "Explanation",
    "ImportResult",
    "MeasureChange",
    "Move",
    "MoveResult",
    "PlanResult",
    "PlannedCandidate",
    "PlannedStep",
    "PluginRow",
    "Policies",
    "Policy",
    "Progress",
    "PruneResult",
    "Registry",
    "RegistryOptions",
    "Release",
    "ReleaseHead",
    "ReleasePackage",
    "ReleaseSummary",
    "RetentionPolicy",
    "RolloutOptions",
    "RolloutStatus",
    "RolloutStep",
    "RunResult",
    "SimulationResult",
    "Startup",
    "StoreStatus",
    "Summary",
    "SummaryRow",
    "Upkeep",
    "VerificationReport",
    "Workspace",
    "WrittenDeployment",
    "__version__",
    "abort_rollout",
    "answer_rollout",
    "build",
    "check_deployment",
    "create_registry",
    "describe_release",
    "diff",
    "errors",
    "explain",
    "images",
    "open_registry",
    "plan",
    "plan_deployment",
    "plugins",
    "recipe_schema",
    "registry_json",
    "registry_template",
    "rerun_step",
    "rollout_status",
    "run",
    "run_batch",
    "simulate_deployment",
    "start_rollout",
    "suggest_recipe",
    "why_reserved",
    "write_deployment",
]

_HOMES = {
    "mlpack.deploy.check.records": ("DeploymentReport",),
    "mlpack.deploy.library": (
        "WrittenDeployment",
        "check_deployment",
        "plan_deployment",
        "simulate_deployment",
        "write_deployment",
    ),
    "mlpack.deploy.simulate.simulating": ("SimulationResult",),
    "mlpack.deploy.planning": ("DeploymentPlan", "RolloutStep"),
    "mlpack.deploy.rollouts.library": (
        *("RolloutOptions", "RolloutStatus"),
        *("abort_rollout", "answer_rollout", "rollout_status", "start_rollout"),
    ),
    "mlpack.pipeline.library.builds": ("build", "diff", "explain", "plan", "rerun_step", "run", "run_batch", "suggest_recipe"),
    "mlpack.pipeline.library.extensions": ("PluginRow", "plugins", "recipe_schema"),
    "mlpack.pipeline.library.results": ("BatchOptions", "BatchResult", "DiffResult", "PlanResult", "PruneResult", "RunResult"),
    "mlpack.pipeline.library.workspace": ("BuildOptions", "Workspace"),
    "mlpack.core.progress": ("Progress",),
    "mlpack.pipeline.outcome": ("BuildResult", "Startup", "Summary", "SummaryRow"),
    "mlpack.pipeline.outlook": ("PlannedCandidate",),
    "mlpack.pipeline.transform": ("PlannedStep",),
    "mlpack.registry.audit": ("AuditEntry",),
    "mlpack.registry.moving.transfer": ("ImportResult",),
    "mlpack.registry.releases.releases": ("ReleaseSummary",),
    "mlpack.registry.upkeep.care": ("VerificationReport",),
    "mlpack.report.diff": ("MeasureChange",),
    "mlpack.store.care": ("StoreStatus",),
    "mlpack.report.explain": ("Explanation",),
    "mlpack.report.record": ("BuildRecord",),
    "mlpack.registry.aliases.aliases": ("MoveResult",),
    "mlpack.registry.aliases.policies": ("Policy",),
    "mlpack.registry.infrastructure.blueprint": ("RegistryOptions",),
    "mlpack.registry.library.forms": ("RELEASE_FIELDS", "describe_release", "registry_json", "why_reserved"),
    "mlpack.registry.library.policies": ("Policies",),
    "mlpack.registry.library.registry": ("Registry", "open_registry"),
    "mlpack.registry.library.setup": ("create_registry", "registry_template"),
    "mlpack.registry.library.upkeep": ("Upkeep",),
    "mlpack.registry.records": ("Release", "ReleaseHead", "ReleasePackage"),
    "mlpack.registry.rows.rows": ("Move",),
    "mlpack.registry.upkeep.collection": ("CollectionPlan", "RetentionPolicy"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
"""Where each public name lies: it is loaded from there when it is used first. Type checkers see the same above."""
_MODULES = {"errors": "mlpack.errors", "images": "mlpack.pipeline.library.images"}

if not TYPE_CHECKING:  # what it loads is named above, so that a checker knows the types, and that there are no other names

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name in _MODULES:
            value = import_module(_MODULES[name])
        elif name in _HOME_OF:
            value = getattr(import_module(_HOME_OF[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
