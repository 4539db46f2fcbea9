"""Writes a first recipe by looking at a model: what `mlpack init MODEL` prints.

Promises: a text that `recipe.load` accepts as it stands when the data it names is there, with the keys that stand here and no
other, whatever the model and the files beside it call things; what had to be guessed is said in a comment. It looks at names,
headers and configuration only; the model's weights are not read and none of its code runs.
"""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.core import entrypoint, yaml_positions
from mlpack.core.distribution import NAME
from mlpack.core.files import bounded
from mlpack.core.records import Signature, TensorSpec
from mlpack.core.text.sinks import shortened, yaml_comment, yaml_text
from mlpack.errors import PassError, RecipeError
from mlpack.recipe import tasks
from mlpack.recipe.first import boosters, checkpoints, labels, metric
from mlpack.recipe.first.labels import Labels
from mlpack.recipe.first.metric import Proposal

if TYPE_CHECKING:
    from onnx import ModelProto

_INPUTS_MOST = 50
"""Inputs that are written out: a recipe with thousands of lines of comment is read by nobody."""
_LINE_MOST = 1_000
_NAMES_MOST = 8
_EVALUATION = ("eval", "valid", "test")
_FOLDERS_MOST = 4
_ANYBODYS = re.compile(
    r"((my-?)?(model|models|weights?|net|network|checkpoints?|pytorch-model|saved-model|export(ed)?|onnx|torch|best|last|"
    r"final|latest|output|out|artifacts?|data|src|tmp|home|root|work|project|app|optimi[sz]ed|quantized|simplified)"
    r"(-?(v?[0-9]+|fp32|fp16|f32|f16|int8|float|best|last|final|opt|simplified|optimi[sz]ed|quantized|onnx))*)|v?[0-9.-]+"
)
"""Names that say nothing of a model."""
_FACTORIES = ("build", "build_model", "make_model", "create_model", "get_model", "make", "create")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What was seen of a model: lines of the recipe's parts, and what its data must hold."""

    source: tuple[str, ...]
    inputs: tuple[str, ...]
    holds: str
    texts: bool
    metric: Callable[[Labels], Proposal]
    """By what the labels beside the model look like."""
    trees: bool = False
    """Whether nothing in it could be quantized."""
    task: str | None = None
    """What the package will answer plain requests by."""


def suggest(model: Path) -> str:
    """A commented recipe for a Hugging Face directory, an ONNX file, a file of PyTorch weights (safetensors, or what torch.save
    wrote of a state dict), or a model in the own formats of XGBoost and LightGBM.

    Paths in it are relative to the working directory, where the recipe is meant to stand. Raises RecipeError for anything else.
    """
    _named(model)
    if not model.exists():
        raise RecipeError(f"{model}: there is no such file or directory; mlpack downloads nothing: fetch the model first")
    if model.is_dir():
        look = _huggingface(model)
    elif model.suffix == ".onnx":
        look = _onnx(model)
    elif model.suffix == ".safetensors":
        look = _torch(model)
    elif model.suffix in checkpoints.SUFFIXES:
        checkpoints.check(model)
        look = _torch(model)
    elif (kind := boosters.kind(model)) is not None:
        look = _booster(model, kind)
    else:
        raise RecipeError(
            f"{model} is none of a Hugging Face directory, an .onnx file, weights of PyTorch (.safetensors, .pt, .pth) and a model"
            " of XGBoost or LightGBM; what a function of your own opens is named by it (source: {torch: module:function}, with its"
            " weights, or {sklearn: module:function}), and anything else exported to ONNX first"
        )
    return "\n".join(_lines(model, look)) + "\n"


