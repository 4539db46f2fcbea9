"""Makes a layer of a directory: files over a base (`layer_from_tree`), or a whole root file system (`layer_from_rootfs`).

Promises:
- The digest follows from names, content and executable bits alone (for a root file system: permission bits).
- Directories and links of the base are never replaced: a file for `lib/x` goes to `usr/lib/x` where the base has `lib ->
  usr/lib`.
- Links that leave the tree, device nodes, set-user-id files and whiteout names are refused, not skipped.

Times are zero (or `epoch_s`), except that a `.py` file beside time-stamped bytecode gets the time that the bytecode names.
Otherwise Python would compile it at every start, because a read-only file system cannot keep the result.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mlpack.core.digest import entries as walk
from mlpack.errors import PackError
from mlpack.oci import blobs, media
from mlpack.oci.compression import Compression, HashingCounter, gzipped
from mlpack.oci.image import Layer, opener_in
from mlpack.oci.layers import tar
from mlpack.oci.layers.paths import Paths, remember

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlpack.oci.layers.scan import Kind

ENVELOPE = 1
"""Raised whenever the bytes of a layer change for the same files: part of the key of any cache of layers."""

_DOWNLOADS = ("var/cache/apt/", "var/lib/apt/lists/")
"""Debian's downloads: after debootstrap a third of the bytes, and other bytes every day. `apt-get update` fetches them again."""


def layer_from_tree(
    tree: Path, prefix: str, base: Paths | None, out: Path, compression: Compression = "deflate", epoch_s: int = 0
) -> Layer:
    """The files of `tree`, under `prefix` in the image, as a layer stored below the blob directory `out`.

    `base`: the paths of the image it will lie on (None: nothing below). Only directories that the base lacks are in the layer.
    `stored` for what does not compress, else `deflate`. PackError for what a layer may not hold; nothing is kept then.
    """
    listed = list(_tree_entries(tree, epoch_s))
    placed = _placed(listed, prefix, base or Paths({}), epoch_s)
    return store(placed, out, compression)


def layer_from_rootfs(root: Path, out: Path, cache: Path | None = None, epoch_s: int = 0) -> tuple[Layer, tuple[str, ...]]:
    """A root file system as one layer, and what was left out of it, in words: device nodes, pipes, sockets, apt's downloads.

    Links stay as they are, hard links stay hard links. Owners become 0:0, therefore set-user-id and set-group-id bits, which
    would then hand out root, are dropped; the other permission bits stay. Extended attributes (file capabilities) are dropped.
    `cache`: where `paths` remembers what layers hold, so that this one need not be read for it.
    """
    left_out: list[str] = []
    listed = list(_rootfs_entries(root, epoch_s, left_out))
    layer = store(listed, out, "deflate")
    if cache is not None:
        kinds: dict[str, Kind] = {"file": "file", "hardlink": "file", "dir": "dir", "symlink": "link"}
        nodes = ((each.path, kinds[each.kind], each.target if each.kind == "symlink" else "") for each in listed)
        remember(cache, layer, tuple(nodes))
    return layer, tuple(left_out)


def store(listed: list[tar.TarEntry], out: Path, how: Compression) -> Layer:
    """These entries as a gzip layer (OCI media type) stored below the blob directory `out`."""
    size = sum(entry.size_bytes + 1024 for entry in listed)
    tally = HashingCounter()
    with blobs.incoming(out) as blob:
        for chunk in gzipped(tally.through(tar.chunks(listed)), how, size):
            blob.write(chunk)
        digest = blob.commit()
        stored = blob.size_bytes
    return Layer(
        digest=digest,
        diff_id=tally.digest(),
        size_bytes=stored,
        media_type=media.OCI.gzip,
        uncompressed_bytes=tally.size_bytes,
        open=opener_in(out, digest),
    )


def _tree_entries(tree: Path, epoch_s: int) -> Iterator[tar.TarEntry]:
    """What lies below `tree`, by its path there; PackError names what may not be in a layer."""
    if not tree.is_dir():
        raise PackError(f"{tree} is not a directory: there is nothing to make a layer of")
    top = os.path.realpath(tree)
    for path, entry in walk(tree):
        tar.check_name(path)
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            target = os.readlink(entry.path)
            _check_link(path, target, entry.path, top)
            yield tar.TarEntry(path=path, kind="symlink", mode=0o777, mtime_s=epoch_s, target=target)
        elif stat.S_ISDIR(mode):
            yield tar.TarEntry(path=path, kind="dir", mode=0o755, mtime_s=epoch_s)
        elif not stat.S_ISREG(mode):
            raise PackError(f"{entry.path} is {_special(mode)}: a layer holds files, directories and links only")
        elif mode & (stat.S_ISUID | stat.S_ISGID):
            raise PackError(f"{entry.path} is set-user-id or set-group-id: take the bit off (chmod a-s) or leave the file out")
        else:
            yield _file(path, entry, 0o755 if mode & stat.S_IXUSR else 0o644, epoch_s)


