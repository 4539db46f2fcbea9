"""A recipe of several built packages as a typed model, but for its targets. Imported with the other keys (`schema`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field  # noqa: TID253

from mlpack.recipe.units import Keys, Name, Size, Text


class ModelsKeys(Keys):
    """Built packages that become one."""

    name: Name = Field(description="the package's name")
    models: Annotated[dict[Name, Text], Field(min_length=1, max_length=100)] = Field(
        description="directories that builds left, or of packages, by the names that callers use"
    )
    default: Text | None = Field(default=None, description="the model of requests that name none [the first]")
    memory: Size | None = Field(
        default=None, description="the most that the models in memory may have together, counted by their files [0.7 of the memory]"
    )
    tags: dict[Text, Text] = Field(default_factory=dict, description="carried into the release")
