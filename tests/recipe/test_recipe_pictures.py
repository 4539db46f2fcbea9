"""Tasks that read pictures, from a model's files and from a recipe."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support import outcomes

from mlpack.core.records import Budgets, Signature, Source, TensorSpec
from mlpack.core.serving import Image, Objects, Serve
from mlpack.errors import RecipeError
from mlpack.recipe import pictures, processors, runtime_settings, tasks
from mlpack.recipe.processors import UnknownError
from mlpack.recipe.serve.pictures import ImageKeys, ObjectKeys

VIT = {"image_processor_type": "ViTImageProcessorFast", "size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.4, 0.3]}
DETR = {"feature_extractor_type": "DetrFeatureExtractor", "size": 800, "max_size": 1333, "format": "coco_detection"}
CLASSIFIER = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "id2label": {"0": "cat", "1": "dog", "2": "fox"}}
DETECTOR = {"architectures": ["DetrForObjectDetection"], "model_type": "detr", "id2label": {"0": "cat", "1": "dog"}}


def spec(name: str, *shape: int | str, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


PIXELS = spec("pixel_values", "batch", 3, 32, 32)
FREE = spec("pixel_values", "batch", 3, "height", "width")
MASK = spec("pixel_mask", "batch", "height", "width", dtype="int64")
LOGITS = spec("logits", "batch", 3)
QUERIES = (spec("logits", "batch", 9, 3), spec("pred_boxes", "batch", 9, 4))


def look(folder: Path, files: dict[str, Any], inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], **serve: Any) -> Any:
    """The task of a directory with these files."""
    place = folder / "model"
    place.mkdir(exist_ok=True)
    for name, content in files.items():
        (place / f"{name}.json").write_text(json.dumps(content))
    source = Source(format="huggingface" if files else "torch", reference="model")
    recipe: Any = SimpleNamespace(root=folder, source=source, serve=Serve(**serve))
    return tasks.settings(recipe, (), Signature(inputs=inputs, outputs=outputs), tokenized=False)


def files(config: dict[str, Any], processor: dict[str, Any] | None) -> dict[str, Any]:
    return {"config": config, **({"preprocessor_config": processor} if processor is not None else {})}


def test_a_classifier_is_read_from_its_files(tmp_path: Path) -> None:
    task = look(tmp_path, files(CLASSIFIER, VIT), (PIXELS,), (LOGITS,))
    assert task["name"] == "image-classification"
    assert (task["output"], task["labels"], task["activation"]) == ("logits", ["cat", "dog", "fox"], "softmax")
    image = task["image"]
    assert (image["input"], image["mode"]) == ("pixel_values", "RGB")
    assert image["steps"] == [["resize", {"height": 32, "width": 32, "resample": 2}]]
    assert image["factors"] == pytest.approx([1 / 255 / 0.5] * 3)
    assert image["terms"] == pytest.approx([-1, -0.8, -0.6])
    assert runtime_settings.needs(task) == ("pictures",)
    assert runtime_settings.needs({"name": "rerank"}) == runtime_settings.needs(None) == ()


def test_a_detector_is_read_from_its_files(tmp_path: Path) -> None:
    task = look(tmp_path, files(DETECTOR, DETR), (FREE, MASK), QUERIES)
    assert task["objects"] == {"form": "detr", "scores": "logits", "boxes": "pred_boxes", "coordinates": "cxcywh", "relative": True}
    assert task["image"]["steps"] == [["within", {"size": 800, "most": 1333, "resample": 2}]]
    assert task["image"]["mask"] == {"name": "pixel_mask", "datatype": "INT64"}
    assert task["labels"] == ["cat", "dog"]
    focal = look(
        tmp_path, files({**DETECTOR, "model_type": "rt_detr"}, {"image_processor_type": "RTDetrImageProcessor"}), (FREE,), QUERIES
    )
    assert (focal["objects"]["form"], "most" in focal["objects"]) == ("focal", False)
    assert focal["image"]["factors"] == [1 / 255] * 3


@pytest.mark.parametrize(
    ("config", "processor", "inputs", "outputs"),
    [
        (CLASSIFIER, {**VIT, "image_processor_type": "NewImageProcessor"}, (PIXELS,), (LOGITS,)),
        (CLASSIFIER, {**VIT, "do_sharpen": True}, (PIXELS,), (LOGITS,)),
        (CLASSIFIER, {**VIT, "size": {"height": 48, "width": 48}}, (PIXELS,), (LOGITS,)),
        (CLASSIFIER, {**VIT, "size": {"depth": 48}}, (FREE,), (LOGITS,)),
        (CLASSIFIER, VIT, (PIXELS, spec("bool_masked_pos", "batch", 4)), (LOGITS,)),
        (CLASSIFIER, VIT, (spec("pixel_values", "batch", 5, 32, 32),), (LOGITS,)),
        (CLASSIFIER, VIT, (PIXELS,), (QUERIES[0],)),
        (DETECTOR, DETR, (PIXELS,), QUERIES),
        (DETECTOR, DETR, (FREE,), (QUERIES[0],)),
        ({**DETECTOR, "model_type": "owlvit"}, {"image_processor_type": "OwlViTImageProcessor"}, (FREE,), QUERIES),
    ],
)
def test_what_is_not_certain_is_no_task(tmp_path: Path, config: Any, processor: Any, inputs: Any, outputs: Any) -> None:
    assert look(tmp_path, files(config, processor), inputs, outputs) is None
    task = "image-classification" if config is CLASSIFIER else "object-detection"
    with pytest.raises(RecipeError, match=rf"serve\.task: {task}: "):
        look(tmp_path, files(config, processor), inputs, outputs, task=task)


def test_people_are_told_why_there_is_no_task(tmp_path: Path) -> None:
    def why(config: dict[str, Any], processor: dict[str, Any] | None, *outputs: TensorSpec, **serve: Any) -> str | None:
        look(tmp_path, files(config, processor), (PIXELS,), outputs)
        source = Source(format="huggingface", reference="model")
        recipe = dataclasses.replace(outcomes.recipe(Budgets()), root=tmp_path, source=source, serve=Serve(**serve))
        return tasks.untold(recipe, (), Signature(inputs=(PIXELS,), outputs=outputs))

    told = why(DETECTOR, DETR, *QUERIES)
    assert told is not None
    assert "it takes tensors alone, because object-detection: the model's input" in told
    assert "say serve.image.size" in told
    assert why(DETECTOR, DETR, *QUERIES, task="none") is None
    assert why(DETECTOR, DETR, *QUERIES, preprocess="a:b") is None
    assert why({"architectures": ["BertForMaskedLM"]}, DETR, *QUERIES) is None
    (tmp_path / "model/preprocessor_config.json").unlink()
    told = why(CLASSIFIER, None, LOGITS)
    assert told is not None
    assert "serve.task: image-classification" in told


def test_without_a_processor_nothing_is_implied(tmp_path: Path) -> None:
    assert look(tmp_path, files(CLASSIFIER, None), (PIXELS,), (LOGITS,)) is None
    assert look(tmp_path, files(CLASSIFIER, None), (PIXELS,), (LOGITS,), image=Image(scale=1.0))["image"]["factors"] == [1.0] * 3


def test_a_recipe_says_what_files_do_not(tmp_path: Path) -> None:
    said = Image(size=(20, 30), fit="crop", resample="bicubic", mean=(0.5,), std=(0.25,), channels="bgr")
    task = look(tmp_path, {}, (spec("x", "batch", 20, 30, 3),), (spec("y", "batch", 2),), task="image-classification", image=said)
    sides = {"height": 20, "width": 30}
    assert task["image"] == {
        "input": "x",
        "steps": [["cover", {**sides, "resample": 3}], ["crop", sides]],
        "factors": [1 / 255 / 0.25] * 3,
        "terms": [-2.0] * 3,
        "mode": "RGB",
        "flip": True,
        "layout": "NHWC",
    }
    assert task["labels"] == ["LABEL_0", "LABEL_1"]
    bytes_ = look(tmp_path, {}, (spec("x", 1, 8, 8, 3, dtype="uint8"),), (spec("y", 1, 2),), task="image-classification")
    assert (bytes_["image"]["factors"], bytes_["image"]["terms"]) == ([1.0] * 3, [0.0] * 3)
    gray = look(tmp_path, {}, (spec("x", "batch", 1, 28, 28),), (spec("y", "batch", 2),), task="image-classification")
    assert (gray["image"]["mode"], len(gray["image"]["factors"])) == ("L", 1)


GRAY = spec("x", "batch", 1, 32, 32)


def arithmetic(folder: Path, port: TensorSpec, processor: dict[str, Any], **said: Any) -> tuple[list[float], list[float]]:
    """Factors and terms of a classifier's channels."""
    image = look(folder, files(CLASSIFIER, processor), (port,), (LOGITS,), task="image-classification", image=Image(**said))[
        "image"
    ]
    return image["factors"], image["terms"]


