"""`serve.image` and `serve.objects`: how pictures become a model's input, and which form a detector's outputs have, as typed keys.

Imported with the other keys (`schema`), which says what they promise.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field  # noqa: TID253

from mlpack.core.serving import Image, Objects
from mlpack.recipe.units import Keys, Text

_Side = Annotated[int, Field(ge=1, le=10_000)]
_Numbers = Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(min_length=1, max_length=4)]


class ImageKeys(Keys):
    """How pictures become the model's input. What is left out is as preprocessor_config.json says, where there is one."""

    size: _Side | tuple[_Side, _Side] | None = Field(
        default=None, description="height and width of the model's input, or one number for both [the input's own]"
    )
    fit: Literal["stretch", "crop", "pad"] | None = Field(
        default=None,
        description="how a picture gets that size: `stretch`; `crop`: its shorter side is resized, then the middle cut out; `pad`: "
        "it is resized whole, with gray around it, as YOLO has it [stretch]",
    )
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = Field(
        default=None, description="the filter that resizes [bilinear]"
    )
    scale: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None,
        description="the factor from bytes to the model's numbers, before mean and std [1/255; 1 where it takes bytes]",
    )
    mean: _Numbers | None = Field(default=None, description="what is subtracted, by channel, after scale [0]")
    std: _Numbers | None = Field(default=None, description="what the rest is divided by, by channel [1]")
    channels: Literal["rgb", "bgr", "gray"] | None = Field(
        default=None, description="the channels and their order [rgb; gray where the input has one]"
    )
    layout: Literal["nchw", "nhwc"] | None = Field(
        default=None, description="the input's axes: channels first or last; required where its shape does not tell"
    )

    def record(self) -> Image:
        """What the recipe's record has of these keys."""
        return Image(**{**self.model_dump(), "size": (self.size, self.size) if isinstance(self.size, int) else self.size})


class ObjectKeys(Keys):
    """What a detector's outputs mean. The form, and outputs by their names."""

    form: Literal["detr", "focal", "yolo", "anchors", "lists", "rows"] = Field(
        description="`detr`: a softmax over the labels and 'no object'; `focal`: a sigmoid for each label; `yolo`: one output with "
        "an axis of `4 + labels`; `anchors`: boxes and scores of SSD and RetinaNet; `lists`: boxes, scores and classes that the "
        "graph chose; `rows`: the same in one output of six columns"
    )
    boxes: Text | None = Field(default=None, description="the output with boxes; required where more than one could be meant")
    scores: Text | None = Field(default=None, description="the output with scores")
    classes: Text | None = Field(default=None, description="of `lists`: the output with the labels' numbers")
    coordinates: Literal["xyxy", "yxyx", "cxcywh", "xywh"] | None = Field(
        default=None, description="what a box's four numbers are [cxcywh of detr, focal and yolo; else xyxy]"
    )
    relative: bool | None = Field(
        default=None,
        description="whether boxes are fractions of the input's sides, not pixels [true of detr and focal; else false]",
    )
    objectness: bool | None = Field(
        default=None,
        description="of `yolo`: whether a fifth column has the score of any object at all, as in YOLOv5 to v7 [false]",
    )
    iou: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="of `yolo` and `anchors`: how much boxes of one label may overlap, where a request says nothing [0.45]",
    )

    def record(self) -> Objects:
        """What the recipe's record has of these keys."""
        return Objects(**self.model_dump())
