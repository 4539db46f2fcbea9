"""An image as a value: a manifest, a config and layers. Every change makes a new image; its digest follows from its bytes.

Promises:
- A manifest or config that was read is kept byte for byte.
- A manifest or config that is written is canonical JSON without clock, path or tool version. Its media types are those of the
  base's family, never a mixture.

Will not: know registries, models or targets.

Sources: OCI image-spec 1.1 (`manifest.md`, `config.md`); the shape follows google/go-containerregistry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from mlpack.core.digest import Digest, canonical_json, of_bytes
from mlpack.errors import NamingError, PackError
from mlpack.oci import blobs, compression, media

if TYPE_CHECKING:
    from pathlib import Path

Opener = Callable[[Digest], BinaryIO]
"""How the bytes of a blob are had, by name."""

_SPEC_NAMES = (
    "created authors url documentation source version revision vendor licenses ref.name title description base.digest base.name"
)
SPEC_KEYS = frozenset(f"org.opencontainers.image.{name}" for name in _SPEC_NAMES.split(" "))
"""The keys that image-spec's `annotations.md` defines; any other under `org.opencontainers` is reserved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer: `digest` and `size_bytes` of the stored bytes, `diff_id` of the tar inside. Equal when those are."""

    digest: Digest
    diff_id: Digest
    size_bytes: int
    media_type: str
    uncompressed_bytes: int | None = field(default=None, compare=False)
    """Size of the tar inside; None when nobody has looked (see `paths.index`)."""
    open: Callable[[], BinaryIO] = field(compare=False, repr=False)
    """The stored bytes, from their beginning. May raise MlpackError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A single-platform image. Made by `empty`, `parse`, `append` and `with_config` only."""

    manifest_bytes: bytes = field(repr=False)
    config_bytes: bytes = field(repr=False)
    layers: tuple[Layer, ...]


def opener_in(directory: Path, name: Digest) -> Callable[[], BinaryIO]:
    """Opens the blob of that name below `directory`; PackError, when called, if it has gone."""

    def opened() -> BinaryIO:
        path = blobs.path_of(directory, name)
        try:
            return path.open("rb")
        except OSError as error:
            raise PackError(f"the blob {path} has gone ({error.strerror}): was a cache emptied meanwhile? Build again") from error

    return opened


def digest(image: Image) -> Digest:
    """The digest of the image: of its manifest's bytes."""
    return of_bytes(image.manifest_bytes)


def manifest(image: Image) -> dict[str, Any]:
    """The manifest as JSON."""
    return media.load_json(image.manifest_bytes, "manifest")


def config(image: Image) -> dict[str, Any]:
    """The config as JSON."""
    return media.load_json(image.config_bytes, "image config")


def family(image: Image) -> media.Family:
    """The media types of this image's family, for what is added to it."""
    return media.family(_type_of(manifest(image)))


def platform(image: Image) -> tuple[str, str, str]:
    """Operating system, architecture, variant ("" when none)."""
    document = config(image)
    return str(document.get("os", "")), str(document.get("architecture", "")), str(document.get("variant", ""))


def env(image: Image) -> dict[str, str]:
    """The environment that the image gives its process."""
    pairs = (str(line).partition("=") for line in _runtime(config(image)).get("Env") or ())
    return {key: value for key, _, value in pairs}


def empty(arch: str, environment: Mapping[str, str] | None = None) -> Image:
    """An image without layers for Linux on `arch` (`amd64`, `arm64` or a usual name of them), in OCI media types."""
    document: dict[str, Any] = {
        "architecture": media.architecture(arch),
        "os": "linux",
        "created": _timestamp(0),
        "config": {"Env": [f"{key}={value}" for key, value in sorted((environment or {}).items())]},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }
    return _build(document, (), media.OCI)


