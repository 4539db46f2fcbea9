"""The typed record of a build, which `build.json` holds: `BuildRecord` and its parts.

`build.json` is a public interface: docs/build.schema.json is made from these classes. `candidates` and `graphs` hold the larger
parts, `reading` makes records from JSON and names everything that is wrong with it, `files` reads and writes `build.json`, `schema`
writes the JSON Schema. It judges and displays nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlpack.core.sizes import COMPARED_MB
from mlpack.report.record.candidates import CandidateRecord, MachineRecord
from mlpack.report.record.parts import RecordPart
from mlpack.report.record.sizes import SizeRecord, SizingRecord

SCHEMA = 1
"""The version of the format; it is raised when a key goes away or changes its meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetsRecord(RecordPart):
    """The recipe's hard limits; null is no limit."""

    accuracy_drop: float | None
    """Absolute drop of the metric against the float of the same target."""
    confidence: float | None = None
    """How sure the drop has to be: 0.95 wants the upper end of its 95 % interval within the limit."""
    latency_p50_ms: float | None
    """Median latency of a warm call."""
    latency_p95_ms: float | None
    """95th percentile of a warm call."""
    latency_p99_ms: float | None
    """99th percentile of a warm call."""
    cold_start_ms: float | None
    """Process start to first answer, median."""
    package_size_bytes: int | None
    """Everything that ships, uncompressed, without a container's base."""
    peak_memory_bytes: int | None
    """The largest resident set of the serving process."""
    cost_per_million_usd: float | None
    """Dollars for a million requests."""
    accept_estimates: bool = False
    """Whether an estimate may keep a budget where nothing could be measured."""
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    """95th percentile of stages of a request, by their names."""
    isa: str | None = None
    """`proven`: the accuracy has to be known to hold on every processor that the target may give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLimitRecord(RecordPart):
    """The time limit for searching better forms of quantized candidates."""

    minutes: float | None
    """The minutes for all searches together; null: there is no search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeRecord(RecordPart):
    """What the recipe asked for."""

    name: str
    """The model's name."""
    digest: str
    """The digest of the recipe and of everything that it names."""
    prefer: str
    """Which of the candidates within budget is chosen: cost, latency, size or accuracy."""
    budgets: BudgetsRecord
    """The hard limits."""
    tags: Mapping[str, str]
    """Tags that the release carries: service, team, env and the like."""
    search: SearchLimitRecord = field(default_factory=lambda: SearchLimitRecord(minutes=None))
    """The limit of searches. Records from before there were searches lack it."""
    deploy: Mapping[str, Any] | None = None
    """How the package is deployed, as the recipe says it; null where it says nothing. It is no part of the digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord(RecordPart):
    """Where the weights came from."""

    format: str
    """onnx, huggingface, torch, sklearn, xgboost or lightgbm."""
    digest: str | None
    """The digest of the source's files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRecord(RecordPart):
    """The calibration data of the candidates."""

    source: str
    """recipe (its own data), evaluation (samples of that, which then judged no candidate) or random (invented)."""
    samples: int
    """The number of samples."""
    of: int | None
    """The size of the evaluation data, where the samples are held out from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetBaselineRecord(RecordPart):
    """The float of one target."""

    candidate: str
    """Its id; it may or may not be among the candidates."""
    value: float | None
    """Its metric."""
    latency_p50_ms: float | None
    """Its median latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRecord(RecordPart):
    """What accuracy and speed are compared with."""

    metric: str
    """A name of the table of metrics, or the user's own `module:function`."""
    value: float | None
    """The float's metric at the first target."""
    targets: Mapping[str, TargetBaselineRecord]
    """The float of each target, by `kind-arch`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord(RecordPart):
    """The chosen candidate's package."""

    kind: str
    """zip, layer-zip, image, or the form that a plug-in's target has."""
    path: str
    """Its path below the build's directory."""
    digest: str
    """The digest of a zip's bytes, or of an image's manifest."""
    size_bytes: int
    """Everything that ships, uncompressed, without a container's base."""
    compressed_bytes: int
    """Everything that ships, as it is transferred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord(RecordPart):
    """One file below `artifacts`."""

    digest: str
    """The digest of its bytes."""
    size_bytes: int
    """Its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRecord(RecordPart):
    """The whole record of a build: what was asked for, what was tried and measured, what was decided and what ships."""

    schema: int
    """The version of this format."""
    mlpack_version: str
    """The mlpack that built."""
    recipe: RecipeRecord
    """What the recipe asked for."""
    source: SourceRecord
    """Where the weights came from."""
    machine: MachineRecord
    """The machine that built."""
    calibration: CalibrationRecord | None = None
    """The calibration data; null where no step calibrated."""
    effort: str | None = None
    """The effort of timing: full, quick or other."""
    baseline: BaselineRecord
    """What accuracy and speed are compared with."""
    candidates: tuple[CandidateRecord, ...]
    """Every variant at every target, in the order of the plan."""
    chosen: str | None
    """The id of the candidate that was chosen; null: none fits the budgets."""
    artifact: ArtifactRecord | None
    """The chosen candidate's package."""
    sizing: SizingRecord | None = None
    """The sizes of memory for the chosen package, where it is a function's and was looked at."""
    files: Mapping[str, FileRecord]
    """Every file of the packages that the build left, by its path below the build's directory."""
    seconds: float
    """Seconds that the build took."""

    def candidate(self, id_: str | None) -> CandidateRecord | None:
        """One of the candidates.

        Args:
            id_: Its id, such as `int8@lambda-zip-x86_64`, or None.

        Returns:
            The candidate; None where no candidate has this id.
        """
        return next((one for one in self.candidates if one.id == id_), None)

    @property
    def chosen_candidate(self) -> CandidateRecord | None:
        """The candidate that was chosen. None where none was, or its id is not among the candidates."""
        return self.candidate(self.chosen)

    @property
    def size_taken(self) -> SizeRecord | None:
        """The memory that the chosen package was built for, where candidates were compared at another (`memory_mb: auto`): then the
        candidate's own numbers are not those of what ships."""
        trail = self.sizing
        if trail is None or not trail.taken or trail.proposed_mb == COMPARED_MB:
            return None
        return next((size for size in trail.sizes if size.memory_mb == trail.proposed_mb), None)
