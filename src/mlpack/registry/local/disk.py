"""Every change that a registry in a directory makes to its disk, one method each, so that tests can interrupt each of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlpack.core.files import atomically

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from pathlib import Path


class Disk:
    """Every change that a registry makes to its directory, a method each, durable when it returns."""

    def make_folder(self, folder: Path) -> None:
        """Make the folder and those above it."""
        fresh = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for each in fresh:
            atomically.sync(each.parent)

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        """Write these bytes to a new file."""
        with path.open("xb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())

    def move(self, source: Path, target: Path) -> None:
        """Replace `target` atomically."""
        atomically.put(source, target, mode=None, durable=True)

    def remove(self, path: Path) -> None:
        """Remove a file if it exists."""
        path.unlink(missing_ok=True)

    def commit(self, connection: sqlite3.Connection) -> None:
        """Make a transaction visible."""
        connection.execute("COMMIT")
