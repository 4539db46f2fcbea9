"""Small images for the tests of the OCI package: a root file system of five files and what lies over it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mlpack.oci import image
from mlpack.oci.base import Base, resolve_base
from mlpack.oci.layers import layer, paths

if TYPE_CHECKING:
    from pathlib import Path

    from mlpack.oci.image import Image

# The first 20 bytes of a little-endian ELF file for x86-64: all that is ever read of a program.
ELF_AMD64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00"
ELF_ARM64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00"


def make_rootfs(root: Path) -> Path:
    """A root file system with a merged `/usr` (`lib -> usr/lib`), a sticky `/tmp` and a Python."""
    for folder in ("usr/lib", "usr/bin", "etc", "tmp"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name in ("lib", "bin"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "usr/lib/libc.so").write_bytes(b"libc")
    for name in ("true", "python3.11"):
        (root / "usr/bin" / name).write_bytes(ELF_AMD64)
        (root / "usr/bin" / name).chmod(0o755)
    (root / "usr/bin/python3").symlink_to("python3.11")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    return root


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """Such a root file system."""
    os.umask(0o022)
    return make_rootfs(tmp_path / "rootfs")


@pytest.fixture
def base(rootfs: Path, tmp_path: Path) -> Base:
    """It as a base."""
    return resolve_base(str(rootfs), "x86_64", tmp_path / "cache")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files to lay over a base: code, a library and something executable."""
    tree = tmp_path / "tree"
    (tree / "lib").mkdir(parents=True)
    (tree / "lib/new.so").write_bytes(b"new" * 1000)
    (tree / "app.py").write_text("print('hi')\n")
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o700)
    return tree


@pytest.fixture
def made(base: Base, tree: Path, tmp_path: Path) -> Image:
    """An image of two layers over that base."""
    blobs = tmp_path / "blobs"
    below = paths.base_paths(base.image)
    over = layer.layer_from_tree(tree, "var/task", below, blobs)
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.onnx").write_bytes(bytes(range(256)) * 1024)
    dense = layer.layer_from_tree(weights, "var/model", below, blobs, "stored")
    found = image.append(image.append(base.image, over, "code"), dense, "model")
    return image.with_config(found, entrypoint=["/usr/bin/python3"], cmd=["app.py"], workdir="/var/task", env={"A": "1"})
