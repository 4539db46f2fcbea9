"""How sounds become a model's input, and its numbers a text: from the files beside the model, or `serve.sound`.

Promises: what is not certain is a NotCertainError that says what to write. It reads configuration alone, within bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlpack.core.files import bounded
from mlpack.core.records import Signature, TensorSpec
from mlpack.core.serving import Serve, Sound
from mlpack.graphs import sounds

WINDOW_S = 30.0
"""Of sound at a time, where the recipe says nothing: attention takes memory by the square of it, 0.2 GB for BERT's size."""
CTC = "automatic-speech-recognition"
_WAVEFORM, _BANKS, _LOG_MEL = "waveform", "filter-banks", "log-mel"
_KINDS = {"Wav2Vec2FeatureExtractor": _WAVEFORM, "ASTFeatureExtractor": _BANKS, "WhisperFeatureExtractor": _LOG_MEL}
_WHISPER = {"sampling_rate": 16_000, "hop_length": 160, "n_fft": 400}
"""What a Whisper's file may say: its features are those alone."""
_WAVEFORM_TYPES = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "sew", "sew-d", "data2vec-audio")
_RATE, _RATIO, _LEAST = 16_000, 320, 400
_MELS, _FRAMES, _MEAN, _STD = 128, 1024, -4.2677393, 4.5689974
"""ASTFeatureExtractor's own, where its file leaves them out."""
_TOKENIZERS = ("Wav2Vec2CTCTokenizer", "Wav2Vec2Tokenizer")
_TOKENS_MOST = 200_000


class NotCertainError(ValueError):
    """The model's files and the recipe leave something open. The message continues "needs ..."."""


