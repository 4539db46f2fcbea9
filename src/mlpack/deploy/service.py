"""What is deployed: a release or a build, as everything else of this room sees it. Pure.

Promises:
- A `Service` says all that resources, limits, prices and rollouts are computed from; nobody reads a build's files but `sources`.

Will not: know an account, a region or a clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlpack.recipe.deploy.section import Section

Kind = Literal["lambda-zip", "lambda-image", "container", "worker"]
HANDLER = "mlpack_runtime.handler.handler"
DOOR_HANDLER = "mlpack_runtime.frontdoor.handler"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseName:
    """Which release it is. `version`: 0 for a build that is not published. `alias`: the one that it was asked for by."""

    name: str
    version: int
    digest: str
    alias: str | None = None

    @property
    def reference(self) -> str:
        """`fashion@8`, or `fashion` for a build."""
        return f"{self.name}@{self.version}" if self.version else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The front door of a worker: `frontdoor.zip`."""

    sha256: str
    size_bytes: int
    runtime: str
    memory_mb: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The chosen package. `target`: of the recipe; `kind`: what it is to a deployment.

    `sha256`: hex digest of function.zip, or of the image's manifest. `features`, `cache`, `log`, `weights`, `authorize`, `cors`: as
    model.json has them, None where it has none. `weight_bytes`: of weights outside. `document`: openapi.json.
    """

    candidate: str
    target: str
    kind: Kind
    sha256: str
    size_bytes: int
    compressed_bytes: int
    runtime: str
    architecture: Literal["x86_64", "arm64"]
    memory_mb: int
    timeout_s: int
    handler: str = HANDLER
    layer_sha256: str | None = None
    gpu: bool = False
    port: int = 8080
    max_batch: int = 1
    door: Door | None = None
    features: Mapping[str, Any] | None = None
    cache: Mapping[str, Any] | None = None
    log: Mapping[str, Any] | None = None
    weights: Mapping[str, Any] | None = None
    weight_bytes: int = 0
    authorize: Mapping[str, Any] | None = None
    cors: Mapping[str, Any] | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    """Where the registry has it: `s3_bucket`, `s3_key`, `image_uri`, `door`, ...; nothing for a build."""

    @property
    def environment(self) -> tuple[str, ...]:
        """Names of variables that it has to be given where it runs, in order."""
        keys = (self.authorize or {}).get("api_keys") or {}
        names = [keys["env"]] if isinstance(keys, Mapping) and keys.get("env") else []
        if self.kind == "worker":
            names += ["MLPACK_QUEUE_URL", "MLPACK_RESULTS", "MLPACK_DLQ_URL"]
        return tuple(names)

    @property
    def from_mount(self) -> bool:
        """Whether its weights are kept on a file system that is mounted (EFS)."""
        places = (self.weights or {}).get("cache") or ()
        return any(place != "memory" and place != "/tmp" and not place.startswith("/tmp/") for place in places)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the build measured, warm and on its own machine; None where it did not. `batch_ms`: one call of `batch` samples."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    cold_start_ms: float | None = None
    load_ms: float | None = None
    peak_mb: float | None = None
    throughput_per_s: float | None = None
    batch: int = 1
    batch_ms: float | None = None
    estimated: str | None = None
    """The device that the times are an estimate for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A model's service in an environment. `name` is that of the recipe, `environment` its tag `env`."""

    name: str
    environment: str
    tags: Mapping[str, str]
    release: ReleaseName
    package: Package
    measured: Measured
    deploy: Section

    @property
    def stack(self) -> str:
        """What its stack and its resources are called: `fashion-prod`."""
        return f"{self.name}-{self.environment}"

    @property
    def p95_ms(self) -> float:
        """The 95th percentile of a warm request, as measured; else what the recipe promises; else a second."""
        return self.measured.p95_ms or self.measured.p50_ms or self.deploy.slo.latency_p95_ms or 1000.0

    @property
    def slo_p95_ms(self) -> float:
        """The promise of latency: the recipe's, else three times what was measured, in tens of ms and at least 100."""
        return self.deploy.slo.latency_p95_ms or max(100.0, 10.0 * math.ceil(3 * self.p95_ms / 10))

    @property
    def need(self) -> int:
        """How many requests are in work at once at the peak: Little's law, and three tenths."""
        return math.ceil(round(self.deploy.traffic.peak_rps * self.p95_ms / 1000 * 1.3, 6))

    @property
    def burst(self) -> int:
        """How many requests may come at once: the recipe's, else twenty more than `need`."""
        return self.deploy.traffic.burst or self.need + 20