def _lines(model: Path, look: _Look) -> Iterator[str]:
    name = _telling(model.resolve())
    evaluation = _beside(model, _EVALUATION, look.texts)
    calibration = _beside(model, ("calib", "train"), look.texts)
    default = "eval.jsonl" if look.texts else "eval.npz"
    yield "# Written by `mlpack init`. Every key: docs/recipe.md. Try `mlpack plan` on it, then `mlpack build`."
    yield f"name: {yaml_text(name)}"
    yield "source:"
    yield from (f"  {line}" for line in look.source)
    if look.inputs:
        yield "inputs:"
        yield from (f"  {line}" for line in look.inputs)
    yield "data:"
    yield f"  evaluation: {yaml_text(evaluation or default)}   # {look.holds}{'' if evaluation else ': to be written by you'}"
    if calibration:
        yield f"  calibration: {yaml_text(calibration)}   # the same form; never overlaps evaluation"
    elif not look.trees:
        example = "calib.jsonl" if look.texts else "calib.npz"
        yield f"  # calibration: {example}   # the same form, from training data, for static int8 (convolutions): left out,"
        yield "  # a fifth of the evaluation data is held out for it where it is needed, and judges nobody"
    proposed = look.metric(labels.look(Path(evaluation) if evaluation else None))
    yield f"metric: {proposed.metric}   # {proposed.why}"
    if look.trees:
        yield "variants: {fp32: []}   # trees have nothing to quantize"
    else:
        yield "variants: auto   # float, int8, and fp16 where a target computes in it"
    yield "targets:"
    yield "  lambda-zip: {arch: x86_64, memory_mb: 1769}   # 1769 MB is one whole vCPU"
    yield "  # lambda-image: {arch: arm64}"
    yield "  # container: {memory_mb: 2048}   # HTTP on Kubernetes, Cloud Run, Fargate, SageMaker"
    yield "budgets:   # hard limits: a build that misses one fails"
    if proposed.drop is None:
        yield "  # accuracy_drop: 0.1   # absolute, against the float model: in the unit of the labels"
    else:
        yield f"  accuracy_drop: {proposed.drop:g}   # absolute, against the float model"
    yield "  # latency_p95: 50ms"
    yield "  # cold_start: 800ms"
    yield "  package_size: 250MB"
    yield "prefer: cost"
    if look.task is not None:
        yield f"# serve: {{task: {look.task}}}   # as its files say: how plain requests are answered; none: with tensors"


def _telling(model: Path) -> str:
    """A name for the recipe: the file's, or that of the nearest directory above it that is not called as any might be."""
    names = [model.stem if model.is_file() else model.name, *(folder.name for folder in model.parents)]
    plain = [re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64] for name in names[:_FOLDERS_MOST]]
    return next((name for name in plain if name and not _ANYBODYS.fullmatch(name)), plain[0] or "model")


def _huggingface(model: Path) -> _Look:
    path = model / "config.json"
    if not path.is_file():
        models = ", ".join(sorted(p.name for p in model.iterdir() if p.suffix in (".onnx", ".safetensors"))[:5])
        hint = f"; name one of the models in it ({models})" if models else ""
        raise RecipeError(f"{model} has no config.json, so it is no Hugging Face model directory{hint}")
    try:
        config = bounded.load_json(path)
        architectures = [str(name) for name in config.get("architectures") or ()]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise RecipeError(f"{path} is damaged: {error}") from None
    classifies = any("For" in name for name in architectures)
    embeds = (model / "modules.json").is_file() or (not classifies and any(name.endswith("Model") for name in architectures))
    embeds = embeds and not any(name.endswith("LMHeadModel") for name in architectures)
    texts = (model / "tokenizer.json").is_file() or (model / "vocab.txt").is_file()
    source = [f"huggingface: {yaml_text(_shown(model))}"]
    if embeds:
        source.append("task: feature-extraction")
        holds = 'one {"query": ..., "document": ...} a line: a pair that belongs together' if texts else "one array a model input"
    else:
        holds = _lines_of(architectures) if texts else "one array a model input, and labels"

    def proposal(labels_found: Labels) -> Proposal:
        return metric.for_huggingface(architectures, config, labels_found, embeds=embeds, texts=texts)

    pooled = (model / "modules.json").is_file()
    task = tasks.task_implied(config, None, pooled=pooled) if texts and (pooled or not embeds) else None
    return _Look(source=tuple(source), inputs=(), holds=holds, texts=texts, metric=proposal, task=task)


