"""Say what was decided: the record of a build (`build.json`) and its Markdown for the pull request.

Promises: pure; every key of `buildjson.SHAPE` is there, null where the value is unknown; `markdown` reads the record
alone, so old records and other people's can be shown; no text of theirs becomes markup, a link, a reference or a
mention (`sinks.markdown`). It writes no file.
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
from mlpack.core.records import Accuracy, Artifact, Decision, Estimate, Machine, Measurement, Plan, Result, Status, Verdict
from mlpack.core.text import sinks
from mlpack.core.trails import Trail
from mlpack.decide import budgets
from mlpack.decide.choose import is_float
from mlpack.report import summary
from mlpack.report.buildjson import SCHEMA, Record

# --- build.json ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutcome:
    """All that a build knows when it ends. `baselines`: by target id, as given to `decide`.

    `files`: what was written below the output directory for packages (`artifacts/...`, POSIX paths), with digests and
    sizes.
    """

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


def build_record(outcome: BuildOutcome) -> Record:
    """The record of schema 1: JSON values only, with the keys of `buildjson.SHAPE` in their order. NaN becomes null."""
    recipe = outcome.plan.recipe
    verdicts = {verdict.candidate_id: verdict for verdict in outcome.decision.verdicts}
    chosen = next((r for r in outcome.results if r.candidate.id == outcome.decision.chosen), None)
    record = {
        "schema": SCHEMA,
        "mlpack_version": outcome.mlpack_version,
        "recipe": {
            "name": recipe.name,
            "digest": str(recipe.digest),
            "prefer": recipe.prefer,
            "budgets": dataclasses.asdict(recipe.budgets),
            "tags": dict(sorted(recipe.tags.items())),
            "search": {"minutes": recipe.search.minutes},
        },
        "source": {"format": recipe.source.format, "digest": _text(outcome.source_digest)},
        "machine": _machine(outcome.machine),
        "calibration": None if outcome.calibration is None else dataclasses.asdict(outcome.calibration),
        "effort": outcome.effort,
        "baseline": _baseline(outcome),
        "candidates": [_candidate(result, verdicts[result.candidate.id], outcome) for result in outcome.results],
        "chosen": outcome.decision.chosen,
        "artifact": _artifact(chosen.candidate.id, chosen.artifact) if chosen and chosen.artifact else None,
        "files": {p: {"digest": str(d), "size_bytes": n} for p, (d, n) in sorted(outcome.files.items())},
        "seconds": round(outcome.seconds, 3),
    }
    finite: Record = _finite(record)
    return finite


def _candidate(result: Result, verdict: Verdict, outcome: BuildOutcome) -> Record:
    head = _head(result, verdict.status, itself=is_float(result, outcome.baselines))
    recipe = outcome.plan.recipe
    estimates = budgets.ranked(result.estimates, recipe.budgets, recipe.prefer)
    accuracy = result.measurement.accuracy if result.measurement and not head["is_baseline"] else None
    enough = budgets.samples_that_tell(accuracy, recipe.budgets.accuracy_drop) if accuracy else None
    more = {"search": _search(result.trail), "reasons": list(verdict.reasons), "reproduced_by": result.reproduced_by}
    more["graph"] = None if result.anatomy is None else dict(result.anatomy)
    return head | _numbers(result, estimates, enough) | more


def _head(result: Result, status: Status, *, itself: bool) -> Record:
    """What a candidate is."""
    candidate, model = result.candidate, result.model
    return {
        "id": candidate.id,
        "variant": candidate.variant,
        "target": candidate.target.kind,
        "arch": candidate.target.arch,
        "status": str(status),
        "is_baseline": itself,
        "model": {
            "digest": str(model.tree) if model else None,
            "size_bytes": model.size_bytes if model else None,
            "format": model.format if model else None,
        },
        "package": _package(result.artifact),
    }


def _numbers(result: Result, estimates: Sequence[Estimate], enough: int | None) -> Record:
    """What was measured of it, what stands for what was not, and the steps that made it."""
    measured, accuracy = result.measurement, result.measurement.accuracy if result.measurement else None
    return {
        "load_ms": _median(measured.load_ms) if measured else None,
        "first_answer_ms": _median(measured.first_answer_ms) if measured else None,
        "cold_start_ms": {
            "p50": _median(measured.cold_start_ms) if measured else None,
            "samples": _samples(measured.cold_start_ms) if measured else [],
        },
        "latency_ms": _latency(measured),
        "ratio_to_baseline": _ratio(measured),
        # Nought is what a candidate has of which only the accuracy was measured.
        "throughput_per_s": (measured.throughput_per_s or None) if measured else None,
        "peak_memory_bytes": (measured.peak_memory_bytes or None) if measured else None,
        "accuracy": _accuracy(accuracy) | {"samples_that_tell": enough, "proof": _proof(accuracy)},
        "cost_per_million_usd": result.cost_per_million_usd,
        "estimates": [dataclasses.asdict(estimate) for estimate in estimates],
        "machine": _machine(measured.machine) if measured else None,
        "steps": [
            {
                "pass": step.name,
                "config": dict(step.config),
                "seconds": round(step.seconds, 3),
                "cached": step.cached,
                "notes": dict(step.notes),
            }
            for step in (result.model.steps if result.model else ())
        ],
    }


def _search(trail: Trail | None) -> Record | None:
    """How the candidate came to its form."""
    if trail is None:
        return None
    return {
        "layers": trail.layers,
        "most": trail.most,
        "taken": trail.taken,
        "ended": trail.ended,
        "seconds": round(sum(tried.seconds for tried in trail.tried), 3),
        "tried": [dataclasses.asdict(tried) for tried in trail.tried],
        "damage": [{"node": node, "damage": damage} for node, damage in trail.damage],
    }


def _accuracy(accuracy: Accuracy | None) -> Record:
    keys = (
        "metric", "value", "drop", "ci_low", "ci_high", "n", "isa", "compared_with", "output", "column", "threshold", "unjudged",
        "confidence", "interval", "lower_is_better",
    )  # fmt: skip
    return {key: getattr(accuracy, key) if accuracy else None for key in keys}


def _proof(accuracy: Accuracy | None) -> Record | None:
    return dataclasses.asdict(accuracy.proof) if accuracy and accuracy.proof else None


def _package(artifact: Artifact | None) -> Record:
    parts: dict[str, int | None] = dict.fromkeys(("runtime", "model", "code", "base"))
    parts |= {part.name: part.size_bytes for part in artifact.parts} if artifact else {}
    return {
        "kind": artifact.kind if artifact else None,
        "digest": str(artifact.digest) if artifact else None,
        "size_bytes": artifact.size_bytes if artifact else None,
        "compressed_bytes": artifact.compressed_bytes if artifact else None,
        "parts": parts,
        "notes": list(artifact.notes) if artifact else [],
    }


def _latency(measured: Measurement | None) -> Record:
    samples = measured.latency_ms if measured else ()
    middle = stats.latency_interval(samples) if samples else None
    return {
        "p50": round(middle.value, 4) if middle else None,
        "p50_low": round(middle.low, 4) if middle else None,
        "p50_high": round(middle.high, 4) if middle else None,
        "p95": round(stats.percentile(samples, 0.95), 4) if samples else None,
        "p99": round(stats.percentile(samples, 0.99), 4) if len(samples) >= stats.P99_SAMPLES else None,
        "n": len(samples),
        "batch": measured.batch if measured else None,
        "warmups": measured.warmups if measured else None,
        "samples": _samples(samples),
    }


def _ratio(measured: Measurement | None) -> Record:
    samples = measured.ratio_samples if measured else ()
    around = stats.quantile_interval(samples) if samples else None
    return {
        "p50": around.value if around else None,
        "low": around.low if around else None,
        "high": around.high if around else None,
        "samples": [round(sample, 6) for sample in samples],
    }


def _baseline(outcome: BuildOutcome) -> Record:
    """The float's metric; of the first target where instruction sets make them differ, with each target's own below."""
    targets = {}
    for candidate in outcome.plan.baselines:
        measured = outcome.baselines.get(candidate.target.id)
        targets[candidate.target.id] = {
            "candidate": candidate.id,
            "value": measured.accuracy.value if measured and measured.accuracy else None,
            "latency_p50_ms": _median(measured.latency_ms) if measured else None,
        }
    values = [target["value"] for target in targets.values() if target["value"] is not None]
    return {"metric": outcome.plan.recipe.metric.name, "value": values[0] if values else None, "targets": targets}


def artifact_path(candidate_id: str, kind: str) -> str:
    """Where a package lies below a build's directory: the zip, the image's layout, or the folder of layer and
    function zip."""
    inside = {"zip": "/function.zip", "image": "/image"}
    return f"artifacts/{candidate_id}{inside.get(kind, '')}"


def _artifact(candidate_id: str, artifact: Artifact) -> Record:
    return {
        "kind": artifact.kind,
        "path": artifact_path(candidate_id, artifact.kind),
        "digest": str(artifact.digest),
        "size_bytes": artifact.size_bytes,
        "compressed_bytes": artifact.compressed_bytes,
    }


def _machine(machine: Machine) -> Record:
    return dataclasses.asdict(machine) | {"flags": list(machine.flags)}


def _median(samples: Sequence[float]) -> float | None:
    return round(stats.median(samples), 4) if samples else None


def _samples(samples: Sequence[float]) -> list[float]:
    """Tenths of a microsecond: finer than any clock here, and a third of the bytes."""
    return [round(sample, 4) for sample in samples]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _finite(value: Any) -> Any:
    """The same value with null for every NaN and infinity, and plain lists for tuples."""
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


# --- Markdown ------------------------------------------------------------------------------------------------------


def markdown(record: Mapping[str, Any]) -> str:
    """The summary for a pull request: the verdict first, then the table, the reasons, the notes and the machine."""
    sections = [_verdict(record), _table(record), _reasons(record), _notes(record), _footer(record)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _verdict(record: Mapping[str, Any]) -> str:
    verdict = summary.verdict(record)
    if verdict.chosen is None:
        return f"**❌ {sinks.markdown(verdict.text)}**"
    return f"**✅ {sinks.markdown(verdict.name)}: {sinks.code(verdict.chosen)} chosen** ({sinks.markdown(verdict.facts)})"


def _table(record: Mapping[str, Any]) -> str:
    if not record["candidates"]:
        return ""
    head = tuple(name.replace("$", "\\$") for name in summary.columns(record))
    lines = [head, ("---", "---", *["---:"] * (len(head) - 2))]
    for one in record["candidates"]:
        name, status, *numbers = summary.row(one, record["chosen"])
        chosen = one["id"] == record["chosen"]
        shown = f"**{sinks.code(name)}**" if chosen else sinks.code(name)
        lines.append((shown, f"**{status}**" if chosen else sinks.markdown(status), *map(sinks.markdown, numbers)))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _reasons(record: Mapping[str, Any]) -> str:
    blocks = []
    for one in record["candidates"]:
        lines = "\n".join(f"- {sinks.markdown(reason)}" for reason in one["reasons"]) or "- no reason was recorded"
        blocks.append(f"{sinks.code(one['id'])}: {sinks.markdown(summary.status(one, record['chosen']))}\n\n{lines}")
    if not blocks:
        return ""
    body = "\n\n".join(blocks)
    return f"<details>\n<summary>Why: every candidate's reasons</summary>\n\n{body}\n\n</details>"


def _notes(record: Mapping[str, Any]) -> str:
    return "\n".join(f"- {sinks.markdown(note)}" for note in summary.notes(record))


def _footer(record: Mapping[str, Any]) -> str:
    return f"<sub>{sinks.markdown(summary.footer(record))}</sub>"
