"""A second tier of the store that machines share, so that a step which one machine has run is not run again on another.

    <place>/cache/v1/<action digest>      1,024 bytes of signed header, then a canonical tar of the tree

Promises:
- Only entries that are signed with the shared secret are opened, and nothing of an entry is used before all of it was verified.
- A poisoned, damaged or foreign entry is a miss and is reported by its URI. Nothing outside the given directory is written.
- A cache that fails is reported once and then not used. No build fails because of it.
- The caller says which actions are shared.

Will not: check that an entry is the right result. A header says what its archive holds; whoever has the secret is trusted to
have run the action.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import importlib.util
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mlpack.core import digest, distribution
from mlpack.core.digest import Digest
from mlpack.core.environment import place
from mlpack.core.progress import Say
from mlpack.core.text import words
from mlpack.errors import PackError, RecipeError
from mlpack.store.local import Action, Entry
from mlpack.store.shared_objects import Bucket, Folder, Objects, OpenObject, StorageUnavailableError

if TYPE_CHECKING:
    from mlpack.oci.layers import tar

KINDS = ("step/", "runtime", "package")
"""Kinds of actions whose results are worth sharing. Sources and data are beside the recipe; measurements and boots belong to a
machine."""

KEY_BYTES = 32
HEADER_BYTES = 1024
MAX_MB, LARGEST_MB = 2048, 5000
"""The default limit of an entry, and the largest one possible: S3 takes 5 GB in one request."""

_FORMAT = 1
_MAC_BYTES = 64
_DOMAIN = b"mlpack shared cache entry\n"
_READ_BYTES = 128 << 10
_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/+(.*?))?/*")
_HOSTILE = (errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
"""An operating system's errors for paths that cannot all be in one tree."""


_OVERWRITTEN = (
    "the shared cache {where}: its store does not keep conditional writes: {found}. Where two builds make the same result at the "
    "same moment, the later one replaces the first; entries are signed and verified, so that nothing else is lost"
)


class DamagedEntryError(Exception):
    """The entry is not what a holder of the secret wrote for this action."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """`key`: the shared secret. Entries of more than `max_bytes` are neither read nor written. `patience_s`: how long a transfer
    may take in any case; the transfer of a result that took longer to make may take as long as that."""

    key: bytes = field(repr=False)
    max_bytes: int = MAX_MB * 1_000_000
    patience_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The description of an entry. `content_bytes`: the size of all files in its tree together."""

    action: Digest
    tree: Digest
    archive: Digest
    archive_bytes: int
    content_bytes: int
    seconds: float

    def sealed(self, key: bytes) -> bytes:
        """The header with its signature."""
        facts = {name: getattr(self, name) for name in self.__slots__}
        texts = {name: str(value) if isinstance(value, Digest) else value for name, value in facts.items()}
        body = digest.canonical_json({"format": _FORMAT, **texts}).ljust(HEADER_BYTES - _MAC_BYTES)
        return body + _mac(key, body)

    @classmethod
    def opened(cls, block: bytes, key: bytes) -> Header:
        """The content of a header whose signature verifies; DamagedEntryError for any other."""
        body, mac = block[:-_MAC_BYTES], block[-_MAC_BYTES:]
        if len(block) != HEADER_BYTES:
            raise DamagedEntryError("it is cut short")
        if not hmac.compare_digest(mac, _mac(key, body)):
            raise DamagedEntryError("its signature does not verify (or it was written with another MLPACK_CACHE_KEY)")
        try:
            facts = json.loads(body)
            if facts.pop("format") != _FORMAT:
                raise ValueError
            header = cls(
                action=Digest(facts.pop("action")),
                tree=Digest(facts.pop("tree")),
                archive=Digest(facts.pop("archive")),
                archive_bytes=int(facts.pop("archive_bytes")),
                content_bytes=int(facts.pop("content_bytes")),
                seconds=float(facts.pop("seconds")),
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise DamagedEntryError("its header is not one of this version") from None
        if facts or not all(0 <= each < math.inf for each in (header.archive_bytes, header.content_bytes, header.seconds)):
            raise DamagedEntryError("its header is not one of this version")
        return header


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, _DOMAIN + body, "sha256").hexdigest().encode()