def _check_link(path: str, target: str, at: str, top: str) -> None:
    tar.check_name(target)
    inside = os.path.realpath(at)
    if target.startswith("/") or not (inside == top or inside.startswith(top + os.sep)):
        raise PackError(
            f"the link {path!r} leads to {target!r}, outside what is packed: it would carry a file nobody meant, or none. "
            "Copy the file, or make the link relative and inside"
        )


def _rootfs_entries(root: Path, epoch_s: int, left_out: list[str]) -> Iterator[tar.TarEntry]:
    first: dict[tuple[int, int], str] = {}
    downloads_bytes = 0
    for path, entry in sorted(walk(root), key=lambda pair: os.fsencode(pair[0])):
        tar.check_name(path)
        status = entry.stat(follow_symlinks=False)
        mode = status.st_mode
        if stat.S_ISLNK(mode):
            yield tar.TarEntry(path=path, kind="symlink", mode=0o777, mtime_s=epoch_s, target=os.readlink(entry.path))
        elif stat.S_ISDIR(mode):
            yield tar.TarEntry(path=path, kind="dir", mode=mode & 0o1777, mtime_s=epoch_s)
        elif not stat.S_ISREG(mode):
            left_out.append(f"{path} ({_special(mode)})")
        elif path.startswith(_DOWNLOADS) and not path.endswith("/lock"):
            downloads_bytes += status.st_size
        elif status.st_nlink > 1 and (status.st_dev, status.st_ino) in first:
            yield replace(
                _file(path, entry, mode & 0o1777, epoch_s),
                kind="hardlink",
                size_bytes=0,
                source=None,
                target=first[status.st_dev, status.st_ino],
            )
        else:
            first[status.st_dev, status.st_ino] = path
            yield _file(path, entry, mode & 0o1777, epoch_s)
    if downloads_bytes:
        left_out.append(f"what apt downloaded ({downloads_bytes} bytes, which `apt-get clean` would remove)")


def _file(path: str, entry: os.DirEntry[str], mode: int, epoch_s: int) -> tar.TarEntry:
    size = entry.stat(follow_symlinks=False).st_size
    mtime = _compiled_mtime(entry.path, size) if path.endswith(".py") else None
    return tar.TarEntry(
        path=path,
        kind="file",
        mode=mode,
        mtime_s=epoch_s if mtime is None else mtime,
        size_bytes=size,
        source=partial(_opened, entry.path),
    )


def _opened(path: str) -> BinaryIO:
    return Path(path).open("rb")


def _compiled_mtime(source: str, size_bytes: int) -> int | None:
    """The source time inside `__pycache__` (PEP 552: flags 0, then time and size, 4 bytes each), when it was made for this size."""
    folder, name = os.path.split(source)
    cache = os.path.join(folder, "__pycache__")
    stem = name[:-2]
    try:
        names = sorted(each for each in os.listdir(cache) if each.startswith(stem) and each.endswith(".pyc"))
    except OSError:
        return None
    for each in names:
        with _opened(os.path.join(cache, each)) as file:
            header = file.read(16)
        if header[4:8] == bytes(4) and int.from_bytes(header[12:16], "little") == size_bytes & 0xFFFFFFFF:
            return int.from_bytes(header[8:12], "little")
    return None


def _placed(listed: list[tar.TarEntry], prefix: str, base: Paths, epoch_s: int) -> list[tar.TarEntry]:
    """`listed` where they come to lie in the image, with the directories that are missing on the way there."""
    tar.check_name(prefix)
    if ".." in prefix.split("/"):
        raise PackError(f"the prefix {prefix!r} leaves the image")
    top = base.resolve(prefix)
    places = {"": top}
    placed = [tar.TarEntry(path=path, kind="dir", mode=0o755, mtime_s=epoch_s) for path in _missing(top, base)]
    paths = {entry.path for entry in placed}
    for entry in listed:
        folder, _, name = entry.path.rpartition("/")
        parent = places[folder]
        path = f"{parent}/{name}" if parent else name
        there = base.kind(path)
        if entry.kind == "dir":
            path = places[entry.path] = base.resolve(path)
            missing = [each for each in _missing(path, base) if each not in paths]
            paths.update(missing)
            placed += [replace(entry, path=each) for each in missing]
            continue
        if there == "dir":
            raise PackError(f"/{path} is a directory in the base image and {entry.kind} here: rename one of them")
        placed.append(replace(entry, path=path))
    return placed


def _missing(path: str, base: Paths) -> list[str]:
    """`path` and those above it that the base lacks, outermost first. PackError when one of them is a file there."""
    parts = path.split("/") if path else []
    prefixes = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    for each in prefixes:
        if base.kind(each) == "file":
            raise PackError(f"/{each} is a file in the base image and a directory here: rename one of them")
    return [each for each in prefixes if base.kind(each) is None]


def _special(mode: int) -> str:
    kinds = (
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for test, name in kinds if test(mode)), "of an unknown kind")
