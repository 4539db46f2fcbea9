"""A manifest as its records: JSON Lines, CSV or Parquet, told by its name and its first bytes.

Promises: a record that is wrong is told as such, and the next one is read; a record has at most `most` bytes; memory does not
depend on the manifest's size. A manifest that is wrong as a whole (UTF-16, one JSON array, no header) is a BatchError.
Will not: know what a request is.
"""

from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.batch.reading.lines import lines
from mlpack_runtime.batch.reading.records import FORMATS, Record, format_of
from mlpack_runtime.batch.reading.unzipped import MAGIC, unzipped
from mlpack_runtime.limits import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from mlpack_runtime.batch.reading.plans import Part, Planner
    from mlpack_runtime.batch.reading.sources import Source

    class Manifest(Protocol):
        """Records of one manifest. `columns`: the names of a table's, None for JSON Lines; `most`: bytes that a record may have, by
        which it is known where a record ends whose quote is never closed. All raise BatchError."""

        most: int

        @property
        def columns(self) -> "list[str] | None":
            """As told above."""

        def plan(self, planner: Planner, going: Callable[[], bool]) -> "list[list[int]] | None":
            """The parts; None where `going` says that there is no time for all of it."""

        def records(self, part: Part) -> "Iterator[Record]":
            """Those of a part."""

        def close(self) -> None:
            """Let go of what is open."""


PARQUET = b"PAR1"
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_OTHERS = (
    (b"PK\x03\x04", "a zip, which files of Excel are too: save the table as CSV, or unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: of compressed manifests those in gzip are read"),
    (b"BZh", "compressed with bzip2: of compressed manifests those in gzip are read"),
    (b"\xfd7zXZ", "compressed with xz: of compressed manifests those in gzip are read"),
    (b"Obj\x01", "Avro: write it as Parquet or JSON Lines"),
    (b"ORC", "ORC: write it as Parquet or JSON Lines"),
    (b"ARROW1", "Arrow's own format: write it as Parquet"),
)
"""What other files begin with, and what they are."""
_DELIMITERS = (",", ";", "\t")
_LOOK = 1000
"""Records between two looks at the clock while a plan is made."""


def open_manifest(source: "Source", kind: str, most: int) -> "Manifest":
    """`kind`: of FORMATS, "" to find out; `most`: bytes of a record. Raises BatchError."""
    if kind not in ("", *FORMATS):
        raise BatchError(f"the format {quoted(kind)} is none of {', '.join(FORMATS)}")
    first = next(iter(source.chunks(0)), b"")
    if kind == "parquet" or (not kind and first.startswith(PARQUET)):
        from mlpack_runtime.batch.reading.parquet import ParquetManifest

        return ParquetManifest(source)
    other = next((what for mark, what in _OTHERS if first.startswith(mark)), "")
    if other:
        raise BatchError(f"{source.uri} is {other}")
    packed = first.startswith(MAGIC)
    if packed:
        first = next(unzipped(source.chunks(0), source.uri), b"")
    if first.startswith(PARQUET):
        raise BatchError(
            f"{source.uri} is Parquet in gzip, which cannot be read from its end: unpack it (Parquet is compressed in itself)"
        )
    if first.startswith(_UTF16):
        raise BatchError(f"{source.uri} is UTF-16, as some programs for tables write it: save it as UTF-8")
    kind = kind or format_of(source.uri)
    text = first.removeprefix(_BOM).lstrip()
    if kind != "csv" and text.startswith(b"["):
        raise BatchError(f"{source.uri} is a JSON array: a manifest has one request a line (jq -c '.[]' {source.uri})")
    if kind != "csv" and text.partition(b"\n")[0].strip() == b"{":
        raise BatchError(
            f"{source.uri} has a JSON value over several lines: a manifest has one request a line (jq -c . {source.uri})"
        )
    if not kind and text and not text.startswith(b"{"):
        raise BatchError(f"{source.uri} is neither JSON Lines nor Parquet, and its name does not end as CSV's does: say its format")
    start = len(_BOM) if first.startswith(_BOM) else 0
    if kind == "csv":
        return CsvManifest(source, packed=packed, start=start, most=most)
    return LinesManifest(source, packed=packed, start=start, most=most)


class _Text:
    """What texts share: chunks from an offset of what they were before gzip, and records that go on where the last ones ended."""

    def __init__(self, source: "Source", *, packed: bool, start: int, most: int) -> None:
        self._source = source
        self._packed = packed
        self._start = start
        self.most = most
        self._head_lines = 0
        self._next = -1  # the item with which the open records go on
        self._open: Iterator[tuple[Record, int, int]] | None = None

    def plan(self, planner: "Planner", going: "Callable[[], bool]") -> "list[list[int]] | None":
        """All of it is read once, from where an earlier planner came to."""
        offset, line = planner.begin or (self._start, self._head_lines)
        for record, begin, end in self._read(offset, planner.total, line):
            planner.add(begin, end, record.line - 1)
            if record.number % _LOOK == _LOOK - 1:
                planner.begin = end, self._line_after(record)
                planner.save()
                if not going():
                    return None
        self._source.check()
        return planner.parts()

    def records(self, part: "Part") -> "Iterator[Record]":
        """Those of a part; what comes after another is not looked for again."""
        if self._next != part.first or self._open is None:
            self._open = self._read(part.offset, part.first, part.line)
        self._next = -1
        for _ in range(part.items):
            record, _, _ = next(self._open, (None, 0, 0))
            if record is None:
                raise BatchError(f"{self._source.uri} ends before item {part.first + part.items - 1}: it was cut off meanwhile", 4)
            yield record
        self._next = part.first + part.items

    def close(self) -> None:
        """Nothing is read any more."""
        self._open = None

    def _read(self, offset: int, number: int, line: int) -> "Iterator[tuple[Record, int, int]]":
        raise NotImplementedError

    def _line_after(self, record: Record) -> int:
        """How many lines there are to the end of a record that was just read."""
        return record.line

    def _lines(self, offset: int) -> "Iterator[tuple[bytes | None, int, int]]":
        if not self._packed:
            return lines(self._source.chunks(offset), offset, self.most)
        return lines(_skipped(unzipped(self._source.chunks(0), self._source.uri), offset), offset, self.most)

    @property
    def _too_long(self) -> str:
        return f"the record has more than {self.most} bytes (MLPACK_LIMIT_BODY_BYTES)"


