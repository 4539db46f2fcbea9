"""What detectors give, in the forms that exporters leave it in, to objects: a label's place, a score, and a box in the picture.

Promises: a score is above the threshold; coordinates are pixels of the picture as it was sent, whatever it was resized, cropped
or padded to. Forms of transformers' detectors have what its `post_process_object_detection` gives; of the others overlapping boxes
of one label are dropped, the surer one stays. Numbers that are not finite are a RequestError (422) where they would be answered.
Will not: know labels' names, or look at more than `CANDIDATES` boxes that overlap.

Sources: transformers' image processors of DETR, YOLOS, RT-DETR and Deformable DETR; Ultralytics' exports; torchvision.ops.nms.
"""

from math import inf, isfinite, isnan, log
from struct import pack, unpack

from mlpack_runtime.limits import RequestError
from mlpack_runtime.tasks.scores import rows, sigmoid, softmax
from mlpack_runtime.tensor import sliced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from mlpack_runtime.pictures.shaping import Frame
    from mlpack_runtime.tensor import Tensor

    Box = tuple[float, float, float, float]
    Object = tuple[float, int, Box]
    Outputs = Mapping[str, Tensor]

CANDIDATES = 1000
"""Boxes above the threshold that are held against one another, the surest ones."""
_SURE = 1e-6
_LARGEST = 3.4e38


def of_rows(outputs: "Outputs", at: int, said: "Mapping[str, Any]", least: float) -> "list[Object]":
    """`[rows, n, 6]`: corners, score and label of each box, chosen by the graph itself."""
    values = _values(outputs, said["boxes"], at)
    return [
        (values[begin + 4], int(values[begin + 5]), _four(values, begin))
        for begin in range(0, len(values), 6)
        if values[begin + 4] > least
    ]


def of_lists(outputs: "Outputs", at: int, said: "Mapping[str, Any]", least: float) -> "list[Object]":
    """Boxes, scores and labels as an output each, chosen by the graph itself: detectors of torchvision and TensorFlow."""
    keys = ("boxes", "scores", "classes")
    if len(outputs[said["boxes"]].shape) == 2:  # torchvision's have no axis of pictures
        boxes, scores, labels = ([value for row in rows(outputs[said[key]], key) for value in row] for key in keys)
    else:
        boxes, scores, labels = (_values(outputs, said[key], at) for key in keys)
    return [
        (score, int(label), _four(boxes, 4 * place))
        for place, (score, label) in enumerate(zip(scores, labels, strict=True))
        if score > least
    ]


def of_queries(outputs: "Outputs", at: int, said: "Mapping[str, Any]", least: float) -> "list[Object]":
    """`[rows, queries, labels + 1]` and `[rows, queries, 4]`: the last label is no object. DETR, YOLOS, Table Transformer."""
    boxes = _values(outputs, said["boxes"], at)
    objects = []
    for query, values in enumerate(_split(outputs, said["scores"], at)):
        scores = softmax(values)[:-1]
        label = max(range(len(scores)), key=scores.__getitem__)
        if scores[label] > least:
            objects.append((scores[label], label, _four(boxes, 4 * query)))
    return objects