def append(image: Image, layer: Layer, created_by: str, *, comment: str = "", epoch_s: int = 0) -> Image:
    """`image` with `layer` on top and one line of history; the image is dated `epoch_s` (SOURCE_DATE_EPOCH, 0 = 1970).

    The layer takes the media types of the image's family. When the base has fewer lines of history than layers, lines are added,
    because readers match them one to one. PackError when the layer's encoding has no type in that family.
    """
    document, kin = config(image), family(image)
    history = _history(document)
    missing = len(image.layers) - sum(1 for line in history if not line.get("empty_layer"))
    history += [{"created_by": "unknown: the base image does not say"}] * missing
    line = {"created": _timestamp(epoch_s), "created_by": created_by} | ({"comment": comment} if comment else {})
    document["history"] = [*history, line]
    document["rootfs"] = {"type": "layers", "diff_ids": [str(all_layers.diff_id) for all_layers in (*image.layers, layer)]}
    document["created"] = _timestamp(epoch_s)
    return _build(document, (*image.layers, replace(layer, media_type=_type_in(kin, layer.media_type))), kin)


def with_config(
    image: Image,
    *,
    env: Mapping[str, str] | None = None,
    entrypoint: Sequence[str] | None = None,
    cmd: Sequence[str] | None = None,
    workdir: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> Image:
    """`image` with these settings; what is None stays, and so do user, ports, volumes and the base's labels.

    Environment and labels are merged by key, sorted after the base's own. An entrypoint clears the base's cmd, as everywhere.
    A label's key is in reverse-DNS form (`io.example.key`), or one that image-spec defines; PackError otherwise.
    """
    document = config(image)
    runtime = dict(_runtime(document))
    if env:
        merged = _merged(runtime.get("Env") or (), env)
        runtime["Env"] = [f"{key}={value}" for key, value in merged.items()]
    if entrypoint is not None:
        runtime["Entrypoint"] = list(entrypoint)
        runtime.pop("Cmd", None)
    if cmd is not None:
        runtime["Cmd"] = list(cmd)
    if workdir is not None:
        runtime["WorkingDir"] = workdir
    if labels:
        check_labels(labels)
        runtime["Labels"] = {**(runtime.get("Labels") or {}), **labels}
    document["config"] = runtime
    return _build(document, image.layers, family(image))


def with_process(image: Image, *, user: str | None = None, ports: Sequence[int] = (), stop_signal: str | None = None) -> Image:
    """`image` with these settings of its process; what is None or empty stays as it is. `ports`: of TCP, that it listens on."""
    document = config(image)
    runtime = dict(_runtime(document))
    if user is not None:
        runtime["User"] = user
    if ports:
        runtime["ExposedPorts"] = {**(runtime.get("ExposedPorts") or {}), **{f"{port}/tcp": {} for port in ports}}
    if stop_signal is not None:
        runtime["StopSignal"] = stop_signal
    document["config"] = runtime
    return _build(document, image.layers, family(image))


def parse(manifest_bytes: bytes, config_bytes: bytes, opener: Opener) -> Image:
    """The image that these untrusted bytes describe; layers are opened through `opener`, and not before they are needed.

    PackError when a document is malformed, the config is not the one the manifest names, or layers and diff_ids do not match.
    """
    document = media.load_json(manifest_bytes, "manifest")
    listed, described = descriptors(document)
    if listed.digest != of_bytes(config_bytes) or listed.size_bytes != len(config_bytes):
        raise PackError(f"the config is not the one the manifest names: expected {listed.digest}, got {of_bytes(config_bytes)}")
    config_document = media.load_json(config_bytes, "image config")
    rootfs = config_document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or len(diff_ids) != len(described):
        raise PackError(f"the manifest has {len(described)} layers, the config's rootfs.diff_ids do not match them")
    _history(config_document)
    _runtime(config_document)
    layers = tuple(
        Layer(
            digest=layer.digest,
            diff_id=media.as_digest(diff_id, "rootfs.diff_ids"),
            size_bytes=layer.size_bytes,
            media_type=layer.media_type,
            uncompressed_bytes=layer.size_bytes if layer.media_type in media.TAR_LAYERS else None,
            open=_opening(opener, layer.digest),
        )
        for layer, diff_id in zip(described, diff_ids, strict=True)
    )
    return Image(manifest_bytes=manifest_bytes, config_bytes=config_bytes, layers=layers)


def descriptors(document: dict[str, Any]) -> tuple[media.Descriptor, tuple[media.Descriptor, ...]]:
    """The config and the layers that an untrusted manifest names. PackError when it is not a manifest of an image.

    Layers that may not be handed on (`foreign`, `nondistributable`) are refused: their bytes are not in the registry.
    """
    if document.get("schemaVersion") != 2:
        raise PackError(f"manifest: schemaVersion is {document.get('schemaVersion')!r:.200}, only 2 can be read")
    kin = media.family(_type_of(document))
    config_descriptor = media.descriptor(document.get("config"), "manifest: config")
    if config_descriptor.media_type not in {kin.config, media.OCI.config, media.DOCKER.config}:
        raise PackError(f"manifest: an artifact of type {config_descriptor.media_type!r:.200}, not an image")
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise PackError("manifest: no list of layers")
    described = tuple(media.descriptor(layer, f"manifest: layer {number}") for number, layer in enumerate(layers))
    for layer in described:
        if layer.media_type not in media.LAYERS:
            raise PackError(f"manifest: a layer of type {layer.media_type!r:.200} cannot be read or handed on")
    return config_descriptor, described


def validate(image: Image) -> list[str]:
    """Every way in which the image contradicts itself, found by deriving all digests, sizes and counts again from the bytes."""
    document, config_document = manifest(image), config(image)
    problems = []
    config_descriptor = media.descriptor(document.get("config"), "manifest: config")
    if (config_descriptor.digest, config_descriptor.size_bytes) != (of_bytes(image.config_bytes), len(image.config_bytes)):
        problems.append("the manifest names another config")
    kin = media.family(_type_of(document))
    if config_descriptor.media_type != kin.config:
        problems.append(f"a config of type {config_descriptor.media_type} in a manifest of type {kin.manifest}")
    problems += [f"the config lacks {key!r}" for key in ("architecture", "os") if not config_document.get(key)]
    rootfs = config_document.get("rootfs") or {}
    if rootfs.get("type") != "layers":
        problems.append(f"rootfs.type is {rootfs.get('type')!r:.200}, not 'layers'")
    if rootfs.get("diff_ids") != [str(layer.diff_id) for layer in image.layers]:
        problems.append("rootfs.diff_ids are not the layers'")
    if [layer.get("digest") for layer in document.get("layers", ())] != [str(layer.digest) for layer in image.layers]:
        problems.append("the manifest names other layers")
    lines = sum(1 for line in _history(config_document) if not line.get("empty_layer"))
    if lines not in {0, len(image.layers)}:
        problems.append(f"{lines} lines of history with a layer, {len(image.layers)} layers")
    for number, layer in enumerate(image.layers):
        if layer.media_type not in {kin.tar, kin.gzip} and (kin, layer.media_type) != (media.OCI, media.ZSTD_LAYER):
            problems.append(f"layer {number}: type {layer.media_type} in a manifest of type {kin.manifest}")
        problems += [f"layer {number}: {problem}" for problem in layer_problems(layer)]
    return problems


def layer_problems(layer: Layer) -> list[str]:
    """Every way in which a layer's stored bytes and the tar inside differ from what the layer says of them.

    Of a zstd layer, which image-spec allows and nothing here can read, the stored bytes alone are looked at.
    """
    problems = []
    stored = compression.HashingCounter()
    with layer.open() as stream:
        while chunk := stream.read(blobs.CHUNK_BYTES):
            stored.add(chunk)
    if stored.size_bytes != layer.size_bytes:
        problems.append(f"{stored.size_bytes} bytes, {layer.size_bytes} expected")
    if stored.digest() != layer.digest:
        return [*problems, f"digest {stored.digest()}, {layer.digest} expected"]
    if layer.media_type == media.ZSTD_LAYER:
        return problems
    with layer.open() as stream:
        try:
            inside = compression.InflatedTar(stream, layer.media_type)
            inside.drain()
        except PackError as error:
            return [*problems, str(error)]
    if inside.tally.digest() != layer.diff_id:
        problems.append(f"diff_id {inside.tally.digest()}, {layer.diff_id} expected")
    if layer.uncompressed_bytes not in {None, inside.tally.size_bytes}:
        problems.append(f"{inside.tally.size_bytes} bytes inflated, {layer.uncompressed_bytes} expected")
    return problems


def describe(image: Image) -> dict[str, Any]:
    """What an image is, for people and scripts: digest, platform, sizes in bytes, layers with their history, and the settings."""
    document = config(image)
    lines = [line for line in _history(document) if not line.get("empty_layer")]
    lines += [{}] * (len(image.layers) - len(lines))
    runtime = _runtime(document)
    return {
        "digest": str(digest(image)),
        "media_type": family(image).manifest,
        "platform": "/".join(part for part in platform(image) if part),
        "size_bytes": len(image.manifest_bytes) + len(image.config_bytes) + sum(layer.size_bytes for layer in image.layers),
        "config_digest": str(of_bytes(image.config_bytes)),
        "layers": [
            {
                "digest": str(layer.digest),
                "diff_id": str(layer.diff_id),
                "size_bytes": layer.size_bytes,
                "uncompressed_bytes": layer.uncompressed_bytes,
                "media_type": layer.media_type,
                "created_by": line.get("created_by", ""),
                "comment": line.get("comment", ""),
            }
            for layer, line in zip(image.layers, lines, strict=False)
        ],
        "config": {
            key.lower(): runtime.get(key)
            for key in ("Entrypoint", "Cmd", "Env", "WorkingDir", "User", "Labels")
            if runtime.get(key)
        },
    }


def _type_of(document: dict[str, Any]) -> str:
    """The media type in a manifest; OCI lets it be left out."""
    return str(document.get("mediaType", media.OCI_MANIFEST))


def _build(document: dict[str, Any], layers: tuple[Layer, ...], kin: media.Family) -> Image:
    """Config and manifest written anew: nothing of the base's annotations or embedded data, which describe the base, is kept."""
    config_bytes = canonical_json(document)
    descriptor = media.Descriptor(media_type=kin.config, digest=of_bytes(config_bytes), size_bytes=len(config_bytes))
    described = [
        media.Descriptor(media_type=layer.media_type, digest=layer.digest, size_bytes=layer.size_bytes).as_json()
        for layer in layers
    ]
    written = {"schemaVersion": 2, "mediaType": kin.manifest, "config": descriptor.as_json(), "layers": described}
    return Image(manifest_bytes=canonical_json(written), config_bytes=config_bytes, layers=layers)


def _type_in(kin: media.Family, media_type: str) -> str:
    if media_type in media.GZIP_LAYERS:
        return kin.gzip
    if media_type in media.TAR_LAYERS:
        return kin.tar
    raise PackError(f"a layer of type {media_type!r:.200} cannot be added to an image of type {kin.manifest!r}")


def _runtime(document: dict[str, Any]) -> dict[str, Any]:
    runtime = document.get("config") or {}
    if not isinstance(runtime, dict):
        raise PackError("image config: 'config' is not an object")
    return runtime


def _history(document: dict[str, Any]) -> list[dict[str, Any]]:
    lines = document.get("history") or []
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise PackError("image config: 'history' is not a list of objects")
    return list(lines)


def _merged(lines: Sequence[str], added: Mapping[str, str]) -> dict[str, str]:
    merged = dict(line.partition("=")[::2] for line in lines)
    for key in sorted(added):
        merged[key] = added[key]
    return merged


def check_labels(labels: Mapping[str, str]) -> None:
    """NamingError for a key that is reserved or has no reverse-DNS prefix."""
    for key in labels:
        reserved = key.startswith(("org.opencontainers.", "com.docker.", "io.docker."))
        if (reserved and key not in SPEC_KEYS) or "." not in key.strip("."):
            raise NamingError(
                f"the label {key[:100]!r} is reserved or has no reverse-DNS prefix: use one like "
                f"'io.example.{key.split('.')[-1][:100]}'"
            )


def _opening(opener: Opener, name: Digest) -> Callable[[], BinaryIO]:
    return lambda: opener(name)


def _timestamp(epoch_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch_s))
