"""Work counted from exported graphs, against what torch's own counter sees of the networks they were exported from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.project import minilm_model

from mlpack.graphs.facts import graph_work
from mlpack.passes import PASSES
from mlpack.pipeline.estimates import devices, roofline

SAMPLES = Path(__file__).parent.parent / "sample_models"


def made(root: Path, source: Path, *steps: tuple[str, dict[str, Any]]) -> Path:
    """The directory after these passes."""
    for number, (name, options) in enumerate(steps):
        out = root / f"{number}-{name}"
        out.mkdir(parents=True)
        PASSES[name].run(source, PASSES[name].config(**options), out)
        source = out
    return source


def counted_by_torch(model: Any, *inputs: Any, **named: Any) -> int:
    """Operations of products and convolutions: two for a multiply and its add, as here."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs, **named)
    return int(counter.get_total_flops())


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("minilm"), minilm_model(), ("export", {}), ("simplify", {"operators": "portable"}))


@pytest.mark.parametrize(("batch", "length"), [(1, 32), (8, 128)])
def test_minilm_counts_as_torch_counts_it(minilm: Path, batch: int, length: int) -> None:
    import torch
    from transformers import AutoModel

    shapes = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (batch, length))
    found = graph_work.work_of(minilm, shapes)
    model = AutoModel.from_pretrained(str(minilm_model()), attn_implementation="eager", add_pooling_layer=False)
    zeros = torch.zeros((batch, length), dtype=torch.int64)
    expected = counted_by_torch(model, input_ids=zeros, attention_mask=zeros + 1)
    # The exported graph pools and normalises behind the network: a product of (batch, length) with the states at most.
    assert expected <= found.flops["fp32"] <= expected + 2 * batch * length * 384
    assert found.unknown == ()


def test_minilm_in_half_precision_is_same_work_in_fewer_bytes(minilm: Path, tmp_path: Path) -> None:
    half = made(tmp_path, minilm, ("precision", {}))
    shapes = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (8, 128))
    before, after = graph_work.work_of(minilm, shapes), graph_work.work_of(half, shapes)
    assert after.flops["fp16"] == pytest.approx(before.flops["fp32"], rel=0.001)
    assert 0.45 < after.weight_bytes / before.weight_bytes < 0.6
    assert after.launches < before.launches * 1.3
    for device in devices.DEVICES:
        assert (roofline.seconds(after, device, 8) or 0) < (roofline.seconds(before, device, 8) or 0)


def test_fashion_counts_as_torch_counts_it(tmp_path: Path) -> None:
    import torch
    from sample_models.fashion.model import build

    net, source = build(), tmp_path / "source"
    package = source / "code" / "sample_models" / "fashion"
    package.mkdir(parents=True)
    for name in ("__init__.py", "fashion/__init__.py", "fashion/model.py"):
        shutil.copyfile(SAMPLES / name, package.parent / name)
    shutil.copyfile(SAMPLES / "fashion" / "fashion.safetensors", source / "weights.safetensors")
    described = {
        "factory": "sample_models.fashion.model:build",
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 28, 28]}],
    }
    (source / "torch.json").write_text(json.dumps(described))
    onnx_dir = made(tmp_path, source, ("export", {}), ("simplify", {"operators": "portable"}))
    found = graph_work.work_of(onnx_dir, {"image": (4, 1, 28, 28)})
    assert found.flops["fp32"] == counted_by_torch(net, torch.zeros((4, 1, 28, 28)))
    assert found.input_bytes == 4 * 28 * 28 * 4
    assert found.unknown == ()
