"""Loads a Hugging Face directory for export (its weights, its head, its inputs), and runs optimum's exporter.

Promises:
- Weights are safetensors, or a checkpoint that `weights_only` loading accepts, and every weight that an output depends on is
  one of the directory's. Nothing is fetched and no code of the directory runs.
- The model is the class that config.json names, with its head, unless the recipe asks for another task. A sentence-transformers
  directory gives one output, `sentence_embedding` `[batch, dim]`.
"""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core.digest import canonical_json
from mlpack.core.records import TensorSpec
from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes.export import extras, hf_tokenizer, huggingface_checks, ports, tasks, torch_model
from mlpack.passes.export.pooling import EMBEDDING, Pooling, read_json, read_object, read_pooling

if TYPE_CHECKING:
    import torch

    from mlpack.graphs.check import Feed

__all__ = ["EMBEDDING", "LoadedModel", "Pooling", "check_weights", "copy_without_weights", "eager", "export_with_optimum",
           "known_to_optimum", "load", "opened", "pinned", "positional", "read_json", "read_object", "read_pooling",
           "with_outputs", "write_tokenizer"]  # fmt: skip

INPUTS = "mlpack.inputs.json"
"""The recipe's statements about inputs, beside the directory's own files."""
PROCESSOR = "preprocessor_config.json"
POSITIONS = "position_ids"
_NO_LIMIT = 1_000_000  # tokenizers without a length say 1e30
_HARMLESS = ("masked_spec_embed", "position_ids", "inv_freq")  # no output needs these: masks of training, and computed values


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """An eager model and the facts for an exporter. `counted`: the graph makes positions from the mask."""

    model: Any
    task: str
    inputs: tuple[TensorSpec, ...]
    invention: ports.Invention
    outputs: tuple[str, ...]
    pooling: Pooling | None
    max_length: int | None
    counted: bool = False
    described: Any = None
    """optimum's export configuration, where it knows the architecture, the task and these inputs."""

    @property
    def limits(self) -> Mapping[str, int]:
        """For integer inputs, the first value that is too large."""
        return self.invention.limits

    @property
    def past(self) -> bool:
        """Whether keys and values of earlier tokens are inputs and outputs."""
        return self.task.endswith(tasks.WITH_PAST)


Recorded = Callable[[LoadedModel], "Sequence[Feed]"]
"""Returns the recipe's own calls, as the model takes them."""


def load(model_dir: Path, task: str | None, recorded: Recorded = lambda _: ()) -> LoadedModel:
    """The eager float32 model of a directory, in evaluation mode. Raises PassError for a model that cannot be loaded safely, and
    for one that accepts neither generated inputs nor the `recorded` ones."""
    loaded, missing = opened(model_dir, task)
    try:
        return with_outputs(loaded, missing, recorded)
    except torch_model.FOREIGN_ERRORS as error:
        raise _untold(error) from error


def opened(model_dir: Path, task: str | None) -> tuple[LoadedModel, list[str]]:
    """The model without its outputs, and the names of its weights that are not in the directory."""
    # A missing package is reported before any fault of the directory.
    import optimum.exporters.tasks  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    config = read_object(model_dir / "config.json")
    huggingface_checks.check_config(config)
    check_weights(model_dir)
    pooling = hf_tokenizer.pooled(read_pooling(model_dir), model_dir)
    if refused := tasks.refusal(config, task, pooled=pooling is not None):
        raise PassError(refused)
    task = tasks.task_of(config, task, pooled=pooling is not None)
    try:
        model, missing = _model(model_dir, config, task)
    except torch_model.FOREIGN_ERRORS as error:
        if absent := extras.missing(error):
            raise absent from None
        why = str(error)[:600]
        raise PassError(f"transformers cannot load the directory for the task {task!r}: {type(error).__name__}: {why}") from error
    try:
        max_length = _max_length(model_dir, config, huggingface_checks.positions(model))
        return _described(model, task, model_dir, pooling if task == tasks.FEATURES else None, max_length), missing
    except torch_model.FOREIGN_ERRORS as error:
        raise _untold(error) from error


def _untold(error: BaseException) -> PassError:
    return PassError(
        f"the inputs of the model cannot be told from its config.json: {type(error).__name__}: {error}; are its numbers those "
        "that the model was made with?"
    )


