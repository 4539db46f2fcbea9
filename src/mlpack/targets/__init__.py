"""What a target is, and the table of the ones we have.

A target is a plain function `(contents, config, out_dir) -> Written`: it checks the platform's limits, writes what ships into an
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
from mlpack.targets import chains, lambda_image, lambda_zip, prices, worker
from mlpack.targets.chains import Chain
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


def _none(_config: Any) -> tuple[License, ...]:
    return ()


def _nothing(_config: Any) -> Mapping[str, object]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKind:
    """A row of the table.

    `limits`: the platform's hard numbers; those that concern a package are checked by `write` before it writes. `needs_base`:
    whether an image lies underneath. `float16_archs`: processors whose engine computes in half precision, so that fp16 is worth
    building. `version` is raised by hand when the same contents would give other bytes.

    What follows from a target's config: `chain`, how its steps are written out; `needs`, names in `wheel_rules.NEEDS` of what its
    runtime part is made of, beside a tokenizer; `settings`, more keys of model.json; `licenses`, what somebody has to agree to
    before it is redistributed; `price`, dollars for a million requests, from the median latency in ms and from samples a second
    (None where nobody counted them), or None. `device`: what the package computes on; one for a GPU is neither measured nor
    executed where it is built.

    What is done with a package: `boot` starts it as the platform would and calls it once (PackError where it does not answer);
    `unpack` reads its files out of the form in which they ship.

    `plugin`: the distribution that added the row, which the table fills in; None of ours.
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
    settings: Callable[[Any], Mapping[str, object]] = _nothing
    licenses: Callable[[Any], tuple[License, ...]] = _none
    price: Callable[[Any, float, float | None], float | None] = prices.unknown
    unpack: Members = unpacking.by_form
    device: Literal["cpu", "gpu"] = "cpu"
    plugin: Plugin | None = None

    @property
    def provider(self) -> dict[str, object]:
        """The plug-in whose row this is, for an action and for package.json; nothing of ours."""
        named = self.plugin
        return {} if named is None else {"plugin": {"distribution": named.distribution, "version": named.version}}


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


def _adopted(named: object, plugin: Plugin) -> TargetKind:
    """The row of a plug-in. ValueError says what is wrong with it."""
    from mlpack.targets.boot.process import Boot

    if not isinstance(named, TargetKind):
        raise ValueError(f"is {type(named).__name__}, not mlpack.targets.TargetKind")
    plugins.of_config(named.config, ("arch", "memory_mb", "base" if named.needs_base else "python"))
    if named.device not in ("cpu", "gpu") or not isinstance(named.description, str) or not isinstance(named.version, int):
        raise ValueError("does not say its device (cpu or gpu), its description and its version (a number)")
    return replace(
        named,
        write=plugins.guarded(named.write, plugin, Written),
        boot=plugins.guarded(named.boot, plugin, Boot),
        chain=plugins.guarded(named.chain, plugin, Chain),
        needs=plugins.guarded(named.needs, plugin, tuple),
        settings=plugins.guarded(named.settings, plugin, Mapping, digest.canonical_json),
        licenses=plugins.guarded(named.licenses, plugin, tuple),
        price=plugins.guarded(named.price, plugin, None, _check_price),
        unpack=plugins.guarded(named.unpack, plugin),
        plugin=plugin,
    )


TARGETS: plugins.Table[TargetKind] = plugins.Table("mlpack.targets", "target", _OWN, _adopted)
"""Ours (`TARGETS.own`), and those of the installed plug-ins."""


def on_processor(arch: str, memory_mb: int) -> Target:
    """The target that any processor of this architecture runs as a bare directory: what a package is laid out for, to be judged by
    its answers, whose own device or processor is not here."""
    return Target(kind="cpu-worker", arch=arch, config=CpuWorker(arch=arch, memory_mb=memory_mb))  # type: ignore[arg-type]


__all__ = [
    "TARGETS",
    "Chain",
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
