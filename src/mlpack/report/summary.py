"""A build's record in plain words: the same verdict, table and notes for the terminal, the pull request and the page.

Promises:
- It is pure and reads the record alone (see `record`).
- It gives plain text, which the caller escapes for its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpack.core import stats
from mlpack.core.calibrants import CalibrationUse
from mlpack.core.text import words
from mlpack.decide.budgets import WARNING

if TYPE_CHECKING:  # `plan` says what calibrates by `calibrated`, and needs no record: making its classes takes 30 ms
    from mlpack.report.record import BuildRecord, CalibrationRecord
    from mlpack.report.record.candidates import CandidateRecord, EstimateRecord, MachineRecord
    from mlpack.report.record.sizes import SizeRecord

COLUMNS = (
    "candidate",
    "status",
    "size",
    "compressed",
    "load",
    "cold start p50",
    "latency p50",
    "p95 (n)",
    "throughput",
    "memory",
    "accuracy drop",
    "$/million",
)
"""The cells of `row`, in order."""


def columns(record: BuildRecord) -> tuple[str, ...]:
    """The headings of the columns; that of the drop has the confidence of its intervals."""
    return tuple(f"{name} ({words.percent(confidence(record))})" if name == "accuracy drop" else name for name in COLUMNS)


def confidence(record: BuildRecord) -> float:
    """The confidence of every interval of a drop in this record."""
    return record.recipe.budgets.confidence or stats.CONFIDENCE


_STATUS = {"ok": "ok", "over_budget": "over budget", "failed": "failed", "skipped": "skipped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionText:
    """The decision in parts; `text` joins them. `facts`: properties of the chosen candidate, or how many failed how."""

    name: str
    chosen: str | None
    facts: str

    @property
    def text(self) -> str:
        """One sentence, for a terminal or a subject line."""
        beginning = f"{self.chosen} chosen" if self.chosen else "no candidate fits the budgets"
        return f"{self.name}: {beginning} ({self.facts})"


_PROOFS = {
    "native": "measured on the weakest of them",
    "static": "by its graph",
    "run": "by a run under emulation",
}
"""The kinds of proof, in words."""


def verdict(record: BuildRecord) -> DecisionText:
    """The decision. A chosen id that no candidate has counts as none."""
    name = record.recipe.name
    one = record.chosen_candidate
    if one is None:
        counts = {status_word: sum(c.status == key for c in record.candidates) for key, status_word in _STATUS.items()}
        facts = ", ".join(f"{count} {status_word}" for status_word, count in counts.items() if count)
        return DecisionText(name=name, chosen=None, facts=facts or "there was none")
    size = record.size_taken
    guess, numbers = one.estimated if size is None else None, size or one
    p95_ms, start_ms = (one.latency_ms.p95, one.cold_start_ms.p50) if size is None else (size.latency_p95_ms, size.cold_start_ms)
    all_facts = (
        (one.package.size_bytes, f"{words.size(one.package.size_bytes)} {one.package.kind or 'package'}"),
        (size, size and at_size(size)),
        (p95_ms, f"p95 {words.ms(p95_ms)}"),
        (guess, guess and f"latency {words.ms(guess.latency_ms)} {_on(guess)}"),
        (start_ms, f"cold start {words.ms(start_ms)}"),
        (one.accuracy.value, f"{one.accuracy.metric} {words.share(one.accuracy.value)}"),
        (drop_phrase(one, confidence(record)), drop_phrase(one, confidence(record))),
        (numbers.cost_per_million_usd, f"{words.usd(numbers.cost_per_million_usd)} per million"),
        (guess, guess and f"{words.usd(guess.cost_per_million_usd)} per million {_on(guess)}"),
    )
    facts = ", ".join(str(text) for value, text in all_facts if value is not None)
    return DecisionText(name=name, chosen=one.id, facts=facts or "nothing was measured")


def at_size(size: SizeRecord) -> str:
    """Where the numbers beside it were found: the memory that a package was built for."""
    return f"{'' if size.measured else 'estimated '}at {size.memory_mb:,} MB"


def drop_phrase(one: CandidateRecord, sure: float) -> str | None:
    """`drop 0.0035, at most 0.0075 with 95 % confidence`; None for the float, and for what was not measured."""
    accuracy = one.accuracy
    if one.is_baseline or accuracy.drop is None:
        return None
    sentence = f"drop {words.share(accuracy.drop)}"
    if accuracy.ci_high is None or accuracy.interval == "none":
        return sentence
    return f"{sentence}, at most {words.share(accuracy.ci_high)} with {words.percent(sure)} confidence"


def _on(estimate: EstimateRecord) -> str:
    return f"estimated ({estimate.device})"


def status(one: CandidateRecord, chosen: str | None) -> str:
    """`chosen`, or the candidate's status in words."""
    return "chosen" if one.id == chosen else _STATUS.get(one.status, one.status)


