"""AWS Lambda as a container image: runtime, model and code, each in its own layer, over a base.

Promises: one single-platform manifest in the base's family of media types, gzip layers, nothing of the base hidden or replaced,
the model's layer the same bytes as long as the model is; checked as Lambda checks it before it is called written. The process is
the base's own Python on /var/task/bootstrap.py. Will not push anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlpack.digest import Digest
from mlpack.errors import PackError, RecipeError
from mlpack.records import Part
from mlpack.targets import limits, ziparchive
from mlpack.targets.contents import PARTS, TASK_ROOT, Contents, Written, listed, part_sizes, sizes

if TYPE_CHECKING:  # the table of targets is read by `plan`, which needs none of this
    from mlpack.oci.compression import Compression
    from mlpack.oci.image import Image, Layer
    from mlpack.oci.paths import Paths

LAYOUT = "image"
ENVIRONMENT = {
    "HF_HOME": "/tmp/huggingface",
    "HOME": "/tmp",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    "NUMBA_CACHE_DIR": "/tmp/numba",
    "XDG_CACHE_HOME": "/tmp/cache",
}
"""Only /tmp can be written: libraries that a hook uses would otherwise fail on their caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaImage:
    """A container image for Lambda."""

    arch: Literal["x86_64", "arm64"] = "x86_64"
    """The processor. arm64 (Graviton) costs 20 % less."""
    memory_mb: int = 1769
    """The function's memory, 128 to 10,240; CPU comes with it, one vCPU at 1,769."""
    base: str = "public.ecr.aws/lambda/python:3.13"
    """The image underneath, with Python 3.11 or later and glibc 2.28 or later: a registry reference (pinned by digest in
    mlpack.lock), an OCI layout or archive, or the directory of a root file system."""

    def __post_init__(self) -> None:
        if problem := limits.memory_problem(self.memory_mb):
            raise RecipeError(problem)


LIMITS = (limits.IMAGE_UNCOMPRESSED, limits.IMAGE_LAYERS, *limits.RUNNING)


def write(contents: Contents, config: LambdaImage, out_dir: Path) -> Written:
    """The image as an OCI layout in `out_dir/image`. LimitError before anything is written; PackError when it does not conform."""
    from mlpack.oci import image, layout, paths
    from mlpack.oci.layer import layer_from_tree

    if contents.base is None:
        raise PackError("an image needs a base: none was resolved")
    below = paths.with_sizes(contents.base.image, contents.cache_dir)
    _check_size(below, sizes(contents))
    files = listed(contents)
    there = paths.base_paths(below, contents.cache_dir)
    python, _ = paths.find_python(there)
    _check_libraries(there)
    made, layers = below, {}
    for part in PARTS:
        if not any(each.part == part for each in files):
            continue
        # The weights' layer is stored, not deflated: the same bytes everywhere, and a pull that is not bound by inflating.
        dense = part == "model" and any(ziparchive.is_dense(contents.model / each.path) for each in files if each.part == part)
        how: Compression = "stored" if dense else "deflate"
        layers[part] = layer_from_tree(contents.tree(part), TASK_ROOT.lstrip("/"), there, out_dir / LAYOUT / "blobs", how)
        made = image.append(made, layers[part], f"mlpack: {part}")
    command = [f"/{python}", "-I", "-S", f"{TASK_ROOT}/bootstrap.py"]
    made = image.with_config(
        made, env=ENVIRONMENT, entrypoint=command, workdir=TASK_ROOT, labels={**contents.labels, **_base_labels(contents)}
    )
    layout.write(made, out_dir / LAYOUT)
    own = tuple(each.digest for each in layers.values())
    if problems := check_lambda_image(layout.read(out_dir / LAYOUT), config.arch, own):
        raise PackError("the image is not one that Lambda takes:\n" + "\n".join(f"  {each}" for each in problems))
    parts = part_sizes(files)
    return Written(
        kind="image",
        digest=image.digest(made),
        size_bytes=sum(each.size_bytes for each in parts),
        compressed_bytes=sum(each.size_bytes for each in layers.values()),
        parts=(*parts, Part(name="base", size_bytes=paths.uncompressed_size(below))),
        files=files,
        layers={part: each.digest for part, each in layers.items()},
        notes=contents.base.notes,
    )


