"""A package as a worker: `bootstrap.py worker`. Messages of an SQS queue, and HTTP, through one engine in dynamic batches.

Settings come from the environment, else from model.json's "worker" (docs/worker.md lists them); without MLPACK_QUEUE_URL it serves
HTTP alone. SIGTERM, SIGINT and a Spot notice end it: no message is taken any more, what is at hand is finished within
MLPACK_DRAIN_S, the rest given back; HTTP ends as `hosting.process` says.

Exit status: 0 ended as asked; 1 cannot start; 2 settings; 4 a service failed at the start: start anew, or does not keep what
results rest on: take another; 5 there is no engine for this device; 70 the device was lost, or does not come back (`EX_SOFTWARE`):
start anew, elsewhere perhaps.
Promises: a message is never lost by how a worker ends, kill -9 included. Will not: start other processes, or mend a device.
"""

import sys

from mlpack_runtime import aws, model
from mlpack_runtime.aws.promises import PromiseError
from mlpack_runtime.hosting.process import LOST, Process, emit, failed, host
from mlpack_runtime.queueing.drain import SpotWatch
from mlpack_runtime.queueing.intake import Intake
from mlpack_runtime.queueing.settings import Settings
from mlpack_runtime.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MARGIN_S = 2.0


def main(arguments: "list[str]") -> int:
    """Serve until told to end; the exit status."""
    if arguments:
        sys.stderr.write(f"a worker takes no arguments, not {' '.join(arguments)}: its settings are in the environment\n")
        return 2
    return host(Settings, Worker, _failed)


class Worker(Process):
    """A process with consumers of a queue, where there is one."""

    name = "worker"
    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._intake: Intake | None = None

    def _callers(self) -> "Callable[[], int] | None":
        return None if self.settings.queue_url else super()._callers()

    def _begin(self, loaded: model.Model, service: Service) -> None:
        if self.settings.queue_url:
            self._intake = Intake(self.settings, service, self._breaker, self.stop)
            self._intake.start()
        if self.settings.spot:
            SpotWatch(self.stop, self.settings.imds, lambda text: emit(loaded, "WARNING", text)).start()

    def _give_back(self, until_s: float) -> int:
        return self._intake.drain(until_s - _MARGIN_S) if self._intake else 0

    def _ended_beside(self) -> str:
        return self._intake.ended if self._intake else ""

    def _told(self) -> "dict[str, Any]":
        return {"queue": self.settings.queue_url}


def _failed(error: BaseException) -> int:
    if isinstance(error, PromiseError):
        return error.status
    return 1 if isinstance(error, aws.AwsError) else failed(error)


__all__ = ["LOST", "Settings", "Worker", "main"]
