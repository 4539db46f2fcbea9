"""Reads what a foreign layer holds: the paths, kinds and link targets of its entries, in bounded memory.

Promises:
- Everything that `tars` promises of any tar.
- A path that leaves the image is refused.
- What is remembered of all entries stays in proportion to the bytes of the layer (`MemoryBudget`).

Will not: extract anything.

Source: OCI image-spec 1.1 `layer.md` (which forbids sparse files).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal

from mlpack.core.files import tars
from mlpack.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlpack.core.digest import Digest
    from mlpack.oci.compression import InflatedTar

Kind = Literal["dir", "file", "link"]

_BUFFER_BYTES = 1 << 20
_ENTRY_BYTES = 200
"""The memory of an entry beside its path and link target: two strings and a tuple."""


class MemoryBudget:
    """The memory that reading an image may use, and how much of it is used.

    A few kilobytes of gzip can hold gigabytes of paths. Entries of real layers take less memory than their compressed bytes
    (Debian's: 0.1 to 0.3 of them; empty files and links alone: 8 times), so 32 times is far above any. Small layers get 24 MiB
    in any case.
    """

    FLOOR_BYTES = 24 << 20
    TIMES = 32

    def __init__(self, sent_bytes: int) -> None:
        self._left = self.limit_bytes = self.FLOOR_BYTES + self.TIMES * sent_bytes

    def spend(self, size_bytes: int) -> None:
        """Use this much memory. PackError when less is left."""
        self._left -= size_bytes
        if self._left < 0:
            raise _damaged(
                f"its paths take more than {self.limit_bytes >> 20} MiB of memory, {self.TIMES} times the bytes that were sent "
                f"and {self.FLOOR_BYTES >> 20} MiB"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """The result of reading a layer once. `entries` are (path, kind, link target), in the order of the archive."""

    diff_id: Digest
    uncompressed_bytes: int
    entries: tuple[tuple[str, Kind, str], ...]


def read(inflated: InflatedTar, sent_bytes: int = 0) -> Index:
    """The content of the tar, which is read to its end; `sent_bytes`: the size of the stored layer. PackError when it is damaged,
    sparse or hostile."""
    stream: BinaryIO = io.BufferedReader(inflated, _BUFFER_BYTES)
    entries = tuple(_entries(stream, MemoryBudget(sent_bytes)))
    while rest := stream.read(_BUFFER_BYTES):
        if rest.strip(b"\0"):
            raise _damaged("there is more after its end")
    return Index(diff_id=inflated.tally.digest(), uncompressed_bytes=inflated.tally.size_bytes, entries=entries)


def members(inflated: InflatedTar) -> Iterator[tuple[tars.TarMember, BinaryIO]]:
    """The members of a layer, and the content of each, to be read before the next one. PackError as of `read`."""
    tar = tars.Tar(io.BufferedReader(inflated, _BUFFER_BYTES))
    try:
        for member in tar:
            yield member, tar.content(_damaged)
    except tars.TarError as error:
        raise _damaged(str(error)) from None


def clean_path(path: str) -> str:
    """The path below the image's root, without `./` and slashes around it. PackError when it leaves the image."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    try:
        tars.check_path(path)
        tars.check_names(path, parts)
    except tars.TarError as error:
        raise _damaged(str(error)) from None
    if ".." in parts:
        raise PackError(f"a layer has the path {path!r:.200}, which leaves the image: damaged or hostile")
    return "/".join(parts)


def _entries(stream: BinaryIO, allowance: MemoryBudget) -> Iterator[tuple[str, Kind, str]]:
    try:
        for member in tars.Tar(stream):
            if path := clean_path(member.path):
                kind: Kind = "dir" if member.kind == "dir" else "link" if member.kind == "link" else "file"
                target = member.target if kind == "link" else ""
                allowance.spend(_ENTRY_BYTES + len(path) + len(target))
                yield path, kind, target
    except tars.TarError as error:
        raise _damaged(str(error)) from None


def _damaged(why: str) -> PackError:
    return PackError(f"a layer is not a sound tar archive: {why}; it is damaged or hostile. Choose another base image")
