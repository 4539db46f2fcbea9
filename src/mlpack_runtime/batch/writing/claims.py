"""Which runner works on which part: a file each, that says until when.

    {"owner": "...", "until": 1767225600.0, "lease": 120, "done": 3000, "deaths": 1}

Promises: of runners that ask at the same time one gets a part; one that has ended without a word is replaced when it has said
nothing for its lease, and at once where it is known to be gone; how many have ended so at the same place is known (`deaths`).
Runners' clocks decide nothing of this: how long ago a claim was written is measured by the clock of the place where it lies. Where
a store does not tell that, `until` counts, by the clock of whoever looks.
Will not: keep two from working on one part, where one was stopped for longer than its lease and goes on: that costs time, and no
result, since pieces are written once (`pieces`).
"""

# ruff: noqa: PTH123 - pathlib is nothing that this runtime needs

import os
from time import monotonic, time

from mlpack_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from mlpack_runtime.batch.reading.plans import Part
    from mlpack_runtime.batch.writing.folders import Folder

LEASE_S = 120.0


class Claims:
    """A runner's. `clock` in seconds since 1970; `steady` in seconds since whenever."""

    def __init__(
        self,
        folder: "Folder",
        lease_s: float = LEASE_S,
        clock: "Callable[[], float]" = time,
        steady: "Callable[[], float]" = monotonic,
    ) -> None:
        self._folder = folder
        self._lease_s = lease_s
        self.pause_s = lease_s / 6
        """How long a runner may wait between two calls of `keep`."""
        self._clock = clock
        self._steady = steady
        # Functions are machines made of one snapshot, perhaps: then each boot has the same name, and others' processes look gone.
        process = "" if os.environ.get("AWS_LAMBDA_RUNTIME_API") else _process(os.getpid())
        self._owner = f"{process} {os.urandom(6).hex()}"
        self._kept_s = 0.0
        self._done: object = None
        self._deaths = 0

    def take(self, part: "Part") -> bool:
        """Whether it is ours now. Raises BatchError."""
        name = self._name(part)
        self._done, self._deaths = None, 0
        if self._folder.put_new(name, self._told()):
            return True
        held = self._folder.held(name)
        if held is not None and self._is_ours(held[0]):  # the answer to our write was lost on its way
            return True
        if held is None or not self._is_over(held[0], held[2]):
            return False
        before = _value(held[0])
        if before.get("owner"):  # it was not given back
            self._done, deaths = before.get("done"), before.get("deaths")
            self._deaths = deaths if type(deaths) is int else 0
        return self._folder.replace(name, self._told(), held[1])

    def deaths(self, part: "Part", done: int) -> int:
        """How many runners have had this part with so many items done, and have ended before another one was. To be asked once,
        before items are answered; `part` is ours. Raises BatchError."""
        self._deaths = self._deaths + 1 if self._done == done else 0
        self.mark(part, done, self._deaths)
        return self._deaths

    def mark(self, part: "Part", done: int, deaths: int) -> None:
        """Say how far it is. Raises BatchError."""
        self._done, self._deaths = done, deaths
        self._replace(part, self._told())

    def keep(self, part: "Part") -> None:
        """Say that we are at work still; called as often as one likes."""
        if self._steady() - self._kept_s >= self._lease_s / 3:
            self._replace(part, self._told())

    def give_back(self, part: "Part") -> None:
        """Let others have it at once."""
        self._replace(part, jsontext.dumps({"owner": "", "until": 0}).encode())

    def leave(self, part: "Part", done: int) -> None:
        """Let others have it at once, as one who has died with so many items done."""
        told = {"owner": self._owner, "until": 0, "done": done, "deaths": self._deaths}
        self._replace(part, jsontext.dumps(told).encode())

    def _replace(self, part: "Part", data: bytes) -> None:
        """Write it where the part is ours. Where another has it, whose pieces come first count."""
        held = self._folder.read(self._name(part))
        if held is not None and self._is_ours(held[0]):
            self._folder.replace(self._name(part), data, held[1])

    def _told(self) -> bytes:
        self._kept_s, until_s = self._steady(), self._clock() + self._lease_s
        told = {"owner": self._owner, "until": round(until_s, 3), "lease": self._lease_s}
        return jsontext.dumps({**told, "done": self._done, "deaths": self._deaths}).encode()

    def _is_ours(self, data: bytes) -> bool:
        return jsontext.text_of(_value(data), "owner") == self._owner

    def _is_over(self, data: bytes, age_s: "float | None") -> bool:
        value = _value(data)
        until_s, lease_s, owner = value.get("until"), value.get("lease"), jsontext.text_of(value, "owner")
        if not isinstance(until_s, (int, float)) or not until_s:  # no claim, or given back
            return True
        if age_s is None:
            if until_s <= self._clock():
                return True
        elif age_s >= (lease_s if isinstance(lease_s, (int, float)) else self._lease_s):
            return True
        # A process of this very machine can be looked for.
        place, mark, rest = owner.partition(" ")
        here = self._owner.partition(" ")[0]
        return bool(mark) and place == here and _process(_number(rest)) != owner.rpartition(" ")[0]

    @staticmethod
    def _name(part: "Part") -> str:
        return f"claims/{part.name}.json"


def _value(data: bytes) -> "dict[str, object]":
    try:
        value = jsontext.loads(data)
    except ValueError:
        return {}
    return value if type(value) is dict else {}


def _number(text: str) -> int:
    first = text.partition(" ")[0]
    return int(first) if first.isdigit() else 0


def _process(number: int) -> str:
    """A process of this machine since it was started, and of no other: its boot and container, its id, when it began."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            boot = stream.read().strip()
        with open(f"/proc/{number}/stat", encoding="ascii", errors="replace") as stream:
            began = stream.read().rpartition(")")[2].split()[19]
        return f"{boot}/{os.readlink('/proc/self/ns/pid')} {number} {began}"
    except (OSError, IndexError):
        return ""
