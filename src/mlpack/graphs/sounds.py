"""Small graphs around a model of sounds, which the package's engine runs: samples to features, and a model's numbers to tokens.

Promises: features are those of transformers' feature extractors, from preprocessor_config.json. Equal settings give equal bytes.
Will not: know WAV: the runtime's `sounds` brings samples as they are in a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from onnx import NodeProto

    Ports = Mapping[str, tuple[str, Sequence[int | str]]]

VERSION = 1
"""Raised when equal settings would give other bytes."""
_OPSET, _IR = 17, 8
FRAME, _HOP, _FFT = 400, 160, 512
"""Of Kaldi's features at 16 kHz, and as transformers has them at any rate."""
_QUIET = 1e-10
"""Whisper's floor of a mel band's power."""
_LOWEST_HZ, _PREEMPHASIS, _FLOOR = 20.0, 0.97, 1.192092955078125e-07


def write(task: Mapping[str, Any], signature: Mapping[str, Any], folder: Path) -> None:
    """Write them for a package with this task into a folder that is not there. `signature`: signature.json of its model."""
    dtypes = {port["name"]: port["dtype"] for port in signature["outputs"]}
    folder.mkdir()
    for name, content in graphs(task["sound"], dtypes[task["output"]] if "vocabulary" in task else None).items():
        (folder / name).write_bytes(content)


def graphs(sound: Mapping[str, Any], logits: str | None) -> dict[str, bytes]:
    """The files of model/sounds, by name.

    Args:
        sound: The task's `sound`: `kind`, `input`, `dtype`, and what its kind of features needs.
        logits: The element type of the numbers of each frame, where the best token of each is wanted.
    """
    made = {"mono.onnx": mono(), "resample.onnx": resample(), "features.onnx": features(sound)}
    return made | ({"best.onnx": best(logits)} if logits else {})


def mono() -> bytes:
    """Samples of one of three types, the other two empty, to numbers [frames] from -1 to 1: the mean of the channels."""
    made = _Nodes()
    for name in ("whole", "long"):
        made.add("Cast", [name], f"{name}_real", to=1)
    samples = made.add("Concat", ["whole_real", "long_real", "real"], axis=0)
    shape = made.add("Concat", [made.whole(-1), "channels"], axis=0)
    rows = made.add("Reshape", [made.add("Mul", [samples, "scale"]), shape])
    made.add("ReduceMean", [rows], "mono", axes=[1], keepdims=0)
    inputs: Ports = {"whole": ("int16", ["whole"]), "long": ("int32", ["long"]), "real": ("float32", ["real"]),
              "scale": ("float32", []), "channels": ("int64", [1])}  # fmt: skip
    return made.model(inputs, {"mono": ("float32", ["frames"])})


def resample() -> bytes:
    """Samples [frames] at another rate: blocks, each with the end of the one before and the beginning of the one behind it, times a
    filter [width + block + width, step]."""
    made = _Nodes()
    padding = made.add("ConstantOfShape", ["padding"], value=made.value([0.0]))
    whole = made.add("Concat", ["mono", padding], axis=0)
    blocks = made.add("Reshape", [whole, made.add("Concat", [made.whole(-1), "block"], axis=0)])
    nothing = made.add("ConstantOfShape", [made.add("Concat", [made.whole(1), "width"], axis=0)], value=made.value([0.0]))
    ends = made.add("Slice", [blocks, made.add("Sub", ["block", "width"]), made.whole(1 << 60), made.whole(1)])
    begins = made.add("Slice", [blocks, made.whole(0), "width", made.whole(1)])
    ends = made.add("Slice", [ends, made.whole(0), made.whole(-1), made.whole(0)])
    begins = made.add("Slice", [begins, made.whole(1), made.whole(1 << 60), made.whole(0)])
    before = made.add("Concat", [nothing, ends], axis=0)
    behind = made.add("Concat", [begins, nothing], axis=0)
    rows = made.add("MatMul", [made.add("Concat", [before, blocks, behind], axis=1), "kernel"])
    flat = made.add("Reshape", [rows, made.whole(-1)])
    made.add("Slice", [flat, made.whole(0), "length"], "resampled")
    counts: Ports = {name: ("int64", [1]) for name in ("block", "width", "padding", "length")}
    inputs: Ports = {"mono": ("float32", ["frames"]), "kernel": ("float32", ["taps", "step"]), **counts}
    return made.model(inputs, {"resampled": ("float32", ["samples"])})


def features(sound: Mapping[str, Any]) -> bytes:
    """Samples [frames] at the model's rate to the model's input, for one sound."""
    made = _Nodes()
    shape: list[int | str] = [1, "samples"]
    if sound["kind"] == "waveform":
        values = made.normalized("mono") if sound["normalize"] else "mono"
        values = made.add("Unsqueeze", [values, made.whole(0)])
    elif sound["kind"] == "log-mel":
        values = made.log_mels("mono", sound)
        shape = [1, sound["mels"], sound["frames"]]
    else:
        values = made.filter_banks("mono", sound)
        shape = [1, sound["frames"], sound["mels"]]
    made.add("Cast", [values], sound["input"], to=_element(sound["dtype"]))
    return made.model({"mono": ("float32", ["frames"])}, {sound["input"]: (sound["dtype"], shape)})


