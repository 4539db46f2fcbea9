"""`build.json`: what its keys are, and how one that somebody else wrote is read.

Promises: `SHAPE` names every key that schema 1 always has, null where the value is unknown; `read` accepts more keys
than these (a newer mlpack may add some) but never fewer, and lists everything that is wrong. It judges and displays
nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.core.files import plain_files
from mlpack.core.text import sinks
from mlpack.errors import RecipeError

SCHEMA = 1
Record = dict[str, Any]
"""A parsed `build.json`."""

_MAX_BYTES = 1 << 28
"""256 MB: a record holds thousands of samples, never millions; more is not a record and is not read."""


@dataclass(frozen=True, slots=True)
class Many:
    """A list (or, `keyed`, an object with free keys) whose items all have one shape."""

    item: Any
    keyed: bool = False


@dataclass(frozen=True, slots=True)
class Maybe:
    """A shape or null."""

    shape: Any


@dataclass(frozen=True, slots=True)
class Later:
    """A key that came after schema 1 began: records written before lack it, and those written since have it."""

    shape: Any


_NUMBER, _COUNT, _TEXT = Maybe(float), Maybe(int), Maybe(str)

_MACHINE = {
    "cpu": str,
    "arch": str,
    "isa": str,
    "flags": Many(str),
    "cores": int,
    "memory_bytes": int,
    "os": str,
}

_ESTIMATE = {
    "device": str,
    "instance": str,
    "latency_ms": float,
    "throughput_per_s": float,
    "usd_per_hour": float,
    "cost_per_million_usd": float,
    "basis": str,
}

_TRIED = {
    "name": str,
    "kept_float": Many(str),
    "options": dict,
    "fits": bool,
    "why": str,
    "seconds": float,
    "metric": _TEXT,
    "value": _NUMBER,
    "drop": _NUMBER,
    "ci_low": _NUMBER,
    "ci_high": _NUMBER,
    "ratio": _NUMBER,
    "size_bytes": _COUNT,
}

_SEARCH = {
    "layers": int,
    "most": int,
    "taken": _COUNT,
    "ended": str,
    "seconds": float,
    "tried": Many(_TRIED),
    "damage": Many({"node": str, "damage": _NUMBER}),
}

_PROOF = {
    "how": _TEXT,
    "why": str,
    "processor": _TEXT,
    "samples": _COUNT,
    "agreement": _NUMBER,
    "risks": Many(str),
}

_GRAPH = {
    "nodes": int,
    "size_bytes": int,
    "layers": Many({"layer": _TEXT, "size_bytes": int, "tensors": int}),
    "tensors": Many({"name": str, "dtype": str, "shape": Many(int), "size_bytes": int, "layer": _TEXT, "node": _TEXT}),
    "operators": Many({"precision": str, "operator": str, "count": int, "size_bytes": int, "operations": _COUNT}),
    "products": Many({"node": str, "operator": str, "precision": str, "size_bytes": int, "operations": _COUNT}),
    "kept_float": Many({
        "node": str, "why": _TEXT, "damage": _NUMBER, "operator": _TEXT, "size_bytes": _COUNT, "operations": _COUNT,
    }),
    "operations": Maybe({"total": int, "unknown_shapes": int, "inputs": Many(Many(int), keyed=True)}),
}  # fmt: skip

_CANDIDATE = {
    "id": str,
    "variant": str,
    "target": str,
    "arch": str,
    "status": str,
    "is_baseline": bool,
    "model": {"digest": _TEXT, "size_bytes": _COUNT, "format": _TEXT},
    "package": {
        "kind": _TEXT,
        "digest": _TEXT,
        "size_bytes": _COUNT,
        "compressed_bytes": _COUNT,
        "parts": {"runtime": _COUNT, "model": _COUNT, "code": _COUNT, "base": _COUNT},
        "notes": Many(str),
    },
    "load_ms": _NUMBER,
    "first_answer_ms": _NUMBER,
    "cold_start_ms": {"p50": _NUMBER, "samples": Many(float)},
    "latency_ms": {
        "p50": _NUMBER,
        "p50_low": _NUMBER,
        "p50_high": _NUMBER,
        "p95": _NUMBER,
        "p99": _NUMBER,
        "n": int,
        "batch": _COUNT,
        "warmups": _COUNT,
        "samples": Many(float),
    },
    "ratio_to_baseline": {"p50": _NUMBER, "low": _NUMBER, "high": _NUMBER, "samples": Many(float)},
    "throughput_per_s": _NUMBER,
    "peak_memory_bytes": _COUNT,
    "accuracy": {
        "metric": _TEXT,
        "value": _NUMBER,
        "drop": _NUMBER,
        "ci_low": _NUMBER,
        "ci_high": _NUMBER,
        "n": _COUNT,
        "isa": _TEXT,
        "compared_with": _TEXT,
        "output": Later(_TEXT),
        "column": Later(_COUNT),
        "threshold": Later(_NUMBER),
        "unjudged": Later(_TEXT),
        "samples_that_tell": Later(_COUNT),
        "confidence": Later(_NUMBER),
        "interval": Later(_TEXT),
        "lower_is_better": Later(Maybe(bool)),
        "proof": Later(Maybe(_PROOF)),
    },
    "cost_per_million_usd": _NUMBER,
    "estimates": Later(Many(_ESTIMATE)),
    "machine": Maybe(_MACHINE),
    "steps": Many({"pass": str, "config": dict, "seconds": float, "cached": bool, "notes": dict}),
    "search": Later(Maybe(_SEARCH)),
    "reasons": Many(str),
    "reproduced_by": Later(_TEXT),
    "graph": Later(Maybe(_GRAPH)),
}

BUDGETS = {
    "accuracy_drop": _NUMBER,
    "confidence": Later(_NUMBER),
    "latency_p50_ms": _NUMBER,
    "latency_p95_ms": _NUMBER,
    "latency_p99_ms": _NUMBER,
    "cold_start_ms": _NUMBER,
    "package_size_bytes": _COUNT,
    "peak_memory_bytes": _COUNT,
    "cost_per_million_usd": _NUMBER,
    "accept_estimates": Later(bool),
    "isa": Later(_TEXT),
}

SHAPE = {
    "schema": int,
    "mlpack_version": str,
    "recipe": {
        "name": str,
        "digest": str,
        "prefer": str,
        "budgets": BUDGETS,
        "tags": Many(str, keyed=True),
        "search": Later({"minutes": _NUMBER}),
    },
    "source": {"format": str, "digest": _TEXT},
    "machine": _MACHINE,
    "effort": Later(_TEXT),
    "calibration": Later(Maybe({"source": str, "samples": int, "of": _COUNT})),
    "baseline": {
        "metric": str,
        "value": _NUMBER,
        "targets": Many({"candidate": str, "value": _NUMBER, "latency_p50_ms": _NUMBER}, keyed=True),
    },
    "candidates": Many(_CANDIDATE),
    "chosen": _TEXT,
    "artifact": Maybe({"kind": str, "path": str, "digest": str, "size_bytes": int, "compressed_bytes": int}),
    "files": Many({"digest": str, "size_bytes": int}, keyed=True),
    "seconds": float,
}
"""Every key of a record. `float` takes whole numbers too; nothing takes NaN or infinities."""


def encode(record: Mapping[str, Any]) -> bytes:
    """The bytes of `build.json`: indented for diffs, samples kept to a line each, keys in the order of `SHAPE`, characters that are
    not seen as escapes.

    ValueError on NaN and infinities, which JSON does not have.
    """
    return (sinks.json_seen(_pretty(record, "")) + "\n").encode()


def _pretty(value: Any, indent: str) -> str:
    deeper = indent + "  "
    if isinstance(value, Mapping) and value:
        lines = (f"{deeper}{json.dumps(key, ensure_ascii=False)}: {_pretty(v, deeper)}" for key, v in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)) and any(isinstance(v, (Mapping, list, tuple, str)) for v in value):
        return "[\n" + ",\n".join(deeper + _pretty(v, deeper) for v in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def decode(data: bytes, name: str = "build.json") -> Record:
    """A record from its bytes. RecipeError with every missing or wrong key when it is not one that this mlpack can
    read."""
    try:
        record = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{name}: not JSON ({error}); it was not written by `mlpack build`, or was cut off") from error
    if not isinstance(record, dict):
        raise RecipeError(f"{name}: not a build record: it holds {_kind(record)}, not an object")
    schema = record.get("schema")
    if schema != SCHEMA:
        raise RecipeError(
            f"{name}: schema {schema!r} is not one that this mlpack reads (it reads {SCHEMA}); "
            "build again with this version, or use the version that wrote it"
        )
    problems = [f"{name}: {problem}" for problem in _problems(record, SHAPE, "")]
    if problems:
        raise RecipeError(*problems)
    return record


def read(path: Path) -> Record:
    """A record from a file, or from the `build.json` in a directory. RecipeError when there is none or it cannot be read."""
    return decode(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of that file. RecipeError as `read`, which is this and `decode`."""
    file = path / "build.json" if path.is_dir() else path
    try:
        with plain_files.opened(path, "build.json") if path.is_dir() else path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecipeError(f"{file}: {reason}; give a directory that `mlpack build --out` has written") from error
    if len(data) > _MAX_BYTES:
        raise RecipeError(f"{file}: larger than {_MAX_BYTES} bytes, so it is not a build record")
    return data


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _problems(value: Any, shape: Any, path: str) -> Iterator[str]:
    """What differs from the shape, by path."""
    if isinstance(shape, Later):
        yield from _problems(value, shape.shape, path)
    elif isinstance(shape, Maybe):
        if value is not None:
            yield from _problems(value, shape.shape, path)
    elif isinstance(shape, Many):
        kind = dict if shape.keyed else list
        if not isinstance(value, kind):
            yield f"{path}: expected {_NAMES[kind]}, found {_kind(value)}"
            return
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _problems(item, shape.item, f"{path}.{key}" if shape.keyed else f"{path}[{key}]")
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            yield f"{path}: expected an object, found {_kind(value)}"
            return
        for key, inner in shape.items():
            here = f"{path}.{key}" if path else key
            if key not in value:
                if not isinstance(inner, Later):
                    yield f"{here}: missing"
            else:
                yield from _problems(value[key], inner, here)
    elif not _fits(value, shape):
        yield f"{path}: expected {_NAMES[shape]}, found {_kind(value)}"


def _fits(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _kind(value: Any) -> str:
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)


def estimates(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A candidate's estimates, the one that the decision went by first; none in records of before there were any."""
    return list(one.get("estimates") or ())


def estimated(one: Mapping[str, Any]) -> dict[str, Any] | None:
    """The estimate that stands for what was not measured of a candidate: None where its latency was."""
    return None if one["latency_ms"]["p50"] is not None else next(iter(estimates(one)), None)


def searched(one: Mapping[str, Any]) -> dict[str, Any] | None:
    """How a candidate came to its form, where more than the form that the recipe says was tried."""
    found: dict[str, Any] | None = one.get("search")
    return found if found is not None and len(found["tried"]) > 1 else None
