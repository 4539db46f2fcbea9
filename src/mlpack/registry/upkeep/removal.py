"""Removes what `collection` chose: rows first, then blobs and images.

Promises:
- The rows of releases and the record of their removal are one commit, which fails if somebody rolled back since `collection`
  looked.
- It deletes no blob without the lease.
- A container registry that refuses to remove an image does not stop the rest. The refusal is recorded, and the next collection
  tries again.

Will not: choose what to remove.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mlpack.core import retry
from mlpack.core.digest import Digest
from mlpack.errors import ServiceError
from mlpack.registry import ConflictError, Delete, ImageRefusedError, Put, StoredBlob, audit, batches
from mlpack.registry.parallel import side_by_side
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import leases, rows

_TRIES, _PAUSES = 5, retry.spread(0.1, 0.8)
_BATCH = 6
"""Releases in a commit: three rows each, one record, and the fence."""
_RECORDED = 1000
"""Images in a record: DynamoDB stores 400 kB in a row."""

Progress = Callable[[int, int], None]
"""Called with the number of removals that were done, and of all."""


class ConcurrentRollbackError(Exception):
    """An alias was rolled back meanwhile: plan again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedRelease:
    """A release that goes. `images`: its references in the container registry."""

    name: str
    version: int
    digest: Digest
    created: str
    images: tuple[str, ...]

    @property
    def reference(self) -> str:
        """NAME@VERSION."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedImage:
    """An image that nothing needs and that the container registry refuses to remove."""

    reference: str
    why: str


class Remover:
    """Removes with a lease. `removed`: the releases that are gone, in order."""

    def __init__(self, registry: Registry, lease: leases.DeletionLease, who: str, progress: Progress) -> None:
        self._registry, self._place, self._lease, self._who, self._progress = registry, registry.place, lease, who, progress
        self._lock = threading.Lock()
        self._total = self._done = 0
        self.removed: list[RemovedRelease] = []

    def rows(self, releases: Sequence[RemovedRelease], fences: dict[str, Put], more: int) -> None:
        """Remove the rows of `releases`, one commit a name.

        `fences` holds the fence of each name of a release; `more` is how many things are removed afterwards, for the progress.
        ConcurrentRollbackError when an alias was moved meanwhile."""
        self._total = len(self.removed) + len(releases) + more
        for name, each in itertools.groupby(releases, key=lambda release: release.name):
            fence = fences[name]
            for batch in batches(each, _BATCH):
                self._lease.check()
                self._remove_rows(batch, fence)
                fence = replace(fence, expect=fence.expect + 1)
                self.removed += batch
                self._step(len(batch))

    def _remove_rows(self, batch: Sequence[RemovedRelease], fence: Put) -> None:
        """Remove their rows and record it, all or none."""
        writes: list[Put | Delete] = []
        for each in batch:
            writes += rows.release_deletes(each.name, each.version, each.digest)
        details = {
            "releases": {each.reference: str(each.digest) for each in batch},
            "images": sorted(reference for each in batch for reference in each.images),
        }
        try:
            self._place.table.commit(*writes, audit.entry_put(self._place, audit.COLLECTED, self._who, details), fence)
        except ConflictError as error:
            if error.key == fence.key:
                raise ConcurrentRollbackError from error
            # A lost answer looks like a conflict when the request was repeated on the way.
            if any(self._place.table.get(rows.release_key(each.name, each.version)) for each in batch):
                raise ServiceError(f"{self._place.where}: {error.key} is not as it should be: run `mlpack verify`") from error

    def bytes(self, blobs: Sequence[StoredBlob], images: Sequence[str]) -> tuple[RefusedImage, ...]:
        """Remove these blobs and images. Returns the images that the container registry refuses to remove. ServiceError, after all
        the rest, when it gives no answer."""
        if blobs or images:
            size = sum(stored.size_bytes for stored in blobs)
            details = {"blobs": len(blobs), "size_bytes": size, "images": len(images), "releases": len(self.removed)}
            audit.record(self._place, audit.GC, self._who, details)
        side_by_side(partial(self._remove_blob, stored.digest) for stored in blobs)
        failed: dict[str, ServiceError] = {}
        side_by_side(partial(self._remove_image, reference, failed) for reference in images)
        for some in batches((each for each in images if each not in failed), _RECORDED):
            audit.record(self._place, audit.IMAGES_REMOVED, self._who, {"images": list(some)})
        unanswered = next((error for error in failed.values() if not isinstance(error, ImageRefusedError)), None)
        if unanswered is not None:
            raise unanswered
        refused = tuple(RefusedImage(reference=each, why=str(failed[each])) for each in images if each in failed)
        if refused:
            audit.record(self._place, audit.IMAGES_REFUSED, self._who, {"images": len(refused), "why": refused[0].why})
        return refused

    def _remove_blob(self, blob: Digest) -> None:
        if (error := self._ask(partial(self._place.blobs.delete, blob))) is not None:
            raise error

    def _remove_image(self, reference: str, failed: dict[str, ServiceError]) -> None:
        assert self._registry.images is not None, "without a container registry no image is found to go"
        if (error := self._ask(partial(self._registry.images.delete, reference))) is not None:
            failed[reference] = error

    def _ask(self, delete: Callable[[], None]) -> ServiceError | None:
        """Request a removal, and check the lease before each retry. Returns why it was not done."""
        failure: ServiceError | None = None
        for _ in retry.attempts(_TRIES, _PAUSES):
            self._lease.check()
            try:
                delete()
            except ServiceError as error:
                failure = error
                if error.retryable:
                    continue
                break
            self._step()
            return None
        return failure

    def _step(self, count: int = 1) -> None:
        with self._lock:
            self._done += count
            self._progress(self._done, self._total)
