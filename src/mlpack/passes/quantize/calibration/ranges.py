"""Measures a range for each requested activation from the calibration calls, and reports what is wrong with the calls.

Promises:
- Calls are read one at a time, and what is kept of them does not grow with their number. At most `_HELD_BYTES` of a call's
  activations are in memory at once; the calls are run again for the others.
- A call with an input that is not finite is refused by its number. An activation without a usable range (never finite, empty,
  zero) is reported with its node and the call, and left to the caller.
- A call that alone makes a range wide is used, and reported with its effect.

Will not: decide which values a range keeps. `cuts` does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from math import inf, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core import digest
from mlpack.core.files import temporary
from mlpack.errors import PassError
from mlpack.evaluation.data import reader
from mlpack.graphs import check, files, weights
from mlpack.passes.quantize.calibration import cuts
from mlpack.passes.quantize.calibration.cuts import Grid
from mlpack.passes.quantize.calibration.tally import Tally

if TYPE_CHECKING:
    import onnx

    from mlpack.core.records import Signature

_ALONE = 4.0
"""A call that makes a range this many times as wide is reported: two bits of eight are lost, and the call is probably damaged."""
_HELD_BYTES = 256 << 20
_MOST_CALLS = 3
_MOST_TENSORS = 3
_SMALLEST = 2.0**-118
"""A tensor with smaller values has no scale that float32 holds with all its bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """How to measure ranges: which recorded calls, how many at most, by which method, for which steps."""

    calls: Path
    samples: int
    method: str
    percentile: float = cuts.PERCENTILE
    grid: Grid = cuts.UNSIGNED


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRanges:
    """`ranges`: by tensor, the lowest and highest value to keep. `refused`: by tensor, the reason in words why it has none.
    `remarks`: facts about the calls for a reader of the result."""

    ranges: Mapping[str, tuple[float, float]]
    refused: Mapping[str, str]
    remarks: tuple[str, ...]

    def largest(self, name: str) -> float:
        """The largest distance from zero in a tensor's range."""
        low, high = self.ranges[name]
        return max(-low, high, 0.0)


def measured(
    model: onnx.ModelProto, model_dir: Path, names: Sequence[str], options: Ranges, place: Path | None = None
) -> MeasuredRanges:
    """Ranges of these float tensors of the graph over the calls. `place`: a folder for a temporary copy of the weights.

    PassError for calls that are damaged, do not fit the model or hold what is not finite.
    """
    names = list(dict.fromkeys(names))
    call_ranges = _looked_at(model, model_dir, options)
    _look(call_ranges, model, model_dir, names, options, place)
    inputs, count = call_ranges.inputs, call_ranges.count
    tallies = {name: call_ranges.tallies[name] for name in names}
    reasons = {name: _refusal(name, tally, call_ranges.makers, count) for name, tally in tallies.items()}
    refused = {name: reason for name, reason in reasons.items() if reason is not None}
    ranges = {
        name: cuts.cut(tally, options.method, options.grid, options.percentile)
        for name, tally in tallies.items() if name not in refused
    }  # fmt: skip
    remarks = [*_of_calls(inputs, count), *_of_refused(refused), *_of_outliers(tallies | inputs, ranges, options.method)]
    return MeasuredRanges(ranges=ranges, refused=refused, remarks=tuple(remarks))


@dataclass(slots=True)
class _CallRanges:
    """The values that the calls reach in one graph, as far as they are known."""

    inputs: dict[str, Tally]
    count: int
    heaviest: dict[str, Any]
    tallies: dict[str, Tally]
    makers: dict[str, onnx.NodeProto]


_KEPT: ContextVar[dict[str, _CallRanges] | None] = ContextVar("ranges", default=None)


@contextmanager
def remembered() -> Iterator[None]:
    """A context in which a tensor of the same graph and calls is measured once, for all forms that are made of it."""
    before = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(before)


def _looked_at(model: onnx.ModelProto, model_dir: Path, options: Ranges) -> _CallRanges:
    """The cached measurements, or empty ones. PassError as `measured`."""
    cached = _KEPT.get()
    key = ""
    if cached is not None:
        key = f"{_cache_key(model)} {model_dir} {options.calls} {options.samples} {options.method != 'minmax'}"
        if key in cached:
            return cached[key]
    call_ranges = _CallRanges(*_inputs(model_dir, files.signature_of(model), options), tallies={}, makers={})
    if cached is not None:
        cached[key] = call_ranges
    return call_ranges