def row(one: CandidateRecord, chosen: str | None) -> tuple[str, ...]:
    """A candidate's cells, one per column. Where nothing was measured, its estimate, called that."""
    latency, throughput = one.latency_ms, one.throughput_per_s
    guess = one.estimated
    p50, rate = words.ms(latency.p50), words.UNKNOWN if throughput is None else f"{words.number(throughput)}/s"
    price = words.usd(one.cost_per_million_usd)
    if guess is not None:
        p50 = f"{words.ms(guess.latency_ms)} {_on(guess)}"
        rate = f"{words.number(guess.throughput_per_s)}/s {_on(guess)}"
        price = f"{words.usd(guess.cost_per_million_usd)} {_on(guess)}"
    return (
        one.id,
        status(one, chosen),
        words.size(one.package.size_bytes),
        words.size(one.package.compressed_bytes),
        words.ms(one.load_ms),
        words.ms(one.cold_start_ms.p50),
        p50,
        words.UNKNOWN if latency.p95 is None else f"{words.ms(latency.p95)} ({latency.n})",
        rate,
        words.size(one.peak_memory_bytes),
        drop(one),
        price,
    )


def drop(one: CandidateRecord) -> str:
    """`0.0035 (0.0010 to 0.0060)`; the float itself has no drop, only a value."""
    accuracy = one.accuracy
    if accuracy.drop is None:
        return words.UNKNOWN
    if one.is_baseline:
        return f"float, {words.share(accuracy.value)}"
    if accuracy.interval == "none":
        return words.share(accuracy.drop)
    return f"{words.share(accuracy.drop)} ({words.share(accuracy.ci_low)} to {words.share(accuracy.ci_high)})"


_MAX_NAMES = 3
"""The most layers that a line names; the page and build.json name all."""


def searches(record: BuildRecord) -> list[str]:
    """A line for each candidate that was searched: how many forms, how long, and what ships."""
    lines = []
    for one in record.candidates:
        if (search := one.searched) is None:
            continue
        forms, ships = search.tried, search.shipped
        line = (
            f"{one.id}: {words.count(len(forms), 'form')} tried, at most {search.most} for "
            f"{words.count(search.layers, 'layer')}, in {words.seconds(search.seconds)}"
        )
        if ships is None:
            closest = min(((t.drop, number, t.name) for number, t in enumerate(forms) if t.drop is not None), default=None)
            near = f"; the smallest drop was {words.share(closest[0])} ({closest[2]})" if closest else ""
            lines.append(f"{line}: {search.ended}{near}")
            continue
        if ships.name == "float":
            lines.append(f"{line}: no form in fewer bits is inside every budget, so float ships under this name")
            continue
        floats = ships.kept_float
        names = ", ".join(floats[:_MAX_NAMES]) + (f" and {len(floats) - _MAX_NAMES} more" if len(floats) > _MAX_NAMES else "")
        drops = "" if ships.drop is None else f", drop {words.share(ships.drop)} instead of {words.share(forms[0].drop)}"
        ending = "" if search.ended.startswith("inside") else f"; {search.ended}"
        lines.append(f"{line}: {ships.name}{f' ({names})' if floats else ''}{drops}{ending}")
    return lines


