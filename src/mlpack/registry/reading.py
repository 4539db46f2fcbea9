"""Reads rows of which some may be damaged: raises at the first damaged one, or reports each and returns all the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from mlpack.errors import ServiceError
from mlpack.registry import Row

T = TypeVar("T")

Damaged = Callable[[ServiceError], None]
"""Called with the error of a row that cannot be read."""


def whole(rows: Iterable[Row], read: Callable[[Row], T], damaged: Damaged | None) -> Iterator[T]:
    """The records of these rows; `damaged` is called with each row that cannot be read."""
    for row in rows:
        try:
            record = read(row)
        except ServiceError as error:
            if damaged is None:
                raise
            damaged(error)
        else:
            yield record
