"""A directory of trees named by their content, and of the actions that made them.

Promises:
- Several processes may share one on a local disk. They may repeat each other's work but cannot damage it, so none waits.
- A damaged entry is a miss. A failure is never stored.
- What is missing here may be in a second tier (`Tier`), which is asked once; its entries are stored as if they were made here.
- An entry that a `Store` read or made is held: `store.care` leaves it alone until `release`.

Will not: know what a model is, or work on a network file system.

    trees/<digest>/          read-only once in place
    actions/<digest>.json    the action, the digest of its result, how long it took, and whether a tier had it
    files/<digest>           large files of trees under a second name: hard links store the same file once for several trees
    holds                    locks on entries in use (`holds`); never removed
    temporary/...            trees under construction, locked (flock) by their makers; unlocked ones go when a store is opened
"""

from __future__ import annotations

import errno
import filecmp
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.core.files import atomically, temporary
from mlpack.errors import PassError, RecipeError
from mlpack.store.holds import Holds

Action = Mapping[str, Any]
"""Everything that decides an output, as JSON: the pass, its version, its config, the digests of its inputs, versions of its
tools."""

TAG = "CACHEDIR.TAG"
TREES, ACTIONS, TEMPORARY, FILES, HOLDS = "trees", "actions", "temporary", "files", "holds"
_FORMAT = 1
_SHARED_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by mlpack: see CACHEDIR.TAG at bford.info/cachedir.\n"


@dataclass(slots=True)
class Entry:
    """The result of a lookup. A hit has `tree` set and `dir` read-only; a miss has an empty `dir` to fill.

    `seconds`: how long the action took; `shared`: it ran elsewhere and its tree came from a `Tier`.
    """

    action: Action
    dir: Path
    tree: Digest | None
    seconds: float
    shared: bool = False

    @property
    def hit(self) -> bool:
        return self.tree is not None

    @property
    def digest(self) -> Digest:
        """The tree's digest, which exists for a hit."""
        if self.tree is None:
            raise ValueError("the entry has no tree yet")
        return self.tree


class Tier(Protocol):
    """A second place for trees. It raises nothing when it fails: a store without it works too, only slower."""

    def get(self, action: Action, work: Path) -> Entry | None:
        """The entry of `action`, its tree below `work` (empty, on the store's disk) and verified; None when there is none."""

    def put(self, entry: Entry, work: Path) -> None:
        """Offer an entry that was made here. `work` is empty and on the store's disk."""


