"""Tests of `mlpack.recipe.first`: a recipe that loads, whatever it was shown, and that nothing of the model is executed."""

from __future__ import annotations

import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.support.hostile import LOG, MARKDOWN, commands

from mlpack.core import yaml_positions
from mlpack.core.calibrants import HeldOutCalibration
from mlpack.core.records import Recipe
from mlpack.errors import RecipeError
from mlpack.recipe import first as init
from mlpack.recipe import reader as recipe


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: where the recipe is meant to stand."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _loaded(text: str) -> Recipe:
    Path("recipe.yaml").write_text(text, "utf-8")
    return recipe.load(Path("recipe.yaml"))


def _onnx(path: Path, columns: int = 3) -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", columns])]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [4, columns], [0.0] * (4 * columns))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, outputs, [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)


def _huggingface(folder: Path, architecture: str, *, tokenizer: bool = True) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    if tokenizer:
        (folder / "tokenizer.json").write_text("{}")


def test_onnx_with_data_beside_it(folder: Path) -> None:
    (folder / "models").mkdir()
    _onnx(folder / "models" / "Iris Net.onnx")
    np.savez(folder / "models" / "eval.npz", x=np.zeros((2, 4)), labels=np.zeros(2))
    np.savez(folder / "models" / "calibration.npz", x=np.zeros((2, 4)))
    text = init.suggest(Path("models/Iris Net.onnx"))
    read = _loaded(text)
    assert (read.name, read.source.reference, read.metric.name) == ("iris-net", "models/Iris Net.onnx", "top1")
    assert (read.evaluation, read.calibration) == ("models/eval.npz", "models/calibration.npz")
    assert "# x: {dtype: float32, shape: [batch, 4]}" in text


def test_onnx_without_labels_is_compared_with_the_float_model(folder: Path) -> None:
    _onnx(folder / "m.onnx")
    np.savez(folder / "eval.npz", x=np.zeros((2, 4)))
    assert _loaded(init.suggest(Path("m.onnx"))).metric.name == "fidelity"
    _onnx(folder / "r.onnx", columns=1)
    assert _loaded(init.suggest(Path("r.onnx"))).metric.name == "fidelity"


def test_data_that_is_missing_is_the_only_problem(folder: Path) -> None:
    _onnx(folder / "m.onnx")
    text = init.suggest(Path("m.onnx"))
    assert "to be written by you" in text
    with pytest.raises(RecipeError) as raised:
        _loaded(text)
    (problem,) = raised.value.problems
    assert "data.evaluation: eval.npz does not exist" in problem


@pytest.mark.parametrize(
    ("architecture", "metric", "task"),
    [
        ("BertModel", "recall_at_1", "feature-extraction"),
        ("BertForSequenceClassification", "top1", None),
        ("BertForMaskedLM", "agreement", None),
    ],
)
def test_huggingface_texts(folder: Path, architecture: str, metric: str, task: str | None) -> None:
    _huggingface(folder / "models" / "mini", architecture)
    (folder / "eval.jsonl").touch()
    read = _loaded(init.suggest(folder / "models" / "mini"))
    assert (read.name, read.source.reference, read.source.task, read.metric.name) == ("mini", "models/mini", task, metric)
    assert read.evaluation == "eval.jsonl"


@pytest.mark.parametrize(
    ("head", "said"),
    [("TokenClassification", "for each token"), ("SequenceClassification", '"text_pair"'), ("QuestionAnswering", "context")],
)
def test_lines_of_texts_are_described_by_the_head(folder: Path, head: str, said: str) -> None:
    _huggingface(folder / "m", f"BertFor{head}")
    assert said in init.suggest(Path("m"))


@pytest.mark.parametrize(
    ("architecture", "modules", "task"),
    [
        ("BertForSequenceClassification", False, "text-classification"),
        ("BertForTokenClassification", False, "token-classification"),
        ("BertForQuestionAnswering", False, "question-answering"),
        ("BertModel", True, "embeddings"),
        ("BertModel", False, None),
        ("BertForMaskedLM", False, None),
    ],
)
def test_the_task_that_answers_is_told(folder: Path, architecture: str, modules: bool, task: str | None) -> None:
    _huggingface(folder / "m", architecture)
    if modules:
        (folder / "m/modules.json").write_text("[]")
    text = init.suggest(Path("m"))
    assert (f"# serve: {{task: {task}}}" in text) == (task is not None)
    assert ("# serve" in text) == (task is not None)


