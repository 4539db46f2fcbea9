"""Packages of models for sounds, through whole builds, against transformers' own pipelines on a hundred sounds each."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from tests.support.models.sound_models import saved
from tests.support.runtime.sounds import Samples, tone, wave
from tools import tryout

from mlpack.errors import ExitCode
from mlpack.graphs import sounds as graphs
from mlpack.store.local import Store
from mlpack.targets.shipped import unpack
from mlpack_runtime import model
from mlpack_runtime.service import Service, open_service
from mlpack_runtime.sounds.resampling import Filter

SAMPLES = 100
LABELS = {0: "siren", 1: "speech", 2: "rain", 3: "dog", 4: "door", 5: "engine", 6: "wind"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def built(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch, *more: str, **shapes: Any) -> Service:
    """The float package of the model in `folder` as a service. `more`: lines of the recipe; `shapes`: of the evaluation data."""
    random = np.random.default_rng(0)
    values = random.normal(size=shapes.get("shape", (8, 4000))).astype(np.float32)
    np.savez(folder / "eval.npz", **{shapes.get("name", "input_values"): values})
    recipe = ["name: tried", "source: {huggingface: model}", "data: {evaluation: eval.npz}", "variants: {fp32: []}", *more]
    (folder / "recipe.yaml").write_text("\n".join([*recipe, "targets: {lambda-zip: {}}"]))
    tried = tryout.try_out(folder / "recipe.yaml", store)
    assert tried.code == ExitCode.OK, tried.error
    (package,) = (folder / "out-recipe/artifacts").iterdir()
    monkeypatch.setattr(model, "ROOT", str(unpack(package, folder / "unpacked")))
    return open_service()


def ask(service: Service, content: bytes, **parameters: Any) -> Any:
    body = {"audio": base64.b64encode(content).decode(), **parameters}
    reply = service.http("POST", "/", {}, json.dumps(body).encode())
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def sounds(longest_s: float) -> list[Samples]:
    """A hundred sounds of different lengths, as sixteen bits hold them."""
    lengths = np.random.default_rng(1).uniform(0.1, longest_s, SAMPLES)
    whole = [np.round(tone(seconds, seed=at) * 32768).clip(-32768, 32767) for at, seconds in enumerate(lengths)]
    return [(each / 32768).astype(np.float32) for each in whole]


@pytest.mark.parametrize(
    ("architecture", "config", "shape"),
    [
        ("HubertForSequenceClassification", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}, (8, 4000)),
        ("ASTForAudioClassification", {"max_length": 128, "num_mel_bins": 64}, (8, 128, 64)),
    ],
)
def test_sounds_have_the_labels_of_a_pipeline(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, architecture: str, config: dict[str, Any], shape: Any
) -> None:
    loaded, extractor, _ = saved(tmp_path / "model", architecture, id2label=LABELS, **config)
    service = built(tmp_path, store, monkeypatch, shape=shape, name=extractor.model_input_names[0])
    expected = transformers.pipeline("audio-classification", model=loaded, feature_extractor=extractor, device="cpu")
    firsts = set()
    for samples in sounds(2.0):
        wanted = {row["label"]: row["score"] for row in expected(samples.copy(), top_k=None)}
        labels = ask(service, wave(samples), top_k="all")["labels"]
        assert {row["label"]: row["score"] for row in labels} == pytest.approx(wanted, abs=1e-4)
        firsts.add(labels[0]["label"])
    assert len(firsts) > 1  # the model tells sounds apart


def test_sounds_have_the_text_of_a_pipeline(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, extractor, tokenizer = saved(tmp_path / "model", "Wav2Vec2ForCTC")
    service = built(tmp_path, store, monkeypatch, "serve: {sound: {window: 4s}}")
    expected = transformers.pipeline(
        "automatic-speech-recognition", model=loaded, tokenizer=tokenizer, feature_extractor=extractor, device="cpu"
    )
    texts = set()
    for at, samples in enumerate(sounds(3.0)):
        parameters: dict[str, Any] = [{}, {"return_timestamps": "char"}, {"return_timestamps": "word"}, {"chunk_length_s": 1.2}][
            at % 4
        ]
        wanted = json.loads(json.dumps(expected(samples.copy(), **parameters)))
        assert ask(service, wave(samples), **parameters) == wanted
        texts.add(wanted["text"])
    assert len(texts) > SAMPLES / 2
    long = sounds(9.0)[-1]
    wanted = expected(long.copy(), chunk_length_s=4, stride_length_s=(1, 0.5))
    assert ask(service, wave(long), chunk_length_s=4, stride_length_s=[1, 0.5]) == wanted
    assert ask(service, wave(long)) == expected(long.copy(), chunk_length_s=4)


def test_whispers_features_are_its_own() -> None:
    """As torch's float32 has them; a build of such a model takes longer than what it would show beside this."""
    extractor = transformers.WhisperFeatureExtractor(chunk_length=2)
    sound = {"kind": "log-mel", "input": "x", "dtype": "float32", "frames": 200, "mels": 80, "rate": 16_000}
    session = onnxruntime.InferenceSession(graphs.features(sound), providers=["CPUExecutionProvider"])
    for samples in (*sounds(2.2), np.zeros(7000, np.float32), np.ones(1, np.float32)):
        (got,) = session.run(None, {"mono": samples})
        wanted = extractor(samples, sampling_rate=16_000, return_tensors="np")["input_features"]
        assert np.abs(got - wanted).max() < 2e-4


def test_other_rates_come_as_near_as_roundings() -> None:
    """The filter against torch's convolution of it, which is torchaudio's `resample` line by line."""
    session = onnxruntime.InferenceSession(graphs.resample(), providers=["CPUExecutionProvider"])
    for old in (8000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000):
        samples, filter_ = tone(1.0, old), Filter(old, 16_000)
        base, width = min(filter_.old, filter_.new) * 0.99, filter_.width
        places = torch.arange(-width, width + filter_.old, dtype=torch.float64)[None, None] / filter_.old
        times = (torch.arange(0, -filter_.new, -1, dtype=torch.float64)[:, None, None] / filter_.new + places) * base
        times = times.clamp(-6, 6)
        kernel = torch.sinc(times) * torch.cos(times * math.pi / 12) ** 2 * base / filter_.old
        padded = torch.nn.functional.pad(torch.from_numpy(samples)[None, None], (width, width + filter_.old))
        columns = torch.nn.functional.conv1d(padded, kernel.float(), stride=filter_.old)
        wanted = columns.transpose(1, 2).reshape(-1)[: filter_.frames(len(samples))].numpy()
        feeds = {
            "mono": samples, "kernel": np.frombuffer(filter_.kernel.data, "<f4").reshape(filter_.kernel.shape),
            "block": np.array([filter_.block]), "width": np.array([width]),
            "padding": np.array([-len(samples) % filter_.block]), "length": np.array([filter_.frames(len(samples))]),
        }  # fmt: skip
        (got,) = session.run(None, feeds)
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() < 1e-6, old
