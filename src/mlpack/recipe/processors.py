"""A model's own files to the steps of its pictures: preprocessor_config.json as transformers' image processors read it, and timm's.

Promises: each key is understood, known to mean nothing here, or refused by its name; a class that is not in the table is refused.
What comes out is what the processor computes: geometry pixel for pixel, numbers to a float32's rounding. Pure.

Sources: transformers 4.57 and 5, the `image_processing_*` modules of these classes (their `Fast` twins resize to within one of
255); timm's `create_transform` for evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NEAREST, LANCZOS, BILINEAR, BICUBIC = range(4)
RESAMPLES = {"nearest": NEAREST, "lanczos": LANCZOS, "bilinear": BILINEAR, "bicubic": BICUBIC}
"""Pillow's numbers."""
_HALF = (0.5, 0.5, 0.5)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_TIMM = "TimmWrapperImageProcessor"
_WARPED = 384
"""ConvNeXt's: from this size on pictures are stretched, not cropped."""


class UnknownError(ValueError):
    """What a file says is not understood here. The message is a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """How pictures become numbers. `steps`: rows of `mlpack_runtime.pictures.shaping`; a channel's number is its byte times
    `factors`, plus `terms`; `flip`: blue comes first; `pad_to`: height and width that zeros fill; `mask`: whether a batch may hold
    several sizes, of which a mask tells; `apart`: the factor, the mean and the standard deviation that these come of, None where
    they come of more."""

    steps: tuple[tuple[str, dict[str, Any]], ...]
    factors: tuple[float, ...]
    terms: tuple[float, ...]
    flip: bool = False
    pad_to: tuple[int, int] | None = None
    mask: bool = False
    apart: tuple[float, Sequence[float], Sequence[float]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Class:
    """Defaults of a class of processors. `square`: a size of one number means both sides; `rule`: how `size` is meant."""

    size: Any
    resample: int
    mean: Sequence[float] = _HALF
    std: Sequence[float] = _HALF
    crop: Any = None
    normalize: bool = True
    square: bool = True
    rule: str = "plain"
    pads: bool = False
    crop_pct: float | None = None


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


_DETR = _Class(
    size={"shortest_edge": 800, "longest_edge": 1333}, resample=BILINEAR, mean=_IMAGENET[0], std=_IMAGENET[1], square=False,
    rule="edges", pads=True,
)  # fmt: skip
_CLASSES: Mapping[str, _Class] = {
    "ViT": _Class(size=_square(224), resample=BILINEAR),
    "DeiT": _Class(size=_square(256), resample=BICUBIC, crop=_square(224)),
    "Beit": _Class(size=_square(256), resample=BICUBIC, crop=_square(224)),
    "Siglip": _Class(size=_square(224), resample=BICUBIC),
    "Pvt": _Class(size=_square(224), resample=BILINEAR, mean=_IMAGENET[0], std=_IMAGENET[1]),
    "Segformer": _Class(size=_square(512), resample=BILINEAR, mean=_IMAGENET[0], std=_IMAGENET[1]),
    "ConvNext": _Class(
        size={"shortest_edge": 384}, resample=BILINEAR, mean=_HALF, std=_HALF, square=False, rule="convnext", crop_pct=224 / 256
    ),
    "CLIP": _Class(
        size={"shortest_edge": 224}, resample=BICUBIC, crop=_square(224), mean=_CLIP[0], std=_CLIP[1], square=False
    ),
    "Bit": _Class(size={"shortest_edge": 224}, resample=BICUBIC, crop=_square(224), mean=_CLIP[0], std=_CLIP[1], square=False),
    "MobileNetV1": _Class(size={"shortest_edge": 256}, resample=BILINEAR, crop=_square(224), square=False),
    "MobileNetV2": _Class(size={"shortest_edge": 256}, resample=BILINEAR, crop=_square(224), square=False),
    "MobileViT": _Class(size={"shortest_edge": 224}, resample=BILINEAR, crop=_square(256), normalize=False, square=False),
    "EfficientNet": _Class(size=_square(346), resample=NEAREST, crop=_square(289)),
    "PoolFormer": _Class(
        size={"shortest_edge": 224}, resample=BICUBIC, crop=_square(224), mean=_IMAGENET[0], std=_IMAGENET[1], square=False,
        rule="poolformer", crop_pct=0.9,
    ),
    "Levit": _Class(
        size={"shortest_edge": 224}, resample=BICUBIC, crop=_square(224), mean=_IMAGENET[0], std=_IMAGENET[1], square=False,
        rule="levit",
    ),
    "Detr": _DETR,
    "ConditionalDetr": _DETR,
    "DeformableDetr": _DETR,
    "GroundingDino": _DETR,
    "Yolos": _Class(size=_DETR.size, resample=BILINEAR, mean=_IMAGENET[0], std=_IMAGENET[1], square=False, rule="yolos", pads=True),
    "RTDetr": _Class(size=_square(640), resample=BILINEAR, mean=_IMAGENET[0], std=_IMAGENET[1], normalize=False, rule="edges"),
}  # fmt: skip
_CROPS = ("EfficientNet",)
"""Classes whose crop is off where the file does not switch it on."""
_OF_MODEL: Mapping[str, str] = {
    **dict.fromkeys(("vit", "swin", "swinv2", "swiftformer", "dinat", "nat", "ijepa", "vit_msn"), "ViT"),
    **dict.fromkeys(("deit",), "DeiT"), **dict.fromkeys(("beit", "data2vec-vision"), "Beit"),
    **dict.fromkeys(("convnext", "convnextv2", "resnet", "regnet", "cvt", "van"), "ConvNext"),
    **dict.fromkeys(("bit", "focalnet", "hiera", "dinov2"), "Bit"), **dict.fromkeys(("clip",), "CLIP"),
    **dict.fromkeys(("siglip",), "Siglip"), **dict.fromkeys(("pvt", "pvt_v2"), "Pvt"), "segformer": "Segformer",
    "mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2", **dict.fromkeys(("mobilevit", "mobilevitv2"), "MobileViT"),
    "efficientnet": "EfficientNet", "poolformer": "PoolFormer", "levit": "Levit",
    **dict.fromkeys(("detr", "table-transformer"), "Detr"), **dict.fromkeys(("conditional_detr", "dab-detr"), "ConditionalDetr"),
    "deformable_detr": "DeformableDetr", "yolos": "Yolos", **dict.fromkeys(("rt_detr", "rt_detr_v2", "d_fine"), "RTDetr"),
}  # fmt: skip
"""The class where the file names none, by config.json's `model_type`, as AutoImageProcessor has it."""
_IGNORED = frozenset((
    "_processor_class", "_valid_processor_keys", "data_format", "default_to_square", "device", "disable_grouping",
    "do_convert_annotations", "do_convert_rgb", "do_reduce_labels", "do_resize_and_center_crop", "feature_extractor_type",
    "format", "ignore_index", "image_processor_type", "image_seq_length", "input_data_format", "masks_path", "max_size",
    "model_input_names", "num_labels", "processor_class", "reduce_labels", "return_segmentation_masks", "return_tensors",
    "use_fast",
))  # fmt: skip
"""Keys about training, about labels, or about where transformers computes: pictures come out the same whatever they say."""
_KNOWN = frozenset((
    "crop_pct", "crop_size", "do_center_crop", "do_flip_channel_order", "do_normalize", "do_pad", "do_rescale", "do_resize",
    "image_mean", "image_std", "include_top", "pad_and_return_pixel_mask", "pad_size", "resample", "rescale_factor",
    "rescale_offset", "size",
))  # fmt: skip