def test_what_a_recipe_leaves_out_is_as_the_files_say(tmp_path: Path) -> None:
    vit = {**VIT, "image_std": [0.2, 0.25, 0.5]}
    for said, factors, terms in (
        ({}, [1 / 51, 1 / 63.75, 1 / 127.5], [-2.5, -1.6, -0.6]),
        ({"mean": (0.1,)}, [1 / 51, 1 / 63.75, 1 / 127.5], [-0.5, -0.4, -0.2]),
        ({"std": (1.0,)}, [1 / 255] * 3, [-0.5, -0.4, -0.3]),
        ({"scale": 1.0}, [5, 4, 2], [-2.5, -1.6, -0.6]),
        ({"mean": (0.0,), "std": (1.0,)}, [1 / 255] * 3, [0, 0, 0]),
    ):
        assert arithmetic(tmp_path, PIXELS, vit, **said) == (pytest.approx(factors), pytest.approx(terms)), said
    assert arithmetic(tmp_path, PIXELS, {**vit, "do_normalize": False}, scale=2.0) == ([2.0] * 3, [0.0] * 3)
    raw = {**vit, "do_rescale": False}
    assert arithmetic(tmp_path, PIXELS, raw, mean=(1.0,), std=(2.0,)) == ([0.5] * 3, [-0.5] * 3)