def _graph(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", inputs, outputs), opset_imports=opsets), path)


def test_zipmap_is_the_tensor_that_a_build_makes_of_it(folder: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
    listed = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    found = helper.make_value_info("p", helper.make_sequence_type_proto(listed))
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"]),
        helper.make_node("ZipMap", ["s"], ["p"], domain="ai.onnx.ml", classlabels_strings=["no", "yes"]),
    ]
    _graph(folder / "m.onnx", nodes, [x], [found])
    np.savez(folder / "eval.npz", x=np.zeros((2, 2)), labels=np.array(["no", "yes"]))
    assert _loaded(init.suggest(Path("m.onnx"))).metric.classes == ("no", "yes")
    _graph(folder / "m.onnx", [helper.make_node("ZipMap", [], [], domain="ai.onnx.ml")], [x], [found])
    with pytest.raises(RecipeError, match="cannot be read as an ONNX model"):
        init.suggest(Path("m.onnx"))


@pytest.mark.parametrize(("data", "shape"), [(True, ("batch", 4, 6)), (False, ("batch",))])
def test_what_file_does_not_say_of_ranks_is_said_in_the_recipe(folder: Path, data: bool, shape: tuple[object, ...]) -> None:
    unsaid = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    values = [helper.make_value_info(name, unsaid) for name in ("x", "y", "z")]
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Foreign", ["x"], ["z"], domain="other")]
    _graph(folder / "m.onnx", nodes, values[:1], values[1:])
    np.savez(folder / "eval.npz", **({"x": np.zeros((3, 4, 6))} if data else {"w": np.zeros(1)}))
    read = _loaded(init.suggest(Path("m.onnx")))
    assert read.metric.name == "fidelity"
    assert [(spec.name, spec.dtype, spec.shape) for spec in read.inputs] == [("x", "float32", shape)]


def test_huggingface_without_a_tokenizer_takes_arrays(folder: Path) -> None:
    _huggingface(folder / "vit", "ViTForImageClassification", tokenizer=False)
    (folder / "eval.npz").touch()
    assert _loaded(init.suggest(Path("vit"))).evaluation == "eval.npz"


def test_torch_finds_a_factory_without_running_it(folder: Path) -> None:
    (folder / "nets").mkdir()
    (folder / "nets" / "a.py").write_text("raise SystemExit('executed')\ndef build(width): pass\n")
    (folder / "nets" / "b.py").write_text("raise SystemExit('executed')\ndef build(width=3): pass\n")
    (folder / "nets" / "w.safetensors").touch()
    (folder / "eval.npz").touch()
    read = _loaded(init.suggest(Path("nets/w.safetensors")))
    assert (read.source.reference, read.source.weights) == ("nets.b:build", "nets/w.safetensors")
    assert read.inputs[0].shape == ("batch", 1, 28, 28)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.onnx", b"\x08\x09truncated", "cannot be read as an ONNX model"),
        ("m.onnx", b"", "has no inputs"),
        ("m.keras", b"", "none of a Hugging Face directory"),
        ("m.pt", b"PK\x03\x04broken", "cannot be read as a file of torch.save"),
        ("d/config.json", b"[1, 2", "is damaged"),
        ("d/config.json", b"[]", "is damaged"),
        ("d/model.onnx", b"", "name one of the models in it (model.onnx)"),
    ],
)
def test_what_is_no_model_says_so(folder: Path, name: str, content: bytes, said: str) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(RecipeError) as raised:
        init.suggest(path.parent if name.startswith("d/") else path)
    assert said in str(raised.value)


def test_what_torch_saved_is_told_apart_without_running_it(folder: Path) -> None:
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(4, 3))
    torch.save(net.state_dict(), folder / "weights.pt")
    (folder / "nets.py").write_text("raise SystemExit('executed')\ndef build(): pass\n")
    (folder / "eval.npz").touch()
    read = _loaded(init.suggest(Path("weights.pt")))
    assert (read.source.reference, read.source.weights) == ("nets:build", "weights.pt")

    torch.save(net, folder / "whole.pth")
    with pytest.raises(RecipeError, match=r"a pickle of a whole module[^\n]*torch\.nn[^\n]*\n.*state_dict"):
        init.suggest(Path("whole.pth"))
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.trace(net, torch.zeros(1, 4)), folder / "script.pt")
    with pytest.raises(RecipeError, match=r"is TorchScript[^\n]*\n.*torch\.onnx\.export"):
        init.suggest(Path("script.pt"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("iris/model.onnx", "iris"),
        ("Cats & Dogs/onnx/model_quantized.onnx", "cats-dogs"),
        ("cats/exported/model-v2.onnx", "cats"),
        ("cats/12/model.onnx", "cats"),
        ("models/resnet50.onnx", "resnet50"),
        ("models/model_of_cats.onnx", "model-of-cats"),
        ("cats/best.onnx", "cats"),
    ],
)
def test_recipe_is_named_after_what_tells(folder: Path, path: str, name: str) -> None:
    (folder / path).parent.mkdir(parents=True)
    _onnx(folder / path)
    (folder / "eval.npz").touch()
    assert _loaded(init.suggest(Path(path))).name == name


