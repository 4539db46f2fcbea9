"""Which models are in memory: loaded when they are asked for, and the least recently used let go of within a budget of bytes.

Promises: a model that answers a request is never let go of; one that is being loaded is loaded once, whoever else asks meanwhile
waits; the models in memory never have more bytes than the budget, but one that has more alone is loaded alone.
Will not: know what a model is, or HTTP.
"""

import threading
from contextlib import contextmanager
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

RETRY_S = 5.0
"""For how long a model that could not be loaded is not tried again: each try would make others go."""
WAIT_S = 10.0
"""How long a request waits for others to end, so that their model can be let go of."""
_LOOK_S = 1.0
LOADED, LOADING, ABSENT, UNLOADED, FAILED = "loaded", "loading", "absent", "unloaded", "failed"


class ShelfError(RuntimeError):
    """A model cannot be had now. `state`: UNLOADED by somebody's wish, ABSENT where others are busy in all memory, or FAILED a
    moment ago."""

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.state = state


class _Slot:
    """One model's place. `users`: requests that it answers now; `used`: when it was asked for last, by the shelf's own count."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.state = ABSENT
        self.value: Any = None
        self.users = 0
        self.used = 0
        self.why = ""
        self.failed_s = 0.0


class Shelf:
    """Models by name. `sizes`: their bytes; `budget`: the most in memory. `load` and `close` are called without the lock."""

    def __init__(
        self, sizes: "Mapping[str, int]", budget: int, load: "Callable[[str], Any]", close: "Callable[[Any], None]"
    ) -> None:
        self._slots: dict[str, _Slot] = {name: _Slot(size) for name, size in sizes.items()}
        self._budget = budget
        self._load, self._close = load, close
        self._changed = threading.Condition()
        self._count = 0

    @contextmanager
    def use(self, name: str) -> "Iterator[Any]":
        """The model, loaded, while the block runs. Raises ShelfError, and what `load` raises."""
        slot = self._slots[name]
        value = self._take(name, slot)
        try:
            yield value
        finally:
            with self._changed:
                slot.users -= 1
                self._changed.notify_all()

    def load(self, name: str) -> None:
        """Have it in memory, also where it was unloaded. Raises as `use`."""
        slot = self._slots[name]
        with self._changed:
            if slot.state in (UNLOADED, FAILED):
                slot.state = ABSENT if slot.value is None else LOADED  # its last requests may be under way still
        with self.use(name):
            pass

    def unload(self, name: str) -> None:
        """Answer nothing with it until it is loaded again; requests that run are finished first."""
        slot = self._slots[name]
        with self._changed:
            self._changed.wait_for(lambda: slot.state != LOADING)
            slot.state, value = UNLOADED, slot.value
            if value is None:
                return
            self._changed.wait_for(lambda: slot.users == 0 or slot.state != UNLOADED)
            if slot.state != UNLOADED or slot.value is not value:  # loaded again meanwhile
                return
            slot.value = None
        self._close(value)

    def state(self, name: str) -> "tuple[str, str]":
        """Where a model is, and why where it failed."""
        slot = self._slots[name]
        return slot.state, slot.why

    def values(self) -> "list[Any]":
        """What is in memory."""
        with self._changed:
            return [slot.value for slot in self._slots.values() if slot.value is not None]

    def _take(self, name: str, slot: _Slot) -> "Any":
        until_s = monotonic() + WAIT_S
        while True:
            with self._changed:
                self._count += 1
                slot.used = self._count
                if slot.state == UNLOADED:
                    raise ShelfError(f"model {name!r} was unloaded: load it with POST /v2/repository/models/{name}/load", UNLOADED)
                if slot.state == FAILED and monotonic() - slot.failed_s < RETRY_S:
                    raise ShelfError(f"model {name!r} cannot be loaded: {slot.why}", FAILED)
                if slot.value is not None:
                    slot.users += 1
                    return slot.value
                if slot.state == LOADING:
                    self._changed.wait(_LOOK_S)
                    continue
                gone = self._room(slot)
                if gone is None:
                    if monotonic() >= until_s:
                        raise ShelfError(f"no memory for model {name!r}: the others answer requests. Ask again in a moment", ABSENT)
                    self._changed.wait(min(_LOOK_S, until_s - monotonic()))
                    continue
                slot.state = LOADING
            self._fill(name, slot, gone)

    def _fill(self, name: str, slot: _Slot, gone: "list[Any]") -> None:
        value: Any = None
        state, why = FAILED, "its loading was ended"
        try:
            for each in gone:
                self._close(each)
            value = self._load(name)
            state, why = LOADED, ""
        except Exception as error:
            why = str(error)
            raise
        finally:
            with self._changed:
                slot.value, slot.state, slot.why, slot.failed_s = value, state, why, monotonic()
                self._changed.notify_all()

    def _room(self, slot: _Slot) -> "list[Any] | None":
        """What has to be closed so that this one fits, taken out already; None where it would not be enough."""
        others = [each for each in self._slots.values() if each is not slot and (each.value is not None or each.state == LOADING)]
        total = sum(each.size_bytes for each in others)
        gone: list[_Slot] = []
        for each in sorted(others, key=lambda other: other.used):
            if total + slot.size_bytes <= self._budget:
                break
            if each.users == 0 and each.state == LOADED:
                gone.append(each)
                total -= each.size_bytes
        if total and total + slot.size_bytes > self._budget:
            return None
        values = [each.value for each in gone if each.value is not None]
        for each in gone:
            each.value, each.state = None, ABSENT
        return values
