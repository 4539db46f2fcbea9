"""Packages of models with a task, through whole builds, against transformers' own pipelines on a hundred samples each."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.support.models.task_models import LENGTH, saved, sentences
from tools import tryout

from mlpack.errors import ExitCode
from mlpack.store.local import Store
from mlpack.targets.shipped import unpack
from mlpack_runtime import model
from mlpack_runtime.service import Service, open_service

SAMPLES = 100
ENTITIES = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "LOC"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def built(folder: Path, store: Store, rows: Sequence[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, *more: str) -> Service:
    """The float package of the model in `folder`, which was booted with its sample, as a service. `more`: lines of the recipe."""
    (folder / "eval.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = () if any(line.startswith("source:") for line in more) else ("source: {huggingface: model}",)
    recipe = ["name: tried", *source, "data: {evaluation: eval.jsonl}", "variants: {fp32: []}", *more]
    (folder / "recipe.yaml").write_text("\n".join([*recipe, "targets: {lambda-zip: {}}"]))
    tried = tryout.try_out(folder / "recipe.yaml", store)
    assert tried.code == ExitCode.OK, tried.error
    (package,) = (folder / "out-recipe/artifacts").iterdir()
    monkeypatch.setattr(model, "ROOT", str(unpack(package, folder / "unpacked")))
    return open_service()


def ask(service: Service, body: dict[str, Any]) -> Any:
    reply = service.http("POST", "/", {}, json.dumps(body).encode())
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def pipeline(task: str, model_: Any, tokenizer: Any) -> Any:
    return transformers.pipeline(task, model=model_, tokenizer=tokenizer, device="cpu")


def check(got: Any, wanted: Any, where: object) -> None:
    """Equal: numbers within 1e-4, everything else to the letter."""
    if isinstance(wanted, dict):
        assert got.keys() == wanted.keys(), where
        for key in wanted:
            check(got[key], wanted[key], (where, key))
    elif isinstance(wanted, list):
        assert len(got) == len(wanted), where
        for one, other in zip(got, wanted, strict=True):
            check(one, other, where)
    elif isinstance(wanted, float | np.floating):
        assert got == pytest.approx(float(wanted), abs=1e-4), where
    else:
        assert got == wanted, where


def test_texts_and_pairs_have_the_labels_of_a_pipeline(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"id2label": {0: "entailment", 1: "neutral", 2: "contradiction"}}
    loaded, tokenizer = saved(tmp_path / "model", "XLMRobertaForSequenceClassification", "pieces", **names)
    texts = [text for text in sentences(2 * SAMPLES, 8) if len(tokenizer(text)["input_ids"]) < 30]
    service = built(tmp_path, store, [{"text": text} for text in texts[:4]], monkeypatch)
    expected = pipeline("text-classification", loaded, tokenizer)
    for text in texts[:SAMPLES]:
        check(ask(service, {"text": text})["labels"], expected(text, top_k=None), text)
    for first, second in pairwise(texts[: SAMPLES + 1]):
        pair = {"text": first, "text_pair": second}
        check(ask(service, {"inputs": pair})[0], expected(pair, top_k=None), pair)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("several", {"problem_type": "multi_label_classification", "num_labels": 4}),
        ("numbers", {"problem_type": "regression", "num_labels": 3}),
    ],
)
def test_several_labels_and_regression_are_a_pipelines(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, kind: str, config: dict[str, Any]
) -> None:
    loaded, tokenizer = saved(tmp_path / "model", "RobertaForSequenceClassification", "bytes-plain", **config)
    texts = [text for text in sentences(2 * SAMPLES, 8) if len(tokenizer(text)["input_ids"]) < LENGTH][:SAMPLES]
    service = built(tmp_path, store, [{"text": text} for text in texts[:4]], monkeypatch)
    expected = pipeline("text-classification", loaded, tokenizer)
    for text in texts:
        wanted = expected(text, top_k=None)
        check(ask(service, {"text": text})["labels"], wanted, text)
        check(ask(service, {"inputs": text, "parameters": {"top_k": None}})[0], wanted, text)
    scores = [row["score"] for row in ask(service, {"text": texts[0]})["labels"]]
    if kind == "several":
        assert sum(scores) != pytest.approx(1)  # of each label by itself
        for how in ("softmax", "none"):
            wanted = expected(texts[0], top_k=None, function_to_apply=how)
            check(ask(service, {"inputs": texts[0], "parameters": {"function_to_apply": how}})[0], wanted, how)
    else:
        assert not all(0 <= score <= 1 for score in scores)


def test_a_cross_encoder_orders_documents(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, tokenizer = saved(tmp_path / "model", "BertForSequenceClassification", "words", num_labels=1)
    rows = [{"text": "London", "text_pair": text} for text in sentences(4, 6)]
    service = built(tmp_path, store, rows, monkeypatch)
    documents = list(sentences(SAMPLES, 20, seed=3))
    with torch.inference_mode():
        inputs = tokenizer(["paris"] * SAMPLES, documents, truncation=True, padding=True, return_tensors="pt")
        scores = torch.sigmoid(loaded(**inputs).logits)[:, 0].tolist()
    results = ask(service, {"query": "paris", "documents": documents})["results"]
    for row in results:
        check(row["relevance_score"], scores[row["index"]], documents[row["index"]])
    assert [row["relevance_score"] for row in results] == sorted((row["relevance_score"] for row in results), reverse=True)
    assert {row["index"] for row in results} == set(range(SAMPLES))


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("BertForTokenClassification", "words"),
        ("RobertaForTokenClassification", "bytes"),
        ("RobertaForTokenClassification", "bytes-plain"),
    ],
)
def test_entities_are_those_of_a_pipeline(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, architecture: str, kind: str
) -> None:
    loaded, tokenizer = saved(tmp_path / "model", architecture, kind, id2label=ENTITIES)
    texts = [text for text in sentences(2 * SAMPLES, 7) if len(tokenizer(text)["input_ids"]) < 64][:SAMPLES]
    rows = [{"text": text, "label": [-100] + [1] * (len(tokenizer(text)["input_ids"]) - 2) + [-100]} for text in texts[:4]]
    service = built(tmp_path, store, rows, monkeypatch, "serve: {aggregation: none}")
    expected = pipeline("token-classification", loaded, tokenizer)
    for how in ("none", "simple", "first", "average", "max"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a byte-level tokenizer knows no words, which is as true here
            wanted = [expected(text, aggregation_strategy=how, ignore_labels=[]) for text in texts]
        parameters = {"aggregation_strategy": how, "ignore_labels": []}
        check(ask(service, {"inputs": texts, "parameters": parameters}), wanted, how)
    # With a prefix space, the library leaves the space before a window's first token in its place, so that its entity is longer,
    # and of two that overlap another one counts.
    for text in sentences(SAMPLES // 4, 60, seed=4) if kind != "bytes" else ():
        wanted = expected(text, aggregation_strategy="simple", stride=16)
        check(ask(service, {"inputs": text, "parameters": {"aggregation": "simple", "stride": 16}}), wanted, text)
    assert "entity" in ask(service, {"text": "London", "ignore_labels": []})["entities"][0]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # transformers' own, of its masks
@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("BertForQuestionAnswering", "words"),
        ("RobertaForQuestionAnswering", "bytes-plain"),
    ],
)
def test_answers_are_the_spans_of_a_pipeline(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, architecture: str, kind: str
) -> None:
    loaded, tokenizer = saved(tmp_path / "model", architecture, kind)
    questions, contexts = list(sentences(SAMPLES, 3, seed=5)), list(sentences(SAMPLES, 40, seed=6))
    rows = [{"text": question, "text_pair": context} for question, context in zip(questions[:4], contexts, strict=False)]
    service = built(tmp_path, store, rows, monkeypatch)
    expected = pipeline("question-answering", loaded, tokenizer)
    for at, (question, context) in enumerate(zip(questions, contexts, strict=True)):
        parameters: dict[str, Any] = [{}, {"top_k": 3}, {"handle_impossible_answer": True}, {"align_to_words": False}][at % 4]
        asked = {"question": question, "context": context}
        check(ask(service, {"inputs": asked, "parameters": parameters}), expected(**asked, **parameters), asked)


def exported(loaded: Any, folder: Path) -> None:
    """The bare model as hubs have it: onnx/model.onnx with a vector for each token."""
    (folder / "onnx").mkdir()
    axes = {0: "batch", 1: "sequence"}
    names = ["input_ids", "attention_mask"]

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = loaded

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own age
        torch.onnx.export(
            Hidden().eval(), (torch.ones(2, 7, dtype=torch.int64), torch.ones(2, 7, dtype=torch.int64)),
            str(folder / "onnx/model.onnx"), input_names=names, output_names=["last_hidden_state"], dynamo=False,
            dynamic_axes=dict.fromkeys((*names, "last_hidden_state"), axes),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("form", "mode", "side"), [("huggingface", "mean", "right"), ("onnx", "mean", "right"), ("huggingface", "cls", "left")]
)
def test_vectors_are_pooled_and_of_length_one(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, form: str, mode: str, side: str
) -> None:
    loaded, tokenizer = saved(tmp_path / "model", "BertModel", "words")
    tokenizer.padding_side = side
    if side == "left":
        tokenizer(["a", "b c"], padding=True)  # so that tokenizer.json says it
        tokenizer.save_pretrained(tmp_path / "model")
    names = ("Transformer", "Pooling", "Normalize")
    modules = [{"type": f"sentence_transformers.models.{name}", "path": f"1_{name}"} for name in names]
    (tmp_path / "model/modules.json").write_text(json.dumps(modules))
    (tmp_path / "model/1_Pooling").mkdir()
    (tmp_path / "model/1_Pooling/config.json").write_text(json.dumps({f"pooling_mode_{mode}_token{'s' * (mode == 'mean')}": True}))
    more: tuple[str, ...] = ()
    if form == "onnx":
        exported(loaded, tmp_path / "model")
        more = ("source: {onnx: model/onnx/model.onnx}", "serve: {tokenizer: model/tokenizer.json, max_length: 64}")
    texts = list(sentences(SAMPLES, 40, seed=7))
    service = built(tmp_path, store, [{"text": text} for text in texts[:4]], monkeypatch, *more)
    inputs = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden, mask = loaded(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
        first = hidden[torch.arange(SAMPLES), inputs["attention_mask"].argmax(1)]  # where padding goes before it, not token 0
        wanted = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1) if mode == "mean" else first, dim=1)
    answer = ask(service, {"input": texts, "model": "any"})
    got = np.array([row["embedding"] for row in answer["data"]])
    assert np.abs(got - wanted.numpy()).max() < 1e-4
    assert answer["usage"]["prompt_tokens"] == int(inputs["attention_mask"].sum())
    assert ask(service, {"text": texts[0]})["outputs"]
