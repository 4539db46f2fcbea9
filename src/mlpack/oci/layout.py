"""An image as files: an OCI layout, as a directory or as one tar archive.

Promises:
- Writing gives the same bytes every time, and never leaves a layout that names missing blobs: blobs are written first,
  `index.json` last, and each file is renamed into place. Blobs that are there already are left alone.
- Bytes are checked against their digests while they are copied. Reading opens no layer.
- `docker load` takes an archive too.

Will not: write images of several platforms, or decide which image of several is read (`selection` does).

Source: OCI image-spec 1.1 `image-layout.md`; Docker image specification v1.2 for `manifest.json`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mlpack.core.digest import Digest, canonical_json, of_bytes
from mlpack.core.files import atomically, tars
from mlpack.errors import NamingError, PackError
from mlpack.oci import blobs, image, media, selection
from mlpack.oci.layers import tar
from mlpack.oci.selection import Selector

if TYPE_CHECKING:
    from mlpack.oci.image import Image

MARKER = "oci-layout"
_MARKER_BYTES = b'{"imageLayoutVersion":"1.0.0"}'
_Files = Callable[[str], BinaryIO]
"""A function that opens a file of a layout by its name in it; PackError when it does not exist."""
_REF_NAME = "org.opencontainers.image.ref.name"
_IN_A_LAYOUT = re.compile(r"oci-layout|index\.json|blobs/sha256/[0-9a-f]{64}")
_SKOPEOS = ("oci-archive:", "oci:")
"""The prefixes that skopeo and podman write before the path of a layout or an archive."""


def is_layout(directory: Path) -> bool:
    """Whether a directory is an OCI layout rather than, say, a root file system."""
    return (directory / MARKER).is_file()


def write(oci_image: Image, directory: Path, ref_name: str = "latest") -> None:
    """Write `oci_image` as an OCI layout in `directory`, which is made if missing; tools know it there by the name `ref_name`."""
    directory.mkdir(parents=True, exist_ok=True)
    for digest, (size, opener) in _blobs(oci_image).items():
        if blobs.holds(directory / "blobs", digest, size):
            continue
        with opener() as stream:
            blobs.copy(stream, directory / "blobs", digest, size)
    atomically.write(directory / MARKER, _MARKER_BYTES)
    atomically.write(directory / "index.json", _index(oci_image, ref_name))


def write_archive(oci_image: Image, path: Path, ref_name: str = "latest") -> None:
    """Write `oci_image` as one tar file: an OCI archive, which `docker load` accepts as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomically.replacing(path) as fresh, fresh.open("wb") as file:
        for chunk in _archived(oci_image, ref_name):
            file.write(chunk)


def locate(text: str, root: Path = Path()) -> tuple[Path, Selector] | None:
    """The path that `text` begins with, and which image there it means: `DIR`, `DIR:TAG`, `DIR@sha256:...`, or both; an archive
    instead of DIR; with `oci:` or `oci-archive:` before it; relative to `root`. None when no such path exists.

    If the whole text is an existing path, it is that; else the longest path counts, so that a directory's name may hold colons
    and a tag may be a whole name. A path without one of the beginnings of paths (`/`, `./`, `../`, or skopeo's prefix) must be a
    layout or an archive: `python:3.13` beside a directory `python` is an image.
    """
    rest = next((text.removeprefix(prefix) for prefix in _SKOPEOS if text.startswith(prefix)), text)
    sure = rest != text or rest.startswith(("/", "./", "../"))
    for whole in (text, rest):
        if whole and _exists(root / whole):
            return root / whole, Selector()
    before, at, digits = rest.rpartition("@")
    try:
        digest = Digest(digits) if at else None
    except ValueError:
        digest = None
    if digest is None:
        before = rest
    elif before and _holds_images(root / before, sure=sure):
        return root / before, Selector(digest=digest)
    for end in (index for index in reversed(range(1, len(before) - 1)) if before[index] == ":"):
        if _holds_images(root / before[:end], sure=sure):
            return root / before[:end], Selector(tag=before[end + 1 :], digest=digest)
    return None


