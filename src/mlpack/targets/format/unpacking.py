"""Unpack a package into the directory that will lie at /var/task, so that measuring and booting use the shipped bytes.

Promises:
- Only plain files come out, only below the given directory, each with the digest that package.json lists.
- A hostile archive (a path that leaves the directory, a link, a name twice, more bytes than announced) ends in PackError.

A layer zip is laid over the function's files, as on the search path of the managed runtimes. An image gives its own layers, without
the base.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mlpack.core.digest import Digest
from mlpack.core.files import bounded, plain_files, zips
from mlpack.errors import PackError, RecipeError
from mlpack.targets.format import layering
from mlpack.targets.format.contents import FUNCTION_ZIP, LAYER_ZIP, TASK_ROOT

PACKAGE = "package.json"
SCHEMA = 1
_CHUNK_BYTES = 1 << 20
_PACKAGE_BYTES = 64 << 20
"""A package.json has a line for each file: this is half a million of them."""
_PATH_BYTES, _NAME_BYTES = 1024, 255
"""Linux takes names of 255 bytes and paths of 4,096, which leaves room for the directory that the package is unpacked into."""
_SHORT = 200
_LAYER_PREFIX = "python/"

Members = Callable[[Path, Mapping[str, Any]], Iterator[tuple[str, IO[bytes]]]]
"""Reads a package, by its directory and its package.json: each file's path below /var/task and its bytes. A stream has to be read
before the next file. The caller checks all of it against package.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ExpectedFile:
    size_bytes: int
    digest: Digest


def describe(artifact: Path) -> dict[str, Any]:
    """The package.json of a package's directory. PackError when there is none, or a newer mlpack wrote it."""
    try:
        content = bounded.load_json(plain_files.read(artifact, PACKAGE, _PACKAGE_BYTES))
        schema = content["schema"]
    except FileNotFoundError:
        raise PackError(f"{artifact} is no package: it has no {PACKAGE}. Give the directory that `mlpack build` wrote") from None
    except RecipeError as error:
        raise PackError(str(error)) from None
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise _damage_error(artifact, error) from None
    if schema != SCHEMA or not isinstance(content, dict):
        raise PackError(
            f"{artifact / PACKAGE} has schema {_short(repr(schema))}; this mlpack reads {SCHEMA}: update mlpack, or build again"
        )
    return content


def extract(artifact: Path, package_json: Mapping[str, Any], members: Members, out_dir: Path) -> Path:
    """Write everything that will lie at /var/task below `out_dir`, which is empty or new, and return it. Files are read-only.

    Args:
        artifact: The directory of the package.
        package_json: Its package.json, from `describe`.
        members: Reads the files out of the form in which the package ships.
        out_dir: The directory for them.

    Raises:
        PackError: The files are not those that package.json lists, or the package is damaged or hostile.
    """
    try:
        expected = _expected_files(package_json)
    except (KeyError, TypeError, ValueError) as error:
        raise _damage_error(artifact, error) from None
    out_dir.mkdir(parents=True, exist_ok=True)
    paths: set[str] = set()
    try:
        for path, stream in members(artifact, package_json):
            if path in paths:
                raise PackError(f"{_short(path)} is in the package twice: two readers could see two different files")
            if path not in expected:
                what = f"the package holds {_short(repr(path))}, which its {PACKAGE} does not list"
                raise PackError(f"{what}: it was changed after it was built")
            paths.add(path)
            _place(out_dir, path, stream, expected[path])
    except (*zips.DAMAGE, tarfile.TarError) as error:
        raise PackError(f"the package in {artifact} is damaged ({_short(error)}): fetch or build it again") from None
    except RecipeError as error:
        raise PackError(str(error)) from None
    if missing := sorted(set(expected) - paths):
        raise PackError(f"the package lacks {', '.join(map(_short, missing[:5]))}: it is damaged or was not copied whole")
    return out_dir


def _expected_files(package_json: Mapping[str, Any]) -> dict[str, _ExpectedFile]:
    """The files that package.json lists. ValueError for a path that no directory can hold, or that is a folder of another."""
    expected: dict[str, _ExpectedFile] = {}
    for row in package_json["files"]:
        path, size = row["path"], row["size_bytes"]
        if not isinstance(path, str) or not _is_path(path) or path in expected:
            raise ValueError(f"{_short(repr(path))} is malformed, or there twice")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ValueError(f"{_short(path)} has a size that is no number of bytes")
        digest_text = row["digest"]
        expected[path] = _ExpectedFile(size_bytes=size, digest=Digest(digest_text if isinstance(digest_text, str) else ""))
    for path in expected:
        if parent := next((str(each) for each in PurePosixPath(path).parents if str(each) in expected), None):
            raise ValueError(f"{_short(parent)} is a file and a folder of another")
    return expected


