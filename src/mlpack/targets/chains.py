"""How the chains of a target's steps are written out, as data. `plan` reads it from the target's row.

The names of passes and their fields are those of the table of passes.

Will not: build a chain. `plan` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """A step that makes no sense at a target, and why: the pass `step` with a config whose `field` is in `values` (None: any
    config)."""

    step: str
    field: str | None = None
    values: tuple[Any, ...] = ()
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Auto:
    """A variant of `variants: auto`: its name, and its step with the config's fields; None is the float model unchanged.

    - `form`: fields of `simplify`, where the step needs another form of the graph than the target's.
    - `why`: why it is worth trying.
    - `suits`: kinds of layers (`graphs.makeup`), of which the graph needs one; () is any graph.
    - `otherwise`: why it is skipped for a graph without them; with "" it is left out, because it would equal another row.
    - `unless`: kinds of layers with which it makes no sense, each with the reason.
    """

    name: str
    step: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    form: Mapping[str, Any] = field(default_factory=dict)
    native: bool = False
    """Only where the processor of some target computes in it."""
    calibrated: bool = False
    """Only with data to calibrate with."""
    why: str = ""
    suits: tuple[str, ...] = ()
    otherwise: str = ""
    unless: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What every chain of a target has in common.

    `ends`: implied passes at the end, in order. `configs`: fields of implied steps. `binds`: fields that the target sets in every
    config that has them. `auto`: the variants of `variants: auto`."""

    ends: tuple[str, ...] = ("optimize",)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    binds: Mapping[str, Any] = field(default_factory=dict)
    unfit: tuple[Unfit, ...] = ()
    auto: tuple[Auto, ...]


NOTHING = "nothing in it is computed in integers: there is no convolution, product, LSTM or table with weights of its own"

QUANTIZED = {"quantized": "the model is quantized already: give the float one to have more forms of it"}

CPU_AUTO = (
    Auto(name="fp32", why="the baseline of every comparison, and the fallback when no other candidate keeps the budgets"),
    Auto(
        name="int8",
        step="quantize",
        why="a quarter of the bytes, faster kernels; ranges come from calibration for convolutions, from each call for all else",
        suits=("convolutions", "products", "recurrent", "tables"),
        otherwise=NOTHING,
        unless=QUANTIZED,
    ),
    Auto(
        name="int8-unfused",
        step="quantize",
        form={"operators": "portable"},
        why="attention as single products, each of them in integers: faster than one operator for all of it, a little less exact",
        suits=("attention",),
        unless=QUANTIZED,
    ),
    Auto(
        name="int8-static",
        step="quantize",
        config={"method": "static", "per_channel": False},
        calibrated=True,
        why="for layers of one row a sample: ranges from calibration and one scale a weight leave less to do between products",
        suits=("dense",),
        unless=QUANTIZED,
    ),
    Auto(
        name="fp16",
        step="precision",
        native=True,
        why="half the bytes at hardly any loss, where the processor computes in 16-bit float",
        suits=("convolutions", "products", "recurrent", "tables"),
        otherwise="there are no weights to halve",
    ),
)

DEVICE_TYPES = Unfit(
    step="precision",
    field="type",
    values=("int8", "bf16", "mixed"),
    why="is a form for TensorRT: on a processor, `quantize` makes int8 and nothing computes in bf16",
)
NO_DEVICE = Unfit(
    step="tensorrt",
    field="builder",
    values=("auto", "rtx", "native", "deferred"),
    why="builds engines, which only a GPU worker runs: `tensorrt: check` is the gate for other targets",
)


def cpu(config: Any) -> Chain:
    """The chain of every target that runs on a processor."""
    return Chain(binds={"arch": config.arch}, unfit=(DEVICE_TYPES, NO_DEVICE), auto=CPU_AUTO)
