"""Requests by number: a correct one of a package, or one that was drawn, changed, and put into a form that an entrance takes.

`draw(seed, number, spec)` gives the same request whenever it is asked, so that each can be sent again by itself.
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests_slow.fuzzing import extremes
from tests_slow.fuzzing.packages import Port, Spec

CORRECT_EVERY = 25
"""One request in so many is a correct one, whose answer must be the first one's bit for bit."""
_mixed: list[float] = []
NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:~")
_CODES = {"BOOL": "?", "UINT8": "B", "INT32": "i", "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d"}
_PATHS = (
    "/v2/models/tiny/infer", "/v2/models/tiny/versions/3/infer", "/stage/v2/models/tiny/infer", "/", "/invoke", "/v2",
    "/v2/models/tiny",
    "/v2/health/ready", "/v2/health/live", "/v2/models/tiny/ready", "/v2/models/other/infer", "/v2/models/tiny/versions/4/infer",
    "/v2/requests/abc", "/v2/requests/" + "a" * 300, "/v2/requests/../x", "/v2//models//tiny//infer", "/v2/models/tiny/infer/",
    "//",
    "/v2/models/" + "a" * 5000 + "/infer", "/%2e%2e/v2", "/v2/models/tiny/infer?x=1", "/?v2", "/v2/models/tiny/versions//infer",
)  # fmt: skip
_METHODS = ("POST", "POST", "POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
_HEADERS = (
    "content-type", "x-trace-id", "traceparent", "tracestate", "x-amzn-trace-id", "x-request-id", "idempotency-key", "prefer",
    "x-deadline-ms", "inference-header-content-length", "accept", "cookie", "x-forwarded-for", "authorization",
)  # fmt: skip
_VALUES = (
    "application/json", "respond-async", "wait=10", "wait=99999999999999999999", "respond-async, wait=0", "-1", "0", "1", "5000",
    "99999999999999", "9" * 30, "9" * 5000, "²", "1e3", " 7 ", "+5", "0x10",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-" + "0" * 32 + "-b7ad6b7169203331-01", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=1", "Root=" + "a" * 500,
    "Root=;Root=x",
    "id-1", '"id-1"', "a" * 128, "a" * 129, "../x", ".", "a:b", "trace.1", "t\tt", "a" * 60_000, "%0d%0aSet-Cookie: x=1",
    "x\r\nevil: 1", "x\nevil",
)  # fmt: skip


@dataclass
class Request:
    """As HTTP sees it. `correct`: which of the package's correct bodies it is, None for what was drawn."""

    number: int
    body: bytes
    method: str = "POST"
    path: str = "/v2/models/tiny/infer"
    headers: dict[str, str] = field(default_factory=dict)
    correct: int | None = None

    @property
    def size(self) -> int:
        """Bytes, all of them."""
        return len(self.body) + len(self.path) + sum(len(name) + len(value) for name, value in self.headers.items())


def mix(wrong: float) -> None:
    """From now on all are correct ones but this share: traffic, in the place of attacks."""
    _mixed[:] = [wrong]


def draw(seed: int, number: int, spec: Spec) -> tuple[Request, Random]:
    """(the request, what is to be drawn for its form)."""
    random = Random(f"{seed}:{spec.kind}:{number}")
    if random.random() >= _mixed[0] if _mixed else number % CORRECT_EVERY == 0:
        which = number // (1 if _mixed else CORRECT_EVERY) % len(spec.correct)
        return Request(number, json.dumps(spec.correct[which]).encode(), correct=which), random
    value, tail, bodies = _value(random, spec)
    for _ in range(random.choice((0, 0, 0, 1, 1, 1, 3))):
        value = extremes.changed(random, value)
    body = extremes.written(random, value)
    made = Request(number, body + tail)
    if bodies:
        made.headers["inference-header-content-length"] = str(len(body) + random.choice((0, 0, 0, 0, 0, 0, -1, 1)))
    if random.random() < 0.15:
        made.body = extremes.mangled(random, made.body)
    if random.random() < 0.1:
        made.path, made.method = random.choice(_PATHS), random.choice(_METHODS)
    elif random.random() < 0.03:
        made.path = "/" + extremes.text(random)
    for _ in range(random.choice((0, 0, 0, 0, 1, 1, 2, 6))):
        name = random.choice(_HEADERS) if random.random() < 0.9 else extremes.text(random)
        made.headers[name.lower()] = random.choice(_VALUES) if random.random() < 0.8 else extremes.text(random)
    return made, random


def _value(random: Random, spec: Spec) -> tuple[Any, bytes, bool]:
    """(a value that is near to right, the bytes of binary tensors after it, whether there are any)."""
    forms = [
        "protocol",
        "protocol",
        "binary",
        "plain",
        *(["hook"] * 3 if spec.hooked else []),
        *(["text"] * 3 if spec.has_texts else []),
    ]
    form = random.choice(forms)
    if form == "hook":
        rows = [[random.randrange(9) for _ in range(4)] for _ in range(random.choice((0, 1, 2, 3, 40)))]
        return (
            random.choice(({"rows": rows}, {"rows": rows, "crash": random.random() < 0.2}, {"rows": rows, "more": rows})),
            b"",
            False,
        )
    if form == "text":
        return _texts(random)
    sizes = {
        axis: random.choice((0, 1, 1, 1, 2, 3, 7, 64)) for _, _, shape in spec.inputs for axis in shape if isinstance(axis, str)
    }
    rows, tail = [], b""
    for port in spec.inputs:
        row, more = _row(random, port, sizes, binary=form == "binary" and random.random() < 0.8)
        rows.append(row)
        tail += more
    if form == "plain":
        return {"inputs": {row["name"]: row["data"] for row in rows}}, b"", False
    random.shuffle(rows) if form == "protocol" else None
    value: dict[str, Any] = {"inputs": rows}
    if random.random() < 0.3:
        value["id"] = random.choice(("a", "id-1", extremes.text(random)))
    if random.random() < 0.3:
        names = [name for name, _, _ in spec.outputs]
        value["outputs"] = [
            {"name": random.choice(names), "parameters": {"binary_data": random.random() < 0.5}}
            for _ in range(random.choice((0, 1, 2, 30)))
        ]
    if random.random() < 0.3:
        value["parameters"] = {"binary_data_output": random.random() < 0.7}
    return value, tail, form == "binary"


def _texts(random: Random) -> tuple[Any, bytes, bool]:
    texts = [
        " ".join(random.choices(("a", "cat", "dogs", "mat", "zebra"), k=random.choice((0, 1, 3, 9))))
        for _ in range(random.choice((1, 1, 2, 3, 30)))
    ]
    form = random.randrange(4)
    if form == 0:
        return {"text": texts[0]}, b"", False
    if form == 1:
        return {"texts": texts}, b"", False
    row: dict[str, Any] = {"name": "text", "shape": [len(texts)], "datatype": "BYTES"}
    if form == 2:
        return {"inputs": [{**row, "data": texts}]}, b"", False
    tail = b"".join(struct.pack("<I", len(one.encode())) + one.encode() for one in texts)
    return {"inputs": [{**row, "parameters": {"binary_data_size": len(tail)}}]}, tail, True


def _row(random: Random, port: Port, sizes: dict[str, int], *, binary: bool) -> tuple[dict[str, Any], bytes]:
    name, datatype, axes = port
    shape = [size if isinstance(size, int) else sizes[size] for size in axes]
    count = 1
    for size in shape:
        count *= size
    kinds = {"BOOL": (True, False), "UINT8": (0, 1, 255), "INT64": (0, 1, 5, -1, 2**63 - 1), "FP16": (0, 1.5, -2, 65504)}
    values = random.choices(kinds.get(datatype, (0, 1, -1.5, 2.25, 1e30, 7)), k=count)
    row: dict[str, Any] = {"name": name, "shape": shape, "datatype": datatype}
    if binary:
        data = struct.pack(f"<{count}{_CODES[datatype]}", *values)
        if random.random() < 0.2:  # NaN, infinities, booleans of 7: any bytes are a tensor
            data = random.randbytes(len(data))
        return {**row, "parameters": {"binary_data_size": len(data)}}, data
    return {**row, "data": values if random.random() < 0.7 else _nested(values, shape)}, b""


def _nested(values: list[Any], shape: list[int]) -> Any:
    if not shape:
        return values[0]
    for axis in range(len(shape) - 1, 0, -1):
        size, outer = shape[axis], 1
        for one in shape[:axis]:
            outer *= one
        values = [values[at * size : (at + 1) * size] for at in range(outer)]
    return values


def direct(random: Random, request: Request) -> Any:
    """What a direct invocation hands over: any value that JSON can hold, or the warm-up."""
    if request.correct is None and random.random() < 0.02:
        return {"warmup": random.choice((True, True, 1, "true", False))}
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):
        return extremes.text(random)


