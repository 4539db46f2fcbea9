"""Write a package as an image that serves HTTP: Cloud Run, Azure Container Apps, Fargate, Kubernetes, SageMaker (`container`).

Promises:
- What `worker.write_image` promises of every image.
- The process is `bootstrap.py serve`. Its environment names no port, so that the platform's `PORT` comes before the package's.
- It holds nothing for a queue, and no cloud's client library.

Will not start anything or push. docs/serving.md lists what each platform asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from mlpack.errors import RecipeError
from mlpack.targets import limits, prices, worker
from mlpack.targets.format.contents import Contents, Written
from mlpack.targets.format.layering import Process

if TYPE_CHECKING:
    from mlpack.targets.boot.process import Boot, Means

ARGUMENTS = ("serve",)
"""SageMaker appends `serve` once more (`docker run IMAGE serve`), which changes nothing."""
LABELS = {"com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true"}
"""The image listens where SAGEMAKER_BIND_TO_PORT says, so it can be one of several in an inference pipeline (SageMaker developer
guide, "Run an inference pipeline")."""
LIMITS = worker.LIMITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """An image that serves HTTP: Cloud Run, Azure Container Apps, Fargate, Kubernetes, SageMaker."""

    RANGES: ClassVar[limits.Ranges] = limits.WORKER_RANGES

    arch: Literal["x86_64", "arm64"] = "x86_64"
    """The processor."""
    memory_mb: int = 2048
    """The container's memory; engine threads follow it, one for each 1,769 MB."""
    base: str = worker.BASE
    """The image underneath, as of cpu-worker."""
    max_batch: int = 8
    """Requests that are answered with one call of the engine, at most."""
    max_wait_ms: float = 5.0
    """How long the first of a batch waits for others."""
    port: int = worker.PORT
    """Where it listens, unless the platform says so by `PORT`."""
    user: str = worker.USER
    """Who it runs as: `number` or `number:number`, not root."""
    concurrency: int = 0
    """Requests that are worked on at a time; the next is 429. 0: any number."""
    lame_duck_s: float = 5.0
    """For how many seconds requests are taken and answered after SIGTERM."""
    priced_as: Literal["fargate", "cloud-run"] = "fargate"
    """Whose list price the report shows."""

    def __post_init__(self) -> None:
        problems = worker.process_problems(self.max_batch, self.max_wait_ms, self.port, self.user)
        if not 0 <= self.concurrency <= 65_536:
            problems.append(f"concurrency: {self.concurrency} is not between 0 (any number) and 65,536")
        if not 0 <= self.lame_duck_s <= 7200:
            problems.append(f"lame_duck_s: {self.lame_duck_s} is not between 0 and 7,200 (seconds)")
        if self.priced_as == "cloud-run" and self.arch != "x86_64":
            problems.append(f"priced_as: cloud-run has no {self.arch}: take fargate, or arch x86_64")
        if problems:
            raise RecipeError("; ".join(problems))


def needs(_config: Container) -> tuple[str, ...]:
    """Names in `wheel_rules.NEEDS`, without the tokenizer."""
    return ("engine", "http")


def settings(config: Container) -> dict[str, object]:
    """More keys of model.json: how requests are batched and admitted, and how the process ends."""
    keys = ("max_batch", "max_wait_ms", "port", "concurrency", "lame_duck_s")
    return {"backend": {"kind": "cpu", "fallback": []}, "worker": {name: getattr(config, name) for name in keys}}


def write(contents: Contents, config: Container, out_dir: Path) -> Written:
    """Write the image as an OCI layout into `out_dir/image`. LimitError or PackError before it writes; PackError when the image
    does not conform."""
    process = Process(
        arguments=ARGUMENTS,
        env={"PYTHONUNBUFFERED": "1"},
        labels={**worker.health_labels(config.port), **LABELS},
        user=config.user,
        ports=(config.port,),
        stop_signal="SIGTERM",
    )
    return worker.write_image(contents, config.arch, process, out_dir)


def boot(package: Path, event: bytes, means: Means) -> Boot:
    """Boot the package as a container: see `boot.worker.boot`."""
    from mlpack.targets.boot import worker as booting  # `plan` reads this module, and starts nothing

    return booting.boot(package, event, means, entrance=ARGUMENTS)


def price(config: Container, _latency_p50_ms: float, throughput_per_s: float | None) -> float | None:
    """Dollars for a million requests; None where the throughput was not measured."""
    if not throughput_per_s:
        return None
    usd_per_hour = prices.service_usd_per_hour if config.priced_as == "cloud-run" else prices.task_usd_per_hour
    return prices.per_million_at(usd_per_hour(config.memory_mb, config.arch), throughput_per_s)
