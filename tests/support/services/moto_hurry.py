"""moto's DynamoDB and SQS, faster: the same answers, by shorter ways.

For each row of a list moto takes 0.7 ms, most of it in walking through its type and in sorting everything twice; for each query it
looks at the whole table, and it copies that for each write of a transaction. That is too slow to see how long our own side takes,
and for histories of thousands of moves. `tests_slow/test_moto_hurry.py` compares the answers. Requests must come one at a time,
which `aws_moto` sees to. Of a queue moto counts all messages, reading the clock twice for each, for every one
that it gives out. It does nothing to other services.
"""

from __future__ import annotations

import base64
import collections
import copy
import functools
import gc
import heapq
import re
import string
from collections.abc import Callable
from typing import Any

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,37}")
_FLAT = {"S", "N", "B"}
"""Types whose values are strings, or bytes."""
_PLAIN = {"index_name", "consistent_read", "filter_expression", "hash_key_conditions", "range_key_conditions"}
"""What of `Table.query` does not change which items are looked at."""
_EVERY = 1 << 40


def hurry() -> None:
    """Change moto in this process, for good."""
    from moto import backends
    from moto.core import responses as responses_
    from moto.core import serialize
    from moto.dynamodb import responses
    from moto.dynamodb.models import DynamoDBBackend, dynamo_type, table, utilities
    from moto.moto_api._internal.moto_random import MotoRandom
    from moto.sqs.models import Queue, SQSBackend

    kind, item = dynamo_type.DynamoType, dynamo_type.Item
    for each in (serialize.BaseJSONSerializer, *serialize.BaseJSONSerializer.__subclasses__()):
        if "_serialize_type_map" in vars(each):
            each._serialize_type_map = mapped(each._serialize_type_map)
    responses.dynamo_to_dict = utilities.dynamo_to_dict = flattened(utilities.dynamo_to_dict, kind)
    kind.__lt__ = less
    item.size = counted(item.size)
    item.__deepcopy__ = duplicated(item, kind)
    item.project = picked(item)
    table.Table.all_items = unsorted_items
    table.Table.query = narrowed(table.Table.query)
    responses_.method_names_from_class = functools.cache(responses_.method_names_from_class)
    modules = tuple(backends.list_of_moto_modules())  # files that moto would look for at every request
    backends.list_of_moto_modules = lambda: iter(modules)
    gc.set_threshold(200_000, 20, 100)  # a large table is a million objects, which Python would look through at every page
    DynamoDBBackend.transact_write_items = shallow(DynamoDBBackend.transact_write_items, table.Table)
    Queue.messages = property(receivable)
    MotoRandom.get_random_string = letters
    SQSBackend.is_message_valid_based_on_retention_period = retained


def letters(self: Any, length: int = 20, include_digits: bool = True, lower_case: bool = False) -> str:
    """The name of an answer, of which each letter was drawn by itself."""
    text = "".join(self.choices(string.ascii_letters + (string.digits if include_digits else ""), k=length))
    return text.lower() if lower_case else text


def mapped(serialize: Callable[..., None]) -> Callable[..., None]:
    """An item's attributes are what they are to become, but for bytes, which become text; unless they hold more than that."""

    @functools.wraps(serialize)
    def map_(self: Any, serialized: dict[str, Any], value: Any, shape: Any, key: str) -> None:
        if shape.value.name == "AttributeValue" and all(_is_flat(typed) for typed in value.values()):
            made = {
                name: {"B": base64.b64encode(typed["B"]).decode()} if type(typed.get("B")) is bytes else typed
                for name, typed in value.items()
            }
            self._default_serialize(serialized, made, shape, key)
        else:
            serialize(self, serialized, value, shape, key)

    return map_


def _is_flat(typed: Any) -> bool:
    if type(typed) is not dict or len(typed) != 1:
        return False
    ((kind, value),) = typed.items()
    return type(value) is (bytes if kind == "B" else str)


def flattened(convert: Callable[[Any], Any], kind: Any) -> Callable[[Any], Any]:
    """Strings and numbers at once; moto's own function calls this one for what is inside of others."""

    @functools.wraps(convert)
    def flat(given: Any) -> Any:
        if type(given) is kind and given.type in ("S", "N"):
            return {given.type: given.value}
        return convert(given)

    return flat


def less(self: Any, other: Any) -> bool:
    """Strings as they are."""
    return bool(self.value < other.value if self.type == other.type == "S" else self.cast_value < other.cast_value)


def counted(size: Callable[[Any], int]) -> Callable[[Any], int]:
    """The bytes of an item that is no tree."""

    @functools.wraps(size)
    def count(self: Any) -> int:
        found = 0
        for name, typed in self.attrs.items():
            if typed.type not in _FLAT:
                return size(self)
            for text in (name, typed.value):
                found += len(text) if isinstance(text, bytes) or text.isascii() else len(text.encode())
        return found

    return count


