"""Prune: tensors that really shrink, directories that still load, zeros that are counted, and refusals."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.support.models.small_models import calls_dir, torch_dir
from tests.support.pass_harness import refusal

from mlpack.passes import prune
from mlpack.passes.export import torch_model
from mlpack.passes.prune import Prune


def pruned(model_dir: Path, out_dir: Path, **options: Any) -> dict[str, Any]:
    out_dir.mkdir()
    prune.run(model_dir, Prune(**options), out_dir)
    notes: dict[str, Any] = json.loads((out_dir / "notes.json").read_text())
    return notes


def test_structured_removes_channels_and_keeps_the_output(models: dict[str, Path], tmp_path: Path) -> None:
    notes = pruned(models["cnn"], tmp_path / "out", ratio=0.5)
    assert notes["parameters"] < notes["parameters_before"] / 3
    with torch_model.opened(tmp_path / "out") as (module, _), torch.inference_mode():
        assert (module.stem[0].out_channels, module.second[0].out_channels) == (16, 32)
        assert module(torch.rand(3, 3, 16, 16)).shape == (3, 10)


def test_structured_rounds_to_whole_registers(models: dict[str, Path], tmp_path: Path) -> None:
    pruned(models["cnn"], tmp_path / "out", ratio=0.3, round_to=16)
    with torch_model.opened(tmp_path / "out") as (module, _):
        assert {layer.out_channels % 16 for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)} == {0}


def test_structured_keeps_the_strongest_channels(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model_dir = torch_dir(tmp_path / "m")
    weights = load_file(model_dir / "weights.safetensors")
    weak = list(range(0, 64, 2))
    for name in ("second.0.weight", "second.1.weight", "second.1.bias"):
        weights[name][weak] *= 1e-6
    weights["classify.weight"][:, weak] *= 1e-6
    save_file(weights, model_dir / "weights.safetensors")
    image = torch.rand(4, 3, 16, 16)
    pruned(model_dir, tmp_path / "out", ratio=0.5, keep=("stem.0", "first.0"))
    with torch_model.opened(model_dir) as (module, _), torch.inference_mode():
        want = module(image)
    with torch_model.opened(tmp_path / "out") as (module, _), torch.inference_mode():
        assert module.second[0].out_channels == 32
        assert torch.allclose(module(image), want, atol=1e-4)


def test_structured_twice_adds_to_the_edits(models: dict[str, Path], tmp_path: Path) -> None:
    pruned(models["cnn"], tmp_path / "once", ratio=0.25)
    notes = pruned(tmp_path / "once", tmp_path / "twice", ratio=0.5)
    with torch_model.opened(tmp_path / "twice") as (module, _):
        assert sum(p.numel() for p in module.parameters()) == notes["parameters"]


def test_magnitude_zeroes_and_says_what_it_gives(models: dict[str, Path], tmp_path: Path) -> None:
    notes = pruned(models["cnn"], tmp_path / "out", ratio=0.75, method="magnitude")
    assert notes["zeroed"] / notes["weights"] == pytest.approx(0.75, abs=0.01)
    assert "neither speed" in notes["gives"]
    kernel = load_file(tmp_path / "out" / "weights.safetensors")["second.0.weight"]
    assert (kernel == 0).float().mean().item() == pytest.approx(0.75, abs=0.01)


def test_transformer_stays_an_ordinary_directory(models: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModel

    notes = pruned(models["bert"], tmp_path / "out", ratio=0.5)
    assert (notes["heads_per_layer"], notes["intermediate_size"]) == (2, 64)
    model = AutoModel.from_pretrained(tmp_path / "out", local_files_only=True)
    layer = model.encoder.layer[1]
    assert layer.attention.self.query.out_features == 32
    assert layer.intermediate.dense.out_features == 64
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(layer.attention.self.query.weight, stored["encoder.layer.1.attention.self.query.weight"])
    assert (tmp_path / "out" / "1_Pooling" / "config.json").exists()


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 3.0])
def test_impossible_ratios_are_refused(models: dict[str, Path], tmp_path: Path, ratio: float) -> None:
    assert "between 0 and 1" in refusal("prune", models["cnn"], Prune(ratio=ratio), tmp_path / "out")


def test_nothing_to_prune_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    assert "takes nothing out" in refusal("prune", models["cnn"], Prune(ratio=0.01), tmp_path / "out")
    assert "takes out no head" in refusal("prune", models["bert"], Prune(ratio=0.01), tmp_path / "out2")


def test_unknown_architecture_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "t5"
    shutil.copytree(models["bert"], copy)
    (copy / "config.json").write_text(json.dumps({"model_type": "t5"}))
    assert "not 't5'" in refusal("prune", copy, Prune(ratio=0.5), tmp_path / "out")


def test_structured_measures_batch_normalisation_anew(tmp_path: Path) -> None:
    """The statistics were those of a network with all its channels: on the calibration data the outputs come nearer again."""
    from safetensors.torch import save_file

    calls = calls_dir(tmp_path / "calls", {"image": (1, 3, 16, 16)}, count=128)
    images = torch.from_numpy(np.fromfile(calls / "calls.bin", dtype="<f4").reshape(128, 3, 16, 16))
    model_dir = torch_dir(tmp_path / "m")
    with torch_model.opened(model_dir) as (module, _), torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None  # the plain mean: what training on such data converges to
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(layer.bias, 0.5, 1.5)  # without it, a channel taken out shifts no mean
        module.train()(images)
        save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, model_dir / "weights.safetensors")
    without = pruned(model_dir, tmp_path / "without", ratio=0.5)
    notes = pruned(model_dir, tmp_path / "with", ratio=0.5, calibration=calls)
    assert without["recalibrated_norms"] == 0
    assert notes["recalibrated_norms"] == 3
    assert notes["removals"] == without["removals"]

    def outputs(folder: Path) -> torch.Tensor:
        with torch_model.opened(folder) as (module, _), torch.inference_mode():
            answer: torch.Tensor = module(images)
            return answer

    whole = outputs(model_dir)
    gap = {name: float((outputs(tmp_path / name) - whole).square().mean()) for name in ("with", "without")}
    assert gap["with"] < 0.8 * gap["without"]


DENSE = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
"""


