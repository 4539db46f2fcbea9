"""Keeps a store small: it removes the entries that were not used for longest, and never an entry that a process holds.

Promises:
- An entry is there whole or is gone, at whatever moment a removal is killed. A missing entry is a miss, and a build makes it
  again.
- An entry that a living process holds (`Store`) stays. Several prunes take turns.
- It follows no links, and leaves alone what mlpack did not put there.
- Sizes are those of blocks of 4 KiB, as `du` counts. A file that several trees share counts once.

An entry goes in this order, while no process can begin to use it. First its records are removed, so that no lookup finds it.
Then its tree is renamed into a temporary directory, which the next process that opens the store removes if the pruning process
was killed.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpack.core.digest import Digest
from mlpack.store import local
from mlpack.store.holds import Holds

BASES, FAILED = "oci", "repro"
"""Folders of the store that other modules fill; a user of an item holds it by this name."""
_KINDS = {BASES: "base images", FAILED: "failed steps"}
_BASES = ("blobs/sha256", "rootfs", "paths")
_TREE = re.compile(r"[0-9a-f]{64}")
_RECORD = re.compile(r"[0-9a-f]{64}\.json|\.[0-9a-f]{64}\.json\.\w+")
"""The second is the name of a record that an older mlpack was writing."""
LEFT_OVER, MAKING = "left over", "being made"
_BLOCK_BYTES = 4096
_AT_ONCE = 256
"""So many entries are moved away before their files are removed."""
_STALE_S = 3600.0
"""A temporary file in `oci` or `actions` that nobody wrote to for so long belongs to a killed process."""
_PRUNE = "prune"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An entry that is removed as a whole. `used_s`: when it was last used, in seconds since 1970."""

    kind: str
    name: str
    used_s: float
    holds: tuple[str, ...] = ()
    records: tuple[Path, ...] = ()
    place: Path | None = None
    files: tuple[tuple[int, int], ...] = ()
    """Inode and bytes of each file and directory of it."""

    @property
    def size_bytes(self) -> int:
        """The size of its files, shared ones included."""
        return sum(dict(self.files).values())


@dataclass(frozen=True, slots=True, kw_only=True)
class KindUsage:
    """The items of one kind: their number and size, and when the least recently used one was used."""

    kind: str
    count: int
    size_bytes: int
    oldest_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """The content of a store. `held`: the number of items that running builds use; `held_bytes`: their size."""

    size_bytes: int
    kinds: tuple[KindUsage, ...]
    held: int
    held_bytes: int


@dataclass(slots=True, kw_only=True)
class PruneReport:
    """What was removed (or would be), and what is left. `held`: items that stay because they are in use; `refused`: items that
    could not be removed, with the reason of the first."""

    removed: list[Item] = field(default_factory=list)
    freed_bytes: int = 0
    size_bytes: int = 0
    held: int = 0
    refused: int = 0
    reason: str = ""


def is_store(root: Path) -> bool:
    """Whether this directory is a store of mlpack's."""
    return (root / local.TAG).is_file() and all((root / name).is_dir() for name in (local.TREES, local.ACTIONS, local.TEMPORARY))


def status(root: Path) -> StoreStatus:
    """The content of the store at `root`; empty when there is none. It changes nothing."""
    items = survey(root) if is_store(root) else []
    inodes: set[int] = set()
    sizes: Counter[str] = Counter()
    for item in items:
        for inode, size in item.files:
            if inode not in inodes:
                inodes.add(inode)
                sizes[item.kind] += size
    kinds = []
    for kind in sorted({item.kind for item in items}):
        own = [item for item in items if item.kind == kind]
        oldest_s = min(item.used_s for item in own)
        kinds.append(KindUsage(kind=kind, count=len(own), size_bytes=sizes[kind], oldest_s=oldest_s))
    held_items = list(_held_items(items, root))
    held_bytes = sum({inode: size for item in held_items for inode, size in item.files}.values())
    return StoreStatus(size_bytes=sum(sizes.values()), kinds=tuple(kinds), held=len(held_items), held_bytes=held_bytes)


def _held_items(items: Sequence[Item], root: Path) -> Iterator[Item]:
    """The items that some process holds."""
    if not (root / local.HOLDS).exists():
        return
    holds = Holds(root / local.HOLDS)
    for item in items:
        with _alone(item, holds) as free:
            if not free:
                yield item


