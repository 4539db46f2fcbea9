"""What a worker is told: environment variables, and the defaults that its package names (docs/worker.md lists them).

Promises: every number is within its bounds, or a SettingsError names the variable. Will not: read the environment by itself.
"""

from mlpack_runtime.limits import SettingsError, number
from mlpack_runtime.serving.http_server import Bounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

IMDS = "http://169.254.169.254"


class Settings:
    """Everything that is told to a worker: `environment` first, then model.json's "worker". Raises SettingsError."""

    def __init__(self, environment: "Mapping[str, str]", packaged: "Mapping[str, Any]") -> None:
        self._environment = environment
        self.queue_url = environment.get("MLPACK_QUEUE_URL", "")
        self.results = environment.get("MLPACK_RESULTS", "")
        self.opens = environment.get("MLPACK_EVENTS", "") != "direct"
        self.dead_url = environment.get("MLPACK_DLQ_URL", "")
        self.max_batch = int(self._number("MLPACK_MAX_BATCH", packaged.get("max_batch", 8), 1, 4096))
        self.max_wait_s = self._number("MLPACK_MAX_WAIT_MS", packaged.get("max_wait_ms", 5), 0, 60_000) / 1e3
        self.port = int(self._number("MLPACK_PORT", packaged.get("port", 8080), 0, 65535))
        self.host = environment.get("MLPACK_HOST", "")
        self.http = Bounds(environment, self.max_batch)
        self.pollers = int(self._number("MLPACK_POLLERS", 2, 1, 64))
        self.poll_s = int(self._number("MLPACK_POLL_S", 5, 0, 20))
        self.prefetch = int(self._number("MLPACK_PREFETCH", min(max(2 * self.max_batch + 10, 20), 256), 1, 4096))
        self.visibility_s = int(self._number("MLPACK_VISIBILITY_S", 120, 3, 43_200))
        self.drain_s = self._number("MLPACK_DRAIN_S", 25, 0, 7200)
        self.keep_s = int(self._number("MLPACK_RESULTS_KEEP_S", 7 * 86_400, 60, 10 * 365 * 86_400))
        self.failures = int(self._number("MLPACK_BREAKER_FAILURES", 3, 1, 1000))
        self.cooldown_s = self._number("MLPACK_BREAKER_COOLDOWN_S", 10, 0.01, 3600)
        self.stall_s = self._number("MLPACK_STALL_S", 30, 0.1, 86_400)
        self.hang_s = self._number("MLPACK_HANG_S", 900, 0, 86_400)
        self.unconditional = environment.get("MLPACK_RESULTS_UNCONDITIONAL", "") in ("1", "true")
        self.spot = environment.get("MLPACK_SPOT", "") in ("1", "true")
        self.imds = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or IMDS
        if self.queue_url and not self.results:
            raise SettingsError("MLPACK_QUEUE_URL is set, MLPACK_RESULTS is not: s3://bucket/prefix or dynamodb://table is needed")

    def _number(self, name: str, default: float, least: float, most: float) -> float:
        return number(self._environment, name, default, least, most)


__all__ = ["IMDS", "Settings", "SettingsError"]