def class_of(processor: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The class of a processor, without `ImageProcessor` and `Fast`: `ViT`. Raises UnknownError."""
    written = str(processor.get("image_processor_type") or processor.get("feature_extractor_type") or "")
    name = written.removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if not written:
        name = _OF_MODEL.get(str(config.get("model_type", "")), "")
    if name not in _CLASSES:
        raise UnknownError(f"pictures are prepared by {written or 'a processor without a name'}, which is not known here")
    return name


def pixels_of(processor: Mapping[str, Any], config: Mapping[str, Any]) -> Pixels:
    """What a processor does with a picture. Raises UnknownError for what is not understood."""
    if processor.get("image_processor_type") == _TIMM:  # which reads config.json, and writes what it found there
        settings = config.get("pretrained_cfg") or processor.get("data_config")
        return timm_pixels(settings if isinstance(settings, dict) else {})
    name = class_of(processor, config)
    kind = _CLASSES[name]
    strange = [key for key, value in processor.items() if value not in (None, False) and key not in _KNOWN | _IGNORED]
    if strange:
        raise UnknownError(f"preprocessor_config.json says {strange[0]}, which is not known here of {name}ImageProcessor")
    steps: list[tuple[str, dict[str, Any]]] = []
    resample = _whole(processor.get("resample", kind.resample), "resample", 0, 5)
    if processor.get("do_resize", True):
        steps += _resizing(processor, kind, resample)
    crops = kind.crop is not None and processor.get("do_center_crop", name not in _CROPS)
    if crops:
        steps.append(("crop", _sides(processor.get("crop_size") or kind.crop, "crop_size")))
    factors, terms, apart = _arithmetic(processor, kind, name)
    pads = kind.pads and processor.get("do_pad", processor.get("pad_and_return_pixel_mask", True))
    pad_size = processor.get("pad_size") if pads else None
    return Pixels(
        steps=tuple(steps),
        factors=factors,
        terms=terms,
        flip=name == "MobileViT" and bool(processor.get("do_flip_channel_order", True)),
        pad_to=None if pad_size is None else tuple(_sides(pad_size, "pad_size").values()),  # type: ignore[arg-type]
        mask=bool(pads),
        apart=apart,
    )


def _resizing(processor: Mapping[str, Any], kind: _Class, resample: int) -> list[tuple[str, dict[str, Any]]]:
    size = processor.get("size") if processor.get("size") is not None else kind.size
    if isinstance(size, int) and not isinstance(size, bool):
        size = _square(size) if kind.square else {"shortest_edge": size}
    if isinstance(size, list) and len(size) == 2:
        size = {"height": size[0], "width": size[1]}
    if not isinstance(size, dict):
        raise UnknownError(f"preprocessor_config.json has the size {size!r:.60}, which is not understood")
    size = {key: value for key, value in size.items() if value is not None}
    if kind.rule in ("edges", "yolos") and size.keys() == {"shortest_edge"}:
        size["longest_edge"] = processor.get("max_size") or 1333
    keys = frozenset(size)
    if keys == {"shortest_edge"}:
        return _by_shortest(_whole(size["shortest_edge"], "size", 1), processor, kind, resample)
    if keys == {"shortest_edge", "longest_edge"} and kind.rule in ("plain", "edges", "yolos"):
        edges = {"size": _whole(size["shortest_edge"], "size", 1), "most": _whole(size["longest_edge"], "size", 1)}
        return [("within", {**edges, "resample": resample, **({"step": 16} if kind.rule == "yolos" else {})})]
    if keys == {"max_height", "max_width"}:
        inside = {"height": _whole(size["max_height"], "size", 1), "width": _whole(size["max_width"], "size", 1)}
        return [("inside", {**inside, "resample": resample})]
    if keys == {"height", "width"} and kind.rule != "convnext":
        return _by_sides(_sides(size, "size"), processor, kind, resample)
    raise UnknownError(
        f"preprocessor_config.json has a size of {' and '.join(sorted(keys)) or 'nothing'}, which is not understood here"
    )


def _by_shortest(side: int, processor: Mapping[str, Any], kind: _Class, resample: int) -> list[tuple[str, dict[str, Any]]]:
    part = processor.get("crop_pct") if processor.get("crop_pct") is not None else kind.crop_pct
    if kind.rule == "convnext":
        if side >= _WARPED:
            return [("resize", {**_square(side), "resample": resample})]
        return [("shortest", {"size": int(side / _part(part)), "resample": resample}), ("crop", _square(side))]
    if kind.rule == "poolformer" and part is not None:
        return [("shortest", {"size": int(side / _part(part)), "resample": resample})]
    if kind.rule == "levit":
        side = int((256 / 224) * side)
    return [("shortest", {"size": side, "resample": resample})]


def _by_sides(sides: dict[str, int], processor: Mapping[str, Any], kind: _Class, resample: int) -> list[tuple[str, dict[str, Any]]]:
    part = processor.get("crop_pct") if processor.get("crop_pct") is not None else kind.crop_pct
    if kind.rule == "poolformer" and part is not None:
        if sides["height"] == sides["width"]:
            return [("shortest", {"size": int(sides["height"] / _part(part)), "resample": resample})]
        sides = {key: int(value / _part(part)) for key, value in sides.items()}
    return [("resize", {**sides, "resample": resample})]


def _arithmetic(
    processor: Mapping[str, Any], kind: _Class, name: str
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, Sequence[float], Sequence[float]] | None]:
    """Factors and terms of the channels, and `Pixels.apart`."""
    factor, term = 1.0, 0.0
    if processor.get("do_rescale", True):
        factor = _number(processor.get("rescale_factor", 1 / 255), "rescale_factor")
        term = -1.0 if name == "EfficientNet" and processor.get("rescale_offset", False) else 0.0
    factors: tuple[float, ...] = (factor,) * 3
    terms: tuple[float, ...] = (term,) * 3
    mean, std = (
        _numbers(processor.get(key), default, key) for key, default in (("image_mean", kind.mean), ("image_std", kind.std))
    )
    if not processor.get("do_normalize", kind.normalize):
        mean, std = (0.0,) * 3, (1.0,) * 3
    factors, terms = normalized(factors, terms, mean, std)
    if name == "EfficientNet" and processor.get("include_top", True):
        again = _numbers(processor.get("image_std"), kind.std, "image_std")
        return *normalized(factors, terms, (0.0,) * 3, again), None
    return factors, terms, (factor, mean, std) if term == 0 else None


def normalized(
    factors: Sequence[float], terms: Sequence[float], mean: Sequence[float], std: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Factors and terms with `(x - mean) / std` after them."""
    return (
        tuple(factor / by for factor, by in zip(factors, std, strict=True)),
        tuple((term - off) / by for term, off, by in zip(terms, mean, std, strict=True)),
    )


def timm_pixels(settings: Mapping[str, Any]) -> Pixels:
    """What timm does with a picture for evaluation, by a config.json's `pretrained_cfg`. Raises UnknownError."""
    size = settings.get("input_size")
    if not isinstance(size, list | tuple) or len(size) != 3 or size[0] != 3:
        raise UnknownError(f"pretrained_cfg has the input_size {size!r:.60}: three channels, a height and a width are understood")
    part = settings.get("crop_pct") or 0.875
    mode, filter_ = settings.get("crop_mode") or "center", settings.get("interpolation") or "bicubic"
    if mode not in ("center", "squash") or filter_ not in RESAMPLES:
        raise UnknownError(f"pretrained_cfg has crop_mode {mode!r:.40} and interpolation {filter_!r:.40}, which are not understood")
    sides = {name: _whole(each, "input_size", 1) for name, each in zip(("height", "width"), size[1:], strict=True)}
    scaled, resample = {name: int(side / _part(part)) for name, side in sides.items()}, RESAMPLES[filter_]
    first: tuple[str, dict[str, Any]] = ("resize", {**scaled, "resample": resample})
    if mode == "center" and scaled["height"] == scaled["width"]:
        first = ("shortest", {"size": scaled["height"], "resample": resample})
    elif mode == "center":
        first = ("cover", {**scaled, "resample": resample})
    mean, std = (_numbers(settings.get(key), default, key) for key, default in zip(("mean", "std"), _IMAGENET, strict=True))
    factors, terms = normalized((1 / 255,) * 3, (0.0,) * 3, mean, std)
    steps = (first, ("crop", {**sides, "half": True}))
    return Pixels(steps=steps, factors=factors, terms=terms, apart=(1 / 255, mean, std))


def fixed_size(steps: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[int, int] | None:
    """Height and width of whatever goes through these steps; None where they depend on the picture."""
    for step, said in reversed(steps):
        if step in ("resize", "crop", "letterbox"):
            return said["height"], said["width"]
        break
    return None


def _sides(value: Any, key: str) -> dict[str, int]:
    if isinstance(value, int) and not isinstance(value, bool):
        value = _square(value)
    if isinstance(value, dict) and value.keys() == {"shortest_edge"}:
        value = _square(value["shortest_edge"])
    if isinstance(value, list) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    if not isinstance(value, dict) or value.keys() != {"height", "width"}:
        raise UnknownError(f"preprocessor_config.json has the {key} {value!r:.60}, which is not understood")
    return {side: _whole(value[side], key, 1) for side in ("height", "width")}


def _whole(value: Any, key: str, least: int, most: int = 10_000) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UnknownError(f"preprocessor_config.json has {value!r:.60} in {key}; a whole number from {least} to {most} is needed")
    return value


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise UnknownError(f"preprocessor_config.json has the {key} {value!r:.60}; a number is needed")
    return float(value)


def _numbers(value: Any, default: Sequence[float], key: str) -> tuple[float, ...]:
    """A number for each of three channels."""
    given = default if value is None else value if isinstance(value, list | tuple) else [value] * 3
    given = list(given) * 3 if len(given) == 1 else given
    numbers = tuple(_number(each, key) for each in given)
    if len(numbers) != 3 or ("std" in key and 0.0 in numbers):
        raise UnknownError(
            f"the file has the {key} {value!r:.60}; three numbers are needed, none of them 0 where is divided by them"
        )
    return numbers


def _part(value: Any) -> float:
    part = _number(value, "crop_pct")
    if not 0.01 <= part <= 1.5:
        raise UnknownError(f"the file has the crop_pct {value!r:.60}; a number between 0 and 1 is needed")
    return part
