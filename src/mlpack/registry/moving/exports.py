"""An exported registry as files: a directory, or a .tar of one.

    index.jsonl                    a header line, then one line for each row: releases, moves of aliases, collections, policies
    blobs/sha256/ab/abcdef...      every byte of every release, also of images in a container registry

Promises:
- An export with an index is whole.
- Every row and every byte that is read is verified, or the export is refused with a list of all problems.
- Of a .tar only blobs that were asked for by their digest are unpacked.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.core.files import plain_files, tars
from mlpack.core.files import temporary as held
from mlpack.errors import MlpackError, RecipeError, disk_of
from mlpack.registry import SCHEMA, Key, Put, Row, audit
from mlpack.registry.aliases import policies
from mlpack.registry.fields import BODY_BYTES, FieldError, Fields, parse
from mlpack.registry.records import Release
from mlpack.registry.releases.workplace import is_own_file
from mlpack.registry.rows import rows

INDEX = "index.jsonl"
_IN_AN_EXPORT = re.compile(r"index\.jsonl|blobs/sha256/[0-9a-f]{2}/[0-9a-f]{64}")
_FORMAT = 1
_COPY_BYTES = 1 << 20
_INDEX_BYTES = 1 << 29
"""100,000 releases of forty files each have this many bytes."""
_LINE_BYTES = 3 * BODY_BYTES
"""A move with its release is a text within a text within a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportIndex:
    """The content of an index. `collected`: the records of collections from the audit log."""

    registry: str
    releases: tuple[Release, ...] = ()
    moves: tuple[rows.Move, ...] = ()
    collected: tuple[tuple[Row, audit.AuditEntry], ...] = ()
    policies: tuple[policies.Policy, ...] = ()


def path_of(blob: Digest) -> str:
    """The path of a blob in an export."""
    return f"blobs/sha256/{blob.hex[:2]}/{blob.hex}"


# --- writing ----------------------------------------------------------------------------------------------------------


