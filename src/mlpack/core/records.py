"""The records of a build, in the order in which a build makes them. Read this first.

`Recipe → Plan → Model → Artifact → Measurement → Decision → Release`: frozen values without behaviour beyond derived properties.
They know nothing of files, processes or networks; paths in a `Recipe` are the user's own words, resolved against `root`.
One word per idea: *pass* (a function from files to files), *step* (a pass with its config), *variant* (a named chain of steps),
*target* (where it will run), *candidate* (variant at target), *package* (what ships).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mlpack.core.calibrants import HeldOutCalibration
from mlpack.core.digest import Digest
from mlpack.core.serving import Serve
from mlpack.core.trails import SearchBudget, Trail
from mlpack.core.yaml_positions import Positions

Shape = tuple[int | str, ...]
"""Axes of a tensor: a fixed length, or the name of a symbolic one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output: numpy's name for the element type (`string` for strings), and the shape."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A model's inputs and outputs, in the order of its graph."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the weights come from. `format` is a kind of source (`recipe.SOURCES`), `reference` a path or `module:function`."""

    format: str
    reference: str
    weights: str | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A pass by its name in the table, and its config: an instance of that pass's own config type."""

    name: str
    config: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A named chain of steps, as in the recipe; `plan` adds the steps that every chain needs (export, ...)."""

    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a package will run: a row of the table of targets by its name, and an instance of its config type."""

    kind: str
    arch: str
    config: Any

    @property
    def id(self) -> str:
        """`lambda-zip-arm64`."""
        return f"{self.kind}-{self.arch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Hard limits; None is no limit. `accuracy_drop` is absolute, against the float baseline of the same build.

    `confidence`: the confidence for that budget. None: the drop itself decides, else the upper end of its interval.
    """

    accuracy_drop: float | None = None
    confidence: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    cold_start_ms: float | None = None
    package_size_bytes: int | None = None
    peak_memory_bytes: int | None = None
    cost_per_million_usd: float | None = None
    accept_estimates: bool = False
    """Whether an estimate may keep a budget where nothing could be measured (a GPU, an emulated processor's accuracy)."""
    isa: str | None = None
    """`proven`: accuracy needs a `Proof`."""
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    """Of `core.stages.STAGES`: the 95th percentile of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """The metric of the recipe: a row of the table of metrics (or `module:function`) by its name, and its settings.

    None: not stated. `output` and `column`: which numbers are read; `threshold`: above which a single number means class 1, or a
    box counts; `classes`: what the columns stand for in the labels; `ignore_index`: the label of tokens that do not count.
    """

    name: str
    output: str | None = None
    column: int | None = None
    threshold: float | None = None
    classes: tuple[int | str, ...] | None = None
    ignore_index: int | None = None
    k: int | None = None
    iou: float | None = None
    decode: str | None = None
    """`module:function`: a call's outputs -> boxes, scores and classes of each picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One model, what to try, where it should run and what it may cost. `root` is the directory its paths are relative to."""

    name: str
    root: Path
    digest: Digest
    source: Source
    inputs: tuple[TensorSpec, ...]
    evaluation: str
    calibration: str | HeldOutCalibration | None
    """A reference to data, or `INVENTED`; None: nothing may calibrate."""
    metric: MetricSpec
    variants: tuple[Variant, ...] | None
    """None: chosen by architecture (`variants: auto`)."""
    targets: tuple[Target, ...]
    budgets: Budgets
    prefer: str
    serve: Serve
    tags: Mapping[str, str]
    accept_licenses: tuple[str, ...] = ()
    """Licences of what packages redistribute, by their names in the table of licences, that the team has agreed to."""
    search: SearchBudget = field(default_factory=SearchBudget)
    deploy: Mapping[str, Any] | None = field(default=None, compare=False)
    """The section of that name as it is written, checked. It is no part of what a build is."""
    positions: Positions = field(default=Positions(name="the recipe", lines={}), compare=False, repr=False)
    """Where its keys stand in its file, for what is found wrong with them later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A variant at a target, with every step that makes it. `skipped` says why it is not worth building."""

    variant: str
    target: Target
    steps: tuple[Step, ...]
    skipped: str | None = None

    @property
    def id(self) -> str:
        """`int8@lambda-zip-x86_64`, the name of the candidate in options, output, logs and documents."""
        return f"{self.variant}@{self.target.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A recipe with every candidate and step written out. `baselines` holds, per target, the float candidate that accuracy and
    speed are compared with; it may or may not be among the candidates."""

    recipe: Recipe
    candidates: tuple[Candidate, ...]
    baselines: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    """One step that ran: how long it took, and the notes of its pass."""

    name: str
    config: Mapping[str, Any]
    seconds: float
    cached: bool
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as files in the store: its format, the tree's digest, its size, and the steps that made it."""

    format: str
    tree: Digest
    size_bytes: int
    steps: tuple[StepRun, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine of a measurement. Measurements of different machines are never merged."""

    cpu: str
    arch: str
    isa: str
    """The widest instruction set that decides int8 results: avx2, avx512, avx512-vnni, avx-vnni, amx, neon, neon-dotprod,
    neon-i8mm."""
    flags: tuple[str, ...]
    cores: int
    memory_bytes: int
    os: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Whether and how an accuracy is known to hold on every processor that the target may give. `how`: `native` (measured on the
    weakest), `static` (by the packed graph), `run` (by the package under emulation), None (it is not known). `why`: the reason
    in words."""

    how: str | None
    why: str
    processor: str | None = None
    samples: int | None = None
    agreement: float | None = None
    """Of a run: what was emulated, how many calls it was asked, and the fidelity of its outputs to those here."""
    risks: tuple[str, ...] = ()
    """The first products of the graph that may overflow without VNNI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The data from which the interval of a drop is computed at any confidence, so that another one needs no new measurement.

    `drops`: of resamples, in order. `error`, `freedom`: a standard error and Student's degrees of freedom, where the interval is
    at least as wide as that. `unseen`: samples lost, won and all, where few differ. `least`, `most`: the bounds of a drop.
    """

    how: str
    drops: tuple[float, ...] = ()
    error: float = 0.0
    freedom: int = 0
    unseen: tuple[float, float, int] | None = None
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """A metric on the evaluation data, and its drop against the baseline with a paired two-sided interval.

    `drop` is positive where the candidate is worse, whatever the metric's direction. `compared_with`: labels, or the float baseline
    when there are none."""

    metric: str
    value: float
    drop: float
    ci_low: float
    ci_high: float
    n: int
    isa: str
    compared_with: str = "labels"
    output: str | None = None
    """What was read, where the metric is not the user's own: an output, its column, and the threshold of a decision."""
    column: int | None = None
    threshold: float | None = None
    unjudged: str | None = None
    """What could not be judged, and why."""
    confidence: float = 0.95
    """Of the interval."""
    interval: str = "bootstrap"
    """How it was found: `bootstrap`, `exact`, `jackknife`, or `none` where it says nothing."""
    lower_is_better: bool = False
    proof: Proof | None = None
    """Whether it holds on the other processors of the target; None in what was measured before there were proofs."""
    spread: Spread | None = None
    """What its interval was read from; None for the float itself, whose drop is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Raw numbers read from the packed bytes in a child process. Milliseconds; one sample per observation, in order.

    `ratio_samples`: per interleaved block, this candidate's median latency over the baseline's in the same block.
    """

    machine: Machine
    load_ms: tuple[float, ...]
    first_answer_ms: tuple[float, ...]
    cold_start_ms: tuple[float, ...]
    """Process start to first answer."""
    latency_ms: tuple[float, ...]
    batch: int
    warmups: int
    ratio_samples: tuple[float, ...]
    throughput_per_s: float
    peak_memory_bytes: int
    accuracy: Accuracy | None
    stages_ms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Of a request, by stage; empty where no budget asks for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The estimated performance on a device that is not here, by a model and not by a measurement. One per device.

    `latency_ms`: one call of the shapes that the evaluation data has most often, batch 1. `basis`: how it was computed, in
    words, with the date of the table.
    """

    device: str
    """As AWS sells it: `L4`, and `instance` what it is in: `g6.xlarge`."""
    instance: str
    latency_ms: float
    throughput_per_s: float
    """Samples a second at the largest batch that the estimate was made for."""
    usd_per_hour: float
    cost_per_million_usd: float
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A share of a package's uncompressed bytes: runtime, model, code or base."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """The package of one candidate. `kind` is zip, layer-zip or image; `digest` names it where it is published (a zip's own sha256,
    an image's manifest). `files` are relative to the artifact's tree in the store."""

    kind: str
    digest: Digest
    tree: Digest
    files: tuple[str, ...]
    size_bytes: int
    """Everything that ships, uncompressed, without a container's base."""
    compressed_bytes: int
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    """What a user should know: bytecode that could not be made, a base that was not pinned."""


class Status(StrEnum):
    """The final state of a candidate."""

    OK = "ok"
    OVER_BUDGET = "over_budget"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything known about a candidate before the decision. `failure` is set when a step, the packing or the measuring failed;
    `over_limit` when a hard limit of the target was exceeded."""

    candidate: Candidate
    model: Model | None = None
    artifact: Artifact | None = None
    measurement: Measurement | None = None
    cost_per_million_usd: float | None = None
    estimates: tuple[Estimate, ...] = ()
    """Where latency and price were not measured: best first. `cost_per_million_usd` is None then."""
    failure: str | None = None
    reproduced_by: str | None = None
    """Where a build's directory has the script that runs the failed step alone."""
    over_limit: str | None = None
    trail: Trail | None = None
    """None where nothing was searched for: no step of the candidate can be varied, or the recipe says so."""
    anatomy: Mapping[str, Any] | None = None
    """The operators, weights and work of the model's graph; None where there is no graph, or it could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on one candidate: its status and every reason, in words and numbers."""

    candidate_id: str
    status: Status
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One verdict per candidate, and the chosen one's id; None when none fits the budgets."""

    chosen: str | None
    verdicts: tuple[Verdict, ...]
