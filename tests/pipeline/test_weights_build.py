"""A build whose recipe takes the weights out: measured with them, booted without them, and run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tests.support import workshop as workshop_

from mlpack.pipeline import booting


@pytest.mark.slow
def test_a_build_with_its_weights_outside(tmp_path: Path) -> None:
    made = workshop_.make(tmp_path)
    workshop_.write_model(made.root / "model.onnx", hidden=4096)  # few weights would stay in the graph
    workshop_.write_data(made.root)
    workshop_.seed_runtime(made.root, made.store, modules=("remote.start",))
    made.edit(lambda text: text + "serve: {weights: {from: s3://bucket/models, cache: [/mnt/efs, /tmp]}}\n")
    record, out = made.build(only="fp32*")
    (one,) = record["candidates"]
    assert one["accuracy"]["value"] == 1.0
    folder = out / "artifacts" / record["chosen"]
    (weights,) = (folder / "weights").iterdir()
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == weights.name
    assert record["files"][f"artifacts/{record['chosen']}/weights/{weights.name}"]["digest"] == f"sha256:{weights.name}"
    upload, start = one["package"]["notes"][-2:]
    assert f"aws s3 cp weights/{weights.name} s3://bucket/models/{weights.name}" in upload
    assert "weights from a server on this machine: " in start
    assert "from a cache directory: " in start
    assert weights.name in (out / "report.md").read_text()
    up = booting.run_package(out, None, lambda _name: None, memory_mb=None, timeout_s=60)
    assert booting.body_of(up.answer)["model_name"] == "tiny"
    weights.write_bytes(bytes(weights.stat().st_size))
    with pytest.raises(Exception, match="is not what was built"):
        booting.run_package(out, None, lambda _name: None, memory_mb=None, timeout_s=60)
