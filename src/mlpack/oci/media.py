"""Media types of the two manifest families, and strict reading of untrusted JSON.

Promises:
- A document with a repeated key, of more than 4 MiB, or that is not an object, is refused before anybody uses it. (Two readers
  of a repeated key may see two different images.)

Will not: read files or use the network.

Sources: OCI image-spec 1.1 (`manifest.md`, `media-types.md`), Docker image manifest V2 schema 2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from mlpack.core.digest import Digest
from mlpack.core.files import bounded
from mlpack.errors import PackError

MAX_JSON_BYTES = 4 << 20
"""The distribution specification lets a registry refuse a larger manifest; nothing larger is read either."""

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The media types that belong together. Some registries refuse a manifest that mixes two families."""

    manifest: str
    config: str
    tar: str
    gzip: str


OCI = Family(
    manifest=OCI_MANIFEST,
    config="application/vnd.oci.image.config.v1+json",
    tar="application/vnd.oci.image.layer.v1.tar",
    gzip="application/vnd.oci.image.layer.v1.tar+gzip",
)
DOCKER = Family(
    manifest=DOCKER_MANIFEST,
    config="application/vnd.docker.container.image.v1+json",
    tar="application/vnd.docker.image.rootfs.diff.tar",
    gzip="application/vnd.docker.image.rootfs.diff.tar.gzip",
)
ZSTD_LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"
LAYERS = frozenset({OCI.tar, OCI.gzip, DOCKER.tar, DOCKER.gzip, ZSTD_LAYER})
GZIP_LAYERS = frozenset({OCI.gzip, DOCKER.gzip})
TAR_LAYERS = frozenset({OCI.tar, DOCKER.tar})

_FAMILIES = {OCI_MANIFEST: OCI, DOCKER_MANIFEST: DOCKER}


def family(manifest_type: str) -> Family:
    """The family a manifest's media type belongs to; PackError for anything but a single-platform image manifest."""
    try:
        return _FAMILIES[manifest_type]
    except KeyError:
        raise PackError(f"a manifest of type {manifest_type!r:.200} is not a single-platform image") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A manifest's description of a blob: its type, name and size, and platform and annotations if stated."""

    media_type: str
    digest: Digest
    size_bytes: int
    platform: tuple[str, str, str] | None = None
    """Operating system, architecture, variant ("" when none)."""
    ref_name: str | None = None
    """The annotation `org.opencontainers.image.ref.name`."""
    image_name: str | None = None
    """What containerd and Docker call it: a whole name with its tag."""
    artifact_type: str | None = None
    about: bool = False
    """Whether it says of itself that it speaks of an image and is none, as BuildKit's attestations do."""
    zstd_copy: bool = False
    """Whether podman marked it as the zstd copy of an image that is there with gzip too."""

    def as_json(self) -> dict[str, Any]:
        """The three required fields, in the form of a manifest."""
        return {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size_bytes}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise PackError(f"the key {key!r:.200} is given twice: two readers could see two different documents")
        fields[key] = value
    return fields


def _no_constant(text: str) -> Any:
    raise PackError(f"{text} is not a JSON value")


def load_json(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `data`; PackError, beginning with `what`, when it is too large, malformed or ambiguous."""
    if len(data) > MAX_JSON_BYTES:
        raise PackError(f"{what}: {len(data)} bytes, more than the {MAX_JSON_BYTES} that a manifest or config may have")
    try:
        value = bounded.load_json(data.decode("utf-8"), pairs=_unique, constant=_no_constant)
    except PackError as error:
        raise PackError(f"{what}: {error}") from None
    except bounded.SizeLimitError as error:
        raise PackError(f"{what}: not JSON that is read: {error}") from None
    except ValueError as error:
        raise PackError(f"{what}: not JSON in UTF-8 ({error})") from None
    if not isinstance(value, dict):
        raise PackError(f"{what}: a JSON {type(value).__name__} where an object was expected")
    return value


def descriptor(value: Any, what: str) -> Descriptor:
    """A descriptor out of an untrusted document; PackError, beginning with `what`, says which field is wrong."""
    if not isinstance(value, dict):
        raise PackError(f"{what}: not a descriptor")
    media_type, size = value.get("mediaType"), value.get("size")
    if not isinstance(media_type, str):
        raise PackError(f"{what}: mediaType is missing")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
        raise PackError(f"{what}: size is not a number of bytes: {size!r:.200}")
    annotations = value.get("annotations")
    notes = {key: text for key, text in annotations.items() if isinstance(text, str)} if isinstance(annotations, dict) else {}
    name, kind = notes.get("org.opencontainers.image.ref.name"), value.get("artifactType")
    return Descriptor(
        media_type=media_type,
        digest=as_digest(value.get("digest"), what),
        size_bytes=size,
        platform=_platform(value.get("platform")),
        ref_name=name,
        image_name=notes.get("io.containerd.image.name"),
        artifact_type=kind if isinstance(kind, str) and kind else None,
        about="vnd.docker.reference.type" in notes,
        zstd_copy=notes.get("io.github.containers.compression.zstd") == "true",
    )


def as_digest(value: Any, what: str) -> Digest:
    """A digest out of an untrusted document; PackError, beginning with `what`, for any other form (only sha256 is read)."""
    try:
        return Digest(value)
    except (ValueError, TypeError):
        raise PackError(f"{what}: not a sha256 digest: {value!r:.100}") from None


def _platform(value: Any) -> tuple[str, str, str] | None:
    if not isinstance(value, dict):
        return None
    os_name, arch, variant = value.get("os", ""), value.get("architecture", ""), value.get("variant", "")
    return str(os_name), str(arch), str(variant)


_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "arm64": "arm64", "aarch64": "arm64"}
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]*")


def architecture(name: str) -> str:
    """The name images use (`amd64`, `arm64`) for any usual name of that processor; PackError for other processors."""
    try:
        return _ARCHITECTURES[name]
    except KeyError:
        raise PackError(f"no images are made for {name!r:.200}: choose one of {', '.join(sorted(_ARCHITECTURES))}") from None


def is_printable(text: str) -> bool:
    """Whether `text` holds no control character, so that it may stand in a path, a header or a message."""
    return _PRINTABLE.fullmatch(text) is not None
