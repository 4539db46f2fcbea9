"""The task of a package: what the model's own files, and the recipe, say of how plain requests are read and answered.

Promises:
- A task that nobody named is taken only where the files and the model's outputs leave no doubt, and where the recipe has no hooks.
- One that the recipe names is served, or a RecipeError says what is missing.
- It reads configuration alone, within bounds, and runs nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.core.entrypoint import suggestion
from mlpack.core.files import bounded
from mlpack.core.records import Recipe, Signature, Step, TensorSpec
from mlpack.core.serving import Serve
from mlpack.errors import PassError, RecipeError
from mlpack.graphs import wire
from mlpack.passes.export import tasks as heads
from mlpack.passes.export.pooling import read_pooling
from mlpack.recipe import pictures, sounds, spans

NONE = "none"
"""What a recipe says for no task at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKind:
    """A row of the table of tasks. `axes`: of the output that it reads. `takes`: keys of `serve` that it has a use for.
    `media`: what a request brings where that is no text: `image` or `audio`."""

    axes: int
    takes: tuple[str, ...]
    media: str | None = None


TASKS: Mapping[str, TaskKind] = {
    "text-classification": TaskKind(axes=2, takes=("output", "labels", "top_k", "threshold", "activation")),
    "token-classification": TaskKind(axes=3, takes=("output", "labels", "top_k", "threshold", "aggregation")),
    "question-answering": TaskKind(axes=2, takes=("start_output", "end_output", "top_k", "threshold")),
    "embeddings": TaskKind(axes=2, takes=("output", "pooling", "normalize")),
    "rerank": TaskKind(axes=2, takes=("output", "labels", "top_k", "threshold", "activation")),
    "image-classification": TaskKind(
        axes=2, takes=("output", "labels", "top_k", "threshold", "activation", "image"), media="image"
    ),
    "object-detection": TaskKind(axes=3, takes=("labels", "top_k", "threshold", "activation", "image", "objects"), media="image"),
    "audio-classification": TaskKind(
        axes=2, takes=("output", "labels", "top_k", "threshold", "activation", "sound"), media="audio"
    ),
    sounds.CTC: TaskKind(axes=3, takes=("output", "sound"), media="audio"),
}
"""A module of the runtime each (`mlpack_runtime.tasks`)."""
KEYS = tuple(dict.fromkeys(key for kind in TASKS.values() for key in kind.takes))
"""Keys of `serve` that only a task has a use for."""
_OUTPUTS = ("output", "start_output", "end_output")
_VECTORS = ("sentence_embedding", "text_embeds", "embeddings", "embedding")
"""Names of outputs with one vector a text, as exporters choose them."""
_TOKEN_VECTORS = ("last_hidden_state", "token_embeddings")
_HEADS = {
    heads.FEATURES: "embeddings",
    **{
        name: name
        for name in (
            "text-classification",
            "token-classification",
            "question-answering",
            "image-classification",
            "object-detection",
            "audio-classification",
            sounds.CTC,
        )
    },
}
_ACTIVATIONS = ("Softmax", "Sigmoid")
"""Operators of ONNX whose numbers are scores already, as exporters of Keras and Ultralytics leave them in the graph."""
_LABELS_MOST = 10_000
"""Of a model whose graph does not say how many columns it has."""
_TOKEN_FILES = ("tokenizer_config.json", "special_tokens_map.json")


def module_of(task: str) -> str:
    """The module of the runtime for a task, below `mlpack_runtime`."""
    return f"tasks.{task.replace('-', '_')}"


def problems(serve: Any) -> Iterator[tuple[str, str]]:
    """What is wrong with the keys of `serve` that are a task's: the key, and a sentence."""
    names = (*TASKS, NONE)
    if serve.task is not None and serve.task not in names:
        yield "task", f"there is no task {serve.task!r}{suggestion(serve.task, names)} (known: {', '.join(names)})"
        return
    takes = KEYS if serve.task is None else TASKS[serve.task].takes if serve.task in TASKS else ()
    for key in KEYS:
        if getattr(serve, key) is not None and key not in takes:
            yield key, f"the task {serve.task} takes no {key} (it takes {', '.join(takes) or 'none of these keys'})"
    if serve.labels is not None and len(set(serve.labels)) != len(serve.labels):
        yield "labels", "names a label twice"
    if (serve.start_output is None) != (serve.end_output is None):
        yield "start_output" if serve.end_output is None else "end_output", "start_output and end_output are said together"
    elif serve.start_output is not None and serve.start_output == serve.end_output:
        yield "end_output", "is the start_output: an answer's start and its end are two outputs"
    if serve.threshold is not None and not math.isfinite(serve.threshold):
        yield "threshold", "must be a finite number"


