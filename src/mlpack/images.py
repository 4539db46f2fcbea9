"""The verbs of `mlpack image`: push, pull, inspect and validate, over `oci` and what Lambda demands of an image."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from mlpack.console import Console
from mlpack.errors import PackError
from mlpack.oci import image, layout, media, remote
from mlpack.oci.auth import Credentials
from mlpack.oci.base import resolve_base
from mlpack.targets import lambda_image


def push(path: Path, reference: str, credentials: Credentials, console: Console) -> str:
    """Push the layout or archive at `path`; the reference by digest that deployments should name."""
    made = layout.read(path)
    with console.step(f"push {reference}"):
        digest = remote.push(made, reference, credentials)
    return f"{_without_version(reference)}@{digest}"


def pull(reference: str, path: Path, arch: str, credentials: Credentials, console: Console) -> str:
    """Pull `reference` into a new layout at `path`; its digest. PackError when something is there already."""
    if path.exists():
        raise PackError(f"{path} exists already: name a new directory, or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with console.step(f"pull {reference}"):
            made = remote.pull(reference, arch, fresh / "blobs", credentials)
            os_name, made_for, _ = image.platform(made)
            if (os_name, made_for) != ("linux", media.architecture(arch)):
                wanted = f"linux/{media.architecture(arch)}"
                raise PackError(f"{reference} is made for {os_name}/{made_for}, not for {wanted}: say --arch")
            layout.write(made, fresh)
        fresh.chmod(0o755)
        fresh.rename(path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return str(image.digest(made))


def inspect(reference: str, arch: str, credentials: Credentials, cache_dir: Path) -> dict[str, Any]:
    """What an image is made of, wherever it is."""
    return image.describe(resolve_base(reference, arch, cache_dir, credentials=credentials).image)


def validate(path: Path, *, for_lambda: bool) -> list[str]:
    """Every digest, size and count that is wrong, and what Lambda would refuse when asked."""
    made = layout.read(path)
    problems = list(image.validate(made))
    if for_lambda:
        own = tuple(layer.digest for layer in made.layers)
        arch = {"amd64": "x86_64"}.get(image.platform(made)[1], image.platform(made)[1])
        problems += lambda_image.check_lambda_image(made, arch, own[-3:])
    return problems


def _without_version(reference: str) -> str:
    named = reference.partition("@")[0]
    head, slash, tail = named.rpartition("/")
    return head + slash + tail.partition(":")[0]
