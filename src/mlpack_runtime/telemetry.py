"""Trace ids, and one JSON line a request that is a log entry and a CloudWatch metric at once.

Promises: the same keys and metric names on every target; one write to stdout a line, so that lines of several processes do not mix;
never an exception because a client sent a strange header.
Will not: buffer, call a service, or import `logging` or `datetime`.

Sources: W3C Trace Context; AWS X-Ray tracing header; CloudWatch Embedded Metric Format specification.
"""

import os
from time import gmtime, strftime, time_ns

from mlpack_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.model import Described

NAMESPACE = "mlpack"
DIMENSIONS = ["model", "version", "variant", "target"]
METRICS = {"latency_ms": "Milliseconds", "batch": "Count", "errors": "Count", "cold_starts": "Count"}
WORKER_METRICS = {"queue_age_ms": "Milliseconds", "batch_fill": "Percent", "retries": "Count"}
"""What a worker's line has besides, where it is known."""
_descriptions: "dict[tuple[str, ...], str]" = {}
TRACE_HEADER = "x-trace-id"
_HEX = frozenset("0123456789abcdef")
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")
_LONGEST_ID = 128
LONGEST_HEADER = 1024  # what comes after is not looked at: a header of separators alone would be as many texts


def trace_id(headers: "Mapping[str, str]") -> str:
    """The caller's trace id, else the platform's, else a new one.

    In this order: `traceparent`, `x-trace-id`, `x-amzn-trace-id` (its Root), the Lambda invocation's own, 16 random bytes.
    What a caller said comes before what a gateway added by itself. `headers` have lower-case names; malformed ones are passed over.
    """
    parts = headers.get("traceparent", "")[:LONGEST_HEADER].strip().lower().split("-")
    if len(parts) >= 4 and len(parts[1]) == 32 and _HEX.issuperset(parts[1]) and parts[1] != "0" * 32:
        return parts[1]
    own = headers.get(TRACE_HEADER, "").strip()
    if own and len(own) <= _LONGEST_ID and _SAFE.issuperset(own):
        return own
    for line in (headers.get("x-amzn-trace-id"), os.environ.get("_X_AMZN_TRACE_ID")):
        for field in (line or "")[:LONGEST_HEADER].split(";"):
            key, _, root = field.strip().partition("=")
            if key == "Root" and root and len(root) <= _LONGEST_ID and _SAFE.issuperset(root):
                return root
    return os.urandom(16).hex()


class Record:
    """What is known of one request when it ends. Times in milliseconds."""

    __slots__ = (
        "answer_bytes",
        "asked",
        "batch",
        "cold_start",
        "detail",
        "latency_ms",
        "metrics",
        "request_id",
        "stages_ms",
        "status",
        "trace_id",
    )

    def __init__(self, trace: str, request_id: str, *, cold_start: bool) -> None:
        self.trace_id = trace
        self.request_id = request_id
        self.cold_start = cold_start
        self.status = 200
        self.asked = False  # whether it was a request to the model, of however few rows
        self.batch = 0
        self.latency_ms = 0.0
        self.stages_ms: dict[str, float] = {}
        self.metrics: dict[str, float] = {}  # of WORKER_METRICS
        self.answer_bytes: int | None = None  # no answer is passed on that is longer, where that is known
        self.detail: dict[str, str] = {}  # error_type, error_message, traceback: only where something failed


def line(record: Record, model: "Described", now_ms: "int | None" = None) -> str:
    """The log line: the interface's keys, the metrics' own, then CloudWatch's description of them."""
    now_ms = time_ns() // 1_000_000 if now_ms is None else now_ms
    failed = record.status >= 500
    entry: dict[str, Any] = {
        "timestamp": _timestamp(now_ms),
        "level": "ERROR" if failed else "WARNING" if record.status >= 400 else "INFO",
        "trace_id": record.trace_id,
        "request_id": record.request_id,
        **identity(model),
        "latency_ms": round(record.latency_ms, 3),
        "stages_ms": {stage: round(spent, 3) for stage, spent in record.stages_ms.items()},
        "cold_start": record.cold_start,
        "batch": record.batch,
        "status": record.status,
        "errors": int(failed),
        "cold_starts": int(record.cold_start),
        **{name: round(value, 3) for name, value in record.metrics.items()},
        **record.detail,
    }
    described = _description(tuple(name for name in WORKER_METRICS if name in record.metrics))
    return f'{jsontext.dumps(entry)[:-1]},"_aws":{{"Timestamp":{now_ms},"CloudWatchMetrics":[{described}]}}}}'


def _description(more: "tuple[str, ...]") -> str:
    """CloudWatch's description of a line with these metrics beside `METRICS`: the same for almost every line, and a third of it."""
    text = _descriptions.get(more)
    if text is None:
        units = METRICS | {name: WORKER_METRICS[name] for name in more}
        metrics = [{"Name": name, "Unit": unit} for name, unit in units.items()]
        text = jsontext.dumps({"Namespace": NAMESPACE, "Dimensions": [DIMENSIONS], "Metrics": metrics})
        _descriptions[more] = text
    return text


def event(model: "Described | None", level: str, message: str, **detail: "Any") -> str:
    """A line that is about no request: a start, an end, a fault of a service. `detail` holds JSON values."""
    entry = {"timestamp": _timestamp(time_ns() // 1_000_000), "level": level, "message": message}
    return jsontext.dumps({**entry, **(identity(model) if model else {}), **detail})


def _timestamp(now_ms: int) -> str:
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(now_ms // 1000))}.{now_ms % 1000:03d}Z"


def identity(model: "Described") -> "dict[str, str]":
    """The values of `DIMENSIONS`."""
    return {"model": model.name, "version": model.version, "variant": model.variant, "target": model.target}


def emit(text: str) -> None:
    """Write one line to stdout, at once and by itself. A closed stdout is no reason to fail a request."""
    data = memoryview(text.encode() + b"\n")
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        return
