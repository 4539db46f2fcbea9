"""The task that a package for sounds gets, from a model's files and from a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from mlpack.core.records import Signature, Source, TensorSpec
from mlpack.core.serving import Serve, Sound
from mlpack.errors import RecipeError
from mlpack.recipe import runtime_settings, tasks
from mlpack.recipe.serve.sound import SoundKeys

SAMPLES = TensorSpec(name="input_values", dtype="float32", shape=("batch", "samples"))
SPECTRA = TensorSpec(name="input_values", dtype="float32", shape=("batch", 1024, 128))
SCORES = TensorSpec(name="logits", dtype="float32", shape=("batch", 3))
FRAMES = TensorSpec(name="logits", dtype="float32", shape=("batch", "frames", 6))
EXTRACTOR = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16_000, "do_normalize": True}
AST = {
    "feature_extractor_type": "ASTFeatureExtractor",
    "sampling_rate": 16_000,
    "num_mel_bins": 128,
    "max_length": 1024,
    "mean": -1.5,
}
CONVOLUTIONS = {"conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2]}
WORDS = {"<pad>": 0, "<unk>": 3, "|": 4, "A": 5}


def look(folder: Path, output: TensorSpec, given: TensorSpec = SAMPLES, **serve: Any) -> dict[str, Any] | None:
    """The task of the directory's model."""
    source = serve.pop("source", Source(format="huggingface", reference=folder.name))
    recipe: Any = SimpleNamespace(root=folder.parent, source=source, serve=Serve(**serve))
    return tasks.settings(recipe, (), Signature(inputs=(given,), outputs=(output,)), tokenized=False)


def described(folder: Path, architecture: str, **files: Any) -> Path:
    """A directory with these files; `config` beside the architecture."""
    place = folder / "model"
    place.mkdir(exist_ok=True)
    files["config"] = {"architectures": [architecture], "model_type": "wav2vec2", **files.get("config", {})}
    for name, content in files.items():
        (place / f"{name}.json").write_text(json.dumps(content))
    return place


def test_a_classifier_of_waveforms(tmp_path: Path) -> None:
    config = {**CONVOLUTIONS, "id2label": {"0": "a", "1": "b", "2": "c"}}
    folder = described(tmp_path, "Wav2Vec2ForSequenceClassification", config=config, preprocessor_config=EXTRACTOR)
    sound = {
        "kind": "waveform",
        "input": "input_values",
        "dtype": "float32",
        "rate": 16_000,
        "normalize": True,
        "graphs": 1,
        "least": 400,
    }
    assert look(folder, SCORES) == {
        "name": "audio-classification", "output": "logits", "sound": sound, "window_s": 30.0, "labels": ["a", "b", "c"],
        "activation": "softmax",
    }  # fmt: skip
    task = look(folder, SCORES, sound=Sound(rate=8000, normalize=False, window_ms=5000.0), top_k=2)
    assert task is not None
    assert (task["sound"]["rate"], task["sound"]["normalize"], task["window_s"], task["top_k"]) == (8000, False, 5.0, 2)
    assert runtime_settings.modules(task, {}) == ("tasks.audio_classification",)
    engines = [("engine", "aws"), ("tensorrt-rtx", "engine-cuda", "aws"), ("tensorrt-lean", "aws")]
    assert [runtime_settings.needs(task, own) for own in engines] == [(), (), ("engine",)]


def test_a_classifier_of_spectra(tmp_path: Path) -> None:
    folder = described(tmp_path, "ASTForAudioClassification", preprocessor_config={**AST, "do_normalize": False})
    task = look(folder, SCORES, SPECTRA)
    assert task is not None
    assert task["sound"] == {
        "kind": "filter-banks", "input": "input_values", "dtype": "float32", "rate": 16_000, "normalize": False, "graphs": 1,
        "frames": 1024, "mels": 128, "mean": -1.5, "std": 4.5689974, "least": 400,
    }  # fmt: skip
    described(tmp_path, "ASTForAudioClassification", preprocessor_config={**AST, "num_mel_bins": 64})
    with pytest.raises(RecipeError, match=r"preprocessor_config.json says 64"):
        look(folder, SCORES, SPECTRA, task="audio-classification")


def test_a_classifier_of_whispers_features(tmp_path: Path) -> None:
    extractor = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80, "sampling_rate": 16_000,
                 "chunk_length": 30, "hop_length": 160, "n_fft": 400,
                 "n_samples": 480_000, "nb_max_frames": 3000, "padding_value": 0.0}  # fmt: skip
    given = TensorSpec(name="input_features", dtype="float32", shape=("batch", 80, 3000))
    described(tmp_path, "WhisperForAudioClassification", preprocessor_config=extractor)
    task = look(tmp_path / "model", SCORES, given)
    assert task is not None
    assert (task["sound"]["kind"], task["sound"]["mels"], task["sound"]["frames"]) == ("log-mel", 80, 3000)
    for wrong in ({"feature_size": 128}, {"hop_length": 80}, {"sampling_rate": 8000}):
        described(tmp_path, "WhisperForAudioClassification", preprocessor_config={**extractor, **wrong})
        with pytest.raises(RecipeError, match=r"needs (Whisper's features|the mels)"):
            look(tmp_path / "model", SCORES, given, task="audio-classification")
    with pytest.raises(RecipeError, match="needs waveforms"):
        look(tmp_path / "model", FRAMES, given, task="automatic-speech-recognition", sound=Sound(features="log-mel", rate=16_000))


