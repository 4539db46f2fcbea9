"""Small real models in the three formats, made when a test asks: a residual CNN, a BERT with a tokenizer, an ONNX classifier, and
an ONNX network that makes a picture smaller and larger again."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

CNN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32))
        self.second = nn.Sequential(nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.classify = nn.Linear(64, 10)

    def forward(self, image):
        x = self.stem(image)
        x = self.second(torch.relu(x + self.first(x)))
        return self.classify(x.mean(dim=(2, 3)))

def build():
    return Net()

def broken():
    raise ZeroDivisionError("no classes")
"""

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "and", "then")


def torch_dir(folder: Path, factory: str = "net:build", weights: bool = True) -> Path:
    """The CNN as a torch directory, its BatchNorm statistics away from their defaults."""
    import torch
    from safetensors.torch import save_file

    (folder / "code").mkdir(parents=True)
    (folder / "code" / "net.py").write_text(CNN)
    described = {"factory": factory, "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 16, 16]}]}
    (folder / "torch.json").write_text(json.dumps(described))
    if weights:
        torch.manual_seed(7)
        net = _imported(folder / "code" / "net.py").build().train()
        with torch.no_grad():
            for _ in range(3):
                net(torch.rand(8, 3, 16, 16))
        save_file({name: t.contiguous() for name, t in net.state_dict().items()}, folder / "weights.safetensors")
    return folder


def huggingface_dir(folder: Path, *, sentence: bool = True) -> Path:
    """A two-layer BERT with random weights, its tokenizer, and mean pooling when `sentence`."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=32, pad_id=0, pad_token="[PAD]")
    tokenizer.save(str(folder / "tokenizer.json"))
    if sentence:
        kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
        modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        pooling = {"word_embedding_dimension": 64, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24}')
    return folder


def onnx_dir(folder: Path, width: int = 64) -> Path:
    """A two-layer classifier with weights outside the graph."""
    from onnx import TensorProto, helper, numpy_helper

    from mlpack.graphs import files

    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    weights = {
        "w1": random.standard_normal((width, 128)).astype(np.float32) / 8,
        "b1": random.standard_normal(128).astype(np.float32),
        "w2": random.standard_normal((128, 16)).astype(np.float32) / 8,
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "w2"], ["y"], name="second"),
    ]
    made = helper.make_graph(
        nodes, "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    files.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder)
    files.finish(folder, folder, {})
    return folder


def deconvolution_dir(folder: Path, channels: int = 32) -> Path:
    """A convolution of stride 2, ReLU, a transposed convolution back to the size of the input, in ONNX."""
    from onnx import TensorProto, helper, numpy_helper

    from mlpack.graphs import files

    folder.mkdir(parents=True)
    random = np.random.default_rng(2)
    weights = {
        "w1": random.standard_normal((channels, 3, 3, 3)).astype(np.float32) / 5,
        "b1": random.standard_normal(channels).astype(np.float32),
        "w2": random.standard_normal((channels, 16, 2, 2)).astype(np.float32) / 8,
        "b2": random.standard_normal(16).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["h"], name="down", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("ConvTranspose", ["r", "w2", "b2"], ["y"], name="up", strides=[2, 2]),
    ]
    made = helper.make_graph(
        nodes, "down and up",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16, 16, 16])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    files.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder)
    files.finish(folder, folder, {})
    return folder


def texts_dir(folder: Path) -> Path:
    """Recorded calls of texts that the BERT's tokenizer knows."""
    folder.mkdir(parents=True)
    texts = (["the cat sat on the mat", "a dog ran"], ["the dog and the cat sat under a tree then ran"], ["a mat", "the tree"])
    (folder / "calls.json").write_text(json.dumps([{"samples": len(call), "texts": call} for call in texts]))
    return folder


def calls_dir(folder: Path, inputs: dict[str, tuple[int, ...]], count: int = 6) -> Path:
    """Recorded calls with random float inputs of these shapes."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(5)
    index, data = [], b""
    for _ in range(count):
        stored = {}
        for name, shape in inputs.items():
            array = random.standard_normal(shape).astype("<f4").tobytes()
            stored[name] = {"datatype": "FP32", "shape": list(shape), "offset": len(data), "size": len(array)}
            data += array
        index.append({"samples": next(iter(inputs.values()))[0], "inputs": stored})
    (folder / "calls.bin").write_bytes(data)
    (folder / "calls.json").write_text(json.dumps(index))
    return folder


def _imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("net_of_the_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    exec_module = spec.loader.exec_module
    wrote, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        exec_module(module)
    finally:
        sys.dont_write_bytecode = wrote
    return module
