"""What a process counts, as Prometheus reads it: its text format 0.0.4, or OpenMetrics 1.0 for whoever asks for that.

Promises: the metrics of the log lines (`telemetry.METRICS`, `WORKER_METRICS`) in Prometheus's base units, each line counted once,
and beside them stages, statuses, refusals and gauges of the moment; names and labels stay. Will not: keep samples, or push.

Sources: prometheus.io, "Exposition formats" and "Metric and label naming"; OpenMetrics 1.0.0.
"""

import os
import threading
from bisect import bisect_left

from mlpack_runtime import telemetry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlpack_runtime.model import Described
    from mlpack_runtime.telemetry import Record

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COUNTS = tuple(float(1 << power) for power in range(13))
_RATIOS = tuple(part / 8 for part in range(1, 9))
_HELP = {
    "latency_ms": "Time from a request's last byte to its answer's first.",
    "batch": "Samples of a request.",
    "errors": "Requests that were answered with status 500 or more.",
    "cold_starts": "First requests after a start.",
    "queue_age_ms": "Time that a message was in the queue before it was received.",
    "batch_fill": "Rows of the batch in which a request ran, as a share of the most that one may have.",
    "retries": "Receipts of messages before the one that was answered.",
    "features_missing": "Entities that the table of features did not know, or not whole.",
    "features_late": "Entities whose features did not come within their deadline.",
    "features_failed": "Entities whose features could not be asked for.",
    "cache_hits": "Requests that were answered out of the cache of predictions.",
    "log_dropped": "Lines of the log of predictions that were lost.",
    "hook_errors": "Requests that failed by a hook's own fault.",
}


class Histogram:
    """Counts by upper bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: "Sequence[float]") -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """One more."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class _Family:
    """A metric of the log lines under Prometheus's name: `factor` turns the one unit into the other."""

    __slots__ = ("counter", "factor", "histogram", "name", "text", "unit")

    def __init__(self, key: str, unit: str) -> None:
        stem = key.removesuffix("_ms")
        bounds, self.unit, self.factor = {
            "Milliseconds": (SECONDS, "seconds", 1e-3),
            "Percent": (_RATIOS, "ratio", 1e-2),
            "Count": (_COUNTS, "", 1.0),
        }[unit]
        self.name = f"mlpack_{stem}_{self.unit}" if self.unit else f"mlpack_{stem}"
        self.text = _HELP[key]
        self.histogram = None if unit == "Count" and key != "batch" else Histogram(bounds)
        self.counter = 0.0

    def add(self, value: float) -> None:
        if self.histogram is not None:
            self.histogram.add(value * self.factor)
        else:
            self.counter += value


class Gauge:
    """A number of the moment, or with `counts` one that only grows."""

    __slots__ = ("counts", "name", "text", "unit", "value")

    def __init__(self, name: str, value: float, text: str, unit: str = "", *, counts: bool = False) -> None:
        self.name = name
        self.value = value
        self.text = text
        self.unit = unit
        self.counts = counts


