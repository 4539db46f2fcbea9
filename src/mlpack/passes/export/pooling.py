"""Appends what sentence-transformers puts after a model: the pooling of tokens and the scaling to unit length in modules.json.

Promises:
- The graph's only output is then `sentence_embedding` `[batch, dim]`, pooled and normalised as the directory says.
- A module that cannot be appended is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlpack.core.files import bounded
from mlpack.errors import PassError

if TYPE_CHECKING:
    import onnx

EMBEDDING = "sentence_embedding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How sentence-transformers makes one vector of many: `mean` over unmasked tokens or the `cls` token; then unit length.
    `left`: texts are padded on the left, so that the first token of a shorter one is not at place 0."""

    mode: str
    normalize: bool
    left: bool = False


def read_json(path: Path) -> Any:
    """A JSON file of the directory. Raises PassError when it is damaged, missing, too large or nested too deeply."""
    try:
        return bounded.load_json(path)
    except (OSError, ValueError) as error:
        raise PassError(f"{path.name}: missing or damaged ({error}); copy the whole Hugging Face directory again") from error


def read_object(path: Path) -> dict[str, Any]:
    """The same where it must be an object."""
    document = read_json(path)
    if not isinstance(document, dict):
        raise PassError(
            f"{path.name}: holds no object but a {type(document).__name__}; copy the whole Hugging Face directory again"
        )
    return document


def read_pooling(model_dir: Path) -> Pooling | None:
    """The pooling of a sentence-transformers directory; None for any other. Raises PassError for a module that cannot be
    appended."""
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


def append_pooling(exported: onnx.ModelProto, pooling: Pooling) -> None:
    """Make `sentence_embedding` the graph's only output, computed from `last_hidden_state` and the mask."""
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
    elif pooling.left:
        nodes = [
            helper.make_node("Cast", ["attention_mask"], ["pool_mask"], to=TensorProto.FLOAT),
            helper.make_node("ArgMax", ["pool_mask"], ["pool_begin"], axis=1, keepdims=1),  # the first of several that are 1
            helper.make_node("GatherND", [hidden, "pool_begin"], [pooled], batch_dims=1),
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