def warnings(record: BuildRecord) -> list[str]:
    """Where the decision cannot be relied on: an evaluation set that is too small, a large drop without a budget."""
    small: dict[int, list[tuple[str, int]]] = {}
    for one in record.candidates:
        if one.accuracy.n is not None and one.accuracy.samples_that_tell is not None:
            small.setdefault(one.accuracy.n, []).append((one.id, one.accuracy.samples_that_tell))
    lines = []
    for n, ones in small.items():
        ids, limit = ", ".join(id_ for id_, _enough in ones), record.recipe.budgets.accuracy_drop
        enough = max(enough for _id, enough in ones)
        lines.append(
            f"{ids}: the evaluation set (n={n:,}) is too small to tell whether the accuracy drop keeps its budget of "
            f"{words.limit(words.share(limit))}: about {enough:,} samples would do"
        )
    lines += list(dict.fromkeys(one.accuracy.unjudged for one in record.candidates if one.accuracy.unjudged))
    chosen = record.chosen_candidate
    if chosen is not None and (unproven := _unproven(chosen)) is not None:
        lines.append(unproven)
    reasons = [reason for reason in chosen.reasons if reason.startswith(WARNING)] if chosen else []
    return lines + [f"{record.chosen}: {reason.removeprefix(WARNING)}" for reason in reasons]


def calibration_text(use: CalibrationRecord | CalibrationUse) -> str:
    """The calibration data of a build, in words."""
    samples = words.count(use.samples, "sample")
    if use.source == "evaluation" and use.of is not None:
        rest = use.of - use.samples
        all_ = f"{use.of:,}"
        return f"calibrated on {samples} of the evaluation data's {all_}, held out for all: accuracy is on the other {rest:,}"
    if use.source == "random":
        return f"calibrated on {samples} of random numbers, as the recipe asks: on real data ranges, and accuracy, are others"
    return f"calibrated on {samples} of the recipe's calibration data"


def notes(record: BuildRecord) -> list[str]:
    """Notes on the packages and the numbers, each once, in the order of the candidates."""
    lines: dict[str, None] = dict.fromkeys([*warnings(record), *searches(record), *_package_notes(record.candidates)])
    if (use := record.calibration) is not None and use.source != "recipe":
        lines.setdefault(calibration_text(use), None)
    lines |= dict.fromkeys(_step_remarks(record.candidates))
    for one in record.candidates:
        for note in _estimate_notes(one):
            lines.setdefault(note, None)
        compared = one.accuracy.compared_with
        if compared not in (None, "labels"):
            lines.setdefault(f"accuracy ({one.accuracy.metric}) is compared with the {compared}, not with labels", None)
        if (read := _read_from(one)) is not None:
            lines.setdefault(read, None)
        if one.machine is not None and one.machine != record.machine:
            lines.setdefault(f"{one.id}: measured on {machine(one.machine)}, not on the machine named below", None)
    if record.effort == "quick":
        few = "measured with --effort quick: few timings of each package, too few for a p99; measure in full to release"
        lines.setdefault(few, None)
    if any(one.latency_ms.p99 is None and one.latency_ms.n for one in record.candidates):
        lines.setdefault(f"no p99 is given for fewer than {stats.P99_SAMPLES} samples", None)
    isas = {one.accuracy.isa for one in record.candidates if one.accuracy.isa is not None}
    if isas:
        lines.setdefault(f"accuracy was measured with {', '.join(sorted(isas))} instructions", None)
    for how, sentence in _PROOFS.items():
        if ids := [one.id for one in record.candidates if one.accuracy.proof and one.accuracy.proof.how == how]:
            lines.setdefault(f"accuracy holds on every processor of the target, {sentence}: {', '.join(ids)}", None)
    for one in record.candidates:
        if (unproven := _unproven(one)) is not None:
            lines.setdefault(unproven, None)
    return list(lines)


