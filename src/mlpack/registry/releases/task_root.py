"""A release as its function sees it: the files at /var/task instead of the packages.

Promises:
- As `Registry.pull`: every byte is verified before anything is unpacked, all of it appears or none, and an interrupted one
  resumes.

Will not: start anything.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mlpack.errors import PackError
from mlpack.registry import Moved
from mlpack.registry.records import Release
from mlpack.registry.releases import pulling
from mlpack.registry.releases.releases import Registry
from mlpack.registry.releases.workplace import beside
from mlpack.targets.shipped import unpack


def pull(registry: Registry, release: Release, folder: Path, moved: Moved = lambda _: None) -> None:
    """Write the files of the chosen package to `folder`, which must be empty or missing. PackError when they are not what its
    package.json lists."""
    pulling.check_free(folder)
    with beside(folder, f"{release.digest.hex[:16]}.unpacked", pulling.may_go_on) as work:
        packed, task = work.path / "release", work.path / "task"
        # Files of an earlier attempt are used only if their digests are right.
        pulling.fill(registry, release, packed, moved)
        shutil.rmtree(task, ignore_errors=True)
        try:
            unpack(packed / "artifacts" / release.artifact.candidate, task)
        except PackError as error:
            raise PackError(str(error).replace(f"{work.path}", f"{release.name}@{release.version}")) from error
        work.put("task")
