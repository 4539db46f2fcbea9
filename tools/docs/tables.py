"""What the tables of the code say: keys of a recipe, passes, targets and their limits, metrics, licences, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import Any, get_args, get_type_hints

from tools.docs.markdown import description, keys, table

from mlpack.errors import MEANINGS
from mlpack.evaluation.metrics import METRICS
from mlpack.passes import PASSES, Pass
from mlpack.pipeline.estimates.devices import DEVICES, Device
from mlpack.recipe import reader
from mlpack.report.record import schema
from mlpack.targets import TARGETS, Limit, licenses

_SECTIONS = {
    "source": "SourceKeys",
    "inputs.NAME": "InputKeys",
    "data": "DataKeys",
    "metric": "MetricKeys",
    "budgets": "BudgetKeys",
    "search": "SearchKeys",
    "serve": "ServeKeys",
    "serve.image": "ImageKeys",
    "serve.objects": "ObjectKeys",
    "serve.sound": "SoundKeys",
    "serve.authorize": "AuthorizeKeys",
    "serve.authorize.api_keys": "ApiKeyKeys",
    "serve.authorize.jwt": "JwtKeys",
    "serve.authorize.limits": "LimitKeys",
    "serve.cors": "CorsKeys",
    "serve.urls": "UrlKeys",
    "serve.weights": "WeightKeys",
    "serve.features": "FeatureKeys",
    "serve.cache": "CacheKeys",
    "serve.log": "LogKeys",
    "deploy": "DeployKeys",
    "deploy.endpoint": "EndpointKeys",
    "deploy.traffic": "TrafficKeys",
    "deploy.slo": "SloKeys",
    "deploy.rollout": "RolloutKeys",
    "deploy.warm": "WarmKeys",
    "deploy.worker": "WorkerKeys",
    "deploy.batch": "BatchKeys",
    "deploy.data": "RowKeys",
    "deploy.retrain": "RetrainKeys",
    "deploy.budget": "SpendingKeys",
    "deploy.features": "TableKeys",
    "deploy.log": "KeptKeys",
}
"""The mappings of a recipe and their definitions in its schema. Passes and targets have pages of their own."""


@cache
def _schema() -> dict[str, Any]:
    return reader.schema()


def recipe_schema() -> str:
    """The recipe's JSON Schema."""
    return json.dumps(_schema(), indent=2, ensure_ascii=False) + "\n"


def build_schema() -> str:
    """The JSON Schema of build.json."""
    return json.dumps(schema.json_schema(), indent=2, ensure_ascii=False) + "\n"


def recipe_keys() -> Iterator[str]:
    """Every key of a recipe outside passes and targets."""
    yield "## Keys\n"
    yield from keys(_schema()["$defs"]["RecipeKeys"])
    for title, name in _SECTIONS.items():
        yield f"## `{title}`\n"
        yield from keys(_schema()["$defs"][name])


def several_keys() -> Iterator[str]:
    """Every key of a recipe that puts built packages together."""
    yield from keys(_schema()["$defs"]["ModelsKeys"])


def metrics() -> Iterator[str]:
    """A row for each metric, and one for the user's own."""
    rows = [
        (f"`{metric.name}`", metric.compares, "lower" if metric.lower_is_better else "higher", metric.doc)
        for metric in METRICS.values()
    ]
    own = "`(outputs: dict of arrays, labels) -> float`, or an array of one number a sample"
    rows.append(("`module:function`", "labels", "higher, or lower when the function has `lower_is_better = True`", own))
    yield from table(("metric", "compared with", "better", "what it is"), rows)


def passes() -> Iterator[str]:
    """A section for each pass."""
    for name, row in PASSES.own.items():
        schema = _schema()["$defs"][f"step-{name}"]
        gives = "the same" if row.gives == "same" else row.gives
        yield f"## `{name}`\n"
        yield f"{description(schema)} Takes {' or '.join(row.takes)}, gives {gives}.{_short(name, row)}\n"
        yield from keys(schema)


def targets() -> Iterator[str]:
    """A section for each target, with its limits."""
    for name, kind in TARGETS.own.items():
        schema = _schema()["$defs"][f"target-{name}"]
        yield f"## `{name}`\n"
        yield f"{kind.description}.\n"
        yield f"{description(schema)}\n"
        yield from keys(schema)
        yield f"Limits of `{name}`:\n"
        yield from table(("limit", "value", "source"), ((each.name, _amount(each), each.source) for each in kind.limits))


def licences() -> Iterator[str]:
    """The licences that a recipe may have to accept."""
    rows = ((f"`{name}`", each.title, f"{each.summary} Read on {each.read_on}.") for name, each in licenses.LICENSES.items())
    yield from table(("name", "what it is", "what we read in it"), rows)


def devices() -> Iterator[str]:
    """The GPUs that estimates are made for."""
    heads = ("device", "compute capability", "instance", "$ an hour", "fp32", "fp16", "bf16", "int8", "GB/s", "memory")
    yield from table(heads, ((*_device(each),) for each in DEVICES))


def exit_codes() -> Iterator[str]:
    """What each exit code means."""
    yield from table(("code", "meaning"), ((str(int(code)), meaning) for code, meaning in MEANINGS.items()))


def _device(device: Device) -> Iterator[str]:
    yield from (device.name, device.sm, device.instance, f"{device.usd_per_hour.value:g}")
    for dtype in ("fp32", "fp16", "bf16", "int8"):
        peak = device.peak(dtype)
        yield "–" if peak is None else f"{peak / 1e12:g}"
    yield f"{device.bandwidth.value / 1e9:g}"
    yield f"{device.memory_bytes.value / 1e9:g} GB"


def _short(name: str, row: Pass) -> str:
    """How a bare value may be written, by the first value that its field offers."""
    if row.short is None:
        return ""
    offered = get_args(get_type_hints(row.config)[row.short])  # of a Literal; any other type has its default
    first = offered[0] if offered else next(field.default for field in fields(row.config) if field.name == row.short)
    return f" A bare value is its `{row.short}`: `{name}: {first}` is `{name}: {{{row.short}: {first}}}`."


def _amount(limit: Limit) -> str:
    return f"{limit.value:,} {limit.unit}"
