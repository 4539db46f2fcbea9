"""Signing in to registries: what a registry asks for, and where the answer comes from.

Promises: reads no environment and no home directory (the caller hands in the bytes of Docker's `config.json`); a password is
used for the host it was kept under and no other, and stands in no message. Knows nothing of HTTP connections.
Sources: RFC 9110 §11 (challenges), distribution's "Token Authentication Specification", Docker's credential helper protocol.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlpack.errors import ServiceError
from mlpack.oci import media

Credentials = Callable[[str], "tuple[str, str] | None"]
"""Registry host -> user and password, or None to go on without."""

IDENTITY_USER = "<token>"
"""The user name that says the password is a refresh token (Docker's convention)."""

_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELPER_TIMEOUT_S = 60
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PART = re.compile(rf'[\s,]*(?:({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))|({_TOKEN})(?=\s|,|$))')


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One way in that a server offers in `WWW-Authenticate`. `scheme` and parameter names are lower case."""

    scheme: str
    parameters: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The parameter, or "" when it was not given."""
        return dict(self.parameters).get(name, "")


def challenges(header: str) -> tuple[Challenge, ...]:
    """The challenges in a `WWW-Authenticate` header; what cannot be read ends the list."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    at = 0
    while match := _PART.match(header, at):
        at = match.end()
        key, quoted, plain, scheme = match.groups()
        if scheme:
            found.append((scheme.lower(), []))
        elif found:
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            found[-1][1].append((key.lower(), value))
    return tuple(Challenge(scheme=scheme, parameters=tuple(parameters)) for scheme, parameters in found)


def basic(user: str, password: str) -> str:
    """The value of an `Authorization` header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def from_docker_config(data: bytes, host: str) -> tuple[str, str] | None:
    """User and password for `host` out of the bytes of Docker's `config.json`: `credHelpers`, `auths`, then `credsStore`.

    Helpers are the programs `docker-credential-NAME`. None when nothing is kept for the host; ServiceError when the file cannot
    be read or a helper fails.
    """
    try:
        config = json.loads(data)
    except ValueError as error:
        raise ServiceError(f"Docker's config.json is not JSON ({error}): repair it, or sign in again with docker login") from None
    if not isinstance(config, dict):
        raise ServiceError("Docker's config.json is not an object: repair it, or sign in again with docker login")
    keys = _HUB_KEYS if host in _HUB_KEYS else (host, f"https://{host}", f"https://{host}/")
    helpers, auths = _object(config, "credHelpers"), _object(config, "auths")
    for key in keys:
        if key in helpers:
            return ask_helper(str(helpers[key]), key)
    for key in keys:
        if found := _stored(auths.get(key)):
            return found
    store = config.get("credsStore")
    return ask_helper(str(store), keys[0]) if store else None


def ask_helper(name: str, key: str) -> tuple[str, str] | None:
    """What `docker-credential-NAME get` answers for a host; None when it knows none. ServiceError when it cannot be run."""
    if not _HELPER_NAME.fullmatch(name):
        raise ServiceError(f"Docker's config.json names the credential helper {name!r}, which is not the name of a program")
    command = [f"docker-credential-{name}", "get"]
    try:
        done = subprocess.run(command, input=key, capture_output=True, text=True, timeout=_HELPER_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{command[0]}, which Docker's config.json names for {key}, could not be run: {error}") from error
    if done.returncode != 0:
        if "not found" in done.stdout:
            return None
        raise ServiceError(f"{command[0]} failed for {key}: {(done.stdout or done.stderr).strip()[:300]}")
    try:
        answer = json.loads(done.stdout)
        return str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError(f"{command[0]} gave an answer for {key} that cannot be read") from error


def _object(config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _stored(entry: Any) -> tuple[str, str] | None:
    """User and password of one entry of `auths`; None when it holds none."""
    if not isinstance(entry, dict):
        return None
    if isinstance(entry.get("identitytoken"), str) and entry["identitytoken"]:
        return IDENTITY_USER, entry["identitytoken"]
    if isinstance(entry.get("username"), str) and isinstance(entry.get("password"), str):
        return entry["username"], entry["password"]
    try:
        user, colon, password = base64.b64decode(str(entry.get("auth") or ""), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password.rstrip("\0")) if colon and media.is_printable(user) else None