def test_pictures_are_cropped_as_the_files_say(tmp_path: Path) -> None:
    clip = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 36}, "crop_size": 32}

    def steps(**said: Any) -> Any:
        task = look(tmp_path, files(CLASSIFIER, clip), (FREE,), (LOGITS,), task="image-classification", image=Image(**said))
        return task["image"]["steps"]

    sides = {"height": 32, "width": 32}
    assert steps() == steps(size=(32, 32)) == steps(mean=(0.5,)) == [["shortest", {"size": 36, "resample": 3}], ["crop", sides]]
    assert steps(resample="bilinear") == [["shortest", {"size": 36, "resample": 2}], ["crop", sides]]
    assert steps(fit="stretch") == [["resize", {**sides, "resample": 3}]]
    assert steps(size=(40, 40), fit="crop")[0][0] == "cover"
    with pytest.raises(RecipeError, match=r"crop pictures to another size than serve\.image\.size: say serve\.image\.fit"):
        steps(size=(40, 40))


def test_gray_pictures_have_the_numbers_of_their_files(tmp_path: Path) -> None:
    one = {**VIT, "image_mean": [0.5], "image_std": [0.25]}
    assert arithmetic(tmp_path, GRAY, one) == ([pytest.approx(4 / 255)], [-2.0])
    assert arithmetic(tmp_path, GRAY, {**one, "image_mean": 0.5, "image_std": [0.25] * 3}) == ([pytest.approx(4 / 255)], [-2.0])
    assert arithmetic(tmp_path, GRAY, one, mean=(0.0,)) == ([pytest.approx(4 / 255)], [0.0])
    assert arithmetic(tmp_path, GRAY, VIT, mean=(0.0,), std=(1.0,)) == ([pytest.approx(1 / 255)], [0.0])
    with pytest.raises(RecipeError, match=r"takes gray, and its files have numbers for three channels: say serve\.image\.mean"):
        arithmetic(tmp_path, GRAY, VIT)


def test_numbers_of_more_than_mean_and_std_are_said_whole(tmp_path: Path) -> None:
    processor = {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 32, "width": 32}}
    assert arithmetic(tmp_path, PIXELS, processor, scale=1.0, mean=(1.0,), std=(2.0,)) == ([0.5] * 3, [-0.5] * 3)
    with pytest.raises(RecipeError, match=r"cannot be replaced in part here: say serve\.image\.scale, mean and std"):
        arithmetic(tmp_path, PIXELS, processor, mean=(1.0,))


def test_a_recipe_replaces_a_size_that_depends_on_the_picture(tmp_path: Path) -> None:
    task = look(tmp_path, files(DETECTOR, DETR), (PIXELS,), QUERIES, image=Image(size=(32, 32)))
    assert task["image"]["steps"] == [["resize", {"height": 32, "width": 32, "resample": 2}]]
    assert task["image"]["factors"] == pytest.approx([1 / 255 / std for std in (0.229, 0.224, 0.225)])
    with pytest.raises(RecipeError, match=r"has the height 32, and pictures would get 40: say serve\.image\.size"):
        look(tmp_path, files(DETECTOR, DETR), (PIXELS,), QUERIES, image=Image(size=(40, 32)))


