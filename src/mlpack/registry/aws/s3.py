"""Blobs in an S3 bucket. It implements `mlpack.registry.Blobs`.

    PREFIX/blobs/sha256/ab/abcdef...      the SHA-256 is also in the object's metadata

Promises, besides those of the protocol:
- Two publishers of the same bytes leave one whole object, and neither of them fails.
- S3 verifies the checksum of everything that is sent. An upload that fails leaves no parts.
- At most `_SENDING` parts are in memory, however much is sent at once.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

from mlpack.core import interrupts, retry
from mlpack.core.digest import Digest
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import Doubt, Moved, StoredBlob
from mlpack.registry.aws import promises, ranged
from mlpack.registry.aws.clients import Address, Clients
from mlpack.registry.aws.ranged import CHUNK_BYTES, PARALLEL, ChangedError, OpenRange
from mlpack.registry.aws.refusals import AwsCall, code, explained, of_transport

_MOST_PARTS = 10_000
_CHECKSUM = "CRC32"
"""The checksum that S3 verifies for each part: of those that it knows the cheapest in Python's own library."""
_SENDING = 5
"""The most parts that all threads together send at once: each is in memory."""
_FETCHING = 10
"""The most parts that are received at once: a chunk of each is in memory."""
_TRIES, _PAUSES = 8, retry.spread(0.1, 3.2)
_PAGE = 1000
_LONGEST_URL_S = 7 * 24 * 3600
_MISSING = {"404", "NoSuchKey", "NotFound"}
_NOT_AS_EXPECTED = {"PreconditionFailed", "412"}
_AT_ONCE = {"ConditionalRequestConflict", "OperationAborted", "409"}


