"""Packages of models of pictures, through whole builds, against transformers' own processors and pipelines."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import random
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.support import outcomes
from tests.support.models.picture_models import saved
from tests.support.runtime.pictures import file, picture, scene
from tests.support.runtime.tiny_packages import package
from tools import tryout

from mlpack.core.records import Budgets, Signature, Source, TensorSpec
from mlpack.core.serving import Serve
from mlpack.errors import ExitCode
from mlpack.recipe import processors, tasks
from mlpack.store.local import Store
from mlpack.targets.format import bytecode
from mlpack.targets.shipped import unpack
from mlpack_runtime import model
from mlpack_runtime.limits import Limits
from mlpack_runtime.ort import Port
from mlpack_runtime.pictures.shaping import Shaper
from mlpack_runtime.service import Service, open_service

SAMPLES = 100
SIZES = [(1, 1), (2, 3), (3, 2), (5, 300), (300, 5), (224, 224), (241, 321), (64, 63)]
LIMITS = Limits({}, {})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def pictures(number: int, most: int = 120) -> Sequence[Any]:
    chosen = random.Random(3)
    return [scene(chosen.randint(20, most), chosen.randint(20, most), seed) for seed in range(number)]


def built(folder: Path, store: Store, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, *more: str) -> Service:
    """The float package of the model in `folder`, as a service. `shape`: of the tensors that it is tried with."""
    np.savez(folder / "eval.npz", pixel_values=np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32))
    recipe = ["name: tried", "source: {huggingface: model}", "data: {evaluation: eval.npz}", "variants: {fp32: []}", *more]
    (folder / "recipe.yaml").write_text("\n".join([*recipe, "targets: {lambda-zip: {}}"]))
    tried = tryout.try_out(folder / "recipe.yaml", store)
    assert tried.code == ExitCode.OK, tried.error
    (package,) = (folder / "out-recipe/artifacts").iterdir()
    root = unpack(package, folder / "unpacked")
    assert (root / "site/PIL/Image.py").is_file()
    assert (root / "licenses/pillow").is_dir()
    monkeypatch.setattr(model, "ROOT", str(root))
    return open_service()


def ask(service: Service, body: dict[str, Any] | bytes) -> Any:
    reply = service.http("POST", "/", {}, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def opened(data: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(data))


def pipeline(task: str, model_: Any, processor: Any) -> Any:
    return transformers.pipeline(task, model=model_, image_processor=processor, device="cpu")


def agree(got: Sequence[Any], wanted: Sequence[Any], where: object) -> None:
    """The same objects: scores within 1e-4, corners within a pixel, in any order where scores are as near."""
    assert len(got) == len(wanted), where
    for one, other in zip(got, sorted(wanted, key=lambda each: -each["score"]), strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-4), where
    for other in wanted:
        assert any(
            one["label"] == other["label"]
            and one["score"] == pytest.approx(other["score"], abs=1e-4)
            and all(abs(one["box"][end] - other["box"][end]) <= 1 for end in other["box"])
            for one in got
        ), where


VARIANTS: dict[str, list[dict[str, Any]]] = {
    "ViT": [{}, {"size": {"height": 31, "width": 47}, "resample": 0}, {"do_rescale": False, "do_normalize": False}],
    "DeiT": [{}],
    "Beit": [{}, {"do_center_crop": False, "size": 64}],
    "Siglip": [{"size": {"height": 33, "width": 33}}],
    "Pvt": [{}],
    "ConvNext": [{}, {"size": {"shortest_edge": 224}}, {"size": {"shortest_edge": 100}, "crop_pct": 0.9, "resample": 3}],
    "CLIP": [{}, {"size": 50, "crop_size": 61}, {"size": {"height": 40, "width": 30}, "do_center_crop": False}],
    "Bit": [{}],
    "MobileNetV1": [{}],
    "MobileNetV2": [{}, {"crop_size": {"height": 65, "width": 129}, "size": {"shortest_edge": 90}}],
    "MobileViT": [{}, {"do_flip_channel_order": False}],
    "EfficientNet": [{}, {"do_center_crop": True, "rescale_factor": 1 / 127.5, "rescale_offset": True, "include_top": False}],
    "PoolFormer": [{}, {"size": {"height": 64, "width": 64}, "crop_pct": 0.8, "crop_size": {"height": 64, "width": 64}}],
    "Levit": [{}],
    "Detr": [{"size": {"shortest_edge": 60, "longest_edge": 101}}, {"size": {"height": 40, "width": 50}},
             {"size": {"max_height": 50, "max_width": 70}}],
    "ConditionalDetr": [{"size": {"shortest_edge": 60, "longest_edge": 101}, "pad_size": {"height": 110, "width": 120}}],
    "DeformableDetr": [{"size": {"shortest_edge": 61, "longest_edge": 90}}],
    "Yolos": [{"size": {"shortest_edge": 60, "longest_edge": 101}}],
    "RTDetr": [{"size": {"height": 64, "width": 96}}],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # transformers', about images that may be of another layout
@pytest.mark.parametrize("name", VARIANTS)
def test_inputs_are_those_of_the_processors(name: str, tmp_path: Path) -> None:
    for options in VARIANTS[name]:
        processor = getattr(transformers, f"{name}ImageProcessor")(**options)
        processor.save_pretrained(tmp_path)
        written = json.loads((tmp_path / "preprocessor_config.json").read_text())
        made = processors.pixels_of(written, {})
        settings = {
            "steps": made.steps,
            "factors": made.factors,
            "terms": made.terms,
            "mode": "RGB",
            "flip": made.flip,
            "pad_to": made.pad_to,
        }
        shaper = Shaper(Port("pixel_values", "FP32", ("batch", 3, "height", "width")), settings, LIMITS)
        worst, compared = 0.0, 0
        for width, height in SIZES:
            image = picture(width, height, width)
            try:
                wanted = processor(images=image, return_tensors="np", input_data_format="channels_last")["pixel_values"]
            except ValueError:  # sides of nothing: here they are one pixel, or sixteen
                continue
            tensor = shaper.inputs([file(image)], ["image"])[0]["pixel_values"]
            got = np.frombuffer(tensor.data, np.float32).reshape(tensor.shape)
            assert got.shape == wanted.shape, (options, width, height)
            worst, compared = max(worst, float(np.abs(got / made.factors[0] - wanted / made.factors[0]).max())), compared + 1
        assert worst < 0.02, options  # of 255
        assert compared >= 4


def test_labels_are_those_of_a_pipeline(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    loaded = saved(tmp_path / "model", "ViT", processor)
    service = built(tmp_path, store, (3, 32, 32), monkeypatch)
    expected, seen = pipeline("image-classification", loaded, processor), set()
    for at, image in enumerate(pictures(SAMPLES)):
        data = file(image, ("PNG", "JPEG", "WEBP")[at % 3])
        wanted = expected(opened(data), top_k=3)
        got = ask(service, data if at % 2 else {"image": text(data), "top_k": 3})["labels"][:3]
        assert [each["label"] for each in got] == [each["label"] for each in wanted], at
        assert [each["score"] for each in got] == pytest.approx([each["score"] for each in wanted], abs=1e-4), at
        seen.add(got[0]["label"])
    assert len(seen) > 1
    reads_every_format(Path(model.ROOT))
    files = [text(file(image)) for image in pictures(8)]
    single = [ask(service, {"inputs": each}) for each in files]
    for one, other in zip(ask(service, {"inputs": files}), single, strict=True):
        assert [each["label"] for each in one] == [each["label"] for each in other]


READ = """
import base64, json, sys
sys.path[:0] = [sys.argv[1]]
from mlpack_runtime import model
from mlpack_runtime.limits import Limits
from mlpack_runtime.pictures import reading
model.ROOT = sys.argv[1]
for line in sys.stdin:
    print(base64.b64encode(reading.pixels_of(base64.b64decode(line), "image", Limits({}, {})).tobytes()).decode())
