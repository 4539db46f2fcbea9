"""Transform: what a source's name is made of, and what is said when a step cannot run here."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.runtime.tiny_packages import word_tokenizer
from tests.support.workshop import Workshop

from mlpack.core.digest import of_bytes
from mlpack.core.records import Recipe, Source, Step, TensorSpec
from mlpack.core.serving import Serve
from mlpack.errors import PassError, RecipeError
from mlpack.graphs import files
from mlpack.passes.quantize import Quantize
from mlpack.passes.tensorrt import Tensorrt
from mlpack.pipeline import plan, transform
from mlpack.recipe import reader
from mlpack.store.local import Store

INPUTS = (TensorSpec(name="x", dtype="float32", shape=("batch", 4)),)


@pytest.fixture
def wanted(workshop: Workshop) -> Recipe:
    return reader.load(workshop.recipe)


def torch_recipe(wanted: Recipe, weights: str | None = None) -> Recipe:
    (wanted.root / "net.py").write_text("def build():\n    import torch\n    return torch.nn.Linear(4, 2)\n")
    source = Source(format="torch", reference="net:build", weights=weights, task=None)
    return dataclasses.replace(wanted, source=source, inputs=INPUTS)


def test_a_missing_torch_is_named_with_its_extra(wanted: Recipe, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = torch_recipe(wanted)
    source = transform.take_source(asked, store, (asked.root,))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(PassError, match=r"export needs .* torch, .* pip install 'mlpack-build\[torch\]'"):
        transform.run_steps(plan.expand(asked).baselines[0], source, store, {}, lambda _text: None)
    assert not list((store.root / "temporary").iterdir())


WITHOUT = """
import pickle, sys
sys.modules["onnxscript"] = None
from pathlib import Path
from mlpack.pipeline import plan, transform
from mlpack.errors import PassError
from mlpack.store.local import Store
asked, store = pickle.loads(Path(sys.argv[1]).read_bytes()), Store(Path(sys.argv[2]))
source = transform.take_source(asked, store, (asked.root,))
try:
    transform.run_steps(plan.expand(asked).baselines[0], source, store, {}, lambda _text: None)
except PassError as error:
    print(error)
"""


@pytest.mark.slow
def test_missing_exporter_is_named_and_no_other_takes_its_place(wanted: Recipe, store: Store, tmp_path: Path) -> None:
    """In a process of its own: where torch's exporter was imported before, it holds what it needs already."""
    (tmp_path / "asked").write_bytes(pickle.dumps(torch_recipe(wanted)))
    words = [sys.executable, "-c", WITHOUT, str(tmp_path / "asked"), str(store.root)]
    path = os.pathsep.join(sys.path)
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=120)
    assert re.search(r"export needs .* onnxscript, .* pip install 'mlpack-build\[torch\]'", done.stdout), done.stdout + done.stderr


