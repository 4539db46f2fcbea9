"""The inputs and outputs of an eager Hugging Face model (names, element types, axes), and generated inputs to run it on.

Promises:
- Channels and sizes of pictures, lengths of sounds and the shapes of caches come from config.json and preprocessor_config.json.
  What the recipe says of an input overrides both.
- Sizes that the weights fix (tables of positions) are fixed in the graph.
- Where none of these tells an input, the error asks the recipe for it by name. It runs no model.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlpack.core.records import Shape, TensorSpec
from mlpack.errors import PassError
from mlpack.graphs import check
from mlpack.passes.export import tasks

if TYPE_CHECKING:
    import numpy as np

    Feed = dict[str, np.ndarray[Any, Any]]

LENGTHS = (16, 7, 33)
LONGEST = (33, 32, 16, 8, 4, 2, 1)
"""Lengths that are tried: a model may have fewer positions than the usual ones."""
SAMPLES = (4000, 2400, 6400)
_PICTURE = 64
_LARGER = 32
SIDES = ("height", "width")
_POSITIONS = "position_ids"
_WHOLE = ("_ids", "_mask")
_NEVER = ("loss", "hidden_states", "attentions", "cross_attentions", "past_key_values", "cache_params", "mems", "router_logits")
_FEATURES = ("last_hidden_state", "pooler_output")


def text_inputs(described: Any) -> tuple[TensorSpec, ...]:
    """Inputs as in optimum's export configuration, under the names that people know; cached keys and values too."""
    dummies = dict(described.generate_dummy_inputs(framework="np"))
    for i, pair in enumerate(dummies.pop("past_key_values", ())):
        dummies |= {f"past_key_values.{i}.key": pair[0], f"past_key_values.{i}.value": pair[1]}
    return tuple(
        TensorSpec(
            name=name, dtype=str(dummies[name].dtype),
            shape=tuple(_axis(axes[i]) if i in axes else size for i, size in enumerate(dummies[name].shape)),
        )
        for name, axes in described.inputs.items()
    )  # fmt: skip


def _axis(name: str) -> str:
    name = name.replace("past_sequence_length", "past").replace("sequence_length", "sequence")
    return {"batch_size": "batch"}.get(name, name)


