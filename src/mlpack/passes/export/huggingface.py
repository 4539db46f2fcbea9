"""What is particular to a Hugging Face directory: its weights, its task, its tokenizer, its pooling, and optimum's exporter.

Promises: weights are safetensors, or a checkpoint that `weights_only` loading accepts; nothing is fetched and no code of the
directory runs. A sentence-transformers directory gives one output, `sentence_embedding` `[batch, dim]`, pooled and normalised
as its modules.json says. The tokenizer that ships pads to the longest text of a batch and cuts at the model's own length.
"""

from __future__ import annotations

import fnmatch
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlpack import bounded, tokenizer_limits
from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes.export import huggingface_checks, torch_model
from mlpack.records import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    import torch

    from mlpack.graphs.check import Feed

EMBEDDING = "sentence_embedding"

_TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForImageClassification": "image-classification",
}
_NO_LIMIT = 1_000_000  # tokenizers without a length say 1e30


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How sentence-transformers makes one vector of many: `mean` over unmasked tokens or the `cls` token; then unit length."""

    mode: str
    normalize: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An eager model and what an exporter must know of it."""

    model: Any
    task: str
    inputs: tuple[TensorSpec, ...]
    limits: Mapping[str, int]
    outputs: tuple[str, ...]
    pooling: Pooling | None
    max_length: int | None


def read_json(path: Path) -> Any:
    """A JSON file of the directory. Raises PassError when it is damaged, missing, too large or nested too deeply."""
    try:
        return bounded.load_json(path)
    except (OSError, ValueError) as error:
        raise PassError(f"{path.name}: missing or damaged ({error}); copy the whole Hugging Face directory again") from error


def read_object(path: Path) -> dict[str, Any]:
    """The same where it must be an object."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise PassError(f"{path.name}: holds no object but a {type(found).__name__}; copy the whole Hugging Face directory again")
    return found


def load(model_dir: Path, task: str | None) -> Loaded:
    """The eager float32 model of a directory, in evaluation mode. Raises PassError for what cannot be loaded safely."""
    import torch
    import transformers
    from optimum.exporters.tasks import TasksManager

    described = read_object(model_dir / "config.json")
    huggingface_checks.check_config(described)
    check_weights(model_dir)
    pooling = read_pooling(model_dir)
    task = TasksManager.map_from_synonym(task or _task_of(described, pooling))
    try:
        config = transformers.AutoConfig.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
        loader = TasksManager.get_model_class_for_task(task, framework="pt", model_type=config.model_type, library="transformers")
        model = loader.from_pretrained(
            model_dir, config=config, dtype=torch.float32, attn_implementation="eager",
            local_files_only=True, trust_remote_code=False,
        )  # fmt: skip
    except torch_model.FOREIGN_ERRORS as error:
        raise PassError(f"transformers cannot load the directory for the task {task!r}: {type(error).__name__}: {error}") from error
    model.eval()
    try:
        max_length = _max_length(model_dir, described, huggingface_checks.positions(model))
        return _described(model, task, pooling if task == "feature-extraction" else None, max_length)
    except torch_model.FOREIGN_ERRORS as error:
        raise PassError(
            f"the inputs of the model cannot be told from its config.json: {type(error).__name__}: {error}; are its numbers those "
            "that the model was made with?"
        ) from error


def check_weights(model_dir: Path) -> None:
    """Raises PassError unless weights are there that can be read without executing them."""
    from safetensors import SafetensorError, safe_open

    stored = sorted(model_dir.glob("*.safetensors"))
    for path in stored:
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise PassError(f"{path.name}: not a complete safetensors file ({error}); it was probably cut off") from error
    if stored:
        return
    pickled = sorted((*model_dir.glob("pytorch_model*.bin"), *model_dir.glob("*.pt")))
    if not pickled:
        raise PassError("no weights (*.safetensors) in the Hugging Face directory; were they left behind as Git LFS pointers?")
    for path in pickled:
        torch_model.read_pickled(path)


def copy_without_weights(model_dir: Path, out_dir: Path) -> None:
    """Everything of a Hugging Face directory but its weights (of any framework) and our notes."""
    indexes = ("*.safetensors.index.json", "*.bin.index.json", files.NOTES)
    weights = ("*.safetensors", "*.bin", "*.pt", "*.h5", "*.msgpack", "*.onnx", *indexes)

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {name for pattern in weights for name in fnmatch.filter(names, pattern)} if Path(folder) == model_dir else set()

    shutil.copytree(model_dir, out_dir, dirs_exist_ok=True, ignore=left_out)


def _task_of(described: Mapping[str, Any], pooling: Pooling | None) -> str:
    listed = described.get("architectures")
    names = listed if isinstance(listed, list) and listed else [""]
    if pooling is not None:
        return "feature-extraction"
    return next((task for suffix, task in _TASKS.items() if str(names[0]).endswith(suffix)), "feature-extraction")


def _max_length(model_dir: Path, described: Mapping[str, Any], positions: int | None) -> int | None:
    """The most tokens the model takes: as sentence-transformers says, else its tokenizer, else its config, never more than its
    `positions`."""
    said = described.get("max_position_embeddings") if positions is None else positions
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        value = read_object(model_dir / name).get(key) if (model_dir / name).is_file() else None
        if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < _NO_LIMIT:
            said = int(value)
            break
    if not isinstance(said, int) or isinstance(said, bool) or not 0 < said < _NO_LIMIT:
        return positions
    return said if positions is None else min(said, positions)


def read_pooling(model_dir: Path) -> Pooling | None:
    """The pooling of a sentence-transformers directory; None for any other. Raises PassError for modules we cannot append."""
    if not (model_dir / "modules.json").is_file():
        return None
    mode, normalize = None, False
    modules = read_json(model_dir / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise PassError("modules.json: holds no list of modules; copy the whole sentence-transformers directory again")
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Pooling":
            folder = PurePosixPath(str(module.get("path", "")))
            if folder.is_absolute() or ".." in folder.parts:
                raise PassError(f"modules.json: the path {str(folder)!r:.100} leaves the model's directory")
            options = read_object(model_dir / folder / "config.json")
            modes = {key.removeprefix("pooling_mode_"): on for key, on in options.items() if key.startswith("pooling_mode_")}
            chosen = sorted(mode for mode, on in modes.items() if on is True)
            mode = {"mean_tokens": "mean", "cls_token": "cls"}.get(chosen[0]) if len(chosen) == 1 else None
            if mode is None:
                raise PassError(f"sentence-transformers pooling {chosen} is not supported: only mean_tokens or cls_token alone")
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise PassError(f"sentence-transformers module {kind!r} is not supported: only Transformer, Pooling and Normalize")
    return Pooling(mode=mode, normalize=normalize) if mode else None


def _described(model: Any, task: str, pooling: Pooling | None, max_length: int | None) -> Loaded:
    """Names, axes and value limits of inputs and outputs: optimum's where it knows the architecture."""
    if _onnx_config(model, task) is not None:
        described = _onnx_config(model, task)
        shapes = {name: {i: _axis(axis) for i, axis in axes.items()} for name, axes in described.inputs.items()}
        outputs = tuple(described.outputs)
        dummies = described.generate_dummy_inputs(framework="np")
        inputs = tuple(
            TensorSpec(
                name=name, dtype=str(dummies[name].dtype),
                shape=tuple(axes.get(i, size) for i, size in enumerate(dummies[name].shape)),
            )
            for name, axes in shapes.items()
        )  # fmt: skip
    else:
        shape = ("batch", "sequence")
        inputs = tuple(TensorSpec(name=name, dtype="int64", shape=shape) for name in ("input_ids", "attention_mask"))
        outputs = ("last_hidden_state",) if task == "feature-extraction" else ("logits",)
    limits = {"input_ids": int(getattr(model.config, "vocab_size", 2) or 2)}
    return Loaded(model=model, task=task, inputs=inputs, limits=limits, outputs=outputs, pooling=pooling, max_length=max_length)


