"""Images in layers: each part of a package in a layer of its own, over a base. Every kind of image is written here.

Promises:
- An image has one single-platform manifest in the base's family of media types, and gzip layers. It hides or replaces nothing of
  the base.
- The model's layer has the same bytes as long as the model is the same.
- `problems` reads back an image that was written.

The process is the base's own Python on /var/task/bootstrap.py.

Will not: know a platform. Its limits and demands are the target's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.core.digest import Digest
from mlpack.core.records import Part
from mlpack.errors import PackError
from mlpack.targets import limits
from mlpack.targets.format import ziparchive
from mlpack.targets.format.contents import TASK_ROOT, Contents, PackedFile, Written, part_sizes

if TYPE_CHECKING:  # the table of targets is read by `plan`, which needs none of this
    from mlpack.oci.base import Base
    from mlpack.oci.compression import Compression
    from mlpack.oci.image import Image, Layer
    from mlpack.oci.layers.paths import Paths

LAYOUT = "image"
HEALTH = {"live": "/v2/health/live", "ready": "/v2/health/ready"}
"""A worker's health paths. An OCI image has no HEALTHCHECK, so labels name them for the orchestrator."""
_MAX_PROBLEMS = 20
"""For one layer. Somebody else's may have one for each of two million entries."""
ENVIRONMENT = {
    "HF_HOME": "/tmp/huggingface",
    "HOME": "/tmp",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    "NUMBA_CACHE_DIR": "/tmp/numba",
    "XDG_CACHE_HOME": "/tmp/cache",
}
"""Only /tmp is writable. Without these, libraries that a hook uses would fail on their caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """The process of an image and its user. `arguments` follow bootstrap.py; None as `user` keeps the base's."""

    arguments: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    ports: Sequence[int] = ()
    stop_signal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedBase:
    """A base with its image, the sizes of its layers, and its paths."""

    origin: Base
    image: Image
    paths: Paths


def open_base(contents: Contents) -> OpenedBase:
    """Read the base of `contents`. PackError when there is none."""
    from mlpack.oci.layers import paths

    if contents.base is None:
        raise PackError("an image needs a base: none was resolved")
    sized = paths.with_sizes(contents.base.image, contents.cache_dir)
    return OpenedBase(origin=contents.base, image=sized, paths=paths.base_paths(sized, contents.cache_dir))


def check_libraries(there: Paths, names: Sequence[str] = ("libstdc++.so.6",)) -> None:
    """PackError when the base lacks a library that the engine is linked with. Otherwise only the first start would show it."""
    names_there = {path.rpartition("/")[2] for path, _, _ in there.walk()}
    for name in names:
        if name not in names_there:
            raise PackError(
                f"the base image has no {name}, which the engine needs: add it"
                f"{' (Debian: libstdc++6)' if name == 'libstdc++.so.6' else ''}, or take another base"
            )


def write(contents: Contents, base: OpenedBase, files: tuple[PackedFile, ...], process: Process, out_dir: Path) -> Written:
    """Write the image as an OCI layout into `out_dir/image`. The caller has checked the limits."""
    from mlpack.oci import image, layout
    from mlpack.oci.layers import paths
    from mlpack.oci.layers.layer import layer_from_tree

    python, _ = paths.find_python(base.paths)
    new_image, layers = base.image, {}
    for part in contents.parts:
        own = [each for each in files if each.part == part]
        if not own:
            continue
        # Weights are stored, not deflated: the bytes are the same everywhere, and a pull need not wait for inflation.
        dense = part in {"model", "engines"} and any(ziparchive.is_dense(contents.tree(part) / each.path) for each in own)
        compression: Compression = "stored" if dense else "deflate"
        layers[part] = layer_from_tree(
            contents.tree(part), TASK_ROOT.lstrip("/"), base.paths, out_dir / LAYOUT / "blobs", compression
        )
        new_image = image.append(new_image, layers[part], f"mlpack: {part}", epoch_s=contents.created_s)
    new_image = image.with_config(
        new_image,
        env={**ENVIRONMENT, **process.env},
        entrypoint=[f"/{python}", "-I", "-S", f"{TASK_ROOT}/bootstrap.py", *process.arguments],
        workdir=TASK_ROOT,
        labels={**contents.labels, **_base_labels(base.origin), **process.labels},
    )
    new_image = image.with_process(new_image, user=process.user, ports=process.ports, stop_signal=process.stop_signal)
    layout.write(new_image, out_dir / LAYOUT)
    parts = part_sizes(files)
    return Written(
        kind="image",
        digest=image.digest(new_image),
        size_bytes=sum(each.size_bytes for each in parts),
        compressed_bytes=sum(each.size_bytes for each in layers.values()),
        parts=(*parts, Part(name="base", size_bytes=paths.uncompressed_size(base.image))),
        files=files,
        layers={part: each.digest for part, each in layers.items()},
        notes=base.origin.notes,
    )


