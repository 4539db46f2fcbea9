"""AWS Lambda as a zip: one function zip, or a function zip and a layer, for the managed Python runtimes.

Promises:
- Archives are reproducible and every file in them is world-readable. Lambda's limits are checked first.

The handler to configure is `mlpack_runtime.handler.handler`.

Will not: upload anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from mlpack.core import digest
from mlpack.errors import RecipeError
from mlpack.targets import limits
from mlpack.targets.format import ziparchive
from mlpack.targets.format.contents import FUNCTION_ZIP, LAYER_ZIP, Contents, PackedFile, Written, listed, part_sizes, sizes
from mlpack.targets.format.ziparchive import Member

if TYPE_CHECKING:
    from mlpack.targets.boot.process import Boot, Means


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaZip:
    """A zip for one of Lambda's managed Python runtimes."""

    RANGES: ClassVar[limits.Ranges] = limits.LAMBDA_RANGES

    arch: Literal["x86_64", "arm64"] = "x86_64"
    """The processor. arm64 (Graviton) costs 20 % less."""
    memory_mb: int | Literal["auto"] = 1769
    """The function's memory, 128 to 10,240; CPU comes with it, one vCPU at 1,769. `auto`: the cheapest size within the budgets, by
    measuring the chosen package at several."""
    python: Literal["3.12", "3.13", "3.14"] = "3.13"
    """The managed runtime's version. 3.11 runs on Amazon Linux 2, whose glibc 2.26 is older than the 2.28 that the engine needs."""
    layer: bool = False
    """Put the runtime and the engine, which all functions share, into layer.zip, and only model and code into function.zip."""

    def __post_init__(self) -> None:
        if problem := limits.memory_problem(self.memory_mb):
            raise RecipeError(problem)


LIMITS = (limits.ZIP_UNZIPPED, limits.ZIP_DIRECT_UPLOAD, limits.ZIP_LAYERS, *limits.RUNNING)


def write(contents: Contents, config: LambdaZip, out_dir: Path) -> Written:
    """Write function.zip into `out_dir`, and layer.zip when the config says so. LimitError before it writes."""
    limits.check_size(limits.ZIP_UNZIPPED, sizes(contents))
    files = listed(contents)
    inside = [each for each in files if not (config.layer and each.part == "runtime")]
    package_digest = ziparchive.write((_member(contents, each, "") for each in inside), out_dir / FUNCTION_ZIP)
    archives = [out_dir / FUNCTION_ZIP]
    if config.layer:
        shared = [each for each in files if each.part == "runtime"]
        layer = ziparchive.write((_member(contents, each, "python/") for each in shared), out_dir / LAYER_ZIP)
        archives.append(out_dir / LAYER_ZIP)
        package_digest = digest.of_json({FUNCTION_ZIP: str(package_digest), LAYER_ZIP: str(layer)})
    archive_sizes = [each.stat().st_size for each in archives]
    notes = tuple(
        f"{each.name} has {size:,} bytes, more than the {limits.ZIP_DIRECT_UPLOAD.value:,} of a direct upload: upload it through S3"
        for each, size in zip(archives, archive_sizes, strict=True)
        if size > limits.ZIP_DIRECT_UPLOAD.value
    )
    return Written(
        kind="layer-zip" if config.layer else "zip",
        digest=package_digest,
        size_bytes=sum(each.size_bytes for each in files),
        compressed_bytes=sum(archive_sizes),
        parts=part_sizes(files),
        files=files,
        layers={},
        notes=notes,
    )


def boot(package: Path, event: bytes, means: Means) -> Boot:
    """See `boot.function.boot`."""
    from mlpack.targets.boot import function  # `plan` reads this module, and starts nothing

    return function.boot(package, event, means)


def _member(contents: Contents, file: PackedFile, prefix: str) -> Member:
    return Member(name=prefix + file.path, source=contents.tree(file.part) / file.path, digest=file.digest)
