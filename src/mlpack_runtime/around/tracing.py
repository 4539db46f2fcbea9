"""The trace of a request, passed on to what is called on its behalf: the headers of W3C Trace Context and of AWS X-Ray.

Promises: the ids are the caller's own, or the platform's; with neither, the trace id that the log line has. A header that is no
trace is not passed on.

Sources: W3C Trace Context, level 1; AWS X-Ray developer guide, "Tracing header".
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mlpack_runtime.telemetry import Record

_HEX = frozenset("0123456789abcdef")
_LONGEST = 512


def headers_of(record: "Record") -> "dict[str, str]":
    """Headers for a call that this request makes."""
    given = record.headers or {}
    passed: dict[str, str] = {}
    parts = given.get("traceparent", "")[:_LONGEST].strip().lower().split("-")
    if _is_parent(parts):
        passed["traceparent"] = f"00-{parts[1]}-{os.urandom(8).hex()}-{parts[3]}"
        state = given.get("tracestate", "")
        if state and len(state) <= _LONGEST and state.isprintable() and state.isascii():
            passed["tracestate"] = state
    for line in (given.get("x-amzn-trace-id"), os.environ.get("_X_AMZN_TRACE_ID")):
        if line and "Root=" in line and len(line) <= _LONGEST and line.isprintable() and line.isascii():
            passed["x-amzn-trace-id"] = line
            break
    if not passed and len(record.trace_id) == 32 and _HEX.issuperset(record.trace_id):
        passed["traceparent"] = f"00-{record.trace_id}-{os.urandom(8).hex()}-00"
    return passed


def _is_parent(parts: "list[str]") -> bool:
    sizes = len(parts) >= 4 and [len(part) for part in parts[:4]] == [2, 32, 16, 2]
    return sizes and all(map(_HEX.issuperset, parts[:4])) and parts[0] != "ff" and parts[1] != "0" * 32
