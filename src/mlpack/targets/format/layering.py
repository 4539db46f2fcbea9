"""Images in layers: the parts of a package, each in a layer of its own, over a base; what every kind of image has in common.

Promises: one single-platform manifest in the base's family of media types, gzip layers, nothing of the base hidden or replaced,
the model's layer the same bytes as long as the model is; `problems` reads back what was written. The process is the base's own
Python on /var/task/bootstrap.py. Will not know a platform: its limits and demands are the target's.
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
from mlpack.targets.format.contents import TASK_ROOT, Contents, Packed, Written, part_sizes

if TYPE_CHECKING:  # the table of targets is read by `plan`, which needs none of this
    from mlpack.oci.base import Base
    from mlpack.oci.compression import Compression
    from mlpack.oci.image import Image, Layer
    from mlpack.oci.layers.paths import Paths

LAYOUT = "image"
HEALTH = {"live": "/v2/health/live", "ready": "/v2/health/ready"}
"""Of a worker. An OCI image has no HEALTHCHECK: labels name the paths, and whoever runs the image asks them."""
_PROBLEMS_SHOWN = 20
"""Of one layer: a stranger's may have one for each of two million entries."""
ENVIRONMENT = {
    "HF_HOME": "/tmp/huggingface",
    "HOME": "/tmp",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    "NUMBA_CACHE_DIR": "/tmp/numba",
    "XDG_CACHE_HOME": "/tmp/cache",
}
"""Only /tmp can be written: libraries that a hook uses would otherwise fail on their caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What an image starts and as whom. `arguments` follow bootstrap.py; `user` None leaves the base's."""

    arguments: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    ports: Sequence[int] = ()
    stop_signal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """A base, opened: its image with the sizes of its layers, and its paths."""

    base: Base
    image: Image
    paths: Paths


def below(contents: Contents) -> Below:
    """The base of `contents`, opened. PackError when there is none."""
    from mlpack.oci.layers import paths

    if contents.base is None:
        raise PackError("an image needs a base: none was resolved")
    sized = paths.with_sizes(contents.base.image, contents.cache_dir)
    return Below(base=contents.base, image=sized, paths=paths.base_paths(sized, contents.cache_dir))


def check_libraries(there: Paths, names: Sequence[str] = ("libstdc++.so.6",)) -> None:
    """PackError when the base lacks a library that the engine is linked with: else the first start would tell."""
    known = {path.rpartition("/")[2] for path, _, _ in there.walk()}
    for name in names:
        if name not in known:
            raise PackError(
                f"the base image has no {name}, which the engine needs: add it"
                f"{' (Debian: libstdc++6)' if name == 'libstdc++.so.6' else ''}, or take another base"
            )


def write(contents: Contents, under: Below, files: tuple[Packed, ...], process: Process, out_dir: Path) -> Written:
    """The image as an OCI layout in `out_dir/image`; limits were held before."""
    from mlpack.oci import image, layout
    from mlpack.oci.layers import paths
    from mlpack.oci.layers.layer import layer_from_tree

    python, _ = paths.find_python(under.paths)
    made, layers = under.image, {}
    for part in contents.parts:
        own = [each for each in files if each.part == part]
        if not own:
            continue
        # The weights' layer is stored, not deflated: the same bytes everywhere, and a pull that is not bound by inflating.
        dense = part in {"model", "engines"} and any(ziparchive.is_dense(contents.tree(part) / each.path) for each in own)
        how: Compression = "stored" if dense else "deflate"
        layers[part] = layer_from_tree(contents.tree(part), TASK_ROOT.lstrip("/"), under.paths, out_dir / LAYOUT / "blobs", how)
        made = image.append(made, layers[part], f"mlpack: {part}", epoch_s=contents.created_s)
    made = image.with_config(
        made,
        env={**ENVIRONMENT, **process.env},
        entrypoint=[f"/{python}", "-I", "-S", f"{TASK_ROOT}/bootstrap.py", *process.arguments],
        workdir=TASK_ROOT,
        labels={**contents.labels, **_base_labels(under.base), **process.labels},
    )
    made = image.with_process(made, user=process.user, ports=process.ports, stop_signal=process.stop_signal)
    layout.write(made, out_dir / LAYOUT)
    parts = part_sizes(files)
    return Written(
        kind="image",
        digest=image.digest(made),
        size_bytes=sum(each.size_bytes for each in parts),
        compressed_bytes=sum(each.size_bytes for each in layers.values()),
        parts=(*parts, Part(name="base", size_bytes=paths.uncompressed_size(under.image))),
        files=files,
        layers={part: each.digest for part, each in layers.items()},
        notes=under.base.notes,
    )


def problems(made: Image, arch: str, own: tuple[Digest, ...] = ()) -> tuple[str, ...]:
    """Every reason why a container engine would refuse the image or fail to run it; empty when it conforms.

    `own`: digests of the layers that are ours. Their bytes are derived again, and they must be readable by everybody and hide
    nothing below them; a base's private files (/etc/shadow) are its own business.
    """
    from mlpack.oci import image, media

    found = []
    os_name, made_for, _ = image.platform(made)
    if (os_name, made_for) != ("linux", media.architecture(arch)):
        found.append(f"made for {os_name}/{made_for}, and it is to run on linux/{media.architecture(arch)}")
    if len(made.layers) > limits.IMAGE_LAYERS.value:
        found.append(f"{len(made.layers)} layers, more than {limits.IMAGE_LAYERS.value}")
    for number, layer in enumerate(made.layers):
        if layer.digest in own and layer.media_type in media.GZIP_LAYERS:
            inside = islice(_layer_problems(layer), _PROBLEMS_SHOWN)
            found += [f"layer {number}: {each}" for each in (*image.layer_problems(layer), *inside)]
    entrypoint = (image.config(made).get("config") or {}).get("Entrypoint") or []
    if not entrypoint or not str(entrypoint[0]).startswith("/"):
        found.append(f"the entrypoint is {entrypoint!r}: a command by its absolute path is needed")
    return tuple(found)


def layer_sizes(under: Below) -> list[tuple[str, int]]:
    """What each layer of the base has, uncompressed, in the words of a refusal."""
    return [(f"layer {number} of the base", layer.uncompressed_bytes or 0) for number, layer in enumerate(under.image.layers)]


def in_a_tar(files: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Files as they count in an image: a header of 512 bytes each, filled up to a multiple of them; directories take some more."""
    return [(path, size + 2048) for path, size in files]


def _layer_problems(layer: Layer) -> Iterator[str]:
    from mlpack.oci import compression
    from mlpack.oci.layers import scan

    with layer.open() as stored:
        for entry, _ in scan.members(compression.InflatedTar(stored, layer.media_type)):
            path = entry.path.rstrip("/")
            if path.rpartition("/")[2].startswith(".wh."):
                yield f"/{path} hides something of the base"
            if entry.kind == "dir" and entry.mode & 0o005 != 0o005:
                yield f"/{path}/ cannot be entered by everybody (mode {entry.mode:o}): it runs as a user of its own"
            if entry.kind == "file" and not entry.mode & 0o004:
                yield f"/{path} cannot be read by everybody (mode {entry.mode:o}): it runs as a user of its own"


def _base_labels(base: Base) -> dict[str, str]:
    labels = {"org.opencontainers.image.base.digest": str(base.manifest_digest)}
    # A directory's name is this machine's business, and the image would differ between machines by it.
    return labels | ({"org.opencontainers.image.base.name": base.name} if base.kind == "registry" else {})
