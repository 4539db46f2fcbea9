"""What is asked for: a manifest, where its results go, and what its columns mean, as JSON has it.

    {"batch": {"manifest": "s3://bucket/items.jsonl", "results": "s3://...", "columns": {"text": "review"}, "format": "csv"}}

Promises: the answer to an order that is not finished is an order again, so that it can be handed on. Will not: read a manifest.
"""

import re

from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.batch.reading.records import format_of
from mlpack_runtime.limits import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KEY = "batch"
_KEYS = ("manifest", "results", "columns", "format", "model")
_TOLD = frozenset((*_KEYS, "state", "items", "answered", "failed", "parts", "parts_done", "updated"))
_PIECE = re.compile(r"\.results/[0-9a-f]{12}/|(^|/)(results|errors)/part-\d{5,}-\d{3,}\.jsonl$")


class Order:
    """One batch. `results`: "" for a folder beside the manifest; `model`: of a package with several, "" for the default."""

    __slots__ = ("columns", "format", "manifest", "model", "results")

    def __init__(
        self,
        manifest: str,
        results: str = "",
        columns: "dict[str, str | list[str]] | None" = None,
        format: str = "",  # noqa: A002  (its key's name)
    ) -> None:
        self.manifest = manifest
        self.results = results
        self.columns = columns or {}
        self.format = format
        self.model = ""


def is_order(value: object) -> bool:
    """Whether a request asks for a batch."""
    return type(value) is dict and value.keys() <= {KEY, "done"} and type(value.get(KEY)) is dict and "manifest" in value[KEY]


def order_of(value: "dict[str, Any]") -> Order:
    """The order in such a request. Raises BatchError."""
    told = value[KEY]
    strange = [key for key in told if key not in _TOLD]
    if strange:
        raise BatchError(f"batch has {quoted(strange[0])}; it takes {', '.join(_KEYS)}")
    for key in ("manifest", "results", "format", "model"):
        if type(told.get(key, "")) is not str:
            raise BatchError(f"batch: {key} is {quoted(told[key])}, not a text")
    order = Order(told["manifest"], told.get("results", ""), columns_of(told.get("columns")), told.get("format", ""))
    order.model = told.get("model", "")
    return order


def columns_of(value: object) -> "dict[str, str | list[str]]":
    """A mapping of a request's keys to columns, or lists of columns. Raises BatchError."""
    if value is None:
        return {}
    if type(value) is dict and all(_is_column(name) for name in value.values()):
        return value
    raise BatchError(f'columns is {quoted(value)}: an object of the request\'s keys to columns is needed, as {{"text": "review"}}')


def is_manifest(key: str) -> bool:
    """Whether an object is a manifest by its name: JSON Lines, CSV or Parquet, also in gzip, and no results of a batch."""
    return bool(format_of(key)) and not is_piece(key)


def is_piece(key: str) -> bool:
    """Whether an object is part of a batch's results by its name: to take it for a manifest would never end."""
    return _PIECE.search(key) is not None


def _is_column(value: object) -> bool:
    return type(value) is str or (type(value) is list and bool(value) and all(type(one) is str for one in value))