def prune(root: Path, max_bytes: int, *, dry_run: bool = False, wait: bool = True) -> PruneReport | None:
    """Remove what killed processes left, then the least recently used items, until the store takes at most `max_bytes`.

    `dry_run` removes nothing, and so does a call without a store. None when another prune runs (`wait`: wait for its end), or
    where the system cannot tell what is in use.
    """
    if not is_store(root):
        return PruneReport()
    holds = Holds(root / local.HOLDS)
    with holds.alone(_PRUNE, wait=wait) as only:
        if not only:
            return None
        items = survey(root)
        pruning = _Pruning(root, holds, items, dry_run=dry_run)
        pruning.remove([item for item in items if item.kind == LEFT_OVER])
        ready = [item for item in items if item.kind not in (LEFT_OVER, MAKING)]
        pruning.remove(sorted(ready, key=lambda item: (item.used_s, item.name)), max_bytes)
        if not dry_run:
            local.sweep(root)
        return pruning.found


class _Pruning:
    """A removal in progress."""

    def __init__(self, root: Path, holds: Holds, items: Sequence[Item], *, dry_run: bool) -> None:
        self._root, self._holds, self._dry_run = root, holds, dry_run
        self._sharers = Counter(inode for item in items for inode in dict(item.files))
        self.found = PruneReport(size_bytes=sum({inode: size for item in items for inode, size in item.files}.values()))

    def remove(self, items: Sequence[Item], max_bytes: int = -1) -> None:
        """Remove these items in their order, while the store takes more than `max_bytes`."""
        for start in range(0, len(items), _AT_ONCE):
            if self.found.size_bytes <= max_bytes:
                return
            if self._dry_run:
                self._some(items[start : start + _AT_ONCE], max_bytes, None)
                continue
            with local.scratch_in(self._root) as grave:
                self._some(items[start : start + _AT_ONCE], max_bytes, grave)

    def _some(self, items: Sequence[Item], max_bytes: int, grave: Path | None) -> None:
        for number, item in enumerate(items):
            if self.found.size_bytes <= max_bytes:
                return
            with _alone(item, self._holds) as free:
                if not free or _used_since(item):
                    self.found.held += 1
                    continue
                try:
                    if grave is not None:
                        _take_away(item, grave / str(number))
                except OSError as error:
                    self.found.refused += 1
                    self.found.reason = self.found.reason or f"{item.place or item.name}: {error.strerror}"
                    continue
            self._count(item)

    def _count(self, item: Item) -> None:
        self.found.removed.append(item)
        for inode, size in dict(item.files).items():
            self._sharers[inode] -= 1
            if self._sharers[inode] == 0:
                self.found.freed_bytes += size
                self.found.size_bytes -= size


def _used_since(item: Item) -> bool:
    """Whether a process that has ended meanwhile used the item after it was listed."""
    with suppress(OSError):
        return any(record.stat().st_mtime > item.used_s for record in item.records)
    return False


def _take_away(item: Item, grave: Path) -> None:
    folder = item.place is not None and item.place.is_dir() and not item.place.is_symlink()
    if folder and item.place is not None:
        item.place.chmod(0o755)  # the rename changes its `..`, which only root may do in a sealed directory
    for record in item.records:
        record.unlink(missing_ok=True)
    if item.place is None:
        return
    if folder:
        item.place.rename(grave)
    else:
        item.place.unlink(missing_ok=True)


@contextmanager
def _alone(item: Item, holds: Holds) -> Iterator[bool]:
    """Whether no process holds any of an item's names; if so, none can until the end of the block."""
    with ExitStack() as stack:
        yield all(stack.enter_context(holds.alone(name)) for name in dict.fromkeys(item.holds))


def survey(root: Path) -> list[Item]:
    """Every item of the store at `root`, by kind and name. Items that disappear meanwhile are left out."""
    items = [*_trees(root), *_folders(root), *_unfinished(root)]
    referenced = {inode for item in items for inode, _ in item.files}
    for entry in _listed(root / local.FILES):  # second names of trees' files, unless their trees have gone
        if (status := _stat(entry)) is not None and status.st_ino not in referenced:
            files = ((status.st_ino, _blocks(status.st_size)),)
            items.append(Item(kind=LEFT_OVER, name=entry.name, used_s=status.st_mtime, place=Path(entry.path), files=files))
    return sorted(items, key=lambda item: (item.kind, item.name))


