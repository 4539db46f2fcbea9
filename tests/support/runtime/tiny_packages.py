"""Tiny real models and real packages of them: what the build would write, made in a second."""

from __future__ import annotations

import functools
import importlib.util
import json
import py_compile
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.engine_library import engine_library

import mlpack_runtime

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCES = Path(mlpack_runtime.__file__).parent


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any] | None = None) -> Path:
    """An ONNX file from helper-made nodes and ports."""
    from onnx import helper, numpy_helper, save_model

    initializers = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save_model(model, str(path))
    return path


def affine(path: Path) -> Path:
    """scores[batch, 3] = pixels[batch, 4] @ W + b, and count = the sum of a second, int64 input."""
    import numpy as np
    from onnx import TensorProto, helper

    random = np.random.default_rng(7)
    weights = {"w": random.normal(size=(4, 3)).astype(np.float32), "b": random.normal(size=3).astype(np.float32)}
    nodes = [
        helper.make_node("Gemm", ["pixels", "w", "b"], ["scores"]),
        helper.make_node("ReduceSum", ["marks"], ["count"], keepdims=0),
    ]
    inputs = [
        helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 4]),
        helper.make_tensor_value_info("marks", TensorProto.INT64, ["batch"]),
    ]
    outputs = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3]),
        helper.make_tensor_value_info("count", TensorProto.INT64, []),
    ]
    return save(path, nodes, inputs, outputs, weights)


def words(path: Path) -> Path:
    """embedding[batch, 5] = sum over the sequence of E[input_ids] * attention_mask."""
    import numpy as np
    from onnx import TensorProto, helper

    table = np.arange(60, dtype=np.float32).reshape(12, 5) / 7
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["embedding"], keepdims=0),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 5])]
    weights = {"table": table, "last": np.array([-1]), "middle": np.array([1])}
    return save(path, nodes, inputs, outputs, weights)


def tags(path: Path) -> Path:
    """logits[batch, sequence, 3], start_logits and end_logits[batch, sequence]: numbers of each token alone."""
    import numpy as np
    from onnx import TensorProto, helper

    random = np.random.default_rng(3)
    columns = {"logits": (12, 3), "start_logits": (12,), "end_logits": (12,)}
    weights = {f"table_{name}": random.normal(scale=2.0, size=shape).astype(np.float32) for name, shape in columns.items()}
    nodes = [helper.make_node("Gather", [f"table_{name}", "input_ids"], [name]) for name in columns]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "sequence", *shape[1:]]) for name, shape in columns.items()
    ]
    return save(
        path, nodes, [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])], outputs, weights
    )


def wide(path: Path) -> Path:
    """zeros[n] of a size that the caller chooses."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["zeros"], value=helper.make_tensor("v", TensorProto.DOUBLE, [1], [0.1]))
    ]
    given = helper.make_tensor_value_info("size", TensorProto.INT64, [1])
    return save(path, nodes, [given], [helper.make_tensor_value_info("zeros", TensorProto.DOUBLE, ["n"])])


def word_tokenizer(path: Path) -> Path:
    """A WordPiece tokenizer.json of twelve words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "dog", "sat", "##s", "on", "the", "mat"]
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.add_special_tokens(known[:4])
    tokenizer.save(str(path))
    return path


@functools.cache
def _bytecode() -> dict[Path, bytes]:
    """The runtime's bytecode by its path there, compiled once: that takes a third of a second, and many tests want a package."""
    made = {}
    with tempfile.TemporaryDirectory() as work:
        for source in SOURCES.rglob("*.py"):
            compiled = Path(work) / "compiled.pyc"
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(str(source), cfile=str(compiled), doraise=True, invalidation_mode=mode)
            made[Path(importlib.util.cache_from_source(str(source))).relative_to(SOURCES)] = compiled.read_bytes()
    return made


def package(root: Path, graph: Callable[[Path], Path], **settings: Any) -> Path:
    """A whole package on disk, as the build writes it: runtime with bytecode, engine, model, and `app` for hooks."""
    runtime = root / "mlpack_runtime"
    shutil.copytree(SOURCES, runtime, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(runtime / "bootstrap.py", root / "bootstrap.py")
    for path, bytecode in _bytecode().items():
        (runtime / path).parent.mkdir(exist_ok=True)
        (runtime / path).write_bytes(bytecode)
    for folder in ("lib", "model", "app", "site/tokenizers"):
        (root / folder).mkdir(parents=True)
    (root / "lib/libonnxruntime.so").symlink_to(engine_library())
    graph(root / "model/model.onnx")
    described = {
        "schema": 1,
        "name": "tiny",
        "version": "3",
        "variant": "fp32",
        "target": "lambda-zip",
        "graph": "model.onnx",
        "graph_optimization_level": 1,
        "memory_mb": 1769,
        "session": {},
        "tokenizer": None,
        "preprocess": None,
        "postprocess": None,
    }
    if settings.get("tokenizer"):
        import tokenizers

        word_tokenizer(root / "model/tokenizer.json")
        library = Path(tokenizers.__file__).parent / "tokenizers.abi3.so"
        (root / "site/tokenizers/tokenizers.abi3.so").symlink_to(library)
    (root / "model/model.json").write_text(json.dumps({**described, **settings}))
    return root


def wide_identity(path: Path) -> Path:
    """y[n] = x[n]."""
    from onnx import TensorProto, helper

    given, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y"))
    return save(path, [helper.make_node("Identity", ["x"], ["y"])], [given], [result])