def event(random: Random, request: Request) -> dict[str, Any]:
    """As one of the senders that there are hands it to a function; now and then with a field that none of them sends."""
    encoded = random.random() < 0.3
    try:
        text = base64.b64encode(request.body).decode() if encoded else request.body.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        encoded, text = True, base64.b64encode(request.body).decode()
    context: dict[str, Any] = {}
    made: dict[str, Any] = {"requestContext": context, "body": text, "isBase64Encoded": encoded}
    form = random.choice(("v1", "v2", "url", "alb", "alb-multi"))
    many = {name: ["first", value] if random.random() < 0.2 else [value] for name, value in request.headers.items()}
    if form in ("v2", "url"):
        context["http"] = {"method": request.method, "path": request.path, "sourceIp": "192.0.2.1"}
        made.update(version="2.0", rawPath=request.path, headers=dict(request.headers))
    else:
        made.update(httpMethod=request.method, path=request.path)
        made["multiValueHeaders"] = many if form == "alb-multi" or random.random() < 0.5 else None
        if form != "alb-multi":
            made["headers"] = random.choice(
                (dict(request.headers), {name.title(): value for name, value in request.headers.items()})
            )
        context.update({"elb": {"targetGroupArn": "arn"}} if form.startswith("alb") else {"stage": "prod"})
    if request.correct is None and random.random() < 0.15:
        made = extremes.changed(random, made)
    return cleaned(made) if isinstance(made, dict) else {"requestContext": {}, "body": text}