def sound_settings(serve: Serve, signature: Signature, config: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """What model.json says as a task's `sound`.

    Args:
        serve: The recipe's.
        signature: The model's inputs and outputs.
        config: config.json, or {}.
        folder: Where the files are; None where nobody knows.

    Raises:
        NotCertainError: As the module says.
    """
    said, processor = serve.sound or Sound(), _processor(folder)
    if len(signature.inputs) != 1 or signature.inputs[0].dtype not in ("float32", "float16", "float64"):
        inputs = ", ".join(f"{spec.name} ({spec.dtype} {list(spec.shape)})" for spec in signature.inputs)
        raise NotCertainError(f"one input of floats for sounds, and the model has {inputs}")
    port = signature.inputs[0]
    kind = said.features or _kind(processor, config)
    if kind is None:
        written = processor.get("feature_extractor_type")
        what = f" (its feature extractor {written!r} is not known here)" if written else ""
        raise NotCertainError(f"to know what {port.name!r} has of a sound{what}: say serve.sound.features")
    rate = said.rate or _whole(processor, "sampling_rate", _RATE if processor or config else None)
    if rate is None:
        raise NotCertainError("to know the rate of its sounds: say serve.sound.rate")
    read = {
        "kind": kind,
        "input": port.name,
        "dtype": port.dtype,
        "rate": rate,
        "normalize": said.normalize if said.normalize is not None else processor.get("do_normalize") is not False,
        "graphs": sounds.VERSION,
    }
    if kind == _LOG_MEL:
        return read | _log_mel(port, processor, rate)
    return read | (_waveform(port, config) if kind == _WAVEFORM else _banks(port, said, processor, rate))


def window_s(serve: Serve) -> float:
    """Seconds of sound that the model is asked for at a time."""
    return WINDOW_S if serve.sound is None or serve.sound.window_ms is None else serve.sound.window_ms / 1000


def transcript_settings(
    spec: TensorSpec, sound: Mapping[str, Any], config: Mapping[str, Any], folder: Path | None
) -> dict[str, Any]:
    """What model.json says of a recognizer beside `sound`: `vocabulary`, and `ratio`, the samples of a frame. `spec`: the output
    with numbers of each token. Raises NotCertainError."""
    if sound["kind"] != _WAVEFORM:
        raise NotCertainError(f"waveforms, and its input {sound['input']!r} takes {sound['kind']}: windows are cut of samples")
    vocabulary = _vocabulary(folder)
    columns, known = spec.shape[-1], len(vocabulary["tokens"])
    if isinstance(columns, int) and known > columns:
        vocabulary["tokens"] = vocabulary["tokens"][:columns]
    strides = _numbers(config, "conv_stride")
    return {"vocabulary": vocabulary, "ratio": math.prod(strides) if strides else _RATIO}


def _kind(processor: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    written = processor.get("feature_extractor_type")
    if isinstance(written, str):
        return _KINDS.get(written)
    # Without a file nobody knows the rate, and whether a waveform is normalized; old files lack the class.
    return _WAVEFORM if processor and config.get("model_type") in _WAVEFORM_TYPES else None


def _waveform(port: TensorSpec, config: Mapping[str, Any]) -> dict[str, Any]:
    if len(port.shape) != 2:
        raise NotCertainError(f"an input [batch, samples], and {port.name!r} is {list(port.shape)}")
    if isinstance(port.shape[1], int):
        raise NotCertainError(
            f"sounds of any length, and {port.name!r} takes {port.shape[1]} samples alone: export it with a free axis"
        )
    kernels, strides = _numbers(config, "conv_kernel"), _numbers(config, "conv_stride")
    least = 1 if kernels and strides else _LEAST if config else 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=False):
        least = (least - 1) * stride + kernel
    return {"least": least}


def _banks(port: TensorSpec, said: Sound, processor: Mapping[str, Any], rate: int) -> dict[str, Any]:
    if len(port.shape) != 3:
        raise NotCertainError(f"an input [batch, frames, mels], and {port.name!r} is {list(port.shape)}")
    frames, mels = port.shape[1:]
    read = {
        "frames": frames if isinstance(frames, int) else _whole(processor, "max_length", _FRAMES),
        "mels": mels if isinstance(mels, int) else _whole(processor, "num_mel_bins", _MELS),
        "mean": _number(said.mean, processor, "mean", _MEAN),
        "std": _number(said.std, processor, "std", _STD),
        "least": sounds.FRAME,
    }
    for key, written in (("frames", "max_length"), ("mels", "num_mel_bins")):
        if processor.get(written) not in (None, read[key]):
            raise NotCertainError(
                f"the {key} of its input {port.name!r} {list(port.shape)}, and preprocessor_config.json says {processor[written]}"
            )
    if rate < 2 * sounds.FRAME:
        raise NotCertainError(f"a rate of {2 * sounds.FRAME} Hz or more, and the recipe or a file says {rate}")
    return read


def _log_mel(port: TensorSpec, processor: Mapping[str, Any], rate: int) -> dict[str, Any]:
    written = {key: processor.get(key, value) for key, value in _WHISPER.items()} | {"sampling_rate": rate}
    if written != _WHISPER:
        raise NotCertainError(f"Whisper's features, {_WHISPER}, and the files or the recipe say {written}")
    if len(port.shape) != 3:
        raise NotCertainError(f"an input [batch, mels, frames], and {port.name!r} is {list(port.shape)}")
    mels, frames = port.shape[1:]
    seconds = _whole(processor, "chunk_length", 30) or 30
    read = {
        "mels": mels if isinstance(mels, int) else _whole(processor, "feature_size", 80),
        "frames": frames if isinstance(frames, int) else seconds * rate // _WHISPER["hop_length"],
    }
    if processor.get("feature_size") not in (None, read["mels"]):
        raise NotCertainError(f"the mels of {port.name!r} {list(port.shape)}, and the file says {processor['feature_size']}")
    return read | {"least": 1}


def _vocabulary(folder: Path | None) -> dict[str, Any]:
    """Tokens by their numbers, and what the tokenizer's files say of them."""
    config, names = _object(folder, "tokenizer_config.json"), _object(folder, "special_tokens_map.json")
    kind = config.get("tokenizer_class")
    if kind is not None and kind not in _TOKENIZERS:
        raise NotCertainError(f"a tokenizer that is read here ({_TOKENIZERS[0]}), and its own is {kind!r}")
    words = _object(folder, "vocab.json")
    language = config.get("target_lang")
    if any(isinstance(each, dict) for each in words.values()):
        if not isinstance(words.get(str(language)), dict):
            raise NotCertainError(
                f"one language of vocab.json ({', '.join(list(words)[:5])}, ...): say target_lang in tokenizer_config.json"
            )
        words = words[str(language)]
    by_number = {number: word for word, number in words.items() if isinstance(number, int)}
    by_number |= {number: word for word, number in _object(folder, "added_tokens.json").items() if isinstance(number, int)}
    added = config.get("added_tokens_decoder")
    for key, each in added.items() if isinstance(added, dict) else ():
        if str(key).isdecimal() and isinstance(each, dict) and isinstance(each.get("content"), str):
            by_number[int(key)] = each["content"]
    if not by_number or min(by_number) < 0 or max(by_number) >= _TOKENS_MOST:
        raise NotCertainError("a vocab.json beside the model, with the token of each number")

    def token(key: str, default: str) -> str:
        written = next((each[key] for each in (config, names) if each.get(key)), default)
        return str(written.get("content", default) if isinstance(written, dict) else written)

    return {
        "tokens": [by_number.get(number) for number in range(max(by_number) + 1)],
        "unknown": token("unk_token", "<unk>"),
        "blank": token("pad_token", "<pad>"),
        "delimiter": token("word_delimiter_token", "|"),
        "space": token("replace_word_delimiter_char", " "),
        "lower": config.get("do_lower_case") is True,
        "clean": config.get("clean_up_tokenization_spaces") is True,
    }


def _processor(folder: Path | None) -> dict[str, Any]:
    """preprocessor_config.json, or what newer versions of transformers have of it in processor_config.json."""
    whole = _object(folder, "processor_config.json").get("feature_extractor")
    return _object(folder, "preprocessor_config.json") or (whole if isinstance(whole, dict) else {})


def _object(folder: Path | None, name: str) -> dict[str, Any]:
    return {} if folder is None else bounded.load_object(folder / name)


def _whole(written: Mapping[str, Any], key: str, default: int | None) -> int | None:
    value = written.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1_000_000 else default


def _number(said: float | None, written: Mapping[str, Any], key: str, default: float) -> float:
    value = written.get(key, default) if said is None else said
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and (value or key == "mean") else default


def _numbers(config: Mapping[str, Any], key: str) -> list[int]:
    value = config.get(key)
    fits = isinstance(value, list) and value and all(isinstance(each, int) and 0 < each < 10_000 for each in value)
    return list(value) if fits and isinstance(value, list) else []
