"""What a release must pass before an alias is moved to it: the alias's budgets, what is live, and whatever else is asked.

Promises: every gate says what was compared and how it came out; a number that is missing never fits a budget; a change
within the noise of both builds, and times of different machines, refuse nothing. Rolling back has no gates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mlpack.core import stats
from mlpack.core.sizes import COMPARED_MB
from mlpack.core.text import words
from mlpack.decide import bands, sizing
from mlpack.errors import ExitCode, MlpackError, RecipeError, ServiceError
from mlpack.registry import Place
from mlpack.registry.aliases.policies import Policy
from mlpack.registry.records import Release
from mlpack.report import diff, summary
from mlpack.report.diff import Change
from mlpack.report.record import BuildRecord
from mlpack.report.record import files as record_files
from mlpack.report.record.candidates import CandidateRecord, EstimateRecord
from mlpack.report.record.sizes import SizeRecord

Write = Callable[[float, int], str]
_ONE = "the chosen"
"""What the chosen candidates of two builds are both called, so that they are compared whatever their ids are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One thing that was checked, how it came out, and why in words."""

    gate: str
    ok: bool
    detail: str


Check = Callable[[Release, BuildRecord], Iterable[Gate]]
"""One more thing to ask of a release before it is promoted: signatures, provenance."""


class GateError(MlpackError):
    """A promotion was refused. `failed`: the gates that were not passed."""

    exit_code = ExitCode.OVER_BUDGET

    def __init__(self, what: str, failed: Sequence[Gate]) -> None:
        lines = [f"{what} was refused by {words.count(len(failed), 'gate')}:"]
        lines += [f"  {gate.gate}: {gate.detail}" for gate in failed]
        super().__init__("\n".join([*lines, "`--force --why REASON` moves it anyway, and the history keeps both"]))
        self.failed = tuple(failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Budget:
    """How a budget's number is read from a candidate and written."""

    label: str
    value: Callable[[CandidateRecord], float | None]
    write: Write


_BUDGETS = {
    "accuracy_drop": _Budget(label="accuracy drop", value=lambda c: c.accuracy.drop, write=words.share),
    "latency_p50_ms": _Budget(label="latency p50", value=lambda c: c.latency_ms.p50, write=words.ms),
    "latency_p95_ms": _Budget(label="latency p95", value=lambda c: c.latency_ms.p95, write=words.ms),
    "latency_p99_ms": _Budget(label="latency p99", value=lambda c: c.latency_ms.p99, write=words.ms),
    "cold_start_ms": _Budget(label="cold start p50", value=lambda c: c.cold_start_ms.p50, write=words.ms),
    "package_size_bytes": _Budget(label="package size", value=lambda c: c.package.size_bytes, write=words.size),
    "peak_memory_bytes": _Budget(label="peak memory", value=lambda c: c.peak_memory_bytes, write=words.size),
    "cost_per_million_usd": _Budget(label="cost per million", value=lambda c: c.cost_per_million_usd, write=words.usd),
}

_ESTIMATED: dict[str, Callable[[EstimateRecord], float]] = {
    "latency_p50_ms": lambda estimate: estimate.latency_ms,
    "latency_p95_ms": lambda estimate: estimate.latency_ms,
    "latency_p99_ms": lambda estimate: estimate.latency_ms,
    "cost_per_million_usd": lambda estimate: estimate.cost_per_million_usd,
}
"""Budgets for which an estimate may stand, and which number of it."""

_AT_SIZE: dict[str, Callable[[SizeRecord], float | None]] = {
    "latency_p50_ms": lambda size: size.latency_p50_ms,
    "latency_p95_ms": lambda size: size.latency_p95_ms,
    "latency_p99_ms": lambda _: None,
    "cold_start_ms": lambda size: size.cold_start_ms,
    "peak_memory_bytes": lambda size: size.peak_memory_bytes,
    "cost_per_million_usd": lambda size: size.cost_per_million_usd,
}
"""Budgets whose numbers depend on a function's memory, and where a record has them for each size; a p99 it has of none."""

_MEASURES = {
    "size": "package.size_bytes",
    "latency": "latency_ms.p95",
    "cold_start": "cold_start_ms.p50",
    "accuracy": "accuracy.value",
}
"""A policy's regressions, by the rows of `diff` that show them."""