def _lines_of(architectures: Sequence[str]) -> str:
    """What a line of texts holds for a model with a head."""
    head = next((name.rpartition("For")[2] for name in architectures), "")
    if head == "TokenClassification":
        return 'one {"text": ..., "label": [...]} a line, a label for each token of the model: -100 for special ones'
    if head == "QuestionAnswering":
        return 'one {"text": question, "text_pair": context} a line'
    more = ', with "text_pair" where it reads pairs' if head == "SequenceClassification" else ""
    return f'one {{"text": ..., "label": ...}} a line{more}'


def _onnx(model: Path) -> _Look:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(model, load_external_data=False)
        unsaid = _unsaid(model, graph)
        signature = _signature(graph, unsaid)
    # KeyError: a type of elements that ONNX has not; IndexError: a node without its inputs
    except (DecodeError, PassError, ValueError, OSError, KeyError, IndexError) as error:
        raise RecipeError(f"{model} cannot be read as an ONNX model: {error}") from None
    if not signature.inputs:
        raise RecipeError(f"{model} has no inputs, so it computes nothing from data")
    inputs = tuple(f"# {line}" for line in _inputs(signature.inputs))
    names = ", ".join(yaml_comment(yaml_text(shortened(spec.name, 60))) for spec in signature.inputs[:_NAMES_MOST])
    more = f" and {len(signature.inputs) - _NAMES_MOST:,} more" if len(signature.inputs) > _NAMES_MOST else ""
    source = (
        f"onnx: {yaml_text(_shown(model))}",
        "# inputs, as the model says; write them out to narrow an axis that varies:",
        *inputs,
    )
    holds = f"one array a model input ({names}{more}), first axis = sample, and labels"

    remark = ("# the file does not say how many axes these have", *_inputs(unsaid)) if unsaid else ()

    def proposal(labels_found: Labels) -> Proposal:
        if len(signature.outputs) < len(graph.graph.output):
            return metric.FIDELITY
        return metric.for_onnx(graph, signature, labels_found)

    return _Look(source=source, inputs=remark, holds=holds, texts=False, metric=proposal)


def _signature(graph: ModelProto, unsaid: tuple[TensorSpec, ...]) -> Signature:
    """Without outputs of which neither the file nor inference says how many axes they have: a build runs the graph to see."""
    from mlpack.graphs import files
    from mlpack.graphs.foreign import ranks, sequences, zipmap

    zipmap.rewritten(graph)
    sequences.rewritten(graph)
    ranks.say(graph, unsaid)
    part = type(graph)()
    part.CopyFrom(graph)
    del part.graph.output[:]
    part.graph.output.extend(value for value in graph.graph.output if ranks.has_rank(value))
    return files.signature_of(part)


def _unsaid(model: Path, graph: ModelProto) -> tuple[TensorSpec, ...]:
    """Inputs of which the file does not say how many axes they have, as the data beside it has them."""
    import onnx

    from mlpack.graphs.foreign import ranks

    stored = {tensor.name for tensor in graph.graph.initializer}
    beside = _beside(model, _EVALUATION, texts=False)
    shapes = labels.shapes(Path(beside)) if beside else {}
    specs = []
    for value in graph.graph.input:
        kind = value.type.tensor_type.elem_type
        if value.name in stored or ranks.has_rank(value) or not kind:
            continue
        dtype = "string" if kind == onnx.TensorProto.STRING else onnx.helper.tensor_dtype_to_np_dtype(kind).name
        specs.append(TensorSpec(name=value.name, dtype=dtype, shape=("batch", *shapes.get(value.name, ())[1:])))
    return tuple(specs)


