"""What a process that serves is told: environment variables, and the defaults that its package names (docs/worker.md lists them).

Promises: every number is within its bounds, or a SettingsError names the variable; what an orchestrator injects under a name of
ours for reasons of its own is passed over, and `warnings` says so. Will not: read the environment by itself.
"""

from mlpack_runtime.limits import SettingsError, number, quoted
from mlpack_runtime.serving.http_listener import Bounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PORTS = ("MLPACK_PORT", "SAGEMAKER_BIND_TO_PORT", "PORT")
"""Variables that say where to listen, by precedence: ours, SageMaker's for containers with the label, and Cloud Run's, which
Heroku, Knative and App Engine share."""
LAME_DUCK_S = 5.0
"""For how long answers go on after SIGTERM: Kubernetes and load balancers learn of the end at the same moment as we do, and take
some seconds to send callers elsewhere. Cloud Run kills 10 s after the signal."""
LAME_DUCK_SHARE = 0.8
"""How much of MLPACK_DRAIN_S that may take: what is taken at its very end has to be answered too."""


class Settings:
    """What is told to a process: `environment` first, then model.json's "worker". Raises SettingsError."""

    def __init__(self, environment: "Mapping[str, str]", packaged: "Mapping[str, Any]") -> None:
        self._environment = environment
        self.warnings: list[str] = []
        self.max_batch = int(self._number("MLPACK_MAX_BATCH", packaged.get("max_batch", 8), 1, 4096))
        self.max_wait_s = self._number("MLPACK_MAX_WAIT_MS", packaged.get("max_wait_ms", 5), 0, 60_000) / 1e3
        self.port = self._port(packaged.get("port", 8080))
        self.host = environment.get("MLPACK_HOST", "")
        self.metrics_port = -1 if self._is_link("MLPACK_METRICS_PORT") else int(self._number("MLPACK_METRICS_PORT", -1, -1, 65_535))
        if self.metrics_port > 0 and self.metrics_port == self.port:
            raise SettingsError(f"MLPACK_METRICS_PORT is {self.port}, where requests come to: leave it out, and /metrics is there")
        self.http = Bounds(environment, self.max_batch)
        self.concurrency = int(self._number("MLPACK_HTTP_CONCURRENCY", packaged.get("concurrency", 0), 0, 65_536))
        self.gzip_bytes = int(self._number("MLPACK_HTTP_GZIP_BYTES", 16_384, 0, 1 << 50))
        self.drain_s = self._number("MLPACK_DRAIN_S", 25, 0, 7200)
        told = environment.get("MLPACK_LAME_DUCK_S") or packaged.get("lame_duck_s")
        self.lame_duck_s = None if told is None else self._number("MLPACK_LAME_DUCK_S", packaged.get("lame_duck_s", 0), 0, 7200)
        if (most_s := LAME_DUCK_SHARE * self.drain_s) < (self.lame_duck_s or 0):
            self.warnings.append(
                f"MLPACK_LAME_DUCK_S is {self.lame_duck_s:g}; it ends after {most_s:g} of the {self.drain_s:g} s of MLPACK_DRAIN_S,"
                " so that what is taken last is answered: raise MLPACK_DRAIN_S"
            )
        self.failures = int(self._number("MLPACK_BREAKER_FAILURES", 3, 1, 1000))
        self.cooldown_s = self._number("MLPACK_BREAKER_COOLDOWN_S", 10, 0.01, 3600)
        self.stall_s = self._number("MLPACK_STALL_S", 30, 0.1, 86_400)
        self.hang_s = self._number("MLPACK_HANG_S", 900, 0, 86_400)

    def _port(self, default: int) -> int:
        for name in PORTS:
            if self._environment.get(name) and not self._is_link(name):
                return int(self._number(name, default, 0, 65_535))
        return default

    def _is_link(self, name: str) -> bool:
        """Whether Kubernetes has set this for a Service, with a warning where it has."""
        told = self._environment.get(name, "")
        if not name.startswith("MLPACK_") or "://" not in told:
            return False
        service = name.removesuffix("_PORT").lower().replace("_", "-")
        self.warnings.append(
            f"{name} is {quoted(told)}, which Kubernetes sets where a Service is called `{service}`: it is passed over. "
            "`enableServiceLinks: false` in the pod's spec ends that"
        )
        return True

    def _number(self, name: str, default: float, least: float, most: float) -> float:
        return number(self._environment, name, default, least, most)


__all__ = ["LAME_DUCK_S", "LAME_DUCK_SHARE", "PORTS", "Settings", "SettingsError"]
