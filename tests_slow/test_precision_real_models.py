"""Precision for TensorRT on real models: what each type costs on held-out data, and that a real TensorRT compiles each graph.
The figures of docs/decisions/0015 are printed.

Accuracy is the CPU engine's, set as engine.json says. Nothing here ran on a GPU: TensorRT for RTX compiles without one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorrt_rtx_bindings as trt
from tests.support.project import minilm_model
from tests_slow.test_passes_real_models import SAMPLES, once, operators, step

from mlpack.evaluation.data import reader
from mlpack.graphs import check, files
from mlpack.passes.tensorrt import profiles

TYPES: tuple[Any, ...] = ("fp16", "bf16", "int8", "mixed")


def texts_dir(folder: Path, texts: list[str]) -> Path:
    """Texts as recorded calls of 16."""
    folder.mkdir()
    batches = [texts[i : i + 16] for i in range(0, len(texts), 16)]
    (folder / "calls.json").write_text(json.dumps([{"samples": len(batch), "texts": batch} for batch in batches]))
    return folder


def opened(model_dir: Path) -> Any:
    """The engine set as the directory says."""
    path = model_dir / "engine.json"
    entries = json.loads(path.read_text())["session"] if path.is_file() else None
    return check.session(model_dir, "ORT_ENABLE_BASIC", entries)


def engine_bytes(model_dir: Path, profile: profiles.Profile) -> int:
    """The size of the engine that TensorRT for RTX compiles for an L4 (sm89), with this profile; 0 where it refuses."""
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse_from_file(str(model_dir / "model.onnx")), parser.get_error(0).desc()
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    bounds = builder.create_optimization_profile()
    for name, one in profile.inputs:
        bounds.set_shape(name, one.min, one.opt, one.max)
    config.add_optimization_profile(bounds)
    engine = builder.build_serialized_network(network, config)
    return 0 if engine is None else int(engine.nbytes)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("minilm")
    pairs = [json.loads(line) for line in (SAMPLES / "minilm" / "pairs.jsonl").read_text().splitlines()]
    made = {
        "evaluation": texts_dir(root / "evaluation", [pair[key] for key in ("query", "document") for pair in pairs[:300]]),
        "calibration": texts_dir(root / "calibration", [pair[key] for pair in pairs[500:700] for key in ("query", "document")]),
    }
    # Once each: that a pass gives equal bytes twice is seen below, on the Fashion-MNIST network, and in `tests/passes` on a BERT.
    exported = once("export", minilm_model(), root / "export")
    made["float"] = once("simplify", exported, root / "float", operators="portable")
    for kind in TYPES:
        made[kind] = once("precision", made["float"], root / kind, type=kind, calibration=made["calibration"])
    return made


def embeddings(minilm: dict[str, Path], name: str) -> Any:
    session, signature = opened(minilm[name]), files.read_signature(minilm[name])
    return np.concatenate([check.run(session, feed)[0] for feed in reader.read(minilm["evaluation"], minilm[name], signature)])


def megabytes(model_dir: Path) -> float:
    return sum(path.stat().st_size for path in model_dir.glob("model.onnx*")) / 1e6


def test_minilm_finds_what_float_finds_in_every_type(minilm: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Recall at 1 of 300 pairs (a pair is 0.0033), and the worst cosine with the float embedding."""
    allowed = {"float": (0, 1.0), "fp16": (0.007, 0.9999), "bf16": (0.014, 0.999), "int8": (0.03, 0.93), "mixed": (0.014, 0.985)}
    vectors = {name: embeddings(minilm, name) for name in allowed}
    recalls = {}
    for name, (drop, least) in allowed.items():
        queries, documents = np.split(vectors[name], 2)
        recalls[name] = float((np.argmax(queries @ documents.T, axis=1) == np.arange(300)).mean())
        cosine = check.similarity([vectors[name]], [vectors["float"]])
        with capsys.disabled():
            size = megabytes(minilm[name])
            print(f"\nMiniLM {name}: recall@1 {recalls[name]:.3f}, lowest cosine {cosine:.4f}, {size:.1f} MB", end="")
        assert recalls[name] >= recalls["float"] - drop, recalls
        assert cosine >= least - 1e-5, name
    assert recalls["float"] > 0.7


