"""Features of entities out of a DynamoDB table when a request comes: ids in, the model's inputs out.

    {"customer_id": "7"}                one entity, a batch of one
    {"customer_id": ["7", "8"]}         several; duplicates are asked for once
    {"customer_id": "7", "amount": 12}  a value in the request goes before the table's

Settings (model.json's `around.features`): `table`; `key`, one or two names that requests and the table share; `columns`, by input
the names of attributes, in the order of its columns; `defaults` by attribute; `deadline_ms`; `keep_s`, for how long an item is kept
in memory; `latency_ms`, what a stub takes.

Promises: items are asked for by BatchGetItem alone, 100 in a call, and never by a scan; all of it ends within the deadline. Where
an attribute is missing, has another type, or comes too late, its default is taken and counted (`features_missing`, `features_late`,
`features_failed`: entities of which something was); without a default the request is refused, and says which.
"""

from _thread import allocate_lock
from time import monotonic, sleep, time

from mlpack_runtime.around import attributes, open_tables, tracing
from mlpack_runtime.around.attributes import MismatchError
from mlpack_runtime.limits import RequestError, cut, quoted, too_large
from mlpack_runtime.model import ModelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.aws.signed import Client
    from mlpack_runtime.model import Described
    from mlpack_runtime.ort import Port
    from mlpack_runtime.telemetry import Record

    Key = tuple[tuple[str, str], ...]
    Values = dict[str, Any]

CALL_KEYS = 100
"""DynamoDB: of one BatchGetItem."""
_AT_ONCE = 8
_PAUSE_S = 0.01
_KEPT = 10_000
"""Items in memory."""
_BUSY_S = 1.0