class Metrics:
    """Counted by any thread, and written out by any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families = {key: _Family(key, unit) for key, unit in (telemetry.METRICS | telemetry.WORKER_METRICS).items()}
        self._stages: dict[str, Histogram] = {}
        self._statuses: dict[int, int] = {}
        self._refusals: dict[int, int] = {}
        self._children: dict[str, tuple[Described, Metrics]] = {}

    def of(self, model: "Described") -> "Callable[[Record], None]":
        """What counts the requests to one of several models, which have the model's labels."""
        with self._lock:
            if model.name not in self._children:
                self._children[model.name] = (model, Metrics())
            return self._children[model.name][1].observe

    def observe(self, record: "Record") -> None:
        """Count a request that has a line in the log."""
        with self._lock:
            families = self._families
            self._statuses[record.status] = self._statuses.get(record.status, 0) + 1
            families["latency_ms"].add(record.latency_ms)
            if record.asked:
                families["batch"].add(record.batch)
            if record.status >= 500:
                families["errors"].add(1)
            if record.cold_start:
                families["cold_starts"].add(1)
            for key, value in record.metrics.items():
                if key not in families:  # of features, a cache or a log: not there in packages without them
                    families[key] = _Family(key, telemetry.AROUND_METRICS[key])
                families[key].add(value)
            for stage, spent_ms in record.stages_ms.items():
                if not stage.startswith("load_"):
                    if stage not in self._stages:
                        self._stages[stage] = Histogram(SECONDS)
                    self._stages[stage].add(spent_ms * 1e-3)

    def refuse(self, status: int) -> None:
        """Count what was answered without being looked at, and has no line."""
        with self._lock:
            self._refusals[status] = self._refusals.get(status, 0) + 1

    def text(self, model: "Described | None", gauges: "Sequence[Gauge]", accepted: str = "") -> "tuple[str, bytes]":
        """(content type, document). `accepted`: the reader's `Accept`."""
        is_open = "application/openmetrics-text" in accepted
        labels = telemetry.identity(model) if model else {}
        with self._lock:
            counted = [(labels, self), *((telemetry.identity(other), child) for other, child in self._children.values())]
            # A family's samples stand together, whichever model they are of; not every model has every family.
            families: dict[tuple[str, ...], list[str]] = {}
            for own, each in counted:
                for head, rows in each._parts(own, is_open=is_open):
                    families.setdefault(tuple(head), []).extend(rows)
        lines = [line for head, rows in families.items() for line in (*head, *rows)]
        for gauge in (*gauges, *_process()):
            name = f"{gauge.name}_total" if gauge.counts else gauge.name
            lines += _head(gauge.name, "counter" if gauge.counts else "gauge", gauge.text, gauge.unit, is_open=is_open)
            lines.append(f"{name}{_labels(labels if gauge.name.startswith('mlpack') else {})} {_number(gauge.value)}")
        return (OPEN if is_open else PLAIN), ("\n".join([*lines, *(["# EOF"] if is_open else [])]) + "\n").encode()

    def _parts(self, labels: "Mapping[str, str]", *, is_open: bool) -> "Iterator[tuple[list[str], list[str]]]":
        """The head and the samples of each family."""
        silent = bool(self._children)
        for family in self._families.values():
            histogram = family.histogram
            kind = "histogram" if histogram else "counter"
            head = _head(family.name, kind, family.text, family.unit, is_open=is_open)
            counter = [f"{family.name}_total{_labels(labels)} {_number(family.counter)}"]
            yield head, [] if silent else _rows(family.name, histogram, labels) if histogram else counter
        head = _head("mlpack_stage_seconds", "histogram", "Time that a request spent in a stage.", "seconds", is_open=is_open)
        stages = [_rows("mlpack_stage_seconds", each, {**labels, "stage": stage}) for stage, each in self._stages.items()]
        yield head, [row for rows in stages for row in rows]
        for name, counts, text in (
            ("mlpack_requests", self._statuses, "Requests that have a line in the log, by their status."),
            ("mlpack_refusals", self._refusals, "What was refused without a line in the log, by its status."),
        ):
            rows = [f"{name}_total{_labels({**labels, 'status': str(status)})} {count}" for status, count in sorted(counts.items())]
            yield _head(name, "counter", text, "", is_open=is_open), rows


def _head(name: str, kind: str, text: str, unit: str, *, is_open: bool) -> "list[str]":
    """The lines before a family's samples: OpenMetrics names a counter without `_total`, the plain format with it."""
    family = f"{name}_total" if kind == "counter" and not is_open else name
    lines = [f"# HELP {family} {text}", f"# TYPE {family} {kind}"]
    if is_open and unit:
        lines.append(f"# UNIT {family} {unit}")
    return lines


def _rows(name: str, histogram: Histogram, labels: "Mapping[str, str]") -> "list[str]":
    lines, below = [], 0
    for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
        below += count
        lines.append(f"{name}_bucket{_labels({**labels, 'le': '+Inf' if bound is None else repr(bound)})} {below}")
    return [*lines, f"{name}_sum{_labels(labels)} {_number(histogram.total)}", f"{name}_count{_labels(labels)} {below}"]


def _labels(labels: "Mapping[str, str]") -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1 << 53 else repr(float(value))


def _process() -> "list[Gauge]":
    """What client libraries say of their process (prometheus.io, "Standard and runtime collectors"); nothing where /proc is not."""
    try:
        with open("/proc/self/stat", "rb") as file:  # noqa: PTH123  (pathlib is no part of a start)
            fields = file.read().rpartition(b")")[2].split()
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        return [
            Gauge(
                "process_cpu_seconds",
                (int(fields[11]) + int(fields[12])) / ticks,
                "Processor time, of user and system.",
                "seconds",
                counts=True,
            ),
            Gauge("process_resident_memory_bytes", int(fields[21]) * page, "Resident memory.", "bytes"),
            Gauge("process_open_fds", len(os.listdir("/proc/self/fd")), "Open files."),
        ]
    except (OSError, ValueError, IndexError):
        return []
