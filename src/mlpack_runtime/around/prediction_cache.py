"""Outputs that were computed before: kept in memory, and in a DynamoDB table that all instances share.

An answer is found by the model's version and a digest of what the engine reads: decoded tensors, or texts with the tokenizer that
reads them (its files, and where it cuts: a recipe may change these for the same model). The value in the cache is the engine's
outputs, so a protocol request and a plain one share it, and tasks and hooks come after it.

    table item: {"id": {"S": "NAME/VERSION/DIGEST"}, "outputs": {"B": ...}, "expires": {"N": seconds since 1970}}

Settings (model.json's `around.cache`): `memory_bytes`; `ttl_s`; `table`, whose key is `id` and whose TTL attribute is `expires`;
`deadline_ms`, of each call of the table.

Promises: an answer is never older than the TTL; a refused or failed request is never kept; the table is looked at within its
deadline, and after three failures in a row not for ten seconds: nothing of it fails a request. Outputs of more than 350 KB stay in
memory alone. Will not: know whether a model is random.
"""

import hashlib
from _thread import allocate_lock
from binascii import Error, a2b_base64, b2a_base64
from time import monotonic, time

from mlpack_runtime import jsontext
from mlpack_runtime.around import open_tables, tracing
from mlpack_runtime.limits import cut
from mlpack_runtime.model import tokenizer_digest
from mlpack_runtime.tensor import Tensor, TensorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.around import Predict
    from mlpack_runtime.aws.signed import Client
    from mlpack_runtime.model import Described
    from mlpack_runtime.protocol import Call
    from mlpack_runtime.telemetry import Record

    Outputs = Mapping[str, Tensor]

ITEM_BYTES = 350_000
"""DynamoDB: an item has at most 400 KB, with the names of its attributes."""
_ROW_BYTES = 200  # of Python's objects around a kept tensor
_FAILURES, _REST_S = 3, 10.0
_FORM = "1"