def test_forms_of_detectors(tmp_path: Path) -> None:
    def objects(said: Objects, *outputs: TensorSpec, labels: tuple[str, ...] | None = ("a", "b")) -> Any:
        return look(tmp_path, {}, (PIXELS,), outputs, task="object-detection", objects=said, labels=labels)

    yolo = objects(Objects(form="yolo", iou=0.6), spec("output0", "batch", 6, 84))
    assert yolo["objects"] == {"form": "yolo", "boxes": "output0", "coordinates": "cxcywh", "columns": 6}
    assert yolo["iou"] == 0.6
    older = objects(Objects(form="yolo", objectness=True), spec("output0", "batch", 100, 7))["objects"]
    assert (older["columns"], older["objectness"]) == (7, True)
    assert objects(Objects(form="yolo"), spec("output0", "batch", 9, 84), labels=None)["objects"]["columns"] == 9
    anchors = objects(
        Objects(form="anchors", relative=True), spec("boxes", 1, 9, 4), spec("scores", 1, 9, 3), labels=("Background", "a", "b")
    )
    assert anchors["objects"]["background"] == 0
    lists = objects(Objects(form="lists"), spec("boxes", "n", 4), spec("labels", "n", dtype="int64"), spec("scores", "n"))[
        "objects"
    ]
    assert (lists["classes"], lists["coordinates"], "relative" in lists) == ("labels", "xyxy", False)
    one = (spec("images", 3, "height", "width"),)
    chosen = spec("boxes", "n", 4), spec("labels", "n", dtype="int64"), spec("scores", "n")
    image = look(tmp_path, {}, one, chosen, task="object-detection", objects=Objects(form="lists"), labels=("a",))["image"]
    assert (image["single"], image["steps"], image["input"]) == (True, [], "images")
    with pytest.raises(RecipeError, match=r"four axes.*Three axes are enough for a detector that gives lists \(serve\.objects"):
        look(tmp_path, {}, one, (spec("output0", 6, 84),), task="object-detection", objects=Objects(form="yolo"), labels=("a", "b"))
    for said, outputs, message in (
        (Objects(form="yolo"), (spec("output0", "batch", 9, 84),), "no axis of 6"),
        (Objects(form="yolo"), (spec("a", 1, 6, 84), spec("b", 1)), "say serve.objects.boxes"),
        (Objects(form="yolo", boxes="c"), (spec("a", 1, 6, 84),), "serve.objects.boxes is 'c'"),
        (Objects(form="yolo"), (spec("a", 1, 6, 8, 8),), "no grid"),
        (Objects(form="lists"), (spec("boxes", 1, 4), spec("scores", 1)), "say serve.objects.classes"),
    ):
        with pytest.raises(RecipeError, match=message):
            objects(said, *outputs)
    assert objects(Objects(form="yolo"), spec("output0", "batch", 9, "n"), labels=None)["objects"]["columns"] == 9
    with pytest.raises(RecipeError, match="how many labels"):
        objects(Objects(form="yolo"), spec("output0", "batch", "m", "n"), labels=None)
    with pytest.raises(RecipeError, match=r"say serve.objects.form"):
        look(tmp_path, {}, (PIXELS,), QUERIES, task="object-detection")


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({**VIT, "resample": 9}, "in resample"),
        ({**VIT, "image_mean": [0.5, 0.5]}, "three numbers"),
        ({**VIT, "image_std": [0.5, 0, 0.5]}, "three numbers"),
        ({**VIT, "rescale_factor": "a"}, "a number is needed"),
        ({**VIT, "size": "large"}, "the size 'large'"),
        ({**VIT, "size": {"height": -1, "width": 5}}, "-1 in size"),
        ({**VIT, "size": {"height": True, "width": 5}}, "True in size"),
        ({"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0, "size": 100}, "the crop_pct 0"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"height": 9, "width": 9}}, "size of height and width"),
        ({}, "without a name"),
    ],
)
def test_damaged_files_of_processors_are_refused(processor: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownError, match=message):
        processors.pixels_of(processor, {})


def test_old_and_harmless_keys_are_understood() -> None:
    old = {"feature_extractor_type": "ViTFeatureExtractor", "size": 224, "do_normalize": True, "do_convert_rgb": True}
    old |= {"crop_size": None, "return_tensors": None, "auto_map": None, "size_divisor": False}
    assert processors.pixels_of(old, {}).steps == (("resize", {"height": 224, "width": 224, "resample": 2}),)
    assert processors.pixels_of({"size": 256}, {"model_type": "resnet"}).steps[0] == ("shortest", {"size": 292, "resample": 2})
    assert processors.pixels_of({"size": [20, 30]}, {"model_type": "vit"}).steps[0][1]["width"] == 30


