"""A manifest in Parquet, through pyarrow, where that is there: no package has it by itself.

Promises: rows are read a batch at a time, and of the columns' pages no more than a row group; a cell that Python has no value for
is its text, else its item's problem. Will not: be imported unless a manifest is Parquet.
"""

from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.batch.reading.plans import even
from mlpack_runtime.batch.reading.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from mlpack_runtime.batch.reading.plans import Part, Planner
    from mlpack_runtime.batch.reading.sources import Source

_ROWS = 256


class ParquetManifest:
    """Rows of a file; the cells are Python's values."""

    def __init__(self, source: "Source") -> None:
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise BatchError(
                f"{source.uri} is Parquet, which pyarrow reads, and that is not here ({error}): install it (the extra `parquet` of"
                " mlpack-build; in a function a layer that has it), or write the manifest as JSON Lines or CSV"
            ) from None
        self._source = source
        self.most = 0  # rows are what they are
        self._stream = source.opened()
        try:
            self._file = parquet.ParquetFile(self._stream)
        except BatchError:
            self.close()
            raise
        except Exception as error:  # noqa: BLE001  (pyarrow's own are of many kinds)
            self.close()
            raise BatchError(f"{source.uri} is no Parquet: {error}") from None
        self.columns: list[str] | None = list(self._file.schema_arrow.names)
        self._next = -1
        self._open: Iterator[list[Any] | str] | None = None

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()

    def plan(self, planner: "Planner", going: "Callable[[], bool]") -> "list[list[int]] | None":  # noqa: ARG002  (nothing is read)
        """By its own count of rows."""
        return even(self._file.metadata.num_rows, planner.items)

    def records(self, part: "Part") -> "Iterator[Record]":
        """Those of a part; what comes after another is not looked for again."""
        if self._next != part.first or self._open is None:
            self._open = self._rows(part.offset)
        self._next = -1
        for number in range(part.first, part.first + part.items):
            cells = next(self._open, None)
            if cells is None:
                raise BatchError(f"{self._source.uri} ends before item {part.first + part.items - 1}: it has changed")
            if isinstance(cells, str):
                yield Record(number, number + 1, None, cells)
            else:
                yield Record(number, number + 1, cells)
        self._next = part.first + part.items

    def _rows(self, first: int) -> "Iterator[list[Any] | str]":
        """From that row on; groups before it are not read."""
        metadata, skipped = self._file.metadata, first
        groups: list[int] = []
        for group in range(metadata.num_row_groups):
            size = metadata.row_group(group).num_rows
            if not groups and skipped >= size:
                skipped -= size
            else:
                groups.append(group)
        try:
            for group in groups:
                for batch in self._file.iter_batches(batch_size=_ROWS, row_groups=[group]):
                    rows = _cells(batch)
                    yield from rows[skipped:] if skipped else rows
                    skipped = max(0, skipped - len(rows))
        except BatchError:
            raise
        except Exception as error:  # noqa: BLE001  (a codec that is not there, a page that is damaged: of many kinds)
            status = 4 if isinstance(error, OSError) else 2
            raise BatchError(f"{self._source.uri} cannot be read: {type(error).__name__}: {error}", status) from None


def _cells(batch: "Any") -> "list[list[Any] | str]":
    """The rows of a batch; a text for one that Python has no values for."""
    try:
        return [list(row) for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]
    except Exception:  # noqa: BLE001  (one cell is enough: a time of nanoseconds, a year 12000, a zone that nobody knows here)
        return [_row(batch, at) for at in range(batch.num_rows)]


def _row(batch: "Any", at: int) -> "list[Any] | str":
    cells = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            cells.append(_value(column[at]))
        except Exception as error:  # noqa: BLE001  (as above)
            return f"the column {name!r} holds a {column.type} that cannot be read: {error}"
    return cells


def _value(cell: "Any") -> "Any":
    """A cell; as text where Python has no such value."""
    try:
        return cell.as_py()
    except Exception:  # noqa: BLE001  (as above)
        text = cell.cast("string").as_py()
    if text.startswith("<value out of range"):  # pyarrow's own word for it
        raise ValueError(text.strip("<>"))
    return text
