"""Several models in a process that stays: each has a batcher of its own while it is in memory.

Promises: deadlines, the breaker and the end reach all of them; a model that is let go of has answered what it was asked.
"""

import threading

from mlpack_runtime import model
from mlpack_runtime.json_room import JsonRoom
from mlpack_runtime.service import Service
from mlpack_runtime.several.service import Opened, Several, kept, let_go

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from mlpack_runtime.serving.batched import Batched
    from mlpack_runtime.serving.batcher import Batcher
    from mlpack_runtime.serving.health import Server
    from mlpack_runtime.serving.probe import Found

    class Host(Protocol):
        """What a process does for each of its models."""

        server: Server
        tell_ready: Callable[[], None]

        def open(self, place: str) -> model.Model:
            """The model in a directory."""

        def batch(self, loaded: model.Model, caller: "threading.local | None" = None) -> "tuple[Batcher, Batched, Found]":
            """A batcher for it, at work."""

        def gather(self, batchers: Batcher) -> None:
            """Watch several as one."""

        def tell_start(self, loaded: model.Model, found: Found, batcher: Batcher) -> None:
            """Write the line of its start."""


class Batchers:
    """The batchers of the models in memory, for those who look at one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[str, Batcher] = {}
        self._past_s = 0.0

    def add(self, place: str, batcher: "Batcher") -> None:
        """One more."""
        with self._lock:
            self._all[place] = batcher

    def remove(self, place: str) -> None:
        """Stop one that nobody asks any more."""
        with self._lock:
            batcher = self._all.pop(place)
            self._past_s += batcher.busy_s
        batcher.stop()
        for each in self._now():
            each.look()

    def _now(self) -> "list[Batcher]":
        with self._lock:
            return list(self._all.values())

    @property
    def busy_s(self) -> float:
        """For how long engines have run, those of models that are gone included."""
        return self._past_s + sum(each.busy_s for each in self._now())

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return sum(each.waiting for each in self._now())

    @property
    def running_s(self) -> float:
        """The longest that a batch has been run for."""
        return max((each.running_s for each in self._now()), default=0.0)

    @property
    def thread(self) -> "threading.Thread | None":
        """One that has ended, where there is one."""
        threads = (each.thread for each in self._now())
        return next((thread for thread in threads if thread.ident and not thread.is_alive()), None)

    def hurry(self) -> None:
        """As a Batcher's."""
        for each in self._now():
            each.hurry()

    def stop(self) -> None:
        """As a Batcher's."""
        for each in self._now():
            each.stop()


def serve(process: "Host", place: str, loaded: model.Model) -> Several:
    """The service of a package of several models, of which the default one is `loaded`."""
    batchers, caller, ready = Batchers(), threading.local(), [loaded]

    def opener(there: str) -> Opened:
        is_first = bool(ready)
        opened = ready.pop() if is_first else process.open(there)
        try:
            batcher, predict, found = process.batch(opened, caller)
        except BaseException:
            let_go(opened)
            raise
        batchers.add(there, batcher)

        def close() -> None:
            batchers.remove(there)
            let_go(opened)

        made = kept(lambda: Service(opened, predict), close)
        if is_first:
            process.tell_ready = lambda: process.tell_start(opened, found, batcher)  # once its requests are answered
        else:
            process.tell_start(opened, found, batcher)
        return made

    several = Several(place, model.read_settings(place), opener)
    metrics = process.server.metrics
    several.equip(JsonRoom(), metrics.of if metrics else None)
    aggregate: Any = batchers
    process.gather(aggregate)
    process.server.limit = lambda until_s: setattr(caller, "until_s", until_s)
    return several
