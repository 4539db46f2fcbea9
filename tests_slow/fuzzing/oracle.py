"""What every answer and every log line must look like, whatever was asked: docs/interface.md, docs/worker.md and docs/front-door.md
as code. Each function raises `Broken`, in words, for what is not one of the promised forms."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

TYPES = {
    400: {"InvalidRequest"},
    404: {"NotFound"},
    405: {"MethodNotAllowed"},
    413: {"PayloadTooLarge"},
    422: {"Unprocessable", "IdReused"},
    504: {"DeadlineExceeded"},
}
"""The stable word of each status. 500 is for hooks' faults alone, and 503 for an entrance that says so: `types`."""
LONGEST_MESSAGE = 2_100
LONGEST_LINE = 20_000
"""Letters of an error's message, and bytes of a log line: nothing that a caller sends is repeated whole."""
_TRACE = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_NAME = re.compile(r"[a-z0-9-]+")
_REQUEST_LINE = {
    "timestamp", "level", "trace_id", "request_id", "model", "version", "variant", "target", "latency_ms", "stages_ms",
    "cold_start",
    "batch", "status", "errors", "cold_starts", "_aws",
}  # fmt: skip
_ERROR = {"error", "error_type", "trace_id"}
_MORE = {"error_type", "error_message", "error_stage", "hook_errors", "traceback", "queue_age_ms", "batch_fill", "retries"}
_ITEMS = {"BOOL": 1, "UINT8": 1, "INT32": 4, "INT64": 8, "FP16": 2, "FP32": 4, "FP64": 8}


class Broken(AssertionError):  # noqa: N818  (a promise that was broken)
    """An answer, or a line, that was not promised."""


def check(holds: object, why: str, what: object = "") -> None:
    """Raise Broken unless it holds."""
    if not holds:
        raise Broken(f"{why}: {str(what)[:1000]}" if what != "" else why)


def headers(found: Mapping[str, str]) -> str:
    """Clean names and values, and a trace id; that."""
    for name, value in found.items():
        check(type(name) is str and _NAME.fullmatch(name), "a header's name", name)
        check(type(value) is str and value.isprintable() and max(value, default="") <= "\xff", "a header's value", repr(value))
        check(len(value) <= 1_000, "a long header", value)
    trace = found.get("x-trace-id", "")
    check(_TRACE.fullmatch(trace), "x-trace-id", trace)
    return trace


def answer(status: int, found: Mapping[str, str], body: bytes, allowed: Mapping[int, set[str]], method: str = "POST") -> Any:
    """The JSON of an answer over HTTP. `allowed`: more errors than TYPES has, as {status: types}."""
    trace = headers(found)
    if method == "HEAD" and not body:
        return None
    if found.get("content-type") == "application/octet-stream":
        check(status == 200, "a binary answer that is not 200", status)
        value = binary(body, found["inference-header-content-length"])
    else:
        check(found.get("content-type") == "application/json", "content-type", found.get("content-type"))
        check("inference-header-content-length" not in found, "a JSON answer with a binary one's header")
        value = strict(body)
    error(status, value, allowed)
    if status >= 400:
        check(value["trace_id"] == trace, "another trace id in the body than in the header", value["trace_id"])
    elif isinstance(value, dict) and "model_name" in value:
        check(value["parameters"]["trace_id"] == trace, "another trace id in the body than in the header", value["parameters"])
        outputs(value)
    return value


def error(status: int, value: Any, allowed: Mapping[int, set[str]]) -> None:
    """An error's own form; none where the status is no error's."""
    if status < 400:
        check(status in (200, 202), "status", status)
        check(not (isinstance(value, dict) and "error" in value), "an error as 200", value)
        return
    types = TYPES.get(status, set()) | allowed.get(status, set())
    check(types, f"status {status}", value)
    check(
        isinstance(value, dict) and _ERROR <= set(value) <= _ERROR | {"ticket", "href"},
        "an error's form",
        value,
    )
    told = value["error"]
    check(value["error_type"] in types, f"an error's type for {status}", value)
    check(isinstance(told, str) and told, "an error without a message", value)
    check(len(told) <= LONGEST_MESSAGE, f"a message of {len(told)} letters", told)
    check(_TRACE.fullmatch(value["trace_id"]), "trace id", value["trace_id"])