def of_focal_queries(outputs: "Outputs", at: int, said: "Mapping[str, Any]", least: float) -> "list[Object]":
    """`[rows, queries, labels]` and `[rows, queries, 4]`: each label has a score of its own, and a query may be several objects.
    RT-DETR, Deformable and Conditional DETR."""
    boxes, values = _values(outputs, said["boxes"], at), _values(outputs, said["scores"], at)
    labels = outputs[said["scores"]].shape[-1]
    most = said.get("most") or outputs[said["scores"]].shape[1]
    limit = _logit(least)
    places = sorted((place for place, value in enumerate(values) if value > limit), key=lambda place: -values[place])[:most]
    objects = [(sigmoid(values[place]), place % labels, _four(boxes, 4 * (place // labels))) for place in places]
    return [each for each in objects if each[0] > least]


def of_grid(outputs: "Outputs", at: int, said: "Mapping[str, Any]", least: float) -> "list[Object]":
    """`[rows, 4 + labels, n]` or `[rows, n, 4 + labels]`: a box and a score for each label, of every place of a grid. YOLO from its
    eighth version on; with `objectness`, 5 + labels, its fifth to seventh."""
    tensor = outputs[said["boxes"]]
    wide = said["columns"]
    _, first, second = tensor.shape
    number, is_turned = (second, True) if first == wide else (first, False)
    if wide not in (first, second):
        raise RequestError(f"the model gives {list(tensor.shape)}, and {wide} columns are needed: build anew", 500, "ModelError")
    data = sliced(tensor, at, at + 1)
    view: Any = memoryview(data.data).cast("B").cast("f") if tensor.datatype == "FP32" else data.flat()
    columns = [view[place * number : (place + 1) * number] if is_turned else view[place::wide] for place in range(wide)]
    surest: dict[int, tuple[float, int]] = {}
    if isnan(sum(columns[4])):  # a model whose numbers overflow gives NaN everywhere, which is above no threshold
        raise RequestError(f"the model gives scores in {said['boxes']!r} that are not finite", 422, "Unprocessable")
    if said.get("objectness"):
        for place, objectness in enumerate(columns[4]):
            if objectness > least:
                label = max(range(5, wide), key=lambda column: columns[column][place])
                surest[place] = objectness * columns[label][place], label - 5
    else:
        for label in range(wide - 4):
            column = columns[4 + label]
            if max(column, default=0.0) > least:
                for place, score in enumerate(column):
                    if score > least and score > surest.get(place, (least, 0))[0]:
                        surest[place] = score, label
    return [
        (score, label, (columns[0][place], columns[1][place], columns[2][place], columns[3][place]))
        for place, (score, label) in surest.items()
        if score > least
    ]


def of_anchors(outputs: "Outputs", at: int, said: "Mapping[str, Any]", least: float) -> "list[Object]":
    """`[rows, n, 4]` and `[rows, n, labels]`: a box and scores for each anchor, nothing dropped yet. SSD, RetinaNet."""
    boxes = _values(outputs, said["boxes"], at)
    how, passed = said.get("activation", "none"), said.get("background")
    limit = _logit(least) if how == "sigmoid" else least  # of a hundred thousand anchors few are sure: only theirs are computed
    objects = []
    for anchor, values in enumerate(_split(outputs, said["scores"], at)):
        numbers = softmax(values) if how == "softmax" else values
        above = [(label, number) for label, number in enumerate(numbers) if number > limit and label != passed]
        objects += [(sigmoid(number) if how == "sigmoid" else number, label, _four(boxes, 4 * anchor)) for label, number in above]
    return [each for each in objects if each[0] > least]


FORMS: "Mapping[str, Callable[[Outputs, int, Mapping[str, Any], float], list[Object]]]" = {
    "rows": of_rows,
    "lists": of_lists,
    "detr": of_queries,
    "focal": of_focal_queries,
    "yolo": of_grid,
    "anchors": of_anchors,
}
OVERLAPPING = ("yolo", "anchors")
"""Forms that hold an object many times."""
ORIGINAL = ("detr", "focal")
"""Forms whose boxes are answered as transformers does: cut to whole pixels, and beyond the picture where they are."""


def corners(box: "Box", coordinates: str) -> "Box":
    """xmin, ymin, xmax, ymax of a box in another form, to a float32's rounding: whole pixels are cut from them."""
    a, b, c, d = box
    if coordinates == "cxcywh":
        return single(a - c / 2, b - d / 2, a + c / 2, b + d / 2)  # type: ignore[no-any-return]
    if coordinates == "xywh":
        return a, b, a + c, b + d
    return (b, a, d, c) if coordinates == "yxyx" else box


def single(*values: float) -> "Any":
    """The nearest numbers that a float32 holds; infinity beyond its range, as arithmetic in float32 has it."""
    form = f"{len(values)}f"
    try:
        return unpack(form, pack(form, *values))
    except OverflowError:
        return tuple(inf if abs(value) > _LARGEST else value for value in values)


def in_picture(box: "Box", frame: "Frame", *, relative: bool) -> "Box":
    """Corners in pixels of the picture that was sent. `relative`: they are parts of the model's input, not its pixels. Raises
    RequestError (422) for what is no number."""
    height, width = frame.size if relative else (1, 1)
    x0, x1 = _along(box[0::2], width, (frame.scale_x, frame.left, frame.width))
    y0, y1 = _along(box[1::2], height, (frame.scale_y, frame.top, frame.height))
    if not all(map(isfinite, (x0, y0, x1, y1))):
        raise RequestError("the model gives a box with numbers that are not finite", 422, "Unprocessable")
    return x0, y0, x1, y1


def _along(ends: "Sequence[float]", size: int, how: "tuple[float, float, int]") -> "tuple[float, float]":
    scale, begin, own = how
    if not begin and abs(size / scale - own) < _SURE * own:  # it was resized alone: exactly as transformers has it
        return single(ends[0] * own, ends[1] * own)  # type: ignore[no-any-return]
    return (ends[0] * size - begin) / scale, (ends[1] * size - begin) / scale


def apart(objects: "list[Object]", most_overlap: float) -> "list[Object]":
    """The surest of boxes that overlap, by label; the surest first."""
    kept: list[Object] = []
    by_label: dict[int, list[Box]] = {}
    for each in sorted(objects, key=lambda one: -one[0])[:CANDIDATES]:
        others = by_label.setdefault(each[1], [])
        if all(overlap(each[2], other) <= most_overlap for other in others):
            others.append(each[2])
            kept.append(each)
    return kept


def overlap(one: "Box", other: "Box") -> float:
    """What two boxes share, as a part of what they cover together (IoU)."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    shared = wide * high
    total: float = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared
    return shared / total


def _four(values: "Sequence[float]", begin: int) -> "Box":
    return values[begin], values[begin + 1], values[begin + 2], values[begin + 3]


def _values(outputs: "Outputs", name: str, at: int) -> "list[float]":
    """One picture's numbers."""
    return next(rows(sliced(outputs[name], at, at + 1), name))


def _split(outputs: "Outputs", name: str, at: int) -> "Iterator[list[float]]":
    values, wide = _values(outputs, name, at), outputs[name].shape[-1]
    return (values[begin : begin + wide] for begin in range(0, len(values), wide))


def _logit(score: float) -> float:
    """The least number that may be as sure as that."""
    return -inf if score <= 0 else inf if score >= 1 else log(score / (1 - score)) - _SURE
