"""Digests of content: bytes, canonical JSON, files and trees of files.

Promises:
- Equal content has equal digests on every machine: no clock, owner, path or order of keys has an influence.
- A digest is a type of its own, never a bare string.

Will not: know models, stores or images.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_FORM = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """`sha256:` and 64 lower-case hex digits. Raises ValueError on any other form."""

    text: str

    def __post_init__(self) -> None:
        if not _FORM.fullmatch(self.text):
            raise ValueError(f"not a sha256 digest: {self.text!r}")

    @property
    def hex(self) -> str:
        """The 64 digits without the algorithm."""
        return self.text[7:]

    @property
    def short(self) -> str:
        """Twelve digits, for people; never a key."""
        return self.text[7:19]

    def __str__(self) -> str:
        return self.text


def of_bytes(data: bytes | bytearray | memoryview) -> Digest:
    """The digest of these bytes."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def of_stream(stream: BinaryIO) -> Digest:
    """The digest of what is left of `stream`, read to its end."""
    state = hashlib.sha256()
    while chunk := stream.read(_CHUNK_BYTES):
        state.update(chunk)
    return Digest("sha256:" + state.hexdigest())


def of_file(path: Path) -> Digest:
    """The digest of a file's bytes."""
    with path.open("rb") as stream:
        return of_stream(stream)


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces: one text for one value. NaN and infinities are refused (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def of_json(value: Any) -> Digest:
    """The digest of a value's canonical JSON."""
    return of_bytes(canonical_json(value))


def entries(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file, link and empty or full directory below `root`, by relative POSIX path, depth first in sorted order."""
    stack: list[tuple[str, str]] = [("", str(root))]
    while stack:
        prefix, folder = stack.pop()
        with os.scandir(folder) as scan:
            children = sorted(scan, key=lambda entry: entry.name)
        for entry in children:
            yield prefix + entry.name, entry
        folders = [e for e in children if e.is_dir(follow_symlinks=False)]
        stack.extend((f"{prefix}{e.name}/", e.path) for e in reversed(folders))


def of_tree(root: Path) -> Digest:
    """The digest of a directory: the sorted lines `kind digest path`, x marking executable files.

    Modes beyond the executable bit, owners and times do not count. Device nodes, sockets and pipes are refused (ValueError).
    """
    return of_tree_and_files(root)[0]


def of_tree_and_files(root: Path) -> tuple[Digest, dict[str, Digest]]:
    """The digest of a directory as `of_tree`, and the digests of its files that are not executable, by path. Everything is read
    once."""
    lines, files = [], {}
    for path, entry in entries(root):
        if entry.is_symlink():
            lines.append(f"link {of_bytes(os.fsencode(os.readlink(entry.path)))} {path}")
        elif entry.is_dir(follow_symlinks=False):
            lines.append(f"dir - {path}")
        elif entry.is_file(follow_symlinks=False):
            executable = entry.stat(follow_symlinks=False).st_mode & stat.S_IXUSR
            file_digest = of_file(Path(entry.path))
            if not executable:
                files[path] = file_digest
            lines.append(f"{'exec' if executable else 'file'} {file_digest} {path}")
        else:
            raise ValueError(f"neither a file, a directory nor a link: {path}")
    return of_bytes("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")), files


def size_of_tree(root: Path) -> int:
    """The bytes of every regular file below `root`; links and directories count as 0."""
    return sum(e.stat(follow_symlinks=False).st_size for _, e in entries(root) if e.is_file(follow_symlinks=False))
