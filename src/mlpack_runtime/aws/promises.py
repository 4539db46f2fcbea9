"""Whether a store keeps what "once" rests on: a write on the condition that nothing is there. It is asked with a small object or
item of a fixed name, and not believed: stores were seen that take the condition and overwrite all the same.

    PREFIX/MODEL/!conditional-writes      DynamoDB: an item with `id` = MODEL/!conditional-writes

Promises: it stays, so that no right to delete is needed, and no result can have its name; one who asks sends two small requests,
the first of all three; several at once, and rules that remove it, mislead nobody. Amazon's own services are not asked: their
documentation says it. Will not: find a store that keeps its promise only now and then.
"""

import os
from time import sleep

from mlpack_runtime import aws

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

UNCONDITIONAL = "MLPACK_RESULTS_UNCONDITIONAL"
"""Whether to go on at a store that does not keep its promise."""
NAME = "!conditional-writes"
_TAKEN = 3  # writes over one another: who removes it meanwhile would have to do so twice
_LOOKS, _PAUSE_S = 4, 0.1  # some stores show what was written a moment later
_CONFLICTS = 6
_AMAZON = (".amazonaws.com", ".amazonaws.com.cn")
_REFUSED = ("PreconditionFailed", "412", "ConditionalCheckFailedException")
ABSENT = ("NoSuchKey", "404", "NotFound")
"""What S3 says of an object that is not there."""
UNKNOWN = ("NotImplemented", "501")
"""What a store says of a condition that it does not know."""
_NO_VERSION = '"00000000000000000000000000000000"'


def is_waived(environment: "Mapping[str, str]") -> bool:
    """Whether `UNCONDITIONAL` says so."""
    return environment.get(UNCONDITIONAL, "") in ("1", "true")


class PromiseError(aws.AwsError):
    """A store does not keep what is needed. `status` is the process's exit status for it."""

    status = 4


def is_amazons(client: "Any") -> bool:
    """Whether a client speaks with Amazon's own service. Outposts are asked."""
    host = str(client.meta.endpoint_url).partition("://")[2].partition("/")[0].partition(":")[0]
    return host.endswith(_AMAZON) and "outposts" not in host


def in_bucket(client: "Any", bucket: str, key: str, *, replaced: bool = False) -> str:
    """What S3 does with a write that must not overwrite, and with `replaced` with one that may replace another version alone; ""
    where it is right. Raises `aws.failures()`."""

    def write(text: str, **condition: str) -> bool:
        return _asked(lambda: client.put_object(Bucket=bucket, Key=key, Body=text.encode(), **condition))

    def read() -> "str | None":
        try:
            return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read()).decode("utf-8", "replace")
        except aws.failures() as error:
            if aws.code(error) in ABSENT:
                return None
            raise

    try:
        found = _refusal(lambda text: write(text, IfNoneMatch="*"), read)
        if not found and replaced and write("", IfMatch=_NO_VERSION):
            found = "it takes a write that says `If-Match` with another version than is there"
    except _UnknownError as error:
        return f"it answers {error} to a write with a condition"
    return found


def in_table(client: "Any", table: str, name: str) -> str:
    """As `in_bucket`, of an item whose key is `id`."""

    def write(text: str) -> bool:
        item = {"id": {"S": name}, "token": {"S": text}}
        put = {"TableName": table, "Item": item, "ConditionExpression": "attribute_not_exists(id)"}
        return _asked(lambda: client.put_item(**put))

    def read() -> "str | None":
        item = client.get_item(TableName=table, Key={"id": {"S": name}}, ConsistentRead=True).get("Item")
        return str(item.get("token", {}).get("S")) if item else None

    try:
        return _refusal(write, read)
    except _UnknownError as error:
        return f"it answers {error} to a write with a condition"


def settle(place: "Any", found: str, sentence: str, warn: "Callable[[str], None]", *, unconditional: bool) -> None:
    """What follows from what was `found` of a place for results. PromiseError; with `unconditional` a warning, and the place is
    written to without conditions from then on."""
    if found and not unconditional:
        raise PromiseError(f"{sentence} Take another store for MLPACK_RESULTS, or go on all the same with {UNCONDITIONAL}=1")
    if found:
        place.unconditional = True
        warn(f"{sentence} It is used because {UNCONDITIONAL} is set: each write looks first")


def said(where: str, found: str, lost: str) -> str:
    """The sentence about a store that does not keep it."""
    return f"{where}: this store does not keep conditional writes: {found}. {lost}"


class _UnknownError(Exception):
    pass


def conditional(send: "Callable[[], object]") -> bool:
    """Whether a write with a condition was written; False where the condition refused it. Another writer's is waited for a moment.
    Raises `aws.failures()`."""
    for attempt in range(_CONFLICTS):
        try:
            send()
            return True
        except aws.failures() as error:
            code = aws.code(error)
            if code in _REFUSED + ABSENT:  # absent: the version that was to be replaced
                return False
            if code != "ConditionalRequestConflict" or attempt == _CONFLICTS - 1:
                raise
            sleep(_PAUSE_S * attempt)
    raise AssertionError


def _asked(send: "Callable[[], object]") -> bool:
    """As `conditional`. Raises _UnknownError where the store does not know conditions."""
    try:
        return conditional(send)
    except aws.failures() as error:
        if aws.code(error) in UNKNOWN:
            raise _UnknownError(aws.code(error)) from None
        raise


def _refusal(write: "Callable[[str], bool]", read: "Callable[[], str | None]") -> str:
    for _ in range(_TAKEN):
        mine = os.urandom(16).hex()
        if write(mine):
            continue
        for look in range(_LOOKS):
            there = read()
            if there is not None:
                return "it says that it refuses a write over what is there, and writes all the same" if there == mine else ""
            sleep(_PAUSE_S * 2**look)
        return "it refuses a write as if something were there, and nothing is"
    return "it takes a write on the condition that nothing is there, and overwrites what is"
