"""Pictures for timm's models, by the `pretrained_cfg` in the config.json of its repositories, against timm's own transforms."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tests.support.runtime.pictures import file, scene
from tools import parts

from mlpack.recipe import processors
from mlpack_runtime.limits import Limits
from mlpack_runtime.ort import Port
from mlpack_runtime.pictures.shaping import Shaper

SAMPLES = 100
UNKNOWN = {"border"}
"""Modes of cropping that are refused by name."""

_TIMM = """
import io, json, sys, types
sys.modules["torchvision._meta_registrations"] = types.ModuleType("none")  # of operators that are not here
import numpy as np
from PIL import Image
from timm.data import create_transform, resolve_data_config
pictures = [Image.open(io.BytesIO(each.tobytes())) for each in np.load(sys.argv[1], allow_pickle=False).values()]
for at, row in enumerate(json.load(open(sys.argv[2]))):
    transform = create_transform(**resolve_data_config(pretrained_cfg=row), is_training=False)
    np.save(f"{sys.argv[3]}/{at}.npy", np.stack([transform(each).numpy() for each in pictures]))
"""

_REGISTRY = """
import json, sys, types
sys.modules["torchvision._meta_registrations"] = types.ModuleType("none")
import timm
rows = {}
for name in timm.list_pretrained():
    cfg = timm.get_pretrained_cfg(name).to_dict()
    row = {key: cfg.get(key) for key in ("input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std")}
    rows[json.dumps(row, sort_keys=True)] = name
print(json.dumps([[name, json.loads(row)] for row, name in sorted(rows.items())]))
"""


def run(code: str, *arguments: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(parts.timm())}
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def theirs(folder: Path, files: Sequence[bytes], rows: Sequence[dict[str, Any]]) -> list[np.ndarray[Any, Any]]:
    """timm's own tensors of these files, for each row of settings."""
    np.savez(folder / "files.npz", *[np.frombuffer(each, np.uint8) for each in files])
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "out").mkdir()
    run(_TIMM, folder / "files.npz", folder / "rows.json", folder / "out")
    return [np.load(folder / f"out/{at}.npy") for at in range(len(rows))]


def ours(files: Sequence[bytes], row: dict[str, Any]) -> np.ndarray[Any, Any]:
    pixels = processors.timm_pixels(json.loads(json.dumps(row)))
    steps = [[step, dict(said)] for step, said in pixels.steps]
    settings = {"input": "x", "steps": steps, "factors": pixels.factors, "terms": pixels.terms, "mode": "RGB"}
    shaper = Shaper(Port("x", "FP32", ("batch", 3, "height", "width")), settings, Limits({}, {}))
    made = []
    for each in files:
        tensor = shaper.inputs([each], ["image"])[0]["x"]
        made.append(np.frombuffer(tensor.data, np.float32).reshape(tensor.shape)[0])
    return np.stack(made)


def pictures(number: int) -> list[bytes]:
    chosen = random.Random(4)
    return [file(scene(chosen.randint(20, 400), chosen.randint(20, 400), seed)) for seed in range(number)]


ROWS: list[dict[str, Any]] = [
    {"interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center", "mean": [0.5] * 3, "std": [0.5] * 3},
    {"input_size": [3, 112, 112], "crop_pct": 1.15},
    {"input_size": [3, 96, 96], "interpolation": "bilinear", "crop_pct": 1.0},
    {"input_size": [3, 65, 65], "crop_pct": 0.875, "crop_mode": "squash", "std": [0.229, 0.224, 0.225]},
    {"input_size": [3, 96, 160], "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center"},
    {"input_size": [3, 64, 50], "interpolation": "lanczos", "crop_pct": 0.8, "crop_mode": "squash"},
    {"input_size": [3, 80, 80], "interpolation": "nearest", "test_input_size": [3, 128, 128], "test_crop_pct": 1.0},
    {},
]  # fmt: skip


def test_tensors_are_those_of_timm(tmp_path: Path) -> None:
    files = [*pictures(SAMPLES - 3), file(scene(224, 224)), file(scene(300, 3)), file(scene(3, 300))]
    rows = [{"input_size": [3, 224, 224], **row} for row in ROWS]
    for row, wanted in zip(rows, theirs(tmp_path, files, rows), strict=True):
        got = ours(files, row)
        assert got.shape == wanted.shape, row
        assert np.abs(got - wanted).max() < 1e-5, row


def test_settings_of_every_model_that_timm_has(tmp_path: Path) -> None:
    """A picture for each way that one of its thousand models is set."""
    rows, known, refused = json.loads(run(_REGISTRY)), [], []
    for name, row in rows:
        try:
            processors.timm_pixels(row)
            known.append((name, row))
        except processors.UnknownError:
            refused.append(row)
    assert len(known) > 50
    assert all(row["crop_mode"] in UNKNOWN or row["input_size"][0] != 3 for row in refused)
    files = [file(scene(301, 197))]
    for (name, row), wanted in zip(known, theirs(tmp_path, files, [row for _, row in known]), strict=True):
        assert np.abs(ours(files, row) - wanted).max() < 1e-5, (name, row)
