"""A GPU's candidate judged without one: its twin on this machine's processor, accuracy and nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.support import small_packages
from tests.support import workshop as workshop_
from tests.support.small_packages import HERE, PYTHON
from tests.support.workshop import Workshop

from mlpack.core.records import Candidate, Measurement, Model, Step, Target
from mlpack.errors import MeasureError
from mlpack.graphs import files
from mlpack.passes import PASSES
from mlpack.pipeline import transform
from mlpack.pipeline.evidence import Bench, Data, take_data
from mlpack.pipeline.packing.packages import TASK, Package, Packages
from mlpack.recipe import reader
from mlpack.targets import CpuWorker, GpuWorker

SAMPLE = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}]}
pytestmark = pytest.mark.skipif(HERE != "x86_64", reason="GPU workers are for x86_64")


@dataclasses.dataclass(frozen=True)
class Shop:
    """A project whose GPU candidates can be judged."""

    workshop: Workshop
    packages: Packages
    candidate: Candidate
    model: Model
    data: Data

    @property
    def bench(self) -> Bench:
        wanted = reader.load(self.workshop.recipe)
        roots = (self.workshop.root,)
        return Bench(
            recipe=wanted,
            store=self.workshop.store,
            packages=self.packages,
            roots=roots,
            effort=workshop_.QUICK,
            observe=lambda _text: None,
        )

    def twin(self, tree: Path | None = None) -> Package:
        """Of the model, or of the one in a directory."""
        if tree is None:
            return self.packages.twin(self.candidate, self.model, SAMPLE)
        with self.workshop.store.entry({"kind": "test", "of": tree.name}) as entry:
            for path in tree.iterdir():
                (entry.dir / path.name).write_bytes(path.read_bytes())
        return self.packages.twin(self.candidate, dataclasses.replace(self.model, tree=entry.digest), SAMPLE)


@pytest.fixture
def shop(workshop: Workshop, tmp_path: Path) -> Shop:
    here = Target(kind="cpu-worker", arch="x86_64", config=CpuWorker())
    workshop_.seed_runtime(workshop.root, workshop.store, target=here, python=PYTHON)
    target = Target(kind="gpu-worker", arch="x86_64", config=GpuWorker(base=str(small_packages.rootfs(tmp_path / "rootfs"))))
    simplify = Step(name="simplify", config=PASSES["simplify"].config(operators="portable"))
    candidate = Candidate(variant="fp32", target=target, steps=(simplify,))
    wanted, roots = reader.load(workshop.recipe), (workshop.root,)
    source = transform.take_source(wanted, workshop.store, roots)
    model = transform.run_steps(candidate, source, workshop.store, {}, lambda _text: None)
    signature = files.read_signature(workshop.store.path(model.tree))
    data = take_data(wanted.evaluation, signature, workshop.store, roots, tokenised=False)
    return Shop(workshop, Packages(wanted, workshop.store, roots), candidate, model, data)


def changed(shop: Shop, to: Path, name: str, data: bytes) -> Path:
    """The model with another file."""
    to.mkdir()
    for path in shop.workshop.store.path(shop.model.tree).iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    (to / name).write_bytes(data)
    return to


def test_twin_runs_the_same_graph_here(shop: Shop) -> None:
    twin = shop.twin()
    assert twin.artifact.kind == "directory"
    assert (twin.dir / TASK / "lib/libonnxruntime.so").is_file()
    settings = (twin.dir / TASK / "model/model.json").read_text()
    assert '"backend":{"fallback":[],"kind":"cpu"}' in settings
    assert shop.twin() == twin


def test_twin_takes_the_processors_graph_where_there_is_one(shop: Shop, tmp_path: Path) -> None:
    graph = (shop.workshop.store.path(shop.model.tree) / "model.onnx").read_bytes()
    folder = changed(shop, tmp_path / "with-twin", "cpu.onnx", graph)
    twin = shop.twin(folder)
    assert sorted(path.name for path in (twin.dir / TASK / "model").glob("*.onnx")) == ["cpu.onnx"]


def test_judge_gives_accuracy_and_no_times_and_remembers(shop: Shop) -> None:
    twin = shop.twin()
    taken = shop.bench.judge({"fp32@gpu": twin}, "fp32@gpu", shop.data)
    found = taken["fp32@gpu"]
    assert isinstance(found, Measurement)
    assert found.accuracy is not None
    assert (found.accuracy.value, found.accuracy.drop) == (1.0, 0.0)
    assert found.latency_ms == found.cold_start_ms == found.load_ms == ()
    assert (found.throughput_per_s, found.peak_memory_bytes) == (0.0, 0)
    assert shop.bench.judge({"fp32@gpu": twin}, "fp32@gpu", shop.data) == taken


def test_judge_tells_a_failing_twin_from_a_failing_baseline(shop: Shop, tmp_path: Path) -> None:
    good, bad = shop.twin(), shop.twin(changed(shop, tmp_path / "broken", "model.onnx", b"no graph"))
    taken = shop.bench.judge({"fp32@gpu": good, "fp16@gpu": bad}, "fp32@gpu", shop.data)
    assert isinstance(taken["fp16@gpu"], MeasureError)
    assert isinstance(taken["fp32@gpu"], Measurement)
    with pytest.raises(MeasureError):
        shop.bench.judge({"fp32@gpu": bad}, "fp32@gpu", shop.data)


def test_twin_leaves_the_model_one_name(shop: Shop) -> None:
    """onnx refuses weights that have two, and estimates are reckoned from the model after its twin was laid out."""
    shop.twin()
    files = [path for path in shop.workshop.store.path(shop.model.tree).iterdir() if path.is_file()]
    assert {path.stat().st_nlink for path in files} == {1}
