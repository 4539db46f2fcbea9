"""How a target's chains of steps are written out, as data: what `plan` reads of a row.

Will not build a chain: that is `plan`. The names of passes and their fields are those of the table of passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """A step that makes no sense at a target, and why: pass `step` whose config has `name` in `values` (None: whatever it has)."""

    step: str
    field: str | None = None
    values: tuple[Any, ...] = ()
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Auto:
    """A variant of `variants: auto`: its name, and its step with the config's fields; None is the float model as it is. `form`: in
    which form of the graph the step is done, where not the target's (fields of `simplify`).

    `why`: what it is worth trying for. `suits`: kinds of layers (`graphs.makeup`) of which the graph has to have one, () any graph;
    `otherwise`: why it is skipped for one that has none ("": it would be what another row is, and is left out). `unless`: kinds
    with which it makes no sense, each with why."""

    name: str
    step: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    form: Mapping[str, Any] = field(default_factory=dict)
    native: bool = False
    """Only where some target's processor computes in it natively."""
    calibrated: bool = False
    """Only with data to calibrate with."""
    why: str = ""
    suits: tuple[str, ...] = ()
    otherwise: str = ""
    unless: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What every chain of a target has in common.

    `ends`: passes implied at the end, in order. `configs`: fields of implied steps. `binds`: fields that the target gives to every
    config that has them. `auto`: what `variants: auto` means there."""

    ends: tuple[str, ...] = ("optimize",)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    binds: Mapping[str, Any] = field(default_factory=dict)
    unfit: tuple[Unfit, ...] = ()
    auto: tuple[Auto, ...]


NOTHING = "nothing in it is computed in integers: there is no convolution, product, LSTM or table with weights of its own"

QUANTIZED = {"quantized": "the model is quantized already: give the float one to have more forms of it"}

CPU_AUTO = (
    Auto(name="fp32", why="what everything is compared with, and what is left where nothing else keeps the budgets"),
    Auto(
        name="int8",
        step="quantize",
        why="a quarter of the bytes, faster kernels: ranges from calibration for convolutions, at each call for products and LSTMs",
        suits=("convolutions", "products", "recurrent", "tables"),
        otherwise=NOTHING,
        unless=QUANTIZED,
    ),
    Auto(
        name="int8-unfused",
        step="quantize",
        form={"operators": "portable"},
        why="attention as single products, each of them in integers: quicker than one operator for all of it, a little less exact",
        suits=("attention",),
        unless=QUANTIZED,
    ),
    Auto(
        name="int8-static",
        step="quantize",
        config={"method": "static", "per_channel": False},
        calibrated=True,
        why="layers of one row a sample, with ranges from calibration and one scale a weight: less is done between their products",
        suits=("dense",),
        unless=QUANTIZED,
    ),
    Auto(
        name="fp16",
        step="precision",
        native=True,
        why="half the bytes at hardly any loss, where the processor computes in it",
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
    """Of every target that runs on a processor."""
    return Chain(binds={"arch": config.arch}, unfit=(DEVICE_TYPES, NO_DEVICE), auto=CPU_AUTO)
