"""Verifies a registry: every blob against its digest, and every row against the blobs and rows that it names.

Promises:
- It only reads, but for its tests of a store that is not Amazon's (`promises`). Publications and collections may run meanwhile.
- Each fault is a `Finding`: what, where, and what to do. An image that nobody answers for is told from one that is wrong.
- It reads each blob once. With a `resume` file an interrupted `verify` continues where it stopped.
- It raises ServiceError only when the registry itself cannot be read.

Will not: look at blobs that no release has. `collection` removes those.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.errors import MlpackError, ServiceError
from mlpack.oci.distribution.transport import HttpError
from mlpack.registry import DamagedError, DamagedHead, Key, RecordError, Row, audit, numbered
from mlpack.registry.fields import shown
from mlpack.registry.reading import Damaged, whole
from mlpack.registry.records import Release
from mlpack.registry.rows import marks, rows
from mlpack.registry.upkeep import small_rows

if TYPE_CHECKING:
    from mlpack.registry.releases.releases import Registry

RESUME_S = 24 * 3600.0
"""What was checked longer ago than this is checked again."""

Progress = Callable[[int, int], None]
"""Told how many blobs and images were checked, and of how many."""

_BYTES = "publish the same build again, or restore the bytes from a backup or the bucket's versions"
_ROWS = "restore the table from a backup, or to a time before the damage"
_DAMAGED = "nothing that needs it goes on until that is done"
_UNSHOWN = "run `mlpack registry migrate`, which adds what lists show; an older mlpack that published at that moment left it out"
_UNASKED = "cannot be asked for: this registry knows of no container registry"
_TELL = "tell it: mlpack registry create {} --images HOST/REPO"
_ASK_AGAIN = "nothing is known to be wrong with it: mend that, and verify again"
_STORE = 'move the registry to another store, or to a newer version of it: docs/registry.md, "Stores other than AWS"'
_IMAGE = "publish the same build again, which pushes its images again"

_Versions = dict[int, tuple[Digest | None, Digest]]
"""By version, the digests of a release (None: damaged) and of its row's body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault. `what` is its kind: blob, image, release, digest, name, alias, policy, audit, publication, lease, fence, setting
    or store. `where` names the release and file, the row, or the bucket or table. `remedy` says what to do."""

    what: str
    where: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} {self.where}: {self.problem}; {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationReport:
    """The counts of what was verified, and its faults. `earlier` counts the blobs that an interrupted run had checked.
    `images_unasked` are images that a container registry gave no answer about: they may be right."""

    releases: int
    moves: int
    blobs: int
    images: int
    earlier: int
    findings: tuple[Finding, ...]
    images_unasked: tuple[Finding, ...] = ()
    unasked: tuple[str, ...] = ()
    """What could not be asked, which says nothing about the registry."""


def verify(
    registry: Registry, *, resume: Path | None = None, parallel: int = 8, progress: Progress = lambda _done, _all: None
) -> VerificationReport:
    """Verify a registry. `resume`: a file that remembers the verified blobs until the end. `parallel`: how many blobs are read at
    once. ServiceError when the registry itself cannot be read."""
    survey = _RowSurvey(registry)
    with suppress(DamagedError):  # it becomes a finding below
        registry.check_schema()
    survey.every_row()
    unasked = tuple(_doubts(survey))
    with _memory(resume, registry) as (checked, remember):
        _check_bytes(survey, checked, remember, parallel, progress)
    return VerificationReport(
        releases=survey.releases,
        moves=survey.moves,
        blobs=len(survey.blobs),
        images=len(survey.images),
        earlier=len(checked & survey.blobs.keys()),
        findings=survey.still_there(survey.findings),
        images_unasked=survey.still_there(survey.images_unasked),
        unasked=unasked,
    )


def _doubts(survey: _RowSurvey) -> Iterator[str]:
    """Add findings for guarantees that bucket and table do not keep. Yields what could not be tested, in words."""
    for ask in survey.registry.place.doubts:
        try:
            doubt = ask()
        except ServiceError as error:  # for example when only reading is allowed
            yield f"whether the store keeps what a registry needs could not be asked: {error}"
            continue
        if doubt is not None:
            problem = f"does not keep what a registry needs: {doubt.behaviour}. {doubt.consequence.rstrip('.')}"
            survey.findings.append((Finding(what="store", where=doubt.where, problem=problem, remedy=_STORE), None))


@dataclass
class _RowSurvey:
    """What the rows name, and their faults. A finding with a key counts only while the row of that key is there, because a release
    that is collected meanwhile may lack its bytes."""

    registry: Registry
    releases: int = 0
    moves: int = 0
    blobs: dict[Digest, list[tuple[str, Key]]] = field(default_factory=dict)
    images: dict[str, list[tuple[str, Key]]] = field(default_factory=dict)
    findings: list[tuple[Finding, Key | None]] = field(default_factory=list)
    images_unasked: list[tuple[Finding, Key | None]] = field(default_factory=list)

    def still_there(self, findings: list[tuple[Finding, Key | None]]) -> tuple[Finding, ...]:
        """The findings whose rows are still there."""
        table = self.registry.place.table
        return tuple(finding for finding, key in findings if key is None or table.get(key) is not None)

    def every_row(self) -> None:
        """Verify every row. Releases come first: rows that are read later name these, or newer ones, which are then read again."""
        versions_by_name = {name: self._releases(name) for name in self._names(rows.NAMES, "name", marks.name)}
        collected = collected_releases(self.registry, damaged=lambda _error: None)
        small_rows.check(self.registry.place, lambda what, row, problem: self._say(what, str(row.key), problem, _DAMAGED, row.key))
        for name, versions in versions_by_name.items():
            for version in range(1, max(versions, default=0)):
                if version not in versions and f"{name}@{version}" not in collected:
                    self._say("release", f"{name}@{version}", "missing, and no collection removed it", _ROWS)
            self._digests(name, versions)
            for alias in self._names(rows.aliases(name), "alias", marks.alias):
                self._alias(name, alias, versions, collected)

    def _names(self, partition: str, what: str, look: small_rows.Check) -> Iterator[str]:
        """The names in a partition. An invalid name is reported and returned all the same."""
        for row in self._query(partition, bodies=True):
            if problem := small_rows.wrong(row, self.registry.place.where, small_rows.bare(look)):
                self._say(what, str(row.key), problem, _DAMAGED, row.key)
            yield row.key.sort

    def _releases(self, name: str) -> _Versions:
        """Verify the releases of one model; returns their digests."""
        versions: _Versions = {}
        damaged = False
        # Heads are read before the records: a head without a record is then a fault, or was collected meanwhile.
        heads = {row.key.sort: row for row in self._query(rows.heads(name))}
        for row in self._query(rows.releases(name), bodies=True):
            self.releases += 1
            shown = heads.pop(row.key.sort, None)
            try:
                version, body = rows.numbered_in(row, self.registry.place.where), digest.of_bytes(row.body)
            except ServiceError as error:
                self._say("release", str(row.key), str(error), _ROWS, row.key)
                damaged = True
                continue
            where = f"{name}@{version}"
            versions[version] = (None, body)
            try:
                release = rows.decode(row, self.registry.place.where)
            except ServiceError as error:
                self._say("release", where, str(error), _ROWS, row.key)
                continue
            versions[version] = (release.digest, body)
            self._row_of(release, row, shown)
            for path, blob in rows.stored_files(release).items():
                self.blobs.setdefault(blob, []).append((f"{where}: {path}", row.key))
            for reference in release.images.values():
                self.images.setdefault(reference, []).append((where, row.key))
        for row in heads.values():
            self._say("release", str(row.key), "is shown by lists, and has no record", _ROWS, row.key)
        if not versions and not damaged:
            self._say("name", name, "has no release, though the newest is never removed", _ROWS)
        return versions

    def _row_of(self, release: Release, row: Row, shown: Row | None) -> None:
        where = f"{release.name}@{release.version}"
        if row.key != rows.release_key(release.name, release.version):
            self._say("release", str(row.key), f"holds {where}", _ROWS, row.key)
        expected = rows.head_put(release).head
        if row.head != expected:
            self._say("release", where, "the head of its row is not what its record says", _ROWS, row.key)
        # A release that was published after the heads were read has its head now.
        shown = shown or self.registry.place.table.get(rows.head_key(release.name, release.version))
        if shown is None:
            self._say("release", where, "lists do not show it", _UNSHOWN, row.key)
        elif isinstance(shown.head, DamagedHead) or dict(shown.head) != expected or shown.revision != 1:
            self._say("release", where, "what lists show of it is not what its record says", _ROWS, row.key)
        if row.revision != 1:
            self._say("release", where, f"was changed after it was published (revision {row.revision})", _ROWS, row.key)

    def _digests(self, name: str, versions: _Versions) -> None:
        table, where, claimed = self.registry.place.table, self.registry.place.where, set[str]()
        for row in self._query(rows.digests(name)):
            claimed.add(row.key.sort)
            try:
                version = marks.version(row, where)
                release = versions.get(version)
                if release is None and (late := table.get(rows.release_key(name, version))):
                    # It was published after the releases were read.
                    release = (rows.decode(late, where).digest, digest.of_bytes(late.body))
            except ServiceError as error:
                self._say("digest", str(row.key), str(error), _ROWS, row.key)
                continue
            if release is None:
                self._say("digest", str(row.key), f"says that it is {name}@{version}, which is not there", _ROWS, row.key)
            elif release[0] is not None and str(release[0]) != row.key.sort:
                self._say("digest", str(row.key), f"says that it is {name}@{version}, which is {release[0]}", _ROWS, row.key)
        for version, (release_digest, _) in versions.items():
            if release_digest is not None and str(release_digest) not in claimed:
                key = rows.release_key(name, version)
                self._say("release", f"{name}@{version}", f"no record says that it has the digest {release_digest}", _ROWS, key)

    def _alias(self, name: str, alias: str, versions: _Versions, collected: Mapping[str, str]) -> None:
        """Verify the history of an alias: no gap, no fork, no step back in time, and its targets exist."""
        last: rows.Move | None = None
        for row, expected in zip(self._query(rows.moves(name, alias), bodies=True), count(1), strict=False):
            self.moves += 1
            try:
                move = rows.decode_move(row, self.registry.place.where)
                release = move.target(self.registry.place.where)
            except ServiceError as error:
                self._say("alias", f"{name}:{alias}", str(error), _ROWS)
                return
            for problem in _move_problems(move, last, expected, release):
                self._say("alias", f"{name}:{alias}", f"move {row.key.sort.lstrip('0')} {problem}", _ROWS)
            target = versions.get(move.version)
            if target is not None and target[0] is not None and (release.digest, digest.of_bytes(move.release)) != target:
                self._say("alias", f"{name}:{alias}", f"move {expected} has another record of {name}@{move.version}", _ROWS)
            if target is None and f"{name}@{move.version}" not in collected and not self._is_there(name, move.version):
                self._say("alias", f"{name}:{alias}", f"move {expected} leads to {name}@{move.version}, which is not there", _ROWS)
            last = move
        if last is None:
            self._say("alias", f"{name}:{alias}", "was never moved", _ROWS)
        elif f"{name}@{last.version}" in collected and not self._is_there(name, last.version) and not self._newer(last):
            problem = f"points to {name}@{last.version}, which was collected"
            self._say("alias", f"{name}:{alias}", problem, f"promote another version; {_ROWS}")

    def _is_there(self, name: str, version: int) -> bool:
        return self.registry.place.table.get(rows.release_key(name, version)) is not None

    def _newer(self, move: rows.Move) -> bool:
        """Whether the alias has moved since: its former target may then have been collected."""
        key = Key(rows.moves(move.name, move.alias), numbered(move.revision + 1))
        return self.registry.place.table.get(key) is not None

    def _query(self, partition: str, *, bodies: bool = False) -> Iterator[Row]:
        return self.registry.place.table.query(partition, bodies=bodies)

    def _say(self, what: str, where: str, problem: str, remedy: str, key: Key | None = None) -> None:
        self.findings.append((Finding(what=what, where=shown(where, 300), problem=problem, remedy=remedy), key))


def _move_problems(move: rows.Move, last: rows.Move | None, expected: int, release: Release) -> Iterable[str]:
    if move.revision != expected:
        yield f"is where {expected} should be: moves are missing"
    if move.previous != (last.version if last else None):
        yield f"says that it came from version {move.previous}, but the move before it went to {last.version if last else None}"
    if last is not None and move.when < last.when:
        yield f"was made at {move.when}, before the move before it ({last.when})"
    if release.version != move.version:
        yield f"leads to version {move.version} and holds the record of {release.version}"


def collected_releases(registry: Registry, damaged: Damaged | None = None) -> dict[str, str]:
    """The releases that collections removed, by NAME@VERSION, with their digests. `damaged`: as `audit.log`."""
    digests: dict[str, str] = {}
    place = registry.place
    for entry in whole(place.table.query(rows.AUDIT), lambda row: audit.decode(row, place.where), damaged):
        digests |= {text: str(release_digest) for text, release_digest in entry.releases.items()}
    return digests


# --- bytes ------------------------------------------------------------------------------------------------------------


def _check_bytes(
    survey: _RowSurvey, checked: set[Digest], remember: Callable[[Digest], None], parallel: int, progress: Progress
) -> None:
    """Verify the blobs that are not in `checked`, and every image, `parallel` at once."""
    blobs, images = survey.registry.place.blobs, _ImageAnswers(survey.registry)
    work: dict[Digest | str, Callable[[], str | None]]
    work = {blob: partial(blobs.check, blob) for blob in sorted(survey.blobs) if blob not in checked}
    work |= {reference: partial(images.check, reference) for reference in sorted(survey.images)}
    total = len(survey.blobs) + len(survey.images)
    done = total - len(work)
    progress(done, total)
    with ThreadPoolExecutor(max_workers=max(1, parallel)) as pool:
        futures = {pool.submit(check): what for what, check in work.items()}
        try:
            for future in as_completed(futures):
                what, problem = futures[future], future.result()
                if problem is not None:
                    _report_loss(survey, what, problem, images.unasked.get(what) if isinstance(what, str) else None)
                elif isinstance(what, Digest):
                    remember(what)
                done += 1
                progress(done, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _ImageAnswers:
    """The answers of container registries about images. `unasked`: by image without an answer, what to do about it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._away: dict[str, str] = {}
        self.unasked: dict[str, str] = {}

    def check(self, reference: str) -> str | None:
        """The fault of an image, or why it is not known; None when it is whole."""
        host, images = reference.partition("/")[0], self._registry.images
        if images is None:
            return self._unknown(reference, _UNASKED, _TELL.format(self._registry.place.where))
        if host in self._away:
            return self._unknown(reference, self._away[host], _ASK_AGAIN)
        try:
            return images.check(reference)
        except RecordError as error:
            return str(error)
        except MlpackError as error:
            problem = f"could not be asked for: {error}"
            if isinstance(error, HttpError) and error.retryable and error.status is None:
                # The host gave no answer to several tries: each of its other images would wait as long.
                self._away[host] = problem
            return self._unknown(reference, problem, _ASK_AGAIN)

    def _unknown(self, reference: str, problem: str, remedy: str) -> str:
        self.unasked[reference] = remedy
        return problem


