"""A whole build whose every place is relative, as CI systems that keep caches inside the checkout name them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPE = f"""
name: relative
source: {{onnx: {REPOSITORY}/sample_models/tabular/model.onnx}}
data: {{evaluation: {REPOSITORY}/sample_models/tabular/eval.npz}}
variants: {{fp32: []}}
targets: {{lambda-zip: {{}}}}
"""


def test_a_build_with_relative_places_only(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "tmp").mkdir()
    places = {"MLPACK_STORE": "cache", "TMPDIR": "tmp", "MLPACK_CACHE": "shared", "XDG_CACHE_HOME": "xdg"}
    command = [sys.executable, "-m", "mlpack.cli", "-q", "build", "recipe.yaml", "--out", "out"]
    environ = {**os.environ, **places, "MLPACK_CACHE_KEY": "k" * 40}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.strip()).is_file()
    assert {each.name for each in tmp_path.iterdir()} >= {"cache", "shared", "out"}
    assert list((tmp_path / "tmp").iterdir()) == []
