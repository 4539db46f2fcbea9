"""What Python code may import from `mlpack`: a directive for each name, which the site fills in from its docstring."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import mlpack


def functions() -> Iterator[str]:
    """The functions of the face, and the modules that it has."""
    for name in _names():
        if inspect.isfunction(getattr(mlpack, name)):
            yield f"::: mlpack.{name}\n"


def classes() -> Iterator[str]:
    """The classes of the face."""
    for name in _names():
        if inspect.isclass(getattr(mlpack, name)):
            yield f"::: mlpack.{name}\n"


def modules() -> Iterator[str]:
    """The modules of the face, each with all that is public in it."""
    for name in _names():
        if inspect.ismodule(getattr(mlpack, name)):
            yield f"## mlpack.{name}\n"
            yield f"::: mlpack.{name}\n    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n"


def _names() -> list[str]:
    return [name for name in mlpack.__all__ if not name.startswith("_")]
