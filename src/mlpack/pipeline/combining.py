"""Build a recipe of packages that are built already: they become one package, which is booted.

Promises:
- The output directory is that of any other build: a record with one candidate, its report, and its package.

Will not: measure. What each model does was measured when its own package was built.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.core import machine
from mlpack.core.distribution import VERSION
from mlpack.core.records import (
    Artifact,
    Budgets,
    Candidate,
    Decision,
    MetricSpec,
    Plan,
    Recipe,
    Result,
    Source,
    Status,
    Target,
    Verdict,
)
from mlpack.core.serving import Serve
from mlpack.core.text import words
from mlpack.errors import RecipeError
from mlpack.pipeline import booting, output
from mlpack.pipeline.outcome import BuildResult, Startup
from mlpack.pipeline.packing import pack, several, wheels
from mlpack.pipeline.packing.runtime_part import explain_full_disk
from mlpack.pipeline.packing.several import Member, Together
from mlpack.recipe.several import SeveralRecipe, load
from mlpack.report import recording
from mlpack.store import care
from mlpack.store.local import Store
from mlpack.targets import TARGETS, shipped
from mlpack.targets.format import outside
from mlpack.targets.format.contents import Contents
from mlpack.targets.format.unpacking import describe

if TYPE_CHECKING:
    from mlpack.core.progress import Progress
    from mlpack.oci.base import Base
    from mlpack.pipeline.verbs import Options

VARIANT = "several"


def build(path: Path, store: Store, options: Options, console: Progress) -> BuildResult:
    """Put the packages of a recipe together.

    Raises:
        RecipeError: The recipe is wrong, or a directory in it is no build's.
        PackError: The packages cannot be one, or it does not boot, or not in the time that its platform gives.
        LimitError: It is too large for its target.
    """
    began, recipe = time.monotonic(), load(path)
    out = options.out or Path("out", recipe.name)
    output.check(out)
    base = _base(recipe, store, options)
    python = pack.python_of(recipe.target, base, store.root / care.BASES)
    with store.scratch() as work, console.step(f"build {recipe.name}: {words.count(len(recipe.models), 'model')}"):
        members = _members(recipe, work / "members", python)
        names = (recipe.name, recipe.default)
        together = several.together(members, recipe.target, names, recipe.memory_bytes, work / "trees")
        folder = work / "package"
        folder.mkdir()
        artifact = _write(recipe, members, together, base, folder, store)
        candidate = Candidate(variant=VARIANT, target=recipe.target, steps=())
        startup, reasons = _boot(folder, recipe.target, options, console), _reasons(together)
        outcome = _outcome(recipe, candidate, booting.noted(artifact, startup) if startup else artifact, reasons, began)
        record = output.write(out, outcome, {candidate.id: folder}, {})
    return BuildResult(out=out, record=record, startup=startup)


def _members(recipe: SeveralRecipe, work: Path, python: str) -> tuple[Member, ...]:
    """The packages, unpacked, in the order of their names. Errors name the key."""
    members = []
    for name, folder in sorted(recipe.models.items()):
        try:
            artifact = output.artifact_dir(folder)
            package = describe(artifact)
            member = Member(name=name, artifact=artifact, package=package, root=work / name)
            shipped.unpack(artifact, member.root)
        except RecipeError as error:
            raise RecipeError(f"models.{name}: {error}") from None
        several.check(member, recipe.target, python)
        members.append(member)
    return tuple(members)


def _base(recipe: SeveralRecipe, store: Store, options: Options) -> Base | None:
    """The base of an image, pinned by the lock beside the recipe where that names it."""
    if not TARGETS[recipe.target.kind].needs_base:
        return None
    from mlpack.oci import layout
    from mlpack.oci.base import resolve_base

    reference = options.base or recipe.target.config.base
    pinned = wheels.read_lock(recipe.root / wheels.LOCK_NAME).bases.get(f"{reference} {recipe.target.arch}")
    place = reference if options.base else layout.beside(reference, recipe.root)
    store.hold(care.BASES)
    return resolve_base(place, recipe.target.arch, store.root / care.BASES, pinned, options.credentials)


def _write(
    recipe: SeveralRecipe, members: tuple[Member, ...], together: Together, base: Base | None, folder: Path, store: Store
) -> Artifact:
    contents = Contents(
        runtime=together.runtime,
        model=together.model,
        code=together.code,
        labels={"org.opencontainers.image.title": recipe.name, "org.opencontainers.image.version": together.version},
        base=base,
        cache_dir=store.root / care.BASES,
    )
    with explain_full_disk(folder):
        written = TARGETS[recipe.target.kind].write(contents, recipe.target.config, folder)
        weights = several.copy_weights(members, folder)
        first = next(member for member in members if member.name == recipe.default)
        (folder / pack.EVENT).write_bytes(several.event(first))
        (folder / pack.OPENAPI).write_bytes(several.openapi_document(members, together))
        described = {
            "name": recipe.name,
            "version": together.version,
            "variant": VARIANT,
            "python": first.package["python"],
            "models": together.settings["models"],
            **({"weights": weights} if weights else {}),
            **pack.described_by(written, recipe.target),
            **pack.requirements_of(together.runtime),
        }
        return pack.finish(folder, written, described, (*written.notes, *_sizes(together), *map(outside.note, weights)))


def _sizes(together: Together) -> tuple[str, ...]:
    rows = sorted(together.settings["models"].items(), key=lambda row: (-row[1]["size_bytes"], row[0]))
    return ("; ".join(f"model {name}: {words.size(row['size_bytes'])} in memory" for name, row in rows),)


def _reasons(together: Together) -> tuple[str, ...]:
    names = ", ".join(sorted(together.settings["models"]))
    return (f"put together of {names}; each was measured in its own build",)


def _boot(folder: Path, target: Target, options: Options, console: Progress) -> Startup | None:
    if target.arch != machine.arch():
        console.warn(f"the package was not booted: this machine is {machine.arch()}. Build on its kind to be sure")
        return None
    with console.step("boot"):
        startup = booting.boot_here(folder, booting.find_programs(options.tools))
        warning = booting.check_init(startup, target)
    if warning is not None:
        console.warn(warning)
    return startup


def _outcome(
    recipe: SeveralRecipe, candidate: Candidate, artifact: Artifact, reasons: tuple[str, ...], began: float
) -> recording.BuildOutcome:
    """What the build knows, as the record of any other build has it."""
    whole = Recipe(
        name=recipe.name,
        root=recipe.root,
        digest=recipe.digest,
        source=Source(format="models", reference=", ".join(sorted(recipe.models))),
        inputs=(),
        evaluation="",
        calibration=None,
        metric=MetricSpec(name="none"),
        variants=None,
        targets=(recipe.target,),
        budgets=Budgets(),
        prefer="size",
        serve=Serve(),
        tags=recipe.tags,
        positions=recipe.positions,
    )
    verdict = Verdict(candidate_id=candidate.id, status=Status.OK, reasons=reasons)
    return recording.BuildOutcome(
        plan=Plan(recipe=whole, candidates=(candidate,), baselines=()),
        results=(Result(candidate=candidate, artifact=artifact),),
        decision=Decision(chosen=candidate.id, verdicts=(verdict,)),
        baselines={},
        machine=machine.this_machine(),
        mlpack_version=VERSION,
        source_digest=artifact.tree,
        seconds=time.monotonic() - began,
    )