def judge(place: Place, policy: Policy, release: Release, live: Release | None, checks: Sequence[Check] = ()) -> tuple[Gate, ...]:
    """Every gate of a promotion, in order. ServiceError when the evidence cannot be read."""
    record = evidence(place, release)
    gates = list(budget_gates(record, policy))
    if live is None or live.digest == release.digest:
        gates.append(Gate(gate="regression", ok=True, detail="nothing else is live"))
    else:
        gates.extend(regression_gates(evidence(place, live), record, policy))
    for check in checks:
        gates.extend(check(release, record))
    return tuple(gates)


def evidence(place: Place, release: Release) -> BuildRecord:
    """The build.json of a release, every byte verified."""
    what = f"{release.name}@{release.version}"
    if "build.json" not in release.files:
        raise ServiceError(f"{what} was published without its build.json: publish it again")
    try:
        return record_files.decode(place.blobs.read(release.files["build.json"]), f"{what}: build.json")
    except RecipeError as error:
        raise ServiceError(str(error)) from error


def budget_gates(record: BuildRecord, policy: Policy) -> Iterator[Gate]:
    """The budgets of the alias against the chosen candidate's numbers."""
    chosen, size = _chosen(record), record.size_taken
    for key, limit in dataclasses.asdict(policy.budgets).items():
        if limit is None or key in ("accept_estimates", "confidence"):
            continue
        if key == "stages_ms":
            yield from (_stage_gate(record, stage, most, policy) for stage, most in policy.budgets.stages_ms.items())
            continue
        if key == "isa":
            yield _proven_gate(chosen, policy)
            continue
        budget, gate = _BUDGETS[key], f"budget.{key}"
        value, guess = budget.value(chosen), chosen.estimated
        if size is not None and key in _AT_SIZE:
            budget, guess = dataclasses.replace(budget, label=f"{budget.label} at {size.memory_mb:,} MB"), None
            value = _AT_SIZE[key](size)
            if value is not None and not size.measured:
                yield _estimate_gate(gate, budget.label, budget.write, (value, limit, size.basis), policy)
                continue
        if key == "accuracy_drop" and policy.budgets.confidence is not None:
            yield _sure_gate(gate, chosen, record, policy)
            continue
        if value is None and guess is not None and key in _ESTIMATED:
            yield _estimate_gate(gate, budget.label, budget.write, (_ESTIMATED[key](guess), limit, guess.device), policy)
            continue
        if value is None:
            bound = words.limit(budget.write(limit, 3))
            yield Gate(gate=gate, ok=False, detail=f"{budget.label} is not known, so the budget of {bound} cannot be shown to hold")
            continue
        yield _limit_gate(gate, budget.label, value, limit, budget.write, policy)


def _limit_gate(gate: str, label: str, value: float, limit: float, write: Write, policy: Policy) -> Gate:
    """A number that the build measured against a limit of the alias."""
    shown, bound = words.apart(value, limit, write)
    outcome = "fits" if value <= limit else "exceeds"
    return Gate(gate=gate, ok=value <= limit, detail=f"{label} {shown} {outcome} the budget of {bound} ({policy.subject})")


def _stage_gate(record: BuildRecord, stage: str, limit: float, policy: Policy) -> Gate:
    """The p95 of a request's stage, which a build measures where its recipe has budgets of stages."""
    gate, label, row = f"budget.stages.{stage}", f"stage {stage} p95", _chosen(record).stages_ms.get(stage)
    if row is None:
        detail = (
            f"{label} is not known, so the budget of {words.limit(words.ms(limit))} cannot be shown to hold: say budgets.stages"
        )
        return Gate(gate=gate, ok=False, detail=f"{detail} in the recipe ({policy.subject})")
    value, size = row.p95, record.size_taken
    if size is not None and stage not in sizing.WAITS and (slower := _slower(record, size)) > 1:
        value, label = value * slower, f"{label} at {size.memory_mb:,} MB"
        if not size.measured:
            return _estimate_gate(gate, label, words.ms, (value, limit, size.basis), policy)
    return _limit_gate(gate, label, value, limit, words.ms, policy)


def _proven_gate(chosen: CandidateRecord, policy: Policy) -> Gate:
    """Whether the accuracy is known to hold on every processor of the target, for an alias whose budgets say `isa: proven`."""
    proof = chosen.accuracy.proof
    if proof is None:
        detail = "the build has no proof that its accuracy holds on every processor of the target: say budgets.isa in the recipe"
    elif proof.how is None:
        detail = f"accuracy is not proven: {proof.why}"
    else:
        detail = f"accuracy is proven ({proof.how}): {proof.why}"
    return Gate(gate="budget.isa", ok=proof is not None and proof.how is not None, detail=f"{detail} ({policy.subject})")


