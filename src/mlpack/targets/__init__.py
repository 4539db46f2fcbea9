"""What a target is, and the table of the ones we have.

A target is a plain function `(contents, config, out_dir) -> Written`: it checks the platform's limits, writes what ships into an
empty directory and verifies it. Adding one is a file, a row here and a line of docs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.targets import lambda_image, lambda_zip
from mlpack.targets.contents import Contents, Written
from mlpack.targets.lambda_image import LambdaImage
from mlpack.targets.lambda_zip import LambdaZip
from mlpack.targets.limits import Limit

Write = Callable[[Contents, Any, Path], Written]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKind:
    """A row of the table.

    `limits`: the platform's hard numbers; those that concern a package are checked by `write` before it writes. `needs_base`:
    whether an image lies underneath. `float16_archs`: processors whose engine computes in half precision, so that fp16 is worth
    building. `version` is raised by hand when the same contents would give other bytes.
    """

    config: type
    write: Write
    limits: tuple[Limit, ...]
    needs_base: bool
    float16_archs: tuple[str, ...]
    description: str
    version: int = 1


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
}

__all__ = ["TARGETS", "Contents", "LambdaImage", "LambdaZip", "Limit", "TargetKind", "Written"]