def _cache_key(model: onnx.ModelProto) -> digest.Digest:
    """A key that distinguishes this graph from others of one directory. New weights have names by their content (`graphs.spill`),
    in a folder that is another one each time."""
    copied = type(model)()
    copied.CopyFrom(model)
    for tensor in copied.graph.initializer:
        if (place := weights.referred(tensor)) is not None:
            weights.point(tensor, dataclasses.replace(place, path=Path(place.path.name)))
    return digest.of_bytes(copied.SerializeToString(deterministic=True))


def _look(
    call_ranges: _CallRanges, model: onnx.ModelProto, model_dir: Path, names: Sequence[str], options: Ranges, place: Path | None
) -> None:  # fmt: skip
    """Measure the tensors that are not measured yet."""
    missing = [name for name in names if name not in call_ranges.tallies]
    if not missing and call_ranges.makers:
        return
    tallies = {name: Tally(detailed=options.method != "minmax") for name in missing}
    with temporary.directory("ranges", place) as folder:
        probe = _Probe(model, folder)
        call_ranges.makers = probe.makers
        for group in _groups(probe.sizes(missing, call_ranges.heaviest)) if missing else ():
            _observe(probe, group, _calls(model_dir, files.signature_of(model), options), tallies)
    call_ranges.tallies |= tallies


def _calls(model_dir: Path, signature: Signature, options: Ranges) -> Iterator[dict[str, Any]]:
    return islice(reader.read(options.calls, model_dir, signature), options.samples)


def _inputs(model_dir: Path, signature: Signature, options: Ranges) -> tuple[dict[str, Tally], int, dict[str, Any]]:
    """The values that the calls reach in the float inputs, the number of calls, and the largest one. PassError as `measured`."""
    tallies = {spec.name: Tally() for spec in signature.inputs if spec.dtype.startswith("float")}
    heaviest: dict[str, Any] = {}
    most = number = -1
    for number, feed in enumerate(_calls(model_dir, signature, options)):
        for name, tally in tallies.items():
            tally.add(feed[name], number)
            if tally.broken is not None:
                raise PassError(
                    f"calibration call {number} (counted from 0) holds {tally.broken[1]} in {name}: no range can be read "
                    "from it; leave it out of the calibration data"
                )
        if (size := sum(array.size for array in feed.values())) > most:
            most, heaviest = size, feed
    return tallies, number + 1, heaviest


