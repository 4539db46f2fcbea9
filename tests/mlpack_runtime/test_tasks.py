"""Plain requests of packages with a task: their forms, their answers, and what is refused."""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.tiny_packages import package, tags, words

from mlpack_runtime import model, tasks
from mlpack_runtime.backend import open_backend
from mlpack_runtime.ort import Session
from mlpack_runtime.service import Service, open_service
from mlpack_runtime.serving.batched import Batched
from mlpack_runtime.serving.batcher import Batcher
from mlpack_runtime.serving.breaker import Breaker
from mlpack_runtime.serving.probe import probe
from mlpack_runtime.tasks.requests import top
from mlpack_runtime.tasks.scores import best

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOKENIZER = {"file": "tokenizer.json", "max_length": 6}
LABELS = ["O", "B-CAT", "I-CAT"]
FIVE = ["a", "b", "c", "d", "e"]
LIMITS = {"rows": 9, "text_chars": 60}
SETTINGS: dict[str, dict[str, Any]] = {
    "text-classification": {"output": "embedding", "labels": FIVE, "activation": "softmax"},
    "rerank": {"output": "embedding", "labels": FIVE, "activation": "sigmoid"},
    "embeddings": {"output": "embedding"},
    "token-classification": {"output": "logits", "labels": LABELS, "aggregation": "simple"},
    "question-answering": {"start": "start_logits", "end": "end_logits"},
}

