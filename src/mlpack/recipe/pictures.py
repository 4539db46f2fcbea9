"""The settings of a task that reads pictures: how a picture becomes the model's input, and what a detector's outputs mean.

Promises: what the recipe says goes before what the model's files say; what neither says, and the model's ports leave open, is
`NotCertainError` with a sentence that names the key to say it with. Runs nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlpack.core.records import Signature, TensorSpec
from mlpack.core.serving import Image, Objects, Serve
from mlpack.graphs import wire
from mlpack.recipe import processors
from mlpack.recipe.processors import Pixels, UnknownError

_DATATYPES = {"float32": "FP32", "uint8": "UINT8", "int64": "INT64", "int32": "INT32", "bool": "BOOL"}
_CHANNELS = (1, 3)
_SINGLE_AXES = 3
"""Of an input that holds one picture and no more."""
_GRAY = 114
"""Around a picture that is padded, as YOLO's training has it."""
_FORMS: Mapping[str, dict[str, Any]] = {
    "Detr": {"form": "detr"},
    "Yolos": {"form": "detr"},
    "RTDetr": {"form": "focal"},
    "ConditionalDetr": {"form": "focal", "most": 100},
    "DeformableDetr": {"form": "focal", "most": 100},
}
"""By the processor's class: transformers gives its `post_process_object_detection` to it."""
_PARTS = ("detr", "focal")
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "detr": ("boxes", "scores"),
    "focal": ("boxes", "scores"),
    "yolo": ("boxes",),
    "rows": ("boxes",),
    "anchors": ("boxes", "scores"),
    "lists": ("boxes", "scores", "classes"),
}
"""The outputs of a form, by the keys that name them."""
_USUAL = {"boxes": ("pred_boxes", "boxes", "detection_boxes"), "scores": ("logits", "scores", "detection_scores", "pred_logits"),
          "classes": ("labels", "classes", "detection_classes")}  # fmt: skip
_BACKGROUND = ("background", "__background__", "_background_")


class NotCertainError(ValueError):
    """Something has to be said that nobody says, or it contradicts the model. The message is a sentence."""


def told_by_graph(path: Path) -> dict[str, Any]:
    """What an ONNX file of Ultralytics says of itself, as config.json would have it: `id2label` and `image_size`.

    Args:
        path: The file, of which only what stands beside the graph is read.
    """
    try:
        with wire.mapped(path) as view:
            told = wire.metadata(view)
    except (OSError, ValueError):
        return {}
    config: dict[str, Any] = {}
    for key, written in (("id2label", told.get("names")), ("image_size", told.get("imgsz"))):
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):  # a dict or a list as Python writes it
            config |= {key: ast.literal_eval(written)} if written else {}
    if isinstance(config.get("id2label"), list):
        config["id2label"] = dict(enumerate(config["id2label"]))
    return config


def image_settings(serve: Serve, signature: Signature, config: Mapping[str, Any], processor: Mapping[str, Any]) -> dict[str, Any]:
    """What model.json says as the task's `image`.

    Args:
        serve: The recipe's.
        signature: The model's inputs and outputs.
        config: config.json; empty where there is none.
        processor: preprocessor_config.json; empty where there is none.

    Raises:
        NotCertainError: As the module says.
    """
    said = serve.image or Image()
    port, mask = _ports(signature, serve)
    channels, height, width, last = _layout(port, said)
    pixels = _from_files(said, config, processor)
    single = len(port.shape) == _SINGLE_AXES
    steps = _steps(said, pixels, (height, width), config.get("image_size"), single=single)
    if pixels is not None and not pixels.mask:
        mask = None
    fixed = processors.fixed_size(steps)
    for size, side, axis in zip((height, width), fixed or (None, None), ("height", "width"), strict=True):
        if isinstance(size, int) and size != side:
            given = f"{side}" if side else "a size that depends on the picture"
            raise NotCertainError(
                f"the model's input {port.name!r} has the {axis} {size}, and pictures would get {given}: say serve.image.size"
            )
    if not steps and not (isinstance(height, str) and isinstance(width, str)):
        raise NotCertainError(f"nothing says which size pictures get for {port.name!r} {list(port.shape)}: say serve.image.size")
    factors, terms = _arithmetic(said, pixels, channels, port.dtype)
    flip = said.channels == "bgr" if said.channels else pixels is not None and pixels.flip
    return {
        "input": port.name,
        "steps": [[step, arguments] for step, arguments in steps],
        "factors": list(factors),
        "terms": list(terms),
        "mode": "L" if channels == 1 else "RGB",
        **({"flip": True} if flip else {}),
        **({"layout": "NHWC"} if last else {}),
        **({"single": True} if single else {}),
        **({"pad_to": list(pixels.pad_to)} if pixels is not None and pixels.pad_to else {}),
        **({"mask": {"name": mask.name, "datatype": _DATATYPES[mask.dtype]}} if mask is not None else {}),
    }