def _report_loss(survey: _RowSurvey, what: Digest | str, problem: str, unasked: str | None = None) -> None:
    """Add a finding for each release that has the blob or image. `unasked`: no registry answered, and what to do about that."""
    holders = survey.blobs[what] if isinstance(what, Digest) else survey.images[what]
    for where, key in holders:
        finding = Finding(
            what="blob" if isinstance(what, Digest) else "image",
            where=f"{where} ({what})",
            problem=problem,
            remedy=unasked or (_BYTES if isinstance(what, Digest) else _IMAGE),
        )
        (survey.images_unasked if unasked else survey.findings).append((finding, key))


@contextmanager
def _memory(path: Path | None, registry: Registry) -> Iterator[tuple[set[Digest], Callable[[Digest], None]]]:
    """The blobs that an interrupted run verified, and a function that remembers one more. The file goes at the end."""
    if path is None:
        yield set(), lambda _: None
        return
    where, now = registry.place.where, registry.place.now()
    checked = _read_memory(path, where, now)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if checked else "w", encoding="utf-8", buffering=1) as stream:
        if not checked:
            stream.write(json.dumps({"registry": where, "begun": now}) + "\n")
        yield checked, lambda blob: print(blob, file=stream)
    path.unlink(missing_ok=True)


def _read_memory(path: Path, where: str, now: float) -> set[Digest]:
    """The blobs in the file; none when it is missing, too old or of another registry."""
    try:
        head, *lines = path.read_text(encoding="utf-8").split("\n")
        header = json.loads(head)
        if header["registry"] != where or not 0 <= now - header["begun"] <= RESUME_S:
            return set()
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return set()
    checked = set()
    for line in lines[:-1]:  # text behind the last end of a line was cut off
        try:
            checked.add(Digest(line))
        except ValueError:
            continue
    return checked
