"""pydantic's errors of keys that may be written in several ways, put together: one for each mistake, where people wrote it.

A union gives the errors of every branch, each with the branch's type in its place: `size.constrained-int`, `size.tuple[...][0]`.

Promises: a place has only keys and indices of the recipe; a union has the errors of the branch that was meant, or one error that
names all branches.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from mlpack.core.yaml_positions import Place

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_TAG = re.compile(r"(?:constrained-)?(str|int|float|bool)|(tuple|list|dict|literal)\[.*\]")
_WORDS = {
    "bool": "true or false", "int": "a whole number", "float": "a number", "str": "a string", "list": "a list", "dict": "a mapping",
}  # fmt: skip


def merged(errors: Sequence[ErrorDetails], written: Any) -> list[ErrorDetails]:
    """One error for each mistake.

    Args:
        errors: As pydantic gives them.
        written: What was validated.
    """
    merged_errors: list[ErrorDetails] = []
    unions: dict[Place, tuple[Any, dict[str, list[ErrorDetails]]]] = {}
    for error in errors:
        at, value = _tagged(error["loc"], written)
        if at is None:
            merged_errors.append(_of_key(error))
            continue
        place, tag = error["loc"][:at], _kind(str(error["loc"][at]))
        without_tag = {**error, "loc": (*place, *error["loc"][at + 1 :])}
        unions.setdefault(place, (value, {}))[1].setdefault(tag, []).append(cast("ErrorDetails", without_tag))
    for place, (value, branches) in unions.items():
        meant = branches.get(_kind_of(value))
        merged_errors += [_none_of(place, value, branches)] if meant is None else merged(meant, written)
    return [error for error in merged_errors if error["type"] != "too_short" or not _is_said_below(error, merged_errors)]


def _tagged(place: Place, written: Any) -> tuple[int | None, Any]:
    """Where a place has a branch's type instead of a key or an index, and the value there."""
    value = written
    for at, part in enumerate(place):
        is_key = isinstance(value, dict) and part in value
        is_index = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if not is_key and not is_index:
            return (at, value) if isinstance(part, str) and _TAG.fullmatch(part) else (None, None)
        value = value[part]
    return None, None


def _of_key(error: ErrorDetails) -> ErrorDetails:
    """An error of a mapping's key is at that key."""
    return cast("ErrorDetails", {**error, "loc": error["loc"][:-1]}) if error["loc"][-1:] == ("[key]",) else error


def _kind(tag: str) -> str:
    match = _TAG.fullmatch(tag)
    kind = (match[1] or match[2]) if match else tag
    return "list" if kind == "tuple" else kind


def _kind_of(value: Any) -> str:
    return type(value).__name__


def _none_of(place: Place, value: Any, branches: dict[str, list[ErrorDetails]]) -> ErrorDetails:
    kinds = [kind for kind in _WORDS if kind in branches and not (kind == "int" and "float" in branches)]
    words = [_WORDS[kind] for kind in kinds]
    if "literal" in branches:
        words.append(str(branches["literal"][0]["ctx"]["expected"]).replace("'", "`"))
    told = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    return {"type": "union", "loc": place, "input": value, "msg": f"Input should be {told}"}


def _is_said_below(error: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """Whether a list is only short because pydantic does not count its wrong entries, of which there are errors."""
    place = error["loc"]
    return any(len(each["loc"]) > len(place) and each["loc"][: len(place)] == place for each in errors)
