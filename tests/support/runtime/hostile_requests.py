"""Small requests that ask for much: every field at its extremes, and pairs of fields, for a text model and its tensors.

`corpus(size)` gives them; `size` is about how many items or characters a field is blown up to, so that costs can be compared at two
sizes. Deterministic: a name always stands for the same bytes. Whoever mutates requests can start from these.
"""

from __future__ import annotations

import copy
import itertools
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

DIGITS = 4300  # what Python reads of a number at most


@dataclass(frozen=True)
class Request:
    """One of them. `headers` have lower-case names; the body is sent as it is."""

    name: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """What its sender had to send."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers.items())


class Raw:
    """A JSON text that `json.dumps` would not write."""

    def __init__(self, text: str) -> None:
        self.text = text


def good() -> dict[str, Any]:
    """What a caller with good manners sends: two texts' tokens."""
    return {
        "id": "7",
        "inputs": [
            {"name": name, "shape": [2, 3], "datatype": "INT64", "data": [2, 4, 3, 2, 5, 3]}
            for name in ("input_ids", "attention_mask")
        ],
        "outputs": [{"name": "embedding"}],
        "parameters": {},
    }


def nested(depth: int, inner: str = "") -> Raw:
    """Lists in lists."""
    return Raw("[" * depth + inner + "]" * depth)


