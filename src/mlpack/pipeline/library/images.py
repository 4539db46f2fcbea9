"""Images of container registries and OCI layouts: push, pull, inspect and validate, without a daemon.

`push` pushes one image and nothing else of its layout (other platforms, attestations, signatures): Lambda takes no index, and an
attestation means nothing without its index. `skopeo copy --all` pushes everything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mlpack.core.environment import AnyPath, Environment
from mlpack.core.files import temporary
from mlpack.core.progress import Progress, Silent
from mlpack.core.text import times, words
from mlpack.errors import NamingError, RecipeError
from mlpack.oci import image, layout, media, selection
from mlpack.oci.base import LIKE_PATHS, machine_of, resolve_base
from mlpack.oci.distribution import keychain, remote
from mlpack.oci.distribution.auth import Credentials
from mlpack.oci.reference import parse
from mlpack.targets import lambda_image
from mlpack.targets.format.contents import Facts

Arch = Literal["x86_64", "arm64"]

_OURS = ("org.opencontainers.image.base.", "io.mlpack.")
_LATEST_S = 253_402_300_799
"""The last second of 9999."""


def push(
    source: str,
    reference: str,
    *,
    arch: Arch | None = None,
    credentials: Credentials | None = None,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Push one image of a layout or archive, without its attestations.

    Args:
        source: An OCI layout or an OCI archive, with `:TAG` or `@DIGEST` where it holds several images.
        reference: Where it goes: `host/name:tag`.
        arch: Which of several images.
        credentials: Gives user and password for a host. None reads the files of Docker, podman and skopeo.
        progress: Receives notes about progress. None prints nothing.
        environ: The environment variables. None is the process's own environment.

    Returns:
        The reference by digest that deployments should name: `host/name@sha256:...`.

    Raises:
        NamingError: `source` or `reference` is no name of an image, or several images are there and `arch` does not say which.
        ServiceError: The container registry refused, or could not be reached.
    """
    observer = progress or Silent()
    parse(reference)
    oci_image, others = layout.read_named(source, arch and media.architecture(arch))
    if others:
        rest = words.count(others, "other manifest")
        observer.note(f"pushing {'/'.join(filter(None, image.platform(oci_image)))} alone; {rest} of {source} stay behind")
    with observer.step(f"push {reference}"):
        digest = remote.push(oci_image, reference, credentials or _keychain(Environment(environ)))
    return f"{_without_version(reference)}@{digest}"


