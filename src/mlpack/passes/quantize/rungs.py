"""The options of the quantize pass that a search may vary: a table with the cost of each and why it may help.

Promises:
- An option changes only fields that the recipe left at their defaults. What a recipe states stays.
- Their order is that of the ladder: the option that helps most by experience first, because the ladder tries only a few.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STEP = "quantize"
"""The pass's name in the table of passes."""
NODES = "keep_float"
"""The field that names nodes to keep float."""
ONE_SCALE = "one_scale"
"""The notes' key for nodes whose weights have one scale for all channels, for speed."""
EXACT_STEP, EXACT = "optimize", "exact"
"""The step and its field by which integer products are summed exactly on every processor, for a form whose accuracy is not proven.
Weights in 7 bits are no option: where the recipe leaves `reduce_range` open, they have no more on x86-64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A change of one field. `method`: only where nodes were quantized by it according to the step's notes, None wherever;
    `operators`: only where one of these was, () wherever; `calibrated`: only with data to calibrate with; `noted`: only where
    the step's notes have this."""

    name: str
    field: str
    value: Any
    why: str
    method: str | None = None
    operators: tuple[str, ...] = ()
    calibrated: bool = False
    noted: str = ""


OPTIONS: tuple[Option, ...] = (
    Option(
        name="scales by channel",
        field="per_channel",
        value=True,
        why="a channel with small weights keeps its bits beside one with large ones; costs a few bytes and a little time",
        noted=ONE_SCALE,
    ),
    Option(
        name="smoothed channels",
        field="smooth",
        value=True,
        why="channels of activations that outlie are divided, and their weights multiplied: the scale of the others gets finer",
        operators=("MatMul", "Gemm"),
        calibrated=True,
    ),
    Option(
        name="corrected biases",
        field="bias_correction",
        value=True,
        why="rounding shifts the mean of a node's outputs; what it shifts is added to the bias",
        calibrated=True,
    ),
    Option(
        name="clipped ranges",
        field="calibration_method",
        value="percentile",
        why="a range that a few values make wide is cut: all others get finer steps",
        method="static",
        calibrated=True,
    ),
)


def offered(config: Any, notes: Mapping[str, Any] | None, *, calibrated: bool = True) -> tuple[Option, ...]:
    """The options that this config leaves open. `notes`: of the step when it ran with this config; None: it has not run yet.
    `calibrated`: whether there are data to calibrate with."""
    fields = {each.name: each for each in dataclasses.fields(config)}
    ways = None if notes is None else {notes.get("method"), *dict(notes.get("nodes", {})).values()}
    kinds = None if notes is None else set(notes.get("quantized", {}))
    return tuple(
        option
        for option in OPTIONS
        if option.field in fields
        and getattr(config, option.field) == fields[option.field].default != option.value
        and (option.method is None or ways is None or option.method in ways)
        and (not option.operators or kinds is None or not kinds.isdisjoint(option.operators))
        and (calibrated or not option.calibrated)
        and (not option.noted or bool(notes and notes.get(option.noted)))
    )
