"""Reads a base image from wherever it is: a root file system, an OCI layout or archive, or a registry.

Promises:
- The result holds the digests that pin the base. A pinned base is exactly that image, or an error; it needs no network when it
  is in the cache.
- The processor of the image is checked, never assumed.
- A root file system is packed once and recognised later by `fingerprint`.

Will not: build a base or choose one.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.core.digest import Digest, canonical_json
from mlpack.core.digest import entries as walk
from mlpack.core.files import atomically
from mlpack.errors import NamingError, PackError, ServiceError
from mlpack.oci import blobs, compression, image, layout, media, reference
from mlpack.oci.distribution import remote
from mlpack.oci.image import Image, Layer
from mlpack.oci.layers.layer import ENVELOPE, layer_from_rootfs
from mlpack.oci.selection import Selector

if TYPE_CHECKING:
    from collections.abc import Iterator

LIKE_PATHS = ("/", "./", "../", "~", "oci:", "oci-archive:")
"""A text that begins in this way means a path on this machine, never an image in a registry."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MACHINES = {0x3E: "amd64", 0xB7: "arm64"}
"""ELF `e_machine` numbers (System V ABI supplements for x86-64 and AArch64)."""
_PROBES = ("bin/true", "usr/bin/true", "bin/sh", "usr/bin/env", "bin/busybox")
_NODES = (" device)", " pipe)", " socket)")
"""The words with which `layer` describes what is neither file, directory nor link end so."""
_PROBE_FOLDERS = ("usr/bin", "usr/local/bin", "var/lang/bin", "bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base image and where it was read. `digest` pins it: the digest of the index when `name` led to one, else of the
    manifest."""

    image: Image
    name: str
    kind: str
    """`rootfs`, `layout`, `archive` or `registry`."""
    digest: Digest
    manifest_digest: Digest
    notes: tuple[str, ...] = ()
    """What the user should know, such as paths that could not be taken over."""


def resolve_base(
    ref: str,
    arch: str,
    cache_dir: Path,
    pinned: Digest | None = None,
    credentials: remote.Credentials | None = None,
    options: remote.TransportOptions | None = None,
) -> Base:
    """The base image that `ref` means, for `arch` (`x86_64`, `amd64`, `arm64`).

    An existing directory with a file `oci-layout` is an OCI layout, any other directory a root file system; an existing file is
    an OCI archive. `:TAG` or `@sha256:...` behind the path names one of several images (`layout.locate`). A text that begins
    like a path (`/`, `./`, `../`, `~`, `oci:`) must exist; anything else is a reference. `cache_dir` keeps blobs and what was
    read of them.

    PackError: no such path or image, another processor, or not the `pinned` image. ServiceError: the registry fails.
    """
    arch = media.architecture(arch)
    if (local := layout.locate(ref)) is not None:
        path, selector = local
        if path.is_dir() and not layout.is_layout(path) and selector == Selector():
            base = _rootfs(path, arch, cache_dir)
        else:
            oci_image = layout.read(path, arch, selector)
            kind = "layout" if path.is_dir() else "archive"
            base = Base(
                image=oci_image, name=ref, kind=kind, digest=image.digest(oci_image), manifest_digest=image.digest(oci_image)
            )
    elif ref.startswith(LIKE_PATHS):
        raise NamingError(f"there is no base image at {ref}: give a root file system, an OCI layout, an OCI archive or a reference")
    else:
        return _checked(_pulled(ref, arch, cache_dir, pinned, credentials, options or remote.TransportOptions()), arch, None)
    return _checked(base, arch, pinned)


def _pulled(
    ref: str,
    arch: str,
    cache_dir: Path,
    pinned: Digest | None,
    credentials: remote.Credentials | None,
    options: remote.TransportOptions,
) -> Base:
    image_reference = reference.parse(ref)
    if pinned and image_reference.digest and image_reference.digest != pinned:
        raise PackError(f"the base {ref} is pinned to {pinned}, which is not the digest in its name: change one of them")
    try:
        pulled = remote.fetch(image_reference, arch, cache_dir / "blobs", credentials, options, pinned)
    except ServiceError as error:
        way_out = "Without that registry, give the base with --base: a root file system, an OCI layout or an OCI archive"
        raise ServiceError(f"the base image {ref} could not be read: {error}. {way_out}", retryable=error.retryable) from error
    return Base(
        image=pulled.image,
        name=str(image_reference),
        kind="registry",
        digest=pulled.digest,
        manifest_digest=image.digest(pulled.image),
    )


def _checked(base: Base, arch: str, pinned: Digest | None) -> Base:
    if pinned is not None and base.digest != pinned:
        raise PackError(f"the base {base.name} is pinned to {pinned} and is now {base.digest}: restore it, or pin it anew")
    os_name, made_for, _ = image.platform(base.image)
    if (os_name, made_for) != ("linux", arch):
        raise PackError(f"the base {base.name} is made for {os_name}/{made_for}, not for linux/{arch}: choose another base or arch")
    return base


def fingerprint(directory: Path) -> str:
    """64 hex digits that change when a file below `directory` does. They cover each path, size, time, mode and inode; no file is
    read."""
    state = hashlib.sha256()
    for path, entry in walk(directory):
        status = entry.stat(follow_symlinks=False)
        line = f"{path}\0{status.st_size} {status.st_mtime_ns} {status.st_mode} {status.st_ino}\n"
        state.update(os.fsencode(line))
    return state.hexdigest()


def _rootfs(root: Path, arch: str, cache_dir: Path) -> Base:
    made_for = machine_of(root)
    if made_for not in {None, arch}:
        raise PackError(
            f"the root file system {root} is made for linux/{made_for}, not for linux/{arch}: choose another base or arch"
        )
    layer, left_out = _rootfs_layer(root, cache_dir)
    comment = f"left out: {', '.join(left_out)}" if left_out else ""
    oci_image = image.append(image.empty(arch, {"PATH": _PATH}), layer, "root file system", comment=comment)
    notes = [f"left out of the image: {each}" for each in _few(left_out)]
    if made_for is None:
        notes.append(f"no program in {root} says for which processor it is: taken to be linux/{arch}")
    digest = image.digest(oci_image)
    return Base(image=oci_image, name=str(root), kind="rootfs", digest=digest, manifest_digest=digest, notes=tuple(notes))


def _few(left_out: tuple[str, ...]) -> tuple[str, ...]:
    """The list of what was left out, with device nodes and the like as one entry: a whole /dev has a dozen or more."""
    nodes = [each for each in left_out if each.endswith(_NODES)]
    if len(nodes) < 2:
        return left_out
    others = (each for each in left_out if each not in nodes)
    return (f"{len(nodes)} device nodes, pipes and sockets, such as {nodes[0]}", *others)


def _rootfs_layer(root: Path, cache_dir: Path) -> tuple[Layer, tuple[str, ...]]:
    """The layer of a root file system. It is the stored one if the fingerprint is the same and the blob is still there."""
    print_key = fingerprint(root)
    remembered = cache_dir / "rootfs" / f"{print_key}-{ENVELOPE}-{compression.deflate_version()}.json"
    store = cache_dir / "blobs"
    if layer_before := _recalled(remembered, store):
        return layer_before
    layer, left_out = layer_from_rootfs(root, store, cache_dir)
    if fingerprint(root) != print_key:
        raise PackError(f"{root} changed while it was packed: build again, with nobody writing to it")
    remembered.parent.mkdir(parents=True, exist_ok=True)
    facts = [str(layer.digest), str(layer.diff_id), layer.size_bytes, layer.media_type, layer.uncompressed_bytes, left_out]
    atomically.write(remembered, canonical_json(facts))
    return layer, left_out


def _recalled(remembered: Path, store: Path) -> tuple[Layer, tuple[str, ...]] | None:
    try:
        digest, diff_id, size, media_type, uncompressed, left_out = json.loads(remembered.read_bytes())
        layer = Layer(
            digest=Digest(digest),
            diff_id=Digest(diff_id),
            size_bytes=int(size),
            media_type=str(media_type),
            uncompressed_bytes=int(uncompressed),
            open=image.opener_in(store, Digest(digest)),
        )
    except (OSError, ValueError, TypeError):
        return None
    blobs.used(remembered)
    return (layer, tuple(left_out)) if blobs.holds(store, layer.digest, layer.size_bytes) else None


def machine_of(root: Path) -> str | None:
    """The processor (`amd64`, `arm64`) for which the programs of a root file system are; None when there is no program.

    PackError for any other processor. Links are followed as inside the root, never out of `root`.
    """
    for candidate in _probes(root):
        try:
            with candidate.open("rb") as file:
                header = file.read(20)
        except OSError:
            continue
        if header[:4] == b"\x7fELF":
            machine = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
            if machine not in _MACHINES:
                raise PackError(f"{candidate} is for a processor (ELF machine {machine}) that no target has: choose another base")
            return _MACHINES[machine]
    return None


def _probes(root: Path) -> Iterator[Path]:
    for name in _PROBES:
        yield from _inside(root, name)
    for folder in _PROBE_FOLDERS:
        for inside in _inside(root, folder):
            if inside.is_dir():
                yield from sorted(each for each in inside.iterdir() if stat.S_ISREG(each.lstat().st_mode))


def _inside(root: Path, path: str) -> Iterator[Path]:
    """The path to which `path` leads inside `root`, or None."""
    here, todo = root, list(reversed(path.split("/")))
    for _ in range(40):
        if not todo:
            yield here
            return
        part = todo.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            here = here if here == root else here.parent
            continue
        here = here / part
        if here.is_symlink():
            target = os.readlink(here)
            here = root if target.startswith("/") else here.parent
            todo.extend(reversed(target.split("/")))
