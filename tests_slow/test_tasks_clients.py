"""Hugging Face's own client against packages with a task, over a worker's HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import InferenceClient
from tests.support.runtime import pictures, sounds
from tests.support.runtime.tiny_packages import package, tags, words

from mlpack_runtime import model
from mlpack_runtime.service import open_service
from mlpack_runtime.serving.health import Server

TOKENIZER = {"file": "tokenizer.json", "max_length": 16}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., InferenceClient]]:
    """A client of a package with this graph and task."""
    servers: list[Server] = []

    def start(graph: Callable[[Path], Path], **task: Any) -> InferenceClient:
        folder = tmp_path / task["name"]
        root = (
            sounds.hearing(folder, task["name"])
            if graph is sounds.frames
            else package(folder, graph, tokenizer=None if "image" in task else TOKENIZER, task=task)
        )
        monkeypatch.setattr(model, "ROOT", str(root))
        server = Server(0, lambda: "", "127.0.0.1")
        server.service = open_service()
        server.start()
        servers.append(server)
        return InferenceClient(model=f"http://127.0.0.1:{server.port}")

    yield start
    for server in servers:
        server.stop(1.0)


def test_texts_are_classified(client: Callable[..., InferenceClient]) -> None:
    asked = client(words, name="text-classification", output="embedding", labels=list("abcde"), activation="softmax")
    labels = asked.text_classification("a cat")
    assert [each.label for each in labels] == ["e", "d", "c", "b", "a"]
    assert len(asked.text_classification("a cat", top_k=2, function_to_apply="sigmoid")) == 2


def test_entities_and_answers_have_their_places(client: Callable[..., InferenceClient]) -> None:
    text = "the cat sat on"
    asked = client(tags, name="token-classification", output="logits", labels=["O", "B-CAT", "I-CAT"], aggregation="simple")
    entities = asked.token_classification(text, ignore_labels=[])
    assert entities[0].start == 0
    assert entities[-1].end == len(text)
    asked = client(tags, name="question-answering", start="start_logits", end="end_logits")
    answer = asked.question_answering(question="dog", context=text)
    assert not isinstance(answer, list)
    assert text[answer.start : answer.end] == answer.answer
    answers = asked.question_answering(question="dog", context=text, top_k=2)
    assert isinstance(answers, list)
    assert len(answers) == 2


def test_vectors_are_an_array(client: Callable[..., InferenceClient]) -> None:
    asked = client(words, name="embeddings", output="embedding")
    assert asked.feature_extraction("a cat").shape == (1, 5)


def test_sounds_are_classified_and_written_down(tmp_path: Path, client: Callable[..., InferenceClient]) -> None:
    content = sounds.wave(sounds.tone(0.5))
    asked = client(sounds.frames, name="audio-classification")
    assert len(asked.audio_classification(content, top_k=2)) == 2
    asked = client(sounds.frames, name="automatic-speech-recognition")
    (tmp_path / "a.wav").write_bytes(content)
    heard = [asked.automatic_speech_recognition(each) for each in (content, tmp_path / "a.wav")]
    assert heard[0].text == heard[1].text != ""
    timed = asked.automatic_speech_recognition(content, extra_body={"return_timestamps": "word"})
    assert timed.chunks is not None
    assert [chunk.text for chunk in timed.chunks] == timed.text.split()


def test_pictures_are_classified(client: Callable[..., InferenceClient]) -> None:
    image = {"input": "pixel_values", "steps": [], "factors": [1 / 255] * 3, "terms": [0.0] * 3, "mode": "RGB"}
    asked = client(
        pictures.means, name="image-classification", output="logits", labels=list("abc"), activation="softmax", image=image
    )
    content = pictures.file(pictures.picture(30, 20), "JPEG")
    assert {each.label for each in asked.image_classification(content)} == set("abc")
    assert len(asked.image_classification(content, top_k=2)) == 2