def dense_dir(folder: Path, batch: int | str) -> Path:
    """A network whose batch normalisation has no spatial axes."""
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "dense.py").write_text(DENSE)
    described = {"factory": "dense:build", "inputs": [{"name": "x", "dtype": "float32", "shape": [batch, 8]}]}
    (folder / "torch.json").write_text(json.dumps(described))
    return folder


@pytest.mark.parametrize(("batch", "count", "said"), [("batch", 1, "at least 2 calibration samples"), (1, 3, r"first axis varies")])
def test_one_sample_is_refused_where_it_has_no_variance(batch: int | str, count: int, said: str, tmp_path: Path) -> None:
    config = Prune(ratio=0.5, calibration=calls_dir(tmp_path / "calls", {"x": (1, 8)}, count=count))
    assert re.search(said, refusal("prune", dense_dir(tmp_path / "m", batch), config, tmp_path / "out"))


def test_two_samples_do_for_normalisation_without_spatial_axes(tmp_path: Path) -> None:
    calls = calls_dir(tmp_path / "calls", {"x": (1, 8)}, count=2)
    assert pruned(dense_dir(tmp_path / "m", "batch"), tmp_path / "out", ratio=0.5, calibration=calls)["recalibrated_norms"] == 1


def test_calibration_samples_of_several_shapes_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    calls = calls_dir(tmp_path / "calls", {"image": (1, 3, 16, 16)}, count=2)
    listed = json.loads((calls / "calls.json").read_text())
    listed[1]["inputs"]["image"] |= {"shape": [1, 3, 8, 16], "size": 3 * 8 * 16 * 4}
    (calls / "calls.json").write_text(json.dumps(listed))
    assert "of one shape" in refusal("prune", models["cnn"], Prune(ratio=0.25, calibration=calls), tmp_path / "out")


def test_calibration_of_fewer_samples_than_a_batch_is_used(models: dict[str, Path], tmp_path: Path) -> None:
    calls = calls_dir(tmp_path / "calls", {"image": (1, 3, 16, 16)}, count=5)
    pruned(models["cnn"], tmp_path / "out", ratio=0.25, calibration=calls)
    with torch_model.opened(tmp_path / "out") as (module, _), torch.inference_mode():
        assert int(module.stem[1].num_batches_tracked) == 1
        assert torch.isfinite(module(torch.rand(2, 3, 16, 16))).all()
