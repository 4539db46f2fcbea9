"""Recipes of packages that are built already: `models:` puts them together into one.

    name: shop
    models: {fashion: out/fashion, tabular: out/tabular}
    default: fashion
    targets: {lambda-zip: {memory_mb: 3538}}

Promises:
- Every problem is told at once, with file and line, as of other recipes.

Will not: look into the packages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core import digest, yaml_positions
from mlpack.core.digest import Digest
from mlpack.core.entrypoint import suggestion
from mlpack.core.records import Target
from mlpack.core.sizes import AUTO
from mlpack.core.yaml_positions import Place, Positions, Problem
from mlpack.errors import RecipeError
from mlpack.recipe.tables import Structurer, tables

if TYPE_CHECKING:
    from mlpack.recipe.tables import Targets

KEYS = ("name", "models", "default", "targets", "memory", "tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeveralRecipe:
    """Built packages by the names of their models, and where they will run together. `memory_bytes`: what models in memory may have
    together; None: the runtime's share of the target's memory."""

    name: str
    root: Path
    digest: Digest
    models: Mapping[str, Path]
    default: str
    target: Target
    memory_bytes: int | None
    tags: Mapping[str, str]
    positions: Positions


def is_several(path: Path) -> bool:
    """Whether a recipe puts packages together. A file that cannot be read is no such recipe: the other reader says why."""
    try:
        value = yaml_positions.read(path).value
    except RecipeError:
        return False
    return puts_together(value)


def puts_together(written: Any) -> bool:
    """Whether what is written in a recipe is for packages that are built already."""
    return isinstance(written, dict) and "models" in written and "source" not in written


def load(path: Path, targets: Targets | None = None) -> SeveralRecipe:
    """Read and check it. Raises RecipeError with every problem."""
    document = yaml_positions.read(path)
    problems: list[Problem] = list(document.problems)

    def say(place: Place, message: str) -> None:
        problems.append(Problem(place=place, message=message))

    keys = _keys(document.value, say)
    chosen: tuple[Target, ...] = ()
    written = document.value.get("targets") if isinstance(document.value, dict) else None
    if written is None:
        say(("targets",), "is required: where the models run together, such as {lambda-zip: {memory_mb: 3538}}")
    else:
        chosen = Structurer(*tables(None, targets), say).targets(written)
        if len(chosen) > 1:
            say(("targets",), f"one package is for one target: {' or '.join(target.id for target in chosen)}")
        for target in chosen:
            if getattr(target.config, "memory_mb", None) == AUTO:
                why = "is decided by measuring one model, and nothing is measured here: give a number with room for all"
                say(("targets", target.kind, "memory_mb"), f"auto {why}")
    if problems or keys is None:
        raise document.positions.listed(problems)
    return SeveralRecipe(
        name=keys.name,
        root=path.parent,
        digest=digest.of_json(document.value),
        models={name: path.parent / place for name, place in keys.models.items()},
        default=keys.default or next(iter(keys.models)),
        target=chosen[0],
        memory_bytes=keys.memory,
        tags=keys.tags,
        positions=document.positions,
    )


def _keys(written: Any, say: Any) -> Any:
    """The keys but the targets, or None with problems."""
    from mlpack.recipe.schema import validated, wording
    from mlpack.recipe.serve.models import ModelsKeys

    if not isinstance(written, dict):
        return None
    read = validated(ModelsKeys, {key: value for key, value in written.items() if key != "targets" and value is not None})
    if isinstance(read, list):
        for error in read:
            place, message = error["loc"], wording(error, ModelsKeys)
            if len(place) == 1 and place[0] not in KEYS:  # `targets` is read apart
                message = f"unknown key{suggestion(str(place[0]), KEYS)} (known: {', '.join(KEYS)})"
            say(place, message)
        return None
    keys: Any = read
    if keys.default is not None and keys.default not in keys.models:
        say(("default",), f"is none of the models: {', '.join(keys.models)}")
    return keys
