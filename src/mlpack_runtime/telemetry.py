"""Trace ids, and one JSON line a request that is a log entry and a CloudWatch metric at once.

Promises: the same keys and metric names on every target; one write to stdout a line, so that lines of several processes do not mix;
never an exception because a client sent a strange header.
Will not: buffer, call a service, or import `logging` or `datetime`.

Sources: W3C Trace Context; AWS X-Ray tracing header; CloudWatch Embedded Metric Format specification.
"""

import os
from time import gmtime, perf_counter_ns, strftime, time_ns

from mlpack_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    class Identified(Protocol):
        """A package, by the values of `DIMENSIONS`."""

        name: str
        version: str
        variant: str
        target: str


NAMESPACE = "mlpack"
DIMENSIONS = ["model", "version", "variant", "target"]
METRICS = {"latency_ms": "Milliseconds", "batch": "Count", "errors": "Count", "cold_starts": "Count"}
WORKER_METRICS = {"queue_age_ms": "Milliseconds", "batch_fill": "Percent", "retries": "Count", "hook_errors": "Count"}
"""What a worker's line has besides, where it is known; and the line of a request that a hook failed at."""
AROUND_METRICS = {
    "features_missing": "Count",
    "features_late": "Count",
    "features_failed": "Count",
    "cache_hits": "Count",
    "log_dropped": "Count",
}
"""What the line of a package with features, a cache or a log of predictions has besides, where it is known."""
STAGE_METRICS = "MLPACK_STAGE_METRICS"
"""Whether the time of each stage is a metric of CloudWatch, too, which costs as much as any other metric: 1 or true."""
SLOW_METRICS = {"slow": "Count"}
"""What a line has besides where `SLOW_MS` says after how many milliseconds an answer is slow. Counts of several minutes add up;
percentiles do not."""
SLOW_MS = "MLPACK_SLOW_MS"
SERVICE = "MLPACK_SERVICE"
"""The name of the deployment that this package is a part of. With it a line's metrics have `SERVICE_DIMENSIONS` in the place of
`DIMENSIONS`, so that two deployments of a release are told apart. `RELEASE_METRICS` have `RELEASE_DIMENSIONS` as well: a rollout
compares two releases by their counts."""
RELEASE = "MLPACK_RELEASE"
"""What tells releases of a deployment apart; without it the function's version, else the model's."""
SERVICE_DIMENSIONS = ["service"]
RELEASE_DIMENSIONS = ["service", "release"]
RELEASE_METRICS = ("errors", "cold_starts", "slow")
_MORE = WORKER_METRICS | AROUND_METRICS | SLOW_METRICS
_descriptions: "dict[tuple[str, ...], str]" = {}
_variables: "dict[str, str]" = {}
"""What the environment said when it was asked first: reading it takes a microsecond, and a line would ask five times."""
_budgets: "dict[str, float]" = {}
"""What `SLOW_MS` said, as a number."""
_identities: "dict[tuple[str, str, str, str], str]" = {}
_seconds: "dict[str, tuple[int, str]]" = {}
"""The second that was written last in a form, and what was written."""
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
        "headers",
        "latency_ms",
        "metrics",
        "request_id",
        "seen",
        "stages_ms",
        "status",
        "trace_id",
        "value",
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
        self.metrics: dict[str, float] = {}  # of WORKER_METRICS and AROUND_METRICS
        self.answer_bytes: int | None = None  # no answer is passed on that is longer, where that is known
        self.headers: Mapping[str, str] | None = None  # the request's, with lower-case names
        self.value: object = None  # what was asked, as the log of predictions has it, where it is in the sample
        self.seen: Any = None  # the call and its outputs, where there is a log of predictions
        self.detail: dict[str, str] = {}  # error_type, error_message, traceback: only where something failed


