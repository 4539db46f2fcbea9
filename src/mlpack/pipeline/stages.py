"""The time of each stage of a request, measured in the packed bytes: requests of the evaluation data, or the recipe's example, to
the package's own service in a process of its own.

Promises:
- Samples are raw, in the order of measuring. Every request is answered anew: a cache of predictions is emptied before each.
- Nothing is asked of AWS. Features are invented after the latency that the recipe says; where it says none they are not measured,
  and have no number.
- A measurement is kept under its machine, as others are.

Will not: judge, or measure what depends on others (`fetch`, `wait`).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core import digest, machine
from mlpack.core.records import Measurement
from mlpack.core.stages import STAGES
from mlpack.errors import MeasureError
from mlpack.pipeline import bodies
from mlpack.pipeline.measuring import measure
from mlpack.pipeline.packing.packages import Package, interpreter_of, subject_of
from mlpack.recipe import tasks

if TYPE_CHECKING:
    from mlpack.pipeline.evidence import Bench, Data

_VERSION = 1
_RESULT = "stages.json"
_REQUESTS, _BYTES = 32, 16 << 20
_WARMUPS = 10

Measurements = Mapping[str, Measurement | MeasureError]


def with_stages(
    bench: Bench, measurements: Measurements, packages: Mapping[str, Package], data: Data
) -> dict[str, Measurement | MeasureError]:
    """The same measurements with the times of stages; a package that fails at a request has the failure in their place."""
    asked = list(_requests(bench, data))
    results: dict[str, Measurement | MeasureError] = {}
    bench.observe(f"measure: stages of {len(packages)} packages on {len(asked)} requests")
    for id_, found in measurements.items():
        try:
            results[id_] = found if isinstance(found, MeasureError) else _measured(bench, found, id_, packages[id_], asked)
        except MeasureError as error:
            results[id_] = error
    return results


def _measured(bench: Bench, found: Measurement, id_: str, package: Package, asked: list[dict[str, Any]]) -> Measurement:
    action = {
        "kind": "stages",
        "version": _VERSION,
        "machine": dataclasses.asdict(machine.this_machine()),
        "package": str(package.content),
        "interpreter": interpreter_of(package)[1],
        "requests": str(digest.of_json(asked)),
        "samples": bench.effort.samples,
        "seconds": bench.effort.seconds_per_subject,
    }
    with bench.store.entry(action, repeatable=False) as entry:
        if not entry.hit:
            with bench.packages.trees.of({id_: package}) as folders:
                taken = _take(bench, id_, package, folders[id_], asked)
            (entry.dir / _RESULT).write_bytes(digest.canonical_json(taken))
    taken = json.loads((entry.dir / _RESULT).read_bytes())
    features = bench.recipe.serve.features
    unknown = ("features",) if features is not None and features.latency_ms is None else ()
    stages = {stage: tuple(taken[stage]) for stage in STAGES if taken.get(stage) and stage not in unknown}
    return dataclasses.replace(found, stages_ms=stages)


def _take(bench: Bench, id_: str, package: Package, root: Path, asked: list[dict[str, Any]]) -> dict[str, list[float]]:
    task = json.loads((root / "model" / "model.json").read_bytes()).get("task")
    texts = [json.dumps(tasks.sample(task, body), ensure_ascii=False) for body in asked]
    subject, cpus = subject_of(id_, package, root), sorted(os.sched_getaffinity(0))
    with bench.store.scratch() as empty:
        (empty / "calls.json").write_text("[]")
        (empty / "calls.bin").write_bytes(b"")
        with measure.child(subject, empty, frozenset(cpus[-subject.threads :])) as running:
            running.ask(op="load")
            running.ask(op="stages", bodies=texts, requests=_WARMUPS, seconds=bench.effort.warmup_seconds)
            answer = running.ask(op="stages", bodies=texts, requests=bench.effort.samples, seconds=bench.effort.seconds_per_subject)
    return {stage: [round(value, 4) for value in values] for stage, values in answer["stages_ms"].items()}


def _requests(bench: Bench, data: Data) -> Iterator[dict[str, Any]]:
    """Bodies of requests: the recipe's example, else of calls spread through the evaluation data. Where a hook makes the answers
    they are plain, because it is not asked about the protocol's."""
    if bench.recipe.serve.example is not None:
        yield data.sample(bench.recipe)
        return
    size, every = 0, data.calls
    for call in every[:: max(1, len(every) // _REQUESTS)][:_REQUESTS]:
        body = bodies.body(call, data.dir)
        size += len(json.dumps(body)) if body is not None else 0
        if body is None or size > _BYTES:
            continue
        yield _plain(body) if bench.recipe.serve.postprocess is not None else body


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    """A protocol request as a plain one."""
    if not isinstance(body.get("inputs"), list):
        return body
    return {"inputs": {row["name"]: _nested(row["data"], row["shape"]) for row in body["inputs"]}}


def _nested(values: list[Any], shape: list[int]) -> Any:
    if not shape:
        return values[0]
    for size in reversed(shape[1:]):
        values = [values[at : at + size] for at in range(0, len(values), size)] if size else [[] for _ in range(shape[0])]
    return values
