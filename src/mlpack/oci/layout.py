"""An image as files: an OCI layout, as a directory or as one tar archive.

Promises: writing is repeatable byte for byte and never leaves a layout that names what is not there (blobs first, `index.json`
last, each file renamed into place); blobs already there are left alone; bytes are checked against their digests on their way.
Reading opens no layer. An archive is also what `docker load` takes. Writes single-platform images only.
Source: OCI image-spec 1.1 `image-layout.md`; Docker image specification v1.2 for `manifest.json`.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mlpack.digest import Digest, canonical_json, of_bytes
from mlpack.errors import PackError
from mlpack.oci import blobs, image, media, reference, tar

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

    from mlpack.oci.image import Image

MARKER = "oci-layout"
_MARKER_BYTES = b'{"imageLayoutVersion":"1.0.0"}'
_Files = Callable[[str], BinaryIO]
"""Opens a file of a layout by its name in it; PackError when it is not there."""
_REF_NAME = "org.opencontainers.image.ref.name"


def is_layout(directory: Path) -> bool:
    """Whether a directory is an OCI layout rather than, say, a root file system."""
    return (directory / MARKER).is_file()


def write(made: Image, directory: Path, ref_name: str = "latest") -> None:
    """`made` as an OCI layout in `directory`, which is made when missing; `ref_name` is the name tools know it by there."""
    directory.mkdir(parents=True, exist_ok=True)
    for digest, (size, opener) in _blobs(made).items():
        if blobs.holds(directory / "blobs", digest, size):
            continue
        with opener() as stream:
            blobs.copy(stream, directory / "blobs", digest, size)
    blobs.write_file(directory / MARKER, _MARKER_BYTES)
    blobs.write_file(directory / "index.json", _index(made, ref_name))


def write_archive(made: Image, path: Path, ref_name: str = "latest") -> None:
    """`made` as one tar file, an OCI archive which `docker load` takes as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in _archived(made, ref_name):
                file.write(chunk)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def read(path: Path, arch: str | None = None) -> Image:
    """The image in a layout directory or archive; where it holds several, the one for `arch` (`amd64`, `arm64`).

    PackError when `path` is neither, is damaged, holds no such image, or several and no `arch` was given.
    """
    files = _directory(path) if path.is_dir() else _archive(path)
    with files("index.json") as stream:
        index = media.load_json(stream.read(media.MAX_JSON_BYTES + 1), f"{path}: index.json")
    wanted = _choose(path, files, index, arch)
    manifest_bytes = _document(files, wanted)
    described, _ = image.descriptors(media.load_json(manifest_bytes, "manifest"))
    return image.parse(manifest_bytes, _document(files, described), lambda digest: files(_blob_name(digest)))


class _Slice(io.RawIOBase):
    """A part of a file as a file of its own; closes the whole with it."""

    def __init__(self, whole: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._whole, self._start, self._size, self._at = whole, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        self._whole.seek(self._start + self._at)
        chunk = self._whole.read(min(len(view), max(0, self._size - self._at)))
        view[: len(chunk)] = chunk
        self._at += len(chunk)
        return len(chunk)

    def close(self) -> None:
        self._whole.close()
        super().close()


def _directory(path: Path) -> _Files:
    if not is_layout(path):
        raise PackError(f"{path} is not an OCI layout: it has no file {MARKER!r}")

    def opened(name: str) -> BinaryIO:
        try:
            return (path / name).open("rb")
        except OSError as error:
            raise _lacking(path, name) from error

    return opened


def _archive(path: Path) -> _Files:
    members = _members(path)
    if MARKER not in members or "index.json" not in members:
        raise PackError(f"{path} is not an OCI archive. If `docker save` wrote it: skopeo copy docker-archive:IN oci-archive:OUT")

    def opened(name: str) -> BinaryIO:
        if name not in members:
            raise _lacking(path, name)
        return io.BufferedReader(_Slice(path.open("rb"), *members[name]), blobs.CHUNK_BYTES)

    return opened


def _members(path: Path) -> dict[str, tuple[int, int]]:
    """Where each file of an archive begins, and its size."""
    if not path.is_file():
        raise PackError(f"{path} is neither an OCI layout nor an OCI archive: there is nothing of that name")
    members: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if not member.isreg():
                    continue
                if name in members:
                    raise PackError(f"the archive {path} has {name} twice: two readers could see two different images")
                members[name] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError, ValueError, RecursionError) as error:
        raise PackError(f"{path} is not an OCI archive (an uncompressed tar of an OCI layout): {error}") from error
    return members


