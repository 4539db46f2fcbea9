"""How long it takes to page through 10,000 releases, whole process not counted: heads, as `mlpack list` shows them.

In a directory, and on AWS: against moto over HTTP on loopback, in a process of its own. Beside it stands what boto3 alone takes for
the same pages of the same table, most of which is moto's own time. Figure: under 2 s.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent.parent)]

from common import Row, parser, report, scratch, spread  # noqa: E402 - bench/ is no package

RELEASES, NAME, FIGURE_S = 10_000, "minilm", 2.0


def main() -> int:
    """Fill both, then list them in turns."""
    options = parser(__doc__, runs=5).parse_args()
    from tests.support.services.aws_server import AwsServer

    from mlpack.registry.places import open_registry

    server = AwsServer().start()
    os.environ.update(server.environment)
    try:
        with scratch() as work:
            where = {"directory": str(work / "registry"), "AWS (moto)": server.make_place()}
            for place in where.values():
                fill(place)
            client, table = server.client("dynamodb"), where["AWS (moto)"].partition("table=")[2]
            sides: dict[str, Callable[[], int]] = {
                name: lambda place=place: sum(1 for _ in open_registry(place).listed(NAME)) for name, place in where.items()
            }
            sides["boto3 alone, the same pages"] = lambda: pages(client, table)
            samples: dict[str, list[float]] = {name: [] for name in sides}
            for round_ in range(options.runs + 1):
                for name, side in sides.items():
                    began = time.perf_counter()
                    found = side()
                    assert found == RELEASES, f"{name}: {found} releases"
                    if round_:
                        samples[name].append(time.perf_counter() - began)
    finally:
        server.stop()
    rows = [
        Row(
            name=name,
            value=statistics.median(taken),
            unit="s",
            detail=spread(taken),
            at_most=None if name.startswith("boto3") else FIGURE_S,
        )
        for name, taken in samples.items()
    ]
    return report("registry_listing", rows, f"{RELEASES:,} releases of one name", options.out)


def fill(where: str) -> None:
    """Every row of so many releases, some releases in each transaction."""
    from mlpack.core.digest import of_bytes
    from mlpack.registry import SCHEMA, Key, Put
    from mlpack.registry.places import open_registry
    from mlpack.registry.records import Provenance
    from mlpack.registry.rows import rows
    from mlpack.registry.rows.manifest import Manifest, package_of

    place, writes = open_registry(where).place, list[Put]()
    for version in range(1, RELEASES + 1):
        artifact = {"candidate": "int8@lambda-zip-x86_64", "kind": "zip", "digest": str(of_bytes(b"zip")), "size_bytes": 3}
        files = {"build.json": of_bytes(str(version).encode())}
        manifest = Manifest(name=NAME, artifact=package_of(artifact, "artifact"), files=files, tags={})
        writes += rows.release_puts(rows.draft(manifest, Provenance(who="alice"), {}, rows.timestamp(place.now()), version))
        if version % 6 == 0 or version == RELEASES:
            place.table.commit(*writes)
            writes.clear()
    place.table.commit(Put(key=Key(rows.NAMES, NAME), head={}), Put(key=rows.SCHEMA_KEY, head={"version": SCHEMA}))
    place.table.close()


def pages(client: object, table: str) -> int:
    """Every item of the partition with the same projection, by boto3's own paginator."""
    asked = {
        "TableName": table,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": partition(client, table)}},
        "ProjectionExpression": "sk, rev, head",
        "ConsistentRead": True,
    }
    return sum(page["Count"] for page in client.get_paginator("query").paginate(**asked))  # type: ignore[attr-defined]


def partition(client: object, table: str) -> str:
    """The key of the partition of heads, as DynamoTable writes it: read, not known."""
    if table not in _KNOWN:
        from mlpack.registry.rows.rows import heads

        (found,) = client.scan(TableName=table, Limit=1, ProjectionExpression="pk")["Items"]  # type: ignore[attr-defined]
        _KNOWN[table] = f"{found['pk']['S'].partition(':')[0]}:{heads(NAME)}"
    return _KNOWN[table]


_KNOWN: dict[str, str] = {}


if __name__ == "__main__":
    sys.exit(main())
