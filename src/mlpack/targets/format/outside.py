"""Weights beside a package instead of in it: taken out when it is packed, put back where it is unpacked.

    weights/DIGEST                  beside package.json: the bytes, named by their SHA-256
    model/weights.json              in the package: their name, size, digest, the digest of each part, and where they will be

Promises:
- The package holds everything that says which bytes are right. A copy of `weights/DIGEST` anywhere is enough for it.

Will not: upload anything.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.core.serving import OutsideWeights
from mlpack.errors import LimitError, PackError
from mlpack.targets import limits
from mlpack.targets.format.contents import Contents, Written

FOLDER = "weights"
PART_BYTES = 4 << 20
"""A part is fetched by one request and is in memory twice until it is verified, so eight side by side are 64 MB. Twice as much is a
tenth faster at 60 MB a second and 20 ms to the first byte."""
_SCHEMA = 1
_CHUNK_BYTES = 1 << 20
_MIB = 1 << 20
_SPARE_BYTES = 16 * _MIB
"""What the runtime leaves free in a cache directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Weights that were taken out: the file, its name in the package, digest and size, and where the package will look for it."""

    path: Path
    name: str
    hex: str
    size_bytes: int
    outside: OutsideWeights

    def as_json(self) -> dict[str, Any]:
        """What package.json says of it."""
        return {"name": self.name, "digest": f"sha256:{self.hex}", "size_bytes": self.size_bytes, "from": self.outside.source}


def note(row: Mapping[str, Any]) -> str:
    """What a user has to do with the weights of this row of package.json."""
    size, whole, source = int(row["size_bytes"]), str(row["digest"]).removeprefix("sha256:"), str(row["from"])
    command = f"aws s3 cp {FOLDER}/{whole} {source}/{whole}" if source.startswith("s3://") else f"put it at {source}/{whole}"
    needed_mb = -(-(size + _SPARE_BYTES) // _MIB)
    storage = f"; a function needs EphemeralStorage of {needed_mb:,} MB" if needed_mb > limits.TMP_MIN.value else ""
    return f"the weights, {size:,} bytes, are outside the package, in {FOLDER}/{whole}: {command}{storage}"


def write(
    write_kind: Callable[[Contents, Any, Path], Written],
    contents: Contents,
    config: Any,
    weights: OutsideWeights | None,
    dirs: tuple[Path, Path],
) -> tuple[Written, Taken | None]:
    """Write what ships, with the weights in it or beside it, as the recipe says.

    Args:
        write_kind: The target's own function.
        contents: The package's trees; they are changed.
        config: The target's.
        weights: Where they will be; None: in the package.
        dirs: One for intermediate files, and the empty one for what ships.

    Raises:
        LimitError: It is too large, with its weights or without them as `weights` says. Without that it says how it would fit.
    """
    work_dir, out_dir = dirs

    def without() -> Taken | None:
        return take_out(contents, weights, work_dir / FOLDER, float(config.memory_mb)) if weights else None

    taken = without() if weights and weights.always else None
    try:
        result = write_kind(contents, config, out_dir)
    except LimitError as error:
        if weights is None:
            raise advice(error, contents) from None
        if taken is not None or (taken := without()) is None:
            raise
        result = write_kind(contents, config, out_dir)
    if taken is not None:
        (out_dir / FOLDER).mkdir()
        shutil.copyfile(taken.path, out_dir / FOLDER / taken.hex)
        (out_dir / FOLDER / taken.hex).chmod(0o644)
    return result, taken


def notes(taken: Taken | None, weights: OutsideWeights | None) -> tuple[str, ...]:
    """What a user has to do, or should know."""
    if taken is not None:
        return (note(taken.as_json()),)
    asked = weights is not None and weights.always
    unchanged = (
        "serve.weights changes nothing here: the graph has no weights in a file of their own: trees have none, and few lie in it"
    )
    return (unchanged,) if asked else ()


def take_out(contents: Contents, outside: OutsideWeights, work_dir: Path, memory_mb: float) -> Taken | None:
    """Move the weights out of the contents, and write what the package says of them.

    Args:
        contents: The package's trees. `model` and `code` are changed.
        outside: Where the weights will be.
        work_dir: For the file; it is made.
        memory_mb: The memory of the process that will map them.

    Returns:
        The weights; None where the graph has none in a file of their own, because they are so few.

    Raises:
        LimitError: No process of that memory, or no disk of a function, can hold them.
    """
    settings_path = contents.code / "model" / "model.json"
    settings = json.loads(settings_path.read_bytes())
    path = contents.model / "model" / f"{settings['graph']}.data"
    if not path.is_file():
        return None
    size = path.stat().st_size
    _check(size, outside, memory_mb, str(settings["target"]))
    whole, parts = _digests(path)
    row = {
        "schema": _SCHEMA,
        "name": path.name,
        "digest": whole,
        "size_bytes": size,
        "part_bytes": PART_BYTES,
        "parts": parts,
        "from": outside.source,
        "cache": list(outside.cache),
        "cache_mb": outside.cache_mb,
    }
    work_dir.mkdir()
    moved = path.rename(work_dir / whole)
    (settings_path.parent / "weights.json").write_bytes(digest.canonical_json(row))
    settings_path.write_bytes(digest.canonical_json({**settings, "weights": path.name}))
    return Taken(path=moved, name=path.name, hex=whole, size_bytes=size, outside=outside)


def restore(artifact: Path, package_json: Mapping[str, Any], root: Path) -> None:
    """Put the weights that lie beside a package back to its graph in `root`, where they are. PackError for a damaged file."""
    for row in _rows(package_json):
        try:
            folder, name, whole = row.get("folder", "model"), str(row["name"]), digest.Digest(row["digest"])
        except (KeyError, TypeError, ValueError) as error:
            raise PackError(f"{artifact}: what package.json says of its weights is damaged ({error}): build it again") from None
        path = artifact / FOLDER / whole.hex
        plain = "/" not in name and name.strip(".") != "" and re.fullmatch(r"model|models/[a-z0-9-]+", str(folder))
        if plain and path.is_file():
            _restore(path, whole, root / str(folder) / name)


def _restore(path: Path, whole: Digest, target: Path) -> None:
    shutil.copyfile(path, target)
    if digest.of_file(target) != whole:
        target.unlink()
        raise PackError(f"{path} is not what its name says: fetch the build again, or build it again")
    target.chmod(0o444)


def beside(artifact: Path, package_json: Mapping[str, Any]) -> Path | None:
    """The folder with a package's weights beside it; None where all lie in it, or are not here."""
    folder = artifact / FOLDER
    names = [str(row.get("digest", "")).removeprefix("sha256:") for row in _rows(package_json)]
    return folder if any(name and "/" not in name and (folder / name).is_file() for name in names) else None


