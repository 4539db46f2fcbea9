"""Reads credentials as Docker, podman, buildah and skopeo store them, and explains what was searched when none fits.

Promises:
- It reads no environment itself (`of_environment` gets one as an argument), and no file before a registry asks for credentials.
- The most specific entry wins: a repository, then a namespace, then the host. A file that a variable names comes before the
  files in the usual places.
- A file or a credential helper that cannot be used is an error that names it. A helper's time and output are bounded.
- No message holds a password.

Will not: write anything.

Sources: containers-auth.json(5); Docker's `config.json` and credential helper protocol; distribution-spec 1.1 "Error Codes".
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import selectors
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.core.files import bounded
from mlpack.core.text import words
from mlpack.errors import RecipeError, ServiceError
from mlpack.oci import media

IDENTITY_USER = "<token>"
"""With this user name the password is a refresh token (Docker's convention)."""
REGISTRY_USER = "<registrytoken>"
"""With this user name, which is mlpack's own, the password is a bearer token that goes to the registry unchanged."""
HELPER_TIMEOUT_S = 60.0
TIMEOUT_VARIABLE = "MLPACK_CREDENTIAL_HELPER_S"

_HUB = "docker.io"
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_NAMES = (_HUB, "index.docker.io", "registry-1.docker.io")
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELPER_MOST = 1 << 20
"""At most so many bytes of a helper's answer are read; a token has a few thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """User and password for a registry. `source`: the file or helper that they come from, "" for the caller."""

    user: str
    password: str
    source: str = ""

    def __repr__(self) -> str:
        return f"Known({self.who})"

    @property
    def who(self) -> str:
        """The identity, for messages."""
        tokens = {IDENTITY_USER: "the identity token", REGISTRY_USER: "the registry token"}
        name = tokens.get(self.user) or f"user {words.clean(self.user)[:100]!r}"
        return f"{name} from {self.source}" if self.source else name


class Keychain:
    """Searches `files` in their order. It can be called as `auth.Credentials`; `find` takes the repository into account too."""

    def __init__(self, files: Sequence[Path], helper_timeout_s: float = HELPER_TIMEOUT_S) -> None:
        self.files = tuple(dict.fromkeys(files))
        self._timeout_s = helper_timeout_s

    def __call__(self, host: str) -> tuple[str, str] | None:
        """User and password for a host."""
        identity = self.find(host, "")
        return (identity.user, identity.password) if identity else None

    def find(self, host: str, repository: str) -> Identity | None:
        """The identity for this repository; None when nobody has signed in. ServiceError: a file or a helper cannot be used."""
        for path in self.files:
            config = _read(path)
            if isinstance(config, str):
                continue
            if identity := in_config(config, host, repository, str(path), self._timeout_s):
                return identity
        return None

    def looked(self, host: str) -> str:
        """The places that `find` searched in vain, for messages."""
        lines = []
        for path in self.files:
            config = _read(path)
            lines.append(f"{path} ({config if isinstance(config, str) else _nothing(config, host)})")
        return ", ".join(lines)


def of_environment(environ: Mapping[str, str], home: Path) -> Keychain:
    """The files in the order in which they are read: what `REGISTRY_AUTH_FILE` and `DOCKER_CONFIG` name, then podman's, skopeo's
    and buildah's, then Docker's, then that of a Docker before 1.7. RecipeError when the time for helpers is no number."""

    def place(key: str) -> Path | None:
        """Where a variable leads; `~` is home there too, where no shell has seen it."""
        seconds = environ.get(key)
        return (home / seconds[2:] if seconds.startswith("~/") else Path(seconds).absolute()) if seconds else None

    auth_file, docker, runtime = place("REGISTRY_AUTH_FILE"), place("DOCKER_CONFIG"), place("XDG_RUNTIME_DIR")
    files = [
        *([auth_file] if auth_file else []),
        *([docker / "config.json"] if docker else []),
        runtime / "containers/auth.json" if runtime else Path(f"/run/containers/{os.getuid()}/auth.json"),
        (place("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json",
        *([] if docker else [home / ".docker/config.json"]),
        home / ".dockercfg",
    ]
    seconds = environ.get(TIMEOUT_VARIABLE) or str(HELPER_TIMEOUT_S)
    try:
        timeout_s = float(seconds)
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s < 86_400:
        raise RecipeError(f"{TIMEOUT_VARIABLE} is {seconds[:40]!r}: write the seconds that a credential helper may take, as in 60")
    return Keychain(files, timeout_s)


def load(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in such a file. ServiceError, whose text begins with `what`, when it is none."""
    mend = "repair it, or remove it and sign in again (docker login, podman login)"
    try:
        config = bounded.load_json(data)
    except ValueError as error:
        raise ServiceError(f"{what} is not JSON ({error}): {mend}") from None
    if not isinstance(config, dict):
        raise ServiceError(f"{what} is not an object: {mend}")
    for key in ("auths", "credHelpers"):
        if not isinstance(config.get(key, {}), (dict, type(None))):
            raise ServiceError(f"{what}: {key!r} is not an object: {mend}")
    return config


def in_config(config: Mapping[str, Any], host: str, repository: str, what: str, timeout_s: float) -> Identity | None:
    """The identity in one file: from `credHelpers`, `auths`, then `credsStore`. ServiceError when a helper fails."""
    helpers, auths = config.get("credHelpers") or {}, config.get("auths") or {}
    for key, name in _matching(helpers, host, repository):
        if name:
            return ask_helper(str(name), key, what, timeout_s)
    for _, entry in _matching(auths, host, repository):
        if identity := _stored(entry, what):
            return identity
    if store := config.get("credsStore"):
        for key in (_HUB_KEY, _HUB) if host in _HUB_NAMES else (host,):
            if identity := ask_helper(str(store), key, what, timeout_s):
                return identity
    return None


def ask_helper(name: str, key: str, what: str, timeout_s: float = HELPER_TIMEOUT_S) -> Identity | None:
    """The answer of `docker-credential-NAME get` for a host; None when it has none. ServiceError when it cannot be run."""
    if not _HELPER_NAME.fullmatch(name):
        raise ServiceError(f"{what} names the credential helper {name[:100]!r}, which is not the name of a program")
    program = f"docker-credential-{name}"
    try:
        code, out, complaint = _run([program, "get"], key.encode(), timeout_s)
    except FileNotFoundError:
        hint = "install it, or take it out of the file and sign in again"
        raise ServiceError(f"{program}, which {what} names for {key}, could not be run: there is no such program; {hint}") from None
    except (OSError, TimeoutError) as error:
        raise ServiceError(f"{program}, which {what} names for {key}, could not be run: {error}") from error
    text = words.clean((out or complaint).decode("utf-8", "replace")).strip()
    if code != 0:
        if "not found" in text:
            return None
        raise ServiceError(f"{program}, which {what} names for {key}, failed: {text[:300] or f'it ended with {code}'}")
    try:
        answer = bounded.load_json(out)
        user, secret = answer["Username"], answer["Secret"]
        if not (isinstance(user, str) and isinstance(secret, str) and _can_be_sent(user, secret)):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise ServiceError(f"{program} gave an answer for {key} that cannot be read: it is named in {what}") from None
    return Identity(user=user, password=secret, source=program) if secret else None


def _run(command: list[str], text: bytes, timeout_s: float) -> tuple[int, bytes, bytes]:
    """A program's exit code, output and error output. When it takes too long or writes too much, it is killed with its children,
    and TimeoutError is raised: `subprocess.run` would wait for any process that holds the output open."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    deadline = time.monotonic() + timeout_s
    with subprocess.Popen(command, **pipes, start_new_session=True) as running:  # type: ignore[call-overload]
        try:
            out, complaint = _talk(running, text, deadline)
            while not _has_ended(running):
                _check_time(deadline)
                time.sleep(0.01)
        except TimeoutError as error:
            reason = str(error) or f"it did not end within {timeout_s:g} s ({TIMEOUT_VARIABLE} says how long it may take)"
            raise TimeoutError(reason) from None
        finally:
            # This comes before the wait: until then the process id, which is also its group's, belongs to nobody else.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(running.pid, signal.SIGKILL)
    return running.returncode, out, complaint


def _talk(running: subprocess.Popen[bytes], text: bytes, deadline: float) -> tuple[bytes, bytes]:
    """The program's output and error output, until it closes them or ends."""
    assert running.stdin is not None
    assert running.stdout is not None
    assert running.stderr is not None
    with suppress(BrokenPipeError), running.stdin as stdin:
        stdin.write(text)
    output = {running.stdout.fileno(): b"", running.stderr.fileno(): b""}
    with selectors.DefaultSelector() as ready:
        for stream in output:
            ready.register(stream, selectors.EVENT_READ)
        while ready.get_map():
            _check_time(deadline)
            for key, _ in ready.select(0.05):
                chunk = os.read(key.fd, 1 << 16)
                output[key.fd] += chunk
                if not chunk:
                    ready.unregister(key.fd)
            if sum(map(len, output.values())) > _HELPER_MOST:
                raise TimeoutError(f"it wrote more than {_HELPER_MOST} bytes, which is no answer")
            if _has_ended(running) and not ready.select(0):
                break  # a process that it started may hold its output open for ever
    out, complaint = output.values()
    return out, complaint


def _check_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError


def _has_ended(running: subprocess.Popen[bytes]) -> bool:
    """Whether the program has ended; this does not wait for it."""
    return os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _read(path: Path) -> dict[str, Any] | str:
    """The content of a file, or why there is none. ServiceError when it cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a file"
        with path.open("rb") as file:
            data = file.read(media.MAX_JSON_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return "not there"
    except OSError as error:
        raise ServiceError(f"the credentials in {path} cannot be read: {error.strerror}; mend that, or remove the file") from error
    if len(data) > media.MAX_JSON_BYTES:
        raise ServiceError(f"the credentials in {path} are longer than {media.MAX_JSON_BYTES} bytes: this is some other file")
    if not data.strip():
        return "empty"
    config = load(data, str(path))
    return {"auths": config} if path.name == ".dockercfg" else config


def _nothing(config: Mapping[str, Any], host: str) -> str:
    for _, entry in _matching(config.get("auths") or {}, host, ""):
        if isinstance(entry, dict) and any(map(entry.get, ("auth", "username", "password", "identitytoken", "registrytoken"))):
            return f"its entry for {host} cannot be read"
    return f"nothing for {host}"


def _matching(entries: Mapping[str, Any], host: str, repository: str) -> Iterator[tuple[str, Any]]:
    """The entries for a repository, most specific first, and entries in exactly this spelling before equivalent ones."""
    hosts = _HUB_NAMES if host in _HUB_NAMES else (host,)
    parts = repository.split("/") if repository else []
    for length in range(len(parts), -1, -1):
        for each in hosts:
            pattern = "/".join((each, *parts[:length])).lower()
            alike = [key for key in entries if _meant(key) == pattern]
            for key in sorted(alike, key=lambda key: (key.lower() != pattern, key != _HUB_KEY)):
                yield key, entries[key]


def _meant(key: str) -> str:
    """The host, or host and namespace, that a key is for. A URL is for its host, as Docker reads it; `/v1` and `/v2` are paths of
    the two registry protocols, not namespaces."""
    text = key.strip().lower()
    for scheme in ("https://", "http://"):
        if text.startswith(scheme):
            return text.removeprefix(scheme).partition("/")[0]
    text = text.rstrip("/")
    return re.sub(r"/v[12]$", "", text)


def _stored(entry: Any, what: str) -> Identity | None:
    """The identity in one entry of `auths`; None when it cannot be read."""
    if not isinstance(entry, dict):
        return None
    for key, user in (("identitytoken", IDENTITY_USER), ("registrytoken", REGISTRY_USER)):
        if isinstance(entry.get(key), str) and entry[key] and _can_be_sent(user, entry[key]):
            return Identity(user=user, password=entry[key], source=what)
    user, password = str(entry.get("username") or ""), entry.get("password")
    if not (user and isinstance(password, str)):
        try:
            coded = re.sub(r"\s|=", "", str(entry.get("auth") or ""))
            user, colon, password = base64.b64decode(coded + "=" * (-len(coded) % 4), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        password = password.rstrip("\0")
        if not colon:
            return None
    return Identity(user=user, password=password, source=what) if (user or password) and _can_be_sent(user, password) else None


def _can_be_sent(user: str, secret: str) -> bool:
    """Whether a request can carry them: UTF-8 text, and for a registry token only characters of a header (RFC 6750 §2.1)."""
    if user == REGISTRY_USER:
        return re.fullmatch("[!-~]+", secret) is not None
    halves = any("\ud800" <= letter <= "\udfff" for letter in user + secret)
    return media.is_printable(user) and not halves
