"""What data are read against before a Hugging Face directory is exported: found once, looked up without a framework."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from tests.support.workshop import Workshop

from mlpack.core.digest import canonical_json, of_bytes
from mlpack.core.records import Candidate, Model, Recipe, Source, TensorSpec
from mlpack.errors import PassError
from mlpack.passes.export import described
from mlpack.pipeline import plan, transform
from mlpack.pipeline.signatures import is_cached, source_signature
from mlpack.recipe import reader

PORTS = {
    "inputs": [{"name": "input_values", "dtype": "float32", "shape": ["batch", "samples"]}],
    "outputs": [{"name": "logits", "dtype": "float32", "shape": []}],
}


@pytest.fixture
def described_for(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The tasks that directories were described for, without a model."""
    tasks: list[str | None] = []

    def describe(model_dir: Path, task: str | None, out_dir: Path) -> None:
        assert (model_dir / "config.json").is_file()
        tasks.append(task)
        (out_dir / "signature.json").write_bytes(canonical_json(PORTS))

    monkeypatch.setattr(described, "describe", describe)
    return tasks


def taken(workshop: Workshop, folder: Path, task: str | None = None) -> tuple[Recipe, Candidate, Model]:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]}')
    source = Source(format="huggingface", reference=str(folder), weights=None, task=task)
    asked = dataclasses.replace(reader.load(workshop.recipe), source=source)
    return asked, plan.expand(asked).baselines[0], transform.take_source(asked, workshop.store, ())


def test_inputs_are_found_once_for_each_task_and_then_looked_up(
    workshop: Workshop, tmp_path: Path, described_for: list[str | None]
) -> None:
    said: list[str] = []
    for task in (None, "feature-extraction"):
        asked, baseline, source = taken(workshop, tmp_path / "hf", task)
        assert not is_cached(baseline, source, workshop.store)
        found, folder = source_signature(baseline, source, asked, workshop.store, said.append)
        assert found.inputs == (TensorSpec(name="input_values", dtype="float32", shape=("batch", "samples")),)
        assert json.loads((folder / "signature.json").read_bytes()) == PORTS
        assert is_cached(baseline, source, workshop.store)
        assert source_signature(baseline, source, asked, workshop.store, said.append) == (found, folder)
    assert described_for == [None, "feature-extraction"]
    assert said == [f"{baseline.variant}: inputs"] * 2


def test_another_directory_is_described_anew(workshop: Workshop, tmp_path: Path, described_for: list[str | None]) -> None:
    asked, baseline, source = taken(workshop, tmp_path / "hf")
    source_signature(baseline, source, asked, workshop.store, lambda _text: None)
    (tmp_path / "hf" / "preprocessor_config.json").write_text("{}")
    _, baseline, changed = taken(workshop, tmp_path / "hf")
    assert not is_cached(baseline, changed, workshop.store)


def test_a_missing_package_has_its_way_out_and_leaves_nothing(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "optimum"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optimum", None)
    asked, baseline, source = taken(workshop, tmp_path / "hf")
    with pytest.raises(PassError, match=r"export needs .* optimum, .* pip install 'mlpack-build\[huggingface\]'"):
        source_signature(baseline, source, asked, workshop.store, lambda _text: None)
    assert not is_cached(baseline, source, workshop.store)


def test_export_of_a_directory_is_compared_on_the_recipes_calls(workshop: Workshop, tmp_path: Path) -> None:
    _, baseline, source = taken(workshop, tmp_path / "hf")
    step = next(step for step in baseline.steps if step.name == "export")
    keys = [
        transform.action_of(step, source.tree, transform.bindings_of(step, {"examples": (of_bytes(content), tmp_path)}))
        for content in (b"these calls", b"those calls")
    ]
    assert keys[0] != keys[1]
    assert keys[0]["bound"] == {"examples": str(of_bytes(b"these calls"))}