class ExportWriter:
    """A new export. `finish` completes it; before that it is a directory that can be resumed, or no file at all."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._written: set[Digest] = set()
        self._tar: tarfile.TarFile | None = None

    def __enter__(self) -> Self:
        out = self._out
        if (out / INDEX).exists() or (out.suffix == ".tar" and out.exists()) or (out.exists() and not out.is_dir()):
            raise RecipeError(f"{out}: already there; give another name, or remove it")
        if out.is_dir() and any(entry.name not in ("blobs", ".partial") for entry in out.iterdir()):
            raise RecipeError(f"{out}: not empty, and not an export that was interrupted; give another directory")
        folders = (out / "blobs", *out.glob("blobs/*"), *out.glob("blobs/*/*"))
        if link := next((path for path in folders if path.is_symlink()), None):
            raise RecipeError(f"{link}: a link, where an export that was interrupted has a folder; give another directory")
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".tar":
            self.scratch = self._stack.enter_context(held.directory("export", out.parent))
            self._tar = self._stack.enter_context(tarfile.open(self.scratch / "tar", "w", format=tarfile.PAX_FORMAT))
        else:
            self.scratch = out / ".partial"
            shutil.rmtree(self.scratch, ignore_errors=True)
            self.scratch.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
        if self._tar is None:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def has(self, blob: Digest) -> bool:
        """Whether the blob was written, now or by an export that was interrupted."""
        if self._tar is None:
            path = self._out / path_of(blob)
            return is_own_file(path) and digest.of_file(path) == blob
        with self._lock:
            return blob in self._written

    def blob(self, blob: Digest, fetch: Callable[[Path], object]) -> None:
        """Store the bytes that `fetch` writes to a path, which verifies them; `fetch` is not called for a blob that exists."""
        if self.has(blob):
            return
        if self._tar is None:
            path = self._out / path_of(blob)
            path.parent.mkdir(parents=True, exist_ok=True)
            fetch(path)
            return
        path = self.scratch / blob.hex
        fetch(path)
        with self._lock, path.open("rb") as stream:
            if blob not in self._written:
                self._written.add(blob)
                self._add(path_of(blob), stream, path.stat().st_size)
        path.unlink(missing_ok=True)

    def finish(self, where: str, puts: Iterable[Put]) -> None:
        """Write the index, which makes this an export."""
        lines = [_line(put) for put in puts]
        head = {"export": _FORMAT, "schema": SCHEMA, "registry": where, "rows": len(lines)}
        data = b"".join(digest.canonical_json(value) + b"\n" for value in (head, *lines))
        if self._tar is None:
            (self.scratch / INDEX).write_bytes(data)
            (self.scratch / INDEX).replace(self._out / INDEX)
            return
        self._add(INDEX, io.BytesIO(data), len(data))
        self._tar.close()
        (self.scratch / "tar").replace(self._out)

    def _add(self, name: str, stream: BinaryIO, size: int) -> None:
        assert self._tar is not None
        about = tarfile.TarInfo(name)
        about.size = size
        self._tar.addfile(about, stream)


def _line(put: Put) -> dict[str, Any]:
    row_fields = {"partition": put.key.partition, "sort": put.key.sort, "head": dict(put.head), "body": put.body.decode()}
    return row_fields | {"digest": str(digest.of_json(row_fields))}


# --- reading ----------------------------------------------------------------------------------------------------------


@contextmanager
def temporary() -> Iterator[Path]:
    """A temporary directory. FullDiskError names it when its disk is full."""
    with (
        disk_of(Path(tempfile.gettempdir()), "free some there, or set TMPDIR to a folder on a larger disk"),
        held.directory("import") as folder,
    ):
        yield folder


class ExportReader:
    """An export to read. RecipeError when it is none."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._files: dict[str, tuple[int, int]] | None = None

    def __enter__(self) -> Self:
        if not self.source.is_dir():
            try:
                if not tars.is_tar(self.source):
                    raise RecipeError(f"{self.source}: neither a directory nor a .tar that is not compressed")
                with self.source.open("rb") as stream:
                    self._files = tars.index(stream, lambda path: _IN_AN_EXPORT.fullmatch(path) is not None, tars.MAX_MEMBERS)
            except FileNotFoundError as error:
                raise RecipeError(f"{self.source}: no such directory or file") from error
            except tars.TarError as error:
                raise RecipeError(f"{self.source}: damaged: {error}; copy it again") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._files = None

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open a file of it. FileNotFoundError when it does not exist."""
        if self._files is None:
            with plain_files.opened(self.source, path) as stream:
                yield stream
            return
        if path not in self._files:
            raise FileNotFoundError(path)
        with io.BufferedReader(tars.Slice(self.source.open("rb"), *self._files[path]), _COPY_BYTES) as stream:
            yield stream

    def problem(self, blob: Digest) -> str | None:
        """The fault of a blob, which is read in full; None when it is whole."""
        try:
            with self.open(path_of(blob)) as stream:
                actual = digest.of_stream(stream)
        except FileNotFoundError:
            return "missing"
        except RecipeError as error:
            return f"damaged: {error}"
        return None if actual == blob else f"damaged: its bytes have the digest {actual}"

    @contextmanager
    def file(self, blob: Digest) -> Iterator[Path]:
        """A blob as a file, within this context."""
        if self._files is None:
            yield self.source / path_of(blob)
            return
        with temporary() as folder:
            path = folder / blob.hex
            with self.open(path_of(blob)) as stream, path.open("xb") as copy:
                shutil.copyfileobj(stream, copy, _COPY_BYTES)
            yield path


def read_export(reader: ExportReader) -> ExportIndex:
    """The index, with every row verified. RecipeError that lists all faults."""
    what = f"{reader.source}/{INDEX}"
    try:
        with reader.open(INDEX) as stream:
            data = stream.read(_INDEX_BYTES + 1)
        if len(data) > _INDEX_BYTES:
            raise RecipeError(f"{what}: larger than {_INDEX_BYTES:,} bytes: export fewer models at once")
        first, *lines = data.splitlines() or [b""]
        head = Fields(parse(first), "its first line")
        count, registry = head.whole("rows"), head.label("registry")
        if head.raw("export") != _FORMAT or head.whole("schema", 1) > SCHEMA:
            raise RecipeError(f"{what}: written by a newer mlpack; update mlpack")
    except FileNotFoundError as error:
        raise RecipeError(f"{reader.source}: not an export, or one that was interrupted: it has no {INDEX}") from error
    except FieldError as error:
        raise RecipeError(f"{what}: not the index of an export: {error}") from error
    if len(lines) != count:
        raise RecipeError(f"{what}: has {len(lines)} rows instead of {count}; copy the export again")
    table = _Rows(where=what)
    for number, line in enumerate(lines, start=2):
        try:
            table.add(_row(line))
        except (MlpackError, FieldError) as error:
            table.problems.append(f"{what}:{number}: damaged: {error}; export again")
    if table.problems:
        raise RecipeError(*table.problems)
    return ExportIndex(
        registry=registry,
        releases=tuple(sorted(table.releases, key=lambda release: (release.name, release.version))),
        moves=tuple(sorted(table.moves, key=lambda move: (move.name, move.alias, move.revision))),
        collected=tuple(table.collected),
        policies=tuple(table.policies),
    )


@dataclass
class _Rows:
    where: str
    releases: list[Release] = field(default_factory=list)
    moves: list[rows.Move] = field(default_factory=list)
    collected: list[tuple[Row, audit.AuditEntry]] = field(default_factory=list)
    policies: list[policies.Policy] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _seen: set[Key] = field(default_factory=set)

    def add(self, row: Row) -> None:
        """Add a row. FieldError or DamagedError for one that an export does not write."""
        if row.key in self._seen:
            raise FieldError(f"{row.key} is there twice")
        self._seen.add(row.key)
        partition = row.key.partition
        if partition == rows.AUDIT:
            entry = audit.decode(row, self.where)
            if entry.what != audit.COLLECTED or entry.images or row.body:
                raise FieldError(f"{row.key} is no record of a collection, and no other comes with an export")
            self.collected.append((row, entry))
        elif partition == rows.POLICIES:
            self.policies.append(policies.decode(row, self.where))
        elif partition.endswith("/releases"):
            self.releases.append(rows.decode(row, self.where))
        elif partition.startswith("name/") and "/alias/" in partition:
            move = rows.decode_move(row, self.where)
            move.target(self.where)
            self.moves.append(move)
        else:
            raise FieldError(f"{row.key} is of no kind that comes with an export")


def _row(line: bytes) -> Row:
    value = parse(line, _LINE_BYTES, texts=_LINE_BYTES)
    fields = Fields(value, "the row")
    text = str(fields.digest("digest"))
    if str(digest.of_json({key: each for key, each in value.items() if key != "digest"})) != text:
        raise FieldError("its digest is another one")
    key = Key(fields.text("partition"), fields.text("sort"))
    return Row(key=key, head=fields.inside("head"), body=fields.text("body", _LINE_BYTES).encode())