def test_a_recognizer_and_its_words(tmp_path: Path) -> None:
    tokenizer = {"tokenizer_class": "Wav2Vec2CTCTokenizer", "pad_token": {"content": "<pad>"}, "do_lower_case": True,
                 "added_tokens_decoder": {"7": {"content": "<s>"}}}  # fmt: skip
    folder = described(tmp_path, "HubertForCTC", vocab=WORDS, tokenizer_config=tokenizer, special_tokens_map={"unk_token": "<unk>"},
                       processor_config={"feature_extractor": EXTRACTOR}, config={"conv_stride": [4, 2]})  # fmt: skip
    task = look(folder, TensorSpec(name="logits", dtype="float32", shape=("batch", "frames", 8)))
    assert task is not None
    assert (task["name"], task["ratio"], "labels" in task) == ("automatic-speech-recognition", 8, False)
    assert task["vocabulary"] == {
        "tokens": ["<pad>", None, None, "<unk>", "|", "A", None, "<s>"], "unknown": "<unk>", "blank": "<pad>", "delimiter": "|",
        "space": " ", "lower": True, "clean": False,
    }  # fmt: skip
    assert look(folder, FRAMES)["vocabulary"]["tokens"] == ["<pad>", None, None, "<unk>", "|", "A"]  # type: ignore[index]
    (folder / "processor_config.json").unlink()
    described(
        tmp_path,
        "HubertForCTC",
        preprocessor_config=EXTRACTOR,
        vocab={"eng": WORDS, "deu": {"<pad>": 0, "ß": 1}},
        tokenizer_config={"target_lang": "deu"},
    )
    assert look(folder, FRAMES)["vocabulary"]["tokens"] == ["<pad>", "ß"]  # type: ignore[index]


def test_an_onnx_file_beside_its_files(tmp_path: Path) -> None:
    folder = described(tmp_path, "Wav2Vec2ForCTC", vocab=WORDS, preprocessor_config={"sampling_rate": 8000})
    (folder / "onnx").mkdir()
    task = look(folder, FRAMES, source=Source(format="onnx", reference="model/onnx/model.onnx"))
    assert task is not None
    assert (task["sound"]["kind"], task["sound"]["rate"], task["ratio"]) == ("waveform", 8000, 320)


@pytest.mark.parametrize(
    ("files", "given", "message"),
    [
        ({"vocab": {"<pad>": 0}, "tokenizer_config": {"tokenizer_class": "WhisperTokenizer"}}, SAMPLES, "'WhisperTokenizer'"),
        ({}, SAMPLES, "a vocab.json beside the model"),
        ({"vocab": {"a": -1}}, SAMPLES, "a vocab.json beside"), ({"vocab": {"a": 10**9}}, SAMPLES, "a vocab.json beside"),
        ({"vocab": {"eng": {"a": 0}}}, SAMPLES, "target_lang"),
        ({"vocab": WORDS, "preprocessor_config": {"feature_extractor_type": "OddFeatureExtractor"}}, SAMPLES, "not known here"),
        ({"vocab": WORDS, "config": {"model_type": "unknown"}}, SAMPLES, "say serve.sound.features"),
        ({"vocab": WORDS, "preprocessor_config": {}}, SAMPLES, "say serve.sound.features"),
        ({"vocab": WORDS}, TensorSpec(name="x", dtype="float32", shape=("batch", 16_000)), "takes 16000 samples alone"),
        ({"vocab": WORDS}, TensorSpec(name="x", dtype="float32", shape=("batch", 1, "samples")), r"an input \[batch, samples\]"),
        ({"vocab": WORDS}, TensorSpec(name="x", dtype="int64", shape=("batch", "samples")), "one input of floats"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_told(tmp_path: Path, files: dict[str, Any], given: TensorSpec, message: str) -> None:
    folder = described(tmp_path, "Wav2Vec2ForCTC", **{"preprocessor_config": {"sampling_rate": 16_000}, **files})
    assert look(folder, FRAMES, given) is None  # nobody said that there is a task
    with pytest.raises(RecipeError, match=message):
        look(folder, FRAMES, given, task="automatic-speech-recognition")
    with pytest.raises(RecipeError, match=f"serve.sound: automatic-speech-recognition needs .*{message}"):
        look(folder, FRAMES, given, sound=Sound(rate=16_000))


def test_a_bare_file_with_what_the_recipe_says(tmp_path: Path) -> None:
    source = Source(format="onnx", reference="model.onnx")
    said = Sound(rate=22_050, features="filter-banks", std=2.0)
    task = look(tmp_path / "x", SCORES, SPECTRA, source=source, task="audio-classification", sound=said, labels=("a", "b", "c"))
    assert task is not None
    assert (task["sound"]["rate"], task["sound"]["std"], task["labels"]) == (22_050, 2.0, ["a", "b", "c"])
    for wrong, message in ((Sound(rate=16_000), "sound.features"), (Sound(features="waveform"), "sound.rate"),
                           (Sound(features="filter-banks", rate=700), "800 Hz or more")):  # fmt: skip
        with pytest.raises(RecipeError, match=message):
            look(tmp_path / "x", SCORES, SPECTRA, source=source, task="audio-classification", sound=wrong)


@pytest.mark.parametrize(
    "wrong", [{"rate": 10}, {"features": "mfcc"}, {"std": 0}, {"window": "10ms"}, {"window": "1h"}, {"mean": 1e9}]
)
def test_bounds(wrong: dict[str, Any]) -> None:
    assert SoundKeys().record() == Sound()
    with pytest.raises(ValidationError):
        SoundKeys.model_validate_json(json.dumps(wrong))
