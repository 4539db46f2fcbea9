"""Optimisation profiles: for every axis that may vary, the smallest, the usual and the largest length of an engine. Pure: `of`.

    profiles.of(signature, requested, observed, max_batch)      -> tuple[Profile, ...]
    profiles.observed_shapes(calls_dir, model_dir, signature)  -> tuple[Mapping[input, shape], ...]

`requested` is what a recipe says, `tensorrt: {profiles: [{input: {min: [...], opt: [...], max: [...]}}]}`, one profile an
entry, or empty; `observed` are the shapes of recorded calls, which are used when the recipe says nothing.

Promises:
- A profile names every input that has an axis that may vary, and no other.
- min <= opt <= max on every axis. Axes of fixed length are as the signature has them, and axes of one name have one length.
- A model without such axes gets no profile.

The engine refuses a shape outside its profiles; only the recipe can widen one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.evaluation.data import reader

if TYPE_CHECKING:
    from pathlib import Path

    from mlpack.core.records import Signature, TensorSpec

Shape = tuple[int, ...]
Seen = Sequence[Mapping[str, Shape]]

MAX_BATCH = 32
"""The most rows of an engine's call where the target does not state a number."""

_LONGEST = 2**31 - 1  # TensorRT's dimensions are 64 bits wide, its indices are not


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The shapes of one input: no smaller than `min`, no larger than `max`, fastest at `opt`."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (read by pydantic where a recipe is: a mistyped key is a mistake)

    min: Shape
    """The smallest shape."""
    opt: Shape
    """The shape the kernels are chosen for."""
    max: Shape
    """The largest shape."""


