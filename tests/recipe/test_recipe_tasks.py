"""The task that a package gets, from a model's files and from a recipe."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.project import REPOSITORY

from mlpack.core.records import Signature, Source, Step, TensorSpec
from mlpack.core.serving import Serve
from mlpack.errors import RecipeError
from mlpack.recipe import tasks

LOGITS = TensorSpec(name="logits", dtype="float32", shape=("batch", 3))
TAGS = TensorSpec(name="logits", dtype="float32", shape=("batch", "sequence", 3))
HIDDEN = TensorSpec(name="last_hidden_state", dtype="float32", shape=("batch", "sequence", 8))
VECTOR = TensorSpec(name="sentence_embedding", dtype="float32", shape=("batch", 8))
SPAN = tuple(TensorSpec(name=name, dtype="float32", shape=("batch", "sequence")) for name in ("start_logits", "end_logits"))


def one(columns: int | str) -> TensorSpec:
    return TensorSpec(name="logits", dtype="float32", shape=("batch", columns))


def look(folder: Path, outputs: tuple[TensorSpec, ...], **more: Any) -> dict[str, Any] | None:
    """The task of the directory's model. `serve`, `source`, `steps` and `tokenized` may say more."""
    recipe: Any = SimpleNamespace(
        root=folder.parent,
        source=more.get("source", Source(format="huggingface", reference=folder.name)),
        serve=Serve(**more.get("serve", {})),
    )
    steps, signature = more.get("steps", ()), Signature(inputs=(), outputs=outputs)
    return tasks.settings(recipe, steps, signature, tokenized=more.get("tokenized", True))


def described(folder: Path, architecture: str | None, **config: Any) -> Path:
    """A directory with this config.json."""
    place = folder / "model"
    place.mkdir(exist_ok=True)
    names = {} if architecture is None else {"architectures": [architecture]}
    (place / "config.json").write_text(json.dumps({**names, **config}))
    return place


def test_labels_stand_in_the_order_of_the_columns(tmp_path: Path) -> None:
    folder = described(tmp_path, "BertForSequenceClassification", id2label={"2": "c", "0": "a"})
    assert look(folder, (LOGITS,)) == {
        "name": "text-classification", "output": "logits", "labels": ["a", "LABEL_1", "c"], "activation": "softmax"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "number"),
    [({"id2label": {"99999999": "a"}}, 10_000), ({"num_labels": 10**12}, 10_000), ({"id2label": {"9" * 5000: "a"}}, 1)],
)
def test_a_config_cannot_ask_for_labels_without_end(tmp_path: Path, config: dict[str, Any], number: int) -> None:
    folder = described(tmp_path, "BertForSequenceClassification", problem_type="regression", **config)
    settings = look(folder, (one("columns"),))
    assert settings is not None
    assert len(settings["labels"]) == number


