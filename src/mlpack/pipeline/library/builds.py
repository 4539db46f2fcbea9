"""The functions for builds: build, plan, run, diff, explain and related ones.

Promises:
- Nothing is printed.
- A failure with a known meaning is an exception of `mlpack.errors`. Any other exception is a bug in mlpack or comes from the system
  (a full disk).
- Each function does what the command of its name does (`docs/interface.md`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.core.environment import AnyPath, Environment
from mlpack.errors import RecipeError
from mlpack.pipeline.library.results import BatchOptions, BatchResult, DiffResult, PlanResult, RunResult
from mlpack.pipeline.library.workspace import BuildOptions, Workspace

if TYPE_CHECKING:
    from mlpack.core.progress import Progress
    from mlpack.pipeline.outcome import BuildResult
    from mlpack.report.explain import Explanation

_MEMORY_MB_MOST = 10_240
"""The most memory of a Lambda function."""


def build(
    recipe: AnyPath,
    *,
    out: AnyPath | None = None,
    options: BuildOptions | None = None,
    store: AnyPath | None = None,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
) -> BuildResult:
    """Make, pack, measure, judge and boot every candidate of a recipe; leave the best that fits its budgets in `out`.

    Args:
        recipe: The recipe's file. Its paths are relative to it; `module:function` is looked up beside it, then in the current
            directory.
        out: Where the result goes: a directory that is replaced whole, and only when it is a build's. None is `out/NAME` in the
            current directory.
        options: How to build, beside what the recipe says.
        store: The directory where every step's result is kept. None is the command's: `MLPACK_STORE`, else `mlpack` in the user's
            cache.
        progress: Receives notes about progress. None prints nothing.
        environ: The environment variables that `docs/interface.md` lists. None is the process's own environment.

    Returns:
        The record of the build, its directory, and how the chosen package booted. `chosen` is None when nothing fits the budgets.

    Raises:
        RecipeError: The recipe, its data or an option is wrong; `problems` has each one with file and line.
        MlpackError: The float model could not be made or measured.
        ServiceError: A container registry or the package index failed.
    """
    with Workspace(store, progress=progress, environ=environ) as workspace:
        return workspace.build(recipe, out=out, options=options)


def plan(
    recipe: AnyPath, *, only: str | None = None, store: AnyPath | None = None, environ: Mapping[str, str] | None = None
) -> PlanResult:
    """Say which candidates a build would make, what of it is cached, and why the rest must run. Loads no framework.

    Args:
        recipe: The recipe's file.
        only: Only candidates whose id matches this pattern, such as `int8@*`.
        store: As of `build`.
        environ: As of `build`.

    Returns:
        The candidates, in the order of the recipe.

    Raises:
        RecipeError: The recipe is wrong, or no candidate matches `only`; `problems` has each one with file and line.
    """
    with Workspace(store, environ=environ) as workspace:
        return workspace.plan(recipe, only=only)


def run(
    package: AnyPath,
    *,
    event: AnyPath | None = None,
    memory_mb: int | None = None,
    timeout_s: float = 60,
    environ: Mapping[str, str] | None = None,
) -> RunResult:
    """Boot a package here and call it once, as its target would.

    Args:
        package: The directory of a build, or of one package.
        event: A JSON file with the request. None is the sample that came with the package.
        memory_mb: The memory that the function's environment states, in MB. None is what the package was built for.
        timeout_s: How long to wait for the answer, in seconds.
        environ: As of `build`; `MLPACK_RIE` names the emulator of Lambda's runtime interface.

    Returns:
        The answer, and how the package booted.

    Raises:
        RecipeError: There is no package, it has no sample and no event was given, or a number is out of range.
        PackError: The package does not start, or does not answer with status 200.
    """
    from mlpack.pipeline import booting

    if not 0 < timeout_s < math.inf:
        raise RecipeError(f"timeout_s: {timeout_s!r} is no number of seconds to wait")
    if memory_mb is not None and not 0 < memory_mb <= _MEMORY_MB_MOST:
        raise RecipeError(f"memory_mb: {memory_mb!r} is not from 1 to {_MEMORY_MB_MOST:,}")
    programs = Environment(environ).program
    path = None if event is None else Path(event)
    boot = booting.run_package(Path(package), path, programs, memory_mb=memory_mb, timeout_s=timeout_s)
    body = booting.body_of(boot.answer)
    return RunResult(answer=boot.answer, body=body, status=boot.status, init_ms=boot.init_ms, how=boot.how, log=boot.log)


def run_batch(
    package: AnyPath,
    manifest: AnyPath,
    *,
    options: BatchOptions | None = None,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
) -> BatchResult:
    """Let a package answer a manifest of many requests here, each of them once.

    Several calls at the same time share a manifest. After a call that was stopped or killed, the next one goes on.

    Args:
        package: The directory of a build, or of one package.
        manifest: A file, or s3://bucket/key: JSON Lines, CSV or Parquet, as `docs/how-to/answer-a-manifest.md` has them.
        options: Where the results go, and what the manifest does not say of itself.
        progress: Receives the number of items that were answered. None prints nothing.
        environ: As of `build`; the package's process gets all of them, botocore's own too.

    Returns:
        Where the results are, and how many items have an answer or an error.

    Raises:
        RecipeError: There is no package, or the manifest or an option is wrong.
        PackError: The package fails.
        ServiceError: S3 fails.
    """
    from mlpack.core.progress import Silent
    from mlpack.pipeline import batches
    from mlpack.targets.boot.batch import Order

    settings = options or BatchOptions()
    if settings.memory_mb is not None and not 0 < settings.memory_mb <= _MEMORY_MB_MOST:
        raise RecipeError(f"memory_mb: {settings.memory_mb!r} is not from 1 to {_MEMORY_MB_MOST:,}")
    results = None if settings.results is None else os.fspath(settings.results)
    words = batches.words_of(os.fspath(manifest), results, settings.columns, settings.format, settings.model)
    order = Order(words=words, variables=Environment(environ).variables, memory_mb=settings.memory_mb)
    state = batches.answer(Path(package), order, progress or Silent())
    return BatchResult(**{name: state[name] for name in ("manifest", "results", "items", "answered", "failed", "parts")})


def diff(before: AnyPath, after: AnyPath) -> DiffResult:
    """Compare two builds: size, speed and accuracy with their noise, and what their graphs are made of.

    Args:
        before: A build's directory, or its build.json.
        after: The same of the other build.

    Returns:
        A row for each measure of each candidate of either build.

    Raises:
        RecipeError: One of the two is no build.
    """
    from mlpack.report import diff as differences

    return DiffResult(rows=differences.compare(differences.read(Path(before)), differences.read(Path(after))))


def explain(path: AnyPath, *, candidate: str | None = None, shapes: Mapping[str, Sequence[int]] | None = None) -> Explanation:
    """Say where the bytes and the operations of a model are, what its operators compute in, and what stayed float and why.

    Args:
        path: A build's directory or its build.json, a package's directory, or a model: its directory or its ONNX file.
        candidate: The id of a build's candidate. None is the chosen one.
        shapes: Of a package or a model: the shapes of inputs to count operations for, by the inputs' names, each axis at least 1.
            Other open axes count as 1.

    Returns:
        The facts of the graph, also as text and as JSON values.

    Raises:
        RecipeError: There is nothing to explain, or the candidate or an input is not there.
        PackError: The package is damaged.
        PassError: The model is damaged.
    """
    from mlpack.report import explain as explaining

    Environment()
    input_shapes = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    for name, shape in input_shapes.items():
        if not all(0 < axis < 2**31 for axis in shape):
            raise RecipeError(f"shapes: {name} {shape}: each axis is at least 1")
    return explaining.of(Path(path), candidate, input_shapes)


def suggest_recipe(model: AnyPath) -> str:
    """Write a recipe by looking at a model.

    Args:
        model: A Hugging Face directory, an .onnx or .safetensors file, a state dict of `torch.save`, or a model of XGBoost or
            LightGBM.

    Returns:
        The recipe's text, with comments where it has to be completed.

    Raises:
        RecipeError: The file is no model that mlpack knows; the message says what to write instead.
    """
    from mlpack.recipe import first

    Environment()
    return first.suggest(Path(model))


def rerun_step(
    folder: AnyPath, *, out: AnyPath | None = None, store: AnyPath | None = None, environ: Mapping[str, str] | None = None
) -> str:
    """Run the failed step of a build alone.

    Args:
        folder: The step's folder below the build's `repro/`.
        out: An empty or new directory for the step's result. None keeps nothing.
        store: As of `build`.
        environ: As of `build`.

    Returns:
        The result in words, when the step does not fail this time.

    Raises:
        MlpackError: The step failed as it did before.
        RecipeError: The folder is no such folder.
    """
    with Workspace(store, environ=environ) as workspace:
        return workspace.rerun_step(folder, out=out)
