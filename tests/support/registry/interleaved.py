"""Every order in which the steps of several actors may come, one run for each: what happens between them is enumerated, not left to
luck. Rows are kept in memory, so that a run takes a millisecond.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mlpack.core.digest import Digest
from mlpack.registry import ConflictError, Delete, Key, Put, Row, StoredBlob


@dataclass
class Memory:
    """Rows. See `mlpack.registry.Table`. `before` is called before each access, with the partitions it is about."""

    found: dict[Key, Row] = field(default_factory=dict)
    before: Callable[[str, set[str]], None] = lambda _verb, _partitions: None

    def get(self, key: Key) -> Row | None:
        self.before("get", {key.partition})
        return self.found.get(key)

    def query(
        self, partition: str, *, after: str = "", newest_first: bool = False, bodies: bool = False, limit: int | None = None
    ) -> Iterator[Row]:
        self.before("query", {partition})
        keys = sorted((key for key in self.found if key.partition == partition), reverse=newest_first)
        beyond = [key for key in keys if not after or (key.sort < after if newest_first else key.sort > after)]
        return iter([self.found[key] for key in beyond[:limit]])

    def commit(self, *writes: Put | Delete) -> None:
        self.before("commit", {write.key.partition for write in writes})
        for write in writes:
            known = self.found.get(write.key)
            if (known.revision if known else 0) != write.expect or (known is None and isinstance(write, Delete)):
                raise ConflictError(f"{write.key} was changed by another", write.key)
        for write in writes:
            if isinstance(write, Delete):
                del self.found[write.key]
            else:
                self.found[write.key] = Row(key=write.key, head=write.head, body=write.body, revision=write.expect + 1)

    def close(self) -> None:
        """Nothing is held open."""


@dataclass
class Bytes:
    """Which blobs there are; all of them are old."""

    there: set[Digest]

    def list(self) -> Iterator[StoredBlob]:
        return iter([StoredBlob(digest=named, size_bytes=1, modified=0.0) for named in sorted(self.there)])

    def delete(self, named: Digest) -> None:
        self.there.discard(named)


class Run:
    """One run of several actors, of whom one goes at a time. `chosen` says who, as far as it goes; then the first who can."""

    def __init__(self, chosen: tuple[int, ...]) -> None:
        self._chosen = chosen
        self._changed = threading.Condition()
        self._waiting: set[int] = set()
        self._ended: set[int] = set()
        self._goes: int | None = None
        self.steps: list[tuple[int, tuple[int, ...]]] = []
        """Who went, of whom."""

    def turn(self, actor: int) -> None:
        """Wait until it is this actor's turn."""
        with self._changed:
            self._waiting.add(actor)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._goes == actor)
            self._goes = None
            self._waiting.discard(actor)

    def all(self, actors: list[Callable[[], Any]], between: Callable[[], None]) -> list[Any]:
        """What each of them returned or raised. `between` is called whenever nobody is at work."""
        results: list[Any] = [None] * len(actors)

        def work(number: int) -> None:
            try:
                results[number] = actors[number]()
            except Exception as error:  # noqa: BLE001 - the test looks at it
                results[number] = error
            with self._changed:
                self._ended.add(number)
                self._changed.notify_all()

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(actors))]
        for thread in threads:
            thread.start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._goes is None and len(self._waiting | self._ended) == len(actors))
                between()
                able = tuple(sorted(self._waiting))
                if not able:
                    break
                goes = self._chosen[len(self.steps)] if len(self.steps) < len(self._chosen) else able[0]
                self.steps.append((goes, able))
                self._goes = goes
                self._changed.notify_all()
        for thread in threads:
            thread.join()
        return results


def every_order(once: Callable[[Run], None]) -> int:
    """Call `once` with a run for each order; how many there were."""
    chosen: tuple[int, ...] | None = ()
    count = 0
    while chosen is not None:
        run = Run(chosen)
        once(run)
        count += 1
        chosen = _next(run.steps)
    return count


def _next(steps: list[tuple[int, tuple[int, ...]]]) -> tuple[int, ...] | None:
    """The last step at which another could have gone instead, and did not yet."""
    for index in reversed(range(len(steps))):
        went, able = steps[index]
        if later := [actor for actor in able if actor > went]:
            return (*(actor for actor, _ in steps[:index]), later[0])
    return None
