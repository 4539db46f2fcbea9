"""Images of releases in a container registry: implements `registry.Images` with `mlpack.oci`.

Every model has a repository of its own below the prefix.

Promises:
- A push sends the whole layout, or fails.
- A pushed image is named by its digest. It also gets a tag made of the digest, because registries let untagged images expire.
- Everything fetched is verified byte by byte. A fetch resumes what an earlier attempt left.
- An image is read from where its reference says, whatever the prefix of this registry is.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.errors import MlpackError, PackError, RecipeError, ServiceError
from mlpack.oci import image, layout, media, reference
from mlpack.oci.distribution import remote
from mlpack.oci.distribution.auth import Credentials
from mlpack.oci.distribution.transport import HttpError, RegistrySession, TransportOptions, discard, read_bounded, retrying
from mlpack.oci.reference import ImageReference
from mlpack.registry import ImageRefusedError, RecordError
from mlpack.registry.images import ecr

_NEVER, _NOT_BY_US = (400, 405), 403
"""Answers to a deletion: where the registry has none (distribution-spec 1.1, "Content Management"), and where it is not allowed."""
_ACCEPT = ", ".join(sorted(media.MANIFESTS | media.INDEXES))


def open_images(prefix: str, credentials: Credentials, options: TransportOptions | None = None) -> Repositories:
    """The container registry at `host` or `host/repository`, which gets a repository for each model: `host/repository/NAME`.

    `credentials` returns user and password for a host. For Amazon's registry the AWS credentials of this machine are used, and
    these only when there are none. RecipeError when `prefix` is invalid or has no host: nobody means Docker Hub by accident.
    """
    address = prefix.rstrip("/")
    try:
        example = reference.parse(f"{address}/name")
    except PackError as error:
        raise RecipeError(f"images cannot go to {prefix!r}: {error}; write host/repository") from error
    if example.host == reference.DOCKER_HUB and address.partition("/")[0] not in (reference.DOCKER_HUB, "index.docker.io"):
        raise RecipeError(f"images cannot go to {prefix!r}: say the host too, as in docker.io/{address}")
    return Repositories(address, credentials, options or TransportOptions())


def recorded_images(credentials: Credentials, options: TransportOptions | None = None) -> Repositories:
    """Images wherever a release's record says they are, to verify, fetch and remove them. It pushes none."""
    return Repositories("", credentials, options or TransportOptions())