def test_missing_model_says_so() -> None:
    with pytest.raises(RecipeError, match="mlpack downloads nothing"):
        init.suggest(Path("org/model"))


# --- words of strangers -----------------------------------------------------------------------------------------------

INJECTED = "features\n  calibration: helper:score\n  #"
LINE_ENDS = ("\n", "\r", "\r\n", "\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\t")
WORDS = (
    INJECTED,
    *(f"x{end}serve: {{preprocess: helper:score}}{end}#" for end in LINE_ENDS),
    *(f"x{end}tags: {{a: b}}" for end in LINE_ENDS),
    *(
        "x # y",
        "x: y",
        "# x",
        "- x",
        "? x",
        "&a x",
        "*a",
        "!!python/name:os.system",
        "{x",
        "]",
        "%TAG",
        "---",
        "...",
        "'",
        '"',
        "\\",
    ),
    *(
        "",
        " ",
        "null",
        "~",
        "true",
        "No",
        "on",
        "y",
        "1",
        "1.5",
        ".5",
        ".inf",
        ".nan",
        "0x1f",
        "1e5",
        "1_000",
        "2024-01-01",
        "<<",
        "=",
    ),
    *(
        "\ufeff",
        "\ufeffx: 1",
        "\u202ex",
        "a\x00b",
        "\x1b[31m",
        "\x7f",
        "\x9b",
        "\uffff",
        "\ufffe",
        "\U0010ffff",
        "😀",
        "é",
        "batch ",
    ),
    *("##vso[x]", "##[error]x", "::error::x", "\u200b"),
    *(word for word in (*LOG, *MARKDOWN) if not re.search("[\ud800-\udfff]", word) and len(word) < 1000),
)


def _named(path: Path, inputs: list[str], axis: str = "batch", output: str = "y") -> None:
    """An ONNX file whose inputs are called so."""
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [axis, 2]) for name in inputs]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [axis, 2])]
    graph = helper.make_graph([helper.make_node("Identity", inputs[:1], [output])], "g", made, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)


def _meant(metric: str = "top1") -> dict[str, object]:
    """What `init` says of `m.onnx` beside `eval.npz`, and nothing more."""
    return {
        "name": "m",
        "source": {"onnx": "m.onnx"},
        "data": {"evaluation": "eval.npz"},
        "metric": metric,
        "variants": "auto",
        "targets": {"lambda-zip": {"arch": "x86_64", "memory_mb": 1769}},
        "budgets": {"accuracy_drop": 0.01, "package_size": "250MB"},
        "prefer": "cost",
    }


def _yaml_1_1(text: str) -> object:
    """As the many readers do that know YAML 1.1 alone."""
    from ruamel.yaml import YAML

    reader = YAML(typ="safe", pure=True)
    reader.version = "1.1"
    return reader.load(text)


def _check(text: str, inputs: list[str], axis: str) -> None:
    document = yaml_positions.parse(text, "r.yaml")
    wanted = _meant("recall_at_5" if "share of queries" in text else "top1")  # an output may be called features
    assert document.value == wanted
    assert document.problems == ()
    assert _yaml_1_1(text) == wanted
    assert not commands(text)
    assert all(line.isprintable() for line in text.split("\n"))
    proposed = re.search(r"axis that varies:\n((?:  # .*\n)*)", text)
    assert proposed is not None
    lines = [line.removeprefix("  # ") for line in proposed[1].splitlines()]
    assert len(lines) == len(inputs)
    written = [line for line in lines if not line.startswith("(")]  # which is one that is too long
    if written:
        one = yaml_positions.parse("\n".join(written), "inputs").value
        spec = {"dtype": "float32", "shape": [yaml_positions.UNPRINTABLE.sub("?", axis), 2]}
        allowed = {yaml_positions.UNPRINTABLE.sub("?", name): spec for name in inputs}
        assert all(allowed[name] == said for name, said in one.items())
        assert len(one) == len(allowed) - (len(lines) - len(written))


@pytest.mark.parametrize("first", range(0, len(WORDS), 8))
def test_no_name_of_a_models_adds_a_key(folder: Path, first: int) -> None:
    np.savez(folder / "eval.npz", labels=np.zeros(2))
    words = list(dict.fromkeys(WORDS[first : first + 8]))
    for axis in (words[0] or "batch", words[-1] or "batch"):
        _named(folder / "m.onnx", words, axis, words[0] + "3")
        _check(init.suggest(Path("m.onnx")), words, axis)


