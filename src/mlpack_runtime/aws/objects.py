"""Objects of a bucket that are requests: where they lie, and their bytes.

Promises: no more is read than the package takes; what asking again does not change is a RequestError, anything else is left to
`aws.failures()`. Will not: list, write, or follow what an object holds.
"""

from mlpack_runtime import aws, protocol
from mlpack_runtime.limits import Limits, quoted, too_large
from mlpack_runtime.protocol import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ABSENT = ("NoSuchKey", "NoSuchBucket", "NoSuchVersion")
_NO_PLACE = ("InvalidBucketName", "KeyTooLongError", "InvalidObjectState", "InvalidURI")
"""Answers of S3 that asking again does not change."""


class Place:
    """An object. `version`: of it, "" for the one that is there; `size` in bytes, where it is known."""

    __slots__ = ("bucket", "key", "size", "version")

    def __init__(self, bucket: str, key: str, version: str = "", size: int = 0) -> None:
        self.bucket = bucket
        self.key = key
        self.version = version
        self.size = size

    @property
    def uri(self) -> str:
        """As people write it."""
        return f"s3://{self.bucket}/{self.key}"


def place_at(uri: str) -> "Place | None":
    """The object at s3://bucket/key, whose key is as it stands: it may begin or end with a slash; None for any other address."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    return Place(bucket, key) if scheme == "s3" and bucket and key else None


def fetch(s3: "Any", place: Place, limits: Limits, admit: "Callable[[int], None] | None" = None) -> "tuple[bytes, dict[str, str]]":
    """An object's bytes and what it says of them, as headers of a request. `admit` is told how many they are before they are read,
    and may raise. Raises RequestError, `aws.failures()`."""
    if place.size > limits.body_bytes:
        raise too_large("body_bytes", "bytes of the payload:", place.size, limits)
    version = {"VersionId": place.version} if place.version else {}
    try:
        answer = s3.get_object(Bucket=place.bucket, Key=place.key, **version)
    except aws.failures() as error:
        if aws.code(error) in _ABSENT:
            raise RequestError(f"payload: nothing at {quoted(place.uri)}", 404, "NotFound") from None
        if aws.code(error) in _NO_PLACE or aws.is_malformed(error):
            raise RequestError(f"payload: {quoted(place.uri)}: {aws.told(error)}") from None
        raise
    if answer["ContentLength"] > limits.body_bytes:
        raise too_large("body_bytes", "bytes of the payload:", answer["ContentLength"], limits)
    if admit is not None:
        admit(answer["ContentLength"])
    told = {
        "content-type": answer.get("ContentType"),
        "content-encoding": answer.get("ContentEncoding", "")
        .replace("aws-chunked", "")
        .strip(", "),  # of its upload, in some stores
        protocol.HEADER_LENGTH: answer.get("Metadata", {}).get(protocol.HEADER_LENGTH),
    }
    return bytes(answer["Body"].read()), {name: value for name, value in told.items() if value}