def _model(model_dir: Path, config: Mapping[str, Any], task: str) -> tuple[Any, list[str]]:
    """The model, and the names of its weights that are not in the directory."""
    import torch
    import transformers

    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    architecture = tasks.architecture(config)
    loader: Any = getattr(transformers, architecture, None) if tasks.own(config, task) else None
    if loader is None and tasks.own(config, task):
        raise PassError(
            f"config.json names the architecture {architecture}, which transformers {transformers.__version__} has not: is it "
            "newer (install a newer transformers), or code of the model's own (use the torch source with your own factory)?"
        )
    if loader is None or not (isinstance(loader, type) and issubclass(loader, transformers.PreTrainedModel)):
        loader = getattr(transformers, tasks.AUTO[task.removesuffix(tasks.WITH_PAST)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # A class of its own knows its config, which auto classes may not; it knows no trust_remote_code, and needs none.
        auto = loader.__name__.startswith("Auto")
        options = local if auto else {"local_files_only": True}
        read = (transformers.AutoConfig if auto else loader.config_class).from_pretrained(model_dir, **options)
        attention: dict[str, Any] = {"attn_implementation": "eager"}
        try:
            model, info = loader.from_pretrained(
                model_dir, config=read, dtype=torch.float32, output_loading_info=True, **attention, **options
            )
        except ValueError as error:
            if "attn_implementation" not in str(error) and "attention implementation" not in str(error):
                raise
            model, info = loader.from_pretrained(model_dir, config=read, dtype=torch.float32, output_loading_info=True, **options)
    missing = [name for name in info["missing_keys"] if not name.endswith(_HARMLESS)]
    if task.removesuffix(tasks.WITH_PAST) == tasks.FEATURES and tasks.encoder_decoder(config):
        whole, model = model, model.get_encoder()
        used = {id(weight) for weight in (*model.parameters(), *model.buffers())}
        state = dict((*whole.named_parameters(), *whole.named_buffers()))
        missing = [name for name in missing if id(state.get(name)) in used]
    return model.eval(), missing


def check_weights(model_dir: Path) -> None:
    """Raise PassError unless there are weights that can be read without executing them."""
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
    """Copy everything of a Hugging Face directory except its weights (of any framework) and our notes."""
    indexes = ("*.safetensors.index.json", "*.bin.index.json", files.NOTES)
    weights = ("*.safetensors", "*.bin", "*.pt", "*.h5", "*.msgpack", "*.onnx", *indexes)

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {name for pattern in weights for name in fnmatch.filter(names, pattern)} if Path(folder) == model_dir else set()

    shutil.copytree(model_dir, out_dir, dirs_exist_ok=True, ignore=left_out)


def _max_length(model_dir: Path, described: Mapping[str, Any], positions: int | None) -> int | None:
    """The most tokens that the model takes: from sentence-transformers, else its tokenizer, else its config, never more than its
    `positions`."""
    positions_stated = described.get("max_position_embeddings") if positions is None else positions
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        value = read_object(model_dir / name).get(key) if (model_dir / name).is_file() else None
        if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < _NO_LIMIT:
            positions_stated = int(value)
            break
    if not isinstance(positions_stated, int) or isinstance(positions_stated, bool) or not 0 < positions_stated < _NO_LIMIT:
        return positions
    return positions_stated if positions is None else min(positions_stated, positions)


def _described(model: Any, task: str, model_dir: Path, pooling: Pooling | None, max_length: int | None) -> LoadedModel:
    """Names, axes and value limits of inputs: optimum's for a text model whose architecture it knows, else from `ports`."""
    processor = read_object(model_dir / PROCESSOR) if (model_dir / PROCESSOR).is_file() else {}
    specs_stated = files.specs_of(read_json(model_dir / INPUTS)) if (model_dir / INPUTS).is_file() else ()
    described = _onnx_config(model, task)
    parameter_names = {"input_ids", *ports.parameters(model)}
    input_names = set() if described is None else {name for name in described.inputs if not name.startswith("past_key_values.")}
    if "input_ids" not in input_names or "pixel_values" in input_names or not input_names <= parameter_names:
        described = None
    if described is None and task.endswith(tasks.WITH_PAST):
        raise PassError(
            f"how {type(model).__name__} keeps keys and values is not known here: use the task {task.removesuffix(tasks.WITH_PAST)}"
            ", which computes every token anew"
        )
    inputs = ports.inputs_of(model, task, processor) if described is None else ports.text_inputs(described)
    # A tokenizer gives no positions: they follow from its mask.
    others = tuple(spec for spec in inputs if spec.name != POSITIONS)
    counted = len(others) < len(inputs) and hf_tokenizer.has_texts(model_dir) and hf_tokenizer.from_tokens(others)
    counted = counted and POSITIONS not in {spec.name for spec in specs_stated}
    inputs = ports.overridden(model, others if counted else inputs, specs_stated)
    if counted or described is None or {spec.name for spec in inputs} != set(described.inputs):
        described = None
    if getattr(model.config, "pad_token_id", 0) is None and task == "text-classification" and hf_tokenizer.has_texts(model_dir):
        # Those that read a text's last token find it by this.
        model.config.pad_token_id = hf_tokenizer.pad_id(model_dir)
    return LoadedModel(
        model=model, task=task, inputs=inputs, invention=ports.invention(model, inputs, processor), outputs=(), pooling=pooling,
        max_length=max_length, counted=counted, described=described,
    )  # fmt: skip


def with_outputs(loaded: LoadedModel, missing: list[str], recorded: Recorded = lambda _: ()) -> LoadedModel:
    """The same model with its outputs, found by a run. PassError where they would depend on weights that are missing."""
    if loaded.pooling is not None:
        outputs: tuple[str, ...] = ("last_hidden_state",)
    else:
        result = _first_answer(loaded, recorded)
        outputs = ports.outputs_of(result, loaded.task, missing)
        if loaded.described is not None and set(loaded.described.outputs) <= set(result):
            outputs = tuple(loaded.described.outputs)
        elif loaded.past:
            outputs = tuple(name for name in result if name == "logits" or name.startswith("present"))
    pooled = any(name == "pooler_output" or "logits" in name for name in outputs)
    absent = [name for name in missing if pooled or "pooler" not in name]
    if absent:
        some = ", ".join(absent[:4]) + (f" and {len(absent) - 4} more" if len(absent) > 4 else "")
        raise PassError(
            f"the directory has no weights for {some}, which the task {loaded.task!r} needs: they would be random numbers. Is it "
            "the task that the model was trained for? Leave task out for the one that config.json names, or train the head first"
        )
    return replace(loaded, outputs=outputs)


def _first_answer(loaded: LoadedModel, recorded: Recorded) -> dict[str, Any]:
    """The model's answer to the first inputs that it accepts: generated ones, else the recipe's own."""
    try:
        return dict(ports.fitting(lambda feed: _flat(loaded, feed), replace(loaded.invention, turns=1))[1][0])
    except PassError:
        calls = recorded(loaded)
        if not calls:
            raise
        return _flat(loaded, calls[0])


def _onnx_config(model: Any, task: str) -> Any:
    import optimum.exporters.onnx.model_configs  # noqa: F401  registers the architectures
    from optimum.exporters.tasks import TasksManager

    kind = model.config.model_type
    try:
        supported = TasksManager.get_supported_tasks_for_model_type(kind, exporter="onnx", library_name="transformers")
    except KeyError:
        return None
    if task not in supported:
        return None
    make = TasksManager.get_exporter_config_constructor(exporter="onnx", model=model, task=task, library_name="transformers")
    past = {"use_past": True, "use_past_in_inputs": True} if task.endswith(tasks.WITH_PAST) else {}
    return make(model.config, **past)


def known_to_optimum(model: LoadedModel) -> bool:
    """Whether optimum has an export configuration for this architecture and task, and these inputs."""
    return model.described is not None


def export_with_optimum(model: LoadedModel, path: Path, opset: int) -> None:
    """Write one ONNX file by optimum's exporter."""
    from optimum.exporters.onnx import export

    export(model=model.model, config=model.described, output=path, opset=opset)


def positional(model: LoadedModel) -> torch.nn.Module:
    """The model in the form of torch's exporters: tensors in by position, a tuple of the named outputs back."""
    import torch

    class Wrapped(torch.nn.Module):  # type: ignore[misc]  # torch is not followed by the type checker
        def __init__(self) -> None:
            super().__init__()
            self.model = model.model

        def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            result = _call(model, dict(zip((spec.name for spec in model.inputs), values, strict=True)))
            return tuple(result[name] for name in model.outputs)

    return Wrapped().eval()


def _call(model: LoadedModel, values: dict[str, Any]) -> dict[str, Any]:
    """The model's outputs by name. Keys and values of earlier tokens become a cache, and the cache becomes tensors again."""
    parameter_names = ports.parameters(model.model)
    cached = {name: values.pop(name) for name in list(values) if name.startswith("past_key_values.")}
    if model.counted:
        values[POSITIONS] = (values["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    if model.past:
        import transformers

        layers = len({name.split(".")[1] for name in cached})
        pairs = [(cached[f"past_key_values.{i}.key"], cached[f"past_key_values.{i}.value"]) for i in range(layers)]
        values["past_key_values"] = transformers.DynamicCache.from_legacy_cache(pairs)
    if "use_cache" in parameter_names:
        values["use_cache"] = model.past
    if "return_dict" in parameter_names:
        values["return_dict"] = True
    result = dict(model.model(**values))
    if model.past and result.get("past_key_values") is not None:
        for i, pair in enumerate(result["past_key_values"]):
            result |= {f"present.{i}.key": pair[0], f"present.{i}.value": pair[1]}
    return result


def _flat(model: LoadedModel, feed: Feed) -> dict[str, Any]:
    """The eager model's own answer to a feed, as tensors. An exception of it is a PassError with its message."""
    import torch

    with torch.inference_mode():
        try:
            arrays = {name: array if array.flags.writeable else array.copy() for name, array in feed.items()}
            return _call(model, {name: torch.from_numpy(array) for name, array in arrays.items()})
        except torch_model.FOREIGN_ERRORS as error:
            if missing := extras.missing(error):
                raise missing from None
            shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in feed.items())
            if "padding token" in str(error):
                raise PassError(
                    f"{str(error)[:200]} The model reads the last token before the padding: say pad_token_id in config.json, or "
                    "put the tokenizer into its directory"
                ) from error
            raise PassError(
                f"the model itself fails on inputs of shapes {shapes}: {type(error).__name__}: {str(error)[:300]}; are the sizes "
                "in config.json (max_position_embeddings, vocab_size, image_size, ...) those of its weights? Shapes that are not "
                "right are said in the recipe: inputs: {name: {shape: [...]}}"
            ) from error


def eager(model: LoadedModel, feed: Feed) -> dict[str, Any]:
    """The eager model's outputs by name, pooled if the directory says so, as arrays."""
    import torch

    result = _flat(model, feed)
    with torch.inference_mode():
        if model.pooling is None:
            return {name: result[name].numpy() for name in model.outputs}
        hidden = result["last_hidden_state"]
        pooled = hidden[:, 0]
        if model.pooling.mode == "mean":
            mask = torch.from_numpy(feed["attention_mask"]).unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        if model.pooling.normalize:
            pooled = torch.nn.functional.normalize(pooled, dim=1)
        return {EMBEDDING: pooled.numpy()}


def pinned(model_dir: Path, model: LoadedModel, calls: Sequence[Feed] = ()) -> LoadedModel | None:
    """The same model with pictures of one size: the size of the recipe's calls or else its processor's. None where heights and
    widths are not free, or the calls have several."""
    processor = read_object(model_dir / PROCESSOR) if (model_dir / PROCESSOR).is_file() else {}
    fixed_sides = ports.sides_of(model.inputs, calls)
    if len(fixed_sides) > 1:
        return None
    sides = dict(zip(ports.SIDES, fixed_sides.pop() if fixed_sides else ports.pinned_sides(model.model, processor), strict=True))
    inputs = tuple(replace(spec, shape=tuple(sides.get(str(axis), axis) for axis in spec.shape)) for spec in model.inputs)
    if inputs == model.inputs:
        return None
    return replace(model, inputs=inputs, invention=replace(model.invention, inputs=inputs))


def write_labels(out_dir: Path, model: LoadedModel) -> None:
    """Write labels.json, the names of the classes by their numbers, if the task has classes."""
    labels = getattr(model.model.config, "id2label", None)
    if model.task.endswith(("-classification", "-segmentation", "-detection")) and isinstance(labels, dict) and labels:
        label_names = {str(number): str(name) for number, name in sorted(labels.items())}
        (out_dir / files.LABELS).write_bytes(canonical_json(label_names))


def write_tokenizer(model_dir: Path, out_dir: Path, model: LoadedModel) -> None:
    """Write tokenizer.json, unless the model reads more than tokens: a text could then not become its inputs."""
    if hf_tokenizer.from_tokens(model.inputs):
        hf_tokenizer.write(model_dir, out_dir, model.limits["input_ids"], model.max_length)