def problems(checked_image: Image, arch: str, own: tuple[Digest, ...] = ()) -> tuple[str, ...]:
    """Every reason why a container engine would refuse the image or fail to run it; empty when it conforms.

    `own`: digests of our layers. They are hashed again, have to be readable by everybody, and may hide nothing of the base. A
    base may have private files (/etc/shadow).
    """
    from mlpack.oci import image, media

    messages = []
    os_name, arch_name, _ = image.platform(checked_image)
    if (os_name, arch_name) != ("linux", media.architecture(arch)):
        messages.append(f"made for {os_name}/{arch_name}, and it is to run on linux/{media.architecture(arch)}")
    if len(checked_image.layers) > limits.IMAGE_LAYERS.value:
        messages.append(f"{len(checked_image.layers)} layers, more than {limits.IMAGE_LAYERS.value}")
    for number, layer in enumerate(checked_image.layers):
        if layer.digest in own and layer.media_type in media.GZIP_LAYERS:
            inside = islice(_layer_problems(layer), _MAX_PROBLEMS)
            messages += [f"layer {number}: {each}" for each in (*image.layer_problems(layer), *inside)]
    entrypoint = (image.config(checked_image).get("config") or {}).get("Entrypoint") or []
    if not entrypoint or not str(entrypoint[0]).startswith("/"):
        messages.append(f"the entrypoint is {entrypoint!r}: a command by its absolute path is needed")
    return tuple(messages)


def layer_sizes(base: OpenedBase) -> list[tuple[str, int]]:
    """Uncompressed bytes of each layer of the base, named as in a LimitError."""
    return [(f"layer {number} of the base", layer.uncompressed_bytes or 0) for number, layer in enumerate(base.image.layers)]


def tar_sizes(files: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Files with their bytes in a tar: each has a header of 512 bytes and padding to a multiple of 512; directories take some
    more."""
    return [(path, size + 2048) for path, size in files]


def _layer_problems(layer: Layer) -> Iterator[str]:
    from mlpack.oci import compression
    from mlpack.oci.layers import scan

    with layer.open() as blob:
        for entry, _ in scan.members(compression.InflatedTar(blob, layer.media_type)):
            path = entry.path.rstrip("/")
            if path.rpartition("/")[2].startswith(".wh."):
                yield f"/{path} hides something of the base"
            if entry.kind == "dir" and entry.mode & 0o005 != 0o005:
                yield f"/{path}/ cannot be entered by everybody (mode {entry.mode:o}): it runs as a user of its own"
            if entry.kind == "file" and not entry.mode & 0o004:
                yield f"/{path} cannot be read by everybody (mode {entry.mode:o}): it runs as a user of its own"


def _base_labels(base: Base) -> dict[str, str]:
    labels = {"org.opencontainers.image.base.digest": str(base.manifest_digest)}
    # A directory's name is left out: images would differ between machines by it.
    return labels | ({"org.opencontainers.image.base.name": base.name} if base.kind == "registry" else {})
