"""Names of images in registries, and the choice of one platform where a name stands for many.

Promises: `parse(str(reference)) == reference`; short names mean Docker Hub, as everywhere; a platform is never defaulted
silently. Does no I/O. Sources: distribution-spec 1.1 "Pulling manifests" (name and tag grammar); docker's reference grammar for
hosts and short names; OCI image-spec 1.1 `image-index.md` (platforms).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.digest import Digest
from mlpack.errors import PackError
from mlpack.oci import media

if TYPE_CHECKING:
    from collections.abc import Sequence

DOCKER_HUB = "docker.io"
_DOCKER_HUB_API = "registry-1.docker.io"
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_MAX_NAME = 255
_BASELINES = {"amd64": ("", "v1"), "arm64": ("", "v8")}
"""Variants that every processor of an architecture runs, the unmarked first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """`host/repository[:tag][@digest]`. Made by `parse`, which checks it."""

    host: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def api_host(self) -> str:
        """The host that answers the registry protocol: Docker Hub's differs from its name."""
        return _DOCKER_HUB_API if self.host == DOCKER_HUB else self.host

    @property
    def version(self) -> str:
        """What to ask a registry for: the digest when there is one, else the tag, else `latest`."""
        return str(self.digest or self.tag or "latest")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """The reference that `text` writes; PackError says what is wrong with it.

    `python:3.13` is `docker.io/library/python:3.13`: the first part is a host only if it has a dot or a port, or is `localhost`.
    """
    rest, at, digest_text = text.partition("@")
    try:
        digest = Digest(digest_text) if at else None
    except ValueError:
        raise PackError(f"{text!r}: after '@' comes a digest, 'sha256:' and 64 hex digits") from None
    first, slash, remainder = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host = DOCKER_HUB if first == "index.docker.io" else first
    else:
        host, remainder = DOCKER_HUB, rest
    repository, colon, tag = remainder.partition(":")
    if host == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if not _HOST.fullmatch(host):
        raise PackError(f"{text!r}: {host!r} is not a registry's host")
    if not _REPOSITORY.fullmatch(repository) or len(host) + 1 + len(repository) > _MAX_NAME:
        raise PackError(f"{text!r} is not the name of an image: use lower-case letters and digits, as in 'host/team/model:tag'")
    if colon and not _TAG.fullmatch(tag):
        raise PackError(f"{text!r}: {tag!r} is not a tag (letters, digits, '.', '_', '-', at most 128)")
    return Reference(host=host, repository=repository, tag=tag or None, digest=digest)


def manifests(index: dict[str, Any]) -> tuple[media.Descriptor, ...]:
    """What an untrusted index lists. PackError when it is not an index."""
    listed = index.get("manifests")
    if not isinstance(listed, list):
        raise PackError("index: no list of manifests")
    return tuple(media.descriptor(each, f"index: manifest {number}") for number, each in enumerate(listed))


def select(listed: Sequence[media.Descriptor], arch: str) -> media.Descriptor:
    """The manifest for Linux on `arch` (`amd64`, `arm64`); PackError lists what there is when that is not there.

    A variant is chosen only when every processor of the architecture runs it. One manifest without a platform is taken as it
    is: its config says what it is. Attestations (platform `unknown`) are passed over.
    """
    images = [each for each in listed if each.media_type in media.MANIFESTS]
    if len(images) == 1 and images[0].platform is None:
        return images[0]
    for variant in _BASELINES[arch]:
        for each in images:
            if each.platform == ("linux", arch, variant):
                return each
    there = sorted({"/".join(part for part in each.platform if part) for each in images if each.platform})
    raise PackError(
        f"the image is not made for linux/{arch}, only for {', '.join(there) or 'unnamed platforms'}: choose another base"
    )