def beside(text: str, root: Path) -> str:
    """`text` with its path made relative to `root`, if the path exists there; else unchanged."""
    located = locate(text, root)
    if located is None:
        return text
    path, place = located
    return f"{path}{f':{place.tag}' if place.tag else ''}{f'@{place.digest}' if place.digest else ''}"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have, or a folder without permission
        return False


def _holds_images(path: Path, *, sure: bool) -> bool:
    if sure or not _exists(path):
        return _exists(path)
    try:
        return is_layout(path) or (path.is_file() and (tars.is_tar(path) or tars.is_packed(path)))
    except OSError:  # there is no permission to read it
        return False


def read_named(text: str, arch: str | None = None) -> tuple[Image, int]:
    """The image that `text` means (see `locate`), and the number of other manifests beside it. Raises as `read`."""
    place = locate(text)
    if place is None:
        others = ("docker-archive:", "docker-daemon:", "docker://", "dir:", "containers-storage:")
        hint = f"; copy it into one first: skopeo copy {text[:300]} oci:DIR" if text.startswith(others) else ""
        raise NamingError(f"{text[:300]!r} is neither an OCI layout nor an OCI archive: there is nothing of that name{hint}")
    return _read(*place, arch)


def read(path: Path, arch: str | None = None, selector: Selector | None = None) -> Image:
    """The image in a layout directory or archive; of several the one for `arch` (`amd64`, `arm64`) that `selector` names.

    NamingError when `path` is neither, or holds no such image, or several; PackError when it is damaged.
    """
    return _read(path, selector or Selector(), arch)[0]


def _read(path: Path, selector: Selector, arch: str | None) -> tuple[Image, int]:
    files = _directory(path) if path.is_dir() else _archive(path)
    with files("index.json") as stream:
        index = media.load_json(stream.read(media.MAX_JSON_BYTES + 1), f"{path}: index.json")
    chosen = selection.choose(str(path), index, partial(_document, files), arch, selector)
    manifest_bytes = _document(files, chosen.descriptor)
    described, _ = image.descriptors(media.load_json(manifest_bytes, "manifest"))
    oci_image = image.parse(manifest_bytes, _document(files, described), lambda digest: files(_blob_name(digest)))
    selection.check_arch(str(path), image.platform(oci_image), arch)
    return oci_image, chosen.others


def _directory(path: Path) -> _Files:
    if not is_layout(path):
        raise NamingError(f"{path} is not an OCI layout: it has no file {MARKER!r}")

    def opened(name: str) -> BinaryIO:
        try:
            if (path / name).is_file():  # opening a pipe would wait for its other end
                return (path / name).open("rb")
        except OSError as error:
            raise _lacking(path, name) from error
        raise _lacking(path, name)

    return opened


def _archive(path: Path) -> _Files:
    members = _members(path)
    if MARKER not in members or "index.json" not in members:
        raise NamingError(f"{path} is not an OCI archive. If `docker save` wrote it: skopeo copy docker-archive:IN oci-archive:OUT")

    def opened(name: str) -> BinaryIO:
        if name not in members:
            raise _lacking(path, name)
        return io.BufferedReader(tars.Slice(path.open("rb"), *members[name]), blobs.CHUNK_BYTES)

    return opened


def _members(path: Path) -> dict[str, tuple[int, int]]:
    """The offset and size of each file in an archive that can belong to a layout. Nothing else of it is remembered."""
    if not path.is_file():
        raise NamingError(f"{path} is neither an OCI layout nor an OCI archive: there is nothing of that name")
    try:
        if tars.is_packed(path):
            raise NamingError(f"{path} is compressed, and is not an OCI archive as it is: unpack it to the .tar first (gunzip)")
        if not tars.is_tar(path):
            raise NamingError(f"{path} is not an OCI archive (an uncompressed tar of an OCI layout)")
        with path.open("rb") as stream:
            return tars.index(stream, lambda name: _IN_A_LAYOUT.fullmatch(name) is not None)
    except tars.TarError as error:
        raise PackError(f"the archive {path} is damaged or hostile: {error}; copy or make it again") from None
    except OSError as error:
        raise NamingError(f"{path} cannot be read: {error.strerror}") from None


