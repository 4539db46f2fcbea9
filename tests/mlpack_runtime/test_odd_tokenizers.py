"""Tokenizers that give no tokens, or panic, and hooks that end the process: each request has an answer, and the next one too."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.tiny_packages import affine, package, tags, words

from mlpack_runtime import model
from mlpack_runtime.backend import open_backend
from mlpack_runtime.ort import Session
from mlpack_runtime.service import Service, open_service
from mlpack_runtime.serving.batched import Batched
from mlpack_runtime.serving.batcher import Batcher
from mlpack_runtime.serving.breaker import Breaker
from mlpack_runtime.serving.probe import probe

SPAN = {"name": "question-answering", "start": "start_logits", "end": "end_logits"}
TASKS = [
    None,
    {"name": "text-classification", "output": "embedding", "labels": ["a", "b", "c", "d", "e"], "activation": "softmax"},
    {"name": "embeddings", "output": "embedding"},
    {"name": "token-classification", "output": "logits", "labels": ["O", "B-CAT", "I-CAT"], "aggregation": "simple"},
    SPAN,
]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Service]:
    """A service whose tokenizer.json is changed by `change` before it starts."""

    def start(change: Callable[[dict[str, Any]], None], task: dict[str, Any] | None = None, **more: Any) -> Service:
        graph = tags if task and task["name"] in ("token-classification", "question-answering") else words
        place, settings = tmp_path / f"package-{len(list(tmp_path.iterdir()))}", {"task": task} if task else {}
        root = package(place, graph, tokenizer={"file": "tokenizer.json", **more}, **settings)
        path = root / "model/tokenizer.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))
        monkeypatch.setattr(model, "ROOT", str(root))
        return open_service()

    return start


def ask(service: Service, body: object) -> tuple[int, Any]:
    reply = service.http("POST", "/", {}, json.dumps(body).encode())
    return reply.status, json.loads(reply.body)


def bare(document: dict[str, Any]) -> None:
    """Without special tokens."""
    document["post_processor"] = None


def silent(document: dict[str, Any]) -> None:
    """Nor any for words that it lacks, among them those of the texts that a graph is tried with."""
    bare(document)
    words = {word: at for at, word in enumerate(["[PAD]", "x", "y"])}
    document["model"] = {"type": "BPE", "vocab": words, "merges": [], "unk_token": None, "dropout": None, "fuse_unk": False}


def panics(document: dict[str, Any]) -> None:
    """Rust's library asserts this for each text that is too long."""
    document["truncation"] = {"max_length": 6, "stride": 9, "strategy": "LongestFirst", "direction": "Right"}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task["name"] if task else "tensors")
def test_text_without_tokens_is_refused_with_its_reason(opened: Callable[..., Service], task: dict[str, Any] | None) -> None:
    service = opened(bare, task)
    for text in ("", " ", "\t\n"):
        body = {"question": text, "context": text} if task == SPAN else {"inputs": text} if task else {"text": text}
        status, answer = ask(service, body)
        assert (status, "a text has no tokens" in answer["error"]) == (400, True), answer
    if task != SPAN:
        key = "inputs" if task else "texts"
        assert ask(service, {key: ["the cat", "", "a dog"]})[0] == 400
        assert ask(service, {key: ["the cat", "a dog"]})[0] == 200
    else:
        for question, context in (("cat", "the cat sat"), ("", "the cat"), ("cat", "")):
            assert ask(service, {"question": question, "context": context})[0] == 200


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    ("change", "good", "odd", "status", "words_"),
    [
        (silent, "x y", "warm", 400, "a text has no tokens"),
        (panics, "cat", "the cat sat on the mat", 500, "the tokenizer's library panics"),
    ],
    ids=["silent", "panics"],
)
def test_tokenizer_that_fails_at_trial_texts_serves(
    opened: Callable[..., Service], batched: bool, change: Callable[..., None], good: str, odd: str, status: int, words_: str
) -> None:
    """What the graph is tried with before a start is ours, and no reason not to start."""
    service = opened(change)
    service.model.warm()
    if not batched:
        assert [ask(service, {"text": text})[0] for text in (good, odd)] == [200, status]
        service.model.limits.engine_tokens = 2
        assert ask(service, {"texts": [good, good]})[0] == 413
        return
    loaded = model.load(lambda place, settings: open_backend(place, settings, lambda _: None))
    assert not isinstance(loaded.session, Session)
    probed = probe(loaded, loaded.session)
    assert words_ in probed.why
    batcher = Batcher(loaded.session, probed.layout, max_batch=2, max_wait_s=0.0, breaker=Breaker(5, 1.0), sample=probed.sample)
    batcher.hold_to(loaded.limits)
    batcher.start()
    try:
        service = Service(loaded, Batched(loaded, batcher))
        assert [ask(service, {"text": text})[0] for text in (good, odd)] == [200, status]
    finally:
        batcher.stop()