def pull(
    reference: str,
    path: AnyPath,
    *,
    arch: Arch | None = None,
    credentials: Credentials | None = None,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Pull an image into a new OCI layout, every byte verified.

    Args:
        reference: The image: `host/name:tag` or `host/name@sha256:...`.
        path: The new layout's directory, which must not be there.
        arch: Which of several images. None is the only one, or the one for x86_64.
        credentials: As of `push`.
        progress: As of `push`.
        environ: As of `push`.

    Returns:
        The image's digest.

    Raises:
        NamingError: `path` is there already, or `reference` is no name of an image.
        PackError: There is no image for `arch`, or its bytes are not what its digests say.
        ServiceError: The container registry refused, or could not be reached.
    """
    place = Path(path)
    if place.exists():
        raise NamingError(f"{place} exists already: name a new directory, or remove it first")
    architecture = _architecture(arch)
    parse(reference)
    place.parent.mkdir(parents=True, exist_ok=True)
    with temporary.directory("pull", place.parent) as fresh:
        with (progress or Silent()).step(f"pull {reference}"):
            oci_image = remote.pull(reference, architecture, fresh / "blobs", credentials or _keychain(Environment(environ)))
            selection.check_arch(reference, image.platform(oci_image), architecture)
            layout.write(oci_image, fresh)
        fresh.chmod(0o755)
        fresh.rename(place)
    return str(image.digest(oci_image))


def inspect(
    reference: str,
    *,
    arch: Arch | None = None,
    credentials: Credentials | None = None,
    store: AnyPath | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Describe an image, wherever it is.

    Args:
        reference: An OCI layout or archive (with `:TAG` or `@DIGEST`), a root directory, or a reference in a container registry.
        arch: As of `pull`.
        credentials: As of `push`.
        store: Where an image of a registry is kept. None is the command's store.
        environ: As of `push`.

    Returns:
        Its platform, digests, sizes, layers and configuration, as JSON values.

    Raises:
        NamingError: There is nothing of this name.
        ServiceError: The container registry refused, or could not be reached.
    """
    environment = Environment(environ)
    cache_dir = environment.store if store is None else Path(store)
    architecture = _architecture(arch)
    place = layout.locate(reference)
    if place is None and reference.startswith(LIKE_PATHS):
        raise NamingError(f"there is nothing at {reference}: give an OCI layout, an OCI archive or a reference")
    if place is None:
        oci_image = remote.pull(reference, architecture, cache_dir / "blobs", credentials or _keychain(environment))
        selection.check_arch(reference, image.platform(oci_image), architecture)
        return image.describe(oci_image)
    path, selector = place
    if path.is_dir() and not layout.is_layout(path) and selector == selection.Selector():
        return image.describe(resolve_base(reference, arch or machine_of(path) or "amd64", cache_dir).image)
    return image.describe(layout.read(path, architecture, selector))


def validate(source: str, *, arch: Arch | None = None, for_lambda: bool = False) -> list[str]:
    """Compute every digest, size and count of an image again, and compare.

    Args:
        source: As of `push`.
        arch: As of `push`.
        for_lambda: Also look for what AWS Lambda would refuse.

    Returns:
        The problems, a line each; an empty list when there is none.

    Raises:
        NamingError: As of `push`.
    """
    oci_image, _ = layout.read_named(source, arch and media.architecture(arch))
    problems = list(image.validate(oci_image))
    if for_lambda:
        own = tuple(layer.digest for layer in oci_image.layers)
        machine = {"amd64": "x86_64"}.get(image.platform(oci_image)[1], image.platform(oci_image)[1])
        problems += lambda_image.check_lambda_image(oci_image, machine, own[-3:])
    return problems


def parse_labels(texts: Sequence[str], created: str | None = None) -> dict[str, str]:
    """Read labels, each KEY=VALUE. RecipeError names every problem with them, and with `created`."""
    labels: dict[str, str] = {}
    problems = []
    for each in texts:
        key, is_pair, value = each.partition("=")
        if is_pair and key not in labels:
            labels[key] = value
        else:
            problems.append(f"--label {each[:100]!r}: write KEY=VALUE, each key once")
    if problems := [*problems, *_label_problems(labels), *_created_problems(created)[1]]:
        raise RecipeError(*problems)
    return labels


def facts(labels: Mapping[str, str], created: str | None) -> Facts:
    """Labels and date of a build's images. `created`: seconds since the epoch, or ISO 8601.

    RecipeError names every problem with them.
    """
    seconds, problems = _created_problems(created)
    if problems := [*_label_problems(labels), *problems]:
        raise RecipeError(*problems)
    return Facts(labels=tuple(sorted(labels.items())), created_s=int(seconds))


def _label_problems(labels: Mapping[str, str]) -> list[str]:
    problems = []
    for key, value in labels.items():
        label = f"{key}={value}"[:100]
        try:
            image.check_labels({key: value})
            value.encode()
        except (NamingError, UnicodeEncodeError) as error:
            problems.append(f"--label {label!r}: {error}")
        if key.startswith(_OURS):
            problems.append(f"--label {label!r}: mlpack says that itself")
    return problems


def _created_problems(created: str | None) -> tuple[float, list[str]]:
    """The date of the images in seconds since 1970, and the problems with the text."""
    seconds, problems = 0.0, []
    if created is not None:
        try:
            seconds = float(int(created)) if re.fullmatch(r"[0-9]{1,15}", created) else times.parse_time(created)
        except RecipeError as error:
            problems.append(f"--created: {error}; or the seconds since 1970, as in SOURCE_DATE_EPOCH")
        if not 0 <= seconds <= _LATEST_S:
            problems.append(f"--created {created[:100]}: not between 1970 and 9999")
    return seconds, problems


def _keychain(environment: Environment) -> Credentials:
    return keychain.of_environment(environment.variables, environment.home)


def _architecture(arch: str | None) -> str:
    return media.architecture(arch) if arch else selection.ANY


def _without_version(reference: str) -> str:
    name = reference.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    return head + slash + tail.partition(":")[0]
