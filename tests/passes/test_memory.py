"""How much memory the passes take as the model grows: measured in children, as a difference, so that what Python takes cancels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.support.recorded_calls import recorded

WIDTH = 2048
MATRIX_BYTES = WIDTH * WIDTH * 4
SMALL, LARGE = 3, 9
"""Matrices: 50 and 150 MB."""
SLOPE = 1.5
"""Bytes of memory a byte of model, at most: the figure of bench/scale.py."""

CHILD = """
import json, sys, threading, time
from pathlib import Path
from mlpack.graphs.foreign import adopt
from mlpack.passes import PASSES
from mlpack.passes.quantize import damage

peak, done = 0, False
def anonymous(pid):
    # of a process and all below it: the engine has one of its own
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        below = [each for path in Path(f"/proc/{pid}/task").glob("*/children") for each in path.read_text().split()]
    except OSError:  # it has ended
        return 0
    own = sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))
    return own + sum(map(anonymous, below))

def watch():
    global peak
    while not done:
        peak = max(peak, anonymous("self"))
        time.sleep(0.01)

source, work, steps, calls = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), Path(sys.argv[4])
(work / "adopt").mkdir(parents=True)
thread = threading.Thread(target=watch)
thread.start()
try:
    adopt.external_files(source)
    adopt.adopt(source, (), work / "adopt")
    for out, name, before, options in steps:
        if name == "rank":
            nodes = list(json.loads((work / out / "notes.json").read_bytes())["nodes"])
            assert len(damage.rank(work / before, work / out, nodes, calls, work)) == len(nodes)
            continue
        (work / out).mkdir()
        if "calibration" in options:
            options["calibration"] = calls
        PASSES[name].run(work / before, PASSES[name].config(**options), work / out)
finally:
    done = True
    thread.join()
print(peak)
"""

DYNAMIC = (
    ("simplify", "simplify", "adopt", {}),
    ("optimize", "optimize", "simplify", {"arch": "x86_64"}),
    ("quantize", "quantize", "simplify", {"arch": "x86_64", "method": "dynamic"}),
    ("half", "precision", "simplify", {"type": "fp16"}),
)
BETTER = {"method": "static", "smooth": True, "bias_correction": True, "calibration": True}
STATIC = (
    ("static", "quantize", "adopt", {"arch": "x86_64", **BETTER}),
    ("static", "rank", "adopt", {}),
    ("optimize", "optimize", "static", {"arch": "x86_64"}),
)
ADOPTED = (("simplify", "simplify", "adopt", {}),)
"""Of a model with its weights inside: `adopt` lays them beside it, and every pass sees them there."""


def chain(folder: Path, count: int, *, inside: bool) -> Path:
    """A chain of matrices, written one at a time beside the graph, or as bytes of the graph's own file."""
    folder.mkdir(parents=True)
    random, stored, nodes = np.random.default_rng(0), [], []
    with (folder / "weights.bin").open("wb") as stream:
        for number in range(count):
            values = (random.standard_normal((WIDTH, WIDTH), dtype=np.float32) * np.float32(WIDTH**-0.5)).tobytes()
            tensor = TensorProto(name=f"w{number:02}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
            if inside:
                tensor.raw_data = values
            else:
                tensor.data_location = TensorProto.EXTERNAL
                for key, value in (("location", "weights.bin"), ("offset", stream.tell()), ("length", MATRIX_BYTES)):
                    tensor.external_data.add(key=key, value=str(value))
                stream.write(values)
            stored.append(tensor)
            nodes.append(helper.make_node("MatMul", [f"h{number}", tensor.name], [f"h{number + 1}"], name=f"m{number}"))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in ("h0", f"h{count}")]
    graph = helper.make_graph(nodes, "chain", ports[:1], ports[1:], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return folder / "model.onnx"


def peak(model: Path, work: Path, steps: tuple[Any, ...]) -> int:
    random = np.random.default_rng(1)
    feeds = [{"h0": random.standard_normal((2, WIDTH), dtype=np.float32)} for _ in range(2)]
    for feed in feeds:
        feed["h0"][:, :8] *= 90  # channels that outlie: smoothing has something to do
    calls = recorded(work.with_name(f"{work.name}-calls"), feeds)
    arguments = [sys.executable, "-c", CHILD, model, work, json.dumps(steps), calls]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inside", "steps"), [(False, DYNAMIC), (False, STATIC), (True, ADOPTED)], ids=["dynamic", "static", "inside"]
)
def test_memory_grows_by_less_than_the_model(inside: bool, steps: tuple[Any, ...], tmp_path: Path) -> None:
    taken = {
        count: peak(chain(tmp_path / f"model{count}", count, inside=inside), tmp_path / f"work{count}", steps)
        for count in (SMALL, LARGE)
    }
    slope = (taken[LARGE] - taken[SMALL]) / ((LARGE - SMALL) * MATRIX_BYTES)
    assert slope <= SLOPE, f"{slope:.2f} bytes a byte of model: {taken}"
