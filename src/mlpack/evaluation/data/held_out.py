"""Holds out a share of recorded calls, chosen by their content.

Promises:
- Which samples are held out depends only on their content and on how many samples there are, not on their order.
- Every sample is on one side, and equal samples are on the same side.
- A call stays whole, unless there are too few calls to choose from and its rows are samples.

Will not: read a model or judge anything.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.records import Signature
from mlpack.evaluation.data import calls

_SEED = b"mlpack held out 1\0"
"""Another seed would choose other samples."""
_FEW_OF_A_LABEL = 10
"""A label with more samples has enough of them on each side."""
_WHOLE_CALLS = 10
"""With fewer groups of calls than this, calls are cut into their samples where they can be."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A call, or the rows of it that are on one side; `samples` are the numbers of their samples in the whole."""

    call: int
    rows: tuple[int, ...] | None
    samples: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Both sides, each in the order of the data."""

    held: tuple[Piece, ...]
    rest: tuple[Piece, ...]

    @property
    def held_samples(self) -> int:
        """The number of samples that are held out."""
        return sum(len(piece.samples) for piece in self.held)

    @property
    def samples(self) -> int:
        """The number of samples."""
        return self.held_samples + sum(len(piece.samples) for piece in self.rest)


def split(folder: Path, signature: Signature, share: float, *, by_label: bool) -> Split:
    """The calls in `folder`, with about `share` of their samples held out (below 1 a share, from 1 on their number), and never all.

    `by_label`: samples of one label stay together, as a query and its answer must, unless there are many of them: a class can be
    divided. Nothing is held out where that is impossible.
    """
    listed = _read(folder, "calls.json")
    names: list[str] = _read(folder, "samples.json")
    labels: list[Any] | None = _read(folder, "labels.json")
    together = _together(labels) if labels is not None and (by_label or _pairs(listed, labels)) else None
    groups = _groups(_pieces(listed), names, together)
    if len(groups) < _WHOLE_CALLS:
        groups = _groups(_pieces(listed, signature), names, together)
    chosen = _chosen(groups, names, share if share >= 1 else max(1, round(share * len(names))))
    pieces = tuple(sorted((piece for piece in chosen), key=lambda piece: piece.samples))
    rest = tuple(sorted({piece for group in groups for piece in group} - set(pieces), key=lambda piece: piece.samples))
    return Split(held=_joined(pieces), rest=_joined(rest))


def write(folder: Path, pieces: Sequence[Piece], out_dir: Path) -> None:
    """Writes these calls of `folder` as calls of their own, with their labels."""
    listed = _read(folder, "calls.json")
    names, labels = _read(folder, "samples.json"), _read(folder, "labels.json")
    records, offset = [], 0
    with (folder / "calls.bin").open("rb") as stream, (out_dir / "calls.bin").open("wb") as out:
        for piece in pieces:
            call = listed[piece.call]
            for row in call.get("inputs", {}).values():
                stream.seek(row["offset"])
                data = stream.read(row["size"])
                if piece.rows is not None:
                    data = _rows(data, row, piece.rows)
                    row["shape"] = [len(piece.rows), *row["shape"][1:]]
                row["offset"], row["size"] = offset, len(data)
                offset += out.write(data)
            if piece.rows is not None and "texts" in call:
                call["texts"] = [call["texts"][number] for number in piece.rows]
            records.append({**call, "samples": len(piece.samples)})
    order = [number for piece in pieces for number in piece.samples]
    parts = {"labels": None if labels is None else [labels[number] for number in order], "samples": [names[n] for n in order]}
    for name, value in (*parts.items(), ("calls", records)):
        (out_dir / f"{name}.json").write_bytes(digest.canonical_json(value))


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_bytes())


def _pairs(listed: Sequence[Mapping[str, Any]], labels: Sequence[Any]) -> bool:
    """Whether these are queries followed by their documents, as `sources` labels them."""
    half = len(labels) // 2
    return all("texts" in call for call in listed) and list(labels) == [*range(half), *range(half)]


def _together(labels: Sequence[Any]) -> list[str | None]:
    """The label that each sample shares with a few others; None where it shares none."""
    texts = [json.dumps(label) for label in labels]
    counted = Counter(texts)
    return [label if counted[label] <= _FEW_OF_A_LABEL else None for label in texts]


def _pieces(listed: Sequence[Mapping[str, Any]], signature: Signature | None = None) -> Iterator[Piece]:
    """Every call; with a signature, calls that can be cut are cut into rows."""
    first = 0
    for number, call in enumerate(listed):
        count = int(call["samples"])
        if signature is not None and count > 1 and _cuttable(call, count, signature):
            yield from (Piece(number, (row,), (first + row,)) for row in range(count))
        else:
            yield Piece(number, None, tuple(range(first, first + count)))
        first += count


def _cuttable(call: Mapping[str, Any], count: int, signature: Signature) -> bool:
    """Whether each sample is a row of every input, and the model takes any number of rows."""
    if "texts" in call:
        return True
    open_ = {spec.name: bool(spec.shape) and isinstance(spec.shape[0], str) for spec in signature.inputs}
    return all(open_.get(name, False) and row["shape"][:1] == [count] for name, row in call["inputs"].items())


def _groups(pieces: Iterator[Piece], names: Sequence[str], together: Sequence[str | None] | None) -> list[list[Piece]]:
    """Groups of pieces that share a sample's content (or a label, where given)."""
    root: dict[tuple[str, str] | Piece, tuple[str, str] | Piece] = {}

    def find(one: tuple[str, str] | Piece) -> tuple[str, str] | Piece:
        root.setdefault(one, one)
        while root[one] != one:
            root[one] = one = root[root[one]]
        return one

    listed = list(pieces)
    for piece in listed:
        for number in piece.samples:
            root[find(("name", names[number]))] = find(piece)
            if together is not None and (label := together[number]) is not None:
                root[find(("label", label))] = find(piece)
    groups: dict[tuple[str, str] | Piece, list[Piece]] = {}
    for piece in listed:
        groups.setdefault(find(piece), []).append(piece)
    return list(groups.values())


def _chosen(groups: Sequence[Sequence[Piece]], names: Sequence[str], share: float) -> list[Piece]:
    """Groups in the order of their content's digests, as long as they fit; at least one is not chosen."""

    def place(group: Sequence[Piece]) -> str:
        return min(hashlib.sha256(_SEED + names[n].encode()).hexdigest() for piece in group for n in piece.samples)

    chosen: list[Piece] = []
    held_samples = count = 0
    for group in sorted(groups, key=place):
        size = sum(len(piece.samples) for piece in group)
        if held_samples + size <= share and count < len(groups) - 1:
            chosen += group
            held_samples, count = held_samples + size, count + 1
    return chosen


def _joined(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Rows of one call as one piece."""
    joined: list[Piece] = []
    for piece in pieces:
        before = joined[-1] if joined else None
        if before is not None and before.call == piece.call and before.rows is not None and piece.rows is not None:
            joined[-1] = Piece(piece.call, before.rows + piece.rows, before.samples + piece.samples)
        else:
            joined.append(piece)
    return tuple(joined)


def _rows(data: bytes, row: Mapping[str, Any], chosen: Sequence[int]) -> bytes:
    """These rows of a tensor's bytes."""
    if row["datatype"] == "BYTES":
        return calls.to_bytes(calls.from_bytes(data, "BYTES", row["shape"])[list(chosen)])
    size = len(data) // int(row["shape"][0])
    return b"".join(data[number * size : (number + 1) * size] for number in chosen)
