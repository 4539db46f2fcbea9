"""Build outcomes made of literals: what the tests of deciding, reporting, showing and publishing share."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlpack.core.digest import Digest, of_bytes
from mlpack.core.records import (
    Accuracy,
    Artifact,
    Budgets,
    Candidate,
    Estimate,
    Machine,
    Measurement,
    MetricSpec,
    Model,
    Part,
    Plan,
    Recipe,
    Result,
    Serve,
    Source,
    StepRun,
    Target,
)
from mlpack.decide.choose import decide
from mlpack.report.record import BuildRecord, reading
from mlpack.report.recording import BuildOutcome, build_record

MACHINE = Machine(
    cpu="Intel(R) Xeon(R) Platinum 8481C",
    arch="x86_64",
    isa="avx512-vnni",
    flags=("avx2", "avx512_vnni"),
    cores=2,
    memory_bytes=24_000_000_000,
    os="Debian GNU/Linux 12",
)
ZIP = Target(kind="lambda-zip", arch="x86_64", config=None)
GPU = Target(kind="gpu-worker", arch="x86_64", config=None)
IMAGE = Target(kind="lambda-image", arch="x86_64", config=None)


MADE_OF: dict[str, Any] = {
    "nodes": 3, "size_bytes": 1_300_000,
    "layers": [{"layer": "MatMul", "size_bytes": 1_200_000, "tensors": 2}, {"layer": None, "size_bytes": 100_000, "tensors": 1}],
    "tensors": [
        {"name": "w1", "dtype": "int8", "shape": [768, 1302], "size_bytes": 1_000_000, "layer": "MatMul", "node": "first"},
        {"name": "w2", "dtype": "float", "shape": [100, 500], "size_bytes": 200_000, "layer": "MatMul", "node": "second"},
    ],
    "operators": [
        {"precision": "int8 dynamic", "operator": "MatMul", "count": 1, "size_bytes": 1_000_000, "operations": 2_000_000},
        {"precision": "float32", "operator": "MatMul", "count": 1, "size_bytes": 200_000, "operations": 100_000},
        {"precision": "float32", "operator": "Relu", "count": 1, "size_bytes": 0, "operations": None},
    ],
    "products": [
        {"node": "first", "operator": "MatMul", "precision": "int8 dynamic", "size_bytes": 1_000_000, "operations": 2_000_000},
        {"node": "second", "operator": "MatMul", "precision": "float32", "size_bytes": 200_000, "operations": 100_000},
    ],
    "kept_float": [{
        "node": "second", "why": "it is tiny", "damage": 0.02, "operator": "MatMul", "size_bytes": 200_000, "operations": 100_000,
    }],
    "operations": {"total": 2_100_000, "unknown_shapes": 1, "inputs": {"x": [1, 768]}},
}  # fmt: skip
"""What a quantized graph is made of."""


def wave(middle: float, n: int = 500, spread: float = 0.04) -> tuple[float, ...]:
    """Timings around a median, the same each time: a slow wave, a fast one and a tail."""
    return tuple(
        middle * (1 + spread * (math.sin(i / 37) * 0.3 + math.sin(i * 2.399) * 0.7) + (spread * 6 if i % 41 == 40 else 0))
        for i in range(n)
    )


def accuracy(drop: float = 0.0, low: float | None = None, high: float | None = None, **other: Any) -> Accuracy:
    """Top-1 with a drop and its interval; the float's is all nought."""
    given = {"metric": "top1", "value": 0.9215 - drop, "drop": drop, "n": 2000, "isa": "avx512-vnni"} | other
    low, high = drop if low is None else low, drop if high is None else high
    return Accuracy(ci_low=low, ci_high=high, **given)


def measurement(p50: float = 10.0, ratio: float | None = None, n: int = 500, **other: Any) -> Measurement:
    """A measured package; `ratio` is its latency over the float's."""
    given: dict[str, Any] = {
        "machine": MACHINE,
        "load_ms": wave(31, 9),
        "first_answer_ms": wave(12, 9),
        "cold_start_ms": wave(88, 9),
        "latency_ms": wave(p50, n),
        "batch": 1,
        "warmups": 50,
        "ratio_samples": () if ratio is None else wave(ratio, 20, 0.02),
        "throughput_per_s": 1000 / p50,
        "peak_memory_bytes": 91_000_000,
        "accuracy": accuracy(),
    }
    return Measurement(**(given | other))


