"""What goes into a package and what a target writes: the types that targets, `pack` and `boot` share.

A package is three or four trees laid over one another at /var/task. `runtime` changes with mlpack and the engine, `model` with
the weights, `engines` with those, with TensorRT and with the list of GPUs, `code` with the recipe and the user's hooks. Kept
apart, each can be a layer that several images share.

    runtime    bootstrap.py, mlpack_runtime/, lib/, site/, licenses/
    model      model/model.onnx, model/model.onnx.data, model/tokenizer.json
    engines    model/tensorrt.json, model/engines/: for a GPU worker only
    code       model/model.json, app/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.core.records import Part
from mlpack.errors import PackError

if TYPE_CHECKING:
    from mlpack.oci.base import Base

TASK_ROOT = "/var/task"
LAYER_ROOT = "/opt/python"
PARTS = ("runtime", "model", "engines", "code")
FUNCTION_ZIP, LAYER_ZIP = "function.zip", "layer.zip"
"""The archives of a `lambda-zip`: one for the function, and one for its layer if it asks for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Labels and the date of a build's images, from the user. They are inputs, so they change an image's digest.

    `labels`: pairs in the order of their keys. `created_s`: the date of the image in seconds since the epoch. Its layers have no
    date, because images share them.
    """

    labels: tuple[tuple[str, str], ...] = ()
    created_s: int = 0


NO_FACTS = Facts()
"""No labels, and the date 1970, so that no clock changes the bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The trees, and for an image its base and a directory that caches the paths of bases."""

    runtime: Path
    model: Path
    code: Path
    labels: Mapping[str, str]
    engines: Path | None = None
    base: Base | None = None
    cache_dir: Path | None = None
    created_s: int = 0

    @property
    def parts(self) -> tuple[str, ...]:
        """Its parts, in the order of `PARTS`."""
        return tuple(part for part in PARTS if part != "engines" or self.engines is not None)

    def tree(self, part: str) -> Path:
        """The tree of one of `parts`."""
        return {"runtime": self.runtime, "model": self.model, "engines": self.engines or self.model, "code": self.code}[part]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFile:
    """One file of a package, by its path below /var/task."""

    path: str
    part: str
    size_bytes: int
    digest: Digest

    def as_json(self) -> dict[str, Any]:
        """The file's entry in package.json."""
        return {"path": self.path, "part": self.part, "size_bytes": self.size_bytes, "digest": str(self.digest)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The package that a target has written into its directory. `layers`: for an image, the digest of each part's own layer."""

    kind: str
    digest: Digest
    size_bytes: int
    compressed_bytes: int
    parts: tuple[Part, ...]
    files: tuple[PackedFile, ...]
    layers: Mapping[str, Digest]
    notes: tuple[str, ...] = ()


def sizes(contents: Contents) -> list[tuple[str, int]]:
    """Path and bytes of every file of the trees. Limits are checked with them before anything is read or written.

    PackError for anything but files and directories, and for a path that two trees have.
    """
    parts: dict[str, str] = {}
    sized = []
    for part in contents.parts:
        for path, entry in digest.entries(contents.tree(part)):
            if entry.is_dir(follow_symlinks=False):
                continue
            if not entry.is_file(follow_symlinks=False):
                raise PackError(f"{path} is a link or a special file: a package holds plain files only. Copy what it leads to")
            if path in parts:
                raise PackError(f"{path} is in the package's {parts[path]} and in its {part}: rename one of them")
            parts[path] = part
            sized.append((path, entry.stat(follow_symlinks=False).st_size))
    return sized


def listed(contents: Contents) -> tuple[PackedFile, ...]:
    """Every file of the trees, sorted by path. Errors as of `sizes`."""
    size_of = dict(sizes(contents))
    part_of = {path: part for part in contents.parts for path, _ in digest.entries(contents.tree(part))}
    return tuple(
        PackedFile(
            path=path, part=part_of[path], size_bytes=size_of[path], digest=digest.of_file(contents.tree(part_of[path]) / path)
        )
        for path in sorted(size_of)
    )


def part_sizes(files: tuple[PackedFile, ...]) -> tuple[Part, ...]:
    """Bytes of each part's files, uncompressed. Engines count as the model, of which they are another form."""
    sources = {"model": ("model", "engines")}
    return tuple(
        Part(name=part, size_bytes=sum(each.size_bytes for each in files if each.part in sources.get(part, (part,))))
        for part in ("runtime", "model", "code")
    )