def best(dtype: str) -> bytes:
    """The place of the largest number of each frame of [rows, frames, tokens], and whether any number is none."""
    made = _Nodes()
    values = made.add("Cast", ["logits"], to=1)
    made.add("ArgMax", [values], "tokens", axis=-1, keepdims=0)
    none = made.add("Or", [made.add("IsNaN", [values]), made.add("IsInf", [values], detect_negative=0)])
    made.add("ReduceMax", [made.add("Cast", [none], to=1)], "broken", keepdims=0)
    outputs: Ports = {"tokens": ("int64", ["rows", "frames"]), "broken": ("float32", [])}
    return made.model({"logits": (dtype, ["rows", "frames", "tokens"])}, outputs)


def mel_filters(mels: int, rate: int) -> np.ndarray[Any, Any]:
    """Kaldi's triangles, [257, mels] of float64: as transformers' `mel_filter_bank` makes them in mel space."""
    import numpy as np

    def mel(hertz: Any) -> Any:
        return 1127.0 * np.log(1.0 + np.asarray(hertz, np.float64) / 700.0)

    edges = np.linspace(mel(_LOWEST_HZ), mel(rate // 2), mels + 2)
    return _triangles(edges, mel(rate / _FFT * np.arange(_FFT // 2 + 1)))


def slaney_filters(mels: int, rate: int) -> np.ndarray[Any, Any]:
    """Slaney's triangles of equal area, [201, mels] of float64: linear to 1 kHz, then logarithmic to 8 kHz, as Whisper has them."""
    import numpy as np

    low, step = 200.0 / 3.0, math.log(6.4) / 27.0
    top = 15.0 + math.log(8.0) / step
    mel = np.linspace(0.0, top, mels + 2)
    edges = np.where(mel < 15.0, mel * low, 1000.0 * np.exp(step * (mel - 15.0)))
    return np.asarray(_triangles(edges, np.linspace(0, rate // 2, FRAME // 2 + 1)) * 2.0 / (edges[2:] - edges[:-2]))


def _triangles(edges: np.ndarray[Any, Any], points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[points, edges - 2]: each from an edge up to 1 at the next one, and down to the one behind it."""
    import numpy as np

    slopes = edges[None, :] - points[:, None]
    widths = np.diff(edges)
    down, up = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    return np.asarray(np.maximum(0.0, np.minimum(down, up)))


def _element(dtype: str) -> int:
    return {"float32": 1, "float64": 11, "float16": 10, "int64": 7, "int32": 6, "int16": 5}[dtype]


class _Nodes:
    """A graph while it is made: each node's output has a name of its own, given or numbered."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, np.ndarray[Any, Any]] = {}

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """A node; the name of its output."""
        from onnx import helper

        name = output or f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, value: Any) -> str:
        """An array in the graph."""
        name = f"c{len(self._constants)}"
        self._constants[name] = value
        return name

    def whole(self, *numbers: int) -> str:
        """A list of whole numbers in the graph."""
        import numpy as np

        return self.constant(np.array(numbers, np.int64))

    def value(self, numbers: list[float], dtype: str = "float32") -> Any:
        """An attribute's tensor."""
        import numpy as np
        from onnx import numpy_helper

        return numpy_helper.from_array(np.array(numbers, dtype))

    def normalized(self, samples: str) -> str:
        """Mean 0 and variance 1, as Wav2Vec2FeatureExtractor."""
        import numpy as np

        centred = self.add("Sub", [samples, self.add("ReduceMean", [samples], keepdims=1)])
        variance = self.add("ReduceMean", [self.add("Mul", [centred, centred])], keepdims=1)
        deviation = self.add("Sqrt", [self.add("Add", [variance, self.constant(np.array(1e-7, np.float32))])])
        return self.add("Div", [centred, deviation])

    def filter_banks(self, samples: str, sound: Mapping[str, Any]) -> str:
        """Kaldi's log mel energies [1, frames, mels], cut or filled with zeros, as ASTFeatureExtractor. In double precision, as
        there, up to the logarithm: what is quiet is small beside what is loud in the same frame."""
        import numpy as np

        frames, last = sound["frames"], (sound["frames"] - 1) * _HOP + FRAME
        taken = self.add("Cast", [self.add("Slice", [samples, self.whole(0), self.whole(last)])], to=11)
        number = self.add("Sub", [self.add("Shape", [taken]), self.whole(FRAME - _HOP)])
        number = self.add("Div", [number, self.whole(_HOP)])
        rows = self.frames(taken, number)
        rows = self.add("Sub", [rows, self.add("ReduceMean", [rows], axes=[1], keepdims=1)])
        before = self.add("Slice", [rows, self.whole(0), self.whole(FRAME - 1), self.whole(1)])
        before = self.add("Concat", [self.add("Slice", [rows, self.whole(0), self.whole(1), self.whole(1)]), before], axis=1)
        rows = self.add("Sub", [rows, self.add("Mul", [before, self.constant(np.array(_PREEMPHASIS))])])
        window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(FRAME) / (FRAME - 1))
        power = self.power(self.add("Mul", [rows, self.constant(window)]), _FFT)
        mel = self.add("MatMul", [power, self.constant(mel_filters(sound["mels"], sound["rate"]))])
        logs = self.add("Log", [self.add("Max", [mel, self.constant(np.array(_FLOOR))])])
        missing = self.add("Concat", [self.add("Sub", [self.whole(frames), number]), self.whole(sound["mels"])], axis=0)
        silence = self.add("ConstantOfShape", [missing], value=self.value([0.0], "float64"))
        values = self.add("Concat", [logs, silence], axis=0)
        if sound["normalize"]:
            values = self.add("Sub", [values, self.constant(np.array(float(sound["mean"])))])
            values = self.add("Div", [values, self.constant(np.array(2.0 * float(sound["std"])))])
        return self.add("Unsqueeze", [values, self.whole(0)])

    def log_mels(self, samples: str, sound: Mapping[str, Any]) -> str:
        """Whisper's log mel spectrum [1, mels, frames] of a sound that is cut or filled with silence, as WhisperFeatureExtractor.
        Frames that hold nothing but silence are not computed: of them the logarithm's floor is known."""
        import numpy as np

        frames, length = sound["frames"], sound["frames"] * _HOP
        half = FRAME // 2
        taken = self.add("Cast", [self.add("Slice", [samples, self.whole(0), self.whole(length)])], to=11)
        number = self.add("Shape", [taken])
        missing = self.add("Sub", [self.whole(length), number])
        silence = self.add("ConstantOfShape", [missing], value=self.value([0.0], "float64"))
        whole = self.add("Concat", [taken, silence], axis=0)
        before = self.add("Slice", [whole, self.whole(half), self.whole(0), self.whole(0), self.whole(-1)])
        last = self.whole(length - 2), self.whole(length - 2 - half)
        behind = self.add("Slice", [whole, *last, self.whole(0), self.whole(-1)])
        whole = self.add("Concat", [before, whole, behind], axis=0)
        heard = self.add("Div", [self.add("Add", [number, self.whole(half + _HOP - 1)]), self.whole(_HOP)])
        heard = self.add("Min", [heard, self.whole(frames)])
        rows = self.frames(whole, heard)
        window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(FRAME) / FRAME)
        power = self.power(self.add("Mul", [rows, self.constant(window)]), FRAME)
        mel = self.add("MatMul", [power, self.constant(slaney_filters(sound["mels"], sound["rate"]))])
        floor = self.add("Max", [mel, self.constant(np.array(_QUIET))])
        logs = self.add("Mul", [self.add("Log", [floor]), self.constant(np.array(1 / math.log(10)))])
        rest = self.add("Concat", [self.add("Sub", [self.whole(frames), heard]), self.whole(sound["mels"])], axis=0)
        quiet = self.add("ConstantOfShape", [rest], value=self.value([math.log10(_QUIET)], "float64"))
        values = self.add("Concat", [logs, quiet], axis=0)
        least = self.add("Sub", [self.add("ReduceMax", [values], keepdims=1), self.constant(np.array(8.0))])
        values = self.add("Max", [values, least])
        values = self.add("Div", [self.add("Add", [values, self.constant(np.array(4.0))]), self.constant(np.array(4.0))])
        return self.add("Unsqueeze", [self.add("Transpose", [values], perm=[1, 0]), self.whole(0)])

    def frames(self, samples: str, number: str) -> str:
        """So many pieces of the samples, each `_HOP` behind the one before: [number, FRAME]."""
        import numpy as np

        starts = self.add("Range", [self.constant(np.array(0)), self.add("Squeeze", [number]), self.constant(np.array(1))])
        starts = self.add("Unsqueeze", [self.add("Mul", [starts, self.whole(_HOP)]), self.whole(1)])
        return self.add("Gather", [samples, self.add("Add", [starts, self.constant(np.arange(FRAME)[None])])])

    def power(self, rows: str, length: int) -> str:
        """The squares of the spectrum of each row, padded to `length`."""
        import numpy as np

        columns = self.add("Unsqueeze", [rows, self.whole(2)])
        spectrum = self.add("DFT", [columns, self.constant(np.array(length))], axis=1, onesided=1)
        return self.add("ReduceSum", [self.add("Mul", [spectrum, spectrum]), self.whole(2)], keepdims=0)

    def model(self, inputs: Ports, outputs: Ports) -> bytes:
        """The bytes of the graph with these ports, each its element type and its axes."""
        from onnx import checker, helper, numpy_helper

        ports = [
            [helper.make_tensor_value_info(name, _element(dtype), shape) for name, (dtype, shape) in each.items()]
            for each in (inputs, outputs)
        ]
        constants = [numpy_helper.from_array(value, name) for name, value in self._constants.items()]
        graph = helper.make_graph(self._nodes, "sounds", *ports, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))
