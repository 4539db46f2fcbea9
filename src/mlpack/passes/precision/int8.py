"""int8 and mixed: calibrated pairs where they are faster, and for mixed, node by node, only where they are accurate.

Promises:
- Ranges come from recorded calls only, and every pair is made by `qdq`.
- `mixed` leaves out each node whose own output, with exact inputs, has an error above `largest_error` in 8 bits, and computes
  the rest of the graph in fp16.

Will not: choose a type.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from mlpack.errors import PassError
from mlpack.evaluation.data import reader
from mlpack.graphs import check, files
from mlpack.passes.precision import casts, checks
from mlpack.passes.quantize.calibration import cuts, ranges
from mlpack.passes.quantize.calibration.ranges import Ranges
from mlpack.passes.quantize.choice import choose
from mlpack.passes.quantize.methods import qdq

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnx

_LEAST = {"int8": 0.9, "mixed": 0.98}
"""Lower cosines are more than rounding. The build measures the cost of int8 on real data."""

_CHECKED_CALLS = 8


class Int8Config(Protocol):
    """The fields of the pass's config that are read here."""

    @property
    def type(self) -> str: ...
    @property
    def keep_float(self) -> tuple[str, ...]: ...
    @property
    def attention(self) -> bool: ...
    @property
    def rest(self) -> str: ...
    @property
    def largest_error(self) -> float: ...
    @property
    def calibration(self) -> Path | None: ...
    @property
    def calibration_method(self) -> str: ...
    @property
    def percentile(self) -> float: ...
    @property
    def samples(self) -> int: ...


def run(model: onnx.ModelProto, config: Int8Config, model_dir: Path, out_dir: Path) -> dict[str, Any]:
    """Write the graph with pairs into `out_dir`; returns the notes. Raises PassError when there is nothing to do."""
    if config.calibration is None:
        raise PassError(
            f"precision: type {config.type} needs calibration data, and the recipe gives none; add `data: {{calibration: ...}}` "
            "(100 to 500 samples that are not used for evaluation)"
        )
    half = config.type == "mixed" or config.rest == "fp16"
    model = casts.raised(model) if half else model
    _name(model)
    chosen = [
        site for site in qdq.sites(model, attention=config.attention)
        if not {site.node, site.kind} & set(config.keep_float)
    ]  # fmt: skip
    if not any(site.kind in choose.WEIGHTED for site in chosen):
        raise checks.nothing(model, f"no {', '.join(choose.WEIGHTED)} with large enough constant weights")
    range_options = Ranges(
        calls=config.calibration, samples=config.samples, method=config.calibration_method, percentile=config.percentile,
        grid=cuts.SIGNED,
    )  # fmt: skip
    measured = ranges.measured(model, model_dir, qdq.tensors(model, chosen), range_options, out_dir)
    chosen = _ranged(model, chosen, measured.refused)
    largest = {name: measured.largest(name) for name in measured.ranges}
    signature = files.signature_of(model)
    feeds = list(islice(reader.read(config.calibration, model_dir, signature), _CHECKED_CALLS))
    notes: dict[str, Any] = {"remarks": list(measured.remarks)} if measured.remarks else {}
    if config.type == "mixed":
        errors = _errors(model, chosen, largest, feeds)
        chosen, notes["left_fp16"] = _holding(model, chosen, errors, config)
    before = Counter(node.op_type for node in model.graph.node)
    quantized = Counter(site.kind for site in chosen)
    rest = {name: before[name] - quantized[name] for name in sorted({*choose.WEIGHTED, "Add"}) if before[name] > quantized[name]}
    sensitive = {name: before[name] for name in casts.SENSITIVE if before[name]}
    notes |= {"quantized": dict(sorted(quantized.items()))}
    notes |= {"kept_fp16": rest, "kept_float": sensitive} if half else {"kept_float": rest | sensitive}
    if half:
        checks.refuse_overflow(checks.inferred(model), feeds, "fp16", out_dir)
    qdq.insert(model, chosen, largest, "float16" if half else "float32")
    if half:
        model, counts = casts.cast(model, 10, lambda _: False)  # TensorProto.FLOAT16
        notes |= {"converted_weights": counts["weights"], "casts": counts["casts"]}
    notes["int8_weights"] = sum(tensor.data_type == 3 and len(tensor.dims) > 1 for tensor in model.graph.initializer)
    files.save(model, out_dir)
    similar = checks.similarity(model_dir, out_dir, feeds, config.type, _LEAST[config.type])
    return notes | {"calibrated_on": config.calibration_method, "similarity": float(f"{similar:.6f}")}