def object_settings(serve: Serve, signature: Signature, kind: str | None, labels: int | None) -> dict[str, Any]:
    """What model.json says as a detector's `objects`.

    Args:
        serve: The recipe's.
        signature: The model's inputs and outputs.
        kind: The class of transformers' processor, `Detr`; None for none that is known.
        labels: How many labels have names; None where nobody says it.

    Raises:
        NotCertainError: As the module says.
    """
    said = serve.objects
    if said is None and kind not in _FORMS:
        raise NotCertainError("nothing says what the outputs mean: say serve.objects.form")
    form = said.form if said is not None else _FORMS[kind or ""]["form"]
    outputs = _outputs(form, said or Objects(form=form), signature)
    given = said or Objects(form=form)
    coordinates = given.coordinates or ("cxcywh" if form in (*_PARTS, "yolo") else "xyxy")
    relative = given.relative if given.relative is not None else form in _PARTS
    more: dict[str, Any] = {}
    if said is None:
        more = {key: value for key, value in _FORMS[kind or ""].items() if key != "form"}
    if form == "yolo":
        more["columns"] = _columns(outputs["boxes"], labels, objectness=bool(given.objectness))
        more |= {"objectness": True} if given.objectness else {}
    if form == "anchors":
        more["activation"] = serve.activation or "none"
        passed = [at for at, label in enumerate(serve.labels or ()) if label.lower() in _BACKGROUND]
        more |= {"background": passed[0]} if passed else {}
    return {
        "form": form,
        **{key: spec.name for key, spec in outputs.items()},
        "coordinates": coordinates,
        **({"relative": True} if relative else {}),
        **more,
    }


def names_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Names of labels by their numbers, as config.json has them; timm's has a list."""
    written = config.get("id2label") or config.get("label_names")
    if isinstance(written, list):
        return {str(at): str(name) for at, name in enumerate(written)}
    return {str(key): str(value) for key, value in written.items()} if isinstance(written, dict) else {}


def detector_settings(
    serve: Serve, signature: Signature, config: Mapping[str, Any], processor: Mapping[str, Any]
) -> dict[str, Any]:
    """What model.json says of a detector beside `image`: `objects`, `labels`, and `iou` where the recipe says it. Raises
    NotCertainError."""
    try:
        kind = processors.class_of(processor, config) if processor or config else None
    except UnknownError:
        kind = None
    names = names_of(config)
    numbers = [int(key) for key in names if key.isdecimal() and len(key) < 5]
    labels = (
        list(serve.labels) if serve.labels else [names.get(str(at), f"LABEL_{at}") for at in range(max(numbers, default=-1) + 1)]
    )
    objects = object_settings(serve, signature, kind, len(labels) or None)
    iou = serve.objects.iou if serve.objects else None
    return {"objects": objects, "labels": labels, **({"iou": iou} if iou is not None else {})}


