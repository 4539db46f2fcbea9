"""Names of images in registries: parsed, checked and written.

Promises:
- `parse(str(reference)) == reference`.
- Short names mean Docker Hub, as everywhere. An invalid name is refused with an example of a valid one.

Will not: do any I/O.

Sources: distribution-spec 1.1 "Pulling manifests" (name and tag grammar); docker's reference grammar for hosts and short names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from mlpack.core.digest import Digest
from mlpack.errors import NamingError, PackError
from mlpack.oci import media

DOCKER_HUB = "docker.io"
_DOCKER_HUB_API = "registry-1.docker.io"
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_MAX_NAME = 255
_TRANSPORT = re.compile(r"(docker|docker-daemon|docker-archive|containers-storage|oci|oci-archive|dir|https?|registry|oras)://?")
"""The prefixes of other tools before a name: `docker://` (skopeo, podman), `https://`."""
_TRANSPORT_ONLY = ("docker-daemon:", "docker-archive:", "containers-storage:", "oci:", "oci-archive:", "dir:")
_LONGEST = 300
"""At most so much of a malformed name is repeated in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
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
        """The tag or digest in a request: the digest when there is one, else the tag, else `latest`."""
        return str(self.digest or self.tag or "latest")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> ImageReference:
    """The reference that `text` writes. NamingError says what is wrong, and what to write instead.

    `python:3.13` is `docker.io/library/python:3.13`: the first part is a host only if it has a dot or a port, or is `localhost`.
    """
    shown = repr(text[:_LONGEST])
    _check_transport(text, shown)
    rest, at, digest_text = text.partition("@")
    try:
        digest = Digest(digest_text) if at else None
    except ValueError:
        raise NamingError(f"{shown}: after '@' comes a digest, 'sha256:' and 64 hex digits") from None
    first, slash, remainder = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host = DOCKER_HUB if first == "index.docker.io" else first
    else:
        host, remainder = DOCKER_HUB, rest
    repository, colon, tag = remainder.partition(":")
    if host == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if not slash and tag.isdigit() and ("." in rest or rest.startswith("localhost:")):
        raise NamingError(f"{shown} names a registry and no image: write '{rest[:_LONGEST]}/team/model:tag'")
    if not _HOST.fullmatch(host):
        raise NamingError(f"{shown}: {host[:_LONGEST]!r} is not a registry's host")
    if len(host) + 1 + len(repository) > _MAX_NAME:
        raise NamingError(f"{shown} is longer than the {_MAX_NAME} characters that host and name may have together")
    if not _REPOSITORY.fullmatch(repository):
        before, name = rest.removesuffix(remainder), remainder.partition(":")[0]
        lower = f"{before}{name.lower()}{colon}{tag}{at}{digest_text}"
        hint = "use lower-case letters and digits, as in 'host/team/model:tag'"
        instead = f": write {lower[:_LONGEST]!r}" if _REPOSITORY.fullmatch(repository.lower()) else ""
        raise NamingError(f"{shown} is not the name of an image: {hint}{instead}")
    if colon and not _TAG.fullmatch(tag):
        raise NamingError(f"{shown}: {tag[:_LONGEST]!r} is not a tag (letters, digits, '.', '_', '-', at most 128){_tag_for(tag)}")
    return ImageReference(host=host, repository=repository, tag=tag or None, digest=digest)


def _check_transport(text: str, shown: str) -> None:
    """Refuse another tool's prefix, and show how to write the name here."""
    if match := _TRANSPORT.match(text):
        raise NamingError(f"{shown}: write the name alone, without {match[0]!r}: {text[match.end() :].lstrip('/')[:_LONGEST]!r}")
    if text.startswith(_TRANSPORT_ONLY):
        raise NamingError(f"{shown}: not the name of an image in a registry: write 'host/team/model:tag'")


def _tag_for(tag: str) -> str:
    """A valid tag in place of an invalid one such as `v1.0+cpu`: registries and Helm write `_` for `+`."""
    suggestion = re.sub(r"[^A-Za-z0-9._-]", "_", tag.partition("@")[0])[:128].lstrip(".-")
    return f": write {suggestion!r}" if suggestion else ""


def manifests(index: dict[str, Any]) -> tuple[media.Descriptor, ...]:
    """The descriptors in an untrusted index. PackError when it is not an index."""
    listed = index.get("manifests")
    if not isinstance(listed, list):
        raise PackError("index: no list of manifests")
    return tuple(media.descriptor(each, f"index: manifest {number}") for number, each in enumerate(listed))