def inputs_of(model: Any, task: str, processor: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """The inputs of a model that no export configuration describes. `processor`: preprocessor_config.json, or {}."""
    parameter_names = parameters(model)
    main = str(getattr(model, "main_input_name", "input_ids"))
    specs: list[TensorSpec] = []
    if "input_ids" in parameter_names:
        shape: Shape = ("batch", "num_choices", "sequence") if task == "multiple-choice" else ("batch", "sequence")
        names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (getattr(model.config, "type_vocab_size", 0) > 1)
        specs += [TensorSpec(name=name, dtype="int64", shape=shape) for name in names if name in parameter_names]
    if "pixel_values" in parameter_names:
        specs.append(_pictures(model, processor))
    if main == "input_values" or (main == "input_features" and not specs):
        specs.append(TensorSpec(name=main, dtype="float32", shape=_sounds(model, main)))
    if main not in {spec.name for spec in specs}:
        raise PassError(
            f"what {type(model).__name__} takes cannot be told from its config.json (it reads {main}): say each input in the "
            f"recipe, inputs: {{{main}: {{shape: [batch, ...]}}}}"
        )
    return tuple(specs)


def parameters(model: Any) -> tuple[str, ...]:
    """The names of the parameters of the model's forward."""
    return tuple(inspect.signature(model.forward).parameters)


def overridden(model: Any, specs: Sequence[TensorSpec], overrides: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The inputs with the recipe's shapes for those that it names. PassError for one that the model does not take."""
    parameter_names = parameters(model)
    overrides_left = {spec.name: spec for spec in overrides}
    for spec in overrides:
        if spec.name not in parameter_names and spec.name not in {each.name for each in specs}:
            raise PassError(f"inputs: {type(model).__name__} takes no {spec.name!r}; it takes {', '.join(parameter_names)}")
    # A recipe's element type is float32 where it says none: the model's own type of what is known stays.
    merged = [dataclasses.replace(spec, shape=overrides_left.pop(spec.name, spec).shape) for spec in specs]
    more = [dataclasses.replace(spec, dtype="int64") if spec.name.endswith(_WHOLE) else spec for spec in overrides_left.values()]
    return (*merged, *more)


def _section(config: Any, *names: str) -> Any:
    """The part of a config that describes pictures (or sounds), if the model has parts."""
    return next((part for name in names if (part := getattr(config, name, None)) is not None), config)


def _pictures(model: Any, processor: Mapping[str, Any]) -> TensorSpec:
    vision = _section(model.config, "vision_config", "backbone_config")
    channels = getattr(vision, "num_channels", getattr(model.config, "num_channels", 3))
    sides: Shape = pinned_sides(model, processor) if _fixed(model) else SIDES
    frames = ("frames",) if str(model.config.model_type) in ("videomae", "vivit", "timesformer") else ()
    frames = (getattr(vision, "num_frames", "frames"),) if frames else ()
    return TensorSpec(name="pixel_values", dtype="float32", shape=("batch", *frames, int(channels), *sides))


def _fixed(model: Any) -> bool:
    """Whether the weights fix the sizes of pictures: they have tables of positions, absolute or relative."""
    names = (name for rows in (model.named_parameters(), model.named_buffers()) for name, _ in rows)
    return any("position" in name for name in names if "text_model" not in name)


def pinned_sides(model: Any, processor: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width: those of the table of positions, else those to which the processor scales every picture."""
    vision = _section(model.config, "vision_config", "backbone_config")
    sizes = [getattr(vision, "image_size", None)] if _fixed(model) else []
    sizes += [processor.get("crop_size"), processor.get("size"), getattr(vision, "image_size", None), _PICTURE]
    return next(sides for each in sizes if (sides := _sides(each)) is not None)


def sides_of(inputs: Sequence[TensorSpec], calls: Sequence[check.Feed]) -> set[tuple[int, int]]:
    """Heights and widths in calls where both are free."""
    free = [(spec.name, spec.shape) for spec in inputs if set(SIDES) <= set(spec.shape)]
    height, width = SIDES
    return {(call[name].shape[shape.index(height)], call[name].shape[shape.index(width)]) for call in calls for name, shape in free}


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, Mapping):
        size = [size["height"], size["width"]] if {"height", "width"} <= size.keys() else size.get("shortest_edge")
    sides = [size, size] if isinstance(size, int) and not isinstance(size, bool) else size
    if isinstance(sides, list | tuple) and len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides):
        return int(sides[0]), int(sides[1])
    return None


def _sounds(model: Any, main: str) -> Shape:
    config = _section(model.config, "audio_config")
    mels = getattr(config, "num_mel_bins", None)
    if isinstance(getattr(config, "max_source_positions", None), int) and mels:  # Whisper: two frames a position
        return ("batch", mels, 2 * config.max_source_positions)
    if isinstance(getattr(config, "max_length", None), int) and mels and main == "input_values":  # spectrograms as pictures
        return ("batch", config.max_length, mels)
    if main == "input_values":
        return ("batch", "samples")
    width = getattr(config, "feature_projection_input_dim", None) or mels
    if not width:
        raise PassError(f"how many features a frame of {main} has is not in config.json: say inputs: {{{main}: {{shape: ...}}}}")
    return ("batch", "frames", width)


def outputs_of(result: Mapping[str, Any], task: str, missing: Sequence[str] = ()) -> tuple[str, ...]:
    """The values of a result that are outputs. `missing`: weights that are not in the directory; a value that depends on them is no
    output."""
    import torch

    names = [name for name, value in result.items() if isinstance(value, torch.Tensor) and name not in _NEVER and value.ndim]
    if any("pooler" in name for name in missing):
        names = [name for name in names if name != "pooler_output"]
    if task.removesuffix(tasks.WITH_PAST) != tasks.FEATURES:
        names = [n for n in names if n not in _FEATURES and not n.startswith(("encoder_", "decoder_"))] or names
    if not names:
        raise PassError(f"the model returns {', '.join(result) or 'nothing'}, and none of it is a tensor that could be an output")
    return tuple(names)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Invention:
    """The basis of generated inputs: the specs, the first token that is too large, and numbers of config.json."""

    inputs: tuple[TensorSpec, ...]
    limits: Mapping[str, int]
    side: tuple[int, int] = (_PICTURE, _PICTURE)
    samples: tuple[int, int, int] = SAMPLES
    turns: int = len(check.BATCHES)
    """How many sets of inputs are made."""
    last_token: int | None = None
    """Ends every text, and stands nowhere else: what encoder-decoders look for."""

    def feeds(self, longest: int) -> list[Feed]:
        """One set of inputs for each of `check.BATCHES`, of several lengths up to `longest`; the same on every machine."""
        import numpy as np

        random = np.random.default_rng(0)
        return [self.feed(turn, batch, longest, random) for turn, batch in enumerate(check.BATCHES[: self.turns])]

    def feed(self, turn: int, batch: int, longest: int, random: np.random.Generator) -> Feed:
        """One set of inputs. `turn`: which of the lengths."""
        import numpy as np

        length = min(LENGTHS[turn], longest)
        sizes = {
            "batch": batch, "sequence": length, "past": min(5 + turn, longest), "num_choices": 2 + turn,
            "samples": self.samples[turn], "height": self.side[0] + _LARGER * (turn == 1), "width": self.side[1],
        }  # fmt: skip
        feed: Feed = {}
        for spec in self.inputs:
            shape = tuple(self._size(axis, sizes, length) for axis in spec.shape)
            dtype = np.dtype(spec.dtype)
            if np.issubdtype(dtype, np.floating):
                feed[spec.name] = random.standard_normal(shape).astype(dtype)
            elif "mask" in spec.name:
                feed[spec.name] = _mask(shape, dtype, whole=spec.name == "pixel_mask")
            elif spec.name == _POSITIONS:
                feed[spec.name] = np.broadcast_to(np.arange(shape[-1], dtype=dtype), shape).copy()
            elif "token_type" in spec.name:
                feed[spec.name] = np.zeros(shape, dtype)
            else:
                values = random.integers(0, self.limits.get(spec.name, 2), shape).astype(dtype)
                feed[spec.name] = np.sort(values, axis=-1) if spec.name == "bbox" else values  # a corner, and the one opposite
        self._end_texts(feed)
        return feed

    @staticmethod
    def _size(axis: int | str, sizes: Mapping[str, int], length: int) -> int:
        if isinstance(axis, int):
            return axis
        return sum(sizes.get(part, length) for part in axis.split(" + "))

    def _end_texts(self, feed: Feed) -> None:
        ids, mask = feed.get("input_ids"), feed.get("attention_mask")
        if self.last_token is None or ids is None or mask is None or ids.ndim != 2:
            return
        other = 0 if self.last_token else 1
        ids[ids == self.last_token] = other
        for row in range(len(ids)):
            ids[row, int(mask[row].sum()) - 1] = self.last_token


def fitting(run: Callable[[Feed], Any], generator: Invention) -> tuple[list[Feed], list[Any]]:
    """Inputs that a reference accepts, and its answer to each; shorter ones if the usual lengths are too long.

    Raises the PassError of the usual lengths when it accepts no others either.
    """
    first: PassError | None = None
    for longest in LONGEST:
        feeds = generator.feeds(longest)
        try:
            return feeds, [run(feed) for feed in feeds]
        except PassError as error:
            first = first or error
    assert first is not None
    raise first


def doubled(calls: Sequence[Feed], inputs: Sequence[TensorSpec]) -> list[Feed]:
    """Each call as a batch of two of itself, if all inputs have an open batch: exporters treat a length of 1 as fixed."""
    import numpy as np

    if any(not spec.shape or spec.shape[0] != "batch" for spec in inputs):
        return []
    return [{name: np.concatenate([array, array]) for name, array in call.items()} for call in calls]


def _mask(shape: tuple[int, ...], dtype: Any, *, whole: bool) -> Any:
    """Right-padded runs of ones, shorter in each row."""
    import numpy as np

    mask = np.ones(shape, dtype=dtype)
    for row in range(1, 1 if whole else shape[0]):
        mask[row, ..., max(1, shape[-1] - 3 * row) :] = 0
    return mask


def invention(model: Any, inputs: tuple[TensorSpec, ...], processor: Mapping[str, Any]) -> Invention:
    """The basis of generated inputs for this model."""
    config = model.config
    texts = _section(config, "text_config")
    vocabulary = getattr(texts, "vocab_size", 2) or 2
    ends = getattr(config, "eos_token_id", None)
    ended = getattr(config, "is_encoder_decoder", False) or str(config.model_type).startswith("clip")
    kernels, strides = getattr(config, "conv_kernel", None), getattr(config, "conv_stride", None)
    side = pinned_sides(model, processor) if any(spec.name == "pixel_values" for spec in inputs) else (_PICTURE, _PICTURE)
    ends = getattr(texts, "eos_token_id", ends)
    usable = isinstance(ends, int) and ended and 0 <= ends < vocabulary
    return Invention(
        inputs=inputs,
        limits={"input_ids": int(vocabulary)},
        side=side,
        last_token=ends if usable else None,
        samples=_samples(kernels, strides) if kernels and strides else SAMPLES,
    )


def _samples(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, int, int]:
    """Lengths of sounds that leave some frames after every convolution: the first frame takes the receptive field."""
    field, step = 1, 1
    for kernel, stride in zip(kernels, strides, strict=False):
        field, step = field + (kernel - 1) * step, step * stride
    return field + 11 * step, field + 6 * step + step // 2, field + 17 * step
