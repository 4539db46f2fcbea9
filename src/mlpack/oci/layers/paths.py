"""The files of an image: the paths of its layers applied on one another, without their bytes, and where its Python is.

Promises:
- Each layer is read once, checked against its diff_id and remembered (`cache`).
- Whiteouts, opaque directories and links act as when a container engine unpacks the image.
- Hostile archives (paths that leave the image or are too long for a file system, headers of gigabytes, endless entries,
  decompression bombs) end in PackError. Memory and steps stay in proportion to the bytes of the image (`scan.MemoryBudget`).

Will not: write a file of the image to disk.

Sources: OCI image-spec 1.1 `layer.md`; POSIX pax.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from mlpack.core.digest import Digest, canonical_json
from mlpack.core.files import atomically
from mlpack.errors import PackError
from mlpack.oci import blobs, compression
from mlpack.oci.layers import scan
from mlpack.oci.layers.scan import Index, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlpack.oci.image import Image, Layer

Node: TypeAlias = "dict[str, Node] | str | None"
"""A directory by name, the target of a symbolic link, or None for anything else."""

MAX_LINKS = 40
"""Symbolic links followed before a path is called a loop, as in Linux."""
_FOLDER_BYTES = 250
"""The memory of a directory beside its name: a dictionary that begins with room for a few entries."""
_STEP_BYTES = 16
"""The cost of following a link, counted as memory: links that lead through links could take years."""
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_PYTHON = re.compile(r"python(3\.\d+)")
_PYTHON_FOLDERS = ("var/lang/bin", "usr/local/bin", "usr/bin")


class Paths:
    """The paths of an image's file system. Read only; paths have no leading slash."""

    def __init__(self, root: dict[str, Node]) -> None:
        self._root = root

    def kind(self, path: str) -> Kind | None:
        """What is at `path`, without following links on the way; None when nothing is."""
        node: Node = self._root
        for part in _parts(path):
            if not isinstance(node, dict) or part not in node:
                return None
            node = node[part]
        return _kind(node)

    def resolve(self, path: str) -> str:
        """The path to which `path` leads inside the image: all links are followed, a missing end is kept. PackError for loops and
        files on the way."""
        return "/".join(_resolved(self._root, _parts(path)))

    def names(self, path: str) -> tuple[str, ...]:
        """The names in the directory at `path` (resolved), sorted; empty when it is not a directory."""
        node: Node = self._root
        for part in _parts(self.resolve(path)):
            node = node.get(part) if isinstance(node, dict) else None
        return tuple(sorted(node)) if isinstance(node, dict) else ()

    def walk(self) -> Iterator[tuple[str, Kind, str]]:
        """Every (path, kind, link target), sorted within each directory, parents first."""
        stack: list[tuple[str, dict[str, Node]]] = [("", self._root)]
        while stack:
            prefix, folder = stack.pop()
            for name in sorted(folder):
                node = folder[name]
                yield prefix + name, _kind(node), node if isinstance(node, str) else ""
            inner = ((f"{prefix}{name}/", folder[name]) for name in sorted(folder, reverse=True))
            stack.extend((path, node) for path, node in inner if isinstance(node, dict))


def base_paths(image: Image, cache: Path | None = None) -> Paths:
    """The paths of `image`. It reads every layer that `cache` (a directory, made if missing) does not remember."""
    root: dict[str, Node] = {}
    allowance = scan.MemoryBudget(sum(layer.size_bytes for layer in image.layers))
    for layer in image.layers:
        _apply(root, index(layer, cache).entries, allowance)
    return Paths(root)


def uncompressed_size(image: Image, cache: Path | None = None) -> int:
    """The bytes of all layers' tars together, which Lambda counts against its 10 GB. It reads layers of unknown size."""
    return sum(
        layer.uncompressed_bytes if layer.uncompressed_bytes is not None else index(layer, cache).uncompressed_bytes
        for layer in image.layers
    )


def with_sizes(image: Image, cache: Path | None = None) -> Image:
    """The same image, with the uncompressed size of every layer."""
    layers = (
        layer if layer.uncompressed_bytes is not None else replace(layer, uncompressed_bytes=index(layer, cache).uncompressed_bytes)
        for layer in image.layers
    )
    return replace(image, layers=tuple(layers))


def find_python(paths: Paths) -> tuple[str, str]:
    """The image's Python: its path (without leading slash) and version, as `("usr/bin/python3.11", "3.11")`.

    It searches the folders of AWS, docker.io/python and Debian, in this order. In the first folder with any Python, the one that
    `python3` leads to counts, else the highest. PackError when there is none.
    """
    for folder in _PYTHON_FOLDERS:
        versions = {name: match[1] for name in paths.names(folder) if (match := _PYTHON.fullmatch(name))}
        if versions:
            usual = paths.resolve(f"{folder}/python3").rpartition("/")[2]
            name = usual if usual in versions else max(versions, key=lambda each: int(versions[each].partition(".")[2]))
            return f"{folder}/{name}", versions[name]
    looked = ", ".join(f"/{folder}/python3.*" for folder in _PYTHON_FOLDERS)
    raise PackError(f"the base image has no Python (looked for {looked}): choose a base with one, such as python:3.13-slim")


