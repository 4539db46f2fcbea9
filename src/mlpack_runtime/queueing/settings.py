"""What a worker is told of its queue, beside what every process that serves is told (docs/worker.md lists it).

Promises: every number is within its bounds, or a SettingsError names the variable. Will not: read the environment by itself.
"""

from mlpack_runtime.aws import promises
from mlpack_runtime.hosting import settings
from mlpack_runtime.limits import SettingsError
from mlpack_runtime.queueing import results

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

IMDS = "http://169.254.169.254"


class Settings(settings.Settings):
    """Everything that is told to a worker: `environment` first, then model.json's "worker". Raises SettingsError."""

    def __init__(self, environment: "Mapping[str, str]", packaged: "Mapping[str, Any]") -> None:
        super().__init__(environment, packaged)
        self.queue_url = environment.get("MLPACK_QUEUE_URL", "")
        self.results = environment.get("MLPACK_RESULTS", "")
        self.opens = environment.get("MLPACK_EVENTS", "") != "direct"
        self.dead_url = environment.get("MLPACK_DLQ_URL", "")
        self.pollers = int(self._number("MLPACK_POLLERS", 2, 1, 64))
        self.poll_s = int(self._number("MLPACK_POLL_S", 5, 0, 20))
        self.prefetch = int(self._number("MLPACK_PREFETCH", min(max(2 * self.max_batch + 10, 20), 256), 1, 4096))
        self.visibility_s = int(self._number("MLPACK_VISIBILITY_S", 120, 3, 43_200))
        self.keep_s = results.keep_s(environment)
        self.unconditional = promises.is_waived(environment)
        self.spot = environment.get("MLPACK_SPOT", "") in ("1", "true")
        self.imds = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or IMDS
        if self.queue_url and not self.results:
            raise SettingsError("MLPACK_QUEUE_URL is set, MLPACK_RESULTS is not: s3://bucket/prefix or dynamodb://table is needed")


__all__ = ["IMDS", "Settings", "SettingsError"]
