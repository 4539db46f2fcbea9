"""Features out of new objects: rows are held against the schema, those of one entity become its features, which go into the table.

Promises: an object with more than `tolerate` of wrong rows is refused before anything is written (its message comes again, and ends
among the dead letters); an object that comes twice, or late, changes nothing that is newer.
Will not: join objects: what a feature is made of stands in one object.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote_plus

from mlpack_jobs.places import Clients, Place, read
from mlpack_jobs.rows import ObjectError, rows

AT_ONCE = 16
VERSION = "features_at"
"""The attribute that says of which moment an item is."""
EXPIRES = "expires"
_TOLD = 5

BY: dict[str, Callable[[list[Any]], Any]] = {
    "last": lambda values: values[-1],
    "count": len,
    "sum": lambda values: math.fsum(map(float, values)),
    "mean": lambda values: math.fsum(map(float, values)) / len(values),
    "min": min,
    "max": max,
}
"""How the rows of one entity become one value. Missing values are left out; of nothing there is no feature, but a count of 0."""


class RefusedObject(Exception):  # noqa: N818  (a function's error is known by its class's name)
    """An object is not what the schema says."""


def run(settings: Mapping[str, Any], clients: Clients, event: Mapping[str, Any]) -> dict[str, Any]:
    """Take in the objects that an event is about: of S3 itself, of S3 in messages of a queue, or of EventBridge."""
    told, failures = [], []
    for identifier, content in _messages(event):
        try:
            told += [take(settings, clients, place, at) for place, at in _places(content)]
        except (RefusedObject, ObjectError) as error:
            if identifier is None:
                raise RefusedObject(str(error)) from error
            _log("ERROR", str(error))
            failures.append({"itemIdentifier": identifier})
    return {"objects": told, "batchItemFailures": failures}


def take(settings: Mapping[str, Any], clients: Clients, place: Place, at: str) -> dict[str, Any]:
    """One object's features into the table. `at`: when it was made. Raises RefusedObject."""
    columns, key = settings["columns"], settings["key"]
    by_entity: dict[Any, list[dict[str, Any]]] = {}
    problems, number = [], 0
    try:
        for row in rows(place.key, read(clients("s3"), place), columns):
            number += 1
            entity = row.values.get(key)
            if row.problem or entity in (None, ""):
                problems.append(f"row {row.number} {row.problem or f'has no {key}'}")
            else:
                by_entity.setdefault(entity, []).append(row.values)
    except ObjectError as error:
        raise RefusedObject(f"s3://{place.bucket}/{place.key}: {error}") from None
    if len(problems) > settings.get("tolerate", 0.01) * number:
        first = "; ".join(problems[:_TOLD])
        raise RefusedObject(f"s3://{place.bucket}/{place.key}: {len(problems)} of {number} rows are wrong: {first}")
    items = {entity: derive(settings, entity_rows) for entity, entity_rows in by_entity.items()}
    newer = _write(settings, clients("dynamodb"), items, at)
    told = {
        "object": f"s3://{place.bucket}/{place.key}",
        "rows": number,
        "wrong": len(problems),
        "entities": len(items),
        "newer": newer,
    }
    _log("INFO", "features", **told)
    return told


def derive(settings: Mapping[str, Any], entity_rows: list[dict[str, Any]]) -> dict[str, Any]:
    """An entity's features by name: those of `derive`, else the last value of each column."""
    key = settings["key"]
    rules = settings.get("derive") or {name: {"of": name, "by": "last"} for name in settings["columns"] if name != key}
    features = {}
    for name, rule in rules.items():
        values = [row[rule["of"]] for row in entity_rows if rule["of"] in row]
        if values or rule["by"] == "count":
            features[name] = BY[rule["by"]](values)
    return features


def attribute(value: Any) -> dict[str, Any]:
    """A value as DynamoDB has it: a number exactly as it was written, in at most 38 digits."""
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    return {"N": f"{Decimal(str(value)):.38g}"}


def _write(settings: Mapping[str, Any], client: Any, items: Mapping[Any, dict[str, Any]], at: str) -> int:
    """Set the features of each entity that is not newer. How many were."""
    expires = int(datetime.fromisoformat(at).timestamp()) + 86_400 * int(settings.get("ttl_days", 90))

    def one(pair: tuple[Any, dict[str, Any]]) -> int:
        entity, features = pair
        values = {VERSION: {"S": at}, EXPIRES: {"N": str(expires)}, **{name: attribute(value) for name, value in features.items()}}
        names = {f"#c{number}": name for number, name in enumerate(values)}
        pairs = ", ".join(f"#c{number} = :v{number}" for number in range(len(values)))
        try:
            client.update_item(
                TableName=settings["table"],
                Key={settings["key"]: attribute(entity)},
                UpdateExpression=f"SET {pairs}",
                ConditionExpression="attribute_not_exists(#c0) OR #c0 <= :v0",
                ExpressionAttributeNames=names,
                ExpressionAttributeValues={f":v{number}": value for number, value in enumerate(values.values())},
            )
        except client.exceptions.ConditionalCheckFailedException:
            return 1
        return 0

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(one, items.items()))


def _log(level: str, message: str, **more: Any) -> None:
    sys.stdout.write(json.dumps({"level": level, "message": message, **more}) + "\n")


def _messages(event: Mapping[str, Any]) -> Iterator[tuple[str | None, Any]]:
    """(the message's id, what is in it); None for an event that came without a queue."""
    records = event.get("Records") or []
    if records and "body" in records[0]:
        for record in records:
            yield record["messageId"], record["body"]
    else:
        yield None, event


def _places(content: Any) -> list[tuple[Place, str]]:
    """The objects that an event is about, with the time of each. Raises ObjectError."""
    try:
        told = json.loads(content) if isinstance(content, str) else content
        if told.get("detail-type") == "Object Created":
            detail = told["detail"]
            return [(Place(detail["bucket"]["name"], detail["object"]["key"]), _time(told["time"]))]
        return [
            (Place(record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])), _time(record["eventTime"]))
            for record in told.get("Records") or []  # a test event has none
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ObjectError(f"{str(content)[:200]!r} is no event of S3: {error!r}") from None


def _time(text: str) -> str:
    """In one form, so that times compare as texts."""
    return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="milliseconds")