def test_timm_is_understood() -> None:
    settings = {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center"}
    settings |= {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "test_input_size": [3, 288, 288], "test_crop_pct": 1.0}
    made = processors.timm_pixels(settings)
    sides = {"height": 224, "width": 224}
    assert made.steps == (("shortest", {"size": 235, "resample": 3}), ("crop", {**sides, "half": True}))
    assert made.terms == (-2.0,) * 3
    wide = processors.timm_pixels({**settings, "input_size": [3, 96, 160]})
    assert wide.steps[0] == ("cover", {"height": 101, "width": 168, "resample": 3})
    for processor, config in (
        ({"image_processor_type": "TimmWrapperImageProcessor", "data_config": settings}, {}),
        ({"image_processor_type": "TimmWrapperImageProcessor", "data_config": {}}, {"pretrained_cfg": settings}),
    ):
        assert processors.pixels_of(processor, config) == made
    with pytest.raises(UnknownError, match="input_size None"):
        processors.pixels_of({"image_processor_type": "TimmWrapperImageProcessor"}, {})
    for wrong in ({"input_size": [1, 28, 28]}, {"crop_mode": "border"}, {"interpolation": "random"}):
        with pytest.raises(UnknownError):
            processors.timm_pixels({**settings, **wrong})


def test_what_ultralytics_writes_into_a_file_counts(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    graph = helper.make_graph([], "g", [], [])
    made = helper.make_model(graph)
    props = {"names": "{0: 'cat', 1: 'it\\'s a dog'}", "imgsz": "[320, 640]", "author": "Ultralytics", "odd": "__import__('os')"}
    helper.set_model_props(made, props)
    onnx.save_model(made, str(tmp_path / "yolo.onnx"))
    assert pictures.told_by_graph(tmp_path / "yolo.onnx") == {"id2label": {0: "cat", 1: "it's a dog"}, "image_size": [320, 640]}
    recipe: Any = SimpleNamespace(
        root=tmp_path,
        source=Source(format="onnx", reference="yolo.onnx"),
        serve=Serve(task="object-detection", image=Image(fit="pad"), objects=Objects(form="yolo")),
    )
    signature = Signature(inputs=(FREE,), outputs=(spec("output0", "batch", 6, "anchors"),))
    task = tasks.settings(recipe, (), signature, tokenized=False)
    assert task is not None
    assert task["labels"] == ["cat", "it's a dog"]
    assert task["image"]["steps"][0][1]["width"] == 640
    helper.set_model_props(made, {"names": "__import__('os')", "imgsz": "[" * 5000})
    onnx.save_model(made, str(tmp_path / "yolo.onnx"))
    assert pictures.told_by_graph(tmp_path / "yolo.onnx") == pictures.told_by_graph(tmp_path / "none.onnx") == {}
    (tmp_path / "yolo.onnx").write_bytes(b"\xff" * 50)
    assert pictures.told_by_graph(tmp_path / "yolo.onnx") == {}


@pytest.mark.parametrize(
    ("operator", "said", "activation"),
    [("Softmax", None, "none"), ("Sigmoid", None, "none"), ("Gemm", None, "softmax"), ("Softmax", "sigmoid", "sigmoid")],
)
def test_scores_of_a_graph_are_not_computed_twice(tmp_path: Path, operator: str, said: str | None, activation: str) -> None:
    import onnx
    from onnx import helper

    nodes = [helper.make_node(operator, ["x"], ["p"]), helper.make_node("Identity", ["p"], ["scores"])]
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("scores", 1, ["n", 3])])
    onnx.save_model(helper.make_model(graph), str(tmp_path / "keras.onnx"))
    serve = Serve(task="image-classification", activation=said)
    recipe: Any = SimpleNamespace(root=tmp_path, source=Source(format="onnx", reference="keras.onnx"), serve=serve)
    signature = Signature(inputs=(spec("x", "n", 32, 32, 3),), outputs=(spec("scores", "n", 3),))
    task = tasks.settings(recipe, (), signature, tokenized=False)
    assert task is not None
    assert task["activation"] == activation


def test_keys_become_records() -> None:
    assert ImageKeys(size=224, mean=(0.5,)).record() == Image(size=(224, 224), mean=(0.5,))
    assert ObjectKeys(form="yolo", iou=0.5).record() == Objects(form="yolo", iou=0.5)
