"""Calls as a build records them, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlpack.evaluation.data.calls import CallsWriter


def recorded(folder: Path, feeds: list[dict[str, Any]]) -> Path:
    """These calls, of one sample each."""
    folder.mkdir(parents=True)
    with CallsWriter(folder) as writer:
        for feed in feeds:
            writer.tensors(feed, 1)
        writer.finish(None)
    return folder