def _lacking(path: Path, name: str) -> PackError:
    return PackError(f"{path} lacks {name}: it is damaged or was not written to its end")


def _document(files: _Files, descriptor: media.Descriptor) -> bytes:
    if descriptor.size_bytes > media.MAX_JSON_BYTES:
        most = media.MAX_JSON_BYTES
        raise PackError(f"the blob {descriptor.digest} has {descriptor.size_bytes} bytes: documents of up to {most} are read")
    with files(_blob_name(descriptor.digest)) as stream:
        data = stream.read(media.MAX_JSON_BYTES + 1)
    if len(data) > media.MAX_JSON_BYTES:
        raise PackError(f"the blob {descriptor.digest} has more than the {media.MAX_JSON_BYTES} bytes that a manifest may have")
    if len(data) != descriptor.size_bytes or of_bytes(data) != descriptor.digest:
        raise PackError(f"the blob {descriptor.digest} is damaged: its bytes have the digest {of_bytes(data)}")
    return data


def _blob_name(digest: Digest) -> str:
    return f"blobs/sha256/{digest.hex}"


def _index(oci_image: Image, ref_name: str) -> bytes:
    os_name, arch, variant = image.platform(oci_image)
    described = {
        "mediaType": image.family(oci_image).manifest,
        "digest": str(image.digest(oci_image)),
        "size": len(oci_image.manifest_bytes),
        "platform": {"os": os_name, "architecture": arch} | ({"variant": variant} if variant else {}),
        "annotations": {_REF_NAME: ref_name},
    }
    return canonical_json({"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [described]})


def _blobs(oci_image: Image) -> dict[Digest, tuple[int, Callable[[], BinaryIO]]]:
    """Layers, config, manifest, in this order: a reader that sees the manifest finds all it names. A layer that occurs twice is one
    blob."""
    sources: dict[Digest, tuple[int, Callable[[], BinaryIO]]] = {
        layer.digest: (layer.size_bytes, layer.open) for layer in oci_image.layers
    }
    for data in (oci_image.config_bytes, oci_image.manifest_bytes):
        sources[of_bytes(data)] = (len(data), partial(io.BytesIO, data))
    return sources


def _archived(oci_image: Image, ref_name: str) -> Iterator[bytes]:
    documents = {
        MARKER: _MARKER_BYTES,
        "index.json": _index(oci_image, ref_name),
        "manifest.json": _docker_manifest(oci_image, ref_name),
    }
    listed = [_archive_entry(name, len(data), partial(io.BytesIO, data)) for name, data in documents.items()]
    for digest, (size, opener) in _blobs(oci_image).items():
        listed.append(_archive_entry(_blob_name(digest), size, partial(_checked, opener, digest)))
    yield from tar.chunks(listed)


def _archive_entry(name: str, size: int, source: Callable[[], BinaryIO]) -> tar.TarEntry:
    return tar.TarEntry(path=name, kind="file", mode=0o644, size_bytes=size, source=source)


def _checked(opener: Callable[[], BinaryIO], digest: Digest) -> BinaryIO:
    return io.BufferedReader(blobs.VerifyingReader(opener(), digest), blobs.CHUNK_BYTES)


def _docker_manifest(oci_image: Image, ref_name: str) -> bytes:
    tags = [ref_name] if ":" in ref_name else [f"{ref_name}:latest"]
    layers = [_blob_name(layer.digest) for layer in oci_image.layers]
    return canonical_json([{"Config": _blob_name(of_bytes(oci_image.config_bytes)), "RepoTags": tags, "Layers": layers}])
