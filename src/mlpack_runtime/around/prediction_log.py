"""A sample of the requests that were answered, with their answers, as lines of JSON in S3 or Firehose.

    s3://BUCKET/PREFIX         objects PREFIX/MODEL/VERSION/YYYY/MM/DD/HH/MILLISECONDS-ID.jsonl, up to 500 lines each
    firehose://STREAM          records of one line each

docs/how-to/features-cache-log.md has the form of a line. Settings (model.json's `around.log`): `to`; `sample`, a share from 0 to 1;
`redact`, `module:function`, which takes a line's object and returns what may be written of it, or None for nothing.

Promises: whether a request is in the sample follows from its trace id alone, so that it is the same everywhere; at most 1,000 lines
or 8 MB wait; what does not fit, what a hook refuses by failing, and what cannot be sent before the end is counted (`log_dropped`);
nothing of it fails a request. A line may arrive twice where a service answered too late.
Will not: log what was refused, or the bytes of pictures and sounds: their size and digest stand for them; or tell what a hook says
when it fails, which may quote what it was to hide.
"""

import hashlib
import os
import sys
from _thread import allocate_lock
from binascii import b2a_base64
from time import gmtime, monotonic, strftime, time

from mlpack_runtime import jsontext, protocol
from mlpack_runtime.aws import AwsError, signed, split_uri
from mlpack_runtime.limits import RequestError, cut
from mlpack_runtime.model import ModelError
from mlpack_runtime.tensor import DATATYPES, Tensor
from mlpack_runtime.values import FLOATS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.model import Described
    from mlpack_runtime.telemetry import Record

SCHEMA = 1
LINE_BYTES = 256 << 10
"""A line that would be longer has its request and answer left out, and says how long they were."""
_LINES, _BYTES = 1000, 8 << 20
_SENT_LINES, _SENT_BYTES = 500, 3 << 20  # Firehose: 500 records and 4 MiB a call
_EVERY_S = 5.0
_CALL_S = 10.0
_ONCE_S = 2.0


class Identity:
    """What lines say of their model: a log stays when a model is let go."""

    __slots__ = ("name", "target", "variant", "version")

    def __init__(self, model: "Described") -> None:
        self.name = model.name
        self.version = model.version
        self.variant = model.variant
        self.target = model.target