@pytest.mark.parametrize(
    ("config", "columns", "task", "activation"),
    [
        ({"id2label": {"0": "x", "1": "y"}}, 2, "text-classification", "softmax"),
        ({"problem_type": "multi_label_classification", "num_labels": 2}, 2, "text-classification", "sigmoid"),
        ({"problem_type": "regression", "num_labels": 1}, 1, "text-classification", "none"),
        ({"num_labels": 1}, 1, "rerank", "sigmoid"),
        ({"id2label": {"0": "LABEL_0"}}, "columns", "rerank", "sigmoid"),
        ({"num_labels": 1, "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, 1, "rerank", "none"),
        ({"num_labels": 1, "sbert_ce_default_activation_function": "torch.nn.Identity"}, 1, "rerank", "none"),
        ({"num_labels": "many", "id2label": ["a"]}, 2, "text-classification", "softmax"),
        ({"id2label": {}}, "columns", "text-classification", "softmax"),
    ],
)
def test_scores_are_made_as_the_config_says(
    tmp_path: Path, config: dict[str, Any], columns: int | str, task: str, activation: str
) -> None:
    settings = look(described(tmp_path, "XLMRobertaForSequenceClassification", **config), (one(columns),))
    assert settings is not None
    assert (settings["name"], settings["activation"]) == (task, activation)


@pytest.mark.parametrize(
    ("architecture", "outputs"),
    [
        (None, (LOGITS,)),
        ("BertForMaskedLM", (TAGS,)),
        ("BertModel", (HIDDEN,)),
        ("BertForSequenceClassification", (TAGS,)),
        ("BertForQuestionAnswering", (LOGITS,)),
        ("Wav2Vec2ForSequenceClassification", (LOGITS,)),
        ("ViTForImageClassification", (LOGITS,)),
    ],
)
def test_what_is_not_certain_is_no_task(tmp_path: Path, architecture: str | None, outputs: tuple[TensorSpec, ...]) -> None:
    config = {"model_type": "wav2vec2"} if architecture and "Wav" in architecture else {}
    assert look(described(tmp_path, architecture, **config), outputs) is None


def test_a_damaged_or_missing_config_is_no_task(tmp_path: Path) -> None:
    folder = described(tmp_path, "BertForSequenceClassification")
    assert look(folder, (LOGITS,), tokenized=False) is None
    (folder / "config.json").write_text("{")
    assert look(folder, (LOGITS,)) is None
    (folder / "config.json").write_text("[1]")
    assert look(folder, (LOGITS,)) is None
    (folder / "config.json").unlink()
    assert look(folder, (LOGITS,)) is None


def test_tokens_that_matter_are_the_tokenizers_own(tmp_path: Path) -> None:
    folder = described(tmp_path, "BertForTokenClassification", id2label={"0": "O", "1": "B-A", "2": "I-A"})
    assert look(folder, (TAGS,)) == {
        "name": "token-classification", "output": "logits", "labels": ["O", "B-A", "I-A"], "aggregation": "simple"
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps({"unk_token": {"content": "<u>"}, "cls_token": "<c>"}))
    task = look(folder, (TAGS,), serve={"aggregation": "max", "threshold": 0.5})
    assert task is not None
    assert {key: task[key] for key in ("unk_token", "cls_token", "aggregation", "threshold")} == {
        "unk_token": "<u>", "cls_token": "<c>", "aggregation": "max", "threshold": 0.5
    }  # fmt: skip


def test_questions_are_answered_from_two_outputs(tmp_path: Path) -> None:
    folder = described(tmp_path, "BertForQuestionAnswering")
    expected = {"name": "question-answering", "start": "start_logits", "end": "end_logits"}
    assert look(folder, SPAN) == expected
    assert look(folder, SPAN[::-1]) == expected
    task = look(folder, SPAN, serve={"task": "question-answering", "start_output": "end_logits", "end_output": "start_logits"})
    assert task == {"name": "question-answering", "start": "end_logits", "end": "start_logits"}


def two(start: str, end: str, sizes: tuple[int | str, int | str] = ("sequence", "sequence")) -> tuple[TensorSpec, ...]:
    rows = zip((end, start), sizes, strict=True)
    return (*(TensorSpec(name=name, dtype="float32", shape=("batch", size)) for name, size in rows),)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("unstack:0", "unstack:1"),  # BERT-Squad of the ONNX model zoo, whose first output is unstack:1
        ("bert/split_2:0", "bert/split_2:1"),
        ("output_start_logits", "output_end_logits"),
        ("StartLogits", "EndLogits"),
        ("logits_start", "logits_end"),
        ("start_logits:0", "end_logits"),
        ("qa/start_scores", "qa/end_scores"),
        ("begin", "stop"),
        ("START", "END"),
    ],
)
def test_names_say_which_output_is_the_start(tmp_path: Path, start: str, end: str) -> None:
    folder = described(tmp_path, "BertForQuestionAnswering")
    expected = {"name": "question-answering", "start": start, "end": end}
    for outputs in (two(start, end), two(start, end, ("a", "b")), two(start, end, (384, 384))[::-1]):
        assert look(folder, outputs) == expected
    other = TensorSpec(name="unique_ids:0", dtype="int64", shape=("batch",))
    assert look(folder, (*two(start, end), other)) == expected


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("output_0", "output_1"),
        ("Identity", "Identity_1"),  # Keras sorts its outputs: the end comes first
        ("unstack:1", "other:0"),
        ("unstack:0", "split:1"),
        ("start_probs", "end_probs"),
        ("start_top_log_probs", "end_top_log_probs"),
        ("start_logits", "end_positions"),
        ("start_end_logits", "end_start_logits"),
        ("logits", "1234"),
        ("restart", "legend"),
    ],
)
def test_names_that_leave_a_doubt_are_no_spans(tmp_path: Path, start: str, end: str) -> None:
    folder = described(tmp_path, "BertForQuestionAnswering")
    assert look(folder, two(start, end)) is None
    with pytest.raises(RecipeError, match=r"say serve\.start_output and serve\.end_output"):
        look(folder, two(start, end), serve={"task": "question-answering"})
    named = {"start_output": start, "end_output": end}
    assert look(folder, two(start, end), serve=named) == {"name": "question-answering", "start": start, "end": end}


