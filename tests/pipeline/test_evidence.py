"""Evidence: data as calls, requests made of them, and measurements that are taken once and told apart from failures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from tests.support import fake_bench
from tests.support.workshop import Workshop

from mlpack.core import digest
from mlpack.core.machine import this_machine
from mlpack.core.records import Artifact, Measurement, MetricSpec, Signature, TensorSpec
from mlpack.errors import MeasureError, RecipeError
from mlpack.pipeline.evidence import Bench, Data, take_data
from mlpack.pipeline.measuring.measure import Effort
from mlpack.pipeline.packing.packages import TASK, Package, Packages
from mlpack.pipeline.proof import Prover
from mlpack.recipe import reader
from mlpack.store.local import Store

EFFORT = Effort(cold_starts=1, blocks=2, samples=6, seconds_per_subject=0.5, warmup_seconds=0.0, throughput_seconds=0.01)
X = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 3)),), outputs=())


def package(root: Path, python: str = "3.13", **behaviour: object) -> Package:
    """A package that is a directory with a fake bench server in it."""
    fake_bench.write(root / TASK, **behaviour)  # type: ignore[arg-type]
    name = digest.of_tree(root)
    artifact = Artifact(kind="directory", digest=name, tree=name, files=(), size_bytes=1, compressed_bytes=1, parts=())
    return Package(artifact=artifact, dir=root, content=name, python=python, memory_mb=1769)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    folder = fake_bench.write_calls(tmp_path / "data")
    return Data(tree=digest.of_tree(folder), dir=folder)


@pytest.fixture
def bench(workshop: Workshop) -> Bench:
    wanted = dataclasses.replace(reader.load(workshop.recipe), metric=MetricSpec(name="cosine"))
    roots = (workshop.root,)
    packages = Packages(wanted, workshop.store, roots)
    return Bench(recipe=wanted, store=workshop.store, packages=packages, roots=roots, effort=EFFORT, observe=lambda _text: None)


def test_measurements_are_taken_once_for_equal_packages(bench: Bench, data: Data, tmp_path: Path) -> None:
    base, other = package(tmp_path / "base"), package(tmp_path / "other", bias=0.5)
    subjects = {"fp32@a": base, "int8@a": other, "same@a": other}
    first = bench.measure(subjects, "fp32@a", data)
    assert first["int8@a"] == first["same@a"]
    assert isinstance(first["fp32@a"], Measurement)
    assert isinstance(first["int8@a"], Measurement)
    assert first["int8@a"].accuracy is not None
    assert first["int8@a"].accuracy.drop > 0
    assert bench.measure(subjects, "fp32@a", data) == first
    changed = dataclasses.replace(bench, effort=dataclasses.replace(EFFORT, samples=8))
    again = changed.measure(subjects, "fp32@a", data)["fp32@a"]
    assert isinstance(again, Measurement)
    assert len(again.latency_ms) == 8


@pytest.mark.parametrize("die_at", ["load", "predict", "first", "latency", "throughput", "memory"])
def test_a_package_that_dies_at_any_moment_fails_alone(bench: Bench, data: Data, tmp_path: Path, die_at: str) -> None:
    subjects = {"good": package(tmp_path / "good"), "bad": package(tmp_path / "bad", die_at=die_at, bias=1.0)}
    found = bench.measure(subjects, "good", data)
    assert isinstance(found["good"], Measurement)
    assert len(found["good"].ratio_samples) == EFFORT.blocks
    assert isinstance(found["bad"], MeasureError)
    assert "my last words" in str(found["bad"])


def test_a_baseline_that_dies_is_raised(bench: Bench, data: Data, tmp_path: Path) -> None:
    for die_at in ("predict", "latency"):
        subjects = {
            "good": package(tmp_path / die_at / "g", bias=1.0),
            "base": package(tmp_path / die_at / "b", die_at=die_at),
        }
        with pytest.raises(MeasureError, match="base: the packaged runtime"):
            bench.measure(subjects, "base", data)
    assert not list((bench.store.root / "temporary").iterdir())


def _sample(x: np.ndarray, root: Path, store: Store, workshop: Workshop) -> dict[str, object]:
    np.savez(root / "odd.npz", x=x.astype("float32"))
    taken = take_data("odd.npz", X, store, (root,), tokenised=False)
    return taken.sample(reader.load(workshop.recipe))


def test_a_sample_request_is_the_first_call_that_json_can_hold(workshop: Workshop) -> None:
    x = np.ones((3, 3))
    x[0, 1], x[1, 2] = np.nan, np.inf
    x[2] = 7
    (only,) = _sample(x, workshop.root, workshop.store, workshop)["inputs"]  # type: ignore[attr-defined]
    assert only == {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [7.0, 7.0, 7.0]}


def test_missing_values_are_null_where_every_call_has_one(workshop: Workshop) -> None:
    (only,) = _sample(np.array([[np.inf, np.nan, 1], [1, np.nan, 2]]), workshop.root, workshop.store, workshop)["inputs"]  # type: ignore[attr-defined]
    assert only["data"] == [1.0, None, 2.0]


def test_data_of_which_json_can_hold_nothing_is_told(workshop: Workshop) -> None:
    with pytest.raises(RecipeError, match=r"infinite values.* serve\.example"):
        _sample(np.full((2, 3), np.inf), workshop.root, workshop.store, workshop)


def test_what_a_function_yields_is_read_anew(workshop: Workshop) -> None:
    def written(value: float) -> str:
        (workshop.root / "value.json").write_text(json.dumps(value))
        taken = take_data("feed:calls", X, workshop.store, (workshop.root,), tokenised=False)
        return str(taken.tree)

    (workshop.root / "feed.py").write_text(
        "import json, pathlib\n"
        "def calls():\n"
        "    value = json.loads(pathlib.Path(__file__).with_name('value.json').read_text())\n"
        "    yield {'x': [[value, 0.0, 0.0]]}, None\n"
    )
    assert written(1.0) != written(2.0)
    assert written(1.0) == written(1.0)


def test_accuracies_come_with_what_is_known_of_them_elsewhere(bench: Bench, data: Data, tmp_path: Path) -> None:
    here = dataclasses.replace(this_machine(), arch="x86_64", isa="avx512-vnni")
    prover = Prover(store=bench.store, packages=bench.packages, find=lambda _name: None, observe=bench.observe, at=here)
    asked = dataclasses.replace(bench, prover=prover)
    subjects = {"base": package(tmp_path / "base"), "bad": package(tmp_path / "bad", die_at="predict", bias=1.0)}
    for _ in range(2):  # measured, then known
        found = asked.measure({"base": subjects["base"]}, "base", data)["base"]
        assert isinstance(found, Measurement)
        assert found.accuracy is not None
        assert found.accuracy.proof is not None
        assert found.accuracy.proof.how is None
        assert "cannot be looked at" in found.accuracy.proof.why
    again = bench.measure({"base": subjects["base"]}, "base", data)["base"]
    assert isinstance(again, Measurement)
    assert again.accuracy is not None
    assert again.accuracy.proof is None
    assert isinstance(asked.measure(subjects, "base", data)["bad"], MeasureError)
    native = dataclasses.replace(asked, prover=dataclasses.replace(prover, at=dataclasses.replace(here, isa="avx2")))
    found = native.measure({"base": subjects["base"]}, "base", data)["base"]
    assert isinstance(found, Measurement)
    assert found.accuracy is not None
    assert found.accuracy.proof is not None
    assert found.accuracy.proof.how == "native"
