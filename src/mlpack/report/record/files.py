"""Read and write `build.json`.

Promises:
- Somebody else's file becomes a record, or an error that names every wrong key.
- The bytes follow from the record alone.
- A record holds thousands of samples; a larger file is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlpack.core.files import plain_files
from mlpack.core.text import sinks
from mlpack.errors import RecipeError
from mlpack.report.record import SCHEMA, BuildRecord, reading

NAME = "build.json"
_MAX_BYTES = 1 << 28
"""256 MB: a record holds thousands of samples, never millions; more is not a record and is not read."""


def encode(record: BuildRecord) -> bytes:
    """The bytes of `build.json`: indented for diffs, samples kept to a line each, keys in the order of the fields, characters that
    are not seen as escapes.

    Raises:
        ValueError: The record holds NaN or an infinity, which JSON does not have.
    """
    return (sinks.json_seen(_pretty(record.to_json(), "")) + "\n").encode()


def _pretty(value: Any, indent: str) -> str:
    deeper = indent + "  "
    if isinstance(value, Mapping) and value:
        lines = (f"{deeper}{json.dumps(key, ensure_ascii=False)}: {_pretty(v, deeper)}" for key, v in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, (Mapping, list, str)) for v in value):
        return "[\n" + ",\n".join(deeper + _pretty(v, deeper) for v in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def decode(data: bytes, name: str = NAME) -> BuildRecord:
    """A record from its bytes.

    Args:
        data: What `encode` of this mlpack or another wrote.
        name: How errors call it.

    Returns:
        The record.

    Raises:
        RecipeError: It is no record that this mlpack can read: with every key that is missing or wrong.
    """
    try:
        value = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{name}: not JSON ({error}); it was not written by `mlpack build`, or was cut off") from error
    if not isinstance(value, dict):
        raise RecipeError(f"{name}: not a build record: it holds {reading.kind_of(value)}, not an object")
    schema = value.get("schema")
    if schema != SCHEMA:
        raise RecipeError(
            f"{name}: schema {schema!r} is not one that this mlpack reads (it reads {SCHEMA}); "
            "build again with this version, or use the version that wrote it"
        )
    problems: list[str] = []
    record = reading.value_of(BuildRecord, value, problems)
    if problems:
        raise RecipeError(*(f"{name}: {problem}" for problem in problems))
    return record


def read(path: Path) -> BuildRecord:
    """A record from a file, or from the `build.json` in a directory.

    Raises:
        RecipeError: There is none, or it cannot be read.
    """
    return decode(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of that file; `read` is this and `decode`.

    Raises:
        RecipeError: There is none, or it is too large to be a record.
    """
    file = path / NAME if path.is_dir() else path
    try:
        with plain_files.opened(path, NAME) if path.is_dir() else path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecipeError(f"{file}: {reason}; give a directory that `mlpack build --out` has written") from error
    if len(data) > _MAX_BYTES:
        raise RecipeError(f"{file}: larger than {_MAX_BYTES} bytes, so it is not a build record")
    return data


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