def settings(recipe: Recipe, steps: Sequence[Step], signature: Signature, *, tokenized: bool) -> dict[str, Any] | None:
    """What model.json says as `task`; None where plain requests are answered with tensors.

    Args:
        recipe: The recipe, whose source is looked at where it lies.
        steps: The candidate's, whose export may name another task than the source.
        signature: The model's inputs and outputs.
        tokenized: Whether the package has a tokenizer.

    Raises:
        RecipeError: The recipe names a task, or a key of one, that this model cannot serve.
    """
    task = _settings(recipe, steps, signature, tokenized=tokenized)
    if task is None or "activation" not in task or recipe.serve.activation is not None or recipe.source.format != "onnx":
        return task
    computed = _operator_behind(recipe.root / recipe.source.reference, task["output"]) in _ACTIVATIONS
    return {**task, "activation": "none"} if computed else task


def _settings(recipe: Recipe, steps: Sequence[Step], signature: Signature, *, tokenized: bool) -> dict[str, Any] | None:
    serve, folder = recipe.serve, folder_of(recipe)
    config = bounded.load_object(folder / "config.json") if folder else {}
    if serve.task is not None:
        name: str | None = None if serve.task == NONE else serve.task
    elif serve.preprocess or serve.postprocess:
        name = None
    else:
        name = task_implied(config, _exported(recipe, steps), pooled=folder is not None and (folder / "modules.json").is_file())
    if name is None:
        _refuse_keys(serve)
        return None
    if TASKS[name].media == "image":
        told = pictures.told_by_graph(recipe.root / recipe.source.reference) if recipe.source.format == "onnx" else {}
        return _of_pictures(name, serve, signature, folder, {**told, **config})
    if TASKS[name].media is not None:
        return _of_sounds(name, serve, signature, folder, config)
    missing = None if tokenized else "a tokenizer: say serve.tokenizer (a huggingface source brings its own)"
    read = {} if missing else _outputs(name, serve, signature, folder)
    if missing is None and read is None:
        outputs = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in signature.outputs)
        missing = f"{_lacking(name)}, and the model has {outputs}: say {' and '.join(_named_by(name))}"
    if missing is not None or read is None:
        if serve.task is not None:
            raise RecipeError(f"serve.task: {name} needs {missing}")
        _refuse_keys(serve)
        return None
    return {"name": name, **read, **_labels(name, serve, config, read, signature), **_tokens(name, folder), **_own(name, serve)}


def _operator_behind(path: Path, output: str) -> str:
    """The operator whose numbers an output of an ONNX file has; "" where that cannot be told."""
    try:
        with wire.mapped(path) as view:
            return wire.operator_behind(view, output)
    except (OSError, ValueError):
        return ""


def untold(recipe: Recipe, steps: Sequence[Step], signature: Signature) -> str | None:
    """Why a model has no task although its files name one for pictures or sounds, for people who expect its labels; None where
    there is nothing to say. Arguments as of `settings`."""
    folder, serve = folder_of(recipe), recipe.serve
    if folder is None or serve.task is not None or serve.preprocess or serve.postprocess:
        return None
    name = task_implied(bounded.load_object(folder / "config.json"), _exported(recipe, steps), pooled=False)
    if name is None or TASKS[name].media is None:
        return None
    asked = dataclasses.replace(recipe, serve=dataclasses.replace(serve, task=name))
    try:
        settings(asked, steps, signature, tokenized=False)
    except RecipeError as error:
        return f"it takes tensors alone, because {str(error).partition(': ')[2]}"
    return (
        f"it takes tensors alone, because no file says how a picture becomes one: with serve.task: {name} pixels are divided by 255"
    )