def _lacking(path: Path, name: str) -> PackError:
    return PackError(f"{path} lacks {name}: it is damaged or was not written to its end")


def _choose(path: Path, files: _Files, index: dict[str, object], arch: str | None) -> media.Descriptor:
    listed = reference.manifests(index)
    if len(listed) == 1 and listed[0].media_type in media.INDEXES:
        listed = reference.manifests(media.load_json(_document(files, listed[0]), f"{path}: nested index"))
    images = [each for each in listed if each.media_type in media.MANIFESTS]
    if len(images) == 1:
        return images[0]
    if arch is None:
        names = ", ".join(each.ref_name or "/".join(each.platform or ("unnamed",)) for each in images)
        raise PackError(f"{path} holds {len(images)} images ({names}): say for which processor, or keep one image in it")
    return reference.select(listed, arch)


def _document(files: _Files, wanted: media.Descriptor) -> bytes:
    with files(_blob_name(wanted.digest)) as stream:
        data = stream.read(media.MAX_JSON_BYTES + 1)
    if len(data) != wanted.size_bytes or of_bytes(data) != wanted.digest:
        raise PackError(f"the blob {wanted.digest} is damaged: its bytes have the digest {of_bytes(data)}")
    return data


def _blob_name(digest: Digest) -> str:
    return f"blobs/sha256/{digest.hex}"


def _index(made: Image, ref_name: str) -> bytes:
    os_name, arch, variant = image.platform(made)
    described = {
        "mediaType": image.family(made).manifest,
        "digest": str(image.digest(made)),
        "size": len(made.manifest_bytes),
        "platform": {"os": os_name, "architecture": arch} | ({"variant": variant} if variant else {}),
        "annotations": {_REF_NAME: ref_name},
    }
    return canonical_json({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [described]})


def _blobs(made: Image) -> dict[Digest, tuple[int, Callable[[], BinaryIO]]]:
    """Layers, config, manifest: whoever finds the manifest finds what it names. A layer that is there twice is one blob."""
    found: dict[Digest, tuple[int, Callable[[], BinaryIO]]] = {
        layer.digest: (layer.size_bytes, layer.open) for layer in made.layers
    }
    for data in (made.config_bytes, made.manifest_bytes):
        found[of_bytes(data)] = (len(data), partial(io.BytesIO, data))
    return found


def _archived(made: Image, ref_name: str) -> Iterator[bytes]:
    documents = {MARKER: _MARKER_BYTES, "index.json": _index(made, ref_name), "manifest.json": _docker_manifest(made, ref_name)}
    listed = [_archive_entry(name, len(data), partial(io.BytesIO, data)) for name, data in documents.items()]
    for digest, (size, opener) in _blobs(made).items():
        listed.append(_archive_entry(_blob_name(digest), size, partial(_checked, opener, digest)))
    yield from tar.chunks(listed)


def _archive_entry(name: str, size: int, source: Callable[[], BinaryIO]) -> tar.Entry:
    return tar.Entry(path=name, kind="file", mode=0o644, size_bytes=size, source=source)


def _checked(opener: Callable[[], BinaryIO], digest: Digest) -> BinaryIO:
    return io.BufferedReader(blobs.Checked(opener(), digest), blobs.CHUNK_BYTES)


def _docker_manifest(made: Image, ref_name: str) -> bytes:
    tags = [ref_name] if ":" in ref_name else [f"{ref_name}:latest"]
    layers = [_blob_name(layer.digest) for layer in made.layers]
    return canonical_json([{"Config": _blob_name(of_bytes(made.config_bytes)), "RepoTags": tags, "Layers": layers}])