class LinesManifest(_Text):
    """JSON Lines: a value each. Empty lines are none."""

    columns: "list[str] | None" = None

    def _read(self, offset: int, number: int, line: int) -> "Iterator[tuple[Record, int, int]]":
        for text, begin, end in self._lines(offset):
            line += 1
            if text is None:
                yield Record(number, line, None, self._too_long), begin, end
            elif text.strip():
                yield Record(number, line, text), begin, end
            else:
                continue
            number += 1


class CsvManifest(_Text):
    """CSV with a line of names: RFC 4180, between commas, semicolons or tabs, whichever the first line has. Cells in quotes may
    have line breaks."""

    def __init__(self, source: "Source", *, packed: bool, start: int, most: int) -> None:
        super().__init__(source, packed=packed, start=start, most=most)
        self.columns: list[str] = []
        self._lines_taken = 0
        self._delimiter = ","
        first = next(self._lines(start), (b"", 0, 0))[0]
        if first is None:
            raise BatchError(f"{source.uri}: the first line has more than {most} bytes; CSV begins with the names of its columns")
        if b"\r" in first:
            raise BatchError(f"{source.uri}: its lines end with CR alone, as old Macs wrote them: save it with LF or CR LF")
        counts = {mark: first.count(mark.encode()) for mark in _DELIMITERS}
        self._delimiter = max(_DELIMITERS, key=lambda mark: counts[mark]) if any(counts.values()) else ","
        head = next(self._rows(start, 0, 0), None)
        if head is None:
            return  # nothing at all: no items
        record, _, self._start = head
        if record.problem:
            raise BatchError(f"{source.uri}: its first line is no line of names: {record.problem}")
        assert isinstance(record.value, list)
        self.columns = [str(name).strip() for name in record.value]
        odd = next((name for name in self.columns if '"' in name), None)
        if odd is not None:
            raise BatchError(
                f"{source.uri} has a column {quoted(odd)}: a space before a quote makes it part of the name. Leave it out"
            )
        twice = next((name for at, name in enumerate(self.columns) if name in self.columns[:at]), None)
        if twice is not None:
            raise BatchError(f"{source.uri} has two columns {quoted(twice)}: give each a name of its own")
        self._head_lines = self._lines_taken

    def _read(self, offset: int, number: int, line: int) -> "Iterator[tuple[Record, int, int]]":
        for record, begin, end in self._rows(offset, number, line):
            cells = record.value
            if isinstance(cells, list) and len(cells) != len(self.columns):
                record.problem = f"the row has {len(cells)} cells, the first line {len(self.columns)}"
                record.value = None
            yield record, begin, end

    def _line_after(self, record: Record) -> int:  # noqa: ARG002  (it may have had several)
        return self._lines_taken

    def _rows(self, offset: int, number: int, line: int) -> "Iterator[tuple[Record, int, int]]":
        import csv

        csv.field_size_limit(max(csv.field_size_limit(), self.most))
        feed = _Feed(self._lines(offset), line, self.most)
        rows = csv.reader(feed, delimiter=self._delimiter, strict=False)
        while True:
            feed.begin_record()
            problem, cells = "", None
            try:
                cells = next(rows)
            except StopIteration:
                return
            except _LongError:
                problem = f"{self._too_long}; is a quote not closed?" if feed.lines_taken > 1 else self._too_long
            except csv.Error as error:
                problem = f"not CSV: {error}"
            self._lines_taken = feed.line
            if cells == []:
                continue
            if feed.damaged and not problem:
                problem, cells = "not UTF-8", None
            yield Record(number, feed.first_line, cells, problem), feed.begin, feed.end
            number += 1


class _LongError(Exception):
    """A record is longer than it may be."""


class _Feed:
    """Lines for Python's reader of CSV, which takes no more of them than its row has. What it took: `begin` to `end`, from line
    `first_line` on."""

    def __init__(self, source: "Iterator[tuple[bytes | None, int, int]]", line: int, most: int) -> None:
        self._source = source
        self._most = most
        self.line = line
        self.begin_record()

    def begin_record(self) -> None:
        """The next line is a record's first."""
        self.begin, self.end, self.first_line, self.lines_taken, self.damaged = -1, 0, 0, 0, False

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        raw, begin, self.end = next(self._source)
        self.line += 1
        self.lines_taken += 1
        if self.begin < 0:
            self.begin, self.first_line = begin, self.line
        if raw is None or self.end - self.begin > self._most + 2:
            raise _LongError
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            self.damaged = True
            text = raw.decode("utf-8", "replace")
        if "\0" in text:
            self.damaged = True
            text = text.replace("\0", "?")
        return text + "\n"


def _skipped(chunks: "Iterator[bytes]", size: int) -> "Iterator[bytes]":
    """What comes after the first `size` bytes."""
    for chunk in chunks:
        if size < len(chunk):
            yield chunk[size:] if size else chunk
        size = max(0, size - len(chunk))
