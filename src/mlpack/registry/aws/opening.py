"""Opens a registry on AWS: releases in a DynamoDB table, blobs in an S3 bucket.

    s3://bucket/prefix?table=NAME&region=REGION

`table` defaults to `mlpack-registry`, `region` to the region that boto3 finds. Several registries may share a table: each row
is stored under the registry's bucket and prefix.
"""

from __future__ import annotations

import re
import time
from urllib.parse import parse_qsl

from mlpack.errors import RecipeError
from mlpack.registry import Images, Place
from mlpack.registry.aws.clients import Address, Clients, Timeouts
from mlpack.registry.releases.releases import Registry

TABLE = "mlpack-registry"
"""The default table."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*")
_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")


def parse(where: str) -> Address:
    """The address that `s3://bucket/prefix?table=NAME&region=REGION` means. RecipeError on anything else."""
    rest = where.removeprefix("s3://")
    path, _, query = rest.partition("?")
    bucket, _, prefix = path.partition("/")
    prefix = prefix.strip("/")
    try:
        options = dict(parse_qsl(query, strict_parsing=True, keep_blank_values=True)) if query else {}
    except ValueError as error:
        raise _no_address(where, f"{query!r} is not table=NAME") from error
    table, region = options.pop("table", TABLE), options.pop("region", None)
    for name, text, form in (("bucket", bucket, _BUCKET), ("table", table, _TABLE), ("region", region, _REGION)):
        if text is not None and form.fullmatch(text) is None:
            raise _no_address(where, f"{text!r} is not the name of a {name}")
    if prefix and (_PREFIX.fullmatch(prefix) is None or {".", ".."} & set(prefix.split("/"))):
        raise _no_address(where, f"{prefix!r} is not a prefix: use letters, digits, dashes and slashes")
    if options or rest == where:
        raise _no_address(where, f"{sorted(options)[0]!r} is not known" if options else "it does not begin with s3://")
    return Address(bucket=bucket, prefix=prefix, table=table, region=region)


def _no_address(where: str, why: str) -> RecipeError:
    return RecipeError(f"{where}: {why}; write s3://bucket/prefix?table=NAME, and &region=REGION when it is not the machine's own")


def open_registry(where: str, images: Images | None = None, patience: Timeouts | None = None) -> Registry:
    """The registry at an address; sends no request yet. RecipeError when it is no address, or boto3 is not installed."""
    address = parse(where)
    clients = Clients(address, patience or Timeouts())
    return Registry(place_of(clients, address), images)


def place_of(clients: Clients, address: Address) -> Place:
    """The table and the blobs at an address."""
    from mlpack.registry.aws import promises
    from mlpack.registry.aws.dynamodb import DynamoTable
    from mlpack.registry.aws.s3 import S3Blobs

    table, blobs = DynamoTable(clients, address), S3Blobs(clients, address)
    doubts = promises.elsewhere(clients, "s3", blobs.doubt), promises.elsewhere(clients, "dynamodb", table.doubt)
    return Place(where=str(address), table=table, blobs=blobs, now=time.time, doubts=doubts)