def test_two_pairs_of_spans_leave_a_doubt(tmp_path: Path) -> None:
    folder = described(tmp_path, "BertForQuestionAnswering")
    assert look(folder, (*SPAN, *two("output_start", "output_end"))) is None
    assert look(folder, two("start_logits", "end_logits", (5, 25))) is None


def sentence_transformers(folder: Path, *modules: str) -> None:
    rows = [{"type": f"sentence_transformers.models.{name}", "path": f"1_{name}"} for name in modules]
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))


def test_vectors_are_pooled_as_sentence_transformers_says(tmp_path: Path) -> None:
    folder = described(tmp_path, "BertModel")
    sentence_transformers(folder, "Transformer", "Pooling", "Normalize")
    assert look(folder, (VECTOR,)) == {"name": "embeddings", "output": "sentence_embedding"}
    assert look(folder, (HIDDEN,)) == {"name": "embeddings", "output": "last_hidden_state", "pooling": "mean", "normalize": True}
    task = look(folder, (HIDDEN,), serve={"task": "embeddings", "pooling": "cls", "normalize": False})
    assert task == {"name": "embeddings", "output": "last_hidden_state", "pooling": "cls", "normalize": False}


def test_a_pooling_that_is_not_known_is_no_task(tmp_path: Path) -> None:
    folder = described(tmp_path, "BertModel")
    sentence_transformers(folder, "Transformer", "Pooling", "Dense")
    assert look(folder, (HIDDEN,)) is None


@pytest.mark.parametrize("place", ["model.onnx", "onnx/model.onnx"])
def test_files_beside_an_onnx_file_count(tmp_path: Path, place: str) -> None:
    described(tmp_path, "BertForSequenceClassification", id2label={"0": "a", "1": "b", "2": "c"})
    task = look(tmp_path / "model", (LOGITS,), source=Source(format="onnx", reference=f"model/{place}"))
    assert task is not None
    assert task["labels"] == ["a", "b", "c"]
    elsewhere = Source(format="onnx", reference=f"other/{place}")
    assert look(tmp_path / "model", (LOGITS,), source=elsewhere) is None
    assert look(tmp_path / "model", (LOGITS,), source=Source(format="torch", reference="a:b")) is None


def test_the_task_of_the_export_counts(tmp_path: Path) -> None:
    folder = described(tmp_path, "BertForPreTraining", num_labels=3)
    assert look(folder, (LOGITS,)) is None
    source = Source(format="huggingface", reference="model", task="sentiment-analysis")
    assert look(folder, (LOGITS,), source=source) is not None
    steps = (Step(name="export", config=SimpleNamespace(task="text-classification")),)
    assert look(folder, (LOGITS,), steps=steps) is not None


def test_hooks_or_none_leave_tensors(tmp_path: Path) -> None:
    folder = described(tmp_path, "BertForSequenceClassification", num_labels=3)
    assert look(folder, (LOGITS,), serve={"task": "none"}) is None
    assert look(folder, (LOGITS,), serve={"postprocess": "a:b"}) is None
    task = look(folder, (LOGITS,), serve={"postprocess": "a:b", "task": "text-classification"})
    assert task is not None


