"""The kinds of sources of a recipe, as a table. Pure.

Will not: look at a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceKind:
    """A kind of source. `function`: `module:function` of the user's; `endings`: of a file's name, () any; else a directory."""

    function: bool = False
    endings: tuple[str, ...] | None = None


SOURCES: Mapping[str, SourceKind] = {
    "onnx": SourceKind(endings=()),
    "huggingface": SourceKind(),
    "torch": SourceKind(function=True),
    "sklearn": SourceKind(function=True),
    "xgboost": SourceKind(endings=(".json", ".ubj")),
    "lightgbm": SourceKind(endings=(".txt",)),
}