def _ports(signature: Signature, serve: Serve) -> tuple[TensorSpec, TensorSpec | None]:
    """The input for pictures, and that for their mask."""
    # torchvision's detectors take a list of pictures: exported with one, that is an input without an axis for several.
    axes = (4, _SINGLE_AXES) if serve.objects is not None and serve.objects.form == "lists" else (4,)
    pictures = [spec for spec in signature.inputs if len(spec.shape) in axes and spec.dtype in ("float32", "uint8")]
    masks = [spec for spec in signature.inputs if spec.name == "pixel_mask" and len(spec.shape) == 3 and spec.dtype in _DATATYPES]
    if len(pictures) != 1 or len(signature.inputs) != 1 + len(masks):
        inputs = ", ".join(f"{spec.name} ({spec.dtype} {list(spec.shape)})" for spec in signature.inputs)
        raise NotCertainError(
            f"pictures need one input of four axes, float32 or uint8, and nothing beside it; the model has {inputs}."
            " Three axes are enough for a detector that gives lists (serve.objects: {form: lists}), as torchvision's do"
        )
    return pictures[0], masks[0] if masks else None


def _layout(port: TensorSpec, said: Image) -> tuple[int, int | str, int | str, bool]:
    """Channels, height and width of the input, and whether channels come last."""
    first, second, third = port.shape[-3:]
    before, behind = first in _CHANNELS, third in _CHANNELS
    if said.layout is None and before == behind:
        raise NotCertainError(
            f"it is not certain which axis of {port.name!r} {list(port.shape)} has the channels: say serve.image.layout"
        )
    last = said.layout == "nhwc" if said.layout else behind
    channels, height, width = (third, first, second) if last else (first, second, third)
    if not isinstance(channels, int):  # a free axis
        channels = 1 if said.channels == "gray" else 3
    if channels not in _CHANNELS or (said.channels is not None and (said.channels == "gray") != (channels == 1)):
        raise NotCertainError(
            f"the input {port.name!r} {list(port.shape)} has {channels} channels, which are not {said.channels or 'RGB'}"
        )
    return channels, height, width, last


def _from_files(said: Image, config: Mapping[str, Any], processor: Mapping[str, Any]) -> Pixels | None:
    """What the files say; None where the recipe says enough without them, or there are none."""
    try:
        if processor:
            return processors.pixels_of(processor, config)
        if isinstance(config.get("pretrained_cfg"), dict):
            return processors.timm_pixels(config["pretrained_cfg"])
    except UnknownError as error:
        if said.size is None or (said.mean is None and said.scale is None):
            raise NotCertainError(f"{error}: say serve.image.size, mean and std") from None
    return None


def _steps(
    said: Image, pixels: Pixels | None, own: tuple[int | str, int | str], written: Any, *, single: bool
) -> Sequence[tuple[str, dict[str, Any]]]:
    """`own`: the input's height and width; `written`: config.json's `image_size`; `single`: the input holds one picture."""
    if pixels is not None and said.fit is None:
        if said.size in (None, processors.fixed_size(pixels.steps)):
            told = {"resample": processors.RESAMPLES[said.resample]} if said.resample else {}
            return [(step, {**arguments, **told} if "resample" in arguments else arguments) for step, arguments in pixels.steps]
        if any(step == "crop" for step, _ in pixels.steps):
            raise NotCertainError("its files crop pictures to another size than serve.image.size: say serve.image.fit, too")
    size = said.size or (processors.fixed_size(pixels.steps) if pixels else None)
    if size is None and isinstance(own[0], int) and isinstance(own[1], int):
        size = own[0], own[1]
    sizes = [written, written] if isinstance(written, int) else written
    if size is None and isinstance(sizes, list) and len(sizes) == 2 and all(type(each) is int and each > 0 for each in sizes):
        size = sizes[0], sizes[1]
    if size is None and single and said.fit is None and isinstance(own[0], str) and isinstance(own[1], str):
        return []  # such a model resizes by itself
    if size is None:
        raise NotCertainError("nothing says which size pictures get: say serve.image.size")
    filter_ = next((step[1]["resample"] for step in pixels.steps if "resample" in step[1]), None) if pixels else None
    resample = processors.RESAMPLES[said.resample] if said.resample else processors.BILINEAR if filter_ is None else filter_
    sides = {"height": size[0], "width": size[1]}
    if said.fit == "pad":
        return [("letterbox", {**sides, "resample": resample, "fill": _GRAY})]
    if said.fit == "crop":
        return [("cover", {**sides, "resample": resample}), ("crop", sides)]
    return [("resize", {**sides, "resample": resample})]


