"""Tests whether an object store like S3 honours conditional writes, with a small object of a fixed name.

Some stores accept `If-None-Match: *` and write all the same (`rclone serve s3`, s3rver). A test is therefore better than trust.

Promises:
- A store that honours them keeps one small object for good and gets two requests (three the first time, four more for uploads
  in parts).
- Nothing is deleted, so no right to delete is needed.
- Several tests at once, and rules that remove the object, mislead nobody.

Will not: notice a store that honours conditions only sometimes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from mlpack.core import retry

NAME = "!conditional-writes"
"""The object's name below the caller's prefix. No digest and no name of a model, a release or a request has an exclamation mark."""
_TAKEN = 3
"""So many writes must overwrite before a store is said to: a process that removes the object meanwhile would have to do so
twice."""
_LOOKS, _PAUSE_S = 4, 0.1
"""How often a new object is looked for: some stores show it a moment later."""
_CONFLICTS = 6
_AMAZON = (".amazonaws.com", ".amazonaws.com.cn")

_kept: set[tuple[str, str]] = set()


class _UnknownConditionError(Exception):
    """The store answers that it does not know the condition."""


def is_amazons(client: Any) -> bool:
    """Whether a boto3 client uses Amazon's own service, whose documentation guarantees conditions. Outposts are tested."""
    host = urlsplit(str(client.meta.endpoint_url)).hostname or ""
    return host.endswith(_AMAZON) and "outposts" not in host


def is_open(client: Any, what: str) -> bool:
    """Whether this process has not tested a store for `what` yet."""
    return not is_amazons(client) and (what, str(client.meta.endpoint_url)) not in _kept


def remember(endpoint: str, what: str) -> None:
    """Record that the store keeps `what`: this process need not test it again."""
    _kept.add((what, endpoint))


def of_objects(client: Any, bucket: str, key: str) -> str:
    """What the store does with a PutObject that must not overwrite, in words; "" when it refuses it. Raises what boto3 raises."""

    def write(text: str) -> bool:
        return _put(lambda: client.put_object(Bucket=bucket, Key=key, Body=text.encode(), IfNoneMatch="*"))

    try:
        return _refusal(write, lambda: _read(client, bucket, key))
    except _UnknownConditionError as error:
        return f"it answers {error} to a write with `If-None-Match: *`"


def of_parts(client: Any, bucket: str, key: str) -> str:
    """As `of_objects`, for an upload in parts; call it where `of_objects` returned ""."""
    for _ in range(_TAKEN - 1):
        upload = {"Bucket": bucket, "Key": key}
        upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
        try:
            tag = client.upload_part(**upload, PartNumber=1, Body=secrets.token_bytes(16))["ETag"]
            parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
            if not _put(partial(client.complete_multipart_upload, **upload, MultipartUpload=parts, IfNoneMatch="*")):
                return ""
        except _UnknownConditionError as error:
            return f"it answers {error} to the end of an upload in parts with `If-None-Match: *`"
        finally:
            with suppress(Exception):  # any error: the bucket's rule removes remaining parts
                client.abort_multipart_upload(**upload)
    return "it ends an upload in parts that says `If-None-Match: *` over what is there"


def _put(send: Callable[[], object]) -> bool:
    """Whether the object was written; False when the store refused, because an object is there already.

    Raises _UnknownConditionError, or whatever boto3 raises."""
    from botocore.exceptions import ClientError

    def again(error: Exception, number: int) -> float | None:
        status, code = _refused(error) if isinstance(error, ClientError) else (None, "")
        return _PAUSE_S * (number - 1) if status == 409 or code == "ConditionalRequestConflict" else None

    try:
        retry.call(send, _CONFLICTS, again)
    except ClientError as error:
        status, code = _refused(error)
        if status == 412 or code in ("PreconditionFailed", "412", "NoSuchKey"):
            return False
        if status == 501 or code == "NotImplemented":
            raise _UnknownConditionError(f"{status} {code}") from error
        raise
    return True


def _refused(error: Any) -> tuple[object, str]:
    """The status and the code with which a store refused a request."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode"), code


def _read(client: Any, bucket: str, key: str) -> str | None:
    from botocore.exceptions import ClientError

    try:
        return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read()).decode(errors="replace")
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404", "NotFound"):
            return None
        raise


def _refusal(write: Callable[[str], bool], read: Callable[[], str | None]) -> str:
    """What a store does with a `write` on the condition that nothing exists, which returns False when refused; "" when that is
    right."""
    for _ in range(_TAKEN):
        mine = secrets.token_hex(16)
        if write(mine):
            continue
        for _ in retry.attempts(_LOOKS, lambda number: _PAUSE_S * 2 ** (number - 1)):
            there = read()
            if there is not None:
                return "it says that it refuses a write with `If-None-Match: *`, and writes all the same" if there == mine else ""
        return "it refuses a write with `If-None-Match: *` as if something were there, and nothing is"
    return "it takes a write that says `If-None-Match: *`, and overwrites what is there"