def _booster(model: Path, kind: str) -> _Look:
    columns = boosters.columns(model, kind)
    width = columns if columns is not None else "columns"
    source = (
        f"{kind}: {yaml_text(_shown(model))}   # needs {NAME}[classical]",
        f"# its one input is X, float32 [batch, {width}]; missing values are NaN, null in requests",
    )
    classes, scores = boosters.classifies(model, kind), boosters.scores(model, kind)
    labelled = "labels (0, 1, 2, ...: the file has no names)" if classes else "no labels" if scores else "labels"
    holds = f"X: one row of {width} numbers a sample, and {labelled}"
    proposal = boosters.proposed(classes=classes, scores=scores, threshold=boosters.threshold(model, kind))
    return _Look(source=source, inputs=(), holds=holds, texts=False, metric=proposal, trees=True)


def _torch(model: Path) -> _Look:
    factory = _factory(model.parent)
    source = (
        f"torch: {factory or 'model:build'}   # {'found by name' if factory else 'your'} function -> nn.Module, without weights",
        f"weights: {yaml_text(_shown(model))}",
    )
    inputs = (
        "# positional, in the order of forward(): what the module takes cannot be seen in its weights",
        "input: {dtype: float32, shape: [batch, 1, 28, 28]}",
    )
    holds = "one array a model input, first axis = sample, and labels"
    return _Look(source=source, inputs=inputs, holds=holds, texts=False, metric=metric.for_torch)


def _inputs(specs: Sequence[TensorSpec]) -> Iterator[str]:
    """A line each, as it would stand in `inputs`: YAML of its own, which cannot leave the comment that it is put into."""
    for spec in specs[:_INPUTS_MOST]:
        if len(spec.name) + sum(len(str(axis)) + 2 for axis in spec.shape) > _LINE_MOST:
            yield f"(an input of {len(spec.shape)} axes, too long to be written here)"
            continue
        axes = ", ".join(str(axis) if isinstance(axis, int) else yaml_text(axis) for axis in spec.shape)
        yield f"{yaml_text(spec.name)}: {{dtype: {yaml_text(spec.dtype)}, shape: [{axes}]}}"
    if len(specs) > _INPUTS_MOST:
        yield f"(and {len(specs) - _INPUTS_MOST:,} more)"


def _factory(folder: Path) -> str | None:
    """`module:function` of a function beside the weights that is called like a factory and needs no argument; parsed, not run."""
    for path in sorted(folder.glob("*.py")):
        try:
            with warnings.catch_warnings(action="ignore"):  # it is not for us to say what another's file does badly
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
            continue
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and _takes_nothing(node.args)}
        factory = next((name for name in _FACTORIES if name in names), None)
        parts = (*Path(_shown(folder)).parts, path.stem)
        reference = f"{'.'.join(parts)}:{factory}"
        if factory and entrypoint.is_reference(reference):
            return reference
    return None


def _takes_nothing(arguments: ast.arguments) -> bool:
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return required == 0 and all(default is not None for default in arguments.kw_defaults)


def _beside(model: Path, prefixes: tuple[str, ...], texts: bool) -> str | None:
    """A data file beside the model or in the working directory whose name begins like this."""
    suffix = ".jsonl" if texts else ".npz"
    for folder in (model.parent, Path()):
        for prefix in prefixes:
            paths = sorted(path for path in folder.glob(f"{prefix}*{suffix}") if path.is_file() and _nameable(path))
            if paths:
                return _shown(paths[0])
    return None


def _nameable(path: Path) -> bool:
    """Whether a recipe can name this path: YAML has no way to write bytes that are no text, nor some control characters."""
    return not yaml_positions.UNPRINTABLE.search(_shown(path))


def _named(model: Path) -> None:
    if not _nameable(model):
        raise RecipeError(f"{model}: a recipe cannot name this, for what is in it is not text; give it another name")


def _shown(path: Path) -> str:
    """The path as a recipe in the working directory says it; as it was given where that is elsewhere."""
    relative = Path(os.path.relpath(path.resolve(), Path.cwd()))
    return relative.as_posix() if ".." not in relative.parts else path.as_posix()
