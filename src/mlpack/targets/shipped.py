"""What is done with a package whatever its target is, asked of the target's row: take it apart again, and boot it.

Promises: what comes out is what package.json lists, whoever reads the form (`format.unpacking`); a package for another processor is
not started. Will not write a package, and knows no target by name.
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
    """Everything that will lie at /var/task, written below `out_dir`.

    Args:
        artifact: The directory of the package.
        out_dir: Empty or new.

    Returns:
        `out_dir`; the files in it are read-only.

    Raises:
        PackError: This is no package, it is damaged or hostile, or the plug-in that reads its form is not installed.
    """
    described = unpacking.describe(artifact)
    row = _row(described)
    return unpacking.extract(artifact, described, unpacking.by_form if row is None else row.unpack, out_dir)


def boot(
    package: Path,
    event: bytes,
    *,
    timeout_s: float | None = None,
    memory_mb: int | None = None,
    rie: Path | None = None,
    podman: Path | None = None,
) -> Boot:
    """Start a package here as its target would, and call it once: the last thing between a build and "ok".

    Args:
        package: The directory of the package.
        event: The JSON that its handler takes.
        timeout_s: For an answer; None: a minute, and more for what is large.
        memory_mb: What it is told it has; None: the package's own.
        rie: Where aws-lambda-rie is, if it is here.
        podman: Where podman is, if it is here.

    Returns:
        Its answer, and how it came about.

    Raises:
        PackError: It does not come up, does not answer 200 in time, writes outside /tmp, is for another processor, or for a
            target that is not known here.
    """
    described = unpacking.describe(package)
    check_arch(described)
    row = _row(described)
    if row is None:
        raise PackError(
            f"the package is for the target {described.get('target')!r}, which is not known here: {_way_out(described)}"
        )
    means = Means(
        timeout_s=patience(package) if timeout_s is None else timeout_s,
        memory_mb=memory_mb or int(described["memory_mb"]),
        rie=rie,
        podman=podman,
    )
    return row.boot(package, event, means)


def _row(described: Mapping[str, Any]) -> TargetKind | None:
    """The row of the package's target; None where this mlpack knows none of that name."""
    name = described.get("target")
    return TARGETS[name] if isinstance(name, str) and name in TARGETS else None


def _way_out(described: Mapping[str, Any]) -> str:
    plugin = described.get("plugin")
    if isinstance(plugin, dict) and isinstance(plugin.get("distribution"), str):
        return f"it was built with a plug-in, {plugin['distribution'][:100]!r} {str(plugin.get('version'))[:100]!r}: install that"
    return f"it knows {', '.join(TARGETS)}. Update mlpack, or build the package again"