class S3Blobs:
    """Blobs in S3. Threads may share it."""

    def __init__(self, clients: Clients, address: Address) -> None:
        self._clients = clients
        self._address = address
        self._sending = threading.BoundedSemaphore(_SENDING)
        self._fetching = threading.BoundedSemaphore(_FETCHING)
        self._once = promises.PromiseCheck("conditional writes"), promises.PromiseCheck("conditional writes in parts")

    def size(self, blob: Digest) -> int | None:
        """See `Blobs.size`."""
        head = self._head(blob)
        return int(head["ContentLength"]) if head is not None else None

    def put(self, blob: Digest, source: Path | bytes, moved: Moved = lambda _: None) -> bool:
        """See `Blobs.put`. An object that is not what its name says, as far as size and metadata tell, is replaced."""
        size = source.stat().st_size if isinstance(source, Path) else len(source)
        large = size > ranged.PART_BYTES
        send = self._send_large if large else self._send_small
        for _ in retry.attempts(_TRIES, _PAUSES):
            head = self._head(blob)
            if head is not None and head["ContentLength"] == size and _sha256(head) == blob.hex:
                return False
            self._once[large].sure(self._clients.get("s3"), lambda: self.doubt(parts=large))
            condition = {"IfMatch": head["ETag"]} if head is not None else {"IfNoneMatch": "*"}
            if send(blob, source, condition, moved):
                return True
        raise ServiceError(f"{self.uri(blob)}: others wrote it at the same moment, again and again: try again", retryable=True)

    def doubt(self, *, parts: bool = True) -> Doubt | None:
        """See `Place.doubts`."""
        return promises.of_bucket(self._clients, self._address, parts=parts)

    def read(self, blob: Digest) -> bytes:
        """See `Blobs.read`."""
        data = b"".join(self._whole(blob))
        if (actual := hashlib.sha256(data).hexdigest()) != blob.hex:
            raise self._damaged(blob, f"sha256:{actual}")
        return data

    def fetch(self, blob: Digest, path: Path, moved: Moved = lambda _: None) -> None:
        """See `Blobs.fetch`."""
        version = ranged.fetch(lambda begin, end, tag: self._range(blob, begin, end, tag), blob, path, moved, self._fetching)
        if version is not None:
            raise self._damaged(blob, version)

    def check(self, blob: Digest) -> str | None:
        """See `Blobs.check`."""
        state = hashlib.sha256()
        try:
            for chunk in self._whole(blob):
                interrupts.check()
                state.update(chunk)
        except _MissingError:
            return "missing"
        return None if state.hexdigest() == blob.hex else f"damaged: its bytes have the digest sha256:{state.hexdigest()}"

    def list(self) -> Iterator[StoredBlob]:
        """See `Blobs.list`."""
        client = self._clients.get("s3")
        request: dict[str, Any] = {"Bucket": self._address.bucket, "Prefix": f"{self._folder}blobs/sha256/", "MaxKeys": _PAGE}
        while True:
            with explained(self._bucket_call("s3:ListBucket")):
                page = client.list_objects_v2(**request)
            for entry in page.get("Contents", ()):
                try:
                    blob = Digest(f"sha256:{entry['Key'].rpartition('/')[2]}")
                except ValueError:
                    continue  # not a blob of the registry
                if entry["Key"] == self._key(blob):
                    yield StoredBlob(digest=blob, size_bytes=entry["Size"], modified=entry["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            following = page.get("NextContinuationToken")
            if not following or following == request.get("ContinuationToken"):
                raise ServiceError(f"{self._address}: the bucket's list is not complete and has no token to continue with")
            request["ContinuationToken"] = following

    def delete(self, blob: Digest) -> None:
        """See `Blobs.delete`. In a bucket with versions the bytes stay as an old version, until the bucket's rules end it."""
        client = self._clients.get("s3", once=True)
        with explained(self._call("s3:DeleteObject", blob)):
            client.delete_object(**self._at(blob))

    def uri(self, blob: Digest) -> str:
        """See `Blobs.uri`."""
        return f"s3://{self._address.bucket}/{self._key(blob)}"

    def presign(self, blob: Digest, seconds: int) -> str:
        """See `Blobs.presign`. It ends earlier when the credentials that signed it do."""
        if seconds > _LONGEST_URL_S:
            raise RecipeError(f"{seconds} seconds: AWS signs URLs for at most {_LONGEST_URL_S} (seven days)")
        client = self._clients.get("s3")
        with explained(self._call("s3:GetObject", blob)):
            return str(client.generate_presigned_url("get_object", Params=self._at(blob), ExpiresIn=seconds))

    # --- sending -----------------------------------------------------------------------------------------------------

    def _send_small(self, blob: Digest, source: Path | bytes, condition: Mapping[str, str], moved: Moved) -> bool:
        """Whether the object exists now; False when another writer interfered."""
        client = self._clients.get("s3")
        with self._sending:
            data = source.read_bytes() if isinstance(source, Path) else source
            state = hashlib.sha256(data)
            self._check_source(blob, source, state.hexdigest())
            with explained(self._call("s3:PutObject", blob)):
                try:
                    checksum = base64.b64encode(state.digest()).decode()
                    client.put_object(
                        **self._at(blob), Body=data, ChecksumSHA256=checksum, Metadata={"sha256": blob.hex}, **condition
                    )
                except ClientError as error:
                    return self._settle(error)
        moved(len(data))
        return True

    def _send_large(self, blob: Digest, source: Path | bytes, condition: Mapping[str, str], moved: Moved) -> bool:
        """As `_send_small`, in several parts at once."""
        client, at = self._clients.get("s3"), self._at(blob)
        with explained(self._call("s3:PutObject", blob)):
            # S3 refuses parts with checksums in an upload that began without them, so each part has one too.
            begun = client.create_multipart_upload(**at, Metadata={"sha256": blob.hex}, ChecksumAlgorithm=_CHECKSUM)
            upload = {**at, "UploadId": begun["UploadId"]}
            try:
                parts = self._send_parts(blob, source, upload, moved)
                client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
            except BaseException as error:
                # No failure leaves parts behind. After a kill the bucket's rule for unfinished uploads removes them.
                with suppress(ClientError, BotoCoreError):
                    client.abort_multipart_upload(**upload)
                if isinstance(error, ClientError):
                    return self._settle(error)
                raise
        return True

    def _send_parts(
        self, blob: Digest, source: Path | bytes, upload: Mapping[str, str], moved: Moved
    ) -> Sequence[Mapping[str, Any]]:
        """Read, hash and send the parts. Returns what S3 needs to complete the upload."""
        client, state, stop = self._clients.get("s3"), hashlib.sha256(), threading.Event()
        size = source.stat().st_size if isinstance(source, Path) else len(source)
        each = max(ranged.PART_BYTES, -(-size // _MOST_PARTS))
        futures: list[Future[dict[str, Any]]] = []
        pool = ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="send")

        def send(number: int, data: bytes) -> dict[str, Any]:
            try:
                if stop.is_set():
                    return {}
                answer = client.upload_part(**upload, PartNumber=number, Body=data, ChecksumAlgorithm=_CHECKSUM)
            except BaseException:
                stop.set()
                raise
            finally:
                self._sending.release()
            moved(len(data))
            checksums = {key: value for key, value in answer.items() if key.startswith("Checksum") and key != "ChecksumType"}
            return {"PartNumber": number, "ETag": answer["ETag"], **checksums}

        def submit(stream: BinaryIO) -> bool:
            self._sending.acquire()  # the thread that sends the part releases it: it limits the parts in memory
            try:
                interrupts.check()
                data = stream.read(each)
                if data and not stop.is_set():
                    state.update(data)
                    futures.append(pool.submit(send, len(futures) + 1, data))
                    return True
            except BaseException:
                self._sending.release()
                raise
            self._sending.release()
            return False

        try:
            with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as stream:
                while submit(stream):
                    pass
            done = [future.result() for future in futures]
        finally:
            stop.set()
            pool.shutdown(wait=True)
        self._check_source(blob, source, state.hexdigest())
        return done

    def _settle(self, error: ClientError) -> bool:
        """False when another writer wrote at the same moment, or moved the object that we meant to replace: look again."""
        if code(error) in _NOT_AS_EXPECTED | _AT_ONCE | _MISSING | {"NoSuchUpload"}:
            return False
        raise error

    def _check_source(self, blob: Digest, source: Path | bytes, actual: str) -> None:
        if actual != blob.hex:
            what = source if isinstance(source, Path) else "these bytes"
            raise RecipeError(
                f"{what}: changed while it was published ({blob}, then sha256:{actual}); publish when the build has ended"
            )

    # --- reading -----------------------------------------------------------------------------------------------------

    def _head(self, blob: Digest) -> Mapping[str, Any] | None:
        client, at = self._clients.get("s3"), self._at(blob)
        with explained(self._call("s3:GetObject", blob)):
            try:
                answer: Mapping[str, Any] = client.head_object(**at)
            except ClientError as error:
                if code(error) in _MISSING:
                    return None
                # An answer to HEAD has no message. GET says whether the credentials have expired, or what else is wrong.
                try:
                    client.get_object(**at, Range="bytes=0-0")["Body"].close()
                except ClientError as why:
                    if code(why) in _MISSING:
                        return None
                    if code(why) != "InvalidRange":
                        raise
                raise
        return answer

    def _whole(self, blob: Digest) -> Iterator[bytes]:
        """All bytes of the object, in chunks. _MissingError when it does not exist."""
        opened = self._range(blob, 0, None, None)
        return opened.chunks

    def _range(self, blob: Digest, begin: int, end: int | None, tag: str | None) -> OpenRange:
        """The bytes from `begin` to before `end`; after a broken connection the rest is requested again."""
        answer = self._get(blob, begin, end, tag)
        if answer is None:
            return OpenRange(0, "", iter(()), lambda: None)
        total = int(str(answer["ContentRange"]).rpartition("/")[2]) if "ContentRange" in answer else int(answer["ContentLength"])
        last = total if end is None else min(end, total)
        chunks = self._chunks(blob, answer, begin, last)

        def close() -> None:
            chunks.close()
            answer["Body"].close()  # in case the iteration has not begun

        return OpenRange(total, answer["ETag"], chunks, close)

    def _chunks(self, blob: Digest, answer: Mapping[str, Any], begin: int, end: int) -> Generator[bytes, None, None]:
        call, at = self._call("s3:GetObject", blob), begin
        for number in retry.attempts(_TRIES, _PAUSES):
            if number > 1:
                again = self._get(blob, at, end, answer["ETag"])
                if again is None:
                    return
                answer = again
            try:
                while at < end:
                    chunk = answer["Body"].read(min(CHUNK_BYTES, end - at))
                    if not chunk:
                        break
                    at += len(chunk)
                    yield chunk
            except (HTTPClientError, IncompleteReadError) as error:
                if number == _TRIES:
                    raise of_transport(call, error) from error
            finally:
                answer["Body"].close()
            if at >= end:
                return
        raise of_transport(call, EOFError("it ended early"))

    def _get(self, blob: Digest, begin: int, end: int | None, tag: str | None) -> Mapping[str, Any] | None:
        """S3's answer; None when the range is empty. _MissingError, ChangedError."""
        client, request = self._clients.get("s3"), dict(self._at(blob))
        if begin or end is not None:
            request["Range"] = f"bytes={begin}-{end - 1 if end is not None else ''}"
        if tag is not None:
            request["IfMatch"] = tag
        with explained(self._call("s3:GetObject", blob)):
            try:
                answer: Mapping[str, Any] = client.get_object(**request)
            except ClientError as error:
                if code(error) in _MISSING:
                    raise _MissingError(str(self._damaged(blob, "missing"))) from error
                if code(error) == "InvalidRange":
                    return None
                if code(error) in _NOT_AS_EXPECTED:
                    raise ChangedError(f"{self.uri(blob)} was replaced while it was read: try again", retryable=True) from error
                raise
        return answer

    # --- names -------------------------------------------------------------------------------------------------------

    @property
    def _folder(self) -> str:
        return f"{self._address.prefix}/" if self._address.prefix else ""

    def _key(self, blob: Digest) -> str:
        return f"{self._folder}blobs/sha256/{blob.hex[:2]}/{blob.hex}"

    def _at(self, blob: Digest) -> dict[str, str]:
        return {"Bucket": self._address.bucket, "Key": self._key(blob)}

    def _call(self, action: str, blob: Digest) -> AwsCall:
        bucket = f"arn:{self._clients.partition}:s3:::{self._address.bucket}"
        grants = [(action, f"{bucket}/{self._folder}*")]
        if action == "s3:GetObject":
            grants.append(("s3:ListBucket", bucket))  # without this right S3 answers "denied" for a missing object
        return AwsCall(where=str(self._address), action=action, resource=f"{bucket}/{self._key(blob)}", grants=tuple(grants))

    def _bucket_call(self, action: str) -> AwsCall:
        return AwsCall(
            where=str(self._address), action=action, resource=f"arn:{self._clients.partition}:s3:::{self._address.bucket}"
        )

    def _damaged(self, blob: Digest, actual: str) -> ServiceError:
        return ServiceError(
            f"the blob {self.uri(blob)} is damaged ({actual} instead of {blob}); "
            "publish the same build again to repair it, or restore an earlier version of the object"
        )


def _sha256(head: Mapping[str, Any]) -> str:
    """The SHA-256 in an object's metadata. Some stores return the metadata's names in other letters."""
    return str({name.lower(): value for name, value in head["Metadata"].items()}.get("sha256"))


class _MissingError(ServiceError):
    """The object does not exist."""
