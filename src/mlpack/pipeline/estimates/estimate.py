"""A candidate's estimates, from its graph, the shapes of its data and its target's GPUs, by the roofline.

Promises:
- There is one estimate for each device that the target names and that can run the graph, for the shapes that most calls of the
  evaluation data have.

Will not: measure. The graph is only read to count its work.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from mlpack.core.records import Estimate, Signature, Target
from mlpack.errors import PassError
from mlpack.evaluation.data import reader
from mlpack.graphs import files
from mlpack.graphs.facts import graph_work, operators
from mlpack.pipeline.estimates import devices, roofline

SPECIFICATION = "tensorrt.json"
"""The tensorrt step's file beside its graph: the precision, and the largest shapes that engines are built for."""

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
_FREE = 0
"""The axis of samples in a shape, for which `fill_batch` puts a batch size."""


def of_candidate(model_dir: Path, evaluation_calls: Path, target: Target) -> tuple[Estimate, ...]:
    """The estimates of the model in `model_dir` at `target`, the cheapest first; none when its GPUs cannot run it.

    `target.config` names `gpus` (`sm89`, ...) and `max_batch`. Raises PassError when the graph or the calls are damaged, or a
    tensor's shape cannot be found.
    """
    specification = _specification(model_dir)
    refusals = specification.get("refused", {})
    gpus = devices.of_gpus(tuple(sm for sm in getattr(target.config, "gpus", ()) if sm not in refusals))
    if not gpus:
        return ()
    signature = files.signature_of(files.outline(model_dir))
    usual = usual_shapes(evaluation_calls, model_dir, signature)
    batch = _largest_batch(usual, specification, int(getattr(target.config, "max_batch", 1)))
    one = graph_work.work_of(model_dir, fill_batch(usual, 1), evaluation_calls)
    batched = graph_work.work_of(model_dir, fill_batch(usual, batch), evaluation_calls) if batch > 1 else one
    precision = str(specification.get("precision") or _precision(one))
    return roofline.estimate(one, batched, batch, gpus, precision=precision)


def usual_shapes(evaluation_calls: Path, model_dir: Path, signature: Signature) -> Shapes:
    """The inputs' shapes that most calls have, with 0 for the axis of samples; the largest of equally frequent ones. PassError as
    of `of_candidate`."""
    counts: Counter[Shapes] = Counter()
    names = {spec.name: spec.shape for spec in signature.inputs}
    for samples, shapes in _call_shapes(evaluation_calls, model_dir, signature):
        call_shapes = []
        for name, axes in names.items():
            if name not in shapes:
                raise PassError(f"the evaluation data has no input {name!r}, which the graph takes")
            shape = shapes[name]
            varies = bool(axes) and isinstance(axes[0], str) and bool(shape) and shape[0] == samples
            call_shapes.append((name, (_FREE, *shape[1:]) if varies else shape))
        counts[tuple(call_shapes)] += 1
    if not counts:
        raise PassError(f"{reader.INDEX}: holds no calls")
    return max(counts, key=lambda each: (counts[each], sum(prod(n or 1 for n in shape) for _, shape in each), each))


def _call_shapes(folder: Path, model_dir: Path, signature: Signature) -> list[tuple[int, dict[str, tuple[int, ...]]]]:
    """Samples and shapes of every call. Texts are tokenised for their lengths; arrays are not read."""
    try:
        index = json.loads((folder / reader.INDEX).read_text("utf-8"))
        if not any("texts" in call for call in index):
            return [
                (int(call["samples"]), {name: tuple(map(int, row["shape"])) for name, row in call["inputs"].items()})
                for call in index
            ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PassError(f"{reader.INDEX}: missing or damaged ({type(error).__name__}: {error})") from error
    arrays = reader.read(folder, model_dir, signature)
    return [
        (int(call.get("samples", 1)), {name: tuple(array.shape) for name, array in feed.items()})
        for call, feed in zip(index, arrays, strict=True)
    ]


def fill_batch(shapes: Shapes, batch: int) -> dict[str, tuple[int, ...]]:
    """Shapes by input, with this many samples on the axis of samples."""
    return {name: (batch, *shape[1:]) if shape[:1] == (_FREE,) else shape for name, shape in shapes}


def _largest_batch(shapes: Shapes, specification: Mapping[str, Any], batch: int) -> int:
    """The largest batch of the target and the engines; 1 where no input has an axis of samples."""
    names = [name for name, shape in shapes if shape[:1] == (_FREE,)]
    if not names:
        return 1
    most = [
        max((int(profile[name]["max"][0]) for profile in specification.get("profiles") or () if name in profile), default=batch)
        for name in names
    ]
    return max(1, min(batch, *most))


def _specification(model_dir: Path) -> dict[str, Any]:
    """`tensorrt.json`, or an empty dict where the graph has none."""
    path = model_dir / SPECIFICATION
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise PassError(f"{SPECIFICATION}: damaged ({error})") from error


def _precision(work: graph_work.GraphWork) -> str:
    """The element type of most products."""
    products = {dtype: flops for dtype, flops in work.flops.items() if dtype in operators.ARITHMETIC.values()}
    return max(products, key=lambda dtype: (products[dtype], dtype), default="fp32")