def _axis(name: str) -> str:
    return {"batch_size": "batch", "sequence_length": "sequence"}.get(name, name)


def _onnx_config(model: Any, task: str) -> Any:
    import optimum.exporters.onnx.model_configs  # noqa: F401  registers the architectures
    from optimum.exporters.tasks import TasksManager

    known = TasksManager.get_supported_tasks_for_model_type
    try:
        tasks = known(model.config.model_type, exporter="onnx", library_name="transformers")
    except KeyError:
        return None
    if task not in tasks:
        return None
    make = TasksManager.get_exporter_config_constructor(exporter="onnx", model=model, task=task, library_name="transformers")
    return make(model.config)


def known_to_optimum(model: Loaded) -> bool:
    """Whether optimum has an export configuration for this architecture and task."""
    return _onnx_config(model.model, model.task) is not None


def export_with_optimum(model: Loaded, path: Path, opset: int) -> None:
    """Writes one ONNX file by optimum's exporter."""
    from optimum.exporters.onnx import export

    export(model=model.model, config=_onnx_config(model.model, model.task), output=path, opset=opset)


def positional(model: Loaded) -> torch.nn.Module:
    """The model as torch's exporters want it: tensors in by position, a tuple of the named outputs back."""
    import torch

    class Wrapped(torch.nn.Module):  # type: ignore[misc]  # torch is not followed by the type checker
        def __init__(self) -> None:
            super().__init__()
            self.model = model.model

        def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            result = self.model(**dict(zip((spec.name for spec in model.inputs), values, strict=True)))
            return tuple(result[name] for name in model.outputs)

    return Wrapped().eval()