def estimate(latency_ms: float = 1.2, cost: float = 0.08, device: str = "L4", **other: Any) -> Estimate:
    """What a device that is not here would do."""
    instances = {"T4": ("g4dn.xlarge", 0.526), "L4": ("g6.xlarge", 0.8048), "L40S": ("g6e.xlarge", 1.861)}
    instance, hourly = instances[device]
    given: dict[str, Any] = {
        "device": device,
        "instance": instance,
        "latency_ms": latency_ms,
        "throughput_per_s": hourly / 3600 / 0.5 * 1e6 / cost,
        "usd_per_hour": hourly,
        "cost_per_million_usd": cost,
        "basis": "roofline, not measured: fp16, 61 kernels; 60 % of bandwidth; table of 2026-11-25; never checked on a device",
    }
    return Estimate(**(given | other))


def unmeasured(**other: Any) -> Measurement:
    """What is measured of a candidate whose device is not here: its accuracy, on this machine's engine."""
    given: dict[str, Any] = dict.fromkeys(("load_ms", "first_answer_ms", "cold_start_ms", "latency_ms", "ratio_samples"), ())
    given |= {"throughput_per_s": 0.0, "peak_memory_bytes": 0, "warmups": 0}
    return measurement(**(given | other))


def on_gpu(variant: str, *estimates: Estimate, **given: Any) -> Result:
    """A candidate at a GPU target: packed, its accuracy measured, its speed and price estimated."""
    defaults: dict[str, Any] = {
        "target": GPU,
        "artifact": artifact(330_000_000, "image"),
        "measurement": unmeasured(accuracy=accuracy(0.0004, -0.0004, 0.0012)),
        "cost_per_million_usd": None,
        "estimates": estimates or (estimate(),),
    }
    return result(variant, **(defaults | given))


def artifact(size_bytes: int = 40_000_000, kind: str = "zip", *, notes: tuple[str, ...] = ()) -> Artifact:
    """A package of that size: half a model, the rest runtime."""
    model = size_bytes // 2
    return Artifact(
        kind=kind,
        digest=of_bytes(f"{kind} {size_bytes}".encode()),
        tree=of_bytes(f"tree {size_bytes}".encode()),
        files=("function.zip",),
        size_bytes=size_bytes,
        compressed_bytes=size_bytes // 3,
        parts=(
            Part(name="runtime", size_bytes=size_bytes - model - 2_000),
            Part(name="model", size_bytes=model),
            Part(name="code", size_bytes=2_000),
        ),
        notes=notes,
    )


def result(variant: str, target: Target = ZIP, **given: Any) -> Result:
    """A measured, priced and packed candidate; what is given replaces any of that."""
    defaults: dict[str, Any] = {
        "candidate": Candidate(variant=variant, target=target, steps=()),
        "model": Model(
            format="onnx",
            tree=of_bytes(variant.encode()),
            size_bytes=23_000_000,
            steps=(StepRun(name="export", config={"opset": 20}, seconds=11.2, cached=False, notes={"exporter": "dynamo"}),),
        ),
        "artifact": artifact(),
        "measurement": measurement(),
        "cost_per_million_usd": 0.5,
    }
    return Result(**(defaults | given))


def recipe(budgets: Budgets, prefer: str = "cost", name: str = "minilm") -> Recipe:
    """A recipe of which only name, budgets, preference and tags matter here."""
    return Recipe(
        name=name,
        root=Path("recipes"),
        digest=of_bytes(b"recipe"),
        source=Source(format="onnx", reference="model.onnx"),
        inputs=(),
        evaluation="eval.npz",
        calibration=None,
        metric=MetricSpec(name="top1"),
        variants=None,
        targets=(ZIP, IMAGE),
        budgets=budgets,
        prefer=prefer,
        serve=Serve(),
        tags={"team": "ranking", "env": "prod"},
    )