class _Probe:
    """The graph, opened with any of its tensors as outputs: its weights are written once, and mapped."""

    def __init__(self, model: onnx.ModelProto, folder: Path) -> None:
        import onnx

        copied = onnx.ModelProto()
        copied.CopyFrom(model)
        files.save(copied, folder)
        self._folder = folder
        self._graph = onnx.load(folder / files.MODEL, load_external_data=False)
        self._inputs = {value.name for value in self._graph.graph.input}
        self.makers = {name: node for node in self._graph.graph.node for name in node.output if name}

    def opened(self, names: Sequence[str], nodes: Sequence[onnx.NodeProto] = ()) -> Any:
        """A session whose outputs are these tensors, in this order; with further nodes, which read the graph's tensors."""
        import onnx

        changed = onnx.ModelProto()
        changed.CopyFrom(self._graph)
        changed.graph.node.extend(nodes)
        del changed.graph.output[:]
        changed.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
        (self._folder / files.MODEL).write_bytes(changed.SerializeToString())
        return check.session(self._folder, "ORT_DISABLE_ALL")

    def values(self, opened: Any, names: Sequence[str], feed: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """The tensors' values in one call; the graph's own inputs are returned as they are."""
        arrays = iter(check.run(opened, feed))
        yield from ((name, feed[name] if name in self._inputs else next(arrays)) for name in names)

    def outputs(self, names: Sequence[str]) -> list[str]:
        """The names that the graph computes."""
        return [name for name in names if name not in self._inputs]

    def sizes(self, names: Sequence[str], feed: Mapping[str, Any]) -> dict[str, int]:
        """The bytes of each tensor as float32 in this call."""
        import onnx

        computed = self.outputs(names)
        shapes = [onnx.helper.make_node("Shape", [name], [f"{name}/shape"], name=f"{name}/shape") for name in computed]
        arrays = check.run(self.opened([node.output[0] for node in shapes], shapes), feed) if computed else []
        sizes = {name: 4 * prod(int(axis) for axis in shape) for name, shape in zip(computed, arrays, strict=True)}
        return {name: sizes.get(name, 0) for name in names}


def _groups(sizes: Mapping[str, int]) -> list[list[str]]:
    """The tensors in groups that fit into `_HELD_BYTES` together, or hold one."""
    groups: list[list[str]] = []
    remaining = 0
    for name, size in sizes.items():
        if not groups or size > remaining:
            groups.append([])
            remaining = _HELD_BYTES
        groups[-1].append(name)
        remaining -= size
    return groups


def _observe(probe: _Probe, group: Sequence[str], calls: Iterator[dict[str, Any]], tallies: Mapping[str, Tally]) -> None:
    """Count the values of these tensors in every call."""
    opened = probe.opened(probe.outputs(group)) if probe.outputs(group) else None
    for number, feed in enumerate(calls):
        for name, values in probe.values(opened, group, feed) if opened else ((name, feed[name]) for name in group):
            tallies[name].add(values, number)


def _refusal(name: str, tally: Tally, makers: Mapping[str, onnx.NodeProto], calls: int) -> str | None:
    """The reason why no range of this tensor can be used, or None."""
    node = makers.get(name)
    who = f"node {node.name!r} ({node.op_type}) gives" if node is not None else "the input is"
    if tally.broken is not None:
        number, what = tally.broken
        how_often = "every call" if tally.broken_calls == calls else f"{tally.broken_calls} of {calls} calls"
        return f"{who} {what} in {name!r}, first in calibration call {number} (counted from 0), in {how_often}"
    if tally.low is None or tally.high is None:
        return f"{who} nothing in {name!r}: it is empty in every calibration call"
    reach = max(-tally.low.value, tally.high.value)
    if reach == 0:
        return f"{who} {name!r}, which is zero in every calibration call: no scale can be read from that"
    if reach < _SMALLEST:
        return f"{who} {name!r}, which reaches {reach:.3g} at most: no scale can be that small"
    return None


def _of_calls(inputs: Mapping[str, Tally], count: int) -> Iterator[str]:
    if count == 1:
        yield "calibration is one call: ranges are what it alone reaches, and other data may reach further"
    for name, tally in inputs.items():
        if tally.low is not None and tally.high is not None and tally.low.value == tally.high.value == 0:
            yield f"calibration: {name} is zero in every call: the ranges behind it say nothing about real data"


def _of_refused(refused: Mapping[str, str]) -> Iterator[str]:
    if refused:
        first = next(iter(refused.values()))
        more = "" if len(refused) == 1 else f"; {len(refused) - 1} more tensors have no range either"
        yield f"{first}; nodes that would need its range stay float{more}"


def _of_outliers(tallies: Mapping[str, Tally], ranges: Mapping[str, tuple[float, float]], method: str) -> list[str]:
    """Remarks about single calls that widened ranges, the call with the largest effect first."""
    by_call: dict[int, list[tuple[float, str]]] = {}
    for name, tally in tallies.items():
        if (outlier := _decided(tally, ranges.get(name))) is not None:
            call, factor, change = outlier
            by_call.setdefault(call, []).append((factor, f"{name} {change}"))
    remedy = "leave it out, or use `calibration_method: entropy`" if method == "minmax" else "leave it out if it is damaged"
    remarks = []
    for call, outliers in sorted(by_call.items(), key=lambda item: (-len(item[1]), item[0]))[:_MOST_CALLS]:
        outliers.sort(key=lambda each: (-each[0], each[1]))
        more = f" and {len(outliers) - _MOST_TENSORS} more" if len(outliers) > _MOST_TENSORS else ""
        remarks.append(
            f"calibration call {call} (counted from 0) is an outlier: it alone decides the range of "
            f"{'; '.join(text for _, text in outliers[:_MOST_TENSORS])}{more}: every step of int8 is coarser for it; {remedy}"
        )
    if len(by_call) > _MOST_CALLS:
        remarks.append(f"calibration: {len(by_call) - _MOST_CALLS} more calls each decide a range alone")
    return remarks


def _decided(tally: Tally, range_kept: tuple[float, float] | None) -> tuple[int, float, str] | None:
    """The one call that makes this tensor's range much wider than all others do: its number, the factor, and the two ranges."""
    if tally.low is None or tally.high is None or range_kept is None:
        return None
    for call in sorted({tally.low.call, tally.high.call}):
        others = tally.without(call)
        if others is None:
            continue
        before, after = (max(high, 0.0) - min(low, 0.0) for low, high in (others, range_kept))
        if after > _ALONE * before:
            factor = after / before if before else inf
            times = f", {factor:.3g} times as wide" if before else ""
            return (
                call,
                factor,
                f"({others[0]:.4g} to {others[1]:.4g} without it, {range_kept[0]:.4g} to {range_kept[1]:.4g} with it{times})",
            )
    return None