assert sys.modules["PIL"].__file__.startswith(sys.argv[1])
"""


def reads_every_format(root: Path) -> None:
    """The package's own Pillow, which is slimmed, in the package's own Python: JPEG with XMP, palettes, animations, EXIF in PNG."""
    from PIL import Image, ImageOps

    image, exif = scene(48, 32), Image.Exif()
    exif[0x0112] = 8
    files = [file(image, "JPEG", xmp=b'<x tiff:Orientation="6"/>'), file(image, "PNG", exif=exif), file(image.convert("P"), "GIF")]
    files += [file(image.convert("LA")), file(image, "WEBP", lossless=True, exif=exif), file(image.convert("CMYK"), "JPEG")]
    files += [file(image, kind, save_all=True, append_images=[scene(48, 32, 1)]) for kind in ("WEBP", "GIF")]
    (extension,) = (root / "site/PIL").glob("_imaging.cpython-*")
    digits = extension.name.split("-")[1]
    python = bytecode.interpreter(f"{digits[0]}.{digits[1:]}")
    assert python is not None
    lines = "".join(f"{text(each)}\n" for each in files)
    command = [str(python.path), "-I", "-S", "-c", READ, str(root)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    expected = [text(ImageOps.exif_transpose(opened(each)).convert("RGB").tobytes()) for each in files]
    assert done.stdout.splitlines() == expected


def packed(folder: Path, loaded: Any, sides: tuple[int | str, int | str], monkeypatch: pytest.MonkeyPatch, **serve: Any) -> Service:
    """A service of the model in `folder`, exported and packed without a whole build, which takes ten times as long. `sides`: of its
    input, where they are numbers, fixed."""
    names = ["logits", *(["pred_boxes"] if hasattr(loaded, "bbox_predictor") else [])]

    class Outputs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = loaded

        def forward(self, pixel_values: torch.Tensor) -> Any:
            made = self.model(pixel_values=pixel_values)
            return tuple(made[name] for name in names)

    def graph(path: Path) -> Path:
        example = torch.zeros(2, 3, *(side if isinstance(side, int) else 64 for side in sides))
        free = {0: "batch", **{at + 2: side for at, side in enumerate(sides) if isinstance(side, str)}}
        axes = {"pixel_values": free, **{name: {0: "batch"} for name in names}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own age, and of sizes that are fixed
            torch.onnx.export(
                Outputs().eval(), (example,), str(path), input_names=["pixel_values"], output_names=names, dynamo=False,
                dynamic_axes=axes,
            )  # fmt: skip
        return path

    def spec(port: Any) -> TensorSpec:
        return TensorSpec(name=port.name, dtype="float32", shape=tuple(port.shape))

    root = package(folder / "package", graph)
    monkeypatch.setattr(model, "ROOT", str(root))
    ports = open_service().model
    signature = Signature(inputs=tuple(map(spec, ports.inputs)), outputs=tuple(map(spec, ports.outputs)))
    source = Source(format="huggingface", reference="model")
    recipe = dataclasses.replace(outcomes.recipe(Budgets()), root=folder, source=source, serve=Serve(**serve))
    task = tasks.settings(recipe, (), signature, tokenized=False)
    path = root / "model/model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "task": task}))
    return open_service()


def test_a_network_of_free_sizes_has_its_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 48}, crop_pct=0.875)
    loaded = saved(tmp_path / "model", "ResNet", processor)
    service = packed(tmp_path, loaded, ("height", "width"), monkeypatch)
    expected = pipeline("image-classification", loaded, processor)
    for at, image in enumerate(pictures(SAMPLES)):
        wanted, got = expected(image), ask(service, {"inputs": text(file(image))})
        assert [each["label"] for each in got] == [each["label"] for each in wanted], at
        assert [each["score"] for each in got] == pytest.approx([each["score"] for each in wanted], abs=1e-4), at


def same_objects(service: Service, loaded: Any, processor: Any) -> None:
    """Held against a pipeline; what is there at all is known to be enough to tell."""
    expected, objects = pipeline("object-detection", loaded, processor), 0
    for image in pictures(SAMPLES):
        wanted = expected(image, threshold=0.3)
        agree(ask(service, {"inputs": text(file(image)), "threshold": 0.3}), wanted, image.size)
        objects += len(wanted)
    assert objects > SAMPLES


def test_objects_are_those_of_a_pipeline(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = transformers.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    loaded = saved(tmp_path / "model", "Detr", processor)
    free = "inputs: {pixel_values: {shape: [batch, 3, height, width]}}"
    same_objects(built(tmp_path, store, (3, 64, 48), monkeypatch, free), loaded, processor)


def test_a_detector_of_one_size_has_the_objects_of_a_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = transformers.YolosImageProcessor(size={"height": 64, "width": 48})
    loaded = saved(tmp_path / "model", "Yolos", processor)
    same_objects(packed(tmp_path, loaded, (64, 48), monkeypatch), loaded, processor)
