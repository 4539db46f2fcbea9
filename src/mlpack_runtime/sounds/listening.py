"""Sounds of a request to a model's inputs, through the graphs beside the model.

Promises: what a sound holds is known, and held against the limits, before a sample of it is read; a sound is mixed down to one
channel (the mean of all) and resampled before features are made of it, as transformers' pipelines do.
"""

import os
from _thread import allocate_lock
from struct import pack

from mlpack_runtime import media, ort
from mlpack_runtime.limits import RequestError, memory_mb, too_large
from mlpack_runtime.model import ModelError, library, threads
from mlpack_runtime.sounds import wave
from mlpack_runtime.sounds.resampling import Filter
from mlpack_runtime.tensor import Tensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from mlpack_runtime.model import Described

_FOLDER = "sounds"
_RATES = 8
"""Filters that are kept: those of the rates that came last."""
_FLOAT_BYTES = 4


class Listener:
    """What hears for one package. `rate`: the model's, in Hz; `least`: samples that it needs."""

    def __init__(self, model: "Described", sound: "Mapping[str, Any]") -> None:
        """Open the graphs. Raises ModelError for a package without them, OrtError."""
        self.rate: int = sound["rate"]
        self.least: int = sound["least"]
        self._limits = model.limits
        self._engine = ort.Engine(library("lib/libonnxruntime.so", "the engine, which prepares sounds,"))
        self._folder = os.path.join(model.directory, _FOLDER)
        self._threads = threads(memory_mb(os.environ, model.settings))
        self._mono, self._features = self._open("mono"), self._open("features")
        self._lock = allocate_lock()
        self._resample: ort.Session | None = None
        self._filters: dict[int, Filter] = {}
        best = os.path.join(self._folder, "best.onnx")
        self._best = self._open("best") if os.path.exists(best) else None

    def hear(self, files: "Sequence[object]", names: "Sequence[str]") -> "list[memoryview]":
        """The samples of each file of a request at the model's rate, one channel, as bytes of float32.

        Args:
            files: What a plain request has: bytes, base64, data: URLs, or samples with their rate.
            names: How each is called in it.

        Raises:
            RequestError: 415 for what is no WAV file, 400 for a damaged or short one, 413 for more samples than are taken.
        """
        forms = [self._form(file, name) for file, name in zip(files, names, strict=True)]
        total = sum(max(form.samples, form.samples // form.channels * self.rate // form.rate) for form in forms)
        if total > self._limits.sound_samples:
            raise too_large("sound_samples", "samples of all channels:", total, self._limits)
        sounds = []
        for form, name in zip(forms, names, strict=True):
            samples = self._at_rate(self._mixed(wave.decode(form)), form.rate)
            if len(samples) < self.least * _FLOAT_BYTES:
                seconds, least = len(samples) / _FLOAT_BYTES / self.rate, f"{self.least / self.rate:.3g} s"
                raise RequestError(
                    f"the sound in {name!r} has {seconds:.3g} s; the model needs at least {least}", 422, "Unprocessable"
                )
            sounds.append(samples)
        return sounds

    def inputs(self, samples: memoryview) -> "dict[str, Tensor]":
        """The model's inputs for samples at its rate."""
        return self._features.run({"mono": _tensor(samples)})

    def tokens(self, logits: Tensor, name: str) -> "list[int]":
        """The most likely token of each frame. Raises RequestError where the model gives what are no numbers."""
        assert self._best is not None
        outputs = self._best.run({"logits": logits})
        if outputs["broken"].flat() != [0.0]:
            raise RequestError(f"the model gives numbers in {name!r} that are not finite", 422, "Unprocessable")
        return outputs["tokens"].flat()

    def _open(self, name: str) -> ort.Session:
        path = os.path.join(self._folder, f"{name}.onnx")
        if not os.path.exists(path):
            raise ModelError(f"{path} is not there, and sounds are read with it: was the package unpacked whole?")
        return ort.Session(self._engine, path, threads=self._threads)

    def _form(self, file: object, name: str) -> wave.Form:
        if type(file) is dict and "sampling_rate" in file:
            return wave.of_numbers(file, name)
        return wave.read_form(media.content(file, name, self._limits), name)

    def _mixed(self, sound: wave.Wave) -> memoryview:
        feeds = {"whole": Tensor("INT16", (0,), b""), "long": Tensor("INT32", (0,), b""), "real": Tensor("FP32", (0,), b"")}
        feeds[{"INT16": "whole", "INT32": "long", "FP32": "real"}[sound.samples.datatype]] = sound.samples
        feeds["scale"] = Tensor("FP32", (), pack("<f", sound.scale))
        feeds["channels"] = _whole(sound.channels)
        return memoryview(self._mono.run(feeds)["mono"].data)

    def _at_rate(self, samples: memoryview, rate: int) -> memoryview:
        if rate == self.rate:
            return samples
        with self._lock:
            filter_ = self._filters.get(rate)
            if filter_ is None:
                filter_ = Filter(rate, self.rate)
                while len(self._filters) >= _RATES:
                    self._filters.pop(next(iter(self._filters)))
                self._filters[rate] = filter_
            if self._resample is None:
                self._resample = self._open("resample")
        frames = len(samples) // _FLOAT_BYTES
        feeds = {
            "mono": _tensor(samples),
            "kernel": filter_.kernel,
            "block": _whole(filter_.block),
            "width": _whole(filter_.width),
            "padding": _whole(-frames % filter_.block),
            "length": _whole(filter_.frames(frames)),
        }
        return memoryview(self._resample.run(feeds)["resampled"].data)


def _tensor(samples: memoryview) -> Tensor:
    # A part of a sound: the engine reads it where it is, but from its beginning only as bytes.
    return Tensor("FP32", (len(samples) // _FLOAT_BYTES,), bytes(samples))


def _whole(number: int) -> Tensor:
    return Tensor("INT64", (1,), number.to_bytes(8, "little", signed=True))