def eager(model: Loaded, feed: Feed) -> dict[str, Any]:
    """The eager model's outputs by name, pooled if the directory says so, as arrays."""
    import torch

    with torch.inference_mode():
        try:
            result = model.model(**{name: torch.from_numpy(array) for name, array in feed.items()})
            if model.pooling is None:
                return {name: result[name].numpy() for name in model.outputs}
        except torch_model.FOREIGN_ERRORS as error:
            shapes = {name: tuple(array.shape) for name, array in feed.items()}
            raise PassError(
                f"the model itself fails on inputs of shapes {shapes}: {type(error).__name__}: {str(error)[:300]}; are the sizes "
                "in config.json (max_position_embeddings, vocab_size, type_vocab_size) those of its weights?"
            ) from error
        hidden = result["last_hidden_state"]
        pooled = hidden[:, 0]
        if model.pooling.mode == "mean":
            mask = torch.from_numpy(feed["attention_mask"]).unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        if model.pooling.normalize:
            pooled = torch.nn.functional.normalize(pooled, dim=1)
        return {EMBEDDING: pooled.numpy()}


def append_pooling(exported: onnx.ModelProto, pooling: Pooling) -> None:
    """Makes `sentence_embedding` the graph's only output, computed from `last_hidden_state` and the mask."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    hidden = exported.graph.output[0].name
    width = exported.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    batch = exported.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    constants = {
        "pool_last": np.array([-1], np.int64), "pool_tokens": np.array([1], np.int64), "pool_first": np.array(0, np.int64),
        "pool_count_floor": np.array(1e-9, np.float32), "pool_norm_floor": np.array(1e-12, np.float32),
    }  # fmt: skip
    pooled = "pooled" if pooling.normalize else EMBEDDING
    if pooling.mode == "mean":
        nodes = [
            helper.make_node("Cast", ["attention_mask"], ["pool_mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["pool_mask", "pool_last"], ["pool_weights"]),
            helper.make_node("Mul", [hidden, "pool_weights"], ["pool_kept"]),
            helper.make_node("ReduceSum", ["pool_kept", "pool_tokens"], ["pool_sum"], keepdims=0),
            helper.make_node("ReduceSum", ["pool_weights", "pool_tokens"], ["pool_tokens_kept"], keepdims=0),
            helper.make_node("Max", ["pool_tokens_kept", "pool_count_floor"], ["pool_count"]),
            helper.make_node("Div", ["pool_sum", "pool_count"], [pooled]),
        ]
    else:
        nodes = [helper.make_node("Gather", [hidden, "pool_first"], [pooled], axis=1)]
    if pooling.normalize:
        nodes += [
            # Not ReduceL2: onnxruntime's shape inference, which its fusions rest on, gives up at axes that are inputs of it.
            helper.make_node("Mul", [pooled, pooled], ["pool_squares"]),
            helper.make_node("ReduceSum", ["pool_squares", "pool_last"], ["pool_length_squared"], keepdims=1),
            helper.make_node("Sqrt", ["pool_length_squared"], ["pool_length"]),
            helper.make_node("Max", ["pool_length", "pool_norm_floor"], ["pool_norm"]),
            helper.make_node("Div", [pooled, "pool_norm"], [EMBEDDING]),
        ]
    for number, node in enumerate(nodes):
        node.name = f"pool_{number}"
    exported.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    exported.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items() if n in used)
    del exported.graph.output[:]
    exported.graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, [batch, width]))


def write_tokenizer(model_dir: Path, out_dir: Path, model: Loaded) -> None:
    """Writes tokenizer.json: padding to the longest of a batch, cut at `max_length`; nothing when the model reads no text."""
    path = model_dir / files.TOKENIZER
    if not path.is_file():
        return
    tokenizer = tokenizer_limits.load(path, PassError)
    largest, rows = max(tokenizer.get_vocab(with_added_tokens=False).values(), default=0), model.limits["input_ids"]
    if largest >= rows > 1:
        raise PassError(
            f"{path.name} gives tokens up to number {largest} and the model has {rows} (vocab_size): it belongs to another model"
        )
    padding: dict[str, Any] = tokenizer.padding or _padding_of(model_dir, tokenizer)
    padding |= {"length": None}
    tokenizer.enable_padding(**padding)
    if model.max_length is not None:
        tokenizer.enable_truncation(model.max_length)
    (out_dir / files.TOKENIZER).write_text(tokenizer.to_str(), "utf-8")


def _padding_of(model_dir: Path, tokenizer: Any) -> dict[str, Any]:
    """The padding token that the directory's other files name, for a tokenizer that does not say."""
    named: Any = None
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if named is None and (model_dir / name).is_file():
            named = read_object(model_dir / name).get("pad_token")
    token = named.get("content") if isinstance(named, dict) else named
    number = tokenizer.token_to_id(token) if token else None
    return {"pad_id": number or 0, "pad_token": token or "[PAD]"} if number is not None else {}
