"""What a target is, and the table of the ones we have.

A target is a plain function `(contents, config, out_dir) -> Written`. It checks the platform's limits, writes the package into an
empty directory and verifies it. Adding one is a file, a row here and a line of docs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpack.core import digest, plugins
from mlpack.core.plugins import Plugin
from mlpack.core.records import Target
from mlpack.targets import chains, container, lambda_image, lambda_zip, prices, worker
from mlpack.targets.chains import Chain
from mlpack.targets.container import Container
from mlpack.targets.format import unpacking
from mlpack.targets.format.contents import Contents, Written
from mlpack.targets.format.unpacking import Members
from mlpack.targets.lambda_image import LambdaImage
from mlpack.targets.lambda_zip import LambdaZip
from mlpack.targets.licenses import License
from mlpack.targets.limits import Limit
from mlpack.targets.worker import CpuWorker, GpuWorker

if TYPE_CHECKING:
    from mlpack.targets.boot.process import Boot, Means

Write = Callable[[Contents, Any, Path], Written]


def _engine(_config: Any) -> tuple[str, ...]:
    return ("engine",)


def _none(_config: Any) -> tuple[()]:
    return ()


def _nothing(_config: Any) -> Mapping[str, object]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKind:
    """A row of the table.

    - `limits`: the platform's hard numbers. `write` checks those that concern a package before it writes.
    - `needs_base`: whether an image lies underneath.
    - `float16_archs`: processors whose engine computes in half precision, so that fp16 is worth building.
    - `version`: raised by hand when the same contents would give other bytes.
    - `device`: where the package computes. One for a GPU is neither measured nor executed where it is built.
    - `plugin`: the distribution that added the row, set by the table; None for ours.

    Functions of a target's config:

    - `chain`: how its steps are written out.
    - `needs`: names in `wheel_rules.NEEDS` for its runtime part, beside a tokenizer.
    - `requirements`: distributions that its packages have beside the runtime part, in the form of `serve.requirements`.
    - `settings`: more keys of model.json.
    - `licenses`: the licences that a recipe has to accept.
    - `price`: dollars for a million requests, or None. Also takes the median latency in ms, and samples a second or None.

    Functions of a package:

    - `boot`: start it as the platform would and call it once; PackError when it does not answer.
    - `unpack`: read its files out of the form in which they ship.
    """

    config: type
    write: Write
    boot: Callable[[Path, bytes, Means], Boot]
    limits: tuple[Limit, ...]
    needs_base: bool
    float16_archs: tuple[str, ...]
    description: str
    version: int = 1
    chain: Callable[[Any], Chain] = chains.cpu
    needs: Callable[[Any], tuple[str, ...]] = _engine
    requirements: Callable[[Any], tuple[str, ...]] = _none
    settings: Callable[[Any], Mapping[str, object]] = _nothing
    licenses: Callable[[Any], tuple[License, ...]] = _none
    price: Callable[[Any, float, float | None], float | None] = prices.unknown
    unpack: Members = unpacking.by_form
    device: Literal["cpu", "gpu"] = "cpu"
    plugin: Plugin | None = None

    @property
    def provider(self) -> dict[str, object]:
        """The plug-in of this row, for an action and for package.json; empty for our rows."""
        plugin = self.plugin
        return {} if plugin is None else {"plugin": {"distribution": plugin.distribution, "version": plugin.version}}


_OWN: dict[str, TargetKind] = {
    "lambda-zip": TargetKind(
        config=LambdaZip,
        write=lambda_zip.write,
        boot=lambda_zip.boot,
        unpack=unpacking.zip_files,
        price=prices.of_function,
        limits=lambda_zip.LIMITS,
        needs_base=False,
        float16_archs=("arm64",),
        description="AWS Lambda, managed Python runtime: a function zip, or a function zip and a layer",
    ),
    "lambda-image": TargetKind(
        config=LambdaImage,
        write=lambda_image.write,
        boot=lambda_image.boot,
        unpack=unpacking.image,
        price=prices.of_function,
        limits=lambda_image.LIMITS,
        needs_base=True,
        float16_archs=("arm64",),
        description="AWS Lambda, container image over a base",
    ),
    "cpu-worker": TargetKind(
        config=CpuWorker,
        write=worker.write,
        boot=worker.boot,
        unpack=unpacking.image,
        price=prices.of_task,
        limits=worker.LIMITS,
        needs_base=True,
        float16_archs=("arm64",),
        description="Container image over a base",
        needs=worker.needs,
        settings=worker.settings,
    ),
    "container": TargetKind(
        config=Container,
        write=container.write,
        boot=container.boot,
        unpack=unpacking.image,
        price=container.price,
        limits=container.LIMITS,
        needs_base=True,
        float16_archs=("arm64",),
        description="Container image that serves HTTP, over a base: Cloud Run, Container Apps, Fargate, Kubernetes, SageMaker",
        needs=container.needs,
        settings=container.settings,
    ),
    "gpu-worker": TargetKind(
        config=GpuWorker,
        write=worker.write,
        boot=worker.boot,
        unpack=unpacking.image,
        limits=worker.LIMITS,
        needs_base=True,
        float16_archs=("x86_64",),
        description="Container image over a base, with TensorRT engines",
        chain=worker.chain,
        licenses=worker.agreements,
        needs=worker.needs,
        settings=worker.settings,
        device="gpu",
    ),
}


def _check_price(value: object) -> None:
    if value is not None and not (isinstance(value, int | float) and value >= 0):
        raise ValueError(f"{value!r} is no price: dollars, or None")


def _check_requirements(value: object) -> None:
    if not (isinstance(value, tuple) and all(isinstance(each, str) for each in value)):
        raise ValueError(f"{value!r:.100} is no tuple of requirements, such as ('tzdata>=2025',)")


def _adopted(row: object, plugin: Plugin) -> TargetKind:
    """The row of a plug-in, guarded. ValueError says what is wrong with it."""
    from mlpack.targets.boot.process import Boot

    if not isinstance(row, TargetKind):
        raise ValueError(f"is {type(row).__name__}, not mlpack.targets.TargetKind")
    plugins.of_config(row.config, ("arch", "memory_mb", "base" if row.needs_base else "python"))
    if row.device not in ("cpu", "gpu") or not isinstance(row.description, str) or not isinstance(row.version, int):
        raise ValueError("does not say its device (cpu or gpu), its description and its version (a number)")
    return replace(
        row,
        write=plugins.guarded(row.write, plugin, Written),
        boot=plugins.guarded(row.boot, plugin, Boot),
        chain=plugins.guarded(row.chain, plugin, Chain),
        needs=plugins.guarded(row.needs, plugin, tuple),
        requirements=plugins.guarded(row.requirements, plugin, tuple, _check_requirements),
        settings=plugins.guarded(row.settings, plugin, Mapping, digest.canonical_json),
        licenses=plugins.guarded(row.licenses, plugin, tuple),
        price=plugins.guarded(row.price, plugin, None, _check_price),
        unpack=plugins.guarded(row.unpack, plugin),
        plugin=plugin,
    )


TARGETS: plugins.Table[TargetKind] = plugins.Table("mlpack.targets", "target", _OWN, _adopted)
"""Our targets (`TARGETS.own`), and those of the installed plug-ins."""


def on_processor(arch: str, memory_mb: int) -> Target:
    """The target for a twin: any processor of this architecture runs its files as a bare directory. A package whose own device or
    processor is not here is judged by the answers of its twin."""
    return Target(kind="cpu-worker", arch=arch, config=CpuWorker(arch=arch, memory_mb=memory_mb))  # type: ignore[arg-type]


__all__ = [
    "TARGETS",
    "Chain",
    "Container",
    "Contents",
    "CpuWorker",
    "GpuWorker",
    "LambdaImage",
    "LambdaZip",
    "License",
    "Limit",
    "TargetKind",
    "Written",
    "on_processor",
]
