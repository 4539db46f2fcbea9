"""Lambda as a zip: one archive or two, within the limits, the same bytes anywhere."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from mlpack.core import digest
from mlpack.errors import LimitError, PackError
from mlpack.targets import Contents, LambdaZip, lambda_zip


def contents(root: Path) -> Contents:
    files = {
        "runtime/lib/libonnxruntime.so": b"engine" * 20_000,
        "runtime/bootstrap.py": b"import sys\n",
        "model/model/model.onnx": b"graph" * 100,
        "code/model/model.json": b"{}",
        "code/app/app.py": b"def preprocess(value): ...\n",
    }
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return Contents(runtime=root / "runtime", model=root / "model", code=root / "code", labels={})


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_write_puts_everything_into_the_function(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    written = lambda_zip.write(contents(tmp_path / "in"), LambdaZip(), out)
    assert names(out / "function.zip") == [
        "app/app.py",
        "bootstrap.py",
        "lib/libonnxruntime.so",
        "model/model.json",
        "model/model.onnx",
    ]
    assert (written.kind, written.digest) == ("zip", digest.of_file(out / "function.zip"))
    assert written.compressed_bytes == (out / "function.zip").stat().st_size
    assert {part.name: part.size_bytes for part in written.parts} == {"runtime": 120_011, "model": 500, "code": 29}
    assert written.size_bytes == 120_540
    assert [each.name for each in out.iterdir()] == ["function.zip"]


def test_write_with_a_layer_shares_the_runtime(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    written = lambda_zip.write(contents(tmp_path / "in"), LambdaZip(layer=True), out)
    assert names(out / "function.zip") == ["app/app.py", "model/model.json", "model/model.onnx"]
    assert names(out / "layer.zip") == ["python/bootstrap.py", "python/lib/libonnxruntime.so"]
    assert (written.kind, written.size_bytes) == ("layer-zip", 120_540)


def test_write_in_another_place_gives_the_same_digest(tmp_path: Path) -> None:
    found = set()
    for name in ("one", "two/three"):
        out = tmp_path / name / "out"
        out.mkdir(parents=True)
        found.add(lambda_zip.write(contents(tmp_path / name / "in"), LambdaZip(), out).digest)
    assert len(found) == 1


@pytest.mark.parametrize("layer", [False, True])
def test_write_too_large_is_refused_before_anything_is_written(layer: bool, tmp_path: Path) -> None:
    given = contents(tmp_path / "in")
    with (given.model / "model/model.onnx.data").open("wb") as file:
        file.truncate(262_144_000)  # sparse
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(LimitError, match=r"120,540 more than the 262,144,000(?s:.)*model/model\.onnx\.data"):
        lambda_zip.write(given, LambdaZip(layer=layer), out)
    assert list(out.iterdir()) == []


def test_write_above_a_direct_upload_is_noted(tmp_path: Path) -> None:
    given = contents(tmp_path / "in")
    (given.model / "model/model.onnx.data").write_bytes(os.urandom(1 << 20) * 51)
    out = tmp_path / "out"
    out.mkdir()
    assert any("through S3" in note for note in lambda_zip.write(given, LambdaZip(), out).notes)


def test_write_link_is_refused(tmp_path: Path) -> None:
    given = contents(tmp_path / "in")
    (given.code / "app/secret").symlink_to("/etc/passwd")
    with pytest.raises(PackError, match="app/secret is a link"):
        lambda_zip.write(given, LambdaZip(), tmp_path)


def test_write_one_path_in_two_parts_is_refused(tmp_path: Path) -> None:
    given = contents(tmp_path / "in")
    (given.code / "bootstrap.py").write_text("mine\n")
    with pytest.raises(PackError, match=r"bootstrap\.py is in the package's runtime and in its code"):
        lambda_zip.write(given, LambdaZip(), tmp_path)
