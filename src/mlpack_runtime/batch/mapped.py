"""Items of a Step Functions map that its own reader has taken out of a manifest, to the requests that a package takes.

    {"id": ..., "request": {...}}, {"object": "s3://..."}, ...     as lines of a manifest (`items`)
    {"Bucket": ..., "Key": ...}                                    of an S3 inventory: the object's bytes are the request
    {"Key": ..., "Etag": ..., ...}                                 of a list of objects; the bucket is `BatchInput`'s
    {column: text, ...}                                            of CSV: requests as they are, or by `BatchInput`'s columns

    "BatchInput": {"columns": {"text": "review"}, "bucket": "name"}

Promises: an item in none of these forms is a request, as it is. Will not: answer.
"""

from mlpack_runtime import jsontext
from mlpack_runtime.aws import objects
from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.batch.items import Item, Opener, opened
from mlpack_runtime.batch.orders import columns_of
from mlpack_runtime.batch.reading.records import Record
from mlpack_runtime.jsontext import text_of
from mlpack_runtime.protocol import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mlpack_runtime.model import Described

_LISTED = frozenset(
    ("Bucket", "Key", "Etag", "ETag", "LastModified", "Size", "StorageClass", "VersionId", "IsLatest", "IsDeleteMarker")
)


class Mapped:
    """The items of an event. Raises RequestError where its `BatchInput` makes no sense."""

    def __init__(self, model: "Described", given: object) -> None:
        self._model = model
        self._bucket = text_of(given, "bucket")
        try:
            self._columns = columns_of(given.get("columns")) if isinstance(given, dict) else {}
        except BatchError as error:
            raise RequestError(str(error), 400, "InvalidBatch") from None
        self._openers: dict[tuple[str, ...], Opener] = {}

    def request(self, item: "Any") -> "Any":
        """What is asked for: a value, or an `objects.Place`. Raises RequestError."""
        if type(item) is not dict:
            return item
        if "Key" in item and item.keys() <= _LISTED:
            bucket = text_of(item, "Bucket") or self._bucket
            if not bucket:
                raise RequestError(
                    'the item is an object without its bucket: give the map\'s ItemBatcher "BatchInput": {"bucket": ...}'
                )
            return objects.Place(bucket, text_of(item, "Key"), text_of(item, "VersionId"))
        if self._columns:
            return _asked(self._row(item))
        _, request = opened(item)
        return item if request is item else _asked(self._line(item))

    def _row(self, item: "dict[str, Any]") -> Item:
        names = tuple(item)
        if names not in self._openers:
            try:
                self._openers[names] = Opener(self._model, list(names), self._columns)
            except BatchError as error:
                raise RequestError(str(error)) from None
        return self._openers[names].item(Record(0, 0, list(item.values())))

    def _line(self, item: "dict[str, Any]") -> Item:
        return Opener(self._model, None, {}).item(Record(0, 0, jsontext.dumps(item).encode()))


def _asked(item: Item) -> "Any":
    if item.problem is not None:
        raise item.problem
    if item.place:
        place = objects.place_at(item.place)
        if place is None:
            raise RequestError(f"the object {item.place[:100]!r} is no address: s3://bucket/key is needed")
        return place
    return jsontext.loads(item.body)