class SharedCache:
    """Implements `mlpack.store.local.Tier`. Each action is requested at most once, and offered only when it was not there."""

    def __init__(self, objects: Objects, settings: CacheSettings, shares: Callable[[Action], bool], say: Say) -> None:
        self._objects, self._settings, self._shares, self._say = objects, settings, shares, say
        self._reads = self._writes = True
        self._asked: set[str] = set()
        self._missing: dict[str, str | None] = {}
        """What was not there, with the version of what lies in its place and is damaged."""
        self._taken, self._given, self._spared_s = 0, 0, 0.0

    def get(self, action: Action, work: Path) -> Entry | None:
        """See `Tier.get`."""
        name = _name(action)
        if not self._reads or name in self._asked or not self._shares(action):
            return None
        self._asked.add(name)
        with self._left_alone():
            header = self._looked_for(name, action, work)
            if header is not None:
                self._taken += 1
                self._spared_s += header.seconds
                return Entry(action=action, dir=work / "tree", tree=header.tree, seconds=header.seconds, shared=True)
        return None

    def put(self, entry: Entry, work: Path) -> None:
        """See `Tier.put`."""
        name = _name(entry.action)
        if not self._writes or name not in self._missing:
            return
        version = self._missing.pop(name)
        with self._left_alone():
            try:
                listed = listing(entry.dir)
                size = sum(each.size_bytes for each in listed)
                if size > self._settings.max_bytes:
                    what = f"{entry.action.get('kind')} of {words.size(size)}"
                    self._say.note(f"not put into the shared cache: {what} is more than MLPACK_CACHE_MAX_MB allows")
                    return
                source = self._packed(entry, listed, work)
            except PackError as error:
                self._say.note(f"not put into the shared cache: {error}")
                return
            self._given += self._objects.write(name, source, version, self._until(entry.seconds))

    def tell(self) -> None:
        """Report what sharing was good for."""
        if self._taken:
            results, spared = words.count(self._taken, "result"), words.seconds(self._spared_s)
            self._say.note(f"{results} came from the shared cache; making took {spared} elsewhere")
        if self._given:
            self._say.note(f"{words.count(self._given, 'result')} put into the shared cache")

    def _looked_for(self, name: str, action: Action, work: Path) -> Header | None:
        """The header of an entry whose tree is now `work/tree`, verified; None when there is none to use."""
        with self._objects.open(name) as opened:
            if opened is None:
                self._missing[name] = None
                return None
            try:
                header = self._fetch(opened, name, action, work)
                if header is not None:
                    unpack(work / "archive", header, work / "tree")
            except DamagedEntryError as error:
                self._missing[name] = opened.version
                self._say.warn(
                    f"the shared cache's entry {self._objects.uri(name)} is poisoned or damaged and was not used: {error}. "
                    "This build makes it anew and replaces it; look for who wrote it"
                )
                return None
            return header

    def _fetch(self, opened: OpenObject, name: str, action: Action, work: Path) -> Header | None:
        """Read the archive to `work/archive`, whole. Returns its header; None when it is larger than allowed. DamagedEntryError."""
        header = Header.opened(_block(opened), self._settings.key)
        if header.action != digest.of_json(action):
            raise DamagedEntryError(f"it is the entry of the action {header.action.hex}")
        if max(header.archive_bytes, header.content_bytes) > self._settings.max_bytes:
            size = words.size(header.archive_bytes)
            self._say.note(f"{self._objects.uri(name)} was not taken: {size} is more than MLPACK_CACHE_MAX_MB allows")
            return None
        until, remaining, state = self._until(header.seconds), header.archive_bytes, hashlib.sha256()
        with (work / "archive").open("xb") as file:
            while chunk := opened.read(_READ_BYTES):
                remaining -= len(chunk)
                if remaining < 0:
                    raise DamagedEntryError("it is longer than its header says")
                if time.monotonic() > until:
                    raise StorageUnavailableError(f"{self._objects.uri(name)} comes too slowly")
                state.update(chunk)
                file.write(chunk)
        if state.hexdigest() != header.archive.hex:
            raise DamagedEntryError("its archive is not the one that its header names")
        return header

    def _packed(self, entry: Entry, listed: list[tar.TarEntry], work: Path) -> Path:
        """The whole object as a file."""
        from mlpack.oci import compression
        from mlpack.oci.layers import tar

        path, tally = work / "object", compression.HashingCounter()
        with path.open("wb") as file:
            file.write(bytes(HEADER_BYTES))
            for chunk in tally.through(tar.chunks(listed)):
                file.write(chunk)
            header = Header(
                action=digest.of_json(entry.action),
                tree=entry.digest,
                archive=tally.digest(),
                archive_bytes=tally.size_bytes,
                content_bytes=sum(each.size_bytes for each in listed),
                seconds=round(entry.seconds, 3),
            )
            file.seek(0)
            file.write(header.sealed(self._settings.key))
        return path

    def _until(self, seconds: float) -> float:
        return time.monotonic() + max(self._settings.patience_s, seconds)

    @contextmanager
    def _left_alone(self) -> Iterator[None]:
        """A context in which a failure is reported; the shared cache, or writing to it, is then off for the rest of this
        process."""
        try:
            yield
        except (StorageUnavailableError, OSError) as error:
            self._writes = False
            if isinstance(error, StorageUnavailableError) and error.writes_only:
                self._say.warn(f"this build adds nothing more to the shared cache, it only reads: {error}")
                return
            self._reads = False
            self._say.warn(f"the shared cache fails and is left alone from here on: {error}")


