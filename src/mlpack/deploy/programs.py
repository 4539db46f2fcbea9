"""mlpack's own programs as zips for Lambda: the controller of rollouts, and the jobs.

Promises: bytes follow from the sources alone. Will not: import what it packs.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from mlpack.core import digest
from mlpack.errors import MlpackError
from mlpack.targets.format import ziparchive
from mlpack.targets.format.ziparchive import Member

PACKAGES: Mapping[str, str] = {"controller": "mlpack_control", "jobs": "mlpack_jobs"}
"""The package of each zip."""


@cache
def archive(name: str) -> bytes:
    """The bytes of `NAME.zip`. MlpackError where this installation lacks the package."""
    spec = find_spec(PACKAGES[name])
    if spec is None or spec.origin is None:
        raise MlpackError(f"this installation lacks {PACKAGES[name]}, which rollouts need: install mlpack again")
    root = Path(spec.origin).parent
    sources = sorted(path for path in root.rglob("*.py"))
    members = [
        Member(name=f"{PACKAGES[name]}/{path.relative_to(root).as_posix()}", source=path, digest=digest.of_file(path))
        for path in sources
    ]
    with tempfile.TemporaryDirectory(prefix="mlpack-program-") as folder:
        path = Path(folder) / f"{name}.zip"
        ziparchive.write(members, path)
        return path.read_bytes()


def sha256(name: str) -> str:
    """Its digest in hex."""
    return hashlib.sha256(archive(name)).hexdigest()
