"""A runner of a batch in a process of its own that kills itself: `python -m tests.support.runtime.mortal_runner MANIFEST OUT AT`.

SIGKILL comes at the AT-th boundary: before and behind each call of its folder, and behind each item that is answered. 0: never.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.runtime.batches_of_items import Echo, runner

from mlpack_runtime.batch.reading.manifests import open_manifest
from mlpack_runtime.batch.reading.sources import FileSource
from mlpack_runtime.batch.writing.local_folder import LocalFolder
from mlpack_runtime.batch.writing.pieces import note_of


class Boundaries:
    """Counts them."""

    def __init__(self, at: int) -> None:
        self._left = at

    def cross(self) -> None:
        """One more."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Folder:
    """A real one."""

    def __init__(self, path: Path, boundaries: Boundaries) -> None:
        self._folder = LocalFolder(str(path), note_of)
        self._boundaries = boundaries
        self.uri = self._folder.uri

    def __getattr__(self, name: str) -> Callable[..., Any]:
        work = getattr(self._folder, name)

        def call(*arguments: Any) -> Any:
            self._boundaries.cross()
            value = work(*arguments)
            self._boundaries.cross()
            return value

        return call


class Answering(Echo):
    """An echo that may be its process's last."""

    def __init__(self, boundaries: Boundaries) -> None:
        super().__init__()
        self._boundaries = boundaries

    def message(self, headers: Any, body: bytes, request_id: str, metrics: Any) -> Any:
        """The answer."""
        reply = super().message(headers, body, request_id, metrics)
        self._boundaries.cross()
        return reply


def main() -> None:
    """Run it."""
    manifest, out, at = sys.argv[1:]
    boundaries = Boundaries(int(at))
    runner(Folder(Path(out), boundaries), open_manifest(FileSource(manifest), "", 10_000), Answering(boundaries)).run()


if __name__ == "__main__":
    main()
