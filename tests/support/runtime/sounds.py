"""Sounds of every form, and a tiny model that hears them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.support.runtime.tiny_packages import package, save

from mlpack.graphs import sounds

if TYPE_CHECKING:
    from pathlib import Path

RATIO, RECEPTIVE = 320, 400
TOKENS = ["<pad>", "<unk>", "|", "a", "b", "c"]
GUID = bytes.fromhex("000000001000800000aa00389b71")

Samples = np.ndarray[Any, Any]


def tone(seconds: float = 1.0, rate: int = 16_000, seed: int = 0) -> Samples:
    """A sound that changes, between -1 and 1, float32."""
    random = np.random.default_rng(seed)
    times = np.arange(int(seconds * rate)) / rate
    waves = [np.sin(2 * np.pi * times * hertz + phase) for hertz, phase in zip(random.uniform(80, 3000, 5), range(5), strict=True)]
    loudness = np.interp(times, np.linspace(0, seconds, 9), random.uniform(0, 0.18, 9))
    return (sum(waves) * loudness + random.normal(size=len(times)) * 0.01).clip(-1, 1).astype(np.float32)


def chunk(kind: bytes, data: bytes, size: int | None = None) -> bytes:
    """One chunk; `size`: what it says, where that is not true."""
    return kind + struct.pack("<I", len(data) if size is None else size) + data + bytes(len(data) % 2)


def form(tag: int, bits: int, channels: int = 1, rate: int = 16_000, *, extensible: bool = False, size: int | None = None) -> bytes:
    """A fmt chunk's data."""
    size = size or bits // 8
    head = struct.pack("<HHIIHH", 0xFFFE if extensible else tag, channels, rate, rate * size * channels, size * channels, bits)
    return head + (struct.pack("<HHIH", 22, bits, 0, tag) + GUID if extensible else b"")


def file(*chunks: bytes, kind: bytes = b"RIFF") -> bytes:
    """A file of chunks."""
    whole = b"".join(chunks)
    return kind + struct.pack("<I", 4 + len(whole)) + b"WAVE" + whole


def pcm(samples: Samples, bits: int = 16) -> bytes:
    """Samples as PCM."""
    scaled = np.asarray(samples, np.float64) * 2.0 ** (bits - 1)
    whole = np.round(scaled).clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(np.int64)
    if bits == 8:
        return bytes((whole + 128).astype(np.uint8))
    return whole.astype("<i8").reshape(-1, 1).view(np.uint8)[:, : bits // 8].tobytes()


def wave(samples: Samples, rate: int = 16_000, bits: int = 16) -> bytes:
    """An ordinary file; `samples` [frames] or [frames, channels]."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    return file(chunk(b"fmt ", form(1, bits, channels, rate)), chunk(b"data", pcm(samples.reshape(-1), bits)))


def frames(path: Path) -> Path:
    """logits[batch, frames, 6] of input_values[batch, samples]: a filter every 320 samples, as a model of speech has frames."""
    from onnx import TensorProto, helper

    random = np.random.default_rng(5)
    filters = random.normal(size=(6, 1, RECEPTIVE)).astype(np.float32) / 8
    weights = {"filter": filters, "bias": np.linspace(-1, 1, 6, dtype=np.float32), "one": np.array([1])}
    nodes = [
        helper.make_node("Unsqueeze", ["input_values", "one"], ["rows"]),
        helper.make_node("Conv", ["rows", "filter", "bias"], ["columns"], strides=[RATIO]),
        helper.make_node("Transpose", ["columns"], ["logits"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["logits"], ["scores"], axes=[1], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("input_values", TensorProto.FLOAT, ["batch", "samples"])]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "frames", 6]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 6]),
    ]
    return save(path, nodes, inputs, outputs, weights)


def logits(samples: Samples) -> Samples:
    """What `frames` gives for one sound, after it is normalized: [frames, 6]."""
    weights = np.random.default_rng(5).normal(size=(6, 1, RECEPTIVE)).astype(np.float32)[:, 0] / 8
    values = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    number = (len(values) - RECEPTIVE) // RATIO + 1
    rows = np.stack([values[RATIO * at : RATIO * at + RECEPTIVE] for at in range(number)])
    return np.asarray(rows @ weights.T + np.linspace(-1, 1, 6, dtype=np.float32))


SOUND = {"kind": "waveform", "input": "input_values", "dtype": "float32", "rate": 16_000, "least": RECEPTIVE, "normalize": True}
VOCABULARY = {
    "tokens": TOKENS,
    "unknown": "<unk>",
    "blank": "<pad>",
    "delimiter": "|",
    "space": " ",
    "lower": False,
    "clean": False,
}
TASKS: dict[str, dict[str, Any]] = {
    "audio-classification": {"output": "scores", "labels": ["u", "v", "w"], "activation": "softmax", "window_s": 3.0},
    "automatic-speech-recognition": {"output": "logits", "vocabulary": VOCABULARY, "ratio": RATIO, "window_s": 3.0},
}


def hearing(root: Path, task: str, **settings: Any) -> Path:
    """A package with one of these tasks."""
    root = package(root, frames, task={"name": task, "sound": SOUND, **TASKS[task]}, **settings)
    (root / "model/sounds").mkdir()
    for name, content in sounds.graphs(SOUND, "float32").items():
        (root / "model/sounds" / name).write_bytes(content)
    return root
