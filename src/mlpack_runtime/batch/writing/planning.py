"""How far the plan of a long manifest is, in `planning.json` beside its results until there is a job.json.

Promises: a runner that is killed or has no more time while it reads a manifest costs `EVERY_S` seconds of that, and the plan of
several goes is the one that one go would have made. What was begun for another manifest, or cannot be read, is not gone on with.
Will not: be asked where a plan is made within some seconds.
"""

from time import monotonic

from mlpack_runtime import jsontext
from mlpack_runtime.batch.reading.plans import Planner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mlpack_runtime.batch.reading.manifests import Manifest
    from mlpack_runtime.batch.writing.folders import Folder

PLANNING = "planning.json"
EVERY_S = 10.0


class Planning:
    """Of one runner. `told`: what the folder is for, as job.json has it."""

    def __init__(self, folder: "Folder", told: "dict[str, Any]", manifest: "Manifest") -> None:
        self._folder = folder
        self._told = told
        self._manifest = manifest
        self._planner = Planner()
        self._began = 0
        self._next_s = monotonic() + EVERY_S

    def planner(self, items: int) -> Planner:
        """A planner that goes on with what is there, else a new one with so many items a part. Raises BatchError."""
        self._planner = self._held() or Planner(items)
        self._began = self._planner.total
        self._planner.save = self._now_and_then
        return self._planner

    def stopped(self) -> bool:
        """Write how far it is, as there is no more time; False where nothing was added to what was there. Raises BatchError."""
        if self._planner.total == self._began:
            return False
        self._save()
        return True

    def _held(self) -> "Planner | None":
        held = self._folder.read(PLANNING)
        if held is None:
            return None
        try:
            value = jsontext.loads(held[0])
            if value["told"] != self._told:
                return None
            planner, most = Planner.of(value["state"]), int(value["record_bytes"])
        except (ValueError, KeyError, TypeError):
            return None
        self._manifest.most = most  # whoever began may have had other limits
        return planner

    def _now_and_then(self) -> None:
        if monotonic() >= self._next_s:
            self._next_s = monotonic() + EVERY_S
            self._save()

    def _save(self) -> None:
        state = {"told": self._told, "record_bytes": self._manifest.most, "state": self._planner.state()}
        data = jsontext.dumps(state).encode()
        held = self._folder.read(PLANNING)
        if held is None:
            self._folder.put_new(PLANNING, data)
        else:  # where another runner was first, it is about as far
            self._folder.replace(PLANNING, data, held[1])