class Features:
    """The features of a package's model. Raises ModelError for settings that are not those of the model."""

    def __init__(self, model: "Described", settings: "Mapping[str, Any]", *, stubbed: bool) -> None:
        self._model = model
        self._ports = {port.name: port for port in model.inputs}
        self._table: str = settings["table"]
        self._key: list[str] = settings["key"]
        self._columns: dict[str, list[str]] = settings["columns"]
        self._defaults: dict[str, Any] = settings.get("defaults") or {}
        self._within_s: float = settings["deadline_ms"] / 1e3
        self._keep_s: float = settings.get("keep_s") or 0.0
        self._latency_s: float = (settings.get("latency_ms") or 0.0) / 1e3
        if strange := [name for name in self._columns if name not in self._ports]:
            raise ModelError(f"model.json has features for {', '.join(strange)}, which is no input: rebuild the package")
        self._datatypes = {name: self._ports[port].datatype for port, names in self._columns.items() for name in names}
        self._kept: dict[Key, tuple[float, Values]] = {}
        self._lock = allocate_lock()
        self._told: set[str] = set()
        self._client: Client | None = None
        if not stubbed:
            self._client = open_tables("features are in a table", attempts=3)

    @property
    def form(self) -> str:
        """What a request looks like, for messages."""
        return "{" + ", ".join(f'"{name}": an id or a list of ids' for name in self._key) + "}"

    def close(self) -> None:
        """Let go of the table's connections, and of what is kept."""
        with self._lock:
            self._kept.clear()
        if self._client is not None:
            self._client.close()

    def is_asked(self, value: "Mapping[str, Any]") -> bool:
        """Whether a plain request names entities."""
        return all(name in value for name in self._key)

    def inputs(self, value: "Mapping[str, Any]", record: "Record") -> "dict[str, Any]":
        """The model's inputs by name, as nested lists; values of the request that are no feature stand there as well.
        Raises RequestError: 400 for ids that are none, 422 for features that are missing, 503 for a table that does not answer."""
        keys, alone = self._keys(value)
        given = {name: value[name] for name in value if name not in self._key}
        needed = [name for name in self._datatypes if name not in given]
        items = self._items(list(dict.fromkeys(keys)), needed, record) if needed else {}
        missing = {key for key in keys if any(items.get(key, {}).get(name) is None for name in needed)} if needed else set()
        if missing:
            self._account(record, keys, missing, items)
        made: dict[str, Any] = {}
        for port, names in self._columns.items():
            rows = [[self._one(key, at, name, given, items, alone=alone) for name in names] for at, key in enumerate(keys)]
            made[port] = [_row(row, len(self._ports[port].shape)) for row in rows]
        for name, own in given.items():
            if name not in self._datatypes or name in self._ports:
                made.setdefault(name, _batch(own, self._ports.get(name), alone=alone))
        return made

    def _keys(self, value: "Mapping[str, Any]") -> "tuple[list[Key], bool]":
        """The entities, and whether the request names one alone."""
        columns = [value[name] for name in self._key]
        alone = all(type(column) is not list for column in columns)
        lists = [column if type(column) is list else [column] for column in columns]
        if len({len(column) for column in lists}) != 1 or (not alone and any(type(column) is not list for column in columns)):
            raise RequestError(f"{' and '.join(self._key)} are not equally many ids")
        if not lists[0]:
            raise RequestError(f"{quoted(self._key[0])} is an empty list: at least one id is needed")
        if len(lists[0]) > self._model.limits.rows:
            raise too_large("rows", f"ids of {self._key[0]}:", len(lists[0]), self._model.limits)
        keys: list[Key] = []
        for row in zip(*lists, strict=True):
            pairs = [attributes.key_of(name, each) for name, each in zip(self._key, row, strict=True)]
            keys.append(tuple(pair for each in pairs for pair in each.items()))
        return keys, alone

    def _one(
        self, key: "Key", at: int, name: str, given: "Mapping[str, Any]", items: "Mapping[Key, Values]", *, alone: bool
    ) -> "Any":
        """A value: the request's own, the table's, or the default."""
        if name in given:
            own = given[name]
            if alone:
                return own
            if type(own) is not list or at >= len(own):
                raise RequestError(f"{quoted(name)} has not a value for each of the ids")
            return own[at]
        value = items.get(key, {}).get(name)
        return self._defaults.get(name) if value is None else value

    def _account(self, record: "Record", keys: "list[Key]", missing: "set[Key]", items: "Mapping[Key, Values]") -> None:
        """Count entities of which something is missing. Raises RequestError where there is no default for it."""
        failed = record.detail.get("features_error")
        late = record.metrics.get("features_late")
        for key in missing:
            lacking = [name for name in self._datatypes if items.get(key, {}).get(name) is None and name not in self._defaults]
            if lacking and key not in items and (failed or late):
                why = f"{self._table} did not answer within {1e3 * self._within_s:g} ms" if late else failed
                raise RequestError(f"features are not to be had: {why}", 503, "FeaturesUnavailable", _BUSY_S)
            if lacking:
                ids = ", ".join(quoted(text) for _, text in key)
                what = "has no features" if key not in items or not items[key] else f"has no {', '.join(lacking[:5])}"
                raise RequestError(f"{' and '.join(self._key)} {ids} {what} in {self._table}", 422, "FeaturesMissing")
        there = sum(1 for key in keys if key in missing and key in items)
        if there:
            record.metrics["features_missing"] = there
        if failed or late:
            record.metrics["features_late" if late else "features_failed"] = sum(1 for key in keys if key not in items)

    def _items(self, keys: "list[Key]", names: "list[str]", record: "Record") -> "dict[Key, Values]":
        """Items by key; {} of one that is not in the table, and no entry of one that was not answered for."""
        if self._client is None:
            sleep(min(self._latency_s, self._within_s))
            return {key: {name: self._invented(name) for name in names} for key in keys}
        now = time()
        with self._lock:
            kept = {key: self._kept[key] for key in keys if key in self._kept} if self._keep_s else {}
        items = {key: values for key, (until, values) in kept.items() if until > now}
        asked = [key for key in keys if key not in items]
        fresh = self._ask(asked, record) if asked else {}
        if self._keep_s and fresh:
            with self._lock:
                for key, values in fresh.items():
                    self._kept.pop(key, None)
                    self._kept[key] = (now + self._keep_s, values)
                while len(self._kept) > _KEPT:
                    del self._kept[next(iter(self._kept))]
        return {**items, **fresh}

    def _ask(self, keys: "list[Key]", record: "Record") -> "dict[Key, Values]":
        """What the table has of these, within the deadline."""
        until = monotonic() + self._within_s
        fresh: dict[Key, Values] = {}
        traced = tracing.headers_of(record)
        parts = [keys[at : at + CALL_KEYS] for at in range(0, len(keys), CALL_KEYS)]
        failures: list[Exception] = []
        if len(parts) == 1:
            self._call(parts[0], until, traced, fresh, failures)
        else:
            from threading import Thread  # nothing that a request of one entity should pay for

            waiting = parts[::-1]

            def work() -> None:
                while waiting and not failures:
                    try:
                        part = waiting.pop()
                    except IndexError:
                        return
                    self._call(part, until, traced, fresh, failures)

            threads = [Thread(target=work, daemon=True) for _ in range(min(_AT_ONCE, len(parts)))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if failures:
            from mlpack_runtime.aws.signed import LateError

            if any(isinstance(failure, LateError) for failure in failures):
                record.metrics["features_late"] = 1
            else:
                self._refuse_keys(failures[0])
                record.detail["features_error"] = cut(str(failures[0]), 300)
        return fresh

    def _call(
        self, keys: "list[Key]", until: float, traced: "dict[str, str]", fresh: "dict[Key, Values]", failures: "list[Exception]"
    ) -> None:
        """Put items of at most 100 keys into `fresh`, and what went wrong into `failures`."""
        assert self._client is not None
        from mlpack_runtime.aws import AwsError
        from mlpack_runtime.aws.signed import LateError

        columns = [*self._key, *(name for name in self._datatypes if name not in self._key)]
        short = {f"#c{number}": name for number, name in enumerate(columns)}
        rows = [{name: dict([pair]) for name, pair in zip(self._key, key, strict=True)} for key in keys]
        asked: dict[str, Any] = {
            self._table: {"Keys": rows, "ProjectionExpression": ",".join(short), "ExpressionAttributeNames": short}
        }
        came: dict[Key, Values] = {}
        pause = _PAUSE_S
        try:
            while True:
                left = until - monotonic()
                if left <= 0:
                    raise LateError(f"{self._table} did not answer for every key in time")
                answer = self._client.call("BatchGetItem", {"RequestItems": asked}, within_s=left, headers=traced)
                for item in (answer.get("Responses") or {}).get(self._table) or next(
                    iter((answer.get("Responses") or {}).values()), []
                ):
                    came[tuple(pair for name in self._key for pair in item[name].items())] = self._values(item)
                asked = answer.get("UnprocessedKeys") or {}
                if not asked:
                    break
                sleep(max(0.0, min(pause, until - monotonic())))
                pause *= 2
            fresh.update({key: came.get(key, {}) for key in keys})
        except (AwsError, KeyError, TypeError, AttributeError, ValueError) as error:
            fresh.update(came)
            failures.append(error)

    def _values(self, item: "Mapping[str, Any]") -> "Values":
        """What an item has of the columns, each held against its input. One of another type is as if it were not there."""
        values: Values = {}
        for name, datatype in self._datatypes.items():
            if name not in item:
                continue
            try:
                value = self._fitting(name, attributes.value_of(item[name], datatype))
            except MismatchError as error:
                self._tell(name, datatype, error)
                continue
            if value is not None:
                values[name] = value
        return values

    def _fitting(self, name: str, value: "Any") -> "Any":
        """A list only where it is the whole row of an input. Raises MismatchError."""
        if type(value) is list:
            port, names = next((self._ports[port], names) for port, names in self._columns.items() if name in names)
            size = port.shape[1] if len(port.shape) == 2 and len(names) == 1 else None
            if size is None or (type(size) is int and len(value) != size):
                raise MismatchError(f"a list of {len(value)}")
        return value

    def _tell(self, name: str, datatype: str, error: MismatchError) -> None:
        if name in self._told:
            return
        self._told.add(name)
        from mlpack_runtime import telemetry

        text = f"{self._table}: {name} is {error}; the model takes {datatype}. It is taken as missing, and this is said once"
        telemetry.emit(telemetry.event(self._model, "WARNING", text))

    def _refuse_keys(self, failure: Exception) -> None:
        """Say an id of another type than the table's as the caller's fault."""
        if getattr(failure, "code", "") == "ValidationException" and "key" in str(failure).lower():
            raise RequestError(f"{' and '.join(self._key)}: no id of this table: {failure}. A string is sent as S, a number as N")

    def _invented(self, name: str) -> "Any":
        """A stub's value: the default, else zero or an empty string."""
        default = self._defaults.get(name)
        if default is not None:
            return default
        datatype = self._datatypes[name]
        return "" if datatype == "BYTES" else False if datatype == "BOOL" else 0


def _row(row: "list[Any]", rank: int) -> "Any":
    """A sample of an input: a bare value for an input of one axis; a list attribute is the row itself."""
    if rank < 2:
        return row[0]
    return row[0] if len(row) == 1 and type(row[0]) is list else row


def _batch(own: "Any", port: "Port | None", *, alone: bool) -> "Any":
    """A request's own value for a whole input, as a batch."""
    rank = len(port.shape) if port is not None else 1
    if alone and type(own) is not list:
        return [own] if rank < 2 else [[own]]
    if rank > 1 and type(own) is list and own and type(own[0]) is not list:
        return [own] if alone else [[each] for each in own]
    return own