Ask = "Callable[..., Any]"


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A package for each graph; its task is written into model.json by each test."""
    packages = {}
    for name, graph in (("words", words), ("tags", tags)):
        packages[name] = package(tmp_path_factory.mktemp(name), graph, tokenizer=TOKENIZER, limits=LIMITS)
    return packages


@pytest.fixture
def serving(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Service]:
    """A service with this task; further settings go before the usual ones."""

    def start(name: str, **more: Any) -> Service:
        root = roots["tags" if name in ("token-classification", "question-answering") else "words"]
        path = root / "model/model.json"
        described = json.loads(path.read_text())
        path.write_text(json.dumps({**described, "task": {"name": name, **SETTINGS.get(name, {}), **more}}))
        monkeypatch.setattr(model, "ROOT", str(root))
        return open_service()

    return start


def ask(service: Service, body: object, status: int = 200) -> Any:
    """The answer over HTTP, which has no trace id in it."""
    reply = service.http("POST", "/", {}, json.dumps(body).encode())
    assert reply.status == status, reply.body
    return json.loads(reply.body)


def near(answer: Any) -> Any:
    """The same with fewer digits: the engine adds up in another order where a batch has another shape."""
    if isinstance(answer, dict):
        return {key: near(each) for key, each in answer.items()}
    if isinstance(answer, list):
        return [near(each) for each in answer]
    return pytest.approx(answer, abs=1e-5) if isinstance(answer, float) else answer


def message(answer: dict[str, Any]) -> str:
    return str(answer["error"])


def test_the_modules_are_those_of_the_table() -> None:
    pictures = {"image-classification", "object-detection"}  # test_picture_tasks
    sounds = {"audio-classification", "automatic-speech-recognition"}  # test_sounds
    assert set(SETTINGS) | pictures | sounds == set(tasks.NAMES)


def test_a_text_has_labels_the_best_first(serving: Callable[..., Service]) -> None:
    answer = ask(serving("text-classification"), {"text": "a cat sat"})
    assert answer["label"] == answer["labels"][0]["label"] == "e"
    assert sum(each["score"] for each in answer["labels"]) == pytest.approx(1, abs=1e-6)
    assert [each["label"] for each in answer["labels"]] == FIVE[::-1]


def test_forms_of_one_request_have_one_answer(serving: Callable[..., Service]) -> None:
    service = serving("text-classification")
    one = ask(service, {"text": "a cat"})
    assert ask(service, {"texts": ["a cat", "dogs"]})["results"][0] == one
    assert ask(service, {"inputs": "a cat"}) == [one["labels"]]
    assert ask(service, {"inputs": ["a cat", "dogs"]})[0] == one["labels"]
    assert ask(service, {"inputs": {"text": "a cat"}}) == [one["labels"]]
    pair = ask(service, {"text": "a cat", "text_pair": "the dog"})
    assert ask(service, {"premise": "a cat", "hypothesis": "the dog"}) == pair
    assert ask(service, {"inputs": [{"text": "a cat", "text_pair": "the dog"}]}) == [pair["labels"]]
    assert ask(service, {"texts": [["a cat", "the dog"]]})["results"] == [pair]


def test_parameters_stand_beside_or_inside(serving: Callable[..., Service]) -> None:
    service = serving("text-classification", top_k=3)
    assert len(ask(service, {"text": "a"})["labels"]) == 3
    for body in ({"top_k": 2}, {"parameters": {"top_k": 2}}, {"parameters": {"top_k": 2, "threshold": None}}):
        assert len(ask(service, {"text": "a", **body})["labels"]) == 2
    for every in (None, "all"):
        assert len(ask(service, {"text": "a", "top_k": every})["labels"]) == 5
    none = ask(service, {"text": "a", "threshold": 2})
    assert none == {"label": None, "score": None, "labels": []}
    raw = ask(service, {"text": "a", "parameters": {"function_to_apply": "none"}})
    assert raw["score"] > 1


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"text": "a", "top_k": 0}, "top_k"),
        ({"text": "a", "top_k": True}, "top_k"),
        ({"text": "a", "threshold": "high"}, "threshold"),
        ({"text": "a", "activation": "relu"}, "softmax"),
        ({"text": "a", "parameters": [1]}, "parameters"),
        ({"text": "a", "parameters": {"temperature": 1}}, "temperature"),
        ({"text": "a", "more": 1}, "more"),
        ({"text": 1}, "string"),
        ({"texts": []}, "at least one"),
        ({"inputs": [1]}, "string"),
        ({"inputs": [{"text": "a"}, {"words": "b"}]}, "string"),
        ({"premise": "a"}, "premise"),
        ({}, "no keys"),
    ],
)
def test_what_is_no_request_is_refused_in_words(serving: Callable[..., Service], body: Any, word: str) -> None:
    assert word in message(ask(serving("text-classification"), body, 400))


def test_protocol_and_tensors_are_answered_with_tensors(serving: Callable[..., Service]) -> None:
    service = serving("text-classification")
    request = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a cat"]}]}
    assert ask(service, request)["outputs"][0]["name"] == "embedding"
    tensors = {"inputs": {"input_ids": [[2, 4, 3]], "attention_mask": [[1, 1, 1]]}}
    assert ask(service, tensors)["outputs"][0]["shape"] == [1, 5]


def test_a_direct_answer_carries_the_trace_id(serving: Callable[..., Service]) -> None:
    service = serving("text-classification")
    assert json.loads(service.value({"text": "a"}).body)["trace_id"]
    assert type(json.loads(service.value({"inputs": "a"}).body)) is list


def test_limits_hold_for_documents_and_windows(serving: Callable[..., Service]) -> None:
    assert "rows" in message(ask(serving("rerank"), {"query": "a", "documents": ["cat"] * 10}, 413)).lower()
    repeated = {"query": "cat " * 3, "documents": ["cat"] * 6}
    assert "once for each document" in message(ask(serving("rerank"), repeated, 413))
    service = serving("token-classification")
    assert "text_chars" in message(ask(service, {"texts": ["a" * 40, "b" * 40]}, 413)).lower()
    assert "rows" in message(ask(service, {"text": " ".join("a" * 30), "stride": 3}, 413)).lower()


def test_documents_come_in_their_order(serving: Callable[..., Service]) -> None:
    service = serving("rerank")
    documents = ["a", "the mat sat", {"text": "dog on"}]
    results = ask(service, {"query": "cat", "documents": documents, "model": "any"})["results"]
    assert sorted(each["index"] for each in results) == [0, 1, 2]
    scores = [each["relevance_score"] for each in results]
    assert scores == sorted(scores, reverse=True)
    top = ask(service, {"query": "cat", "documents": documents, "top_n": 1, "return_documents": True})["results"]
    assert top == [{**results[0], "document": {"text": (["a", "the mat sat", "dog on"])[results[0]["index"]]}}]
    assert ask(service, {"query": "cat", "texts": ["a", "dog"], "raw_scores": True})[0]["score"] > 1
    assert ask(service, {"query": "cat", "documents": [{"id": 1, "text": "dog"}]})["results"][0]["index"] == 0
    assert "document 1" in message(ask(service, {"query": "cat", "documents": ["a", 7]}, 400))
    assert ask(service, {"text": "a", "text_pair": "b"})["label"] == "e"


def test_paths_of_other_services_lead_to_the_task(serving: Callable[..., Service]) -> None:
    service = serving("rerank")
    body = json.dumps({"query": "cat", "documents": ["a"], "top_n": 1}).encode()
    for path in ("/v1/rerank", "/v2/rerank", "/prod/v2/rerank"):
        assert json.loads(service.http("POST", path, {}, body).body)["results"][0]["index"] == 0
    assert service.http("GET", "/v2/rerank", {}, b"").status == 404
    vectors = serving("embeddings").http("POST", "/v1/embeddings", {}, b'{"input": "a"}')
    assert json.loads(vectors.body)["object"] == "list"


def test_vectors_have_the_form_of_openai(serving: Callable[..., Service]) -> None:
    service = serving("embeddings")
    plain = ask(service, {"texts": ["a cat", "dogs"]})["outputs"][0]
    answer = ask(service, {"input": ["a cat", "dogs"], "model": "x", "user": "y"})
    assert (answer["object"], answer["model"]) == ("list", "tiny")
    assert [each["index"] for each in answer["data"]] == [0, 1]
    vectors = [value for each in answer["data"] for value in each["embedding"]]
    assert vectors == pytest.approx(plain["data"])
    assert answer["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
    encoded = ask(service, {"input": "a cat", "encoding_format": "base64"})["data"][0]["embedding"]
    assert struct.unpack("<5f", base64.b64decode(encoded)) == pytest.approx(plain["data"][:5])
    assert ask(service, {"inputs": "a cat"}) == [pytest.approx(plain["data"][:5])]
    assert ask(service, {"input": "a", "dimensions": 5})["data"]
    assert "dimensions" in message(ask(service, {"input": "a", "dimensions": 2}, 400))
    for tokens in ([1, 2], [[1, 2]]):
        assert "tokens" in message(ask(service, {"input": tokens}, 400))


def test_vectors_of_tokens_are_pooled(serving: Callable[..., Service], roots: dict[str, Path]) -> None:
    service = serving("token-classification")
    raw = ask(service, {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["cat", "the dog sat"]}]})
    logits = next(each for each in raw["outputs"] if each["name"] == "logits")["data"]
    path = roots["tags"] / "model/model.json"
    described = json.loads(path.read_text())

    def pooled(**settings: Any) -> Any:
        path.write_text(json.dumps({**described, "task": {"name": "embeddings", "output": "logits", **settings}}))
        return ask(open_service(), {"inputs": ["cat", "the dog sat"]})

    first = logits[:9]  # [CLS] cat [SEP], and padding behind
    means = [sum(first[at::3]) / 3 for at in range(3)]
    assert pooled(pooling="mean")[0] == pytest.approx(means)
    assert pooled(pooling="cls")[0] == pytest.approx(first[:3])
    assert sum(value**2 for value in pooled(pooling="mean", normalize=True)[0]) == pytest.approx(1)


def test_entities_have_places_in_the_text(serving: Callable[..., Service]) -> None:
    service = serving("token-classification", aggregation="none")
    text = "the cats sat"
    entities = ask(service, {"text": text, "ignore_labels": []})["entities"]
    assert [text[each["start"] : each["end"]] for each in entities] == ["the", "cat", "s", "sat"]
    assert [each["index"] for each in entities] == [1, 2, 3, 4]
    assert ask(service, {"texts": [text], "ignore_labels": []})["results"] == [{"entities": entities}]
    assert ask(service, {"inputs": text, "parameters": {"ignore_labels": []}}) == entities
    assert ask(service, {"inputs": [text], "parameters": {"ignore_labels": []}}) == [entities]
    merged = ask(service, {"text": text, "ignore_labels": [], "aggregation": "first"})["entities"]
    assert {"entity_group", "score", "word", "start", "end"} == merged[0].keys()
    assert merged[0]["start"] == 0
    assert merged[-1]["end"] == len(text)
    assert ask(service, {"text": "", "ignore_labels": []}) == {"entities": []}
    assert len(ask(service, {"text": text, "ignore_labels": [], "top_k": 2})["entities"]) == 2
    assert ask(service, {"text": text, "ignore_labels": [], "threshold": 1.1})["entities"] == []
    assert "pairs" in message(ask(service, {"texts": [["a", "b"]]}, 400))
    for odd in ({"text": ["a"]}, {"texts": "a"}, {"inputs": {}}, {"texts": ["a", None]}):
        assert "string" in message(ask(service, odd, 400))


def test_a_long_text_is_read_to_its_end(serving: Callable[..., Service]) -> None:
    service = serving("token-classification", aggregation="none")
    text = "the cat sat on a mat the dog"
    entities = ask(service, {"text": text, "ignore_labels": [], "stride": 1})["entities"]
    assert [text[each["start"] : each["end"]] for each in entities] == text.split()


def test_all_is_all_and_null_is_as_if_left_out(serving: Callable[..., Service]) -> None:
    """For labels, entities and documents null is all, as in transformers; for answers it is nothing said."""
    assert best([0.0] * 5000, top("top_k", "all")) == list(range(5000))
    for every in (None, "all"):
        results = ask(serving("rerank"), {"query": "cat", "documents": ["a"] * 9, "top_k": every})["results"]
        assert len(results) == 9
    service = serving("question-answering")
    body = {"question": "dog", "context": "the cat sat"}
    assert ask(service, {**body, "top_k": None}) == ask(service, body)


def test_an_answer_is_a_place_in_the_context(serving: Callable[..., Service]) -> None:
    service = serving("question-answering")
    context = "the cat sat"
    answer = ask(service, {"question": "dog", "context": context, "top_k": 3})
    assert context[answer["start"] : answer["end"]] == answer["answer"]
    assert [each["score"] for each in answer["answers"]] == sorted((each["score"] for each in answer["answers"]), reverse=True)
    assert ask(service, {"text": "dog", "text_pair": context, "top_k": 3}) == answer
    assert ask(service, {"inputs": {"question": "dog", "context": context}}) == answer["answers"][0]
    assert ask(service, {"inputs": [{"question": "dog", "context": context}]}) == [answer["answers"][0]]
    empty = ask(service, {"question": "dog", "context": "", "top_k": 1})
    assert (empty["answer"], empty["answers"]) == (None, [])
    assert ask(service, {"question": "dog", "context": "", "handle_impossible_answer": True})["answer"] == ""
    assert "question" in message(ask(service, {"inputs": ["who?"]}, 400))
    assert "shorten" in message(ask(service, {"question": "a cat sat on", "context": "the mat " * 5}, 400))


QUESTIONS: dict[str, dict[str, Any]] = {
    "text-classification": {"texts": ["a cat", "the dog sat on a mat", ""]},
    "rerank": {"query": "cat", "documents": ["a", "the mat sat on"]},
    "embeddings": {"input": ["a cat", "the dog sat"]},
    "token-classification": {"texts": ["the cat sat on a mat the dog", "", "cats"], "ignore_labels": []},
    "question-answering": {"question": "dog", "context": "the cat sat on a mat"},
}


@pytest.mark.parametrize("name", list(QUESTIONS))
def test_a_worker_answers_as_a_function_does(serving: Callable[..., Service], name: str) -> None:
    expected = ask(serving(name), QUESTIONS[name])
    loaded = model.load(lambda place, settings: open_backend(place, settings, lambda _: None))
    assert not isinstance(loaded.session, Session)
    probed = probe(loaded, loaded.session)
    assert probed.layout.batched
    batcher = Batcher(loaded.session, probed.layout, max_batch=2, max_wait_s=0.0, breaker=Breaker(5, 1.0), sample=probed.sample)
    batcher.hold_to(loaded.limits)
    batcher.start()
    try:
        assert ask(Service(loaded, Batched(loaded, batcher)), QUESTIONS[name]) == near(expected)
    finally:
        batcher.stop()
        loaded.session.close()


def test_a_model_that_pads_on_the_left_answers_the_same(serving: Callable[..., Service], roots: dict[str, Path]) -> None:
    path = roots["tags"] / "model/tokenizer.json"
    whole = path.read_text()
    texts = ["the cat sat on a mat the dog", "cats", ""]
    pairs = [{"question": "a", "context": "the cat sat"}, {"question": "a cat", "context": "dog"}]
    try:
        tokenizer = json.loads(whole)
        tokenizer["padding"] = {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0,
                                "pad_type_id": 0, "pad_token": "[PAD]"}  # fmt: skip
        path.write_text(json.dumps(tokenizer))
        service = serving("token-classification")
        alone = [ask(service, {"text": text, "ignore_labels": []}) for text in texts]
        assert ask(service, {"texts": texts, "ignore_labels": []})["results"] == alone
        service = serving("question-answering")
        alone = [ask(service, {"inputs": pair}) for pair in pairs]
        assert ask(service, {"inputs": pairs}) == alone
        assert all(pair["context"][one["start"] : one["end"]] == one["answer"] for pair, one in zip(pairs, alone, strict=True))
    finally:
        path.write_text(whole)


def test_a_call_beyond_one_run_is_answered_in_portions(serving: Callable[..., Service], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {name: ask(serving(name), body) for name, body in QUESTIONS.items()}
    monkeypatch.setenv("MLPACK_LIMIT_ENGINE_TOKENS", "7")
    for name, body in QUESTIONS.items():
        assert ask(serving(name), body) == near(expected[name])


@pytest.mark.parametrize("task", [{"name": "divination"}, {"name": "text-classification", "output": "scores"}])
def test_a_task_that_is_not_the_models_stops_the_start(
    serving: Callable[..., Service], roots: dict[str, Path], task: dict[str, Any]
) -> None:
    serving("embeddings")
    path = roots["words"] / "model/model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "task": task}))
    with pytest.raises(model.ModelError, match="task"):
        open_service()


def test_hooks_go_before_the_task(roots: dict[str, Path], serving: Callable[..., Service], monkeypatch: pytest.MonkeyPatch) -> None:
    serving("text-classification")
    root = roots["words"]
    (root / "app/task_hooks.py").write_text(
        "def clean(body):\n    return {'text': body['raw'].strip()}\ndef names(outputs):\n    return sorted(outputs)\n"
    )
    monkeypatch.syspath_prepend(str(root / "app"))
    path = root / "model/model.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps({**described, "preprocess": "task_hooks:clean"}))
    assert ask(open_service(), {"raw": " a cat "})["label"] == "e"
    path.write_text(json.dumps({**described, "postprocess": "task_hooks:names"}))
    assert ask(open_service(), {"text": "a cat"}) == ["embedding"]
    path.write_text(json.dumps(described))
