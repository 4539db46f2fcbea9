"""Unpack and boot any package, by the row of its target.

Promises:
- The files that come out are those that package.json lists, in whatever form the package ships (`format.unpacking`).
- A package for another processor is not started.

Will not: write a package, or know a target by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlpack.errors import PackError
from mlpack.targets import TARGETS, TargetKind
from mlpack.targets.boot.process import Boot, Means, check_arch, patience
from mlpack.targets.format import unpacking

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
    return unpacking.extract(artifact, package_json, unpacking.by_form if row is None else row.unpack, out_dir)


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
    package_json = unpacking.describe(package)
    check_arch(package_json)
    row = _row(package_json)
    if row is None:
        raise PackError(
            f"the package is for the target {package_json.get('target')!r}, which is not known here: {_advice(package_json)}"
        )
    means = Means(
        timeout_s=patience(package) if timeout_s is None else timeout_s,
        memory_mb=memory_mb or int(package_json["memory_mb"]),
        rie=rie,
        podman=podman,
    )
    return row.boot(package, event, means)


def _row(package_json: Mapping[str, Any]) -> TargetKind | None:
    """The row of the package's target; None where this mlpack knows none of that name."""
    name = package_json.get("target")
    return TARGETS[name] if isinstance(name, str) and name in TARGETS else None


def _advice(package_json: Mapping[str, Any]) -> str:
    plugin = package_json.get("plugin")
    if isinstance(plugin, dict) and isinstance(plugin.get("distribution"), str):
        return f"it was built with a plug-in, {plugin['distribution'][:100]!r} {str(plugin.get('version'))[:100]!r}: install that"
    return f"it knows {', '.join(TARGETS)}. Update mlpack, or build the package again"
