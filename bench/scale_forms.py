"""Memory and time of a whole build as the model grows, where forms are made with calibration data: 0.5, 1 and 2.6 GB of float.

Two models with seeded random weights in external data: a chain of convolutions (37.7 MB each) and one of products (67 MB each).
Of each two recipes: `static` (float, static int8, and that with `smooth` and `bias_correction`) and `auto` (`variants: auto`, with
its search: layers ranked by damage, forms tried one after the other). The target is a container image, the store new; calibration
is 16 calls, the evaluation 16; few timings (`--effort quick`), since they are no figure here. Memory is read as in `scale.py`; the
figure is its: anonymous pages of the whole process tree at most 1.5 times the model and 1 GB. Points take long and are kept in
OUT/scale_forms_points, each with when it was taken.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import Place, Row, parser, place, report, run, scratch
from scale import Taken, rows_of, watched

if TYPE_CHECKING:
    from collections.abc import Callable

CHANNELS, WIDTH, SIDE = 1024, 4096, 4
SIZES = (0.5, 1.0, 2.6)
MODELS, RECIPES = ("convolutions", "products"), ("static", "auto")
_SHARE = 0.694
"""Of a 3x3 kernel's values, those that lie inside a padded picture of 4x4, on average: what keeps the activations' size."""

_HEAD = (
    "name: scale\nsource: {onnx: model.onnx}\ndata: {evaluation: evaluation.npz, calibration: calibration.npz}\nmetric: cosine\n"
)
_STATIC = """variants:
  fp32: []
  int8: [{quantize: {method: static}}]
  better: [{quantize: {method: static, smooth: true, bias_correction: true}}]
search: off
"""
_AUTO = "variants: auto\nbudgets: {accuracy_drop: 0.0001}\n"
"""A budget that int8 of a deep random chain misses: layers are ranked and forms are searched for."""
_TARGET = "targets:\n  lambda-image: {memory_mb: 10240}\n"


def main() -> int:
    """Builds, smallest first."""
    options = parser(__doc__)
    options.add_argument("--gb", type=float, nargs="*", default=SIZES, help="sizes [default: all; none: the table again]")
    options.add_argument("--model", nargs="+", choices=MODELS, default=MODELS)
    options.add_argument("--recipe", nargs="+", choices=RECIPES, default=RECIPES)
    chosen = options.parse_args()
    here = place(chosen)
    points = chosen.out / "scale_forms_points"
    points.mkdir(parents=True, exist_ok=True)
    for gigabytes in sorted(chosen.gb):
        for model in chosen.model:
            for recipe in chosen.recipe:
                point = one(here, gigabytes, model, recipe)
                (points / f"{model}-{recipe}-{gigabytes:g}.json").write_text(json.dumps(dataclasses.asdict(point), indent=1) + "\n")
    rows: list[Row] = []
    for path in sorted(points.glob("*.json"), key=lambda each: (each.name.rpartition("-")[0], float(each.stem.rpartition("-")[2]))):
        what = path.stem.rpartition("-")[0].replace("-", ", ")
        rows += [dataclasses.replace(row, name=f"{what}, {row.name}") for row in rows_of(Taken(**json.loads(path.read_bytes())))]
    return report(
        "scale_forms", rows, "convolutions and products, static int8 and `variants: auto`, as container images", chosen.out
    )


def one(here: Place, gigabytes: float, model: str, recipe: str) -> Taken:
    """One build of a new model in a new store."""
    with scratch(here.store.parent) as work:
        (work / "store").mkdir()
        if (here.store / "oci").is_dir():
            run(["cp", "-a", "--reflink=auto", str(here.store / "oci"), str(work / "store/oci")])
        taken = Taken(model=make(work / "model", gigabytes, model, recipe))
        watched(taken, here, work, "--effort", "quick")
        record = json.loads((work / "out/build.json").read_bytes())
        taken.candidates = {each["id"]: _status(each) for each in record["candidates"]}
        return taken


def _status(candidate: dict[str, Any]) -> str:
    """A candidate's status; of one that failed with the reason, since what failed early needed less memory."""
    status = str(candidate["status"])
    return f"{status} ({'; '.join(candidate['reasons'])[:200]})" if status == "failed" else status


def make(folder: Path, gigabytes: float, model: str, recipe: str) -> int:
    """A model of about this size, its data and its recipe, in `folder`; the bytes of its weights."""
    import numpy as np
    from onnx import TensorProto, helper, save

    folder.mkdir()
    random = np.random.default_rng(0)
    shape = (CHANNELS, CHANNELS, 3, 3) if model == "convolutions" else (WIDTH, WIDTH)
    sample = (CHANNELS, SIDE, SIDE) if model == "convolutions" else (WIDTH,)
    size = 4 * int(np.prod(shape))
    fan = CHANNELS * 9 * _SHARE if model == "convolutions" else WIDTH
    count = max(1, round(gigabytes * 1e9 / size))
    weights, nodes = [], []
    with (folder / "weights.bin").open("wb") as stream:
        for number in range(count):
            values = random.standard_normal(shape, dtype=np.float32)
            values *= np.float32((2 / fan) ** 0.5)
            tensor = TensorProto(name=f"w{number:04}", data_type=TensorProto.FLOAT, dims=shape, data_location=1)
            for key, value in (("location", "weights.bin"), ("offset", stream.tell()), ("length", size)):
                tensor.external_data.add(key=key, value=str(value))
            stream.write(memoryview(values).cast("B"))
            weights.append(tensor)
            nodes += _layer(helper.make_node, number, model, tensor.name)
    ports = [helper.make_tensor_value_info(name, 1, ["batch", *sample]) for name in ("x", f"h{count - 1}")]
    graph = helper.make_graph(nodes, "chain", ports[:1], ports[1:], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")
    for name in ("evaluation", "calibration"):
        np.savez(folder / f"{name}.npz", x=random.standard_normal((16, *sample), dtype=np.float32))
    (folder / "recipe.yaml").write_text(_HEAD + (_STATIC if recipe == "static" else _AUTO) + _TARGET)
    return count * size


def _layer(node: Callable[..., Any], number: int, model: str, weight: str) -> list[Any]:
    source, middle = f"h{number - 1}" if number else "x", f"m{number}"
    if model == "convolutions":
        first = node("Conv", [source, weight], [middle], name=f"conv{number}", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    else:
        first = node("MatMul", [source, weight], [middle], name=f"matmul{number}")
    return [first, node("Relu", [middle], [f"h{number}"], name=f"relu{number}")]


if __name__ == "__main__":
    sys.exit(main())
