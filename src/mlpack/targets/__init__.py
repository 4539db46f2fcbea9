"""What a target is, and the table of the ones we have.

A target is a plain function `(contents, config, out_dir) -> Written`: it checks the platform's limits, writes what ships into an
empty directory and verifies it. Adding one is a file, a row here and a line of docs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlpack.targets import chains, lambda_image, lambda_zip, worker
from mlpack.targets.chains import Chain
from mlpack.targets.format.contents import Contents, Written
from mlpack.targets.lambda_image import LambdaImage
from mlpack.targets.lambda_zip import LambdaZip
from mlpack.targets.limits import Limit
from mlpack.targets.worker import CpuWorker, GpuWorker

Write = Callable[[Contents, Any, Path], Written]


def _engine(_config: Any) -> tuple[str, ...]:
    return ("engine",)


def _nothing(_config: Any) -> Mapping[str, object]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKind:
    """A row of the table.

    `limits`: the platform's hard numbers; those that concern a package are checked by `write` before it writes. `needs_base`:
    whether an image lies underneath. `float16_archs`: processors whose engine computes in half precision, so that fp16 is worth
    building. `version` is raised by hand when the same contents would give other bytes.

    What follows from a target's config: `chain`, how its steps are written out; `needs`, names in `wheel_rules.NEEDS` of what its
    runtime part is made of, beside a tokenizer; `settings`, more keys of model.json. `device`: what the package computes on; one
    for a GPU is neither measured nor executed where it is built. `starts`: how `boot` starts one.
    """

    config: type
    write: Write
    limits: tuple[Limit, ...]
    needs_base: bool
    float16_archs: tuple[str, ...]
    description: str
    version: int = 1
    chain: Callable[[Any], Chain] = chains.cpu
    needs: Callable[[Any], tuple[str, ...]] = _engine
    settings: Callable[[Any], Mapping[str, object]] = _nothing
    device: Literal["cpu", "gpu"] = "cpu"
    starts: Literal["lambda", "worker"] = "lambda"


TARGETS: dict[str, TargetKind] = {
    "lambda-zip": TargetKind(
        config=LambdaZip,
        write=lambda_zip.write,
        limits=lambda_zip.LIMITS,
        needs_base=False,
        float16_archs=("arm64",),
        description="AWS Lambda, managed Python runtime: a function zip, or a function zip and a layer",
    ),
    "lambda-image": TargetKind(
        config=LambdaImage,
        write=lambda_image.write,
        limits=lambda_image.LIMITS,
        needs_base=True,
        float16_archs=("arm64",),
        description="AWS Lambda, container image over a base",
    ),
    "cpu-worker": TargetKind(
        config=CpuWorker,
        write=worker.write,
        limits=worker.LIMITS,
        needs_base=True,
        float16_archs=("arm64",),
        description="Container image over a base",
        needs=worker.needs,
        settings=worker.settings,
        starts="worker",
    ),
    "gpu-worker": TargetKind(
        config=GpuWorker,
        write=worker.write,
        limits=worker.LIMITS,
        needs_base=True,
        float16_archs=("x86_64",),
        description="Container image over a base, with TensorRT engines",
        chain=worker.chain,
        needs=worker.needs,
        settings=worker.settings,
        device="gpu",
        starts="worker",
    ),
}

__all__ = [
    "TARGETS",
    "Chain",
    "Contents",
    "CpuWorker",
    "GpuWorker",
    "LambdaImage",
    "LambdaZip",
    "Limit",
    "TargetKind",
    "Written",
]
