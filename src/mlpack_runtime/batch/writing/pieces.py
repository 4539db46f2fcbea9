"""The results of a part: a chain of pieces, each written once, of which the next begins where the one before ended.

    results/part-00012-000.jsonl     a line an item, in the manifest's order:
        {"item": 7, "id": "a", "status": 200, "answer": ...}
        {"item": 8, "id": null, "status": 400, "type": "InvalidRequest", "error": "...", "line": 9}
    errors/part-00012-000.jsonl      of a piece with errors, these lines again

Promises: whoever works on a part at the same time, and whenever one of them is killed, each item of it has one line in one piece:
a piece is written on the condition that there is none of its number, and only the one that is there says where the next begins.
So a piece is the checkpoint. Will not: answer.
"""

from hashlib import sha256

from mlpack_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mlpack_runtime.batch.reading.plans import Part
    from mlpack_runtime.batch.writing.folders import Folder

RESULTS, ERRORS = "results", "errors"
ERROR_CHARS = 500
_STATUS = b',"status":'


class Line:
    """An item's line. `failed`: it is an error's."""

    __slots__ = ("data", "failed")

    def __init__(self, data: bytes, *, failed: bool) -> None:
        self.data = data
        self.failed = failed


class Piece:
    """What is known of a piece that is there: its number, first item, number of items and of errors, bytes and digest."""

    __slots__ = ("failed", "first", "items", "number", "sha256", "size")

    def __init__(self, number: int, note: "dict[str, str]") -> None:
        self.number = number
        self.first = int(note["first"])
        self.items = int(note["items"])
        self.failed = int(note["failed"])
        self.size = int(note["size"])
        self.sha256 = note["sha256"]


class Chain:
    """The pieces of a part, as far as they are there."""

    def __init__(self, folder: "Folder", part: "Part") -> None:
        self._folder = folder
        self.part = part
        self.pieces: list[Piece] = []

    def read(self) -> None:
        """Look for pieces after those that are known. Raises BatchError."""
        while not self.is_whole:
            note = self._folder.note(self._name(RESULTS, len(self.pieces)))
            if note is None:
                return
            self.pieces.append(Piece(len(self.pieces), note))

    @property
    def done(self) -> int:
        """Items of the part that have a result."""
        return sum(piece.items for piece in self.pieces)

    @property
    def is_whole(self) -> bool:
        """Whether all have."""
        return self.done >= self.part.items

    def add(self, lines: "list[Line]") -> bool:
        """Write the next items' lines as the next piece; False where somebody else has written it. Raises BatchError."""
        number, data = len(self.pieces), b"".join(line.data for line in lines)
        note = _note(data, self.part.first + self.done, len(lines), sum(line.failed for line in lines))
        if not self._folder.put_new(self._name(RESULTS, number), data, note):
            return False
        piece = Piece(number, note)
        if piece.failed:
            self._folder.put_new(self._name(ERRORS, number), b"".join(line.data for line in lines if line.failed))
        self.pieces.append(piece)
        return True

    def list_errors(self) -> None:
        """Write the errors of pieces whose writer was killed before it did. Raises BatchError."""
        there: set[str] | None = None
        for piece in self.pieces:
            name = self._name(ERRORS, piece.number)
            if not piece.failed:
                continue
            if there is None:
                there = set(self._folder.names(f"{ERRORS}/{self.part.name}-"))
            if name not in there:
                held = self._folder.read(self._name(RESULTS, piece.number))
                assert held is not None
                self._folder.put_new(name, b"".join(line + b"\n" for line in held[0].splitlines() if is_error(line)))

    def rows(self) -> "list[dict[str, Any]]":
        """The pieces as the record of a finished part has them."""
        return [
            {
                "name": self._name(RESULTS, piece.number),
                "first": piece.first,
                "items": piece.items,
                "failed": piece.failed,
                "bytes": piece.size,
                "sha256": piece.sha256,
            }
            for piece in self.pieces
        ]

    def _name(self, folder: str, number: int) -> str:
        return f"{folder}/{self.part.name}-{number:03}.jsonl"


def _note(data: bytes, first: int, items: int, failed: int) -> "dict[str, str]":
    told = {"first": first, "items": items, "failed": failed, "size": len(data)}
    return {**{name: str(value) for name, value in told.items()}, "sha256": sha256(data).hexdigest()}


def note_of(data: bytes) -> "dict[str, str]":
    """What a file of results says of itself."""
    rows = data.splitlines()
    return _note(data, jsontext.loads(rows[0])["item"] if rows else 0, len(rows), sum(map(is_error, rows)))


def is_error(line: bytes) -> bool:
    """Whether a line is an error's. Its status is the first thing of that name: in an id, quotes have a backslash before them."""
    return int(line[line.index(_STATUS) + len(_STATUS) :][:3]) >= 400


def head(number: int, identifier: "str | int | None", status: int) -> str:
    """How a line begins, without its end."""
    return f'{{"item":{number},"id":{jsontext.dumps(identifier)},"status":{status}'