def listing(tree: Path) -> list[tar.TarEntry]:
    """The entries for a tree's archive. PackError when it holds something that the cache does not carry, such as links."""
    from mlpack.oci.layers import tar

    listed = []
    for path, entry in digest.entries(tree):
        tar.check_name(path)
        status = entry.stat(follow_symlinks=False)
        if entry.is_symlink():
            raise PackError(f"{path} is a symbolic link")
        if entry.is_dir():
            listed.append(tar.TarEntry(path=path, kind="dir", mode=0o755))
        else:
            mode, source = 0o755 if status.st_mode & 0o100 else 0o644, partial(_opened, entry.path)
            listed.append(tar.TarEntry(path=path, kind="file", mode=mode, size_bytes=status.st_size, source=source))
    return listed


def _opened(path: str) -> BinaryIO:
    return Path(path).open("rb")


def unpack(archive: Path, header: Header, out: Path) -> None:
    """Unpack an archive to `out`, which is new. DamagedEntryError unless the tree is what the header says, to the last bit.

    The archive's form is checked first by the strict reader (`oci.scan`): tarfile reads headers of any length. Paths are checked
    again afterwards, because tarfile may take another name of an entry with several.
    """
    import tarfile

    from mlpack.oci import compression, media
    from mlpack.oci.layers import scan

    try:
        with archive.open("rb") as stream:
            scan.read(compression.InflatedTar(stream, media.OCI.tar, header.archive_bytes))
        out.mkdir()
        remaining = header.content_bytes
        with tarfile.open(archive, "r:") as opened:
            for member in opened:
                remaining -= member.size
                if remaining < 0:
                    raise DamagedEntryError("its files are larger than its header says")
                _place(opened, member, out)
        if remaining or digest.of_tree(out) != header.tree:
            raise DamagedEntryError("its files are not the tree that its header names")
    except (tarfile.TarError, PackError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _HOSTILE:
            raise
        raise DamagedEntryError(f"its archive does not unpack ({error})") from error


def _place(opened: Any, member: Any, out: Path) -> None:
    """Write one member of an archive below `out`. It makes only files and directories."""
    parts = member.name.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise DamagedEntryError(f"the path {member.name!r:.200} leaves the tree")
    target = out.joinpath(*parts)
    if member.isdir():
        return target.mkdir()
    if not member.isreg() or member.issparse():
        raise DamagedEntryError(f"{member.name!r:.200} is neither a file nor a directory")
    with opened.extractfile(member) as source, target.open("xb") as file:
        while chunk := source.read(_READ_BYTES):
            file.write(chunk)
    return target.chmod(0o755 if member.mode & 0o100 else 0o644)


def configured(environ: Mapping[str, str], say: Say) -> SharedCache | None:
    """The cache that the environment names, None when it names none or gives no secret. RecipeError for invalid settings."""
    where = environ.get("MLPACK_CACHE", "")
    if not where:
        return None
    objects = _place_of(where, lambda value: say.warn(_OVERWRITTEN.format(where=where, found=value)))
    max_mb = environ.get("MLPACK_CACHE_MAX_MB") or str(MAX_MB)
    if not max_mb.isascii() or not max_mb.isdigit() or not 1 <= int(max_mb) <= LARGEST_MB:
        raise RecipeError(f"MLPACK_CACHE_MAX_MB: {max_mb!r} is not a whole number of megabytes from 1 to {LARGEST_MB}")
    key = _key(environ)
    if key is None:
        # Not a mistake: CI systems keep secrets from the builds of strangers' changes.
        say.note(f"the shared cache {where} is not used: neither MLPACK_CACHE_KEY nor MLPACK_CACHE_KEY_FILE is set")
        return None
    return SharedCache(objects, CacheSettings(key=key, max_bytes=int(max_mb) * 1_000_000), shared, say)


def shared(action: Action) -> bool:
    """Whether an action is of one of `KINDS`."""
    kind = str(action.get("kind"))
    return any(kind.startswith(each) if each.endswith("/") else kind == each for each in KINDS)


def _place_of(where: str, overwrites: Callable[[str], None] = lambda _: None) -> Objects:
    if where.startswith("s3:"):
        match = _BUCKET.fullmatch(where)
        if match is None or "?" in where:
            raise RecipeError(f"MLPACK_CACHE: {where} is not s3://BUCKET/PREFIX, nor a directory")
        if importlib.util.find_spec("boto3") is None:
            raise RecipeError(f"MLPACK_CACHE: {where} needs boto3, which is not installed here: {distribution.install('aws')}")
        return Bucket(match[1], match[2] or "", overwrites=overwrites)
    if "://" in where:
        raise RecipeError(f"MLPACK_CACHE: {where} is neither s3://BUCKET/PREFIX nor a directory")
    folder = place(where)
    if folder.exists() and not folder.is_dir():
        raise RecipeError(f"MLPACK_CACHE: {where} is not a directory")
    return Folder(folder)


def _key(environ: Mapping[str, str]) -> bytes | None:
    text, file = environ.get("MLPACK_CACHE_KEY"), environ.get("MLPACK_CACHE_KEY_FILE")
    if text and file:
        raise RecipeError("MLPACK_CACHE_KEY and MLPACK_CACHE_KEY_FILE are both set: unset one of them")
    name, key = "MLPACK_CACHE_KEY", (text or "").encode()
    if file:
        name = f"MLPACK_CACHE_KEY_FILE: {file}"
        try:
            key = place(file).read_bytes().strip()
        except OSError as error:
            raise RecipeError(f"{name} cannot be read: {error.strerror}") from None
    elif not text:
        return None
    if len(key) < KEY_BYTES:
        raise RecipeError(f"{name} has {len(key)} bytes, the secret of a shared cache at least {KEY_BYTES}: `openssl rand -hex 32`")
    return key


def _name(action: Action) -> str:
    return f"cache/v1/{digest.of_json(action).hex}"


def _block(opened: OpenObject) -> bytes:
    """The first bytes of an object, as many as a header has if there are that many."""
    block = b""
    while len(block) < HEADER_BYTES and (piece := opened.read(HEADER_BYTES - len(block))):
        block += piece
    return block
