"""Pushes an image to a registry and pulls one from it.

Promises:
- A push sends no blob that the registry has. A large blob is streamed whole, and from its beginning again after a failure
  (without chunks: registries disagree on them).
- The manifest is sent by digest after its blobs, the tag last, and then the registry's answer is verified.
- A pull checks digest and size while bytes arrive, resumes after a failure, and renames a file into place only when it is
  whole.

Sources: distribution-spec 1.1; experience of ECR, GitHub's and Google's registries in go-containerregistry and others.
"""

from __future__ import annotations

import io
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, cast

from mlpack.core.digest import Digest, of_bytes
from mlpack.core.files import bounded
from mlpack.errors import NamingError, PackError, ServiceError
from mlpack.oci import blobs, compression, image, media, reference, selection
from mlpack.oci.distribution.auth import Credentials
from mlpack.oci.distribution.transport import (
    HttpError,
    RegistrySession,
    TransferProgress,
    TransportOptions,
    discard,
    read_bounded,
    retrying,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from urllib3 import BaseHTTPResponse

    from mlpack.oci.image import Image
    from mlpack.oci.reference import ImageReference

__all__ = ["Credentials", "PulledImage", "TransferProgress", "TransportOptions", "fetch", "pull", "push"]

_ACCEPT = ", ".join(sorted(media.MANIFESTS | media.INDEXES))
_DIGEST_HEADER = "Docker-Content-Digest"
MAX_LAYERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledImage:
    """An image, and the digest that its name led to: the index's where there was one, else the manifest's."""

    image: Image
    digest: Digest


def push(oci_image: Image, ref: str, credentials: Credentials | None = None, options: TransportOptions | None = None) -> Digest:
    """Send `oci_image` to `ref` and return its digest. Without a tag in `ref` it gets `latest`; with a digest, no tag is moved.

    PackError when `ref` is malformed or its digest is another image's. ServiceError when the registry fails.
    """
    target, options = reference.parse(ref), options or TransportOptions()
    digest = image.digest(oci_image)
    if target.digest not in {None, digest}:
        raise NamingError(f"{ref} asks for another image: this one is {digest}. Leave the digest out of the reference")
    report = _ProgressReport(options)
    with RegistrySession(target, "pull,push", credentials, options) as session:
        blobs: dict[Digest, tuple[int, Callable[[], BinaryIO]]] = {
            layer.digest: (layer.size_bytes, layer.open) for layer in oci_image.layers
        }
        config_digest = of_bytes(oci_image.config_bytes)
        blobs[config_digest] = (len(oci_image.config_bytes), lambda: io.BytesIO(oci_image.config_bytes))
        _all(options, (partial(_upload, session, report, d, size, opener) for d, (size, opener) in blobs.items()))
        _put_manifest(session, oci_image, str(digest))
        if target.tag or not target.digest:
            _put_manifest(session, oci_image, target.tag or "latest")
    return digest


def pull(
    ref: str, arch: str, blob_dir: Path, credentials: Credentials | None = None, options: TransportOptions | None = None
) -> Image:
    """The image `ref` for Linux on `arch`, or the only image with `selection.ANY`; its blobs are stored below `blob_dir`.

    NamingError: a malformed name, no such platform. ServiceError: the registry fails.
    """
    machine = arch if arch == selection.ANY else media.architecture(arch)
    return fetch(reference.parse(ref), machine, blob_dir, credentials, options or TransportOptions()).image


def fetch(
    source: ImageReference,
    arch: str,
    blob_dir: Path,
    credentials: Credentials | None,
    options: TransportOptions,
    pinned: Digest | None = None,
) -> PulledImage:
    """As `pull`, with the digest that the name led to. An image named by digest (`pinned` or in the name) that is already below
    `blob_dir` is read there, without a request to the registry."""
    with RegistrySession(source, "pull", credentials, options) as session:
        data, document = _manifest(session, blob_dir, str(pinned) if pinned else source.version)
        digest = of_bytes(data)
        if str(document.get("mediaType")) in media.INDEXES or "manifests" in document:
            at = f"{source.host}/{source.repository}"
            chosen = selection.choose(at, document, partial(_document, session, blob_dir), arch, tags=False)
            data, document = _manifest(session, blob_dir, str(chosen.descriptor.digest))
        described, layers = image.descriptors(document)
        _check_sizes(source, described, layers)
        report = _ProgressReport(options)
        _all(options, (partial(_download, session, report, blob_dir, each) for each in dict.fromkeys((described, *layers))))
    config_bytes = blobs.path_of(blob_dir, described.digest).read_bytes()
    oci_image = image.parse(data, config_bytes, lambda name: image.opener_in(blob_dir, name)())
    return PulledImage(image=oci_image, digest=digest)


def _check_sizes(source: ImageReference, described: media.Descriptor, layers: Sequence[media.Descriptor]) -> None:
    """PackError for an image that is too large to be used, before it is fetched and fills the disk."""
    if described.size_bytes > media.MAX_JSON_BYTES:
        raise PackError(f"{source}: a config of {described.size_bytes} bytes is refused")
    if len(layers) > MAX_LAYERS:
        raise PackError(f"{source}: {len(layers)} layers, more than the {MAX_LAYERS} that are taken (container engines: 127)")
    limit = bounded.setting("MLPACK_MAX_LAYER_MB", compression.MAX_UNCOMPRESSED_BYTES)
    if layers and (largest := max(layer.size_bytes for layer in layers)) > limit:
        raise PackError(f"{source}: a layer of {largest} bytes, more than {limit} (MLPACK_MAX_LAYER_MB): too large for any target")


class _ProgressReport:
    """Reports the progress of blobs to the caller, one call at a time."""

    def __init__(self, options: TransportOptions) -> None:
        self._call = options.progress
        self._lock = threading.Lock()

    def __call__(self, digest: Digest, state: str, done_bytes: int, total_bytes: int) -> None:
        if self._call:
            with self._lock:
                self._call(TransferProgress(digest=str(digest), state=state, done_bytes=done_bytes, total_bytes=total_bytes))


class _UploadReader(io.RawIOBase):
    """Reads a blob for an upload and reports its progress. It closes its source."""

    def __init__(self, source: BinaryIO, tell: Callable[[int], None]) -> None:
        super().__init__()
        self._source, self._tell, self._done = source, tell, 0

    def read(self, size: int = -1, /) -> bytes:
        chunk = self._source.read(size)
        self._done += len(chunk)
        if chunk:
            self._tell(self._done)
        return chunk

    def close(self) -> None:
        self._source.close()
        super().close()


def _all(options: TransportOptions, work: Iterable[Callable[[], None]]) -> None:
    """Run all of this work, some of it at a time; after the first failure, or Ctrl-C, nothing more begins."""
    stopped = threading.Event()

    def run(each: Callable[[], None]) -> None:
        if stopped.is_set():
            return
        try:
            each()
        except BaseException:
            stopped.set()
            raise

    with ThreadPoolExecutor(options.parallel, thread_name_prefix="registry") as pool:
        running = [pool.submit(run, each) for each in work]
        try:
            for each in running:
                each.result()
        finally:
            stopped.set()


def _upload(session: RegistrySession, report: _ProgressReport, digest: Digest, size: int, opener: Callable[[], BinaryIO]) -> None:
    def attempt() -> None:
        there = session.request("HEAD", session.url(f"blobs/{digest}"), accept=frozenset({200, 404}))
        discard(there)
        if there.status == 200:
            report(digest, "present", size, size)
            return
        location = _mounted_or_begun(session, digest)
        if location is None:
            report(digest, "mounted", size, size)
            return
        parts = urllib.parse.urlsplit(location)
        query = f"{parts.query}&digest={digest}" if parts.query else f"digest={digest}"
        done = session.request(
            "PUT",
            parts._replace(query=query).geturl(),
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
            body=lambda: cast("BinaryIO", _UploadReader(opener(), lambda count: report(digest, "moving", count, size))),
            accept=frozenset({201, 204}),
        )
        discard(done)
        report(digest, "done", size, size)

    def again() -> None:
        try:
            attempt()
        except HttpError as error:
            if error.status in {404, 416} and "blobs/uploads" in str(error):  # the registry forgot the upload: try a new one
                raise HttpError(str(error), retryable=True, status=error.status) from error
            raise

    retrying(session.options, again)


def _mounted_or_begun(session: RegistrySession, digest: Digest) -> str | None:
    """The address for the upload; None when the registry mounted the blob from another of its repositories. A refused mount is no
    error."""
    begin = session.url("blobs/uploads/")
    for source in session.options.mount_from[:1]:
        try:
            query = urllib.parse.urlencode({"mount": str(digest), "from": source})
            response = session.request("POST", f"{begin}?{query}", body=b"", accept=frozenset({201, 202}))
            discard(response)
            return None if response.status == 201 else session.follow(begin, response.headers.get("Location", ""))
        except ServiceError:
            continue
    response = session.request("POST", begin, body=b"", accept=frozenset({202}))
    discard(response)
    return session.follow(begin, response.headers.get("Location", ""))


def _put_manifest(session: RegistrySession, oci_image: Image, name: str) -> None:
    """Store the manifest under a tag or its digest, unless it exists, and verify that it does."""
    digest, url = image.digest(oci_image), session.url(f"manifests/{name}")
    kind = image.family(oci_image).manifest

    def attempt() -> None:
        if _there(session, url, kind) == digest:
            return
        headers = {"Content-Type": kind}
        discard(session.request("PUT", url, headers=headers, body=oci_image.manifest_bytes, accept=frozenset({200, 201, 202})))
        existing = _there(session, url, kind)
        if existing != digest:
            raise HttpError(
                f"{session.named}: the registry took {digest} as {name} and now has {existing}: somebody else pushed meanwhile?"
            )

    retrying(session.options, attempt)


def _there(session: RegistrySession, url: str, kind: str) -> Digest | None:
    """The digest of the manifest at `url`; None when there is none."""
    head = session.request("HEAD", url, headers={"Accept": kind}, accept=frozenset({200, 404}))
    discard(head)
    if head.status == 404:
        return None
    if digest_header := head.headers.get(_DIGEST_HEADER):
        return media.as_digest(digest_header, f"{url}: {_DIGEST_HEADER}")
    return of_bytes(read_bounded(session.request("GET", url, headers={"Accept": kind})))


def _manifest(session: RegistrySession, blob_dir: Path, version: str) -> tuple[bytes, dict[str, object]]:
    """A manifest or index, by tag or digest; it is stored below `blob_dir`."""
    expected = Digest(version) if version.startswith("sha256:") else None
    if expected and (path := blobs.path_of(blob_dir, expected)).is_file():
        with path.open("rb") as stream:
            data = stream.read(media.MAX_JSON_BYTES + 1)
        if of_bytes(data) == expected:
            return data, media.load_json(data, f"{session.named}: manifest")

    def attempt() -> tuple[bytes, str]:
        response = session.request("GET", session.url(f"manifests/{version}"), headers={"Accept": _ACCEPT})
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
        return read_bounded(response), kind

    data, kind = retrying(session.options, attempt)
    if expected and of_bytes(data) != expected:
        raise ServiceError(f"{session.named}: the registry gave other bytes for {expected} ({of_bytes(data)}): do not trust it")
    document = media.load_json(data, f"{session.named}: manifest")
    if document.setdefault("mediaType", kind) != kind and kind in media.MANIFESTS | media.INDEXES:
        raise PackError(
            f"{session.named}: the manifest calls itself {document['mediaType']}, the registry calls it {kind}: refused"
        )
    blobs.put(blob_dir, data)
    return data, document


def _document(session: RegistrySession, blob_dir: Path, descriptor: media.Descriptor) -> bytes:
    """A manifest, an index or a config; it is stored below `blob_dir`."""
    if descriptor.media_type in media.MANIFESTS | media.INDEXES:
        return _manifest(session, blob_dir, str(descriptor.digest))[0]
    if descriptor.size_bytes > media.MAX_JSON_BYTES:
        raise PackError(f"{session.named}: a config of {descriptor.size_bytes} bytes is refused")
    _download(session, _ProgressReport(session.options), blob_dir, descriptor)
    return blobs.path_of(blob_dir, descriptor.digest).read_bytes()


def _download(session: RegistrySession, report: _ProgressReport, blob_dir: Path, descriptor: media.Descriptor) -> None:
    if blobs.holds(blob_dir, descriptor.digest, descriptor.size_bytes):
        report(descriptor.digest, "present", descriptor.size_bytes, descriptor.size_bytes)
        return
    with blobs.incoming(blob_dir) as blob:
        retrying(session.options, lambda: _receive(session, report, blob, descriptor))
        blob.commit(descriptor.digest)
    report(descriptor.digest, "done", descriptor.size_bytes, descriptor.size_bytes)


def _receive(session: RegistrySession, report: _ProgressReport, blob: blobs.BlobWriter, descriptor: media.Descriptor) -> None:
    """Read the rest of a blob, from where the last attempt broke off if the server can; else from its beginning."""
    had = blob.size_bytes
    headers = {"Range": f"bytes={had}-"} if had else {}
    response = session.request(
        "GET", session.url(f"blobs/{descriptor.digest}"), headers=headers, accept=frozenset({200, 206, 416} if had else {200})
    )
    if response.status == 416 or not (response.headers.get("Content-Range") or f"bytes {had}-").startswith(f"bytes {had}-"):
        response.close()
        blob.restart()
        raise HttpError(f"{session.named}: the registry cannot go on with {descriptor.digest} where it broke off", retryable=True)
    if response.status == 200:
        blob.restart()
    _copy(response, blob, descriptor, lambda: report(descriptor.digest, "moving", blob.size_bytes, descriptor.size_bytes))
    if blob.digest() != descriptor.digest:
        actual = blob.digest()
        blob.restart()
        raise HttpError(
            f"{session.named}: the bytes that came for {descriptor.digest} have the digest {actual}: damaged on the way, or there",
            retryable=True,
        )


def _copy(response: BaseHTTPResponse, blob: blobs.BlobWriter, descriptor: media.Descriptor, tell: Callable[[], None]) -> None:
    import urllib3

    try:
        for chunk in response.stream(blobs.CHUNK_BYTES, decode_content=False):
            if blob.size_bytes + len(chunk) > descriptor.size_bytes:
                response.close()
                raise HttpError(
                    f"{descriptor.digest} should have {descriptor.size_bytes} bytes and has more: do not trust this registry"
                )
            blob.write(chunk)
            tell()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise HttpError(
            f"the download of {descriptor.digest} broke off after {blob.size_bytes} bytes: {error}", retryable=True
        ) from error
    if blob.size_bytes < descriptor.size_bytes:
        raise HttpError(
            f"the download of {descriptor.digest} ended after {blob.size_bytes} of {descriptor.size_bytes} bytes", retryable=True
        )
