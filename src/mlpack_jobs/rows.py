"""Rows of objects in S3: JSON Lines or CSV, also in gzip, held against a schema of columns.

Promises: a row that is wrong is a problem with its number, never an exception; no more than `MOST_BYTES` of an object are unpacked.
"""

from __future__ import annotations

import csv
import io
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

MOST_BYTES = 256 << 20
_LARGEST, _SMALLEST = 1e126, 1e-130
"""DynamoDB: of a number."""


class Row(NamedTuple):
    """Of an object, from 1. `problem`: "" of a row that is right."""

    number: int
    values: dict[str, Any]
    problem: str


class ObjectError(ValueError):
    """An object is no table that is known here."""


def rows(key: str, body: bytes, columns: Mapping[str, str]) -> Iterator[Row]:
    """The rows of an object, each with these columns: number, string or boolean. Others are left out. Raises ObjectError."""
    name = key.removesuffix(".gz")
    text = _text(body, packed=name != key or body[:2] == b"\x1f\x8b")
    if name.endswith((".csv", ".tsv")):
        yield from _csv(text, "\t" if name.endswith(".tsv") else ",", columns)
    elif name.endswith((".jsonl", ".ndjson", ".json")):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield _json(number, line, columns)
    else:
        raise ObjectError(f"{key[:200]!r} ends neither in .jsonl, .ndjson, .csv nor .tsv, also with .gz")


def _text(body: bytes, *, packed: bool) -> str:
    if packed:
        unpacker = zlib.decompressobj(wbits=31)
        try:
            body = unpacker.decompress(body, MOST_BYTES)
        except zlib.error as error:
            raise ObjectError(f"it is no gzip: {error}") from None
        if unpacker.unconsumed_tail:
            raise ObjectError(f"it has more than {MOST_BYTES >> 20} MiB unpacked")
        if not unpacker.eof:
            raise ObjectError("its gzip ends too early")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ObjectError(f"it is no UTF-8: {error}") from None


def _csv(text: str, delimiter: str, columns: Mapping[str, str]) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = list(reader.fieldnames or ())
        if missing := [name for name in columns if name not in header]:
            raise ObjectError(f"its first line lacks the columns {', '.join(missing)}")
        for number, row in enumerate(reader, 1):
            if None in row or None in row.values():
                yield Row(number, {}, f"has not {len(header)} cells")
            else:
                yield _checked(number, {name: _cell(row[name], kind) for name, kind in columns.items()}, columns)
    except csv.Error as error:
        raise ObjectError(f"it is no CSV: {error}") from None


def _cell(text: str, kind: str) -> Any:
    """A cell of a CSV as JSON would have it; "" is nothing but for strings."""
    if kind == "string":
        return text
    text = text.strip()
    if not text:
        return None
    if kind == "boolean":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    try:
        return int(text) if text.lstrip("+-").isdigit() and len(text) < 39 else float(text)
    except ValueError:
        return text


def _json(number: int, line: str, columns: Mapping[str, str]) -> Row:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Row(number, {}, f"is no JSON: {str(error)[:100]}")
    if not isinstance(value, dict):
        return Row(number, {}, "is no object")
    return _checked(number, {name: value.get(name) for name in columns}, columns)


def _checked(number: int, values: dict[str, Any], columns: Mapping[str, str]) -> Row:
    """A row whose values are of their columns' types; nulls and NaNs are left out."""
    kept = {}
    for name, kind in columns.items():
        value = values[name]
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        if not _fits(value, kind):
            return Row(number, {}, f"has {json.dumps(value)[:50]} in the column {name!r}, which is of the type {kind}")
        kept[name] = value
    return Row(number, kept, "")


def _fits(value: Any, kind: str) -> bool:
    if kind == "number":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and (value == 0 or _SMALLEST <= abs(value) < _LARGEST)
    return isinstance(value, bool if kind == "boolean" else str)