def check_lambda_image(made: Image, arch: str, own: tuple[Digest, ...] = ()) -> tuple[str, ...]:
    """Every reason why Lambda would refuse the image or fail to run it; empty when it conforms.

    `own`: digests of the layers that are ours. Their bytes are derived again, and they must be readable by everybody and hide
    nothing below them; a base's private files (/etc/shadow) are its own business.
    """
    from mlpack.oci import image, media, paths

    problems = []
    os_name, made_for, _ = image.platform(made)
    if (os_name, made_for) != ("linux", media.architecture(arch)):
        problems.append(f"made for {os_name}/{made_for}, and the function is linux/{media.architecture(arch)}")
    if len(made.layers) > limits.IMAGE_LAYERS.value:
        problems.append(f"{len(made.layers)} layers, more than {limits.IMAGE_LAYERS.value}")
    for number, layer in enumerate(made.layers):
        if layer.media_type not in media.GZIP_LAYERS:
            problems.append(f"layer {number} is of type {layer.media_type}: Lambda has refused anything but gzip")
        elif layer.digest in own:
            problems += [f"layer {number}: {each}" for each in (*image.layer_problems(layer), *_layer_problems(layer))]
    if not problems and (total := paths.uncompressed_size(made)) > limits.IMAGE_UNCOMPRESSED.value:
        problems.append(f"{total:,} bytes uncompressed, more than {limits.IMAGE_UNCOMPRESSED.value:,}")
    entrypoint = (image.config(made).get("config") or {}).get("Entrypoint") or []
    if not entrypoint or not str(entrypoint[0]).startswith("/"):
        problems.append(f"the entrypoint is {entrypoint!r}: Lambda needs a command by its absolute path")
    return tuple(problems)


def _layer_problems(layer: Layer) -> Iterator[str]:
    import tarfile

    from mlpack.oci import compression

    with layer.open() as stored, tarfile.open(fileobj=compression.Inflated(stored, layer.media_type), mode="r|") as archive:
        for entry in archive:
            name = entry.name.rpartition("/")[2]
            if name.startswith(".wh."):
                yield f"/{entry.name} hides something of the base"
            if entry.isdir() and entry.mode & 0o005 != 0o005:
                yield f"/{entry.name}/ cannot be entered by everybody (mode {entry.mode:o}): Lambda runs as a user of its own"
            if entry.isfile() and not entry.mode & 0o004:
                yield f"/{entry.name} cannot be read by everybody (mode {entry.mode:o}): Lambda runs as a user of its own"


def _check_libraries(there: Paths) -> None:
    """PackError when the base lacks the C++ library, which the engine is linked with: else the first start would tell."""
    if not any(path.endswith("/libstdc++.so.6") for path, _, _ in there.walk()):
        raise PackError(
            "the base image has no libstdc++.so.6, which the engine needs: add it (Debian: libstdc++6), or take another base"
        )


def _check_size(below: Image, files: list[tuple[str, int]]) -> None:
    limits.check_count(limits.IMAGE_LAYERS, len(below.layers) + len(PARTS))
    base = [(f"layer {number} of the base", layer.uncompressed_bytes or 0) for number, layer in enumerate(below.layers)]
    # In a tar a file takes a header of 512 bytes and is filled up to a multiple of them; directories and the end take some more.
    ours = [(path, size + 2048) for path, size in files]
    limits.check_size(limits.IMAGE_UNCOMPRESSED, [*base, *ours])


def _base_labels(contents: Contents) -> dict[str, str]:
    base = contents.base
    if base is None:
        return {}
    labels = {"org.opencontainers.image.base.digest": str(base.manifest_digest)}
    # A directory's name is this machine's business, and the image would differ between machines by it.
    return labels | ({"org.opencontainers.image.base.name": base.name} if base.kind == "registry" else {})
