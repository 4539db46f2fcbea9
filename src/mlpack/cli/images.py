"""The verbs of `mlpack image`: push, pull, inspect and validate, over `oci` and what Lambda demands of an image.

What a layout holds beside the image that was asked for (other platforms, attestations, signatures) is not pushed: Lambda takes no
index, and an attestation says nothing without the one around it. `skopeo copy --all` pushes all of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlpack.cli.console import Console
from mlpack.core.files import temporary
from mlpack.core.text import words
from mlpack.errors import NamingError, RecipeError
from mlpack.oci import image, layout, media, selection
from mlpack.oci.base import LIKE_PATHS, machine_of, resolve_base
from mlpack.oci.distribution import remote
from mlpack.oci.distribution.auth import Credentials
from mlpack.oci.reference import parse
from mlpack.targets import lambda_image
from mlpack.targets.format.contents import Facts

_OURS = ("org.opencontainers.image.base.", "io.mlpack.")
_LATEST_S = 253_402_300_799
"""The last second of 9999."""


def push(source: str, reference: str, arch: str | None, credentials: Credentials, console: Console) -> str:
    """Push an image of the layout or archive `source` (see `layout.locate`); the reference by digest that deployments should name.

    NamingError when `source` or `reference` is none, or `source` holds several images and `arch` does not say which.
    """
    parse(reference)
    made, others = layout.read_named(source, arch and media.architecture(arch))
    if others:
        said = words.count(others, "other manifest")
        console.note(f"pushing {'/'.join(filter(None, image.platform(made)))} alone; {said} of {source} stay behind")
    with console.step(f"push {reference}"):
        digest = remote.push(made, reference, credentials)
    return f"{_without_version(reference)}@{digest}"


def pull(reference: str, path: Path, arch: str | None, credentials: Credentials, console: Console) -> str:
    """Pull `reference` into a new layout at `path`; its digest. NamingError when something is there already, or there is no image
    for `arch` (None: the only one there is, of several the one for x86_64)."""
    if path.exists():
        raise NamingError(f"{path} exists already: name a new directory, or remove it first")
    wanted = _wanted(arch)
    parse(reference)
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.directory("pull", path.parent) as fresh:
        with console.step(f"pull {reference}"):
            made = remote.pull(reference, wanted, fresh / "blobs", credentials)
            selection.check_arch(reference, image.platform(made), wanted)
            layout.write(made, fresh)
        fresh.chmod(0o755)
        fresh.rename(path)
    return str(image.digest(made))


def inspect(reference: str, arch: str | None, credentials: Credentials, cache_dir: Path) -> dict[str, Any]:
    """What an image is made of, wherever it is. `arch`: as of `pull`."""
    wanted = _wanted(arch)
    found = layout.locate(reference)
    if found is None and reference.startswith(LIKE_PATHS):
        raise NamingError(f"there is nothing at {reference}: give an OCI layout, an OCI archive or a reference")
    if found is None:
        made = remote.pull(reference, wanted, cache_dir / "blobs", credentials)
        selection.check_arch(reference, image.platform(made), wanted)
        return image.describe(made)
    path, named = found
    if path.is_dir() and not layout.is_layout(path) and named == selection.Selector():
        return image.describe(resolve_base(reference, arch or machine_of(path) or "amd64", cache_dir).image)
    return image.describe(layout.read(path, wanted, named))


def validate(source: str, arch: str | None, *, for_lambda: bool) -> list[str]:
    """Every digest, size and count of an image that is wrong, and what Lambda would refuse when asked.

    `source`, `arch`: as of `push`.
    """
    made, _ = layout.read_named(source, arch and media.architecture(arch))
    problems = list(image.validate(made))
    if for_lambda:
        own = tuple(layer.digest for layer in made.layers)
        machine = {"amd64": "x86_64"}.get(image.platform(made)[1], image.platform(made)[1])
        problems += lambda_image.check_lambda_image(made, machine, own[-3:])
    return problems


def facts(labels: Sequence[str], created: str | None) -> Facts:
    """What is said of the images of a build: KEY=VALUE each, and a time in seconds since the epoch or in ISO 8601.

    RecipeError names everything that is wrong with them.
    """
    from mlpack.registry.aliases.aliases import parse_time

    said: dict[str, str] = {}
    problems = []
    for each in labels:
        key, is_pair, value = each.partition("=")
        if not is_pair or key in said:
            problems.append(f"--label {each[:100]!r}: write KEY=VALUE, each key once")
            continue
        said[key] = value
        try:
            image.check_labels({key: value})
            value.encode()
        except (NamingError, UnicodeEncodeError) as error:
            problems.append(f"--label {each[:100]!r}: {error}")
        if key.startswith(_OURS):
            problems.append(f"--label {each[:100]!r}: mlpack says that itself")
    seconds = 0.0
    if created is not None:
        try:
            seconds = float(int(created)) if re.fullmatch(r"[0-9]{1,15}", created) else parse_time(created)
        except RecipeError as error:
            problems.append(f"--created: {error}; or the seconds since 1970, as in SOURCE_DATE_EPOCH")
        if not 0 <= seconds <= _LATEST_S:
            problems.append(f"--created {created[:100]}: not between 1970 and 9999")
    if problems:
        raise RecipeError(*problems)
    return Facts(labels=tuple(sorted(said.items())), created_s=int(seconds))


def _wanted(arch: str | None) -> str:
    return media.architecture(arch) if arch else selection.ANY


def _without_version(reference: str) -> str:
    named = reference.partition("@")[0]
    head, slash, tail = named.rpartition("/")
    return head + slash + tail.partition(":")[0]