def outputs(value: dict[str, Any]) -> None:
    """An inference answer: each output as many values as its shape says."""
    for row in value["outputs"]:
        count = 1
        for size in row["shape"]:
            count *= size
        if "data" in row:
            check(isinstance(row["data"], list) and len(row["data"]) == count, "an output's data", row)
        else:
            check(row["parameters"]["binary_data_size"] == count * _ITEMS[row["datatype"]], "an output's size", row)


def binary(body: bytes, stated: str) -> Any:
    """A binary answer's JSON; its tensors must fill the rest."""
    value = strict(body[: int(stated)])
    sizes = [row["parameters"]["binary_data_size"] for row in value["outputs"] if "data" not in row]
    check(int(stated) + sum(sizes) == len(body), "a binary answer's bytes", (stated, sizes, len(body)))
    return value


def strict(body: bytes) -> Any:
    """JSON as the standard has it: ASCII or UTF-8, no NaN."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        return json.loads(body.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as failed:
        raise Broken(f"an answer that is not JSON ({failed}): {body[:300]!r}") from None


def envelope(event: Mapping[str, Any], made: Any, allowed: Mapping[int, set[str]]) -> tuple[int, Any]:
    """(status, JSON) of what Lambda hands to a gateway or a load balancer."""
    check(isinstance(made, dict), "an envelope", made)
    context = event["requestContext"]
    balanced = "elb" in context
    many = balanced and event.get("headers") is None
    key = "multiValueHeaders" if many else "headers"
    check(set(made) == {"statusCode", key, "body", "isBase64Encoded"}, "an envelope's keys", list(made))
    check(
        type(made["statusCode"]) is int and type(made["isBase64Encoded"]) is bool and type(made["body"]) is str, "an envelope", made
    )
    found = made[key]
    if many:
        check(all(type(values) is list and len(values) == 1 for values in found.values()), "multi-value headers", found)
        found = {name: values[0] for name, values in found.items()}
    limit = (1 << 20) if balanced else 6 << 20
    check(len(json.dumps(made)) <= limit, "an answer that its sender would drop", len(made["body"]))
    if made["isBase64Encoded"]:
        import base64

        body = base64.b64decode(made["body"], validate=True)
    else:
        body = made["body"].encode()
    return made["statusCode"], answer(made["statusCode"], found, body, allowed)


def line(text: str, *targets: str) -> dict[str, Any]:
    """One log line: one JSON object of the documented keys, with our own metrics and nobody else's."""
    check(len(text) <= LONGEST_LINE, f"a log line of {len(text)} letters", text)
    found = strict(text.encode())
    check(isinstance(found, dict) and text.isascii() and text.isprintable(), "a log line", text)
    if "batch" not in found:
        check({"timestamp", "level", "message"} <= set(found) and "_aws" not in found, "a log line about no request", text)
        return dict(found)
    check(_REQUEST_LINE <= set(found) <= _REQUEST_LINE | _MORE, "a log line's keys", set(found) ^ _REQUEST_LINE)
    check(found["target"] in targets and found["model"] == "tiny", "whose line it is", found["target"])
    check(_TRACE.fullmatch(found["trace_id"]), "a log line's trace id", found["trace_id"])
    check(len(found["request_id"]) <= 300, "a log line's request id", found["request_id"])
    (described,) = found["_aws"]["CloudWatchMetrics"]
    check(
        described["Namespace"] == "mlpack" and described["Dimensions"] == [["model", "version", "variant", "target"]],
        "EMF",
        described,
    )
    for metric in described["Metrics"]:
        check(type(found[metric["Name"]]) in (int, float), "a metric", metric)
    return dict(found)


def plain(value: Any) -> Any:
    """An answer without what differs from call to call."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if key != "trace_id"}
    return [plain(one) for one in value] if isinstance(value, list) else value
