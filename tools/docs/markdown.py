"""Markdown of generated pages: tables of keys, cells, and parts between markers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any


def within(page: str, name: str, text: str, comment: str = "<!-- {} -->") -> str:
    """The page with this text between the markers of this name.

    Args:
        page: What people wrote, with the markers in it.
        name: Which generated part it is.
        text: What belongs there.
        comment: How a comment is written in this kind of file, with `{}` for its words.

    Raises:
        ValueError: The page does not have both markers once, in their order.
    """
    begin, end = comment.format(f"generated: {name}"), comment.format(f"end of generated: {name}")
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"a page with the generated part {name!r} needs {begin} and, behind it, {end}: each once")
    before, _, rest = page.partition(begin)
    middle = text.strip("\n")
    return f"{before}{begin}\n\n{middle}\n\n{end}{rest.partition(end)[2]}"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table's lines, and an empty one."""
    heads = tuple(heads)
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(map(cell, row))} |"
    yield ""


def cell(text: str) -> str:
    """This text on one line, with no bar that would end the cell."""
    return " ".join(text.split()).replace("\\|", "|").replace("|", "\\|")


def keys(schema: dict[str, Any]) -> Iterator[str]:
    """The table of a JSON Schema's properties."""
    if not schema.get("properties"):
        yield "No keys.\n"
        return
    required = schema.get("required", ())
    rows = (
        (f"`{key}`", _kind(value), "**required**" if key in required else _default(value), description(value))
        for key, value in schema["properties"].items()
    )
    yield from table(("key", "value", "default", "meaning"), rows)


def description(schema: dict[str, Any]) -> str:
    """What a schema says of itself, on one line."""
    return " ".join(str(schema.get("description", "")).split())


def _default(value: dict[str, Any]) -> str:
    given = value.get("default")
    if given is None:
        return ""
    return f"`{json.dumps(given) if not isinstance(given, str) else given}`"


def _kind(value: dict[str, Any]) -> str:
    """A property's type in a few words."""
    if "$ref" in value:
        return "mapping, below"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return " | ".join(f"`{option}`" for option in value["enum"])
    if "anyOf" in value:
        kinds = [_kind(option) for option in value["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    kind = value.get("type", "see below")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return "list"
    if kind == "object":
        return "mapping"
    pattern = str(value.get("pattern", ""))
    return "size" if "iB" in pattern else "duration" if "µs" in pattern else str(kind)
