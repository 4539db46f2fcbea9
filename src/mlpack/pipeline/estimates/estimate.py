"""A candidate's estimates: its graph, the shapes of its data and its target's GPUs, put before the roofline.

Promises: one estimate for each device that the target names and that can run the graph, for calls as the evaluation data has them
most often. It measures nothing, and reads a graph only to count.
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
"""What the tensorrt step leaves beside its graph: the precision, and the largest shapes that engines are built for."""

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
_FREE = 0
"""In a shape: the axis of samples, which batch 1 and the largest batch fill in."""


def of_candidate(model_dir: Path, evaluation_calls: Path, target: Target) -> tuple[Estimate, ...]:
    """The estimates of the model in `model_dir` at `target`, the cheapest first; none when its GPUs cannot run it.

    `target.config` names `gpus` (`sm89`, ...) and `max_batch`. Raises PassError when the graph or the calls are damaged, or a
    tensor's shape cannot be found.
    """
    specification = _specification(model_dir)
    refused = specification.get("refused", {})
    gpus = devices.of_gpus(tuple(sm for sm in getattr(target.config, "gpus", ()) if sm not in refused))
    if not gpus:
        return ()
    signature = files.signature_of(files.outline(model_dir))
    usual = usual_shapes(evaluation_calls, model_dir, signature)
    batch = _largest_batch(usual, specification, int(getattr(target.config, "max_batch", 1)))
    one = graph_work.work_of(model_dir, filled(usual, 1), evaluation_calls)
    batched = graph_work.work_of(model_dir, filled(usual, batch), evaluation_calls) if batch > 1 else one
    precision = str(specification.get("precision") or _precision(one))
    return roofline.estimate(one, batched, batch, gpus, precision=precision)


def usual_shapes(evaluation_calls: Path, model_dir: Path, signature: Signature) -> Shapes:
    """The inputs' shapes that most calls have, the axis of samples left open (0); of equally many, the largest. PassError as
    `of_candidate`."""
    counts: Counter[Shapes] = Counter()
    names = {spec.name: spec.shape for spec in signature.inputs}
    for samples, shapes in _recorded(evaluation_calls, model_dir, signature):
        opened = []
        for name, axes in names.items():
            if name not in shapes:
                raise PassError(f"the evaluation data has no input {name!r}, which the graph takes")
            shape = shapes[name]
            varies = bool(axes) and isinstance(axes[0], str) and bool(shape) and shape[0] == samples
            opened.append((name, (_FREE, *shape[1:]) if varies else shape))
        counts[tuple(opened)] += 1
    if not counts:
        raise PassError(f"{reader.INDEX}: holds no calls")
    return max(counts, key=lambda each: (counts[each], sum(prod(n or 1 for n in shape) for _, shape in each), each))


def _recorded(folder: Path, model_dir: Path, signature: Signature) -> list[tuple[int, dict[str, tuple[int, ...]]]]:
    """Samples and shapes of every call. Texts are tokenised to know how long they are; arrays are not even read."""
    try:
        listed = json.loads((folder / reader.INDEX).read_text("utf-8"))
        if not any("texts" in call for call in listed):
            return [
                (int(call["samples"]), {name: tuple(map(int, stored["shape"])) for name, stored in call["inputs"].items()})
                for call in listed
            ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PassError(f"{reader.INDEX}: missing or damaged ({type(error).__name__}: {error})") from error
    arrays = reader.read(folder, model_dir, signature)
    return [
        (int(call.get("samples", 1)), {name: tuple(array.shape) for name, array in feed.items()})
        for call, feed in zip(listed, arrays, strict=True)
    ]


def filled(shapes: Shapes, batch: int) -> dict[str, tuple[int, ...]]:
    """Shapes by input, with this many samples where the axis of samples is open."""
    return {name: (batch, *shape[1:]) if shape[:1] == (_FREE,) else shape for name, shape in shapes}


def _largest_batch(shapes: Shapes, specification: Mapping[str, Any], batch: int) -> int:
    """As many samples as the target takes at once and the engines are built for; one where no axis is left open."""
    opened = [name for name, shape in shapes if shape[:1] == (_FREE,)]
    if not opened:
        return 1
    most = [
        max((int(profile[name]["max"][0]) for profile in specification.get("profiles") or () if name in profile), default=batch)
        for name in opened
    ]
    return max(1, min(batch, *most))


def _specification(model_dir: Path) -> dict[str, Any]:
    """`tensorrt.json`, or nothing where the graph has none."""
    path = model_dir / SPECIFICATION
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise PassError(f"{SPECIFICATION}: damaged ({error})") from error


def _precision(work: graph_work.GraphWork) -> str:
    """What most of the products are done in."""
    products = {dtype: flops for dtype, flops in work.flops.items() if dtype in operators.ARITHMETIC.values()}
    return max(products, key=lambda dtype: (products[dtype], dtype), default="fp32")