def outcome(results: tuple[Result, ...], budgets: Budgets, prefer: str = "cost", **other: Any) -> BuildOutcome:
    """Judged results. The float of a target is its variant `fp32`."""
    baselines = {
        r.candidate.target.id: r.measurement for r in results if r.candidate.variant == "fp32" and r.measurement is not None
    }
    given: dict[str, Any] = {
        "plan": Plan(
            recipe=recipe(budgets, prefer),
            candidates=tuple(r.candidate for r in results),
            baselines=tuple(r.candidate for r in results if r.candidate.variant == "fp32"),
        ),
        "results": results,
        "decision": decide(results, baselines, budgets, prefer),
        "baselines": baselines,
        "machine": MACHINE,
        "mlpack_version": "0.1.0",
        "source_digest": of_bytes(b"weights"),
        "seconds": 61.25,
        "files": {},
    }
    return BuildOutcome(**(given | other))


def typical() -> BuildOutcome:
    """Every status at once: what a real build of a small text model looks like."""
    budgets = Budgets(
        accuracy_drop=0.01, latency_p95_ms=50.0, cold_start_ms=800.0, package_size_bytes=100_000_000, cost_per_million_usd=5.0
    )
    fp32 = result(
        "fp32",
        artifact=artifact(114_000_000),
        measurement=measurement(31.0, accuracy=accuracy()),
        cost_per_million_usd=1.12,
    )
    int8 = result(
        "int8",
        anatomy=MADE_OF,
        artifact=artifact(41_000_000, notes=("bytecode could not be made for python3.13: imports will be about 3 times slower",)),
        measurement=measurement(11.0, 0.355, accuracy=accuracy(0.0035, -0.0005, 0.0075)),
        cost_per_million_usd=0.43,
    )
    pruned = result(
        "slim-int8",
        artifact=artifact(33_000_000),
        measurement=measurement(8.0, 0.26, accuracy=accuracy(0.0224, 0.0150, 0.0290)),
        cost_per_million_usd=0.35,
    )
    image = replace(
        int8,
        candidate=Candidate(variant="int8", target=IMAGE, steps=()),
        artifact=artifact(42_000_000, "image"),
        measurement=measurement(11.1, 0.358, accuracy=accuracy(0.0035, -0.0005, 0.0075), cold_start_ms=wave(140, 9)),
        cost_per_million_usd=0.432,
    )
    failed = result(
        "static-int8", artifact=None, measurement=None, cost_per_million_usd=None, model=None, failure="quantize: nothing to do"
    )
    skipped = result("fp16", artifact=None, measurement=None, cost_per_million_usd=None, model=None)
    skipped = replace(
        skipped, candidate=replace(skipped.candidate, skipped="fp16 runs as float32 on this CPU: nothing would be gained")
    )
    huge = result(
        "fp32-raw", artifact=None, measurement=None, cost_per_million_usd=None, over_limit="301 MB unzipped, the limit is 262 MB"
    )
    return outcome((fp32, int8, pruned, image, failed, skipped, huge), budgets)


def on_an_estimate(*, accepted: bool = True) -> BuildOutcome:
    """Every candidate that was measured is too slow, and one at a GPU may be quick enough."""
    budgets = Budgets(accuracy_drop=0.01, latency_p95_ms=5.0, cost_per_million_usd=2.0, accept_estimates=accepted)
    fp32 = result("fp32", measurement=measurement(31.0), cost_per_million_usd=1.12)
    kept = accuracy(0.0035, -0.0005, 0.0075)
    int8 = result("int8", measurement=measurement(11.0, 0.355, accuracy=kept), cost_per_million_usd=0.43)
    half = on_gpu("fp16", estimate(0.62, 0.058, "L40S"), estimate(1.2, 0.061, "L4"), estimate(6.9, 0.052, "T4"))
    return outcome((fp32, int8, half), budgets)


def as_json(made: BuildOutcome) -> dict[str, Any]:
    """The record of an outcome as JSON values, which a test may change."""
    return build_record(made).to_json()


def typed(record: dict[str, Any]) -> BuildRecord:
    """The record that these JSON values are."""
    problems: list[str] = []
    value = reading.value_of(BuildRecord, record, problems)
    assert not problems, problems
    return value


def digest_of(text: str) -> Digest:
    """A digest to tell apart from others."""
    return of_bytes(text.encode())
