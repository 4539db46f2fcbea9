"""Garbage collection: finds the releases that a retention policy lets go, and the blobs and images that nothing needs any more.

Promises:
- `plan` changes nothing.
- The newest release of a name and the target of an alias stay, whatever the policy says. Versions therefore never repeat.
- Rows are removed first, a batch in one commit with its record in the log, and blobs last (`removal`). After a kill at any
  moment a second run finishes.
- What a publisher or a promotion relies on meanwhile stays, and so does the target of a rollback (`leases`).
- A registry with a damaged row is not collected: nobody could say what that row needs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlpack.core.digest import Digest
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import ConflictError, Delete, Place, Put, StoredBlob, audit
from mlpack.registry.aliases import aliases
from mlpack.registry.records import Release
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import leases, marks, rows
from mlpack.registry.upkeep.removal import ConcurrentRollbackError, Progress, RefusedImage, RemovedRelease, Remover

YOUNGEST_S = 2 * leases.YOUNG_S
"""No younger release is collected, since promotions of young releases write no intent."""

_DAY_S = 24 * 3600.0
_TRIES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """Which releases a collection keeps, beside those that always stay: the newest of each name, targets of aliases, and what is
    in use or being published."""

    newest: int = 10
    """Keep this many newest releases of each name."""
    days: float = 30.0
    """Keep releases younger than this many days."""
    tags: tuple[str, ...] = ("keep",)
    """Keep releases with one of these tags, KEY or KEY=VALUE."""
    moves: int = 10
    """Keep the releases of this many last moves of each alias, so that it can be rolled back."""
    window_days: float = 90.0
    """Keep the releases that an alias pointed to at any time in this many last days."""
    grace_days: float = 1.0
    """Keep bytes younger than this many days."""

    def __post_init__(self) -> None:
        # No comparison holds with NaN, so that nothing would be too young to be removed.
        if not all(0 <= each < math.inf for each in (self.newest, self.days, self.moves, self.window_days, self.grace_days)):
            raise RecipeError(
                "what is kept is counted in releases, moves and days: none of them can be less than 0, or without end"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRelease:
    """A release that stays, and every reason for it."""

    reference: str
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionPlan:
    """What a collection would do, or has done."""

    kept: tuple[KeptRelease, ...]
    releases: tuple[RemovedRelease, ...]
    blobs: tuple[StoredBlob, ...]
    images: tuple[str, ...]
    """References that no release has any more, of releases that go now or went earlier. None without a container registry."""
    refused: tuple[RefusedImage, ...] = ()
    """Those of `images` that the container registry refused to remove."""

    @property
    def size_bytes(self) -> int:
        """The size of the blobs that go."""
        return sum(stored.size_bytes for stored in self.blobs)


def as_json(plan: CollectionPlan) -> dict[str, Any]:
    """A plan as JSON for other programs."""
    return {
        "kept": [{"release": release.reference, "why": list(release.why)} for release in plan.kept],
        "releases": [{"release": each.reference, "digest": str(each.digest), "created": each.created} for each in plan.releases],
        "blobs": [{"digest": str(stored.digest), "size_bytes": stored.size_bytes} for stored in plan.blobs],
        "images": list(plan.images),
        "refused": [{"image": each.reference, "why": each.why} for each in plan.refused],
        "size_bytes": plan.size_bytes,
    }


def plan(registry: Registry, policy: RetentionPolicy, live: Mapping[str, str] | None = None) -> CollectionPlan:
    """What `collect` would do now.

    `live`: what is in use and by whom: digests of packages or images, `host/name@sha256:...`, or `host/name:tag`, for which
    every image of that name stays. See `live.live_in_aws`. ServiceError when a row is damaged.
    """
    registry.check_schema()
    return _plan(registry, policy, live or {}, lambda: None)[0]


def collect(
    registry: Registry,
    policy: RetentionPolicy,
    live: Mapping[str, str] | None = None,
    *,
    who: str,
    progress: Progress = lambda _done, _all: None,
) -> CollectionPlan:
    """Make a plan and carry it out. Returns what was done. ServiceError when another collector runs, or the lease was lost.

    `CollectionPlan.refused` are images that a container registry does not remove. That is no error, since nothing here can
    change it.
    """
    registry.check_schema()
    with leases.collecting(registry.place, who) as lease:
        # Intents are read before releases: a publisher whose intent is gone has committed its release.
        for intent in leases.intents(registry.place)[1]:
            try:
                registry.place.table.commit(Delete(key=intent.row.key, expect=intent.row.revision))
            except ConflictError:
                continue  # the publication ended at this moment
        remover = Remover(registry, lease, who, progress)
        for _ in range(_TRIES):
            plan, fences = _plan(registry, policy, live or {}, lease.check)
            try:
                remover.rows(plan.releases, fences, len(plan.blobs) + len(plan.images))
            except ConcurrentRollbackError:
                continue
            refused = remover.bytes(plan.blobs, plan.images)
            return dataclasses.replace(plan, releases=tuple(remover.removed), refused=refused)
    raise ServiceError(f"{registry.place.where}: others rolled back {_TRIES} times meanwhile: run it again", retryable=True)


# --- what goes --------------------------------------------------------------------------------------------------------


@dataclass
class _Survey:
    """What the planning has read so far."""

    policy: RetentionPolicy
    live: _DigestsInUse
    intended: set[Digest]
    now: float
    kept: list[KeptRelease] = field(default_factory=list)
    removed: list[RemovedRelease] = field(default_factory=list)
    needed: set[Digest] = field(default_factory=set)
    """Blobs of releases that stay."""
    images: set[str] = field(default_factory=set)
    """References that stay."""
    fences: dict[str, Put] = field(default_factory=dict)
    """Of each name, as it was before its histories were read."""

    def name(self, place: Place, name: str, tick: Callable[[], None]) -> None:
        """Read every release of a name."""
        self.fences[name] = leases.fence(place, name)
        aliased = _aliased(place, name, self.policy, self.now)
        for index, row in enumerate(place.table.query(rows.releases(name), newest_first=True, bodies=True)):
            tick()
            release = rows.decode(row, place.where)
            version = release.version
            why = [*aliased.get(version, ()), *self._reasons(release)]
            if index < max(self.policy.newest, 1):
                why.insert(0, "the newest" if index == 0 else f"one of the newest {self.policy.newest}")
            if why:
                self.kept.append(KeptRelease(reference=f"{name}@{version}", why=tuple(why)))
                self.needed |= set(rows.stored_files(release).values())
                self.images |= set(release.images.values())
            else:
                images = tuple(sorted(release.images.values()))
                removal = RemovedRelease(name=name, version=version, digest=release.digest, created=release.created, images=images)
                self.removed.append(removal)

    def _reasons(self, release: Release) -> list[str]:
        """The reasons for which a release stays on its own account."""
        reasons = []
        age, policy = self.now - rows.seconds(release.created), self.policy
        if age < max(policy.days * _DAY_S, YOUNGEST_S):
            reasons.append(f"younger than {policy.days:g} days" if age < policy.days * _DAY_S else "younger than an hour")
        reasons += [f"tagged {tag}" for tag in policy.tags if _has(release, tag)]
        reasons += [f"in use by {who}" for who in self.live.users(release)]
        if rows.relied_on(release) <= self.intended:
            reasons.append("being published or promoted")
        return reasons


def _plan(
    registry: Registry, policy: RetentionPolicy, live: Mapping[str, str], tick: Callable[[], None]
) -> tuple[CollectionPlan, dict[str, Put]]:
    """The plan, and the fence of each name.

    It reads intents first, then histories, then releases: a process that ends one of these before it is read has left a trace in
    the next.
    """
    place = registry.place
    intended = {blob for intent in leases.intents(place)[0] for blob in intent.digests}
    survey = _Survey(policy=policy, live=_DigestsInUse(live), intended=intended, now=place.now())
    for name in registry.names():
        tick()
        survey.name(place, name, tick)
    needed, old = survey.needed | intended, survey.now - policy.grace_days * _DAY_S
    blobs = []
    for stored in place.blobs.list():
        tick()
        if stored.digest not in needed and stored.modified < old:
            blobs.append(stored)
    images = _images_without_release(place, survey) if registry.images else ()
    return CollectionPlan(kept=tuple(survey.kept), releases=tuple(survey.removed), blobs=tuple(blobs), images=images), survey.fences


def _aliased(place: Place, name: str, policy: RetentionPolicy, now: float) -> dict[int, list[str]]:
    """The versions that aliases point to, pointed to within the window, or would be rolled back to, each with the reasons."""
    subjects: dict[int, list[str]] = {}
    for alias in place.table.query(rows.aliases(name)):
        until = now
        subject = f"{name}:{marks.alias(alias, place.where)}"
        for index, row in enumerate(place.table.query(rows.moves(name, alias.key.sort), newest_first=True)):
            move = rows.decode_move(row, place.where)
            if index > 0 and index >= policy.moves and until < now - policy.window_days * _DAY_S:
                break
            reason = f"{subject} pointed to it until {rows.timestamp(until)}" if index else f"{subject} points to it"
            if not any(reasons.startswith(f"{subject} ") for reasons in subjects.setdefault(move.version, [])):
                subjects[move.version].append(reason)
            until = rows.seconds(move.when)
        # However old it is: a rollback would choose this release.
        good = aliases.good_before(aliases.history(place, rows.Reference(name=name, alias=alias.key.sort)))
        back = next((version for version in good if place.table.get(rows.release_key(name, version))), None)
        if back is not None and not any(reasons.startswith(f"{subject} ") for reasons in subjects.setdefault(back, [])):
            subjects[back].append(f"{subject} would be rolled back to it")
    return subjects


def _has(release: Release, tag: str) -> bool:
    key, is_pair, value = tag.partition("=")
    return key in release.tags and (not is_pair or release.tags[key] == value)


def _images_without_release(place: Place, survey: _Survey) -> tuple[str, ...]:
    """Images of collected releases that were not removed since: after a kill only the record of a collection names them."""
    unneeded: set[str] = set()
    for _, entry in audit.entries(place):
        if entry.what == audit.COLLECTED:
            unneeded |= set(entry.images)
        elif entry.what == audit.IMAGES_REMOVED:
            unneeded -= set(entry.images)
    unneeded |= {reference for each in survey.removed for reference in each.images}
    stays = survey.intended | survey.live.digests.keys()
    unneeded = {each for each in unneeded - survey.images if rows.image_digest(each) not in stays}
    return tuple(sorted(each for each in unneeded if not survey.live.names(each)))


class _DigestsInUse:
    """What is in use: digests, and names of images whose digest is not known."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self.digests: dict[Digest, str] = {}
        self._names: dict[str, str] = {}
        for text, who in users.items():
            try:
                self.digests[Digest(text.rpartition("@")[2])] = who
            except ValueError:
                self._names[_without_tag(text)] = who

    def users(self, release: Release) -> list[str]:
        """The users of anything of this release."""
        digests = {*release.files.values(), *map(rows.image_digest, release.images.values())}
        digests |= {one.digest for one in release.packages.values()}
        users = {self.digests[text] for text in digests & self.digests.keys()}
        users |= {self._names[_repository(each)] for each in release.images.values() if self.names(each)}
        return sorted(users)

    def names(self, reference: str) -> bool:
        """Whether an image of this name is in use whose digest is not known."""
        return _repository(reference) in self._names


def _repository(reference: str) -> str:
    return reference.partition("@")[0]


def _without_tag(reference: str) -> str:
    """`host:port/name:tag` without its tag."""
    host, slash, name = reference.rpartition("/")
    return f"{host}{slash}{name.partition(':')[0]}"
