"""Weights beside a package: taken out when it is packed, found by the runtime, and put back where it is unpacked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from tests.support import small_packages

from mlpack.core.serving import OutsideWeights
from mlpack.errors import LimitError, PackError
from mlpack.targets import LambdaZip, limits, shipped
from mlpack.targets.format import outside
from mlpack_runtime.remote import manifest

OUTSIDE = OutsideWeights(source="s3://bucket/prefix", cache=("/mnt/efs", "/tmp"), cache_mb=7)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_packages.runtime(tmp_path_factory.mktemp("runtime") / "runtime")


def model(path: Path, size: int = 48) -> Path:
    """The tiny model with its weights, and more bytes, in a file beside the graph."""
    folder = small_packages.model_dir(path)
    graph = onnx.load(folder / "model.onnx")
    onnx.save(graph, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    with (folder / "model.onnx.data").open("ab") as file:
        file.write(bytes(size - 48))
    return folder


def pack(work: Path, runtime: Path, size: int = 48, **more: Any) -> tuple[Path, Any]:
    given = {"model_dir": model(work / "model", size), "weights": OUTSIDE, **more}
    return small_packages.packed(work, given.pop("config", LambdaZip(python=small_packages.PYTHON)), runtime, **given)


def test_weights_lie_beside_the_package(tmp_path: Path, runtime: Path) -> None:
    out, artifact = pack(tmp_path, runtime)
    inside = (tmp_path / "model/model.onnx.data").read_bytes()
    whole = hashlib.sha256(inside).hexdigest()
    assert (out / "weights" / whole).read_bytes() == inside
    assert f"weights/{whole}" in artifact.files
    described = json.loads((out / "package.json").read_bytes())
    assert described["weights"] == {
        "name": "model.onnx.data",
        "digest": f"sha256:{whole}",
        "size_bytes": 48,
        "from": "s3://bucket/prefix",
    }
    assert "model/model.onnx.data" not in {row["path"] for row in described["files"]}
    assert f"aws s3 cp weights/{whole} s3://bucket/prefix/{whole}" in artifact.notes[-1]


def test_the_runtime_reads_what_the_build_wrote(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "PART_BYTES", 20)
    out, _ = pack(tmp_path, runtime)
    beside = next((out / "weights").iterdir())
    kept = beside.read_bytes()
    beside.unlink()
    root = shipped.unpack(out, tmp_path / "task")
    found = manifest.read(str(root / "model"), {})
    assert found is not None
    assert (found.source, found.cache, found.limit_bytes) == ("s3://bucket/prefix", ["/mnt/efs", "/tmp"], 7 << 20)
    assert [hashlib.sha256(kept[at : at + 20]).hexdigest() for at in (0, 20, 40)] == found.parts
    assert json.loads((root / "model/model.json").read_bytes())["weights"] == "model.onnx.data"


def test_they_are_put_back_where_it_is_unpacked(tmp_path: Path, runtime: Path) -> None:
    out, _ = pack(tmp_path, runtime)
    root = shipped.unpack(out, tmp_path / "task")
    assert (root / "model/model.onnx.data").read_bytes() == (tmp_path / "model/model.onnx.data").read_bytes()
    assert manifest.read(str(root / "model"), {}) is None
    path = next((out / "weights").iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(PackError, match="is not what its name says"):
        shipped.unpack(out, tmp_path / "again")


@pytest.mark.parametrize("change", [{"name": "../x"}, {"digest": "sha256:../../etc"}, {"digest": None}, {"name": ".."}])
def test_a_changed_package_json_writes_nowhere_else(tmp_path: Path, runtime: Path, change: dict[str, Any]) -> None:
    out, _ = pack(tmp_path, runtime)
    described = json.loads((out / "package.json").read_bytes())
    described["weights"] |= change
    (out / "package.json").write_text(json.dumps(described))
    before = sorted(tmp_path.iterdir())
    try:
        root = shipped.unpack(out, tmp_path / "task")
    except PackError:
        return
    assert sorted(tmp_path.iterdir()) == sorted([*before, root])
    assert not (root / "model/model.onnx.data").exists()


def test_equal_weights_give_equal_packages(tmp_path: Path, runtime: Path) -> None:
    (_, first), (_, second) = pack(tmp_path / "a", runtime), pack(tmp_path / "b", runtime)
    assert (first.digest, first.tree) == (second.digest, second.tree)


def test_too_large_takes_them_out_only_then(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = OutsideWeights(source="s3://b", always=False)
    out, whole = pack(tmp_path / "a", runtime, weights=later)
    assert not (out / "weights").exists()
    small = limits.Limit(name="zip", value=whole.size_bytes + 1000, unit="bytes", source="a test")
    monkeypatch.setattr(limits, "ZIP_UNZIPPED", small)
    out, artifact = pack(tmp_path / "b", runtime, 1 << 20, weights=later)
    assert (out / "weights").exists()
    assert artifact.size_bytes < small.value
    with pytest.raises(LimitError, match=r"Without its weights it is 1,048,576 bytes smaller: `serve: \{weights"):
        pack(tmp_path / "c", runtime, 1 << 20, weights=None)
    monkeypatch.setattr(limits, "ZIP_UNZIPPED", limits.Limit(name="zip", value=1000, unit="bytes", source="a test"))
    with pytest.raises(LimitError, match="more than the 1,000"):
        pack(tmp_path / "d", runtime, weights=later)


def test_a_graph_without_such_a_file_stays_whole(tmp_path: Path, runtime: Path) -> None:
    folder = small_packages.model_dir(tmp_path / "model")
    config = LambdaZip(python=small_packages.PYTHON)
    out, artifact = small_packages.packed(tmp_path, config, runtime, model_dir=folder, weights=OUTSIDE)
    assert not (out / "weights").exists()
    assert "serve.weights changes nothing" in artifact.notes[-1]


def test_what_no_process_can_hold_is_refused(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LimitError, match="memory_mb: 128: more memory"):
        pack(tmp_path / "a", runtime, 129 << 20, config=LambdaZip(python=small_packages.PYTHON, memory_mb=128))
    monkeypatch.setattr(limits, "TMP_MAX", limits.Limit(name="/tmp", value=1, unit="MB", source="a test"))
    with pytest.raises(LimitError, match=r"a mount of EFS in serve\.weights\.cache"):
        pack(tmp_path / "b", runtime, 2 << 20, weights=OutsideWeights(source="s3://b"))
    _, artifact = pack(tmp_path / "c", runtime, 2 << 20)
    assert "EphemeralStorage" not in artifact.notes[-1]
    monkeypatch.setattr(limits, "TMP_MIN", limits.Limit(name="/tmp", value=1, unit="MB", source="a test"))
    _, artifact = pack(tmp_path / "d", runtime, 2 << 20)
    assert "a function needs EphemeralStorage of 18 MB" in artifact.notes[-1]
