"""A release as its function will see it: what lies at /var/task, instead of the packages.

Promises: as `Registry.pull`: verified, all of it or none, and an interrupted one goes on where it was. It starts nothing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mlpack.errors import PackError
from mlpack.records import Release
from mlpack.registry import Moved
from mlpack.registry.releases import Registry, check_free
from mlpack.targets.unpacking import unpack


def pull(registry: Registry, release: Release, folder: Path, moved: Moved = lambda _: None) -> None:
    """Write the chosen package's files to `folder`, which must not exist or be empty. PackError when they are not what its
    package.json lists."""
    check_free(folder)
    target = folder.absolute()
    # Pulled beside it, in a place of its own, so that only what was pulled before is not pulled again.
    packed, fresh = (target.with_name(f".{target.name}.{release.digest.hex[:16]}.{part}") for part in ("packed", "task"))
    if not packed.is_dir():
        registry.pull(release, packed, moved)
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        unpack(packed / "artifacts" / str(release.artifact["candidate"]), fresh)
        fresh.replace(target)
    except PackError:
        shutil.rmtree(packed, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(packed)