def _sure_gate(gate: str, chosen: CandidateRecord, record: BuildRecord, policy: Policy) -> Gate:
    """The upper end of a drop's interval against a budget of the alias that says how sure it has to be."""
    limit, sure = policy.budgets.accuracy_drop or 0.0, policy.budgets.confidence or stats.CONFIDENCE
    high, has_interval = chosen.accuracy.ci_high, chosen.accuracy.interval not in (None, "none")
    if chosen.is_baseline and high is not None:
        return Gate(gate=gate, ok=True, detail=f"the float itself, which every drop is from ({policy.subject})")
    if high is None or not has_interval or summary.confidence(record) < sure:
        sentence = f"a drop of {words.limit(words.share(limit))} with {words.percent(sure)} confidence cannot be shown"
        less = "the build's intervals are less sure: say budgets.confidence in the recipe"
        why = less if has_interval else "the build has no such interval"
        return Gate(gate=gate, ok=False, detail=f"{sentence}: {why} ({policy.subject})")
    shown, bound = words.apart(high, limit, words.share)
    sentence = f"accuracy drop at most {shown} with {words.percent(summary.confidence(record))} confidence"
    fits = "fits" if high <= limit else "exceeds"
    return Gate(gate=gate, ok=high <= limit, detail=f"{sentence} {fits} the budget of {bound} ({policy.subject})")


def _estimate_gate(gate: str, label: str, write: Write, told: tuple[float, float, str], policy: Policy) -> Gate:
    """An estimate against a budget of the alias: it counts only where the alias accepts estimates. `told`: the number, the limit,
    and what the number rests on."""
    value, limit, device = told
    shown, bound = words.apart(value, limit, write)
    if not policy.budgets.accept_estimates:
        detail = (
            f"{label} is estimated ({device}: {shown}), not measured, so the budget of {bound} cannot be shown to hold; "
            f"a policy with --budget accept_estimates=true would count it ({policy.subject})"
        )
        return Gate(gate=gate, ok=False, detail=detail)
    outcome = "fits" if value <= limit else "exceeds"
    detail = f"{label} {shown}, estimated ({device}), {outcome} the budget of {bound} ({policy.subject})"
    return Gate(gate=gate, ok=value <= limit, detail=detail)


def regression_gates(live: BuildRecord, record: BuildRecord, policy: Policy) -> Iterator[Gate]:
    """What became of size, latency, cold start and accuracy against what is live; only what the policy names refuses."""
    rows = {row.measure: row for row in diff.compare(_renamed(live), _renamed(record), only=_ONE)}
    for name, measure in _MEASURES.items():
        row = rows[measure]
        worse = row.change is Change.WORSE
        if worse and name == "size" and row.low is not None and row.low <= 2 * bands.SIZE_BAND:
            worse, outcome = False, "same: within what counts as equal when a build chooses"
        else:
            outcome = str(row.change)
        if worse and name not in policy.refuses:
            outcome += f", which {policy.subject} lets pass"
        detail = " → ".join(diff.both(row)) + f"  {outcome}{f' ({row.why})' if row.why else ''}"
        yield Gate(gate=f"regression.{name}", ok=not worse or name not in policy.refuses, detail=detail)


def _slower(record: BuildRecord, size: SizeRecord) -> float:
    """How many times longer a call takes at a size than where its stages were measured."""
    there = [each.latency_p50_ms for each in record.sizing.sizes if each.memory_mb == COMPARED_MB] if record.sizing else []
    return size.latency_p50_ms / there[0] if there and there[0] > 0 else 1.0


def _chosen(record: BuildRecord) -> CandidateRecord:
    if (chosen := record.chosen_candidate) is None:
        raise ServiceError("build.json has no chosen candidate: it was not written by `mlpack build`; publish the build again")
    return chosen


def _renamed(record: BuildRecord) -> BuildRecord:
    """The record with its chosen candidate once more, under the name that the other record's has too."""
    renamed = dataclasses.replace(_chosen(record), id=_ONE)
    return dataclasses.replace(record, candidates=(renamed, *record.candidates))