def _unproven(one: CandidateRecord) -> str | None:
    """A note on an accuracy without proof. None for an estimated candidate, whose note says more."""
    proof = one.accuracy.proof
    if proof is None or proof.how is not None or one.estimated is not None:
        return None
    return f"{one.id}: its accuracy may not hold on every processor of the target: {proof.why}"


def _read_from(one: CandidateRecord) -> str | None:
    """The output, column and threshold of a candidate's accuracy."""
    accuracy = one.accuracy
    output, column, threshold = accuracy.output, accuracy.column, accuracy.threshold
    if output is None:
        return None
    place = output + ("" if column is None else f", column {column}") + ("" if threshold is None else f", above {threshold:g}")
    if accuracy.compared_with == "labels":
        return f"accuracy ({accuracy.metric}) is read from {place}"
    return None if one.is_baseline or not accuracy.drop else f"{one.id}: its {accuracy.metric} is that of {place}"


def _step_remarks(candidates: Sequence[CandidateRecord]) -> list[str]:
    """Remarks of steps on their data, each once."""
    holders: dict[str, list[str]] = {}
    for one in candidates:
        step_notes = [step.notes.get("remarks") for step in one.steps]
        for remark in dict.fromkeys(str(each) for remarks in step_notes if isinstance(remarks, list) for each in remarks):
            holders.setdefault(remark, []).append(one.id)
    return [f"{', '.join(ids)}: {remark}" for remark, ids in holders.items()]


def _estimate_notes(one: CandidateRecord) -> Iterator[str]:
    """A candidate's estimates on each device, and their basis."""
    estimates = one.estimates
    if not estimates:
        return
    each = "; ".join(
        f"{e.device} ({e.instance}, {words.usd(e.usd_per_hour)} an hour) {words.ms(e.latency_ms)}, "
        f"{words.number(e.throughput_per_s)}/s, {words.usd(e.cost_per_million_usd)} per million"
        for e in estimates
    )
    yield (
        f"{one.id}: latency, throughput and price are estimated, nothing was run on a GPU "
        f"(accuracy is that of the same graph on this machine's engine): {each}"
    )
    for basis in dict.fromkeys(e.basis for e in estimates):
        yield f"{one.id}: the estimate: {basis}"


def _package_notes(candidates: Sequence[CandidateRecord]) -> list[str]:
    """The packages' notes. One that several have stands once; `left out: a` and `left out: b` become `left out: a; b`."""
    holders: dict[str, list[str]] = {}
    for one in candidates:
        joined: dict[str, list[str]] = {}
        for note in one.package.notes:
            subject, colon, rest = note.partition(": ")
            joined.setdefault(subject, []).extend([rest] if colon else [])
        for subject, rests in joined.items():
            note = f"{subject}: {'; '.join(dict.fromkeys(rests))}" if rests else subject
            holders.setdefault(note, []).append(one.id)
    return [f"{', '.join(ids)}: {note}" for note, ids in holders.items()]


def machine(facts: MachineRecord) -> str:
    """`Intel Xeon (x86_64, avx512-vnni), 2 cores, 24.0 GB, Debian 12`."""
    cores, memory = words.count(facts.cores, "core"), words.size(facts.memory_bytes)
    return f"{facts.cpu} ({facts.arch}, {facts.isa}), {cores}, {memory}, {facts.os}"


def footer(record: BuildRecord) -> str:
    """Where, by what and from what this was measured."""
    baseline, recipe = record.baseline, record.recipe
    value = "" if baseline.value is None else f"; float {baseline.metric} {words.share(baseline.value)}"
    return (
        f"Measured on {machine(record.machine)}{value}; prefer {recipe.prefer}. "
        f"Built in {words.seconds(record.seconds)} by mlpack {record.mlpack_version}, recipe {recipe.digest[7:19]}."
    )
