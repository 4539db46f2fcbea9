"""Addresses s3://bucket/key, and what is read and written there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Clients = Callable[[str], Any]
"""A client of boto3's for a service's name."""
_clients: dict[str, Any] = {}


class Place(NamedTuple):
    """An object, or the begin of the keys of several."""

    bucket: str
    key: str

    def below(self, name: str) -> Place:
        """The object of this name, in this folder."""
        return Place(self.bucket, f"{self.key.rstrip('/')}/{name}".lstrip("/"))


def clients(service: str) -> Any:
    """boto3's, which is where functions and builds run; one of each."""
    if service not in _clients:
        import boto3

        _clients[service] = boto3.client(service)
    return _clients[service]


def place_of(uri: str) -> Place:
    """Raises ValueError."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ValueError(f"{uri[:200]!r} is no address: s3://bucket/key is needed")
    return Place(bucket, key)


def objects(s3: Any, place: Place) -> Iterator[dict[str, Any]]:
    """`Key`, `Size` and `ETag` of all objects whose keys begin so, in the order of keys."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=place.key):
        yield from (one for one in page.get("Contents", ()) if not one["Key"].endswith("/"))


def read(s3: Any, place: Place) -> bytes:
    """An object's bytes."""
    body: bytes = s3.get_object(Bucket=place.bucket, Key=place.key)["Body"].read()
    return body


def read_json(s3: Any, place: Place) -> Any:
    """An object as JSON; None where it is not there."""
    from botocore.exceptions import ClientError

    try:
        return json.loads(read(s3, place))
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return None
        raise


def write_json(s3: Any, place: Place, value: Any) -> None:
    """The same value, the same bytes."""
    body = json.dumps(value, sort_keys=True, indent=1).encode()
    s3.put_object(Bucket=place.bucket, Key=place.key, Body=body, ContentType="application/json")