def _trees(root: Path) -> Iterator[Item]:
    """Trees with the records that lead to them. Trees are listed first, because a record is written after its tree."""
    trees = {entry.name: entry for entry in _listed(root / local.TREES) if _TREE.fullmatch(entry.name)}
    records: dict[str, list[tuple[float, str, Path]]] = {}
    sizes: dict[Path, tuple[int, int]] = {}
    for entry in _listed(root / local.ACTIONS):
        if (status := _stat(entry)) is None or not _RECORD.fullmatch(entry.name):
            continue
        path = Path(entry.path)
        sizes[path] = (status.st_ino, _blocks(status.st_size))
        tree, kind = _led_to(path)
        if tree is not None and (tree in trees or (root / local.TREES / tree).is_dir()):
            records.setdefault(tree, []).append((status.st_mtime, kind, path))
        elif entry.name[0] != "." or _is_stale(status):
            holds = () if tree is None else (tree,)
            yield Item(kind=LEFT_OVER, name=entry.name, used_s=status.st_mtime, holds=holds, records=(path,), files=(sizes[path],))
    for name, entry in trees.items():
        actions = sorted(records.get(name, []))
        files = list(_files(entry)) + [sizes[path] for _, _, path in actions]
        used_s, kind, _ = actions[-1] if actions else (getattr(_stat(entry), "st_mtime", 0.0), LEFT_OVER, None)
        paths = tuple(path for _, _, path in actions)
        yield Item(kind=kind, name=name, used_s=used_s, holds=(name,), records=paths, place=Path(entry.path), files=tuple(files))


def _led_to(record: Path) -> tuple[str | None, str]:
    """The tree that a record leads to, and its action's kind. Records of another version of mlpack are read in the same way."""
    action_fields: dict[str, Any] = local.read_json(record) or {}
    action = action_fields.get("action")
    try:
        return Digest(str(action_fields["tree"])).hex, str(action.get("kind")) if isinstance(action, dict) else "unknown"
    except (KeyError, ValueError):
        return None, "unknown"


def _folders(root: Path) -> Iterator[Item]:
    """Blobs of base images, one by one, and folders of failed steps."""
    for entry in (each for folder in _BASES for each in _listed(root / BASES / folder)):
        if (status := _stat(entry)) is None or not entry.is_file(follow_symlinks=False):
            continue
        kind = _KINDS[BASES]
        if entry.name.startswith("."):
            kind = LEFT_OVER if _is_stale(status) else MAKING
        files = ((status.st_ino, _blocks(status.st_size)),)
        yield Item(kind=kind, name=entry.name, used_s=status.st_mtime, holds=(BASES,), place=Path(entry.path), files=files)
    for entry in _listed(root / FAILED):
        if (status := _stat(entry)) is not None and Path(entry.path, "step.json").is_file():
            kind, place, parts = _KINDS[FAILED], Path(entry.path), tuple(_files(entry))
            yield Item(kind=kind, name=entry.name, used_s=status.st_mtime, holds=(FAILED,), place=place, files=parts)


def _unfinished(root: Path) -> Iterator[Item]:
    """Trees that are under construction, and those whose process was killed."""
    for entry in _listed(root / local.TEMPORARY):
        if (status := _stat(entry)) is not None:
            kind = LEFT_OVER if local.is_left(Path(entry.path)) else MAKING
            yield Item(kind=kind, name=entry.name, used_s=status.st_mtime, place=Path(entry.path), files=tuple(_files(entry)))


def _files(entry: os.DirEntry[str]) -> Iterator[tuple[int, int]]:
    """Inode and bytes of a file, or of a directory and all below it."""
    if (status := _stat(entry)) is None:
        return
    yield status.st_ino, _blocks(status.st_size)
    if entry.is_dir(follow_symlinks=False):
        for each in _everything(Path(entry.path)):
            if (status := _stat(each)) is not None:
                yield status.st_ino, _blocks(status.st_size)


def _everything(folder: Path) -> Iterator[os.DirEntry[str]]:
    for entry in _listed(folder):
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _everything(Path(entry.path))


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as scan:
        return list(scan)
    return []


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """The file's status; None when it has gone. The listing's own inode will not do: it is another one for a mount point."""
    try:
        return os.lstat(entry.path)
    except OSError:
        return None


def _is_stale(status: os.stat_result) -> bool:
    return time.time() - status.st_mtime > _STALE_S


def _blocks(size_bytes: int) -> int:
    return -(-max(size_bytes, 1) // _BLOCK_BYTES) * _BLOCK_BYTES
