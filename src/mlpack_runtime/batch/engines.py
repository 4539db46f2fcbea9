"""A service for batches: items put together for the engine, and no line of the log for each.

Promises: the package's own model, hooks and task; nothing is loaded twice. Will not: serve anybody else.
"""

import os

from mlpack_runtime import ort
from mlpack_runtime.backends.cpu import CpuBackend
from mlpack_runtime.json_room import JsonRoom
from mlpack_runtime.limits import number
from mlpack_runtime.service import Service
from mlpack_runtime.serving.batched import Batched
from mlpack_runtime.serving.batcher import Batcher
from mlpack_runtime.serving.breaker import Breaker
from mlpack_runtime.serving.probe import probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mlpack_runtime.model import Model

_WAIT_S = 0.002
"""For how long a batch waits for items to join it: they come as soon as others are answered."""


class Engine:
    """`service`, and how many items it should be asked for at a time (`threads`)."""

    def __init__(self, loaded: "Model") -> None:
        backend = CpuBackend(loaded.session) if isinstance(loaded.session, ort.Session) else loaded.session
        found = probe(loaded, backend)
        packaged = loaded.settings.get("worker") or {}
        most = int(number(os.environ, "MLPACK_MAX_BATCH", packaged.get("max_batch", 8), 1, 4096))
        breaker = Breaker(3, 10.0)
        batcher = Batcher(backend, found.layout, max_batch=most, max_wait_s=_WAIT_S, breaker=breaker, sample=found.sample)
        batcher.hold_to(loaded.limits)
        batcher.start()
        self.service = Service(loaded, Batched(loaded, batcher))
        self.service.room = JsonRoom()
        self.service.log_lines = False
        self.threads = 2 * batcher.max_batch if found.layout.batched else 2


def quiet(service: Service) -> Service:
    """The same service without a line of the log for each request: those of a batch are in its results. Each
    of several models (`several`) keeps its own lines."""
    twin = type(service).__new__(type(service))
    twin.__dict__.update(service.__dict__)
    twin.log_lines = False
    return twin