def duplicated(kind: Any, typed: Any) -> Callable[..., Any]:
    """A copy of an item, without looking for what it holds twice."""
    deep = kind.__deepcopy__

    def one(given: Any) -> Any:
        made = typed.__new__(typed)
        made.type, made.value = given.type, given.value
        return made

    @functools.wraps(deep)
    def duplicate(self: Any, memo: dict[int, Any]) -> Any:
        if self.range_key is None or any(each.type not in _FLAT for each in self.attrs.values()):
            return deep(self, memo)
        made = kind(one(self.hash_key), one(self.range_key), {})
        for name, value in self.attrs.items():
            dict.__setitem__(made.attrs, name, one(value))
        return made

    return duplicate


def picked(kind: Any) -> Callable[..., Any]:
    """moto makes Python values of an item, picks, and makes an item of them again. Strings and whole numbers stay as they are."""
    project = kind.project

    @functools.wraps(project)
    def pick(self: Any, wanted: list[list[str]]) -> Any:
        found = {path[0]: self.attrs[path[0]] for path in wanted if len(path) == 1 and path[0] in self.attrs}
        simple = all(one.type == "S" or (one.type == "N" and _INTEGER.fullmatch(one.value)) for one in found.values())
        if not simple or any(len(path) != 1 for path in wanted):
            return project(self, wanted)
        made = kind(self.hash_key, self.range_key, {})
        for name, value in found.items():
            dict.__setitem__(made.attrs, name, value)
        return made

    return pick


def unsorted_items(self: Any) -> list[Any]:
    """Every item of a table, for scans, whose order means nothing."""
    return [item for part in self.items.values() for item in (part.values() if self.range_key_attr else (part,))]


def receivable(self: Any) -> list[Any]:
    """The messages of a queue that can be received, by one look at the clock."""
    from moto.core.utils import unix_time_millis

    now_ms = unix_time_millis()
    return [one for one in self._messages if now_ms > one.visible_at and now_ms >= one.delayed_until]


def retained(self: Any, queue_name: str, message: Any) -> bool:
    """Whether a queue still keeps a message, without counting the others."""
    from moto.core.utils import unix_time

    return bool(self.get_queue(queue_name).message_retention_period + message.sent_timestamp / 1000 > unix_time())


def narrowed(query: Callable[..., Any]) -> Callable[..., Any]:
    """moto looks at every item of a table for each query, and sorts those of the partition. Here it looks at a table with what can
    be on the page, and one item more, which tells it that there is a next one."""

    @functools.wraps(query)
    def narrow(
        self: Any, hash_key: Any, comparison: Any, values: Any, limit: Any, start: Any, forward: Any, *more: Any, **named: Any
    ) -> Any:
        asked = (hash_key, comparison, values, limit, start, forward, *more)
        index = more[1] if len(more) > 1 else named.get("index_name")
        if index or self.range_key_type != "S" or named.keys() - _PLAIN:
            return query(self, *asked, **named)
        wanted, seen = list(self.items.get(hash_key, {}).values()), copy.copy(self)
        if not comparison:
            if start:
                since = start[self.range_key_attr]["S"]
                wanted = [one for one in wanted if (one.range_key.value > since if forward else one.range_key.value < since)]
            pick = heapq.nsmallest if forward else heapq.nlargest
            wanted = pick(_EVERY if limit is None else limit + 1, wanted, key=lambda one: one.range_key.value)
        seen.items = {hash_key: {one.range_key: one for one in wanted}}
        return query(seen, *asked, **named)

    return narrow


def shallow(transact: Callable[..., Any], kind: Any) -> Callable[..., Any]:
    """moto copies every item of a table, to be put back, for each write of a transaction. Puts and deletions change no item but the
    table, so that one copy of its dicts is enough."""
    made: dict[int, Any] = {}

    def copied(self: Any, _memo: object) -> Any:
        """One for all writes: all are taken before the first of them."""
        if id(self) not in made:
            made[id(self)] = copy.copy(self)
            made[id(self)].items = collections.defaultdict(dict, {named: dict(part) for named, part in self.items.items()})
        return made[id(self)]

    @functools.wraps(transact)
    def once(self: Any, items: list[dict[str, Any]]) -> Any:
        if any("Update" in one for one in items) or any(one.stream_shard for one in self.tables.values()):
            return transact(self, items)
        kind.__deepcopy__ = copied
        try:
            return transact(self, items)
        finally:
            del kind.__deepcopy__
            made.clear()

    return once