class PredictionCache:
    """The cache of a package's model. Raises ModelError where its table cannot be asked: no region."""

    def __init__(self, model: "Described", settings: "Mapping[str, Any]", *, stubbed: bool) -> None:
        self._prefix = f"{model.name}/{model.version}/"
        self._texts = model.directory, model.settings.get("tokenizer") or {}
        self._tokenizer = b""  # its digest, once it is needed
        self._most_bytes: int = settings["memory_bytes"]
        self._ttl_s: float = settings["ttl_s"]
        self._within_s: float = (settings.get("deadline_ms") or 0.0) / 1e3
        self._table: str | None = settings.get("table") if not stubbed else None
        self._kept: dict[str, tuple[float, int, Outputs]] = {}
        self._bytes = 0
        self._ports = sorted((port.name, port.datatype) for port in model.outputs)
        self._lock = allocate_lock()
        self._failed, self._rests_until = 0, 0.0
        self._client: Client | None = open_tables("predictions are kept in a table", attempts=2) if self._table else None

    def forget(self) -> None:
        """Let go of everything in memory."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def close(self) -> None:
        """Let go of the table's connections, and of what is kept."""
        self.forget()
        if self._client is not None:
            self._client.close()

    def outputs(self, call: "Call", record: "Record", predict: "Predict") -> "Outputs":
        """The outputs of a call: kept ones, or new ones, which are kept."""
        began = monotonic()
        key = digest_of(call, self._tokenizer_digest() if call.texts is not None and self._client is not None else b"")
        if key is None:
            return predict(call, record)
        kept = self._of_memory(key)
        if kept is None and self._client is not None:
            kept = self._of_table(key, record)
            if kept is not None:
                self._keep(key, *kept)
        # A task may ask more than once: it is a hit where the engine was not asked at all.
        record.metrics["cache_hits"] = min(record.metrics.get("cache_hits", 1), int(kept is not None))
        record.stages_ms["cache"] = record.stages_ms.get("cache", 0.0) + 1e3 * (monotonic() - began)
        if kept is not None:
            return dict(kept[1])
        outputs = predict(call, record)
        began = monotonic()
        until = time() + self._ttl_s
        own = {
            name: Tensor(made.datatype, made.shape, bytes(made.data)) for name, made in outputs.items()
        }  # a batch's bytes are let go
        self._keep(key, until, own)
        if self._client is not None:
            self._write(key, until, own, record)
        record.stages_ms["cache"] += 1e3 * (monotonic() - began)
        return outputs

    def _tokenizer_digest(self) -> bytes:
        """Of what makes tokens of texts. Other instances, which have the same table, may have another tokenizer for this model."""
        if not self._tokenizer:
            self._tokenizer = tokenizer_digest(*self._texts)
        return self._tokenizer

    def _of_memory(self, key: str) -> "tuple[float, Outputs] | None":
        with self._lock:
            row = self._kept.pop(key, None)
            if row is None:
                return None
            until, size, outputs = row
            if until <= time():
                self._bytes -= size
                return None
            self._kept[key] = row  # the last one used goes last
            return until, outputs

    def _keep(self, key: str, until: float, outputs: "Outputs") -> None:
        size = sum(memoryview(made.data).nbytes + _ROW_BYTES for made in outputs.values()) + _ROW_BYTES
        if size > self._most_bytes:
            return
        with self._lock:
            before = self._kept.pop(key, None)
            self._bytes += size - (before[1] if before else 0)
            self._kept[key] = (until, size, outputs)
            while self._bytes > self._most_bytes:
                self._bytes -= self._kept.pop(next(iter(self._kept)))[1]

    def _of_table(self, key: str, record: "Record") -> "tuple[float, Outputs] | None":
        asked = {
            "TableName": self._table,
            "Key": {"id": {"S": self._prefix + key}},
            "ProjectionExpression": "#o,#e",
            "ExpressionAttributeNames": {"#o": "outputs", "#e": "expires"},
        }
        item = (self._call("GetItem", asked, record) or {}).get("Item")
        if not item:
            return None
        try:
            until = float(item["expires"]["N"])
            outputs = unpacked(a2b_base64(item["outputs"]["B"]))
            if [(name, made.datatype) for name, made in sorted(outputs.items())] != self._ports:
                raise ValueError("these are not the outputs of the model")
        except (KeyError, TypeError, ValueError, TensorError, Error) as error:
            record.detail["cache_error"] = cut(f"what {self._table} holds is no prediction: {type(error).__name__}: {error}", 300)
            return None
        # DynamoDB removes what has expired some days later.
        return (until, outputs) if until > time() else None

    def _write(self, key: str, until: float, outputs: "Outputs", record: "Record") -> None:
        data = packed(outputs)
        if len(data) > ITEM_BYTES:
            return
        item = {
            "id": {"S": self._prefix + key},
            "outputs": {"B": b2a_base64(data, newline=False).decode()},
            "expires": {"N": str(int(until))},
        }
        self._call("PutItem", {"TableName": self._table, "Item": item}, record)

    def _call(self, operation: str, asked: "dict[str, Any]", record: "Record") -> "dict[str, Any] | None":
        """The answer; None where there is none, or the table rests after failures."""
        if monotonic() < self._rests_until:
            return None
        from mlpack_runtime.aws import AwsError

        assert self._client is not None
        try:
            answer = self._client.call(operation, asked, within_s=self._within_s, headers=tracing.headers_of(record))
        except AwsError as error:
            self._failed += 1
            if self._failed >= _FAILURES:
                self._failed, self._rests_until = 0, monotonic() + _REST_S
            record.detail["cache_error"] = cut(str(error), 300)
            return None
        self._failed = 0
        return answer


def digest_of(call: "Call", tokenizer: bytes = b"") -> "str | None":
    """A digest of what the engine would read, equal for equal inputs in any order; None of a call that has none: tokens that a task
    made, and keeps things of. `tokenizer`: of what makes tokens of texts."""
    digest = hashlib.sha256(_FORM.encode() + tokenizer)
    if call.texts is not None:
        if any(type(text) not in (str, tuple) for text in call.texts):
            return None
        digest.update(jsontext.dumps([list(text) if type(text) is tuple else text for text in call.texts]).encode())
        return digest.hexdigest()
    for name in sorted(call.inputs):
        made = call.inputs[name]
        head = jsontext.dumps([name, made.datatype, list(made.shape), memoryview(made.data).nbytes])
        digest.update(head.encode())
        digest.update(made.data)
    return digest.hexdigest()


def packed(outputs: "Outputs") -> bytes:
    """Outputs as bytes: a line of JSON that describes them, then their data one after the other."""
    rows = [[name, made.datatype, list(made.shape), memoryview(made.data).nbytes] for name, made in outputs.items()]
    return b"\n".join([jsontext.dumps(rows).encode(), b"".join(bytes(made.data) for made in outputs.values())])


def unpacked(data: bytes) -> "dict[str, Tensor]":
    """What `packed` gave. Raises ValueError, TypeError or TensorError for anything else."""
    head, _, rest = data.partition(b"\n")
    outputs, at = {}, 0
    for name, datatype, shape, size in jsontext.loads(head):
        outputs[str(name)] = Tensor(datatype, tuple(shape), rest[at : at + size])
        at += size
    if at != len(rest):
        raise ValueError("its data is of another length")
    return outputs
