"""Where the results of a batch lie: a folder of files, each written whole, on this machine or in a bucket.

Promises: `put_new` writes where nothing is, or says that something is there, whoever else writes; `replace` replaces one version
and no other; a file is there whole or not at all, whenever whoever writes it is killed. Will not: know what the files hold.
"""

from mlpack_runtime import aws
from mlpack_runtime.aws import promises
from mlpack_runtime.batch.errors import BatchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Folder(Protocol):
        """Files by name; names may have slashes. All raise BatchError where the place does not answer."""

        uri: str

        def read(self, name: str) -> "tuple[bytes, str] | None":
            """(its bytes, a tag of this version); None where there is none."""

        def held(self, name: str) -> "tuple[bytes, str, float | None] | None":
            """As `read`, and for how many seconds it has been so at least, by the clock of this place; None where that is not
            known."""

        def put_new(self, name: str, data: bytes, note: "dict[str, str] | None" = None) -> bool:
            """Write it; False where there is one. `note`: short texts that `note` gives back."""

        def replace(self, name: str, data: bytes, tag: str) -> bool:
            """Write it in the place of this version; False where there is another."""

        def note(self, name: str) -> "dict[str, str] | None":
            """What was noted when it was written; None where there is none."""

        def names(self, prefix: str) -> "list[str]":
            """Those that begin so, in order."""


_FORBIDDEN = ("AccessDenied", "403", "Forbidden")
_RIGHTS = (
    ". The role needs s3:GetObject and s3:PutObject for the results, and s3:ListBucket for their bucket: without that S3 says so of"
    " what is not there yet"
)
_LOST = (
    "Two runners that have the same part of a manifest would both write its results, and the later ones would replace the first"
    " unseen."
)


class S3Folder:
    """Objects below a prefix. `unconditional`: the store keeps no conditions, and was agreed to."""

    def __init__(self, client: "Any", bucket: str, prefix: str) -> None:
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.unconditional = False

    def assure(self, warn: "Callable[[str], None]", *, unconditional: bool) -> None:
        """Ask the store whether it keeps conditions. Raises BatchError where it does not, unless that was agreed to."""
        if promises.is_amazons(self._client):
            return
        key = f"{self._prefix}{promises.NAME}"
        refusal = self._call(lambda: promises.in_bucket(self._client, self._bucket, key, replaced=True))
        try:
            promises.settle(self, refusal, promises.said(self.uri, refusal, _LOST), warn, unconditional=unconditional)
        except promises.PromiseError as error:
            raise BatchError(str(error), 4) from None

    def read(self, name: str) -> "tuple[bytes, str] | None":
        """One request."""
        held = self.held(name)
        return None if held is None else held[:2]

    def held(self, name: str) -> "tuple[bytes, str, float | None] | None":
        """The same request, whose answer says when it was made and when the object was written, to the second."""

        def get() -> "tuple[bytes, str, float | None]":
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            return bytes(answer["Body"].read()), str(answer["ETag"]), _age_s(answer)

        return self._call(get, promises.ABSENT)  # type: ignore[no-any-return]  # what `get` returns, or None

    def note(self, name: str) -> "dict[str, str] | None":
        """Its metadata."""
        answer = self._call(lambda: self._client.head_object(Bucket=self._bucket, Key=self._prefix + name), promises.ABSENT)
        return None if answer is None else dict(answer.get("Metadata", {}))

    def put_new(self, name: str, data: bytes, note: "dict[str, str] | None" = None) -> bool:
        """On the condition that there is none."""
        if self.unconditional and self.note(name) is not None:
            return False
        return self._put(name, data, note, {} if self.unconditional else {"IfNoneMatch": "*"})

    def replace(self, name: str, data: bytes, tag: str) -> bool:
        """On the condition that it is this version."""
        if self.unconditional and (self.read(name) or (b"", ""))[1] != tag:
            return False
        return self._put(name, data, None, {} if self.unconditional else {"IfMatch": tag})

    def names(self, prefix: str) -> "list[str]":
        """By as many requests as there are thousands."""
        names: list[str] = []
        more: dict[str, str] = {}
        while True:
            told = {"Bucket": self._bucket, "Prefix": self._prefix + prefix, **more}
            answer = self._call(lambda told=told: self._client.list_objects_v2(**told))  # type: ignore[misc]
            names += [row["Key"][len(self._prefix) :] for row in answer.get("Contents", ())]
            if not answer.get("IsTruncated"):
                return sorted(names)
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def _put(self, name: str, data: bytes, note: "dict[str, str] | None", condition: "dict[str, str]") -> bool:
        put = {
            "Bucket": self._bucket,
            "Key": self._prefix + name,
            "Body": data,
            "ContentType": "application/x-ndjson" if name.endswith(".jsonl") else "application/json",
            "Metadata": note or {},
            **condition,
        }
        return bool(self._call(lambda: promises.conditional(lambda: self._client.put_object(**put))))

    def _call(self, work: "Callable[[], Any]", absent: "tuple[str, ...]" = ()) -> "Any":
        try:
            return work()
        except aws.failures() as error:
            if aws.code(error) in absent:
                return None
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> BatchError:
        why = _RIGHTS if aws.code(error) in _FORBIDDEN else ""
        return BatchError(f"{self.uri}: {aws.told(error)}{why}", 4)


def _age_s(answer: "Any") -> "float | None":
    """How old an object is at least; both times are the store's and in whole seconds."""
    from email.utils import parsedate_to_datetime

    try:
        asked = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return float((asked - answer["LastModified"]).total_seconds()) - 1
    except (KeyError, ValueError, TypeError):  # no such header, or one that is no time
        return None
