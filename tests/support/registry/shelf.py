"""A container registry as small as it can be: images in a directory, by digest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.registry.rows import rows


class Shelf:
    """What `registry.Images` asks for. `removed`: what was deleted, in order."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.removed: list[str] = []

    def push(self, layout: Path, name: str) -> str:
        named = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
        target = self._at(f"{name}@{named}")
        if not target.exists():
            shutil.copytree(layout, target)
        return f"shelf.example/{name}@{named}"

    def fetch(self, reference: str, layout: Path, wanted: Mapping[str, Digest]) -> None:
        for path in wanted:
            (layout / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._at(reference) / path, layout / path)

    def check(self, reference: str) -> str | None:
        folder = self._at(reference) / "blobs" / "sha256"
        if not (folder / rows.image_digest(reference).hex).is_file():
            return "missing"
        return next((f"damaged: {path.name}" for path in folder.iterdir() if digest.of_file(path).hex != path.name), None)

    def delete(self, reference: str) -> None:
        shutil.rmtree(self._at(reference), ignore_errors=True)
        self.removed.append(reference)

    def _at(self, reference: str) -> Path:
        return self.root / reference.rpartition("/")[2].replace(":", "-")