Wanted = Sequence[Mapping[str, Bounds]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One profile: bounds by input, in the order of the graph's inputs."""

    inputs: tuple[tuple[str, Bounds], ...]

    def as_json(self) -> dict[str, Any]:
        """`{input: {"min": [...], "opt": [...], "max": [...]}}`."""
        return {name: {"min": list(b.min), "opt": list(b.opt), "max": list(b.max)} for name, b in self.inputs}


def of(signature: Signature, requested: Wanted, shapes_seen: Seen, max_batch: int = MAX_BATCH) -> tuple[Profile, ...]:
    """The profiles of a model: the recipe's own, checked, or one from recorded calls; none without an axis that may vary.

    From calls: the first axis of an input, where it may vary, is the batch, from 1 to `max_batch`, which is also the usual one.
    Every other axis goes from the smallest length to the largest, with the middle one as the usual. Raises PassError with every
    problem of the recipe's profiles, and when neither they nor the calls give the lengths.
    """
    if max_batch < 1:
        raise PassError(f"profiles: max_batch must be at least 1, not {max_batch}")
    varying = tuple(spec for spec in signature.inputs if any(isinstance(axis, str) for axis in spec.shape))
    if requested:
        problems = [problem for number, one in enumerate(requested) for problem in _problems(signature, varying, number, one)]
        if problems:
            raise PassError("tensorrt.profiles do not fit the model:\n  " + "\n  ".join(problems))
        return tuple(Profile(inputs=tuple((spec.name, one[spec.name]) for spec in varying)) for one in requested)
    if not varying:
        return ()
    lengths = _lengths(varying, shapes_seen, max_batch)
    return (Profile(inputs=tuple((spec.name, _bounds(spec, lengths)) for spec in varying)),)


def observed_shapes(calls_dir: Path, model_dir: Path, signature: Signature) -> tuple[Mapping[str, Shape], ...]:
    """The shapes of recorded calls; texts are tokenised one by one, and the empty text is among them.

    A request may hold one text, and that one may be shorter than every whole call's longest. So the smallest length is that of
    the shortest text alone, and never more than that of the empty text. Raises PassError for damaged calls.
    """
    return tuple(reader.shapes(calls_dir, model_dir, signature))


def _problems(signature: Signature, varying: Sequence[TensorSpec], number: int, one: Mapping[str, Bounds]) -> Iterator[str]:
    where = f"profile {number}"
    specs = {spec.name: spec for spec in signature.inputs}
    for name in one:
        if name not in specs:
            yield f"{where}: the model has no input {name!r} (it has: {', '.join(specs)})"
        elif specs[name] not in varying:
            yield f"{where}: {name!r} has no axis that may vary ({_written(specs[name])}): leave it out"
    lengths: dict[str, tuple[str, Shape]] = {}
    for spec in varying:
        if spec.name not in one:
            yield f"{where}: says nothing of {spec.name!r}, which may vary ({_written(spec)})"
            continue
        bounds = one[spec.name]
        wrong = list(_misfits(spec, bounds))
        yield from (f"{where}: {spec.name}: {problem}" for problem in wrong)
        for place, axis in enumerate(spec.shape if not wrong else ()):
            if isinstance(axis, str):
                triple = (bounds.min[place], bounds.opt[place], bounds.max[place])
                other, theirs = lengths.setdefault(axis, (spec.name, triple))
                if theirs != triple:
                    yield (
                        f"{where}: axis {axis!r} is {triple} in {spec.name!r} and {theirs} in {other!r} (min, opt, max); "
                        "axes of one name have one length"
                    )


def _misfits(spec: TensorSpec, bounds: Bounds) -> Iterator[str]:
    for kind in ("min", "opt", "max"):
        shape: Shape = getattr(bounds, kind)
        if len(shape) != len(spec.shape):
            yield f"{kind} {list(shape)} has {len(shape)} axes, the model's {_written(spec)} has {len(spec.shape)}"
            continue
        for place, (axis, length) in enumerate(zip(spec.shape, shape, strict=True)):
            if isinstance(axis, int) and axis != length:
                yield f"{kind} {list(shape)}: axis {place} is always {axis}, not {length}"
            elif not 1 <= length <= _LONGEST:
                yield f"{kind} {list(shape)}: axis {place} must be from 1 to {_LONGEST}, not {length}"
    if len(bounds.min) == len(bounds.opt) == len(bounds.max):
        for place, (low, usual, high) in enumerate(zip(bounds.min, bounds.opt, bounds.max, strict=True)):
            if not low <= usual <= high:
                yield f"axis {place}: min <= opt <= max does not hold: {low}, {usual}, {high}"


def _lengths(varying: Sequence[TensorSpec], shapes_seen: Seen, max_batch: int) -> dict[str, tuple[int, int, int]]:
    """(min, opt, max) of every named axis."""
    batch = {spec.shape[0] for spec in varying if isinstance(spec.shape[0], str)}
    lengths: dict[str, list[int]] = {}
    for number, call in enumerate(shapes_seen):
        for spec in varying:
            shape = call.get(spec.name, ())
            if len(shape) != len(spec.shape):
                raise PassError(f"profiles: call {number} gives {spec.name!r} the shape {shape}, the model takes {_written(spec)}")
            for axis, length in zip(spec.shape, shape, strict=True):
                if isinstance(axis, str):
                    lengths.setdefault(axis, []).append(length)
    result = {str(axis): (1, max_batch, max_batch) for axis in batch}
    for spec in varying:
        for axis in spec.shape:
            if isinstance(axis, str) and axis not in result:
                values = sorted(length for length in lengths.get(axis, ()) if length >= 1)
                if not values:
                    raise PassError(
                        f"profiles: nothing says how long axis {axis!r} of {spec.name!r} may be: no recorded call has it; "
                        "say `tensorrt: {profiles: [...]}`"
                    )
                result[axis] = (values[0], values[len(values) // 2], values[-1])
    return result


def _bounds(spec: TensorSpec, lengths: Mapping[str, tuple[int, int, int]]) -> Bounds:
    rows = [lengths[axis] if isinstance(axis, str) else (axis, axis, axis) for axis in spec.shape]
    low, usual, high = zip(*rows, strict=True)
    return Bounds(min=tuple(low), opt=tuple(usual), max=tuple(high))


def _written(spec: TensorSpec) -> str:
    return f"[{', '.join(map(str, spec.shape))}]"