def _rows(package_json: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What package.json says of weights: an object, or a list of them where there are several models."""
    told = package_json.get("weights")
    return [row for row in (told if isinstance(told, list) else [told]) if isinstance(row, Mapping)]


def advice(error: LimitError, contents: Contents) -> LimitError:
    """The error of a package that is too large, with how it would fit: without its weights."""
    largest = max((path.stat().st_size for path in contents.model.rglob("*.onnx.data")), default=0)
    if largest < _MIB:
        return error
    return LimitError(
        f"{error}\nWithout its weights it is {largest:,} bytes smaller: `serve: {{weights: {{from: s3://bucket/prefix}}}}` keeps "
        "them outside, and each start waits for them where no cache directory has them (docs/how-to/serve-large-models.md)"
    )


def _check(size: int, outside: OutsideWeights, memory_mb: float, target: str) -> None:
    if size > memory_mb * _MIB:
        raise LimitError(
            f"the weights have {size:,} bytes, and the process has memory_mb: {memory_mb:g}: more memory, or a smaller variant"
        )
    on_lambda = target.startswith("lambda-")
    if on_lambda and set(outside.cache) == {"/tmp"} and size + _SPARE_BYTES > limits.TMP_MAX.value * _MIB:
        raise LimitError(
            f"the weights have {size:,} bytes, and a function's /tmp has at most {limits.TMP_MAX.value:,} MB: name a mount of EFS "
            "in serve.weights.cache, or `memory`"
        )


def _digests(path: Path) -> tuple[str, list[str]]:
    """SHA-256 of a file and of each of its parts, read once."""
    whole, parts = hashlib.sha256(), list[str]()
    with path.open("rb") as file:
        while True:
            part, left = hashlib.sha256(), PART_BYTES
            while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
                whole.update(chunk)
                part.update(chunk)
                left -= len(chunk)
            if left == PART_BYTES:
                return whole.hexdigest(), parts
            parts.append(part.hexdigest())
