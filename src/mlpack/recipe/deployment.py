"""Reads the section `deploy` alone: what a build recorded of it, or a recipe whose data and weights are elsewhere.

Promises: every problem at once, each at its place in the recipe. pydantic is loaded by `deployment`, not by importing this module.
"""

from __future__ import annotations

from typing import Any

from mlpack.core.yaml_positions import PlacedError, Problem
from mlpack.recipe.deploy import reading as deploy
from mlpack.recipe.deploy.section import Section


def deployment(written: Any) -> Section:
    """The record of what stands under `deploy`. PlacedError with every problem."""
    from mlpack.recipe.deploy.keys import DeployKeys
    from mlpack.recipe.schema import validated, wording

    if not isinstance(written, dict):
        raise PlacedError(Problem(place=("deploy",), message="must be a mapping, such as {traffic: {peak_rps: 50}}"))
    keys: Any = validated(DeployKeys, {key: value for key, value in written.items() if value is not None})
    if isinstance(keys, list):
        raise PlacedError(*(Problem(place=("deploy", *error["loc"]), message=wording(error, DeployKeys)) for error in keys))
    if problems := [Problem(place=("deploy", *place), message=message) for place, message in deploy.problems(keys)]:
        raise PlacedError(*problems)
    return deploy.record(keys)