def cleaned(whole: Any) -> Any:
    """What is left of literals where a value is no text of JSON: numbers that Lambda would have read, and else the words."""
    if isinstance(whole, dict):
        return {cleaned(key): cleaned(value) for key, value in whole.items()}
    if isinstance(whole, list):
        return [cleaned(one) for one in whole]
    if isinstance(whole, str) and whole.startswith("\ue000raw:"):
        try:
            return json.loads(whole[5:-1])
        except (ValueError, RecursionError):
            return whole[5:-1]
    return whole


def enveloped(random: Random, body: str) -> str:
    """As SNS puts it into a queue, now and then with a part that is not as it should be."""
    parts: dict[str, Any] = {
        "Type": "Notification",
        "TopicArn": "arn:aws:sns:eu-west-1:1:t",
        "Message": body,
        "MessageAttributes": {},
    }
    if random.random() < 0.1:
        odd = (None, [], {"trace_id": {"Value": "t"}}, {"trace_id": {"Value": 3}}, {"x": "y"})
        parts["MessageAttributes"] = random.choice(odd)
    return json.dumps(parts)


def message(random: Random, request: Request) -> dict[str, Any]:
    """As SQS hands it to a worker."""
    attributes: dict[str, Any] = {}
    said = {"request_id": f"r-{request.number}", "trace_id": "t", "model": "tiny", "version": "3"}
    for name, value in said.items():
        if random.random() < 0.6:
            attributes[name] = {"DataType": "String", "StringValue": value}
    if "inference-header-content-length" in request.headers:
        size = request.headers["inference-header-content-length"]
        attributes["inference-header-content-length"] = {"DataType": "String", "StringValue": size}
    if request.correct is None and random.random() < 0.3:
        names = (*said, "traceparent", "deadline_ms", "payload", "inference-header-content-length", "reason", "other")
        for name in random.choices(names, k=2):
            odd = random.choice(
                (
                    "s3://bucket/key",
                    "s3://absent/key",
                    "s3://",
                    "nan",
                    "inf",
                    "-1",
                    "1",
                    "99999999999999",
                    "1e999",
                    "4",
                    extremes.text(random),
                )
            )
            attributes[name] = random.choice(
                ({"DataType": "String", "StringValue": odd}, {"DataType": "Binary", "BinaryValue": b"\x00"})
            )
    system = {"ApproximateReceiveCount": random.choice(("1", "1", "2", "50")), "SentTimestamp": "1700000000000"}
    if random.random() < 0.2:
        system["AWSTraceHeader"] = random.choice(("Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700", extremes.text(random)))
    body = request.body.decode("utf-8", "replace") if request.correct is None else request.body.decode()
    return {
        "MessageId": f"m-{request.number}",
        "ReceiptHandle": "handle",
        "Body": enveloped(random, body) if random.random() < 0.2 else body,
        "Attributes": system,
        "MessageAttributes": attributes,
    }
