"""How a package serves, as the recipe says it: code around the engine, the tokenizer, and the task that answers plain requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Urls:
    """URLs as inputs. `hosts`: in ASCII and lower case, `*.` before those whose subdomains are meant, `:PORT` after others than the
    scheme's own. `max_bytes`, `timeout_ms`: of all URLs of one request together."""

    hosts: tuple[str, ...]
    max_bytes: int
    timeout_ms: float
    redirects: int
    schemes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideWeights:
    """Weights outside the package. `source`: an address, no slash at its end. `cache`: directories by precedence, and `memory`.
    `cache_mb`: the most of weights in one directory; 0: as much as there is room for. `always`: also where the package has room."""

    source: str
    cache: tuple[str, ...] = ("/tmp",)
    cache_mb: int = 0
    always: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """How pictures become a model's input; None: what its own files say. `size`: height and width; `fit`: stretch, crop or pad."""

    size: tuple[int, int] | None = None
    fit: str | None = None
    resample: str | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: str | None = None
    layout: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """What a detector's outputs mean. `boxes`, `scores`, `classes`: names of outputs; `iou`: how much boxes may overlap."""

    form: str
    boxes: str | None = None
    scores: str | None = None
    classes: str | None = None
    coordinates: str | None = None
    relative: bool | None = None
    objectness: bool | None = None
    iou: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """How sounds become a model's input; None: what its own files say. `features`: waveform, filter-banks or log-mel;
    `window_ms`: of sound at a time."""

    rate: int | None = None
    features: str | None = None
    normalize: bool | None = None
    mean: float | None = None
    std: float | None = None
    window_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Features from a table. `columns`: names of attributes by input, or of the model's only input. `latency_ms`: what the table
    takes, as the user measured it."""

    table: str
    key: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]] | tuple[str, ...]
    defaults: Mapping[str, bool | int | float | str | None]
    deadline_ms: float
    keep_ms: float | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionCache:
    """Outputs that are kept: in memory, and in a table where there is one, which has `deadline_ms` for each call."""

    memory_bytes: int
    ttl_ms: float
    table: str | None = None
    deadline_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionLog:
    """A sample of what was answered. `redact`: `module:function`."""

    to: str
    sample: float
    redact: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """The code around the engine: the user's hooks (`module:function`) and the tokenizer's file."""

    preprocess: str | None = None
    postprocess: str | None = None
    tokenizer: str | None = None
    max_length: int | None = None
    example: str | None = None
    """A JSON file: a request's body as clients send it, which the package is booted with."""
    requirements: tuple[str, ...] | None = None
    """What the hooks need, a line each in one form (`recipe.serve.requirements.read`), files written out."""
    slim: bool = True
    preload: tuple[str, ...] = ()
    authorize: Mapping[str, Any] | None = None
    """Who may ask over HTTP, as model.json has it."""
    cors: Mapping[str, Any] | None = None
    """Which origins' pages may ask, as model.json has it."""
    task: str | None = None
    """A row of the table of tasks by its name, or `none`; None: what the model's own files say. What follows are its settings."""
    output: str | None = None
    start_output: str | None = None
    end_output: str | None = None
    labels: tuple[str, ...] | None = None
    top_k: int | None = None
    threshold: float | None = None
    activation: str | None = None
    aggregation: str | None = None
    pooling: str | None = None
    normalize: bool | None = None
    urls: Urls | None = None
    sound: Sound | None = None
    weights: OutsideWeights | None = None
    image: Image | None = None
    objects: Objects | None = None
    features: Features | None = None
    cache: PredictionCache | None = None
    log: PredictionLog | None = None
