"""What a registry gives, as JSON values and as text for people."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from mlpack.registry.aliases import alias_names
from mlpack.registry.records import Release
from mlpack.registry.releases import forms
from mlpack.registry.releases.forms import FIELDS as RELEASE_FIELDS

if TYPE_CHECKING:
    from mlpack.registry.aliases.aliases import MoveResult
    from mlpack.registry.aliases.policies import Policy
    from mlpack.registry.audit import AuditEntry
    from mlpack.registry.moving.transfer import ImportResult
    from mlpack.registry.rows.rows import Move
    from mlpack.registry.upkeep.care import VerificationReport
    from mlpack.registry.upkeep.collection import CollectionPlan

    RegistryValue = Release | Move | MoveResult | Policy | CollectionPlan | VerificationReport | AuditEntry | ImportResult

__all__ = ["RELEASE_FIELDS", "describe_release", "registry_json", "why_reserved"]


def registry_json(value: RegistryValue) -> dict[str, Any]:
    """Give what a registry gave as JSON values, under the keys that `docs/interface.md` lists.

    Args:
        value: A release, a move or its result, a policy, a collection, a report, an entry of the audit, or an import.

    Returns:
        What the command prints for it with `--json`.
    """
    if isinstance(value, Release):  # before what only the others need is loaded, which takes longer than showing a release
        return forms.as_json(value)
    from mlpack.registry.aliases import aliases, policies
    from mlpack.registry.aliases.aliases import MoveResult
    from mlpack.registry.aliases.policies import Policy
    from mlpack.registry.rows.rows import Move
    from mlpack.registry.upkeep import collection
    from mlpack.registry.upkeep.collection import CollectionPlan

    match value:
        case Move():
            return aliases.as_json(value)
        case MoveResult():
            return aliases.as_json(value.move) | {"moved": value.moved}
        case Policy():
            return policies.as_json(value)
        case CollectionPlan():
            return collection.as_json(value)
        case _:
            return dataclasses.asdict(value)


def describe_release(release: Release) -> str:
    """Describe a release for people.

    Args:
        release: The release.

    Returns:
        A line for each thing that is known of it.
    """
    return forms.text(release)


def why_reserved(alias: str) -> str | None:
    """Say why an alias may not be called so.

    Args:
        alias: The name.

    Returns:
        The reason; None for a name that is free.
    """
    return alias_names.why_reserved(alias)
