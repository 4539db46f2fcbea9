"""The passes on real models: all-MiniLM-L6-v2 from its package, and the Fashion-MNIST network with its data."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.support.project import minilm_model

from mlpack.core import digest
from mlpack.evaluation.data import reader
from mlpack.graphs import check, files
from mlpack.passes import PASSES

SAMPLES = Path(__file__).parent.parent / "sample_models"


def once(name: str, model_dir: Path, out_dir: Path, **options: Any) -> Path:
    """One pass, whose equal bytes another test holds."""
    out_dir.mkdir(parents=True)
    PASSES[name].run(model_dir, PASSES[name].config(**options), out_dir)
    return out_dir


def step(name: str, model_dir: Path, out_dir: Path, **options: Any) -> Path:
    """One pass, run twice: the digests must agree."""
    twice = once(name, model_dir, out_dir.with_name(out_dir.name + "-again"), **options)
    assert digest.of_tree(once(name, model_dir, out_dir, **options)) == digest.of_tree(twice)
    shutil.rmtree(twice)
    return out_dir


def operators(model_dir: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(model_dir / "model.onnx", load_external_data=False).graph.node)


def embeddings(model_dir: Path, texts: list[str], scratch: Path) -> Any:
    """Unit vectors of texts, through the directory's own tokenizer, 16 at a time."""
    scratch.mkdir()
    batches = [texts[i : i + 16] for i in range(0, len(texts), 16)]
    (scratch / "calls.json").write_text(json.dumps([{"samples": len(batch), "texts": batch} for batch in batches]))
    opened = check.session(model_dir)
    return np.concatenate([check.run(opened, feed)[0] for feed in reader.read(scratch, model_dir, files.read_signature(model_dir))])


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    source, root = minilm_model(), tmp_path_factory.mktemp("minilm")
    made = {"source": source, "export": step("export", source, root / "export")}
    made["simple"] = step("simplify", made["export"], root / "simple")
    made["int8"] = step("quantize", made["simple"], root / "int8")
    made["shipped"] = step("optimize", made["int8"], root / "shipped", arch="x86_64")
    return made


def test_minilm_is_exported_by_optimum_and_pooled(minilm: dict[str, Path]) -> None:
    notes = json.loads((minilm["export"] / "notes.json").read_text())
    assert (notes["exporter"], notes["pooling"], notes["normalize"], notes["rejected"]) == ("optimum", "mean", True, {})
    assert notes["difference"] < 1e-5