def _damage_error(artifact: Path, error: Exception) -> PackError:
    return PackError(f"{artifact / PACKAGE} is damaged ({type(error).__name__}: {_short(error)}): build the package again")


def _is_path(path: str) -> bool:
    """Whether the path stays below its directory, within the usual limits of file systems."""
    parts = path.split("/")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeError:
        return False
    if sum(sizes) + len(parts) > _PATH_BYTES or max(sizes) > _NAME_BYTES:
        return False
    return not any(part in {"", ".", ".."} or "\\" in part or "\0" in part for part in parts)


def _short(value: object) -> str:
    """Somebody else's text for a message: on one line, printable, and cut."""
    text = str(value)
    short = text[:_SHORT] + ("..." if len(text) > _SHORT else "")
    return short if short.isprintable() else ascii(short)[1:-1]


def by_form(artifact: Path, package_json: Mapping[str, Any]) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of a package in one of mlpack's own forms, `zip`, `layer-zip` or `image`, whatever its target is called."""
    return (image if package_json.get("kind") == "image" else zip_files)(artifact, package_json)


def zip_files(artifact: Path, _package_json: Mapping[str, Any]) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of function.zip, and of layer.zip where there is one. PackError for what is not a plain file."""
    names = [(FUNCTION_ZIP, "")]
    if plain_files.is_there(artifact, LAYER_ZIP):
        names.append((LAYER_ZIP, _LAYER_PREFIX))
    for name, prefix in names:
        if not plain_files.is_there(artifact, name):
            raise PackError(f"{artifact} lacks {name}: it is damaged or was not copied whole")
        with plain_files.opened(artifact, name) as file, zips.opened(file) as archive:
            for info in archive.infolist():
                kind = info.external_attr >> 28
                if info.is_dir() or kind not in {0, 0o10} or not info.filename.startswith(prefix):
                    raise PackError(f"{name} holds {_short(repr(info.filename))}, which is not a plain file of a package")
                with archive.open(info) as stream:
                    yield info.filename.removeprefix(prefix), stream


def image(artifact: Path, package_json: Mapping[str, Any]) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of an image's own layers, which package.json names. PackError for what is not a plain file below /var/task."""
    from mlpack.oci import compression, layout
    from mlpack.oci.layers import scan

    try:
        for _ in plain_files.below(artifact, layering.LAYOUT):
            pass  # `below` raises for a link that leads out, or a pipe
    except FileNotFoundError:
        raise PackError(f"{artifact} lacks {layering.LAYOUT}: it is damaged or was not copied whole") from None
    oci_image = layout.read(artifact / layering.LAYOUT)
    layers = package_json.get("layers") or {}
    ours = {each for each in layers.values() if isinstance(each, str)} if isinstance(layers, dict) else set()
    prefix = TASK_ROOT.lstrip("/") + "/"
    parents = {part.rstrip("/") for part in ("var", "var/task")}
    for layer in oci_image.layers:
        if str(layer.digest) not in ours:
            continue
        with layer.open() as blob:
            for entry, stream in scan.members(compression.InflatedTar(blob, layer.media_type)):
                path = entry.path.rstrip("/")
                if entry.kind == "dir" and (path in parents or path.startswith(prefix)):
                    continue
                if entry.kind != "file" or not path.startswith(prefix):
                    what = f"a layer of the package holds {_short(repr(entry.path))}"
                    raise PackError(f"{what}, which is not a plain file below {TASK_ROOT}")
                yield path.removeprefix(prefix), stream


def _place(out_dir: Path, path: str, stream: IO[bytes], expected: _ExpectedFile) -> None:
    if not _is_path(path):
        raise PackError(f"the package holds the path {_short(repr(path))}, which leaves its directory or is malformed")
    target = out_dir.joinpath(*path.split("/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    state, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        while chunk := stream.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > expected.size_bytes:
                break
            state.update(chunk)
            file.write(chunk)
    if size != expected.size_bytes or state.hexdigest() != expected.digest.hex:
        what = f"{_short(path)} is not the file that {PACKAGE} lists"
        raise PackError(f"{what}: the package is damaged or was changed after it was built")
    target.chmod(0o444)