def index(layer: Layer, cache: Path | None = None) -> Index:
    """The content of a layer, from `cache` or by reading it once. PackError when it is damaged, hostile or has another diff_id."""
    if cache and (remembered := _recalled(_memory(cache, layer), layer.diff_id)):
        return remembered
    with layer.open() as stored:
        scanned = scan.read(compression.InflatedTar(stored, layer.media_type), layer.size_bytes)
    if scanned.diff_id != layer.diff_id:
        raise PackError(
            f"the layer {layer.digest} should inflate to {layer.diff_id} and inflates to {scanned.diff_id}: damaged or forged"
        )
    if cache:
        _write_memory(cache, layer, scanned)
    return scanned


def remember(cache: Path, layer: Layer, entries: tuple[tuple[str, Kind, str], ...]) -> None:
    """Store the entries of a layer that was just made of these (path, kind, link target), so that `index` need not read it."""
    if layer.uncompressed_bytes is not None:
        _write_memory(cache, layer, Index(diff_id=layer.diff_id, uncompressed_bytes=layer.uncompressed_bytes, entries=entries))


def _memory(cache: Path, layer: Layer) -> Path:
    return cache / "paths" / f"{layer.digest.hex}.json"


def _write_memory(cache: Path, layer: Layer, scanned: Index) -> None:
    memory = _memory(cache, layer)
    memory.parent.mkdir(parents=True, exist_ok=True)
    atomically.write(memory, canonical_json([str(scanned.diff_id), scanned.uncompressed_bytes, scanned.entries]))


def _recalled(file: Path, diff_id: Digest) -> Index | None:
    """The stored index; None when there is none, or it is damaged."""
    try:
        text, size, entries = json.loads(file.read_bytes())  # our own file, as long as the entries that were allowed
        scanned = Index(
            diff_id=Digest(text), uncompressed_bytes=int(size), entries=tuple((path, kind, link) for path, kind, link in entries)
        )
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    blobs.used(file)
    return scanned if scanned.diff_id == diff_id else None


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


def _kind(node: Node) -> Kind:
    return "dir" if isinstance(node, dict) else "link" if isinstance(node, str) else "file"


def _resolved(root: dict[str, Node], remaining: list[str], allowance: scan.MemoryBudget | None = None) -> list[str]:
    """`remaining` with every link followed. `..` above the root stays at the root, as in a kernel."""
    done: list[str] = []
    folders: list[Node] = [root]
    todo, followed = list(reversed(remaining)), 0
    if allowance:
        allowance.spend(_STEP_BYTES * len(todo))
    while todo:
        part = todo.pop()
        here = folders[-1]
        if part == "..":
            if done:
                done.pop()
                folders.pop()
            continue
        node = here.get(part, {}) if isinstance(here, dict) else None
        if isinstance(node, str):
            followed += 1
            if followed > MAX_LINKS:
                raise PackError(f"/{'/'.join(remaining)} leads through more than {MAX_LINKS} links in the base image: a loop")
            if node.startswith("/"):
                done, folders = [], [root]
            parts = _parts(node)
            if allowance:
                allowance.spend(_STEP_BYTES * len(parts))
            todo.extend(reversed(parts))
            continue
        if node is None and todo:
            raise PackError(f"/{'/'.join(remaining)} leads through /{'/'.join([*done, part])}, a file in the base image")
        done.append(part)
        folders.append(node)
    return done


def _apply(root: dict[str, Node], entries: tuple[tuple[str, Kind, str], ...], allowance: scan.MemoryBudget) -> None:
    """Put one layer over `root`. Whiteouts act on lower layers only. Therefore they come first, wherever they are in the
    archive."""
    for path, _, _ in entries:
        folder, _, name = path.rpartition("/")
        if name.startswith(_WHITEOUT):
            lower = _lookup(root, folder, allowance)
            if lower is not None and name == _OPAQUE:
                lower.clear()
            elif lower is not None:
                lower.pop(name.removeprefix(_WHITEOUT), None)
    children: dict[str, dict[str, Node]] = {}
    for path, kind, link in entries:
        folder, _, name = path.rpartition("/")
        if name.startswith(_WHITEOUT):
            continue
        here = children.get(folder)
        if here is None:
            here = children[folder] = _make_folder(root, folder, allowance)
        there = here.get(name)
        if isinstance(there, str) or (isinstance(there, dict) and kind != "dir"):
            children.clear()  # a link or a directory was removed: folders may have moved
        if kind != "dir":
            here[name] = link if kind == "link" else None
        elif not isinstance(there, dict):
            allowance.spend(_FOLDER_BYTES)
            here[name] = {}


def _lookup(root: dict[str, Node], folder: str, allowance: scan.MemoryBudget) -> dict[str, Node] | None:
    node: Node = root
    for part in _resolved(root, _parts(folder), allowance):
        node = node.get(part) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else None


def _make_folder(root: dict[str, Node], folder: str, allowance: scan.MemoryBudget) -> dict[str, Node]:
    """The directory that `folder` leads to, made if missing."""
    here = root
    for part in _resolved(root, _parts(folder), allowance):
        node = here.get(part)
        if not isinstance(node, dict):
            allowance.spend(_FOLDER_BYTES)
            node = here[part] = {}
        here = node
    return here