def test_minilm_int8_is_small_and_fused(minilm: dict[str, Path]) -> None:
    weights = sum((minilm["shipped"] / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
    assert weights < 23_000_000
    found = operators(minilm["shipped"])
    assert (found["QAttention"], found["DynamicQuantizeMatMul"], found["SkipLayerNormalization"]) == (6, 18, 12)
    assert sum(found.values()) < 80


def test_minilm_int8_finds_what_float_finds(minilm: dict[str, Path], tmp_path: Path) -> None:
    pairs = [json.loads(line) for line in (SAMPLES / "minilm" / "pairs.jsonl").read_text().splitlines()][:300]
    recalls = {}
    for name in ("simple", "shipped"):
        texts = [pair[key] for key in ("query", "document") for pair in pairs]
        queries, documents = np.split(embeddings(minilm[name], texts, tmp_path / name), 2)
        recalls[name] = float((np.argmax(queries @ documents.T, axis=1) == np.arange(len(pairs))).mean())
    assert recalls["simple"] > 0.7
    assert recalls["shipped"] > recalls["simple"] - 0.02  # 300 pairs: one is a third of a percent


def test_minilm_pruned_is_smaller_and_still_fuses(minilm: dict[str, Path], tmp_path: Path) -> None:
    pruned = step("prune", minilm["source"], tmp_path / "pruned", ratio=0.25)
    simple = once("simplify", once("export", pruned, tmp_path / "export"), tmp_path / "simple")
    assert operators(simple)["Attention"] == 6
    assert digest.size_of_tree(simple) < 0.9 * digest.size_of_tree(minilm["simple"])


def test_minilm_fp16_is_half_the_size(minilm: dict[str, Path], tmp_path: Path) -> None:
    half = step("precision", minilm["simple"], tmp_path / "half")
    assert digest.size_of_tree(half) < 0.51 * digest.size_of_tree(minilm["simple"])


def fashion_source(root: Path) -> tuple[Path, Path]:
    """The Fashion-MNIST network as a torch directory, and its calibration data as recorded calls of 8 pictures."""
    source = root / "source"
    package = source / "code" / "sample_models"
    (package / "fashion").mkdir(parents=True)
    for name in ("__init__.py", "npz.py"):
        shutil.copyfile(SAMPLES / name, package / name)
    for name in ("__init__.py", "model.py"):
        shutil.copyfile(SAMPLES / "fashion" / name, package / "fashion" / name)
    shutil.copyfile(SAMPLES / "fashion" / "fashion.safetensors", source / "weights.safetensors")
    described = {
        "factory": "sample_models.fashion.model:build",
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 28, 28]}],
    }
    (source / "torch.json").write_text(json.dumps(described))
    with np.load(SAMPLES / "fashion" / "calib.npz") as stored:
        images = np.ascontiguousarray(stored["image"], dtype="<f4")
    calibration = root / "calls"
    calibration.mkdir()
    images.tofile(calibration / "calls.bin")
    size = images[:8].nbytes
    (calibration / "calls.json").write_text(json.dumps([
        {"samples": 8, "inputs": {"image": {"datatype": "FP32", "shape": [8, 1, 28, 28], "offset": i * size, "size": size}}}
        for i in range(len(images) // 8)
    ]))  # fmt: skip
    return source, calibration


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("fashion")
    source, calibration = fashion_source(root)
    made = {"source": source, "calls": calibration}
    made["simple"] = step("simplify", step("export", source, root / "export"), root / "simple")
    made["int8"] = step("quantize", made["simple"], root / "int8", calibration=calibration)
    made["shipped"] = step("optimize", made["int8"], root / "shipped", arch="x86_64")
    return made


def top1(model_dir: Path) -> float:
    with np.load(SAMPLES / "fashion" / "eval.npz") as stored:
        (logits,) = check.run(check.session(model_dir), {"image": stored["image"].astype(np.float32)})
        return float((logits.argmax(axis=1) == stored["labels"]).mean())


def test_fashion_int8_keeps_its_accuracy(fashion: dict[str, Path]) -> None:
    assert top1(fashion["simple"]) > 0.92
    assert top1(fashion["shipped"]) > top1(fashion["simple"]) - 0.005


def test_fashion_int8_is_converted_at_its_ends_only(fashion: dict[str, Path]) -> None:
    """No kernel in integers waits behind the last sum, so it stays float (0038): both operands come out of integers there."""
    found = operators(fashion["shipped"])
    assert (found["QLinearConv"], found["QLinearAdd"], found["Add"], found["Relu"]) == (9, 2, 1, 1)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 2)


def test_fashion_pruned_runs_at_the_same_interface(fashion: dict[str, Path], tmp_path: Path) -> None:
    pruned = step("export", step("prune", fashion["source"], tmp_path / "pruned", ratio=0.2), tmp_path / "export")
    assert files.read_signature(pruned) == files.read_signature(fashion["simple"])
    assert digest.size_of_tree(pruned) < 0.8 * digest.size_of_tree(fashion["simple"])


def test_fashion_for_arm64_keeps_its_accuracy(fashion: dict[str, Path], tmp_path: Path) -> None:
    int8 = step("quantize", fashion["simple"], tmp_path / "int8", calibration=fashion["calls"], arch="arm64")
    shipped = step("optimize", int8, tmp_path / "shipped", arch="arm64")
    assert operators(shipped)["QLinearConv"] == 9
