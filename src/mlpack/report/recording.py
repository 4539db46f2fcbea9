"""The record of a build, from everything that the build knows at its end.

Promises:
- The function is pure. What is not known is null, also NaN and infinities, which JSON does not have.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlpack.core import stats
from mlpack.core.calibrants import CalibrationUse
from mlpack.core.digest import Digest
from mlpack.core.records import Accuracy, Artifact, Decision, Estimate, Machine, Measurement, Plan, Recipe, Result, StepRun, Verdict
from mlpack.core.sizes import Sizing
from mlpack.core.stages import SHARE
from mlpack.core.trails import Trail
from mlpack.decide import budgets
from mlpack.decide.choose import is_float
from mlpack.report import record as form
from mlpack.report.record import candidates as parts
from mlpack.report.record import reading
from mlpack.report.record.graphs import GraphRecord
from mlpack.report.record.sizes import SizeRecord, SizingRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutcome:
    """Everything that a build knows at its end. `baselines`: by target id, as of `decide`. `files`: the files of packages below the
    output directory (`artifacts/...`, POSIX paths), with digests and sizes."""

    plan: Plan
    results: tuple[Result, ...]
    decision: Decision
    baselines: Mapping[str, Measurement]
    machine: Machine
    mlpack_version: str
    source_digest: Digest | None
    seconds: float
    calibration: CalibrationUse | None = None
    effort: str = "full"
    files: Mapping[str, tuple[Digest, int]] = field(default_factory=dict)
    sizing: Sizing | None = None


def build_record(outcome: BuildOutcome) -> form.BuildRecord:
    """The record of schema 1.

    Args:
        outcome: What the build knows.

    Returns:
        The record that `build.json` holds.
    """
    recipe, use = outcome.plan.recipe, outcome.calibration
    verdicts = {verdict.candidate_id: verdict for verdict in outcome.decision.verdicts}
    chosen = next((r for r in outcome.results if r.candidate.id == outcome.decision.chosen), None)
    record: form.BuildRecord = _finite(
        form.BuildRecord(
            schema=form.SCHEMA,
            mlpack_version=outcome.mlpack_version,
            recipe=_recipe(recipe),
            source=form.SourceRecord(format=recipe.source.format, digest=_text(outcome.source_digest)),
            machine=_machine(outcome.machine),
            calibration=None if use is None else form.CalibrationRecord(source=use.source, samples=use.samples, of=use.of),
            effort=outcome.effort,
            baseline=_baseline(outcome),
            candidates=tuple(_candidate(result, verdicts[result.candidate.id], outcome) for result in outcome.results),
            chosen=outcome.decision.chosen,
            artifact=_artifact(chosen.candidate.id, chosen.artifact) if chosen and chosen.artifact else None,
            sizing=_sizing(outcome.sizing),
            files={path: form.FileRecord(digest=str(d), size_bytes=n) for path, (d, n) in sorted(outcome.files.items())},
            seconds=round(outcome.seconds, 3),
        )
    )
    return record


def artifact_path(candidate_id: str, kind: str) -> str:
    """The path of a package below a build's directory: the zip, the image's layout, or the folder of layer and function zip."""
    inside = {"zip": "/function.zip", "image": "/image"}
    return f"artifacts/{candidate_id}{inside.get(kind, '')}"


def _recipe(recipe: Recipe) -> form.RecipeRecord:
    limits = recipe.budgets
    return form.RecipeRecord(
        name=recipe.name,
        digest=str(recipe.digest),
        prefer=recipe.prefer,
        budgets=form.BudgetsRecord(
            accuracy_drop=limits.accuracy_drop,
            confidence=limits.confidence,
            latency_p50_ms=limits.latency_p50_ms,
            latency_p95_ms=limits.latency_p95_ms,
            latency_p99_ms=limits.latency_p99_ms,
            stages_ms=dict(limits.stages_ms),
            cold_start_ms=limits.cold_start_ms,
            package_size_bytes=limits.package_size_bytes,
            peak_memory_bytes=limits.peak_memory_bytes,
            cost_per_million_usd=limits.cost_per_million_usd,
            accept_estimates=limits.accept_estimates,
            isa=limits.isa,
        ),
        tags=dict(sorted(recipe.tags.items())),
        search=form.SearchLimitRecord(minutes=recipe.search.minutes),
        deploy=recipe.deploy,
    )


def _baseline(outcome: BuildOutcome) -> form.BaselineRecord:
    """The float's metric; of the first target where instruction sets make them differ, with each target's own below."""
    targets = {}
    for candidate in outcome.plan.baselines:
        measured = outcome.baselines.get(candidate.target.id)
        targets[candidate.target.id] = form.TargetBaselineRecord(
            candidate=candidate.id,
            value=measured.accuracy.value if measured and measured.accuracy else None,
            latency_p50_ms=_median(measured.latency_ms) if measured else None,
        )
    value = next((target.value for target in targets.values() if target.value is not None), None)
    return form.BaselineRecord(metric=outcome.plan.recipe.metric.name, value=value, targets=targets)


def _artifact(candidate_id: str, artifact: Artifact) -> form.ArtifactRecord:
    return form.ArtifactRecord(
        kind=artifact.kind,
        path=artifact_path(candidate_id, artifact.kind),
        digest=str(artifact.digest),
        size_bytes=artifact.size_bytes,
        compressed_bytes=artifact.compressed_bytes,
    )


def _sizing(sizing: Sizing | None) -> SizingRecord | None:
    if sizing is None:
        return None
    rows = tuple(
        SizeRecord(
            memory_mb=point.memory_mb,
            measured=point.measured,
            basis=point.basis,
            threads=point.threads,
            latency_p50_ms=round(stats.median(point.latency_ms), 4),
            latency_p95_ms=round(stats.percentile(point.latency_ms, 0.95), 4),
            latency_n=len(point.latency_ms),
            cold_start_ms=round(stats.median(point.cold_start_ms), 4),
            peak_memory_bytes=point.peak_memory_bytes,
            cost_per_million_usd=round(point.cost_per_million_usd, 6),
            problems=verdict.problems,
        )
        for verdict in sizing.sizes
        for point in (verdict.point,)
    )
    return SizingRecord(
        candidate=sizing.candidate_id, proposed_mb=sizing.proposed_mb, taken=sizing.taken, quota=sizing.quota, sizes=rows
    )


# --- a candidate ------------------------------------------------------------------------------------------------------


def _candidate(result: Result, verdict: Verdict, outcome: BuildOutcome) -> parts.CandidateRecord:
    candidate, model, measured, recipe = result.candidate, result.model, result.measurement, outcome.plan.recipe
    itself = is_float(result, outcome.baselines)
    accuracy = measured.accuracy if measured else None
    enough = budgets.samples_that_tell(accuracy, recipe.budgets.accuracy_drop) if accuracy and not itself else None
    estimates = budgets.rank(result.estimates, recipe.budgets, recipe.prefer)
    return parts.CandidateRecord(
        id=candidate.id,
        variant=candidate.variant,
        target=candidate.target.kind,
        arch=candidate.target.arch,
        status=str(verdict.status),
        is_baseline=itself,
        model=parts.ModelRecord(
            digest=str(model.tree) if model else None,
            size_bytes=model.size_bytes if model else None,
            format=model.format if model else None,
        ),
        package=_package(result.artifact),
        load_ms=_median(measured.load_ms) if measured else None,
        first_answer_ms=_median(measured.first_answer_ms) if measured else None,
        cold_start_ms=parts.ColdStartRecord(
            p50=_median(measured.cold_start_ms) if measured else None,
            samples=_samples(measured.cold_start_ms) if measured else (),
        ),
        latency_ms=_latency(measured),
        stages_ms={name: _stage(samples) for name, samples in measured.stages_ms.items()} if measured else {},
        ratio_to_baseline=_ratio(measured),
        # Nought is what a candidate has of which only the accuracy was measured.
        throughput_per_s=(measured.throughput_per_s or None) if measured else None,
        peak_memory_bytes=(measured.peak_memory_bytes or None) if measured else None,
        accuracy=_accuracy(accuracy, enough),
        cost_per_million_usd=result.cost_per_million_usd,
        estimates=tuple(map(_estimate, estimates)),
        machine=_machine(measured.machine) if measured else None,
        steps=tuple(map(_step, model.steps if model else ())),
        search=_search(result.trail),
        reasons=tuple(verdict.reasons),
        reproduced_by=result.reproduced_by,
        graph=_graph(result.anatomy),
    )


def _package(artifact: Artifact | None) -> parts.PackageRecord:
    sizes = {part.name: part.size_bytes for part in artifact.parts} if artifact else {}
    return parts.PackageRecord(
        kind=artifact.kind if artifact else None,
        digest=str(artifact.digest) if artifact else None,
        size_bytes=artifact.size_bytes if artifact else None,
        compressed_bytes=artifact.compressed_bytes if artifact else None,
        parts=parts.PartSizesRecord(
            runtime=sizes.get("runtime"), model=sizes.get("model"), code=sizes.get("code"), base=sizes.get("base")
        ),
        notes=tuple(artifact.notes) if artifact else (),
    )


def _latency(measurement: Measurement | None) -> parts.LatencyRecord:
    samples = measurement.latency_ms if measurement else ()
    middle = stats.latency_interval(samples) if samples else None
    return parts.LatencyRecord(
        p50=round(middle.value, 4) if middle else None,
        p50_low=round(middle.low, 4) if middle else None,
        p50_high=round(middle.high, 4) if middle else None,
        p95=round(stats.percentile(samples, 0.95), 4) if samples else None,
        p99=round(stats.percentile(samples, 0.99), 4) if len(samples) >= stats.P99_SAMPLES else None,
        n=len(samples),
        batch=measurement.batch if measurement else None,
        warmups=measurement.warmups if measurement else None,
        samples=_samples(samples),
    )


def _stage(samples: tuple[float, ...]) -> parts.StageRecord:
    return parts.StageRecord(p50=round(stats.median(samples), 4), p95=round(stats.percentile(samples, SHARE), 4), n=len(samples))


def _ratio(measurement: Measurement | None) -> parts.RatioRecord:
    samples = measurement.ratio_samples if measurement else ()
    around = stats.quantile_interval(samples) if samples else None
    return parts.RatioRecord(
        p50=around.value if around else None,
        low=around.low if around else None,
        high=around.high if around else None,
        samples=tuple(round(sample, 6) for sample in samples),
    )


def _accuracy(accuracy: Accuracy | None, enough: int | None) -> parts.AccuracyRecord:
    if accuracy is None:
        nothing: dict[str, Any] = dict.fromkeys(each.name for each in dataclasses.fields(parts.AccuracyRecord))
        return parts.AccuracyRecord(**nothing)
    proof = accuracy.proof
    return parts.AccuracyRecord(
        metric=accuracy.metric,
        value=accuracy.value,
        drop=accuracy.drop,
        ci_low=accuracy.ci_low,
        ci_high=accuracy.ci_high,
        n=accuracy.n,
        isa=accuracy.isa,
        compared_with=accuracy.compared_with,
        output=accuracy.output,
        column=accuracy.column,
        threshold=accuracy.threshold,
        unjudged=accuracy.unjudged,
        confidence=accuracy.confidence,
        interval=accuracy.interval,
        lower_is_better=accuracy.lower_is_better,
        samples_that_tell=enough,
        proof=None
        if proof is None
        else parts.ProofRecord(
            how=proof.how,
            why=proof.why,
            processor=proof.processor,
            samples=proof.samples,
            agreement=proof.agreement,
            risks=tuple(proof.risks),
        ),
    )


def _estimate(estimate: Estimate) -> parts.EstimateRecord:
    return parts.EstimateRecord(
        device=estimate.device,
        instance=estimate.instance,
        latency_ms=estimate.latency_ms,
        throughput_per_s=estimate.throughput_per_s,
        usd_per_hour=estimate.usd_per_hour,
        cost_per_million_usd=estimate.cost_per_million_usd,
        basis=estimate.basis,
    )


def _machine(machine: Machine) -> parts.MachineRecord:
    return parts.MachineRecord(
        cpu=machine.cpu,
        arch=machine.arch,
        isa=machine.isa,
        flags=tuple(machine.flags),
        cores=machine.cores,
        memory_bytes=machine.memory_bytes,
        os=machine.os,
    )


def _step(step: StepRun) -> parts.StepRecord:
    return parts.StepRecord(
        name=step.name,
        config=_plain(step.config),
        seconds=round(step.seconds, 3),
        cached=step.cached,
        notes=_plain(step.notes),
    )


def _search(trail: Trail | None) -> parts.SearchRecord | None:
    """The record of the candidate's search."""
    if trail is None:
        return None
    return parts.SearchRecord(
        layers=trail.layers,
        most=trail.most,
        taken=trail.taken,
        ended=trail.ended,
        seconds=round(sum(step.seconds for step in trail.tried), 3),
        tried=tuple(
            parts.TriedRecord(
                name=tried.name,
                kept_float=tuple(tried.kept_float),
                options=_plain(tried.options),
                fits=tried.fits,
                why=tried.why,
                seconds=tried.seconds,
                metric=tried.metric,
                value=tried.value,
                drop=tried.drop,
                ci_low=tried.ci_low,
                ci_high=tried.ci_high,
                ratio=tried.ratio,
                size_bytes=tried.size_bytes,
            )
            for tried in trail.tried
        ),
        damage=tuple(parts.DamageRecord(node=node, damage=damage) for node, damage in trail.damage),
    )


def _graph(anatomy: Mapping[str, Any] | None) -> GraphRecord | None:
    """The graph's anatomy. It is for people: an anatomy that a record could not give back is left out."""
    if anatomy is None:
        return None
    problems: list[str] = []
    graph = reading.value_of(GraphRecord, _plain(anatomy), problems)
    return None if problems else graph


# --- values -----------------------------------------------------------------------------------------------------------


def _median(samples: Sequence[float]) -> float | None:
    return round(stats.median(samples), 4) if samples else None


def _samples(samples: Sequence[float]) -> tuple[float, ...]:
    """Tenths of a microsecond: finer than any clock here, and a third of the bytes."""
    return tuple(round(sample, 4) for sample in samples)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _plain(value: Any) -> Any:
    """The value for JSON: null for NaN and infinities, lists for tuples, text for other types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _finite(value: Any) -> Any:
    """A part of the record with null for every NaN and infinity in it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{each.name: _finite(getattr(value, each.name)) for each in dataclasses.fields(value)})
    if isinstance(value, tuple):
        return tuple([_finite(inner) for inner in value])
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
