"""Object detection: labels, scores and boxes of what is in a picture.

Promises: boxes are whole pixels of the picture as it was sent, turned as its EXIF data say, the surest first; of transformers'
detectors they are those of its pipeline, of others they lie inside the picture.
"""

from math import isfinite

from mlpack_runtime.limits import RequestError
from mlpack_runtime.tasks import boxes
from mlpack_runtime.tasks.pictures import PictureTask
from mlpack_runtime.tasks.requests import Asked, number, top
from mlpack_runtime.tasks.scores import name_of, rounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.model import Described
    from mlpack_runtime.pictures.shaping import Frame
    from mlpack_runtime.protocol import Call
    from mlpack_runtime.tasks.boxes import Box
    from mlpack_runtime.tensor import Tensor

THRESHOLD, IOU, TOP_K = 0.5, 0.45, 300
"""The least score, as transformers has it; how much boxes of one label may overlap, as YOLO has it; and objects of an answer."""
_PARAMETERS = {"threshold": number, "top_k": top, "iou": number}
_SYNONYMS = {"iou_threshold": "iou"}


class ObjectDetection(PictureTask):
    """Pictures to objects."""

    parameters = _PARAMETERS
    synonyms = _SYNONYMS

    def __init__(self, model: "Described", settings: "Mapping[str, Any]") -> None:
        """Raises ModelError where the model has no such input or output."""
        self.said: dict[str, Any] = settings.get("objects") or {}
        self.reads = tuple(key for key in ("boxes", "scores", "classes") if key in self.said)
        super().__init__(model, {**settings, **{key: self.said[key] for key in self.reads}})

    def answer(self, outputs: "Mapping[str, Tensor]", call: "Call") -> "Any":
        """`{"objects"}` of one picture, `{"results"}` of several; for `inputs` lists as Hugging Face has them."""
        asked: Asked = call.asked
        results = [self._objects(outputs, at, frame, asked.parameters) for at, frame in enumerate(asked.rest)]
        return self.answered(results, asked)

    def described(self, result: "Any") -> "dict[str, Any]":
        """As `{"objects"}`."""
        return {"objects": result}

    def _objects(
        self, outputs: "Mapping[str, Tensor]", at: int, frame: "Frame", taken: "Mapping[str, Any]"
    ) -> "list[dict[str, Any]]":
        said, form, labels = self.said, self.said["form"], self.settings["labels"]
        candidates = boxes.FORMS[form](outputs, at, said, taken.get("threshold", THRESHOLD))
        placed = [(score, label, boxes.corners(box, said["coordinates"])) for score, label, box in candidates]
        if form in boxes.OVERLAPPING:
            placed = boxes.apart(placed, taken.get("iou", IOU))
        placed.sort(key=lambda each: -each[0])
        if placed and not isfinite(placed[0][0]):
            raise RequestError("the model gives a score that is not finite", 422, "Unprocessable")
        return [
            {
                "label": name_of(label, labels),
                "score": rounded(score),
                "box": self._box(boxes.in_picture(box, frame, relative=said.get("relative", False)), frame),
            }
            for score, label, box in placed[: taken.get("top_k", TOP_K)]
        ]

    def _box(self, box: "Box", frame: "Frame") -> "dict[str, int]":
        if self.said["form"] in boxes.ORIGINAL:
            whole = [int(end) for end in box]
        else:
            most = frame.width, frame.height, frame.width, frame.height
            whole = [min(max(round(end), 0), limit) for end, limit in zip(box, most, strict=True)]
        return dict(zip(("xmin", "ymin", "xmax", "ymax"), whole, strict=True))


TASK = ObjectDetection
