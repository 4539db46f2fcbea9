"""Signs in to registries: parses what a registry asks for and makes the answer from credentials.

Promises:
- It reads no environment and no home directory; `keychain` reads the files.
- A password is used only for the host that it was stored for, and appears in no message.

Will not: open HTTP connections.

Sources: RFC 9110 §11 (challenges), distribution's "Token Authentication Specification".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpack.oci.distribution.keychain import IDENTITY_USER, REGISTRY_USER, Identity, Keychain

if TYPE_CHECKING:
    from mlpack.oci.reference import ImageReference

__all__ = [
    "IDENTITY_USER",
    "REGISTRY_USER",
    "Challenge",
    "Credentials",
    "Identity",
    "Keychain",
    "advice",
    "basic",
    "challenges",
    "identity_for",
]

Credentials = Callable[[str], "tuple[str, str] | None"]
"""A function from a registry's host to user and password, or None for anonymous requests. A `Keychain` knows repositories too."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PART = re.compile(rf'[\s,]*(?:({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))|({_TOKEN})(?=\s|,|$))')


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A way to sign in that a server offers in `WWW-Authenticate`. `scheme` and parameter names are lower case."""

    scheme: str
    parameters: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The parameter, or "" when it is missing."""
        return dict(self.parameters).get(name, "")


def challenges(header: str) -> tuple[Challenge, ...]:
    """The challenges in a `WWW-Authenticate` header; an unreadable one ends the list."""
    schemes: list[tuple[str, list[tuple[str, str]]]] = []
    at = 0
    while match := _PART.match(header, at):
        at = match.end()
        key, quoted, plain, scheme = match.groups()
        if scheme:
            schemes.append((scheme.lower(), []))
        elif schemes:
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            schemes[-1][1].append((key.lower(), value))
    return tuple(Challenge(scheme=scheme, parameters=tuple(parameters)) for scheme, parameters in schemes)


def basic(user: str, password: str) -> str:
    """The value of an `Authorization` header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def identity_for(credentials: Credentials | None, image_reference: ImageReference) -> Identity | None:
    """The identity that the credentials give for an image; None for an anonymous request. ServiceError as `Keychain.find`."""
    if isinstance(credentials, Keychain):
        return credentials.find(image_reference.host, image_reference.repository)
    pair = credentials(image_reference.host) if credentials else None
    return Identity(user=pair[0], password=pair[1]) if pair else None


def advice(credentials: Credentials | None, image_reference: ImageReference, who: Identity | None, *, accepted: bool) -> str:
    """What to do after a registry answered 401: sign in, sign in again, or (`accepted`: it knows the identity) ask for access."""
    if who is None:
        if isinstance(credentials, Keychain):
            how = "Sign in with docker login, podman login or skopeo login"
            return f"no credentials for {image_reference.host}: mlpack looked in {credentials.looked(image_reference.host)}. {how}"
        return "sign in to this registry first (docker login)"
    if accepted:
        repository = image_reference.repository
        return f"{who.who} is signed in and may not do this, or there is no such repository: ask for access to {repository}"
    return (
        f"the registry refused {who.who}: is the password still the right one? Sign in again (docker login {image_reference.host})"
    )