@pytest.mark.parametrize(
    ("serve", "outputs", "words"),
    [
        ({"task": "token-classification"}, (LOGITS,), "output of 3 axes"),
        ({"task": "text-classification", "output": "scores"}, (LOGITS,), "no output 'scores'"),
        ({"task": "text-classification", "labels": ("a", "b")}, (LOGITS,), "names 2 labels"),
        ({"task": "rerank"}, (LOGITS,), "one score a pair"),
        ({"task": "embeddings"}, (HIDDEN,), "output of 2 axes"),
        ({"task": "question-answering"}, (LOGITS,), "two outputs of 2 axes"),
        ({"start_output": "a", "end_output": "end_logits", "task": "question-answering"}, SPAN, "start_output: the model has no"),
        ({"start_output": "last_hidden_state", "end_output": "b", "task": "question-answering"}, (HIDDEN,), "it has none"),
        ({"labels": ("a",)}, (HIDDEN,), "serve.labels"),
    ],
)
def test_what_a_recipe_asks_in_vain_is_said(
    tmp_path: Path, serve: dict[str, Any], outputs: tuple[TensorSpec, ...], words: str
) -> None:
    folder = described(tmp_path, "BertModel")
    with pytest.raises(RecipeError, match=words):
        look(folder, outputs, serve=serve)


def test_a_task_that_is_asked_for_needs_a_tokenizer(tmp_path: Path) -> None:
    folder = described(tmp_path, "BertForSequenceClassification")
    with pytest.raises(RecipeError, match=r"serve\.tokenizer"):
        look(folder, (LOGITS,), serve={"task": "text-classification"}, tokenized=False)


@pytest.mark.parametrize(
    ("serve", "key", "words"),
    [
        ({"task": "text-clasification"}, "task", "text-classification"),
        ({"task": "embeddings", "labels": ("a",)}, "labels", "takes no labels"),
        ({"task": "none", "top_k": 2}, "top_k", "none of these keys"),
        ({"labels": ("a", "a")}, "labels", "twice"),
        ({"task": "question-answering", "output": "logits"}, "output", "takes no output"),
        ({"start_output": "a"}, "start_output", "together"),
        ({"end_output": "a"}, "end_output", "together"),
        ({"start_output": "a", "end_output": "a"}, "end_output", "two outputs"),
        ({"threshold": float("inf")}, "threshold", "finite"),
    ],
)
def test_keys_are_checked_before_anything_is_built(serve: dict[str, Any], key: str, words: str) -> None:
    ((where, problem),) = tasks.problems(Serve(**serve))
    assert where == key
    assert words in problem


def test_good_keys_have_no_problems() -> None:
    assert list(tasks.problems(Serve(task="text-classification", labels=("a", "b"), threshold=0.5))) == []
    assert list(tasks.problems(Serve(aggregation="first"))) == []


def test_a_pair_is_sent_as_the_tasks_clients_do() -> None:
    pair = {"text": "q", "text_pair": "c"}
    assert tasks.sample({"name": "question-answering"}, pair) == {"question": "q", "context": "c"}
    assert tasks.sample({"name": "rerank"}, pair) == {"query": "q", "documents": ["c"]}
    for name in ("text-classification", "rerank"):
        assert tasks.sample({"name": name}, {"text": "q"}) == {"text": "q"}
    assert tasks.sample(None, pair) == pair
    assert tasks.sample({"name": "text-classification"}, pair) == pair


def test_the_runtime_has_a_module_for_each_task() -> None:
    runtime = REPOSITORY / "src/mlpack_runtime"
    tree = ast.parse((runtime / "tasks/__init__.py").read_text("utf-8"))
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["NAMES"]
    )
    assert set(names) == set(tasks.TASKS)
    for name in names:
        assert (runtime / f"{tasks.module_of(name).replace('.', '/')}.py").is_file()
