"""Engines of TensorRT for RTX for real models, built without a GPU: MiniLM in fp16 and int8, and the Fashion-MNIST network.

What is proved: parser and builder take what `precision` writes, for each GPU of a usual fleet; the same engine comes out twice; the
gate says no where it should. What is not: that any of these engines runs. That needs the GPU.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.project import minilm_model

from mlpack.errors import PassError
from mlpack.evaluation.data import calls as recorded
from mlpack.graphs import files
from mlpack.passes import PASSES
from mlpack.passes.tensorrt import Tensorrt
from mlpack_runtime.tensorrt import engine_key, engine_plan

SAMPLES = Path(__file__).parent.parent / "sample_models"
FLEET = ("sm75", "sm86", "sm89")


def step(name: str, model_dir: Path, out_dir: Path, **options: Any) -> Path:
    """One pass."""
    out_dir.mkdir(parents=True)
    PASSES[name].run(model_dir, PASSES[name].config(**options), out_dir)
    return out_dir


def texts(folder: Path, count: int) -> Path:
    """Calls of MiniLM's sample sentences, a row each."""
    folder.mkdir(parents=True)
    pairs = [json.loads(line) for line in (SAMPLES / "minilm/pairs.jsonl").read_text().splitlines()][:count]
    with recorded.CallsWriter(folder) as writer:
        for pair in pairs:
            writer.texts([pair["document"]])
        writer.finish(None)
    return folder


def images(folder: Path, count: int) -> Path:
    """Calls of the shape that the Fashion-MNIST network takes."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(3)
    with recorded.CallsWriter(folder) as writer:
        for _ in range(count):
            writer.tensors({"image": random.random((4, 1, 28, 28), dtype=np.float32)}, 4)
        writer.finish(None)
    return folder


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float graph, standard operators only."""
    root = tmp_path_factory.mktemp("minilm")
    return step("simplify", step("export", minilm_model(), root / "export"), root / "simple", operators="portable")


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The convolutional network with its weights."""
    root = tmp_path_factory.mktemp("fashion")
    source = root / "source"
    (source / "code").mkdir(parents=True)
    shutil.copy(SAMPLES / "fashion/model.py", source / "code/model.py")
    shutil.copy(SAMPLES / "fashion/fashion.safetensors", source / "weights.safetensors")
    described = {"factory": "model:build", "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 28, 28]}]}
    (source / "torch.json").write_text(json.dumps(described))
    return step("simplify", step("export", source, root / "export"), root / "simple", operators="portable")


def built(model_dir: Path, out_dir: Path, **options: Any) -> dict[str, Any]:
    """The specification of what was built for the fleet; prints sizes and seconds."""
    start = time.monotonic()
    step("tensorrt", model_dir, out_dir, builder="rtx", gpus=FLEET, **options)
    seconds = time.monotonic() - start
    spec = engine_key.read(str(out_dir))
    sizes = ", ".join(f"{row['sm']} {row['size_bytes']:,} bytes" for row in spec["engines"])
    print(f"\n{out_dir.name}: {sizes}; {seconds:.1f} s for all of them")
    engine_key.check_graph(str(out_dir), spec)
    for row in spec["engines"]:
        data = (out_dir / row["file"]).read_bytes()
        assert engine_plan.problems(data, "rtx", spec["tensorrt"]["version"], row["sm"], engine_plan.described(spec)) == ([], [])
    return spec


def test_minilm_fp16_for_the_whole_fleet_twice_the_same(minilm: Path, tmp_path: Path) -> None:
    half = step("precision", minilm, tmp_path / "half", type="fp16")
    evaluation = texts(tmp_path / "calls", 40)
    first = built(half, tmp_path / "minilm-fp16", evaluation=evaluation, max_batch=16)
    assert [row["sm"] for row in first["engines"]] == list(FLEET)
    assert first["profiles"][0]["input_ids"]["max"][0] == 16
    assert all(40_000_000 < row["size_bytes"] < 60_000_000 for row in first["engines"])
    again = built(half, tmp_path / "again", evaluation=evaluation, max_batch=16)
    assert again["engines"] == first["engines"]


def test_minilm_int8_for_the_whole_fleet(minilm: Path, tmp_path: Path) -> None:
    calibration = texts(tmp_path / "calibration", 32)
    int8 = step("precision", minilm, tmp_path / "int8", type="int8", calibration=calibration)
    spec = built(int8, tmp_path / "minilm-int8", evaluation=texts(tmp_path / "calls", 40), max_batch=16)
    assert spec["precision"] == "int8"
    assert [row["sm"] for row in spec["engines"]] == list(FLEET)


def test_int8_between_float32_is_refused_by_one_gpu_with_why(fashion: Path, tmp_path: Path) -> None:
    """Pairs between fp32 values are fp32 products to Turing, which TensorRT for RTX has none of there: it says so, by the node."""
    int8 = step("precision", fashion, tmp_path / "int8", type="int8", rest="float32", calibration=images(tmp_path / "calls", 8))
    spec = built(int8, tmp_path / "fashion-float-rest", evaluation=images(tmp_path / "usual", 4))
    assert [row["sm"] for row in spec["engines"]] == ["sm86", "sm89"]
    assert "FP32 GEMM is not supported" in spec["refused"]["sm75"]


def test_minilm_mixed_for_the_whole_fleet(minilm: Path, tmp_path: Path) -> None:
    mixed = step("precision", minilm, tmp_path / "mixed", type="mixed", calibration=texts(tmp_path / "calibration", 32))
    spec = built(mixed, tmp_path / "minilm-mixed", evaluation=texts(tmp_path / "calls", 40), max_batch=16)
    assert spec["precision"] == "mixed"
    assert [row["sm"] for row in spec["engines"]] == list(FLEET)


@pytest.mark.parametrize("precision", ["fp16", "int8", "mixed"])
def test_the_fashion_network_for_the_whole_fleet(precision: str, fashion: Path, tmp_path: Path) -> None:
    options = {"calibration": images(tmp_path / "calibration", 8)} if precision != "fp16" else {}
    made = step("precision", fashion, tmp_path / precision, type=precision, **options)
    spec = built(made, tmp_path / f"fashion-{precision}", evaluation=images(tmp_path / "calls", 4))
    assert [row["sm"] for row in spec["engines"]] == list(FLEET)
    assert all(row["size_bytes"] < 20_000_000 for row in spec["engines"])


def test_gate_passes_float_minilm_and_stops_engine_operators(minilm: Path, tmp_path: Path) -> None:
    gate = step("tensorrt", minilm, tmp_path / "gate", builder="check")
    assert (gate / files.MODEL).read_bytes() == (minilm / files.MODEL).read_bytes()
    fused = step("simplify", minilm, tmp_path / "fused", operators="engine")
    (tmp_path / "none").mkdir()
    with pytest.raises(PassError, match="operators: portable"):
        PASSES["tensorrt"].run(fused, Tensorrt(builder="check"), tmp_path / "none")