class Repositories:
    """See `open_images` and `registry.Images`. Threads may share it."""

    def __init__(self, prefix: str, credentials: Credentials, options: TransportOptions) -> None:
        self.prefix = prefix
        self._credentials = credentials
        self._options = options
        self._lock = threading.Lock()
        self._accounts: dict[str, ecr.Ecr] = {}

    def push(self, layout_dir: Path, name: str) -> str:
        """See `Images.push`. PackError when the layout holds more than its image; ServiceError when the registry refuses."""
        assert self.prefix, "nobody said where images go"
        pushed_image = layout.read(layout_dir)
        target = reference.parse(f"{self.prefix}/{name}")
        _check_nothing_else(layout_dir, pushed_image)
        if amazon := self._amazon(target.host):
            amazon.make_repository(target.repository)
        pushed = image.digest(pushed_image)
        with self._explained(target, ecr.PUSH):
            # All 64 digits, because a registry with immutable tags would refuse the second of two digests that begin alike.
            remote.push(pushed_image, f"{target}:sha-{pushed.hex}@{pushed}", self._who(target), self._options)
        return f"{target}@{pushed}"

    def fetch(self, pushed: str, layout_dir: Path, layouts: Mapping[str, Digest]) -> None:
        """See `Images.fetch`. ServiceError when the registry refuses, or has something else."""
        source, folder = _parse(pushed), layout_dir / "blobs"
        for path, each in layouts.items():
            if (layout_dir / path).is_file() and digest.of_file(layout_dir / path) != each:
                (layout_dir / path).unlink()
        with self._explained(source, ecr.PULL):
            try:
                # An architecture would only choose among several images; a digest that was pushed here names one.
                remote.fetch(source, "amd64", folder, self._who(source), self._options)
            except PackError as error:
                raise ServiceError(f"{pushed}: the registry has something else there: {error}") from error
        for file in (folder / "sha256").iterdir():
            if file.relative_to(layout_dir).as_posix() not in layouts:
                file.unlink()
        if missing := sorted(path for path in layouts if not (layout_dir / path).is_file()):
            raise ServiceError(f"{pushed}: the release has {', '.join(missing)}, and the image in the registry does not")

    def check(self, pushed: str) -> str | None:
        """See `Images.check`: the manifest is read, and of each of its blobs that it is there with its size."""
        target = _parse(pushed)
        with self._explained(target, ecr.PULL), RegistrySession(target, "pull", self._who(target), self._options) as session:
            data = retrying(self._options, partial(_manifest, session))
            if data is None:
                return "missing"
            if digest.of_bytes(data) != target.digest:
                return f"damaged: its bytes have the digest {digest.of_bytes(data)}"
            try:
                config, layers = image.descriptors(media.load_json(data, "manifest"))
            except PackError as error:
                return f"damaged: {error}"
            for each in dict.fromkeys((config, *layers)):
                size = retrying(self._options, partial(_size, session, each.digest))
                if size != each.size_bytes:
                    there = "an unknown number of" if size == -1 else str(size)
                    problem = "missing" if size is None else f"damaged: it has {there} bytes instead of {each.size_bytes}"
                    return f"its blob {each.digest} is {problem}"
        return None

    def delete(self, pushed: str) -> None:
        """See `Images.delete`. ImageRefusedError when the registry refuses: some never let anything be deleted."""
        target = _parse(pushed)
        assert target.digest is not None
        if amazon := self._amazon(target.host):
            return amazon.delete(target.repository, target.digest)
        with RegistrySession(target, "pull,delete", self._who(target), self._options) as session:
            url, accepted = session.url(f"manifests/{target.digest}"), frozenset({200, 202, 204, 404})
            try:
                retrying(self._options, lambda: discard(session.request("DELETE", url, accept=accepted)))
            except HttpError as error:
                if error.status in _NEVER:
                    raise ImageRefusedError(
                        f"{pushed} cannot be deleted: {target.host} does not allow it ({error.status}). Allow it there "
                        "(docker-registry: storage.delete.enabled), or delete it by the registry's own means"
                    ) from error
                if error.status == _NOT_BY_US:
                    raise ImageRefusedError(f"{pushed} cannot be deleted with these credentials: {error}") from error
                raise
        return None

    def _who(self, target: ImageReference) -> Credentials:
        """The credentials for a host: Amazon's registry has its own way; any other host gets the given ones."""
        return self._credentials if self._amazon(target.host) is None else self._to_amazon

    def _to_amazon(self, host: str) -> tuple[str, str] | None:
        amazon = self._amazon(host)
        assert amazon is not None
        try:
            return amazon.credentials()
        except MlpackError:
            if identity := self._credentials(host):
                return identity
            raise

    def _amazon(self, host: str) -> ecr.Ecr | None:
        account = ecr.of_host(host)
        if account is None:
            return None
        with self._lock:
            return self._accounts.setdefault(host, ecr.Ecr(account))

    @contextmanager
    def _explained(self, target: ImageReference, actions: tuple[str, ...]) -> Iterator[None]:
        """A context in which a refusal of Amazon's also shows the policy statement that would allow these."""
        try:
            yield
        except HttpError as error:
            account = ecr.of_host(target.host)
            if account is None or error.status not in (401, 403):
                raise
            line = ecr.statement(actions, account.arn(target.repository))
            raise ServiceError(f"{error}. In its policy this allows it:\n{line}") from error


def _parse(pushed: str) -> ImageReference:
    """A reference by digest. RecordError when a record has anything else."""
    try:
        parsed = reference.parse(pushed)
    except PackError as error:
        raise RecordError(f"the record of an image is damaged: {error}") from error
    if parsed.digest is None:
        raise RecordError(f"the record of an image is damaged: {pushed!r} has no digest")
    return parsed


def _check_nothing_else(layout_dir: Path, pushed: image.Image) -> None:
    """Raise unless the layout holds only what belongs to the image: anything else could not be fetched again."""
    expected = {image.digest(pushed), digest.of_bytes(pushed.config_bytes), *(layer.digest for layer in pushed.layers)}
    actual = {path.name for path in (layout_dir / "blobs" / "sha256").iterdir()}
    if more := sorted(actual - {each.hex for each in expected}):
        raise PackError(f"{layout_dir} holds blobs that are no part of its image, which would be lost: {', '.join(more)}")


def _manifest(session: RegistrySession) -> bytes | None:
    """The bytes of the manifest that the session's reference names; None when it does not exist."""
    url = session.url(f"manifests/{session.named.digest}")
    response = session.request("GET", url, headers={"Accept": _ACCEPT}, accept=frozenset({200, 404}))
    if response.status == 404:
        discard(response)
        return None
    return read_bounded(response)


def _size(session: RegistrySession, blob: Digest) -> int | None:
    """The size of a blob in bytes, None when it does not exist, -1 when the registry sends no number."""
    response = session.request("HEAD", session.url(f"blobs/{blob}"), accept=frozenset({200, 404}))
    discard(response)
    if response.status == 404:
        return None
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length, re.ASCII) else -1
