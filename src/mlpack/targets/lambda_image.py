"""AWS Lambda as a container image: runtime, model and code, each in its own layer, over a base.

Promises:
- Everything that `layering` promises of an image, within Lambda's limits. The image is read back and checked as Lambda checks it.

Will not: push anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from mlpack.core.digest import Digest
from mlpack.errors import PackError, RecipeError
from mlpack.targets import limits
from mlpack.targets.format import layering
from mlpack.targets.format.contents import Contents, Written, listed, sizes
from mlpack.targets.format.layering import LAYOUT

if TYPE_CHECKING:  # the table of targets is read by `plan`, which needs none of this
    from mlpack.oci.image import Image
    from mlpack.targets.boot.process import Boot, Means


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaImage:
    """A container image for Lambda."""

    RANGES: ClassVar[limits.Ranges] = limits.LAMBDA_RANGES

    arch: Literal["x86_64", "arm64"] = "x86_64"
    """The processor. arm64 (Graviton) costs 20 % less."""
    memory_mb: int | Literal["auto"] = 1769
    """The function's memory, 128 to 10,240; CPU comes with it, one vCPU at 1,769. `auto`: the cheapest size within the budgets, by
    measuring the chosen package at several."""
    base: str = "public.ecr.aws/lambda/python:3.13"
    """The image underneath, with Python 3.11 or later and glibc 2.28 or later: a registry reference (pinned by digest in
    mlpack.lock), an OCI layout or archive, of several images `DIR:TAG` or `DIR@sha256:...`, or the directory of a root file
    system."""

    def __post_init__(self) -> None:
        if problem := limits.memory_problem(self.memory_mb):
            raise RecipeError(problem)


LIMITS = (limits.IMAGE_UNCOMPRESSED, limits.IMAGE_LAYERS, *limits.RUNNING)


def write(contents: Contents, config: LambdaImage, out_dir: Path) -> Written:
    """Write the image as an OCI layout into `out_dir/image`. LimitError before it writes; PackError when the image does not
    conform."""
    from mlpack.oci import layout

    base = layering.open_base(contents)
    limits.check_count(limits.IMAGE_LAYERS, len(base.image.layers) + len(contents.parts))
    limits.check_size(limits.IMAGE_UNCOMPRESSED, [*layering.layer_sizes(base), *layering.tar_sizes(sizes(contents))])
    files = listed(contents)
    layering.check_libraries(base.paths)
    result = layering.write(contents, base, files, layering.Process(), out_dir)
    if problems := check_lambda_image(layout.read(out_dir / LAYOUT), config.arch, tuple(result.layers.values())):
        raise PackError("the image is not one that Lambda takes:\n" + "\n".join(f"  {each}" for each in problems))
    return result


def boot(package: Path, event: bytes, means: Means) -> Boot:
    """See `boot.function.boot`."""
    from mlpack.targets.boot import function  # `plan` reads this module, and starts nothing

    return function.boot(package, event, means)


def check_lambda_image(image: Image, arch: str, own: tuple[Digest, ...] = ()) -> tuple[str, ...]:
    """Every reason why Lambda would refuse the image or fail to run it; empty when it conforms. `own`: see `layering.problems`."""
    from mlpack.oci import media
    from mlpack.oci.layers import paths

    problems = [
        f"layer {number} is of type {layer.media_type}: Lambda has refused anything but gzip"
        for number, layer in enumerate(image.layers)
        if layer.media_type not in media.GZIP_LAYERS
    ]
    problems += layering.problems(image, arch, own)
    if not problems and (total := paths.uncompressed_size(image)) > limits.IMAGE_UNCOMPRESSED.value:
        problems.append(f"{total:,} bytes uncompressed, more than {limits.IMAGE_UNCOMPRESSED.value:,}")
    return tuple(problems)
