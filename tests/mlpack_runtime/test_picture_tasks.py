"""Plain requests with pictures: forms, parameters, answers, boxes, and what is refused."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model
from tests.support.runtime.functions import function
from tests.support.runtime.pictures import constants, file, means, picture
from tests.support.runtime.tiny_packages import package

from mlpack_runtime import model
from mlpack_runtime.backend import open_backend
from mlpack_runtime.limits import RequestError
from mlpack_runtime.pictures.shaping import Frame
from mlpack_runtime.service import Service, open_service
from mlpack_runtime.serving.batched import Batched
from mlpack_runtime.serving.batcher import Batcher
from mlpack_runtime.serving.breaker import Breaker
from mlpack_runtime.serving.probe import probe
from mlpack_runtime.tasks import boxes
from mlpack_runtime.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE = {
    "input": "pixel_values",
    "steps": [["resize", {"height": 8, "width": 8, "resample": 2}]],
    "factors": [1 / 255] * 3,
    "terms": [0.0] * 3,
    "mode": "RGB",
}
CLASSES = {
    "name": "image-classification",
    "output": "logits",
    "labels": ["red", "green", "blue"],
    "activation": "softmax",
    "image": IMAGE,
}
JPEG = {"content-type": "image/jpeg"}


def painted(colour: str, width: int = 20, height: int = 10, kind: str = "PNG") -> bytes:
    from PIL import Image

    return file(Image.new("RGB", (width, height), colour), kind)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(tmp_path_factory.mktemp("classes"), means, task=CLASSES, limits={"rows": 3})


@pytest.fixture
def classifier(classes: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(model, "ROOT", str(classes))
    return open_service()


def ask(service: Service, body: object, status: int = 200, headers: dict[str, str] | None = None) -> Any:
    data: Any = body if isinstance(body, bytes | bytearray | memoryview) else json.dumps(body).encode()
    reply = service.http("POST", "/", headers or {}, data)
    assert reply.status == status, reply.body
    return json.loads(reply.body)


def test_forms_of_one_picture_have_one_answer(classifier: Service) -> None:
    red = painted("red")
    one = ask(classifier, red, headers=JPEG)
    assert (one["label"], [each["label"] for each in one["labels"]]) == ("red", ["red", "green", "blue"])
    assert one["score"] == pytest.approx(1, abs=1e-3)
    assert ask(classifier, red) == one
    assert ask(classifier, {"image": text(red)}) == one
    assert ask(classifier, {"image": f"data:image/png;base64,{text(red)}"}) == one
    assert ask(classifier, {"inputs": text(red)}) == one["labels"]
    assert ask(classifier, {"inputs": [text(red)]}) == [one["labels"]]
    several = ask(classifier, {"images": [text(red), text(painted("blue", 3, 40))]})["results"]
    assert several[0] == one
    assert several[1]["label"] == "blue"
    form = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n' + red
    form += b'\r\n--x\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n1\r\n--x--\r\n'
    answer = ask(classifier, form, headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer == {**one, "labels": one["labels"][:1]}


def test_direct_requests_and_messages_too(classifier: Service) -> None:
    green = painted("#00ff00")
    direct = json.loads(classifier.value({"image": text(green)}).body)
    assert (direct["label"], "trace_id" in direct) == ("green", True)
    for headers in (JPEG, {"content-type": "binary/octet-stream"}, {}):
        assert json.loads(classifier.message(headers, green, "id", {}).body)["label"] == "green"
    assert json.loads(classifier.message({}, json.dumps({"image": text(green)}).encode(), "id", {}).body)["label"] == "green"


def test_labels_follow_the_parameters(classifier: Service) -> None:
    body = {"image": text(painted("red"))}
    assert len(ask(classifier, {**body, "top_k": 2})["labels"]) == 2
    assert ask(classifier, {**body, "threshold": 2}) == {"label": None, "score": None, "labels": []}
    raw = ask(classifier, {**body, "parameters": {"function_to_apply": "none"}})
    assert raw["score"] == pytest.approx(10, abs=1e-4)
    assert "no parameter 'size'" in ask(classifier, {**body, "parameters": {"size": 3}}, 400)["error"]


def test_protocol_requests_stay_as_they_are(classifier: Service) -> None:
    rows = [{"name": "pixel_values", "shape": [1, 3, 1, 1], "datatype": "FP32", "data": [1, 2, 3]}]
    answer = ask(classifier, {"inputs": rows})
    assert answer["outputs"][0]["data"] == [10, 20, 30]
    assert ask(classifier, {"inputs": {"pixel_values": [[[[1]], [[2]], [[3]]]]}})["outputs"] == answer["outputs"]
    head = json.dumps({"inputs": [{**rows[0], "data": None, "parameters": {"binary_data_size": 12}}]}).encode()
    body = head + np.array([1, 2, 3], np.float32).tobytes()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    assert ask(classifier, body, headers=headers)["outputs"] == answer["outputs"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"%PDF", 400, "not JSON"),
        ({"image": "aGVsbG8gd29ybGQ="}, 400, "JPEG, PNG, WebP and GIF"),
        ({"image": 7}, 400, "base64"),
        ({"image": ["a"]}, 400, "'images'"),
        ({"images": "a"}, 400, "a list is needed"),
        ({"images": []}, 400, "an empty list"),
        ({"images": ["a"] * 4}, 413, "MLPACK_LIMIT_ROWS"),
        ({"images": ["%"]}, 400, "'images[0]' is '%'"),
        ({"image": "https://example.com/a.png"}, 400, "fetches none"),
        ({"text": "hello"}, 400, '{"image": "base64 or a data: URL"}'),
    ],
)
def test_what_is_no_picture_is_refused(classifier: Service, body: object, status: int, message: str) -> None:
    assert message in ask(classifier, body, status)["error"]


def test_a_fixed_batch_takes_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = constants({"logits": np.array([1, 2, 3], np.float32)}, (1, 3, 8, 8))
    monkeypatch.setattr(model, "ROOT", str(package(tmp_path / "p", graph, task=CLASSES)))
    service, picture_ = open_service(), text(painted("red"))
    assert ask(service, {"image": picture_})["label"] == "blue"
    assert "one by one" in ask(service, {"images": [picture_] * 2}, 400)["error"]


def test_functions_take_pictures(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler, data = function(classes, monkeypatch), text(painted("blue", kind="JPEG"))
    event = {"requestContext": {"http": {"method": "POST"}}, "rawPath": "/", "headers": JPEG, "body": data, "isBase64Encoded": True}
    assert json.loads(handler(event)["body"])["label"] == "blue"
    assert handler({"image": data})["label"] == "blue"


def test_a_worker_answers_as_a_function_does(classes: Path, classifier: Service) -> None:
    """Callers at once, of which each has its own answer, in whatever the server read a body into."""
    del classes
    colours = ["red", "blue", "#00ff00"]
    bodies = [painted(colours[at % 3], 30 + at, 20, ("PNG", "JPEG")[at % 2]) for at in range(12)]
    expected = [ask(classifier, body)["label"] for body in bodies]
    loaded = model.load(lambda place, settings: open_backend(place, settings, lambda _: None))
    probed = probe(loaded, loaded.session)
    batcher = Batcher(loaded.session, probed.layout, max_batch=4, max_wait_s=0.002, breaker=Breaker(5, 1.0), sample=probed.sample)
    batcher.hold_to(loaded.limits)
    batcher.start()
    service = Service(loaded, Batched(loaded, batcher))
    try:
        with ThreadPoolExecutor(6) as pool:
            kinds = [bytes, bytearray, memoryview] * 4
            got = list(
                pool.map(lambda pair: ask(service, pair[0](pair[1]), headers=JPEG)["label"], zip(kinds, bodies, strict=True))
            )
        assert got == expected
        assert set(got) == {"red", "green", "blue"}
    finally:
        batcher.stop()
        loaded.session.close()


def test_wrong_settings_stop_the_start(classes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = {**CLASSES, "image": {**IMAGE, "input": "pixels"}}
    monkeypatch.setattr(model, "ROOT", str(package(tmp_path / "p", means, task=wrong)))
    with pytest.raises(model.ModelError, match="gives 'pixels'"):
        open_service()


# Detection


def logits(*rows: tuple[float, ...]) -> Any:
    return np.array(rows, np.float32)


BOXES = logits((0.5, 0.5, 0.5, 0.5), (0.25, 0.5, 0.2, 0.4), (0.9, 0.9, 0.4, 0.4))


@pytest.fixture
def detecting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Service]:
    def start(outputs: dict[str, Any], objects: dict[str, Any], **more: Any) -> Service:
        task = {"name": "object-detection", "labels": ["cat", "dog"], "objects": objects, "image": IMAGE, **more}
        monkeypatch.setattr(model, "ROOT", str(package(tmp_path / "detector", constants(outputs), task=task)))
        return open_service()

    return start


def box(*ends: int) -> dict[str, int]:
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), ends, strict=True))


def test_detr_has_one_label_a_query(detecting: Callable[..., Service]) -> None:
    scores = logits((2, 0, 0), (0, 5, 0), (0, 0, 9))
    objects = {"form": "detr", "boxes": "pred_boxes", "scores": "logits", "coordinates": "cxcywh", "relative": True}
    service = detecting({"logits": scores, "pred_boxes": BOXES}, objects)
    red = text(painted("red", 101, 50))
    answer = ask(service, {"image": red})
    assert [(each["label"], each["box"]) for each in answer["objects"]] == [
        ("dog", box(15, 15, 35, 35)),
        ("cat", box(25, 12, 75, 37)),
    ]
    assert answer["objects"][0]["score"] == pytest.approx(np.exp(5) / (np.exp(5) + 2), abs=1e-6)
    assert [each["label"] for each in ask(service, {"inputs": red, "threshold": 0.9})] == ["dog"]
    assert ask(service, {"inputs": [red], "top_k": 1}) == [answer["objects"][:1]]
    assert ask(service, {"images": [red, red]}) == {"results": [answer, answer]}
    assert len(ask(service, {"image": red, "threshold": 0})["objects"]) == 3


def test_focal_queries_may_be_several_objects(detecting: Callable[..., Service]) -> None:
    objects = {"form": "focal", "boxes": "pred_boxes", "scores": "logits", "coordinates": "cxcywh", "relative": True, "most": 3}
    service = detecting({"logits": logits((3, 2), (-3, 1), (0.5, 0)), "pred_boxes": BOXES}, objects)
    answer = ask(service, {"image": text(painted("red", 100, 50)), "threshold": 0.1})
    assert [(each["label"], each["box"]["xmin"]) for each in answer["objects"]] == [("cat", 25), ("dog", 25), ("dog", 15)]
    assert answer["objects"][2]["score"] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-6)


def grid(objectness: bool = False) -> Any:
    """Two boxes of a cat that overlap, a dog in the same place, and noise, as columns: in pixels of an input of 8 x 8."""
    places = [(4, 4, 4, 4, 0.9, 0.1), (4.2, 4, 4, 4, 0.8, 0.1), (4, 4, 4, 4, 0.2, 0.7), (1, 1, 2, 2, 0.3, 0.4)]
    rows = np.array([(*row[:4], 1.0, *row[4:]) if objectness else row for row in places], np.float32)
    return np.concatenate([rows, np.zeros((20, rows.shape[1]), np.float32)])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("objectness", [False, True])
def test_grids_are_sorted_out(detecting: Callable[..., Service], turned: bool, objectness: bool) -> None:
    made = grid(objectness)
    objects = {"form": "yolo", "boxes": "output0", "coordinates": "cxcywh", "columns": made.shape[1], "objectness": objectness}
    service = detecting({"output0": made.T.copy() if turned else made}, objects)
    body = {"image": text(painted("red", 80, 40))}
    answer = ask(service, body)["objects"]
    assert [(each["label"], each["box"]) for each in answer] == [("cat", box(20, 10, 60, 30)), ("dog", box(20, 10, 60, 30))]
    assert [each["score"] for each in answer] == pytest.approx([0.9, 0.7], abs=1e-6)
    assert len(ask(service, {**body, "iou": 0.99})["objects"]) == 3
    assert len(ask(service, {**body, "threshold": 0.35})["objects"]) == 3


def of_grid(made: Any, *, objectness: bool = False) -> Any:
    names = {"float16": "FP16", "float32": "FP32", "float64": "FP64"}
    outputs = {"output0": Tensor(names[made.dtype.name], (1, *made.shape), made.tobytes())}
    return boxes.of_grid(outputs, 0, {"boxes": "output0", "columns": made.shape[1], "objectness": objectness}, 0.5)


def test_grids_of_other_floats_are_read() -> None:
    single = of_grid(grid())
    assert of_grid(grid().astype(np.float64)) == single
    assert [label for _, label, _ in of_grid(grid().astype(np.float16))] == [label for _, label, _ in single]


@pytest.mark.parametrize("objectness", [False, True])
@pytest.mark.parametrize("places", [1, None])
def test_scores_of_a_grid_are_numbers(objectness: bool, places: int | None) -> None:
    made = grid(objectness)
    made[:places, 4:] = np.nan
    with pytest.raises(RequestError, match="scores in 'output0' that are not finite"):
        of_grid(made, objectness=objectness)


def test_an_infinite_score_is_unprocessable(detecting: Callable[..., Service]) -> None:
    made = grid()
    made[0, 4] = np.inf
    service = detecting({"output0": made}, {"form": "yolo", "boxes": "output0", "coordinates": "cxcywh", "columns": 6})
    assert "a score that is not finite" in ask(service, {"image": text(painted("red"))}, 422)["error"]


def test_letterboxes_are_taken_off(detecting: Callable[..., Service]) -> None:
    image = {**IMAGE, "steps": [["letterbox", {"height": 8, "width": 8, "resample": 2, "fill": 114}]]}
    objects = {"form": "yolo", "boxes": "output0", "coordinates": "cxcywh", "columns": 6}
    service = detecting({"output0": grid()}, objects, image=image)
    answer = ask(service, {"image": text(painted("red", 80, 40))})["objects"]
    assert answer[0]["box"] == box(20, 0, 60, 40)  # the middle half: 4 of 8 rows are the picture's own
    tall = ask(service, {"image": text(painted("red", 40, 80))})["objects"]
    assert tall[0]["box"] == box(0, 20, 40, 60)


def test_anchors_and_lists_and_rows(detecting: Callable[..., Service], tmp_path: Path) -> None:
    ends = logits((0.1, 0.2, 0.5, 0.6), (0.12, 0.2, 0.5, 0.6), (0.5, 0.5, 2, 2))
    scores = logits((0.05, 0.9, 0.0), (0.0, 0.8, 0.1), (0.9, 0.02, 0.6))
    said = {"form": "anchors", "boxes": "boxes", "scores": "scores", "coordinates": "xyxy", "relative": True, "background": 0}
    names = ["background", "cat", "dog"]
    body = {"image": text(painted("red", 100, 50))}
    answer = ask(detecting({"boxes": ends, "scores": scores}, said, labels=names), body)["objects"]
    wanted = [("cat", box(10, 10, 50, 30)), ("dog", box(50, 25, 100, 50))]
    assert [(each["label"], each["box"]) for each in answer] == wanted


@pytest.mark.parametrize("least", [-1.0, 0.0, 0.3, 0.999, 1.0])
@pytest.mark.parametrize("how", ["sigmoid", "softmax", "none"])
def test_anchors_are_those_above_the_threshold(how: str, least: float) -> None:
    numbers, places = np.random.default_rng(1).normal(0, 3, (1, 40, 4)).astype(np.float32), np.zeros((1, 40, 4), np.float32)
    outputs = {name: Tensor("FP32", (1, 40, 4), each.tobytes()) for name, each in (("scores", numbers), ("boxes", places))}
    said = {"boxes": "boxes", "scores": "scores", "activation": how, "background": 2}
    wanted = numbers[0].astype(np.float64)
    if how != "none":
        wanted = 1 / (1 + np.exp(-wanted)) if how == "sigmoid" else np.exp(wanted) / np.exp(wanted).sum(1, keepdims=True)
    expected = [(float(row[label]), label) for row in wanted for label in (0, 1, 3) if row[label] > least]
    found = boxes.of_anchors(outputs, 0, said, least)
    assert [label for _, label, _ in found] == [label for _, label in expected]
    assert [score for score, _, _ in found] == pytest.approx([score for score, _ in expected])


def test_lists_and_rows_were_chosen_by_the_graph(detecting: Callable[..., Service]) -> None:
    outputs = {"boxes": logits((0.2, 0.1, 0.6, 0.5), (0, 0, 0, 0)), "scores": np.array([0.9, 0.1], np.float32),
               "classes": np.array([1, 0], np.float32)}  # fmt: skip
    said = {"form": "lists", "boxes": "boxes", "scores": "scores", "classes": "classes", "coordinates": "yxyx", "relative": True}
    body = {"image": text(painted("red", 100, 50))}
    assert ask(detecting(outputs, said), body)["objects"] == [{"label": "dog", "score": 0.9, "box": box(10, 10, 50, 30)}]


def test_a_detector_takes_one_picture_without_an_axis_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's, exported with a list of one picture: its boxes end where the picture that it was given does."""

    def graph(path: Path) -> Path:
        given = helper.make_tensor_value_info("images", TensorProto.FLOAT, [3, "height", "width"])
        ends = [
            helper.make_node("Shape", ["images"], ["shape"]),
            helper.make_node("Gather", ["shape", "order"], ["sides"]),
            helper.make_node("Cast", ["sides"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["numbers", "part"], ["row"]),
            helper.make_node("Unsqueeze", ["row", "first"], ["boxes"]),
            helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
            helper.make_node("Unsqueeze", ["most", "first"], ["scores"]),
        ]
        kept = {"order": np.array([2, 1, 2, 1]), "part": np.array([0, 0, 1, 0.5], np.float32), "first": np.array([0])}
        weights = [numpy_helper.from_array(value, name) for name, value in kept.items()]
        label = helper.make_node("Constant", [], ["labels"], value=numpy_helper.from_array(np.array([1])))
        shapes = {"boxes": ["n", 4], "scores": ["n"]}
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        outputs.append(helper.make_tensor_value_info("labels", TensorProto.INT64, ["n"]))
        made = helper.make_graph([*ends, label], "detector", [given], outputs, weights)
        save_model(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
        return path

    said = {"form": "lists", "boxes": "boxes", "scores": "scores", "classes": "labels", "coordinates": "xyxy"}
    image = {"input": "images", "steps": [], "factors": [1 / 255] * 3, "terms": [0.0] * 3, "mode": "RGB", "single": True}
    task = {"name": "object-detection", "labels": ["cat", "dog"], "objects": said, "image": image}
    monkeypatch.setattr(model, "ROOT", str(package(tmp_path / "one", graph, task=task)))
    service = open_service()
    wanted = {"objects": [{"label": "dog", "score": 1.0, "box": box(0, 0, 100, 25)}]}
    red, wide = text(painted("red", 100, 50)), text(painted("red", 30, 20))
    assert ask(service, {"image": red}) == wanted
    assert ask(service, {"images": [red]}) == {"results": [wanted]}
    assert ask(service, {"inputs": wide})[0]["box"] == box(0, 0, 30, 10)
    assert "takes 1 picture a call, not 2: send them one by one" in ask(service, {"images": [red, wide]}, 400)["error"]


def test_rows_hold_score_and_label(detecting: Callable[..., Service]) -> None:
    rows = logits((0.8, 1.6, 4, 4.8, 0.9, 1), (0, 0, 1, 1, 0.2, 0))
    said = {"form": "rows", "boxes": "detections", "coordinates": "xyxy"}
    body = {"image": text(painted("red", 100, 50))}
    answer = ask(detecting({"detections": rows}, said), body)["objects"]
    assert answer == [{"label": "dog", "score": 0.9, "box": box(10, 10, 50, 30)}]


def test_boxes_that_are_no_numbers_are_unprocessable(detecting: Callable[..., Service]) -> None:
    said = {"form": "rows", "boxes": "detections", "coordinates": "xyxy"}
    service = detecting({"detections": logits((0, 0, float("nan"), 1, 0.9, 0))}, said)
    assert "not finite" in ask(service, {"image": text(painted("red"))}, 422)["error"]


def test_overlaps() -> None:
    assert boxes.overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert boxes.overlap((0, 0, 2, 2), (2, 0, 3, 2)) == 0
    assert boxes.overlap((1, 1, 1, 1), (1, 1, 1, 1)) == 0
    assert boxes.corners((1, 2, 3, 4), "xywh") == (1, 2, 4, 6)
    frame = Frame(100, 50)
    frame.scaled(0.5, 0.5)
    frame.moved(-5, -2)
    assert boxes.in_picture((0, 0, 20, 20), frame, relative=False) == (10, 4, 50, 44)


def test_boxes_drop_as_torchvision_would() -> None:
    """Held against the engine's own operator."""
    from onnx import TensorProto, helper
    from onnxruntime import InferenceSession

    random = np.random.default_rng(5)
    ends = random.random((200, 2, 2)).astype(np.float32)
    ends = np.sort(ends, axis=1).reshape(200, 4)
    scores = random.permutation(200).astype(np.float32) / 200
    node = helper.make_node("NonMaxSuppression", ["b", "s", "m", "i"], ["o"])
    kinds = {"b": (TensorProto.FLOAT, [1, 200, 4]), "s": (TensorProto.FLOAT, [1, 1, 200]), "m": (TensorProto.INT64, [1]),
             "i": (TensorProto.FLOAT, [1])}  # fmt: skip
    ports = [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
    graph = helper.make_graph([node], "g", ports, [helper.make_tensor_value_info("o", TensorProto.INT64, ["n", 3])])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"b": ends[None], "s": scores[None, None], "m": np.array([500]), "i": np.array([0.3], np.float32)}
    (chosen,) = session.run(None, feeds)
    kept = boxes.apart([(float(score), 0, tuple(map(float, each))) for score, each in zip(scores, ends, strict=True)], 0.3)
    assert [round(score * 200) for score, _, _ in kept] == [round(float(scores[at]) * 200) for _, _, at in chosen]


def test_pictures_of_a_camera_are_small_beside_the_model(classifier: Service) -> None:
    assert ask(classifier, file(picture(640, 480), "JPEG"), headers=JPEG)["label"] in CLASSES["labels"]