class Store:
    """Trees and actions under `root`, which is made if missing. With `verify` nothing is a hit: everything runs again, and a
    repeatable action that gives another tree than before is a `PassError`. `tier` is asked for what is missing here."""

    def __init__(self, root: Path, *, verify: bool = False, tier: Tier | None = None) -> None:
        self.root = root = root.absolute()  # children that work elsewhere get paths below it
        self._verify = verify
        self._tier = tier
        self.grew = False
        """Whether something was put in."""
        self._holds = Holds(root / HOLDS)
        try:
            for name in (TREES, ACTIONS, TEMPORARY, FILES):
                (root / name).mkdir(parents=True, exist_ok=True)
                if not os.access(root / name, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            tag = root / TAG
            if not tag.exists():
                tag.write_text(_TAG)
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise RecipeError(
                f"the store {root} cannot be used: {error.strerror}. Point MLPACK_STORE at a directory that can be written to"
            ) from None
        sweep(root)

    @contextmanager
    def entry(self, action: Action, *, repeatable: bool = True) -> Iterator[Entry]:
        """Yield the entry of `action`. After a miss and a clean exit, the files in `entry.dir` are hashed, sealed and stored.

        After an exception the directory is removed and nothing is stored. An output without a single file is refused
        (PassError).
        """
        existing = self.find(action)
        if existing is not None and not self._verify:
            yield existing
            return
        with self.scratch() as work:
            fresh = Entry(action=action, dir=work, tree=None, seconds=0.0)
            started = time.monotonic()
            yield fresh
            fresh.seconds = time.monotonic() - started
            if not any(entry.is_file() or entry.is_symlink() for _, entry in digest.entries(work)):
                raise PassError(f"{action.get('kind', 'a step')} left no files: its output is empty")
            tree, files = digest.of_tree_and_files(work)
            if existing is not None and repeatable and existing.tree != tree:
                raise PassError(
                    f"not repeatable: the same action gave {tree} now and {existing.tree} before.\n"
                    f"The action was {digest.canonical_json(action).decode()}"
                )
            fresh.tree = tree
            self._share(work, files)
            self._keep(fresh)
        if self._tier is not None:
            with self.scratch() as work:
                self._tier.put(fresh, work)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty directory on the store's own disk, where large files can be linked and moved; it is removed at the end."""
        with scratch_in(self.root) as work:
            yield work

    def hold(self, name: str) -> None:
        """Protect the item of this name (a tree's hex digits, a folder of the store) from removal until `release`."""
        self._holds.hold(name)

    def release(self) -> None:
        """End the holds on everything that was read or made so far."""
        self._holds.release()

    def find(self, action: Action) -> Entry | None:
        """The entry of an action if it is stored and whole; None is a miss, whatever the reason.

        The tier is asked only for what is not whole here.
        """
        existing = self._recorded(action)
        if existing is not None or self._tier is None:
            return existing
        with self.scratch() as work:
            shared = self._tier.get(action, work)
            if shared is not None:
                self._keep(shared)
            return shared

    def _recorded(self, action: Action) -> Entry | None:
        record = read_json(self._action_path(action))
        if record is None or record.get("format") != _FORMAT or record.get("action") != json.loads(digest.canonical_json(action)):
            return None
        try:
            tree = Digest(str(record["tree"]))
            seconds = float(record["seconds"])
            listing = record["listing"]
        except (KeyError, ValueError, TypeError):
            return None
        path = self.path(tree)
        self.hold(tree.hex)  # hold first: a tree that is whole then stays whole
        try:
            whole = path.is_dir() and (_listing(path) == listing or digest.of_tree(path) == tree)
        except (OSError, ValueError):
            return None
        if not whole:
            return None
        with suppress(OSError):  # another user's record: its time of use stays as it is
            os.utime(self._action_path(action))
        return Entry(action=action, dir=path, tree=tree, seconds=seconds, shared=record.get("shared") is True)

    def path(self, tree: Digest) -> Path:
        """The path of the tree with this digest, which need not exist."""
        return self.root / TREES / tree.hex

    def held(self, tree: Digest) -> Path | None:
        """The path of the tree, held from now on; None when it does not exist. It is not checked for damage."""
        self.hold(tree.hex)
        path = self.path(tree)
        return path if path.is_dir() else None

    def nearest(self, action: Action) -> Action | None:
        """The stored action of the same `kind` that shares the most fields with this one, which `--explain` compares with."""
        fields = dict(flatten(action))
        best: tuple[int, str] | None = None
        chosen: Action | None = None
        for path in sorted((self.root / ACTIONS).glob("*.json")):
            record = read_json(path)
            earlier = record.get("action") if record else None
            if not isinstance(earlier, dict) or earlier.get("kind") != action.get("kind"):
                continue
            same = sum(1 for key, value in flatten(earlier) if fields.get(key) == value)
            if best is None or (same, path.name) > best:
                best, chosen = (same, path.name), earlier
        return chosen

    def _action_path(self, action: Action) -> Path:
        return self.root / ACTIONS / f"{digest.of_json(action).hex}.json"

    def _keep(self, entry: Entry) -> None:
        """Seal an entry's tree, move it to the others, and record it."""
        self.hold(entry.digest.hex)  # before the rename: a tree without a record looks like one of a killed build
        self.grew = True
        self._seal(entry.dir, entry.digest)
        entry.dir = self.path(entry.digest)
        record = {
            "format": _FORMAT,
            "action": entry.action,
            "tree": str(entry.digest),
            "seconds": round(entry.seconds, 3),
            "shared": entry.shared,
            "listing": _listing(entry.dir),
        }
        with self.scratch() as work:
            (work / "record").write_bytes(digest.canonical_json(record))
            atomically.put(work / "record", self._action_path(entry.action))

    def _share(self, work: Path, files: Mapping[str, Digest]) -> None:
        """Replace large files that another tree also has by hard links to it: steps often leave the weights unchanged.

        The file under the second name is compared byte by byte first, because a link would pass its damage on. Where the file
        system has no links, every file stays its own.
        """
        for name, content in files.items():
            path, second = work / name, self.root / FILES / content.hex
            if path.stat().st_size < _SHARED_BYTES:
                continue
            with suppress(OSError):
                if second.exists() and filecmp.cmp(path, second, shallow=False):
                    fresh = path.with_name(f".{content.hex}")
                    os.link(second, fresh)
                    fresh.replace(path)
                else:
                    second.unlink(missing_ok=True)
                    os.link(path, second)

    def _seal(self, work: Path, tree: Digest) -> None:
        target = self.path(tree)
        for _, entry in digest.entries(work):
            if entry.is_file(follow_symlinks=False):
                mode = entry.stat(follow_symlinks=False).st_mode
                os.chmod(entry.path, 0o555 if mode & stat.S_IXUSR else 0o444)
        if target.exists() and _is_whole(target, tree):
            return
        if target.exists():
            remove(target)
        try:
            os.rename(work, target)
        except OSError:
            # Another process put the same tree in place between the look and the rename.
            if not _is_whole(target, tree):
                raise
        target.chmod(0o555)
        for _, entry in digest.entries(target):
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o555)