def shapes(size: int) -> dict[str, Any]:
    """What may stand for a shape."""
    return {
        "zero rows": [0, 3],
        "rows of nothing": [200_000, 0],
        "more rows of nothing": [600_000, 0],
        "nothing of much": [0, 600_000],
        "nothing of nothing": [0, 0],
        "one of nothing": [1, 0],
        "beyond 64 bits of nothing": [2**63, 0],
        "scalar": [],
        "many axes": [1] * size,
        "many axes of nothing": [1] * size + [0],
        "axes of many digits": [Raw("9" * 99)] * (size // 100),
        "a size of many digits": [Raw("9" * DIGITS)],
        "a size of too many digits": [Raw("9" * (DIGITS + 1))],
        "a product beyond 64 bits": [2**31, 2**33],
        "negative": [-1, 3],
        "negative twice": [-2, -3],
        "booleans": [True, 6],
        "fractions": [2.0, 3],
        "lists": [[2, 3]],
        "none": None,
        "nones": [None] * (size // 5),
        "text": "2" * size,
        "object": {str(at): at for at in range(size // 12)},
        "deep": nested(900),
    }


def data(size: int) -> dict[str, Any]:
    """What may stand for values."""
    return {
        "empty": [],
        "one": [1],
        "many": [1] * (size // 2),
        "empty lists": [[]] * (size // 3),
        "empty objects": [{}] * (size // 3),
        "empty texts": [""] * (size // 3),
        "nones": [None] * (size // 5),
        "deep": nested(900, "1"),
        "deep first": Raw("[" + "[" * 450 + "1" + "]" * 450 + ",1" * (size // 2) + "]"),
        "long numbers": [Raw("9" * DIGITS)] * (size // DIGITS + 1),
        "numbers of 300 digits": [Raw("9" * 300)] * (size // 300),
        "long fractions": [Raw("0." + "1" * size)],
        "beyond every float": [Raw("1e400")] * (size // 6),
        "text": "1" * size,
        "object": {str(at): at for at in range(size // 12)},
        "ragged": [[1]] * (size // 4) + [[1, 2]],
        "none": None,
    }


def names(size: int) -> dict[str, Any]:
    """What may stand for a name."""
    return {
        "long": "x" * size,
        "of escapes": "\x01" * (size // 6),
        "of pictures": "\U0010ffff" * (size // 12),
        "half a pair": Raw('"\\ud800"'),
        "empty": "",
        "a list": ["x"] * (size // 4),
        "a number": Raw("9" * DIGITS),
        "an object": {},
        "none": None,
    }


def sizes(size: int) -> dict[str, Any]:
    """What may stand for a binary tensor's size."""
    return {
        "negative": -1,
        "long": Raw("9" * DIGITS),
        "true": True,
        "fraction": 1.5,
        "text": "9" * size,
        "list": [1] * (size // 2),
        "more than there is": 2**40,
    }


def objects(size: int) -> dict[str, Any]:
    """What may stand for parameters."""
    return {
        "deep": Raw('{"a":' * 400 + "1" + "}" * 400),
        "many keys": {f"k{at}": at for at in range(size // 12)},
        "long key": {"k" * size: 1},
        "beyond every float": {"x": Raw("1e400")},
        "list": [1] * (size // 2),
        "text": "x" * size,
    }


def fields(size: int) -> dict[str, dict[str, Callable[[dict[str, Any]], None]]]:
    """{field: {extreme: what it does to a good request}}."""

    def to(place: Callable[[dict[str, Any]], dict[str, Any]], key: str, value: Any) -> Callable[[dict[str, Any]], None]:
        return lambda request: place(request).__setitem__(key, copy.deepcopy(value))

    def both(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
        def change(request: dict[str, Any]) -> None:
            for row in request["inputs"]:
                row[key] = value

        return change

    def first(request: dict[str, Any]) -> dict[str, Any]:
        rows: list[dict[str, Any]] = request["inputs"]
        return rows[0]

    def whole(request: dict[str, Any]) -> dict[str, Any]:
        return request

    row = good()["inputs"][0]
    many_rows = max(2, size // 80)
    many_outputs = max(2, size // 22)
    return {
        "shape": {name: to(first, "shape", value) for name, value in shapes(size).items()},
        "shapes": {f"both {name}": both("shape", value) for name, value in shapes(size).items()},
        "data": {name: to(first, "data", value) for name, value in data(size).items()},
        "datas": {f"both {name}": both("data", value) for name, value in data(size).items()},
        "name": {name: to(first, "name", value) for name, value in names(size).items()},
        "datatype": {
            name: to(first, "datatype", value) for name, value in {**names(size), "bytes": "BYTES", "fp32": "FP32"}.items()
        },
        "id": {name: to(whole, "id", value) for name, value in names(size).items()},
        "parameters": {name: to(whole, "parameters", value) for name, value in objects(size).items()},
        "row's parameters": {name: to(first, "parameters", value) for name, value in objects(size).items()},
        "binary_data_size": {name: to(first, "parameters", {"binary_data_size": value}) for name, value in sizes(size).items()},
        "inputs": {
            "twice": to(whole, "inputs", [row] * many_rows),
            "unknown": to(whole, "inputs", [{**row, "name": f"x{at}"} for at in range(many_rows)]),
            "names only": to(whole, "inputs", [{"name": "input_ids"}] * (size // 22)),
            "none": to(whole, "inputs", []),
            "deep": to(whole, "inputs", nested(900)),
        },
        "outputs": {
            "twice": to(whole, "outputs", [{"name": "embedding"}] * many_outputs),
            "unknown": to(whole, "outputs", [{"name": f"x{at}"} for at in range(many_outputs)]),
            "long name": to(whole, "outputs", [{"name": "x" * size}]),
            "empty objects": to(whole, "outputs", [{}] * (size // 3)),
            "numbers": to(whole, "outputs", [1] * (size // 2)),
            "object": to(whole, "outputs", {}),
            "binary": to(whole, "outputs", [{"name": "embedding", "parameters": {"binary_data": True}}]),
        },
        "more": {
            "keys": lambda request: request.update({f"k{at}": at for at in range(size // 12)}),
            "deep": to(whole, "more", nested(900)),
        },
    }


def plain(size: int) -> dict[str, Any]:
    """Bodies that are no protocol request."""
    return {
        "many texts": {"texts": ["a"] * (size // 4)},
        "empty texts": {"texts": [""] * (size // 3)},
        "one long among many": {"texts": ["cat " * 60, *["a"] * (size // 4)]},
        "a long text": {"text": "a cat " * (size // 6)},
        "a long word": {"text": "a" * size},
        "spaces": {"text": " " * size},
        "accents": {"text": "\u0301" * (size // 6)},
        "ideographs": {"text": "\u6f22" * (size // 6)},
        "half pairs": {"texts": [Raw('"' + "\\ud800" * (size // 6) + '"')]},
        "numbers for texts": {"texts": [1] * (size // 2)},
        "no text": {"text": None},
        "no texts": {"texts": []},
        "many keys": {f"k{at}": at for at in range(size // 12)},
        "long keys": {"k" * size: 1},
        "rows of nothing": {"inputs": {name: [[]] * (size // 6) for name in ("input_ids", "attention_mask")}},
        "deep inputs": {"inputs": {"input_ids": nested(900, "1")}},
        "a list": [1] * (size // 2),
        "a text": "x" * size,
        "bytes of texts": {"inputs": [{"name": "text", "shape": [size // 4], "datatype": "BYTES", "data": ["a"] * (size // 4)}]},
        "texts deep first": {
            "inputs": [
                {
                    "name": "text",
                    "shape": [1] * size,
                    "datatype": "BYTES",
                    "data": Raw("[" + "[" * 400 + "]" * 400 + ',"a"' * (size // 4) + "]"),
                }
            ]
        },
        "texts deep": {
            "inputs": [
                {
                    "name": "text",
                    "shape": [1, 1],
                    "datatype": "BYTES",
                    "data": Raw("[" + "[" * 400 + "]" * 400 + ',"a"' * (size // 4) + "]"),
                }
            ]
        },
    }


def raw(size: int) -> dict[str, bytes]:
    """Bodies that are hardly JSON."""
    return {
        "empty": b"",
        "deep": b"[" * size,
        "deep objects": b'{"a":' * (size // 5),
        "digits": b"9" * size,
        "a fraction": b"0." + b"1" * size,
        "an exponent": b"1e" + b"9" * size,
        "not a number": b"[NaN]",
        "not UTF-8": b"\xff" * size,
        "a text without an end": b'"' + b"a" * size,
        "escapes": b'{"text":"' + b"\\u0061" * (size // 6) + b'"}',
        "spaces": b" " * size,
        "twice": b"{}" * (size // 2),
    }


def headers(size: int) -> dict[str, dict[str, str]]:
    """With a good body."""
    long = "9" * size
    length = "inference-header-content-length"
    found = {f"{length} {name}": {length: value} for name, value in {"long": long, "minus": "-1", "odd": "²", "none": "0"}.items()}
    found |= {
        f"x-deadline-ms {name}": {"x-deadline-ms": value}
        for name, value in {"14": "9" * 14, "long": long, "-14": "-" + "9" * 14}.items()
    }
    found |= {
        "x-request-id": {"x-request-id": "A" * size},
        "idempotency-key": {"idempotency-key": "A" * size},
        "traceparent": {"traceparent": "-" * size},
        "x-amzn-trace-id": {"x-amzn-trace-id": ";" * size},
        "x-trace-id": {"x-trace-id": "A" * size},
        "prefer": {"prefer": "," * size},
        "prefer wait": {"prefer": "wait=" + "9" * 14},
        "content-type": {"content-type": "x" * size},
    }
    return found


def binary(size: int) -> Iterator[Request]:
    """With bytes after the JSON."""

    def of(
        name: str, shape: list[int], datatype: str, part: bytes, other: dict[str, Any] | None = None, stated: int | None = None
    ) -> Request:
        row = {"name": "text" if datatype == "BYTES" else "input_ids", "shape": shape, "datatype": datatype}
        row["parameters"] = {"binary_data_size": len(part) if stated is None else stated}
        head = json.dumps({"inputs": [row, *([other] if other else [])]}).encode()
        return Request(f"binary: {name}", head + part, {"inference-header-content-length": str(len(head))})

    ids = {"name": "attention_mask", "shape": [1, 1], "datatype": "INT64", "data": [1]}
    yield of("empty texts", [size // 4], "BYTES", bytes(size // 4 * 4))
    yield of("a text longer than the rest", [1], "BYTES", b"\xff\xff\xff\xff" + bytes(size))
    yield of("texts of one letter", [size // 5], "BYTES", (struct.pack("<I", 1) + b"a") * (size // 5))
    yield of("a row of nothing", [200_000, 0], "INT64", b"", ids)
    yield of(
        "a long row", [1, size // 8], "INT64", bytes(size // 8 * 8), {**ids, "shape": [1, size // 8], "data": [1] * (size // 8)}
    )
    yield of(
        "long rows", [size // 8, 1], "INT64", bytes(size // 8 * 8), {**ids, "shape": [size // 8, 1], "data": [1] * (size // 8)}
    )
    yield of("stated short", [1, 1], "INT64", bytes(size), ids, 8)


def singles(size: int) -> Iterator[Request]:
    """Every field at each of its extremes, one at a time."""
    for name, changes in fields(size).items():
        for extreme, change in changes.items():
            yield Request(f"{name}: {extreme}", written(changed(change)))
    for extreme, value in plain(size).items():
        yield Request(f"plain: {extreme}", written(value))
    for extreme, body in raw(size).items():
        yield Request(f"raw: {extreme}", body)
    for extreme, sent in headers(size).items():
        yield Request(f"header: {extreme}", written(good()), sent)
    yield from binary(size)


def pairs(size: int) -> Iterator[Request]:
    """Two fields at a time, the extremes of each in turn. Smaller: what they cost together is not what each is large by."""
    known = fields(max(100, size // 8))
    for (one, some), (other, more) in itertools.combinations(known.items(), 2):
        for at in range(max(len(some), len(more))):
            first, second = list(some.items())[at % len(some)], list(more.items())[at % len(more)]
            try:
                body = written(changed(first[1], second[1]))
            except (TypeError, IndexError, AttributeError):  # the first left no place for the second
                continue
            yield Request(f"{one}: {first[0]}, {other}: {second[0]}", body)


def corpus(size: int = 4000) -> list[Request]:
    """All of them."""
    return [*singles(size), *pairs(size)]


def changed(*changes: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A good request with these done to it."""
    request = good()
    for change in changes:
        change(request)
    return request


def written(value: Any) -> bytes:
    """JSON, with what is `Raw` as it is."""
    texts: list[str] = []

    def mark(raw_: Raw) -> str:
        texts.append(raw_.text)
        return "<raw>"

    first, *others = json.dumps(value, default=mark, separators=(",", ":")).split('"<raw>"')
    return "".join([first, *(text + other for text, other in zip(texts, others, strict=True))]).encode()
