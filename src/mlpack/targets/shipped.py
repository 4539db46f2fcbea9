"""Unpack and boot any package, by the row of its target.

Promises:
- The files that come out are those that package.json lists, in whatever form the package ships (`format.unpacking`), and its
  weights where they lie beside it.
- A package for another processor is not started.

Will not: write a package, or know a target by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mlpack.core.files import temporary
from mlpack.errors import PackError
from mlpack.targets import TARGETS, TargetKind
from mlpack.targets.boot import batch, weight_server
from mlpack.targets.boot.process import Boot, Means, check_arch, patience
from mlpack.targets.format import outside, unpacking

__all__ = ["Boot", "Means", "boot", "unpack"]


def unpack(artifact: Path, out_dir: Path) -> Path:
    """Write everything that will lie at /var/task below `out_dir`.

    Args:
        artifact: The directory of the package.
        out_dir: Empty or new.

    Returns:
        `out_dir`; the files in it are read-only.

    Raises:
        PackError: The directory is no package, is damaged or hostile, or the plug-in that reads its form is not installed.
    """
    package_json = unpacking.describe(artifact)
    row = _row(package_json)
    root = unpacking.extract(artifact, package_json, unpacking.by_form if row is None else row.unpack, out_dir)
    outside.restore(artifact, package_json, root)
    return root


def boot(
    package: Path,
    event: bytes,
    *,
    timeout_s: float | None = None,
    memory_mb: int | None = None,
    rie: Path | None = None,
    podman: Path | None = None,
) -> Boot:
    """Start a package here as its target would, and call it once: the last check before a build says "ok".

    Args:
        package: The directory of the package.
        event: The JSON that its handler takes.
        timeout_s: For an answer; None: a minute, and more for a large package.
        memory_mb: The memory that its environment states; None: the package's own.
        rie: The program aws-lambda-rie, if it is here.
        podman: The program podman, if it is here.

    Returns:
        Its answer, and how it was booted.

    Raises:
        PackError: It does not come up, does not answer 200 in time, writes outside /tmp, is for another processor, or for a
            target that is not known here.
    """
    return _boot(package, event, _means(package, timeout_s, memory_mb, rie, podman))


@contextmanager
def answering(package: Path, order: batch.Order) -> Iterator[batch.Conversation]:
    """Let a package answer a manifest here while the block runs.

    Args:
        package: The directory of the package.
        order: The manifest, and how it is to be answered.

    Raises:
        PackError: It cannot be started here: it is for another processor, or its form is not known.
    """
    package_json = unpacking.describe(package)
    row = _row(package_json)
    members = unpacking.by_form if row is None else row.unpack
    means = _means(package, None, order.memory_mb, None, None)
    beside = outside.beside(package, package_json)
    with ExitStack() as stack:
        if beside is not None:
            means = dataclasses.replace(means, weights=stack.enter_context(weight_server.serving(beside)))
        yield stack.enter_context(batch.answering(package, order, members, means))


def boot_layers(package: Path, event: bytes, *, rie: Path | None, podman: Path | None) -> Boot:
    """As `boot`; a package whose weights lie beside it is booted twice, without them and with them in its cache directory, and
    `how` says what each start took. A container's cache goes with it, so an image is booted once."""
    package_json, means = unpacking.describe(package), _means(package, None, None, rie, podman)
    if outside.beside(package, package_json) is None:
        return _boot(package, event, means)
    with temporary.directory("weights") as cache:
        means = dataclasses.replace(means, cache=cache)
        first = _boot(package, event, means)
        layers = [f"weights from a server on this machine: {first.init_ms:.0f} ms"]
        if package_json["kind"] != "image" or podman is None:
            layers.append(f"from a cache directory: {_boot(package, event, means).init_ms:.0f} ms")
    return dataclasses.replace(first, how=f"{first.how} ({', '.join(layers)})")


def _means(package: Path, timeout_s: float | None, memory_mb: int | None, rie: Path | None, podman: Path | None) -> Means:
    return Means(
        timeout_s=patience(package) if timeout_s is None else timeout_s,
        memory_mb=memory_mb or int(unpacking.describe(package)["memory_mb"]),
        rie=rie,
        podman=podman,
    )


def _boot(package: Path, event: bytes, means: Means) -> Boot:
    package_json = unpacking.describe(package)
    check_arch(package_json)
    row = _row(package_json)
    if row is None:
        raise PackError(
            f"the package is for the target {package_json.get('target')!r}, which is not known here: {_advice(package_json)}"
        )
    folder = outside.beside(package, package_json)
    if folder is None:
        return row.boot(package, event, means)
    with weight_server.serving(folder) as address:
        return row.boot(package, event, dataclasses.replace(means, weights=address))


def _row(package_json: Mapping[str, Any]) -> TargetKind | None:
    """The row of the package's target; None where this mlpack knows none of that name."""
    name = package_json.get("target")
    return TARGETS[name] if isinstance(name, str) and name in TARGETS else None


def _advice(package_json: Mapping[str, Any]) -> str:
    plugin = package_json.get("plugin")
    if isinstance(plugin, dict) and isinstance(plugin.get("distribution"), str):
        return f"it was built with a plug-in, {plugin['distribution'][:100]!r} {str(plugin.get('version'))[:100]!r}: install that"
    return f"it knows {', '.join(TARGETS)}. Update mlpack, or build the package again"