def _of_pictures(
    name: str, serve: Serve, signature: Signature, folder: Path | None, config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The settings of a task that reads pictures; None where files alone imply it, and leave something open."""
    processor = bounded.load_object(folder / "preprocessor_config.json") if folder else {}
    said = [key for key in ("task", "image", "objects") if getattr(serve, key) is not None]
    try:
        image = pictures.image_settings(serve, signature, config, processor)
        if not said and not processor and "pretrained_cfg" not in config:
            return None  # which numbers a model takes for bytes cannot be seen
        if name == "object-detection":
            more = pictures.detector_settings(serve, signature, config, processor)
        else:
            read = _outputs(name, serve, signature, folder)
            if read is None:
                raise pictures.NotCertainError(f"it needs {_lacking(name)}: say serve.output")
            more = {**read, **_labels(name, serve, config, read, signature)}
    except pictures.NotCertainError as error:
        if not said:
            _refuse_keys(serve)
            return None
        raise RecipeError(f"serve.{said[0]}: {name}: {error}") from None
    return {"name": name, **more, "image": image, **_own(name, serve)}


def _of_sounds(
    name: str, serve: Serve, signature: Signature, folder: Path | None, config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The settings of a task that reads sounds; None where files alone imply it, and leave something open."""
    said = [key for key in ("task", "sound") if getattr(serve, key) is not None]
    try:
        sound, read = sounds.sound_settings(serve, signature, config, folder), _outputs(name, serve, signature, folder)
        if read is None:
            raise sounds.NotCertainError(_lacking(name))
        if name == sounds.CTC:
            (output,) = (spec for spec in signature.outputs if spec.name == read["output"])
            read |= sounds.transcript_settings(output, sound, config, folder)
    except sounds.NotCertainError as error:
        if not said:
            _refuse_keys(serve)
            return None
        raise RecipeError(f"serve.{said[0]}: {name} needs {error}") from None
    labels = _labels(name, serve, config, read, signature)
    return {"name": name, **read, **labels, "sound": sound, "window_s": sounds.window_s(serve), **_own(name, serve)}


def task_implied(config: Mapping[str, Any], exported: str | None, *, pooled: bool) -> str | None:
    """The task that a config.json means; None for a head that has none here. `exported`: the task that was asked of the export."""
    if not config:
        return None
    head = heads.task_of(config, exported, pooled=pooled) if exported or pooled else heads.of_architecture(config)
    name = _HEADS.get(head or "")
    if name == "text-classification" and _count(config) == 1 and config.get("problem_type") != "regression":
        return "rerank"
    return name


def folder_of(recipe: Recipe) -> Path | None:
    """Where configuration stands beside the model: its directory; for an ONNX file also the one above `onnx`, as hubs have it."""
    place = recipe.root / recipe.source.reference
    if recipe.source.format == "huggingface":
        return place
    if recipe.source.format != "onnx":
        return None
    folders = [place.parent, *([place.parent.parent] if place.parent.name == "onnx" else [])]
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def sample(task: Mapping[str, Any] | None, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A pair of texts out of the evaluation data, as the task's clients send it."""
    if task is None or body.keys() != {"text", "text_pair"}:
        return body
    if task["name"] == "question-answering":
        return {"question": body["text"], "context": body["text_pair"]}
    return {"query": body["text"], "documents": [body["text_pair"]]} if task["name"] == "rerank" else body


def _exported(recipe: Recipe, steps: Sequence[Step]) -> str | None:
    tasks_stated = (getattr(step.config, "task", None) for step in steps if step.name == "export")
    return next((task for task in tasks_stated if task), recipe.source.task)


def _refuse_keys(serve: Serve) -> None:
    """Keys of a task, where there is none."""
    for key in KEYS:
        if getattr(serve, key) is not None:
            raise RecipeError(f"serve.{key}: the model's files name no task that has a use for it: say serve.task, or leave it out")


def _outputs(name: str, serve: Serve, signature: Signature, folder: Path | None) -> dict[str, Any] | None:
    """Which outputs the task reads; None where that is not certain."""
    numbers = {spec.name: spec for spec in signature.outputs if spec.dtype in ("float32", "float64", "float16")}
    fitting = [each for each, spec in numbers.items() if len(spec.shape) == TASKS[name].axes]
    for key, among in (("output", [*numbers]), ("start_output", fitting), ("end_output", fitting)):
        output = getattr(serve, key)
        if output is not None and output not in among:
            form = "numbers" if key == "output" else "a number for each token"
            raise RecipeError(f"serve.{key}: the model has no output {output!r} of {form}; it has {', '.join(among) or 'none'}")
    if name == "question-answering":
        return spans.chosen({"start": serve.start_output, "end": serve.end_output}, [numbers[each] for each in fitting])
    if name == "embeddings":
        return _vectors(serve, numbers, folder)
    chosen = serve.output or ("logits" if "logits" in fitting else fitting[0] if len(fitting) == 1 else None)
    return None if chosen not in fitting else {"output": chosen}


def _lacking(name: str) -> str:
    """What a model has to have for a task."""
    if name == "question-answering":
        return "two outputs of 2 axes with numbers, whose names say which is the start and which the end"
    return f"an output of {TASKS[name].axes} axes with numbers"


def _named_by(name: str) -> list[str]:
    return [f"serve.{key}" for key in _OUTPUTS if key in TASKS[name].takes]


def _vectors(serve: Serve, numbers: Mapping[str, TensorSpec], folder: Path | None) -> dict[str, Any] | None:
    """The output with vectors of texts, or that with vectors of tokens and how they are pooled."""
    flat = [name for name, spec in numbers.items() if len(spec.shape) == 2]
    deep = [name for name, spec in numbers.items() if len(spec.shape) == 3]
    usual = [name for name in _VECTORS if name in flat]
    if serve.output is None and serve.pooling is None and (usual or (serve.task is not None and len(flat) == 1)):
        return {"output": (usual or flat)[0]}
    if serve.output in flat and serve.pooling is None:
        return {"output": serve.output}
    try:
        pooling = read_pooling(folder) if folder is not None else None
    except PassError:
        pooling = None
    how = serve.pooling or (pooling.mode if pooling else None)
    tokens = [serve.output] if serve.output else [name for name in _TOKEN_VECTORS if name in deep] or deep
    if how is None or len(tokens) != 1 or tokens[0] not in deep:
        return None
    return {"output": tokens[0], "pooling": how, **({"normalize": True} if pooling and pooling.normalize else {})}


def _labels(name: str, serve: Serve, config: Mapping[str, Any], read: Mapping[str, Any], signature: Signature) -> dict[str, Any]:
    """The names of a classifier's columns in their order, and what makes scores of its numbers."""
    if "labels" not in TASKS[name].takes:
        return {}
    (columns,) = (spec.shape[-1] for spec in signature.outputs if spec.name == read["output"])
    names = pictures.names_of(config)
    numbers = [int(key) for key in names if key.isdecimal() and len(key) < 10]
    number = columns if isinstance(columns, int) else min(max(numbers) + 1 if numbers else _count(config), _LABELS_MOST)
    labels = [names.get(str(at), f"LABEL_{at}") for at in range(number)]
    if serve.labels is not None:
        if isinstance(columns, int) and len(serve.labels) != columns:
            raise RecipeError(
                f"serve.labels names {len(serve.labels)} labels, and the model's output {read['output']!r} has {columns}"
            )
        labels = list(serve.labels)
    if name == "rerank" and serve.task == name and number != 1:
        raise RecipeError(f"serve.task: rerank needs one score a pair, and the model's output {read['output']!r} has {number}")
    if name == "token-classification":
        return {"labels": labels, "aggregation": "simple"}
    if TASKS[name].media == "image":  # transformers' pipeline looks at the labels' number alone
        sigmoid = config.get("problem_type") == "multi_label_classification" or number == 1
        return {"labels": labels, "activation": "sigmoid" if sigmoid else "softmax"}
    return {"labels": labels, "activation": _activation(config, number)}


def _activation(config: Mapping[str, Any], number: int) -> str:
    """What transformers' pipeline makes scores with; of a cross-encoder what sentence-transformers does."""
    beside = config.get("sentence_transformers")
    function = (beside.get("activation_fn") if isinstance(beside, dict) else None) or config.get(
        "sbert_ce_default_activation_function"
    )
    by_name = {"Identity": "none", "Sigmoid": "sigmoid", "Softmax": "softmax"}.get(str(function).rpartition(".")[2])
    if by_name is not None:
        return by_name
    kind = config.get("problem_type")
    if kind == "regression":
        return "none"
    return "sigmoid" if kind == "multi_label_classification" or number == 1 else "softmax"


def _count(config: Mapping[str, Any]) -> int:
    """How many labels config.json says; transformers takes two where it says nothing."""
    names, number = config.get("id2label"), config.get("num_labels")
    if isinstance(names, dict) and names:
        return len(names)
    return number if isinstance(number, int) and number > 0 else 2


def _tokens(name: str, folder: Path | None) -> dict[str, Any]:
    """The tokenizer's unknown token and that which stands for the whole, where places in texts depend on them."""
    if name not in ("token-classification", "question-answering") or folder is None:
        return {}
    read = [bounded.load_object(folder / file) for file in _TOKEN_FILES]
    if not any(read):
        return {}
    values = {key: next((each[key] for each in read if each.get(key)), None) for key in ("cls_token", "unk_token")}
    texts = {key: value.get("content") if isinstance(value, dict) else value for key, value in values.items()}
    # Without either name, transformers' classes have their own, which the runtime guesses from the tokenizer.
    return {key: text for key, text in texts.items() if isinstance(text, str)}


def _own(name: str, serve: Serve) -> dict[str, Any]:
    """What the recipe says itself."""
    keys = [key for key in TASKS[name].takes if key not in (*_OUTPUTS, "labels", "image", "objects", "sound")]
    return {key: getattr(serve, key) for key in keys if getattr(serve, key) is not None}