class PredictionLog:
    """The log of a package's model. Raises ModelError where it cannot be sent to: no region, a hook that cannot be imported."""

    def __init__(self, model: "Described", settings: "Mapping[str, Any]") -> None:
        self._model: Described = Identity(model)  # type: ignore[assignment]  # all that the lines of the log read of it
        self._share: float = settings["sample"]
        self._redact = _hook(settings["redact"]) if settings.get("redact") else None
        task = model.settings.get("task") or {}
        self._files = ("image", "images", "inputs") if "image" in task else ("audio", "audios", "inputs") if "sound" in task else ()
        self._limits = model.limits
        try:
            self._scheme, self._place, self._prefix = split_uri(settings["to"], "s3", "firehose")
            self._client = signed.S3() if self._scheme == "s3" else signed.Client("firehose")
        except AwsError as error:
            raise ModelError(f"predictions are logged to {settings['to']}, and {error}") from None
        self._lock = allocate_lock()
        self._sending = allocate_lock()
        self._lines: list[bytes] = []
        self._bytes = 0
        self._batch: tuple[str, list[bytes]] | None = None
        self._dropped = 0
        self._failure = ""
        self._fails = False
        """Whether sending failed the last time."""
        self._wake: Any = None
        self._thread: Any = None

    def keep(self, record: "Record", value: "Any") -> None:
        """Keep what is asked, where it is in the sample: a plain request as it came, for a hook may change it in its place."""
        if in_sample(record.trace_id, self._share):
            try:
                record.value = value if protocol.is_inference(value) else self._plain(value)
            except RecursionError:
                record.value = None

    def add(self, record: "Record", reply: "Any") -> None:
        """Take a request into the log, where it is in the sample. Never raises."""
        if record.asked and reply.status < 400 and in_sample(record.trace_id, self._share):
            try:
                line = self._line(record, reply)
                if line is not None:
                    self._take(line)
            except Exception as error:  # noqa: BLE001  (a hook of the user's, or a value that is no JSON)
                self._dropped += 1
                record.detail["log_error"] = cut(f"{type(error).__name__}: {error}", 300)
        if self._failure:
            record.detail["log_error"], self._failure = self._failure, ""
        if self._dropped:
            record.metrics["log_dropped"], self._dropped = self._dropped, 0

    def _take(self, line: bytes) -> None:
        with self._lock:
            if len(self._lines) >= _LINES or self._bytes + len(line) > _BYTES:
                self._dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            full = len(self._lines) >= _SENT_LINES or self._bytes > _SENT_BYTES
        if full and self._wake is not None:
            self._wake.set()
        elif full and not self._fails:  # a function that answers thousands of items in one invocation
            self.flush(_ONCE_S)

    def _line(self, record: "Record", reply: "Any") -> "bytes | None":
        call, outputs = record.seen if record.seen is not None else (None, {})
        entry: dict[str, Any] = {
            "schema": SCHEMA,
            "timestamp": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime()),
            "trace_id": record.trace_id,
            "request_id": record.request_id,
            "model": self._model.name,
            "version": self._model.version,
            "variant": self._model.variant,
            "target": self._model.target,
            "batch": record.batch,
            "cached": bool(record.metrics.get("cache_hits")),
            "stages_ms": {stage: round(spent, 3) for stage, spent in record.stages_ms.items()},
            "request": _request(record.value, call) if protocol.is_inference(record.value) else record.value,
            "answer": _answer(reply, outputs),
        }
        if self._redact is not None:
            redacted = _redacted(self._redact, entry)
            if redacted is None:
                return None
            entry = redacted
        line = jsontext.dumps(entry).encode() + b"\n"
        if len(line) > LINE_BYTES:
            entry = {name: value for name, value in entry.items() if name not in ("request", "answer")}
            line = jsontext.dumps({**entry, "left_out_bytes": len(line)}).encode() + b"\n"
        return line if len(line) <= LINE_BYTES else None

    def _plain(self, value: "Any") -> "Any":
        """A plain request without the bytes of files, in whichever form they came."""
        if type(value) is dict and self._files:
            value = {key: self._file(key, item) if key in self._files else item for key, item in value.items()}
        return _without_bytes(value)

    def _file(self, key: str, value: "Any") -> "Any":
        """Base64 and data: URLs as bytes; URLs, and what is no file, as they are."""
        if type(value) is list:
            return [self._file(key, item) for item in value]
        if type(value) not in (str, dict):  # of a list of samples, each
            return value
        __import__("mlpack_runtime.media")  # by name: only packages that read files have it
        try:
            return sys.modules["mlpack_runtime.media"].content(value, key, self._limits)
        except RequestError:
            return value

    def start(self) -> None:
        """Send what waits every five seconds, and sooner when much does."""
        from threading import Event, Thread

        self._wake = Event()
        self._thread = Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        wake = self._wake
        while self._wake is not None:
            wake.wait(_EVERY_S)
            wake.clear()
            self.flush(_CALL_S)

    def flush(self, within_s: float) -> bool:
        """Send what waits; whether nothing is left. Never raises."""
        until = monotonic() + within_s
        if not self._sending.acquire(timeout=max(0.0, within_s)):
            return False
        try:
            self._fails = True
            while (batch := self._next()) is not None:
                left = until - monotonic()
                if left <= 0:
                    return False
                self._batch = self._send(batch, left)
                if self._batch is not None:
                    return False
            self._fails = False
            return True
        except Exception as error:  # noqa: BLE001  (nothing of it fails a request)
            self._failure = cut(f"{type(error).__name__}: {error}", 300)
            return False
        finally:
            self._sending.release()

    def close(self, within_s: float) -> None:
        """Send what waits, and tell how many lines were lost."""
        self._wake, wake = None, self._wake
        if wake is not None:
            wake.set()
        self.flush(within_s)
        self._client.close()
        lost = self._dropped + len(self._lines) + (len(self._batch[1]) if self._batch else 0)
        if lost:
            from mlpack_runtime import telemetry

            text = f"{lost} lines of the log of predictions were not sent: {self._failure or 'the time was over'}"
            telemetry.emit(telemetry.event(self._model, "WARNING", text, log_dropped=lost))

    def _next(self) -> "tuple[str, list[bytes]] | None":
        """The next lines with their object's name, which they keep until they are sent."""
        if self._batch is not None:
            return self._batch
        with self._lock:
            if not self._lines:
                return None
            size = count = 0
            while count < min(len(self._lines), _SENT_LINES) and (not count or size + len(self._lines[count]) <= _SENT_BYTES):
                size += len(self._lines[count])
                count += 1
            lines, self._lines = self._lines[:count], self._lines[count:]
            self._bytes -= size
        now = time()
        place = f"{self._model.name}/{self._model.version}/{strftime('%Y/%m/%d/%H', gmtime(now))}"
        name = f"{place}/{int(now * 1000)}-{os.urandom(6).hex()}.jsonl"
        self._batch = (f"{self._prefix}/{name}" if self._prefix else name), lines
        return self._batch

    def _send(self, batch: "tuple[str, list[bytes]]", within_s: float) -> "tuple[str, list[bytes]] | None":
        """What of it could not be sent."""
        name, lines = batch
        try:
            if isinstance(self._client, signed.S3):
                self._client.put(self._place, name, b"".join(lines), {"content-type": "application/jsonl"}, within_s)
                return None
            records = [{"Data": b2a_base64(line, newline=False).decode()} for line in lines]
            asked = {"DeliveryStreamName": self._place, "Records": records}
            answer = self._client.call("PutRecordBatch", asked, within_s=within_s)
            if not answer.get("FailedPutCount"):
                return None
            rows = answer.get("RequestResponses") or []
            left = [line for line, row in zip(lines, rows, strict=False) if row.get("ErrorCode")]
            self._failure = cut(f"firehose took {len(lines) - len(left)} of {len(lines)} lines", 300)
            return (name, left) if left else None
        except AwsError as error:
            self._failure = cut(str(error), 300)
            return batch