class Clock:
    """Laps of one request, written into its record in milliseconds."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._stages = record.stages_ms
        self._last = perf_counter_ns()

    def lap(self, stage: str) -> None:
        """What went by since the last lap was this stage."""
        now = perf_counter_ns()
        self._stages[stage] = self._stages.get(stage, 0.0) + (now - self._last) / 1e6
        self._last = now


def line(record: Record, model: "Identified", now_ms: "int | None" = None) -> str:
    """The log line: the interface's keys, the metrics' own, then CloudWatch's description of them.

    Written by hand where the values are numbers of ours: a third of the time of `jsontext.dumps`, and each request pays for it.
    """
    now_ms = time_ns() // 1_000_000 if now_ms is None else now_ms
    failed, cold = record.status >= 500, record.cold_start
    level = "ERROR" if failed else "WARNING" if record.status >= 400 else "INFO"
    ids = jsontext.dumps({"trace_id": record.trace_id, "request_id": record.request_id})[1:-1]
    stages = [(stage, round(spent, 3)) for stage, spent in record.stages_ms.items()]
    laps = ",".join([f'"{stage}":{spent}' for stage, spent in stages])
    text = (
        f'{{"timestamp":"{_timestamp(now_ms)}","level":"{level}",{ids},{_identity(model)},'
        f'"latency_ms":{round(record.latency_ms, 3)},"stages_ms":{{{laps}}},"cold_start":{"true" if cold else "false"},'
        f'"batch":{record.batch},"status":{record.status},"errors":{failed:d},"cold_starts":{cold:d}'
    )
    more: tuple[str, ...] = ()
    beside: dict[str, Any] = {}
    if record.metrics:
        beside.update({name: round(value, 3) for name, value in record.metrics.items()})
        more = tuple([name for name in _MORE if name in record.metrics])
    if record.detail:
        beside.update(record.detail)
    if budget := _variable(SLOW_MS):
        beside["slow"] = int(record.latency_ms > _budget_ms(budget))
        more += ("slow",)
    if _variable(STAGE_METRICS) in ("1", "true"):
        timed = {f"stage_{stage}_ms": spent for stage, spent in stages if not stage.startswith("load_")}
        beside.update(timed)
        more += tuple(timed)
    if beside:
        text = f"{text},{jsontext.dumps(beside)[1:-1]}"
    described = _descriptions.get(more)
    if described is None:
        units = METRICS | {name: _MORE.get(name, "Milliseconds") for name in more}
        described = _descriptions[more] = jsontext.dumps(description(units))
    return f'{text},"_aws":{{"Timestamp":{now_ms},"CloudWatchMetrics":{described}}}}}'


def _identity(model: "Identified") -> str:
    """`identity` and `placed` as the inside of a JSON object: the same in each line of a package."""
    values = (model.name, model.version, model.variant, model.target)
    text = _identities.get(values)
    if text is None:
        text = _identities[values] = jsontext.dumps({**identity(model), **placed(model)})[1:-1]
    return text


def description(units: "Mapping[str, str]") -> "list[dict[str, Any]]":
    """What CloudWatch is told of a line with these metrics, by name with their units: the same for almost every line, and a third
    of it."""
    metrics = [{"Name": name, "Unit": unit} for name, unit in units.items()]
    if not _variable(SERVICE):
        return [{"Namespace": NAMESPACE, "Dimensions": [DIMENSIONS], "Metrics": metrics}]
    counts = [metric for metric in metrics if metric["Name"] in RELEASE_METRICS]
    blocks = [{"Namespace": NAMESPACE, "Dimensions": [SERVICE_DIMENSIONS], "Metrics": metrics}]
    if counts:
        blocks.append({"Namespace": NAMESPACE, "Dimensions": [RELEASE_DIMENSIONS], "Metrics": counts})
    return blocks


def placed(model: "Identified") -> "dict[str, str]":
    """The values of `RELEASE_DIMENSIONS`, where this package is a part of a deployment."""
    service = _variable(SERVICE)
    if not service:
        return {}
    release = _variable(RELEASE) or _variable("AWS_LAMBDA_FUNCTION_VERSION") or model.version
    return {"service": service, "release": release}


def _variable(name: str) -> str:
    value = _variables.get(name)
    if value is None:
        value = _variables[name] = os.environ.get(name, "")
    return value


def reread() -> None:
    """Ask the environment anew: an instance that was made of a snapshot has its own."""
    _variables.clear()
    _descriptions.clear()
    _identities.clear()


def _budget_ms(text: str) -> float:
    """A budget of milliseconds. What is no number is told once, and nothing is slow then: no line is lost for that."""
    if text not in _budgets:
        try:
            _budgets[text] = float(text)
        except ValueError:
            _budgets[text] = float("inf")
            warn(f"{SLOW_MS} is no number of milliseconds: nothing counts as slow")
    return _budgets[text]


def event(model: "Identified | None", level: str, message: str, **detail: "Any") -> str:
    """A line that is about no request: a start, an end, a fault of a service. `detail` holds JSON values."""
    entry = {"timestamp": _timestamp(time_ns() // 1_000_000), "level": level, "message": message}
    return jsontext.dumps({**entry, **(identity(model) if model else {}), **detail})


def written_second(form: str, second: int) -> str:
    """A second since 1970, in UTC and a form of `strftime`: every line and answer asks for it, and it changes once a second."""
    written = _seconds.get(form)
    if written is None or written[0] != second:
        written = _seconds[form] = (second, strftime(form, gmtime(second)))
    return written[1]


def _timestamp(now_ms: int) -> str:
    second, ms = divmod(now_ms, 1000)
    return f"{written_second('%Y-%m-%dT%H:%M:%S', second)}.{ms:03d}Z"


def identity(model: "Identified") -> "dict[str, str]":
    """The values of `DIMENSIONS`."""
    return {"model": model.name, "version": model.version, "variant": model.variant, "target": model.target}


def warn(message: str) -> None:
    """Write a warning that is about no request."""
    emit(event(None, "WARNING", message))


def emit(text: str) -> None:
    """Write one line to stdout, at once and by itself. A closed stdout is no reason to fail a request."""
    data = memoryview(text.encode() + b"\n")
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        return