@pytest.mark.parametrize("at", ["import", "call"])
def test_a_package_of_an_extra_that_the_factory_needs_is_named(
    wanted: Recipe, store: Store, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    asked = torch_recipe(wanted)
    text = "import transformers\ndef build(): ...\n" if at == "import" else "def build():\n    import transformers\n"
    (asked.root / "net.py").write_text(text)
    source = transform.take_source(asked, store, (asked.root,))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(PassError, match=r"export needs .* transformers, .* pip install 'mlpack-build\[huggingface\]'"):
        transform.run_steps(plan.expand(asked).baselines[0], source, store, {}, lambda _text: None)


@pytest.mark.parametrize("missing", ["torch", "transformers", "optimum"])
def test_a_missing_transformers_is_named_with_its_extra(
    wanted: Recipe, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    asked = dataclasses.replace(
        wanted, source=Source(format="huggingface", reference=str(tmp_path / "hf"), weights=None, task=None)
    )
    source = transform.take_source(asked, store, ())
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(PassError, match=rf"export needs .* {missing}, .* pip install 'mlpack-build\[huggingface\]'"):
        transform.run_steps(plan.expand(asked).baselines[0], source, store, {}, lambda _text: None)


def test_a_missing_package_of_the_users_own_is_quoted_as_such(wanted: Recipe, store: Store) -> None:
    asked = torch_recipe(wanted)
    (asked.root / "net.py").write_text("import no_such_package\ndef build():\n    return None\n")
    source = transform.take_source(asked, store, (asked.root,))
    with pytest.raises(PassError, match="no_such_package"):
        transform.run_steps(plan.expand(asked).baselines[0], source, store, {}, lambda _text: None)


def test_the_users_code_weights_and_inputs_name_a_torch_source(wanted: Recipe, store: Store) -> None:
    (wanted.root / "w.pt").write_bytes(b"weights")
    (wanted.root / "w.safetensors").write_bytes(b"weights")
    (wanted.root / "other.py").write_text("A = 1\n")
    asked = torch_recipe(wanted, "w.pt")

    def name(changed: Recipe) -> str:
        return str(transform.take_source(changed, store, (changed.root,)).tree)

    first = name(asked)
    assert name(asked) == first
    safe = name(dataclasses.replace(asked, source=dataclasses.replace(asked.source, weights="w.safetensors")))
    assert safe != first
    assert {path.name for path in store.path(transform.Digest(safe)).iterdir()} == {"code", "torch.json", "weights.safetensors"}
    assert name(dataclasses.replace(asked, inputs=(dataclasses.replace(INPUTS[0], shape=("batch", 5)),))) != first
    (wanted.root / "other.py").write_text("A = 2\n")
    assert name(asked) != first


def test_a_link_without_its_file_is_told(wanted: Recipe, store: Store, tmp_path: Path) -> None:
    """What a Hugging Face cache is when its blobs were not copied: silently leaving it out would say `no weights` much later."""
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["BertModel"]}')
    os.symlink("../../blobs/abc", folder / "model.safetensors")
    asked = dataclasses.replace(wanted, source=Source(format="huggingface", reference=str(folder), weights=None, task=None))
    with pytest.raises(RecipeError, match=r"model\.safetensors is a link to \.\./\.\./blobs/abc"):
        transform.take_source(asked, store, ())
    (folder / "model.safetensors").unlink()
    (folder / "onnx").mkdir()
    (folder / "onnx/model.onnx").write_bytes(b"x" * 1000)
    (folder / ".cache").write_bytes(b"x")
    taken = transform.take_source(asked, store, ())
    assert [path.name for path in store.path(taken.tree).iterdir()] == ["config.json"]


def test_the_recipes_tokenizer_comes_along_with_an_onnx_file(wanted: Recipe, store: Store) -> None:
    alone = transform.take_source(wanted, store, ())
    word_tokenizer(wanted.root / "words.json")
    asked = dataclasses.replace(wanted, serve=Serve(tokenizer="words.json", max_length=7))
    taken = transform.take_source(asked, store, ())
    kept = json.loads((store.path(taken.tree) / "tokenizer.json").read_bytes())
    assert kept["truncation"]["max_length"] == 7
    assert kept["padding"]["pad_token"] == "[PAD]"
    assert not (store.path(alone.tree) / "tokenizer.json").exists()
    (wanted.root / "words.json").write_text("{}")
    with pytest.raises(PassError, match=r"words\.json"):
        transform.take_source(asked, store, ())


def test_an_action_names_config_input_data_and_tools() -> None:
    step = Step(name="quantize", config=Quantize(arch="arm64"))
    one, other = (transform.Digest("sha256:" + digit * 64) for digit in "01")
    first = transform.action_of(step, one, {})
    assert set(first["tools"]) == {"onnx", "onnxruntime"}
    assert first["config"]["arch"] == "arm64"
    assert "calibration" not in first["config"]
    bound = transform.action_of(step, one, {"calibration": (other, Path("/somewhere"))})
    assert bound["bound"] == {"calibration": str(other)}
    assert "/somewhere" not in str(bound)
    assert transform.action_of(step, other, {}) != first


def test_nearest_changes_are_old_to_new(store: Store) -> None:
    with store.entry({"kind": "step/x", "config": {"a": 1, "b": 2}}) as entry:
        (entry.dir / "f").write_text("")
    assert transform.changes({"kind": "step/x", "config": {"a": 1, "b": 3}}, store) == ("config.b: 2 → 3",)
    assert transform.changes({"kind": "step/y"}, store) == ("never done before",)


def test_a_gpu_decides_only_where_a_pass_says_so() -> None:
    model = of_bytes(b"model")
    action = transform.action_of(Step(name="tensorrt", config=Tensorrt()), model, {})
    assert action["machine"] == "no native builder"
    assert "machine" not in transform.action_of(Step(name="quantize", config=Quantize()), model, {})


def test_a_model_too_large_for_one_message_is_no_bug() -> None:
    from google.protobuf.message import EncodeError

    with (
        pytest.raises(PassError, match=r"quantize takes a model as one message, of 2 GiB at most"),
        transform.explain_errors(Step(name="quantize", config=Quantize()), "onnx"),
    ):
        raise EncodeError("Failed to serialize proto")
    with pytest.raises(ZeroDivisionError), transform.explain_errors(Step(name="quantize", config=Quantize()), "onnx"):
        raise ZeroDivisionError


def test_file_that_a_fitted_functions_code_reads_comes_along(wanted: Recipe, store: Store) -> None:
    (wanted.root / "fit.py").write_text("def fitted():\n    ...\n")
    (wanted.root / "kept").mkdir()
    (wanted.root / "kept/model.bin").write_bytes(b"one")
    source = Source(format="sklearn", reference="fit:fitted", weights="kept/model.bin", task=None)
    asked = dataclasses.replace(wanted, source=source, inputs=INPUTS)
    first = transform.take_source(asked, store, (asked.root,))
    assert first.format == "sklearn"
    assert (store.path(first.tree) / "code/kept/model.bin").read_bytes() == b"one"
    assert files.read_signature(store.path(first.tree)).inputs == INPUTS
    (wanted.root / "kept/model.bin").write_bytes(b"two")
    assert transform.take_source(asked, store, (asked.root,)).tree != first.tree


def test_boosters_say_their_columns_or_that_they_are_none(wanted: Recipe, store: Store) -> None:
    (wanted.root / "model.txt").write_text("tree\nversion=v4\nmax_feature_idx=6\n")
    source = Source(format="lightgbm", reference="model.txt", weights=None, task=None)
    asked = dataclasses.replace(wanted, source=source, inputs=())
    taken = transform.take_source(asked, store, (asked.root,))
    assert files.read_signature(store.path(taken.tree)).inputs == (TensorSpec(name="X", dtype="float32", shape=("batch", 7)),)
    (wanted.root / "model.txt").write_text("a list of trees")
    with pytest.raises(RecipeError, match=r"source.lightgbm: model.txt is no LightGBM model"):
        transform.take_source(asked, store, (asked.root,))
