"""Licences that have to be accepted: known by name, refused before any work, told with what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlpack.core.records import Target
from mlpack.errors import RecipeError
from mlpack.pipeline.packing.wheel_rules import NEEDS, rules_of
from mlpack.recipe import reader
from mlpack.targets import CpuWorker, GpuWorker, licenses

RECIPE = """\
name: tiny
source: {onnx: model.onnx}
data: {evaluation: eval.npz}
targets:
  cpu-worker: {}
  gpu-worker: {gpus: [sm89]}
"""
GPU = Target(kind="gpu-worker", arch="x86_64", config=GpuWorker())
CPU = Target(kind="cpu-worker", arch="x86_64", config=CpuWorker())


def written(folder: Path, more: str = "") -> Path:
    for name in ("model.onnx", "eval.npz"):
        (folder / name).write_bytes(b"")
    (folder / "recipe.yaml").write_text(RECIPE + more)
    return folder / "recipe.yaml"


def test_rows_name_what_brings_them_and_files_that_ship() -> None:
    for row in licenses.LICENSES.values():
        assert set(row.needs) <= set(NEEDS)
        places = {rule.to for rule in rules_of(row.needs) if rule.to}
        assert all(any(name.startswith(place) for place in places) for name in row.files)
        assert "no legal advice" in row.summary
        assert row.read_on.count("-") == 2


def test_refused_with_name_file_and_what_it_says_at_its_line(tmp_path: Path) -> None:
    path = written(tmp_path)
    found = reader.load(path)
    with pytest.raises(RecipeError) as caught, reader.lines_of(found):
        reader.check_licenses(found, {GPU})
    (problem,) = caught.value.problems
    assert "recipe.yaml:6" in problem
    for word in ("nvidia-tensorrt-rtx", "licenses/tensorrt_rtx_libs/LICENSE.txt", "libtensorrt_rtx", "accept_licenses:"):
        assert word in problem
    assert caught.value.exit_code == 2


def test_accepted_or_not_needed_is_no_problem(tmp_path: Path) -> None:
    reader.check_licenses(reader.load(written(tmp_path)), {CPU})
    accepted = reader.load(written(tmp_path, "accept_licenses: [nvidia-tensorrt-rtx]\n"))
    assert accepted.accept_licenses == ("nvidia-tensorrt-rtx",)
    reader.check_licenses(accepted, {CPU, GPU})
    lean = Target(kind="gpu-worker", arch="x86_64", config=GpuWorker(runtime="lean"))
    with pytest.raises(RecipeError, match="nvidia-tensorrt "):
        reader.check_licenses(accepted, {lean})


def test_unknown_name_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml:7.*no licence 'nvidia-tensorrt-rxt'.*nvidia-tensorrt-rtx"):
        reader.load(written(tmp_path, "accept_licenses: [nvidia-tensorrt-rxt]\n"))


def test_needed_is_in_the_tables_order() -> None:
    found = licenses.for_needs(("aws", "tensorrt-lean", "tensorrt-rtx"))
    assert [row.name for row in found] == ["nvidia-tensorrt-rtx", "nvidia-tensorrt"]
    assert licenses.for_needs(("engine", "aws")) == ()
    assert "accepted by the recipe" in licenses.notice(licenses.LICENSES["nvidia-tensorrt"])
