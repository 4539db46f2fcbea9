"""What all keys of a recipe are made of, as pydantic's types: quantities (`quantities` reads them), texts, and mappings of keys.

For `recipe.schema` and its parts alone: it needs pydantic.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema  # noqa: TID253

from mlpack.core.text.quantities import parse_duration_ms, parse_size, parse_usd

_SIZE_FORM = r"^\s*[0-9.]+\s*(B|[kKMG]B|[KMG]iB)\s*$"
_DURATION_FORM = "^\\s*[0-9.]+\\s*(us|\u00b5s|\u03bcs|ms|s|min)\\s*$"


def _sized(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


Size = Annotated[int, BeforeValidator(parse_size), _sized(_SIZE_FORM)]
Duration = Annotated[float, BeforeValidator(parse_duration_ms), _sized(_DURATION_FORM)]
Money = Annotated[
    float,
    BeforeValidator(parse_usd),
    WithJsonSchema({"type": ["number", "string"], "exclusiveMinimum": 0, "pattern": r"^\s*[0-9.]+\s*(USD|\$)?\s*$"}),
]
Text = Annotated[str, Field(min_length=1)]
NAME = r"[a-z0-9][a-z0-9-]*"
Name = Annotated[str, Field(pattern=f"^{NAME}$", max_length=64)]
"""Of a model or a package."""


class Keys(BaseModel):
    """A mapping whose keys are exactly these."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