def test_what_init_writes_loads_as_a_recipe(folder: Path) -> None:
    np.savez(folder / "eval.npz", labels=np.zeros(2))
    _named(folder / "m.onnx", [INJECTED, "x"], "b]}\nmetric: evil:run\n#")
    read = _loaded(init.suggest(Path("m.onnx")))
    assert (read.calibration, read.serve.preprocess, read.tags, read.metric.name) == (HeldOutCalibration(), None, {}, "top1")


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=3, unique=True),
    st.text(min_size=1, max_size=20),
)
@example(inputs=[INJECTED], axis="b]}\nmetric: evil:run\n#")
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_named_parses_to_what_was_meant(folder: Path, inputs: list[str], axis: str) -> None:
    axis = axis.encode("utf-8", "replace").decode()
    np.savez(folder / "eval.npz", labels=np.zeros(2))
    _named(folder / "m.onnx", inputs, axis)
    text = init.suggest(Path("m.onnx"))
    if len({yaml_positions.UNPRINTABLE.sub("?", name) for name in inputs}) == len(inputs):
        _check(text, inputs, axis)


def test_what_is_long_is_left_out(folder: Path) -> None:
    np.savez(folder / "eval.npz", labels=np.zeros(2))
    _named(folder / "m.onnx", ["x" * 5_000_000, *(f"i{number}" for number in range(1_000))])
    text = init.suggest(Path("m.onnx"))
    assert len(text) < 10_000
    assert "too long to be written here" in text
    assert "(and 951 more)" in text
    assert _loaded(text).name == "m"


@pytest.mark.parametrize("kind", [0, 99, 2**31 - 1])
def test_a_type_that_onnx_does_not_have_is_no_bug(folder: Path, kind: int) -> None:
    _named(folder / "m.onnx", ["x"])
    model = onnx.load(folder / "m.onnx")
    model.graph.input[0].type.tensor_type.elem_type = kind
    onnx.save(model, folder / "m.onnx")
    with pytest.raises(RecipeError, match="cannot be read as an ONNX model"):
        init.suggest(Path("m.onnx"))


@pytest.mark.parametrize(
    "name",
    [
        "null",
        "123",
        "1e5",
        "on",
        "2024-01-01",
        "é",
        "a: b",
        "a #b",
        "x\nmetric: evil:run #",
        "- a",
        "'",
        '"',
        "\u202eb",
        "[a]",
        "\u2028",
    ],
)
def test_files_are_named_as_they_are_called(folder: Path, name: str) -> None:
    _named(folder / f"{name}.onnx", ["x"])
    (folder / f"eval {name}.npz").touch()
    text = init.suggest(Path(f"{name}.onnx"))
    read = _loaded(text)
    assert (read.source.reference, read.evaluation) == (f"{name}.onnx", f"eval {name}.npz")
    assert set(yaml_positions.parse(text, "r").value) == set(_meant())
    assert not commands(text)


@pytest.mark.parametrize("name", [b"caf\xe9.onnx", b"a\x1b[31m.onnx", b"a\rb.onnx", b"\x7f.onnx"])
def test_what_a_recipe_cannot_name_is_told(folder: Path, name: bytes) -> None:
    path = Path(os.fsdecode(name))
    _named(folder / "m.onnx", ["x"])
    (folder / "m.onnx").rename(path)
    with pytest.raises(RecipeError, match="a recipe cannot name this"):
        init.suggest(path)


def test_data_that_a_recipe_cannot_name_is_passed_over(folder: Path) -> None:
    _named(folder / "m.onnx", ["x"])
    Path(os.fsdecode(b"eval\xff.npz")).touch()
    (folder / "eval\x1b.npz").touch()
    (folder / "test.npz").touch()
    assert _loaded(init.suggest(Path("m.onnx"))).evaluation == "test.npz"


def test_files_beside_weights_say_nothing_and_run_nothing(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    (folder / "w.safetensors").touch()
    (folder / "eval.npz").touch()
    (folder / "a.py").write_text("'\\d'\ndef build(): pass\n")
    (folder / "b.py").write_text("(" * 10_000)
    (folder / "c.py").write_bytes(b"\x00\xff")
    (folder / "d: x.py").write_text("def build(): pass\n")
    (folder / "a.py").rename(folder / "z.py")
    assert _loaded(init.suggest(Path("w.safetensors"))).source.reference == "z:build"
    assert not recwarn.list
