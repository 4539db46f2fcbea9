"""One candidate of a build, as `build.json` has it: what it is, what was measured of it, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlpack.report.record.graphs import GraphRecord
from mlpack.report.record.parts import RecordPart


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord(RecordPart):
    """The machine that something was measured on. Times of different machines are never compared."""

    cpu: str
    """The processor, as it names itself."""
    arch: str
    """x86_64 or arm64."""
    isa: str
    """The widest instruction set that decides results in int8, such as avx2, avx512-vnni or neon-dotprod."""
    flags: tuple[str, ...]
    """The features of the processor that matter for that."""
    cores: int
    """Processor cores that a process may use."""
    memory_bytes: int
    """Main memory."""
    os: str
    """The operating system and its version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord(RecordPart):
    """The candidate's model after all of its steps."""

    digest: str | None
    """The digest of the model's directory; null where no model was made."""
    size_bytes: int | None
    """Bytes of all files of the model."""
    format: str | None
    """huggingface, torch, sklearn, xgboost, lightgbm or onnx."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSizesRecord(RecordPart):
    """A package's uncompressed bytes by what they are for."""

    runtime: int | None
    """The engine, its libraries and mlpack's runtime."""
    model: int | None
    """The weights, and engines that were made of them."""
    code: int | None
    """The recipe's and the user's own code."""
    base: int | None
    """The base image of a container; null where there is none, or its size is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRecord(RecordPart):
    """The candidate's package. All values are null where no package was made."""

    kind: str | None
    """zip, layer-zip, image, or the form that a plug-in's target has."""
    digest: str | None
    """The digest of a zip's bytes, or of an image's manifest."""
    size_bytes: int | None
    """Everything that ships, uncompressed, without a container's base."""
    compressed_bytes: int | None
    """Everything that ships, as it is transferred."""
    parts: PartSizesRecord
    """The uncompressed bytes by what they are for."""
    notes: tuple[str, ...]
    """Notes for the user about the package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStartRecord(RecordPart):
    """Milliseconds from the start of the process to its first answer."""

    p50: float | None
    """The median; null where nothing was measured."""
    samples: tuple[float, ...]
    """Each start, in the order of measuring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRecord(RecordPart):
    """Milliseconds of one call to the warm package."""

    p50: float | None
    """The median; null where nothing was measured."""
    p50_low: float | None
    """The lower end of the median's 95 % interval."""
    p50_high: float | None
    """The upper end of the median's 95 % interval."""
    p95: float | None
    """The 95th percentile."""
    p99: float | None
    """The 99th percentile; null for fewer than 500 samples."""
    n: int
    """The number of calls that were measured."""
    batch: int | None
    """Samples in one call."""
    warmups: int | None
    """Calls before the first one that counts."""
    samples: tuple[float, ...]
    """Each call, in the order of measuring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord(RecordPart):
    """Milliseconds of one stage of a request."""

    p50: float
    """The median."""
    p95: float
    """The 95th percentile."""
    n: int
    """The number of requests that were measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioRecord(RecordPart):
    """Latency over that of the target's float, measured in turns with it."""

    p50: float | None
    """The median; null for the float itself, and where nothing was measured."""
    low: float | None
    """The lower end of the median's 95 % interval."""
    high: float | None
    """The upper end of the median's 95 % interval."""
    samples: tuple[float, ...]
    """The ratio of the medians of each block of calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRecord(RecordPart):
    """How an accuracy is known to hold on every processor that the target may give."""

    how: str | None
    """native (measured on the weakest of them), static (by the packed graph), run (by the package under emulation); null: it is not
    known to hold."""
    why: str
    """That in words."""
    processor: str | None
    """For a run: the emulated processor."""
    samples: int | None
    """For a run: the number of its calls."""
    agreement: float | None
    """For a run: the fidelity of its outputs to those of the machine here; 0.999 is needed."""
    risks: tuple[str, ...]
    """The first products of the graph that may be cut off on a processor without VNNI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyRecord(RecordPart):
    """The metric on the evaluation data, and its drop against the float of the same target. All null where nothing was measured."""

    metric: str | None
    """A name of the table of metrics, or the user's own `module:function`."""
    value: float | None
    """The metric itself."""
    drop: float | None
    """How much worse than the float, whatever the direction of the metric: positive is worse."""
    ci_low: float | None
    """The lower end of the drop's two-sided interval, paired by sample."""
    ci_high: float | None
    """The upper end of that interval."""
    n: int | None
    """The number of samples."""
    isa: str | None
    """The instruction set that it was measured with."""
    compared_with: str | None
    """labels, or the float baseline where there are none."""
    output: str | None = None
    """The output that was read, where the metric is not the user's own."""
    column: int | None = None
    """The column of that output's last axis."""
    threshold: float | None = None
    """Above it a single column means class 1, or a box counts."""
    unjudged: str | None = None
    """What could not be judged, and why."""
    confidence: float | None = None
    """The confidence of the drop's interval; records without it have intervals of 95 %."""
    interval: str | None = None
    """How the interval was computed: bootstrap, exact, jackknife, or none where it says nothing."""
    lower_is_better: bool | None = None
    """The direction of the metric."""
    samples_that_tell: int | None = None
    """About how many samples would show whether the drop keeps its budget; null where these do."""
    proof: ProofRecord | None = None
    """Whether the accuracy holds on the other processors of the target; null where that was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateRecord(RecordPart):
    """An estimate of the candidate on a device that is not here, by a model and not by a measurement."""

    device: str
    """The device, such as L4."""
    instance: str
    """The AWS instance with it, such as g6.xlarge."""
    latency_ms: float
    """One call of the shapes that the evaluation data have most often, batch 1."""
    throughput_per_s: float
    """Samples a second at the largest batch that the estimate was made for."""
    usd_per_hour: float
    """The list price of the instance."""
    cost_per_million_usd: float
    """The price of a million samples at that throughput and price."""
    basis: str
    """How it was computed, in words, with the date of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord(RecordPart):
    """One step that made the candidate's model."""

    name: str = field(metadata={"key": "pass"})
    """The pass, by its name in a recipe."""
    config: Mapping[str, Any]
    """The pass's settings, with those that were left out in the recipe."""
    seconds: float
    """How long it took when it ran."""
    cached: bool
    """Whether its result was there already."""
    notes: Mapping[str, Any]
    """Notes of the pass about its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedRecord(RecordPart):
    """One form of a candidate that was made, packed and judged."""

    name: str
    """The form in words."""
    kept_float: tuple[str, ...]
    """The layers that stay float beside those that always do."""
    options: Mapping[str, Any]
    """The settings that differ from the recipe's."""
    fits: bool
    """Whether it is inside every budget."""
    why: str
    """Why the search ended there or went on."""
    seconds: float
    """How long it took when it ran."""
    metric: str | None
    """The metric, by name."""
    value: float | None
    """The metric itself."""
    drop: float | None
    """How much worse than the float."""
    ci_low: float | None
    """The lower end of the drop's interval."""
    ci_high: float | None
    """The upper end of the drop's interval."""
    ratio: float | None
    """Median latency over the float's, in a short timing; null where no budget asks for speed, or the accuracy was missed."""
    size_bytes: int | None
    """The size of its package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DamageRecord(RecordPart):
    """The effect of quantizing one layer alone on the outputs."""

    node: str
    """The layer's name."""
    damage: float | None
    """The error of the outputs' worst channel over its variance; null: it is not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRecord(RecordPart):
    """The search of a quantized candidate's form."""

    layers: int
    """The number of layers that were quantized at first."""
    most: int
    """The most forms that the search could try."""
    taken: int | None
    """The place in `tried` of the form that ships; null: none is inside every budget, and the first one ships."""
    ended: str
    """Why the search ended, in words."""
    seconds: float
    """Seconds of all forms, each when it ran."""
    tried: tuple[TriedRecord, ...]
    """The forms in their order, the first as the recipe says it."""
    damage: tuple[DamageRecord, ...]
    """Each quantized layer's damage, largest first; empty where the first form was inside every budget."""

    @property
    def shipped(self) -> TriedRecord | None:
        """The form that is inside every budget and ships; None where none is."""
        return self.tried[self.taken] if self.taken is not None and 0 <= self.taken < len(self.tried) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRecord(RecordPart):
    """A variant at a target: what it is, what was measured of it, and what was decided."""

    id: str
    """`variant@target-arch`; names its directory below `artifacts`."""
    variant: str
    """The variant's name in the recipe."""
    target: str
    """The kind of target, such as lambda-zip."""
    arch: str
    """The target's architecture: x86_64 or arm64."""
    status: str
    """ok, over_budget, failed or skipped."""
    is_baseline: bool
    """Whether it is the float that others of its target are compared with."""
    model: ModelRecord
    """Its model after all steps."""
    package: PackageRecord
    """The form that ships."""
    load_ms: float | None
    """Milliseconds to load the model, median."""
    first_answer_ms: float | None
    """Milliseconds of the first call after that, median."""
    cold_start_ms: ColdStartRecord
    """Process start to first answer."""
    latency_ms: LatencyRecord
    """One warm call."""
    ratio_to_baseline: RatioRecord
    """Latency over the float's."""
    stages_ms: Mapping[str, StageRecord] = field(default_factory=dict)
    """The stages of a request by their names; empty where no budget asks for them. Features have no time where the recipe says no
    latency of their table."""
    throughput_per_s: float | None
    """Samples a second."""
    peak_memory_bytes: int | None
    """The largest resident set of the serving process."""
    accuracy: AccuracyRecord
    """The metric, and its drop against the float."""
    cost_per_million_usd: float | None
    """List price of a million warm requests at the measured latency."""
    estimates: tuple[EstimateRecord, ...] = ()
    """One entry a device that is not here, first the one that the decision went by; empty for what was measured."""
    machine: MachineRecord | None
    """The machine of its measurement; null where it was not measured."""
    steps: tuple[StepRecord, ...]
    """The steps that made its model, in order."""
    search: SearchRecord | None = None
    """Its search; null where there was none."""
    reasons: tuple[str, ...]
    """Why it has its status, in words, the most important first."""
    reproduced_by: str | None = None
    """The path in the build's directory of the script that runs the failed step alone."""
    graph: GraphRecord | None = None
    """The anatomy of its model's graph; null where it has none, or it could not be read."""

    @property
    def estimated(self) -> EstimateRecord | None:
        """The estimate that replaces its measurement; None where its latency was measured."""
        return None if self.latency_ms.p50 is not None else next(iter(self.estimates), None)

    @property
    def searched(self) -> SearchRecord | None:
        """Its search, where more than the recipe's form was tried."""
        return self.search if self.search is not None and len(self.search.tried) > 1 else None