def _ranged(model: onnx.ModelProto, chosen: Sequence[qdq.Site], refused: Mapping[str, str]) -> list[qdq.Site]:
    """The sites whose activations have ranges, with the residuals that still have a convolution to fuse into."""
    read = {node.name: node.input for node in model.graph.node}
    sites = [site for site in chosen if not {read[site.node][slot] for slot in site.activations} & refused.keys()]
    if not any(site.kind != "Add" for site in sites):
        raise PassError(f"precision: no node has a range to compute in: {next(iter(refused.values()))}")
    still = {site.node for site in qdq.residuals(model, {site.node for site in sites})}
    return [site for site in sites if site.kind != "Add" or site.node in still]


def _name(model: onnx.ModelProto) -> None:
    """Give every node a name of its own."""
    names: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in names:
            node.name = f"{node.name or node.op_type}_{number}"
        names.add(node.name)


def _holding(
    model: onnx.ModelProto, chosen: Sequence[qdq.Site], errors: Mapping[str, float], config: Int8Config
) -> tuple[list[qdq.Site], dict[str, float]]:
    """The sites whose nodes stay within the largest error, with the residuals that still have a convolution to fuse into; and the
    errors of the others."""
    failing = {name: float(f"{error:.4f}") for name, error in sorted(errors.items()) if error > config.largest_error}
    sites = [site for site in chosen if site.kind != "Add" and site.node not in failing]
    if not sites:
        worst = min(errors.values())
        raise PassError(
            f"precision: no node holds in int8: the best is off by {worst:.3f} of its size, more than `largest_error` "
            f"{config.largest_error:g}; use `type: fp16`, or calibration data that is like the real"
        )
    still = {site.node for site in qdq.residuals(model, {site.node for site in sites})}
    return [*sites, *(site for site in chosen if site.node in still)], failing


def _errors(
    model: onnx.ModelProto, chosen: Sequence[qdq.Site], largest: Mapping[str, float], feeds: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """For each weighted node: the root mean square of its error in 8 bits, with exact inputs, over that of its output.

    One probe graph: beside each node a copy with pairs that reads what the node reads; both results are outputs.
    """
    import numpy as np
    from onnx import helper

    probe = type(model).FromString(model.SerializeToString())
    weighted = {site.node for site in chosen if site.kind != "Add"}
    copies = []
    for node in probe.graph.node:
        if node.name in weighted:
            copy = type(node).FromString(node.SerializeToString())
            copy.name, copy.output[0] = f"{node.name}_probe", f"{node.output[0]}_probe"
            copies.append((node.name, node.output[0], copy))
    probe.graph.node.extend(copy for _, _, copy in copies)
    sites = [dataclasses.replace(site, node=f"{site.node}_probe") for site in chosen if site.node in weighted]
    qdq.insert(probe, sites, largest, "float16")
    del probe.graph.output[:]
    for _, exact, copy in copies:
        probe.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in (exact, copy.output[0]))
    opened = check.session_of(probe.SerializeToString(), "ORT_ENABLE_BASIC", checks.FAITHFUL["session"])
    off, size = dict.fromkeys(weighted, 0.0), dict.fromkeys(weighted, 0.0)
    for feed in feeds:
        results = check.run(opened, feed)
        for (name, _, _), exact, copy in zip(copies, results[::2], results[1::2], strict=True):
            off[name] += float(np.square(copy.astype(np.float64) - exact).sum())
            size[name] += float(np.square(exact.astype(np.float64)).sum())
    return {name: (off[name] / size[name]) ** 0.5 if size[name] else 0.0 for name, _, _ in copies}
