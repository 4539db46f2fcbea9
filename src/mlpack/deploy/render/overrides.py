"""What the team changes: `overrides.yaml` beside the files, merged into what is rendered.

Promises: a JSON merge (RFC 7386) for each logical id of CloudFormation, and for Terraform's whole document; what it names has to be
there, or to be a whole resource. Will not: check what comes of it: `mlpack deploy check` does, by the same rules as everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpack.core import yaml_positions
from mlpack.core.yaml_positions import PlacedError, Problem

NAME = "overrides.yaml"
_PARTS = ("parameters", "cloudformation", "terraform")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """The team's own part. `parameters`: values by name."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    cloudformation: Mapping[str, Any] = field(default_factory=dict)
    terraform: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> frozenset[str]:
        """The resources that are not as mlpack wrote them."""
        resources = self.terraform.get("resource")
        kinds = resources.values() if isinstance(resources, Mapping) else ()
        return frozenset((*self.cloudformation, *(name for each in kinds if isinstance(each, Mapping) for name in each)))


def read(path: Path) -> Overrides:
    """The overrides of a directory; none where there is no such file. RecipeError with lines for what cannot be read."""
    return _of(yaml_positions.read(path)) if path.exists() else Overrides()


def parse(text: str) -> Overrides:
    """The overrides of a text."""
    return _of(yaml_positions.parse(text, NAME))


def _of(document: yaml_positions.Document) -> Overrides:
    problems = [*document.problems, *_problems(document.value)]
    if problems:
        raise document.positions.listed(problems)
    value = document.value or {}
    given = {name: _text(each) for name, each in (value.get("parameters") or {}).items()}
    parts = {name: value.get(name) or {} for name in _PARTS[1:]}
    return Overrides(parameters=given, **parts)


def _problems(value: Any) -> Iterator[Problem]:
    if value is None:
        return
    if not isinstance(value, Mapping):
        yield Problem(place=(), message=f"write a mapping with {', '.join(_PARTS)}")
        return
    for name, part in value.items():
        if name not in _PARTS:
            yield Problem(place=(name,), message=f"is none of {', '.join(_PARTS)}")
        elif part is not None and not isinstance(part, Mapping):
            yield Problem(place=(name,), message="has to be a mapping")
    for name, each in _mapping(value.get("parameters")).items():
        if isinstance(each, Mapping) or each is None:
            yield Problem(place=("parameters", name), message="has to be a text, a number or a list of texts")
    for name, each in _mapping(value.get("cloudformation")).items():
        if each is not None and not isinstance(each, Mapping):
            yield Problem(place=("cloudformation", name), message="has to be a resource: {Properties: {...}}")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def into_cloudformation(template: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """The template with the overrides in it. RecipeError for an id that is not there and is no whole resource."""
    resources = dict(template["Resources"])
    wrong = []
    for name, patch in overrides.cloudformation.items():
        if name not in resources and not (isinstance(patch, Mapping) and "Type" in patch):
            here = ", ".join(sorted(resources, key=lambda each: (name.lower() not in each.lower(), each))[:6])
            wrong.append(
                Problem(
                    place=("cloudformation", name), message=f"is no resource here, and no new one (Type); there are {here}, ..."
                )
            )
            continue
        if patch is None:
            resources.pop(name)
        else:
            resources[name] = merged(resources.get(name), patch)
    if wrong:
        raise PlacedError(*wrong)
    return {**template, "Resources": resources}


def into_terraform(document: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """The configuration with the overrides in it."""
    result = merged(document, overrides.terraform)
    assert isinstance(result, dict)
    return result


def merged(value: Any, patch: Any) -> Any:
    """RFC 7386: mappings are merged, null takes a key away, everything else takes the place of what was there."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(value) if isinstance(value, Mapping) else {}
    for key, each in patch.items():
        if each is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), each)
    return result
