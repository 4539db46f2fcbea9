"""A package of several tiny models, as the build lays it out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.support.runtime.tiny_packages import affine, package, wide_identity

PORTS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "affine": {
        "inputs": [
            {"name": "pixels", "dtype": "float32", "shape": ["batch", 4]},
            {"name": "marks", "dtype": "int64", "shape": ["batch"]},
        ],
        "outputs": [
            {"name": "scores", "dtype": "float32", "shape": ["batch", 3]},
            {"name": "count", "dtype": "int64", "shape": []},
        ],
    },
    "wide": {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["n"]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["n"]}],
    },
}
ROW = {"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [1]}}
WIDE = {"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [1, 2, 3]}]}


def several(root: Path, target: str = "lambda-zip", **settings: Any) -> Path:
    """`affine` and, of the other graph, `wide`, `second` and `third`; 40 MB each, and room for two."""
    package(root, affine, target=target)
    described = json.loads((root / "model/model.json").read_bytes())
    rows = {}
    for name in ("affine", "wide", "second", "third"):
        ports = PORTS.get(name, PORTS["wide"])
        place = root / "models" / name
        place.mkdir(parents=True)
        if name == "affine":
            shutil.move(root / "model/model.onnx", place / "model.onnx")
        else:
            wide_identity(place / "model.onnx")
        (place / "model.json").write_text(json.dumps({**described, "name": name, **ports}))
        rows[name] = {"version": "3", "size_bytes": 40 << 20}
    index = {**described, "name": "shop", "graph": "", "models": rows, "default": "affine", "models_mb": 100}
    (root / "model/model.json").write_text(json.dumps({**index, **settings}))
    return root
