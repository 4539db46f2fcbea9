"""A manifest in Parquet, through pyarrow, where that is there: no package has it by itself.

Promises: rows are read a batch at a time, and of the columns' pages no more than a row group. Will not: be imported unless a
manifest is Parquet.
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
        except (OSError, ValueError) as error:  # pyarrow's own errors are these
            self.close()
            raise BatchError(f"{source.uri} is no Parquet: {error}") from None
        self.columns: list[str] | None = list(self._file.schema_arrow.names)
        self._next = -1
        self._open: Iterator[list[Any]] | None = None

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
            yield Record(number, number + 1, cells)
        self._next = part.first + part.items

    def _rows(self, first: int) -> "Iterator[list[Any]]":
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
                    columns = [column.to_pylist() for column in batch.columns]
                    rows = [list(row) for row in zip(*columns, strict=True)]
                    yield from rows[skipped:] if skipped else rows
                    skipped = max(0, skipped - len(rows))
        except (OSError, ValueError) as error:
            raise BatchError(f"{self._source.uri} cannot be read: {error}", 4) from None
