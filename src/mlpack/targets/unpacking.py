"""From what ships back to the directory that lies at /var/task, so that measuring and booting use the shipped bytes themselves.

Promises: only plain files come out, only below the given directory, each with the digest that package.json lists; hostile archives
(paths that leave, links, names given twice, more bytes than announced) end in PackError. A layer zip is laid over the function's
files, as the managed runtimes' search path does. An image gives its own layers, without the base.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mlpack.digest import Digest
from mlpack.errors import PackError
from mlpack.targets import lambda_zip, layering
from mlpack.targets.contents import TASK_ROOT

PACKAGE = "package.json"
SCHEMA = 1
_CHUNK_BYTES = 1 << 20
_LAYER_PREFIX = "python/"
_DAMAGE = (zipfile.BadZipFile, zlib.error, tarfile.TarError, EOFError, NotImplementedError, RuntimeError)
"""What the standard library raises on archives that are broken, encrypted (RuntimeError) or packed in ways nobody asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    size_bytes: int
    digest: Digest


def describe(artifact: Path) -> dict[str, Any]:
    """package.json of an artifact's directory. PackError when that is not one, or was written by a newer mlpack."""
    try:
        found = json.loads((artifact / PACKAGE).read_bytes())
        schema = found["schema"]
    except FileNotFoundError:
        raise PackError(f"{artifact} is no package: it has no {PACKAGE}. Give the directory that `mlpack build` wrote") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise PackError(f"{artifact / PACKAGE} is damaged ({type(error).__name__}: {error}): build the package again") from None
    if schema != SCHEMA or not isinstance(found, dict):
        raise PackError(f"{artifact / PACKAGE} has schema {schema!r}; this mlpack reads {SCHEMA}: update mlpack, or build again")
    return found


def unpack(artifact: Path, out_dir: Path) -> Path:
    """Everything that will lie at /var/task, written below `out_dir` (which is empty or new); returns it. Files are read-only."""
    described = describe(artifact)
    try:
        rows = described["files"]
        wanted = {row["path"]: _Wanted(size_bytes=row["size_bytes"], digest=Digest(row["digest"])) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise PackError(f"{artifact / PACKAGE} is damaged ({type(error).__name__}: {error}): build the package again") from None
    out_dir.mkdir(parents=True, exist_ok=True)
    found: set[str] = set()
    sources = _image(artifact, described) if described.get("kind") == "image" else _zips(artifact)
    try:
        for path, stream in sources:
            if path in found:
                raise PackError(f"{path} is in the package twice: two readers could see two different files")
            if path not in wanted:
                raise PackError(f"the package holds {path!r}, which its {PACKAGE} does not list: it was changed after it was built")
            found.add(path)
            _place(out_dir, path, stream, wanted[path])
    except _DAMAGE as error:
        raise PackError(f"the package in {artifact} is damaged ({error}): fetch or build it again") from None
    if missing := sorted(set(wanted) - found):
        raise PackError(f"the package lacks {', '.join(missing[:5])}: it is damaged or was not copied whole")
    return out_dir


def _zips(artifact: Path) -> Iterator[tuple[str, BinaryIO]]:
    names = [(lambda_zip.FUNCTION, ""), *([(lambda_zip.LAYER, _LAYER_PREFIX)] if (artifact / lambda_zip.LAYER).exists() else [])]
    for name, prefix in names:
        if not (artifact / name).is_file():
            raise PackError(f"{artifact} lacks {name}: it is damaged or was not copied whole")
        with zipfile.ZipFile(artifact / name) as archive:
            for info in archive.infolist():
                kind = info.external_attr >> 28
                if info.is_dir() or kind not in {0, 0o10} or not info.filename.startswith(prefix):
                    raise PackError(f"{name} holds {info.filename!r}, which is not a plain file of a package")
                with archive.open(info) as stream:
                    yield info.filename.removeprefix(prefix), stream  # type: ignore[misc]  # a BinaryIO in all but name


def _image(artifact: Path, described: Mapping[str, Any]) -> Iterator[tuple[str, BinaryIO]]:
    from mlpack.oci import compression, layout

    made = layout.read(artifact / layering.LAYOUT)
    ours = set((described.get("layers") or {}).values())
    prefix = TASK_ROOT.lstrip("/") + "/"
    above = {part.rstrip("/") for part in ("var", "var/task")}
    for layer in made.layers:
        if str(layer.digest) not in ours:
            continue
        with layer.open() as stored, tarfile.open(fileobj=compression.Inflated(stored, layer.media_type), mode="r|") as archive:
            for entry in archive:
                if entry.isdir() and (entry.name in above or entry.name.startswith(prefix)):
                    continue
                stream = archive.extractfile(entry) if entry.isreg() else None
                if stream is None or not entry.name.startswith(prefix):
                    raise PackError(f"a layer of the package holds {entry.name!r}, which is not a plain file below {TASK_ROOT}")
                yield entry.name.removeprefix(prefix), stream  # type: ignore[misc]  # a BinaryIO in all but name


def _place(out_dir: Path, path: str, stream: BinaryIO, wanted: _Wanted) -> None:
    parts = path.split("/")
    if any(part in {"", ".", ".."} or "\\" in part or "\0" in part for part in parts):
        raise PackError(f"the package holds the path {path!r}, which leaves its directory or is malformed")
    target = out_dir.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    state, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        while chunk := stream.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > wanted.size_bytes:
                break
            state.update(chunk)
            file.write(chunk)
    if size != wanted.size_bytes or state.hexdigest() != wanted.digest.hex:
        raise PackError(f"{path} is not the file that {PACKAGE} lists: the package is damaged or was changed after it was built")
    target.chmod(0o444)
