"""The rooms of the house as its folders say them, and the layers as the import contract has them."""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_WIDTH = 126
_GUTTER = 16
"""Where a description begins, in characters."""


def rooms(root: Path) -> Iterator[str]:
    """Every folder of the four packages: the first sentence of its `__init__.py`, and the names of its modules.

    The rooms of `mlpack` come in the order of its layers, the ground first, since a newcomer reads upwards.
    """
    yield "```"
    order = [room for line in reversed(_layers(root)) for room in line]
    yield from _package(root / "src" / "mlpack", order)
    yield from _package(root / "src" / "mlpack_build", [])
    yield from _package(root / "src" / "mlpack_control", [])
    yield from _package(root / "src" / "mlpack_jobs", [])
    yield from _package(root / "src" / "mlpack_runtime", [])
    yield "```"


def modules(root: Path, room: str) -> Iterator[str]:
    """The modules of one room, a line each, folder by folder."""
    yield "```"
    folder = root / "src" / "mlpack" / room
    for below in (folder, *_folders(folder)):
        yield from _entry(f"{below.relative_to(folder.parent)}/", _first_sentence(below / "__init__.py"), 0)
        for path in sorted(below.glob("*.py")):
            if path.stem != "__init__":
                yield from _entry(path.stem, _first_sentence(path), 2)
    yield "```"


def layers(root: Path) -> Iterator[str]:
    """The layers of `mlpack`, top first, as `pyproject.toml` has them."""
    yield "```"
    yield from (" | ".join(line) for line in _layers(root))
    yield "```"


def _package(folder: Path, order: list[str]) -> Iterator[str]:
    """A package with its modules, a line each, and its folders."""
    yield f"src/{folder.name}/"
    yield from _entry("__init__.py", _first_sentence(folder / "__init__.py"), 2)
    for path in sorted(folder.glob("*.py")):
        if path.stem != "__init__":
            yield from _entry(path.name, _first_sentence(path), 2)
    for below in sorted(_folders(folder), key=lambda each: (order.index(each.name) if each.name in order else 0, each.name)):
        yield from _room(below, 2)


def _room(folder: Path, indent: int) -> Iterator[str]:
    """A folder with the names of its modules, and the folders in it."""
    yield from _entry(f"{folder.name}/", _first_sentence(folder / "__init__.py"), indent)
    names = [path.stem for path in sorted(folder.glob("*.py")) if not path.stem.startswith("__")]
    if names:
        yield from (line.replace("_·", " ·") for line in _entry("", "_· ".join(names), indent))  # no line begins with a dot
    for below in _folders(folder):
        yield from _room(below, indent + 2)


def _folders(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/__init__.py"))


def _entry(name: str, text: str, indent: int) -> Iterator[str]:
    """A name and what it is, with the further lines below its first."""
    start = f"{' ' * indent}{name}"
    column = max(_GUTTER + indent, len(start) + 2)
    lines = textwrap.wrap(text, _WIDTH - column, break_on_hyphens=False) or [""]
    yield f"{start:<{column}}{lines[0]}".rstrip()
    yield from (" " * column + line for line in lines[1:])


def _first_sentence(path: Path) -> str:
    """What a file says of itself first: up to the end of its first sentence or paragraph, without the full stop."""
    whole = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    paragraph = " ".join(whole.partition("\n\n")[0].split())
    return re.split(r"(?<=\.)\s+(?=[A-Z`])", paragraph)[0].rstrip(".:")


@cache
def _layers(root: Path) -> list[list[str]]:
    contracts = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    lines = next(each["layers"] for each in contracts if each.get("containers") == ["mlpack"])
    return [re.split(r"\s*\|\s*", line) for line in lines]