def test_minilm_types_are_smaller(minilm: dict[str, Path]) -> None:
    """Half in 16 bits; in int8 the embedding tables, half of this model's weights, stay in 16."""
    sizes = {
        name: sum((minilm[name] / file).stat().st_size for file in ("model.onnx", "model.onnx.data"))
        for name in ("float", *TYPES)
    }  # fmt: skip
    assert sizes["fp16"] < 0.51 * sizes["float"]
    assert sizes["bf16"] < 0.51 * sizes["float"]
    assert sizes["int8"] < 0.40 * sizes["float"]
    assert sizes["mixed"] < 0.46 * sizes["float"]


def test_minilm_mixed_leaves_the_hardest_nodes_in_fp16(minilm: dict[str, Path]) -> None:
    notes = json.loads((minilm["mixed"] / "notes.json").read_text())
    assert 20 <= notes["quantized"]["MatMul"] <= 32
    assert notes["quantized"]["MatMul"] + len(notes["left_fp16"]) == 36
    assert sum("intermediate/dense" in name for name in notes["left_fp16"]) >= 4  # they read what LayerNorm scaled: outliers
    assert operators(minilm["mixed"])["QuantizeLinear"] == notes["quantized"]["MatMul"]


@pytest.mark.parametrize("kind", TYPES)
def test_minilm_compiles_with_the_profile_of_its_data(minilm: dict[str, Path], kind: str) -> None:
    signature = files.read_signature(minilm[kind])
    (profile,) = profiles.of(signature, (), profiles.observed_shapes(minilm["evaluation"], minilm[kind], signature), 16)
    bounds = dict(profile.inputs)["input_ids"]
    assert bounds.min == (1, 2)
    assert bounds.opt[1] < bounds.max[1] < 128
    assert engine_bytes(minilm[kind], profile) > 10_000_000


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from tests_slow.test_passes_real_models import fashion_source

    root = tmp_path_factory.mktemp("fashion")
    source, calibration = fashion_source(root)
    made = {"calls": calibration}
    made["float"] = step("simplify", step("export", source, root / "export"), root / "float", operators="portable")
    for kind in TYPES:
        made[kind] = step("precision", made["float"], root / kind, type=kind, calibration=calibration)
    return made


@pytest.mark.parametrize("kind", TYPES)
def test_fashion_keeps_its_accuracy_in_every_type(fashion: dict[str, Path], kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(SAMPLES / "fashion" / "eval.npz") as stored:
        images, labels = stored["image"].astype(np.float32), stored["labels"]
    found = {}
    for name in ("float", kind):
        (logits,) = check.run(opened(fashion[name]), {"image": images})
        found[name] = float((logits.argmax(axis=1) == labels).mean())
    with capsys.disabled():
        print(f"\nFashion {kind}: top 1 {found[kind]:.4f} (float {found['float']:.4f}), {megabytes(fashion[kind]):.2f} MB", end="")
    assert found["float"] > 0.92
    assert found[kind] > found["float"] - 0.005


def test_fashion_int8_fuses_residuals_and_is_a_quarter(fashion: dict[str, Path]) -> None:
    notes = json.loads((fashion["int8"] / "notes.json").read_text())
    assert notes["quantized"] == {"Add": 3, "Conv": 9}
    sizes = [(fashion[name] / "model.onnx.data").stat().st_size for name in ("float", "int8")]
    assert sizes[1] < 0.27 * sizes[0]


@pytest.mark.parametrize("kind", TYPES)
def test_fashion_compiles_in_every_type(fashion: dict[str, Path], kind: str) -> None:
    signature = files.read_signature(fashion[kind])
    (profile,) = profiles.of(signature, (), profiles.observed_shapes(fashion["calls"], fashion[kind], signature))
    assert engine_bytes(fashion[kind], profile) > 100_000
