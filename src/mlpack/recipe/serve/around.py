"""`serve.features`, `serve.cache` and `serve.log`: what contradicts itself, and what model.json says of them.

Promises: what cannot be served by the model, by its inputs, is a RecipeError at build; the runtime (`mlpack_runtime.around`) checks
each item of the table again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from mlpack.core.entrypoint import suggestion
from mlpack.core.records import Signature, TensorSpec
from mlpack.core.serving import Features, Serve
from mlpack.core.yaml_positions import Place
from mlpack.errors import RecipeError

_FLOATS = ("float16", "float32", "float64")
_LARGEST = {"float16": 65504.0, "float32": 3.4028234663852886e38, "float64": 1.7976931348623157e308}
_NUMBERS = (*_FLOATS, *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))


def problems(keys: Any, budgets: Any = None) -> Iterator[tuple[Place, str]]:
    """What of these keys contradicts itself, or the keys of `budgets`."""
    if budgets is not None and "features" in budgets.stages and (keys.features is None or keys.features.latency is None):
        place: Place = ("features",) if keys.features is None else ("features", "latency")
        yield place, "is needed by budgets.stages.features: a build asks no table, and waits for serve.features.latency instead"
    if keys.cache is not None and keys.cache.table is None and keys.cache.deadline is not None:
        yield ("cache", "deadline"), "is for a table, and there is none: add table, or leave it out"
    if keys.features is None:
        return
    features = keys.features.record()
    every = [name for _, names in _listed(features.columns) for name in names]
    for name in dict.fromkeys(name for name in every if every.count(name) > 1):
        yield ("features", "columns"), f"{name!r} is there twice"
    for name in features.key:
        if name in every:
            yield ("features", "columns"), f"{name!r} is the key, which a request brings itself"
    if len(set(features.key)) < len(features.key):
        yield ("features", "key"), "names one attribute twice"
    for name, value in features.defaults.items():
        if name not in every:
            yield ("features", "defaults", name), f"is no column{suggestion(name, tuple(every))}"
        elif isinstance(value, float) and not math.isfinite(value):
            yield ("features", "defaults", name), "must be a finite number, or null for NaN"


def settings(serve: Serve, signature: Signature) -> dict[str, Any]:
    """What model.json has as `around`; {} for a recipe that says nothing of it. Raises RecipeError for features that the model has
    no inputs for."""
    around: dict[str, Any] = {}
    if serve.features is not None:
        around["features"] = _features(serve.features, signature)
    if serve.cache is not None:
        cache = serve.cache
        around["cache"] = {"memory_bytes": cache.memory_bytes, "ttl_s": cache.ttl_ms / 1e3}
        if cache.table is not None:
            around["cache"] |= {"table": cache.table, "deadline_ms": cache.deadline_ms or 20.0}
    if serve.log is not None:
        around["log"] = {"to": serve.log.to, "sample": serve.log.sample}
        if serve.log.redact is not None:
            around["log"]["redact"] = serve.log.redact
    return around


def modules(around: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The modules of the runtime that these settings open."""
    if not around:
        return ()
    names = {"features": "features", "cache": "prediction_cache", "log": "prediction_log"}
    more = ("aws.signed",) if around.get("cache", {}).get("table") else ()
    return ("around", *(f"around.{names[key]}" for key in around), *more)


def _listed(columns: Any) -> list[tuple[str | None, tuple[str, ...]]]:
    return list(columns.items()) if isinstance(columns, Mapping) else [(None, tuple(columns))]


def _features(features: Features, signature: Signature) -> dict[str, Any]:
    inputs = {spec.name: spec for spec in signature.inputs}
    columns: dict[str, list[str]] = {}
    for name, names in _listed(features.columns):
        if name is None and len(inputs) != 1:
            raise RecipeError(
                f"serve.features.columns: the model has the inputs {', '.join(inputs)}: write {{INPUT: [attributes]}}"
            )
        chosen = next(iter(inputs)) if name is None else name
        if chosen not in inputs:
            raise RecipeError(f"serve.features.columns: the model has no input {chosen!r}{suggestion(chosen, tuple(inputs))}")
        columns[chosen] = list(names)
        _check_input(inputs[chosen], names, features.defaults)
    for name in features.key:
        if name in inputs:
            raise RecipeError(f"serve.features.key: {name!r} is an input of the model, which a request may bring itself: rename it")
    further = {"keep_s": features.keep_ms and features.keep_ms / 1e3, "latency_ms": features.latency_ms}
    return {
        "table": features.table,
        "key": list(features.key),
        "columns": columns,
        "defaults": dict(features.defaults),
        "deadline_ms": features.deadline_ms,
        **{name: value for name, value in further.items() if value is not None},
    }


def _check_input(spec: TensorSpec, names: tuple[str, ...], defaults: Mapping[str, Any]) -> None:
    """Raises RecipeError where these attributes, or their defaults, are not what the input takes."""
    where = f"serve.features.columns.{spec.name}"
    shape = list(spec.shape)
    if len(shape) not in (1, 2):
        raise RecipeError(f"{where}: the input has the shape {shape}; features are for inputs of a batch, or of a batch of rows")
    if isinstance(shape[0], int) and len(shape) == 2 and shape[0] != 1:
        raise RecipeError(f"{where}: the input's first axis is fixed at {shape[0]}, and a request may name any number of ids")
    width = shape[1] if len(shape) == 2 else 1
    if len(names) > 1 and isinstance(width, int) and width != len(names):
        raise RecipeError(f"{where}: {len(names)} attributes are named, and the input {shape} has {width} columns")
    if spec.dtype not in (*_NUMBERS, "bool", "string"):
        raise RecipeError(f"{where}: the input is of {spec.dtype}, and attributes are numbers, booleans or strings")
    for name in names:
        if name in defaults and not _fits(defaults[name], spec.dtype):
            raise RecipeError(
                f"serve.features.defaults.{name}: {defaults[name]!r} is no {spec.dtype}, which the input {spec.name} takes"
            )
        if name in defaults and len(names) == 1 and isinstance(width, int) and width > 1:
            raise RecipeError(f"serve.features.defaults.{name}: the input {spec.name} takes rows of {width}: leave the default out")


def _fits(value: Any, dtype: str) -> bool:
    if dtype in _FLOATS:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST[dtype])
    if dtype == "bool":
        return isinstance(value, bool)
    if dtype == "string":
        return isinstance(value, str)
    bits = int(dtype.removeprefix("u").removeprefix("int"))
    least, end = (0, 1 << bits) if dtype.startswith("u") else (-(1 << bits - 1), 1 << bits - 1)
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < end