def _arithmetic(said: Image, pixels: Pixels | None, channels: int, dtype: str) -> tuple[Sequence[float], Sequence[float]]:
    if dtype == "uint8":
        if said.mean is not None or said.std is not None or said.scale not in (None, 1.0):
            raise NotCertainError("the model takes bytes, which have no mean, std or scale: leave them out")
        return (1.0,) * channels, (0.0,) * channels
    if pixels is not None and (said.scale, said.mean, said.std) == (None, None, None):
        factors, terms = pixels.factors, pixels.terms
        if channels == 1 and (len(set(factors)) > 1 or len(set(terms)) > 1):
            raise NotCertainError(
                "the model takes gray, and its files have numbers for three channels: say serve.image.mean and std"
            )
        return factors[:channels], terms[:channels]
    apart = pixels.apart if pixels is not None else (1 / 255, (0.0,), (1.0,))
    if apart is None and None in (said.scale, said.mean, said.std):
        raise NotCertainError(
            "the numbers of the model's files cannot be replaced in part here: say serve.image.scale, mean and std"
        )
    scale, *defaults = apart or (0.0, (0.0,), (1.0,))  # all three are said then
    mean, std = (
        _of_channels(given if given is not None else default, key, channels)
        for key, given, default in zip(("mean", "std"), (said.mean, said.std), defaults, strict=True)
    )
    factor = scale if said.scale is None else said.scale
    return processors.normalized((factor,) * channels, (0.0,) * channels, mean, std)


def _of_channels(given: Sequence[float], key: str, channels: int) -> Sequence[float]:
    numbers = tuple(given) * channels if len(given) == 1 else given
    if channels == 1 and len(set(given)) == 1:  # a file's, which has three
        numbers = given[:1]
    if len(numbers) != channels or (key == "std" and 0 in numbers):
        raise NotCertainError(
            f"serve.image.{key} has {list(numbers)}, and the model has {channels} channels: one number or {channels}"
        )
    return numbers


def _outputs(form: str, said: Objects, signature: Signature) -> dict[str, TensorSpec]:
    """The outputs of a form: those the recipe names, else those with a usual name, else the only ones that could be meant."""
    known = {spec.name: spec for spec in signature.outputs}
    chosen: dict[str, TensorSpec] = {}
    for key in _NEEDS[form]:
        name = getattr(said, key)
        if name is not None and name not in known:
            raise NotCertainError(f"serve.objects.{key} is {name!r}, and the model's outputs are {', '.join(known)}")
        usual = [each for each in _USUAL[key] if each in known]
        if name is None and len(known) == 1 and len(_NEEDS[form]) == 1:
            name = next(iter(known))
        if name is None and not usual:
            raise NotCertainError(f"it is not certain which output of {', '.join(known)} has the {key}: say serve.objects.{key}")
        chosen[key] = known[name or usual[0]]
    return chosen


def _columns(spec: TensorSpec, labels: int | None, *, objectness: bool) -> int:
    """How many numbers a place of YOLO's grid has."""
    sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
    if len(spec.shape) != 3:
        raise NotCertainError(f"the output {spec.name!r} {list(spec.shape)} is no grid of YOLO, which has three axes")
    if labels is not None:
        columns = 4 + objectness + labels
        if len(sizes) == 2 and columns not in sizes:
            raise NotCertainError(
                f"the output {spec.name!r} {list(spec.shape)} has no axis of {columns}, for a box and {labels} labels"
            )
        return columns
    if not sizes:
        raise NotCertainError(f"nothing says how many labels the output {spec.name!r} has: say serve.labels")
    return min(sizes)
