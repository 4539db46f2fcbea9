"""The passes and targets of installed plug-ins, and a recipe's schema that includes them.

Promises:
- Every plug-in is loaded to see whether it can be used. One that cannot be used is reported, and stops nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRow:
    """A pass or a target of an installed plug-in.

    Attributes:
        kind: "pass" or "target".
        name: Its name in a recipe.
        distribution: The distribution that has it.
        version: Of the distribution.
        entry_point: `package.module:ROW`.
        problem: Why it cannot be used; None where it can.
    """

    kind: str
    name: str
    distribution: str
    version: str
    entry_point: str
    problem: str | None

    def to_json(self) -> dict[str, str | None]:
        """The row as JSON values."""
        return {name: getattr(self, name) for name in ("kind", "name", "distribution", "version", "entry_point", "problem")}


def plugins() -> tuple[PluginRow, ...]:
    """The passes and targets that installed plug-ins offer.

    Returns:
        A row for each entry point of the groups `mlpack.passes` and `mlpack.targets`, passes first, by their names.
    """
    from mlpack.passes import PASSES
    from mlpack.targets import TARGETS

    return tuple(
        PluginRow(
            kind=noun,
            name=offer.name,
            distribution=offer.plugin.distribution,
            version=offer.plugin.version,
            entry_point=offer.plugin.value,
            problem=offer.problem,
        )
        for noun, offers in ((PASSES.noun, PASSES.offers()), (TARGETS.noun, TARGETS.offers()))
        for offer in offers
    )


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors: mlpack's own passes and targets, and those of plug-ins that can be used."""
    from mlpack.passes import PASSES
    from mlpack.recipe import reader
    from mlpack.targets import TARGETS

    return reader.schema(PASSES.usable(), TARGETS.usable())