def sweep(root: Path) -> None:
    """Remove the unfinished trees of processes that have ended from the store at `root`.

    Locks tell which have ended, not process ids, which mean nothing to a process in another container.
    """
    for path in (root / TEMPORARY).iterdir():
        # Others may sweep at the same moment, or finish: an entry that is gone is what we want.
        with suppress(OSError):
            if is_left(path):
                remove(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in (root / FILES).iterdir():
        with suppress(OSError):
            if path.lstat().st_nlink == 1:  # its trees have gone
                path.unlink()


def is_left(path: Path) -> bool:
    """Whether this is a leftover among the temporary directories: no living process, in whatever container, works in it."""
    try:
        if path.is_symlink() or not path.is_dir():
            return True
        return temporary.is_left(path)
    except OSError:
        return False


@contextmanager
def scratch_in(root: Path) -> Iterator[Path]:
    """See `Store.scratch`, of the store at `root`."""
    with temporary.marked(root / TEMPORARY, "making-") as work:
        yield work


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings and lists, by dotted path."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from flatten(value[key], f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from flatten(item, f"{prefix}[{index}]")
    else:
        yield prefix, value


def remove(path: Path) -> None:
    """Remove a directory tree, read-only directories included; a missing one is no error."""
    if not path.exists():
        return
    path.chmod(0o755)
    for _, entry in digest.entries(path):
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, 0o755)
    shutil.rmtree(path)


def _is_whole(path: Path, tree: Digest) -> bool:
    try:
        return path.is_dir() and digest.of_tree(path) == tree
    except (OSError, ValueError):
        return False


def _listing(path: Path) -> list[list[Any]]:
    """Path, size and modification time of every file. When equal to the recorded listing, the tree was not touched."""
    rows: list[list[Any]] = []
    for name, entry in digest.entries(path):
        if not entry.is_dir(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            rows.append([name, status.st_size, status.st_mtime_ns])
    return sorted(rows)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is none, whatever the reason."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