OPEN: "dict[tuple[str, ...], PredictionLog]" = {}
"""Every log of this process, by its model and its settings."""


def open_log(model: "Described", settings: "Mapping[str, Any]") -> PredictionLog:
    """The log of a model, the same for a model that was let go and comes back. Where the process is no function, which is frozen
    between its requests, a thread sends what it holds. Raises ModelError."""
    key = (model.name, model.version, model.variant, jsontext.dumps(dict(settings)))
    if key not in OPEN:
        OPEN[key] = PredictionLog(model, settings)
        if not os.environ.get("AWS_LAMBDA_RUNTIME_API"):
            from atexit import register

            register(close, _CALL_S)  # of a process that comes to its end by itself, such as a batch's
            OPEN[key].start()
    return OPEN[key]


def flush(within_s: float) -> None:
    """Send what waits in every log, before a function is frozen. Never raises."""
    for each in list(OPEN.values()):
        each.flush(within_s)


def close(within_s: float) -> None:
    """Send what waits in every log, and tell what is lost: the process ends. Never raises."""
    until = monotonic() + within_s
    for key in list(OPEN):
        OPEN.pop(key).close(max(0.1, until - monotonic()))


def in_sample(trace_id: str, share: float) -> bool:
    """Whether the request of this trace is in a sample of a share: the same everywhere."""
    if share >= 1:
        return True
    return int.from_bytes(hashlib.sha256(trace_id.encode()).digest()[:8], "big") < share * (1 << 64)


def _redacted(hook: "Any", entry: "dict[str, Any]") -> "dict[str, Any] | None":
    """What a hook lets be written of a line; None for nothing."""
    try:
        made = hook(entry)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  (a hook may even end the process)
        failed = error.__cause__ or error
        trace, place = failed.__traceback__, ""
        while trace is not None:
            code = trace.tb_frame.f_code
            place = f" in {code.co_name} ({code.co_filename.rpartition('/')[2]}, line {trace.tb_lineno})"
            trace = trace.tb_next
        raise RedactError(f"redact failed with a {type(failed).__name__}{place}") from None
    if made is not None and type(made) is not dict:
        raise RedactError(f"redact returned a {type(made).__name__}, not a dict")
    return made


class RedactError(RuntimeError):
    """A hook did not say what may be written. The message has nothing of what it was given."""


def _request(value: object, call: "Any") -> "Any":
    """A protocol request as decoded tensors or texts."""
    if call is None:
        return _without_bytes(value)
    if call.texts is not None:
        return {"texts": [list(text) if type(text) is tuple else text for text in call.texts if type(text) in (str, tuple)]}
    return {"inputs": [_tensor(name, made) for name, made in call.inputs.items()]}


def _answer(reply: "Any", outputs: "Mapping[str, Tensor]") -> "Any":
    return {"outputs": [_tensor(name, made) for name, made in outputs.items()]} if reply.binary else jsontext.loads(reply.body)


def _tensor(name: str, made: Tensor) -> "dict[str, Any]":
    head: dict[str, Any] = {"name": name, "datatype": made.datatype, "shape": list(made.shape)}
    size = memoryview(made.data).nbytes
    if size // max(1, DATATYPES[made.datatype][1]) > LINE_BYTES // 2:  # each value takes two characters at least
        return {**head, "left_out_bytes": size}
    values = made.flat()
    if made.datatype in FLOATS:
        values = [value if -float("inf") < value < float("inf") else None for value in values]
    return {**head, "data": values}


def _without_bytes(value: "Any") -> "Any":
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if type(value) is dict:
        return {str(key): _without_bytes(item) for key, item in value.items()}
    return [_without_bytes(item) for item in value] if type(value) is list else value


def _hook(name: str) -> "Any":
    from mlpack_runtime import hooks

    hooks.extend_path()
    return hooks.load(name)