def cut_on_the_left(document: dict[str, Any]) -> None:
    document["truncation"] = {"max_length": 9, "stride": 0, "strategy": "LongestFirst", "direction": "Left"}


def test_text_that_is_cut_on_the_left_keeps_its_end(opened: Callable[..., Service]) -> None:
    service = opened(cut_on_the_left, {**TASKS[1], "top_k": 5}, max_length=4)  # type: ignore[dict-item]
    long, end, begin = (ask(service, {"text": text}) for text in ("the dog sat on a mat", "a mat", "the dog"))
    assert long == end
    assert long != begin


@pytest.mark.parametrize("task", TASKS[3:], ids=lambda task: task["name"])
def test_windows_are_the_same_whichever_side_texts_are_cut_on(opened: Callable[..., Service], task: dict[str, Any]) -> None:
    """They hold the whole text, in its order."""
    body: dict[str, Any] = {"text": "the cats sat on a mat the dog sat on the cats", "ignore_labels": [], "stride": 1}
    if task == SPAN:
        body = {"question": "dog", "context": body["text"], "top_k": 9, "doc_stride": 1, "max_seq_len": 8}
    answers = [ask(opened(change, task, max_length=7), body) for change in (lambda _: None, cut_on_the_left)]
    assert answers[0][0] == 200
    assert answers[0] == answers[1]


def test_panic_of_the_tokenizer_is_an_answer(opened: Callable[..., Service], capfd: pytest.CaptureFixture[str]) -> None:
    service = opened(panics, TASKS[1])
    long = {"text": "the cat sat on the mat"}
    for answered in (
        lambda body: service.http("POST", "/", {}, json.dumps(body).encode(), "r-1"),
        lambda body: service.value(body, "r-1"),
        lambda body: service.message({}, json.dumps(body).encode(), "r-1", {}),
    ):
        capfd.readouterr()
        reply = answered(long)
        assert reply.status == 500
        assert json.loads(reply.body)["error_type"] == "PanicException"
        (line,) = (json.loads(line) for line in capfd.readouterr().out.splitlines())
        assert (line["request_id"], line["status"], "stride" in line["error_message"]) == ("r-1", 500, True)
        assert "encode" in line["traceback"]
        assert answered({"text": "cat"}).status == 200  # the process goes on


@pytest.mark.parametrize("what", ["sys.exit(3)", "raise GeneratorExit", "__import__('asyncio').run(ended())"])
def test_hook_that_would_end_the_process_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    root = package(tmp_path / "hooked", affine, preprocess="ending_hooks:read")
    lines = [
        "import asyncio, sys",
        "async def ended():",
        "    raise asyncio.CancelledError",
        "def read(body):",
        "    if body.get('end'):",
        f"        {what}",
        "    return {'pixels': [[1, 1, 1, 1]], 'marks': [2]}",
    ]
    (root / "app/ending_hooks.py").write_text("\n".join(lines))
    monkeypatch.setattr(model, "ROOT", str(root))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "ending_hooks", raising=False)
    service = open_service()
    assert [ask(service, {"end": end})[0] for end in (True, False)] == [500, 200]


def test_keyboard_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "ROOT", str(package(tmp_path / "plain", affine)))
    service = open_service()

    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    service._predict = interrupted
    with pytest.raises(KeyboardInterrupt):
        service.value({"inputs": {"pixels": [[1, 1, 1, 1]], "marks": [2]}})
