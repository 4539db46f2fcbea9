"""Models that strangers brought, made anew with torch and transformers: each function writes a model and its data into a folder.

Small and deterministic; weights are random where a case does not need trained ones. See `foreign_graphs` for those without a
framework.
"""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

BERT = {
    "vocab_size": 256, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "max_position_embeddings": 64,
}  # fmt: skip
CLASSES = 6
"""Of the detector: a colour each."""


def seeded() -> np.random.Generator:
    """One thread and the same numbers every time."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return np.random.default_rng(0)


def exported(net: nn.Module, examples: tuple[Any, ...], path: Path, axes: dict[str, dict[int, str]], inputs: int) -> None:
    """ONNX as most of the world's exporters wrote it: TorchScript's, opset 17."""
    named = list(axes)
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            net.eval(), examples, path, input_names=named[:inputs], output_names=named[inputs:], dynamic_axes=axes,
            opset_version=17, dynamo=False,
        )  # fmt: skip


class Detector(nn.Module):
    """Backbone and one scale: `[batch, anchors, 4 box pixels + objectness + classes]`, or its transpose as newer ones give it."""

    def __init__(self, *, transposed: bool = False) -> None:
        super().__init__()

        def block(takes: int, gives: int, stride: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(takes, gives, 3, stride, 1, bias=False), nn.BatchNorm2d(gives), nn.SiLU())

        self.body = nn.Sequential(block(3, 32, 2), block(32, 64, 2), block(64, 64, 2), block(64, 64, 1))
        self.box, self.kind = nn.Conv2d(64, 16, 1), nn.Conv2d(64, 1 + CLASSES + 25, 1)
        ticks = torch.arange(8.0)
        self.register_buffer("grid", torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), 0)[None])
        self.transposed = transposed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Boxes in pixels beside scores between 0 and 1: what one 8-bit scale for both destroys."""
        hidden = self.body(x)
        box, kind = self.box(hidden)[:, :4].sigmoid(), self.kind(hidden)[:, : 1 + CLASSES].sigmoid()
        centre = (box[:, :2] * 2 - 0.5 + self.grid) * 80.0
        whole = torch.cat([centre, (box[:, 2:] * 2) ** 2 * 120.0, kind], 1).flatten(2)
        return whole if self.transposed else whole.transpose(1, 2)


def squares(random: np.random.Generator, count: int) -> tuple[Any, Any]:
    """Pictures with one bright square, whose colour is its class; and where it is."""
    x, where = random.normal(0, 0.1, (count, 3, 64, 64)).astype("f4"), np.zeros((count, 8, 8), int) - 1
    colours = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]])
    for number in range(count):
        kind, (row, column) = random.integers(CLASSES), random.integers(1, 7, 2)
        x[number, :, row * 8 - 4 : row * 8 + 12, column * 8 - 4 : column * 8 + 12] += colours[kind][:, None, None] * 1.5
        where[number, row, column] = kind
    return x, where


def detectors(folder: Path) -> None:
    """A trained detector in both layouts, `rows.onnx` and `columns.onnx`: one square found in every picture."""
    random, net = seeded(), Detector()
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(110):
        pictures, where = squares(random, 24)
        found, wanted = net(torch.tensor(pictures)), torch.tensor(where)
        there, score = wanted >= 0, found[..., 4].view(-1, 8, 8)
        loss = nn.functional.binary_cross_entropy(score, there.float(), weight=1 + 10 * there.float())
        hot = nn.functional.one_hot(wanted[there], CLASSES).float()
        loss = loss + nn.functional.binary_cross_entropy(found[..., 5:].view(-1, 8, 8, CLASSES)[there], hot)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    axes = {"images": {0: "batch"}, "output0": {0: "batch"}}
    exported(net, (torch.zeros(2, 3, 64, 64),), folder / "rows.onnx", axes, 1)
    net.transposed = True
    exported(net, (torch.zeros(2, 3, 64, 64),), folder / "columns.onnx", axes, 1)
    np.savez(folder / "eval.npz", images=squares(random, 200)[0])
    np.savez(folder / "calib.npz", images=squares(random, 100)[0])


SPEECH = '''import torch
from torch import nn


class Net(nn.Module):
    """Strided convolutions over raw sound, as wav2vec has them: 400 samples at the least."""

    def __init__(self):
        super().__init__()
        layers = [nn.Conv1d(1, 64, 10, 5)]
        for kernel in (3, 3, 3, 3, 2, 2):
            layers += [nn.GELU(), nn.Conv1d(64, 64, kernel, 2)]
        self.f, self.o = nn.Sequential(*layers), nn.Linear(64, 32)

    def forward(self, x):
        return self.o(self.f(x[:, None]).transpose(1, 2))


def build():
    torch.manual_seed(0)
    return Net()
'''


def speech(folder: Path) -> None:
    """The raw-waveform model of `SPEECH` as ONNX and as a module."""
    random = seeded()
    (folder / "build_torch.py").write_text(SPEECH)
    space: dict[str, Any] = {}
    exec(compile(SPEECH, "build_torch.py", "exec"), space)  # noqa: S102 - our own text, two lines above
    axes = {"input_values": {0: "batch", 1: "samples"}, "logits": {0: "batch", 1: "frames"}}
    exported(space["build"](), (torch.randn(2, 16000),), folder / "model.onnx", axes, 1)
    np.savez(folder / "eval.npz", input_values=random.normal(size=(24, 8000)).astype("f4"))
    np.savez(folder / "calib.npz", input_values=random.normal(size=(12, 8000)).astype("f4"))


class CachedDecoder(nn.Module):
    """One decoder layer with a cache: the mask is as long as past and present together."""

    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Embedding(100, 64)
        self.q, self.k, self.v, self.o = (nn.Linear(64, 64) for _ in range(4))
        self.n, self.h = nn.LayerNorm(64), nn.Linear(64, 100)

    def forward(self, ids: Any, mask: Any, past_key: Any, past_value: Any) -> Any:
        """Logits, and the longer cache."""
        x = self.e(ids)
        batch, length, _ = x.shape

        def heads(y: Any) -> Any:
            return y.view(batch, length, 4, 16).transpose(1, 2)

        key, value = torch.cat([past_key, heads(self.k(x))], 2), torch.cat([past_value, heads(self.v(x))], 2)
        weights = heads(self.q(x)) @ key.transpose(2, 3) / math.sqrt(16) + (1 - mask[:, None, None, :].float()) * -1e9
        mixed = (weights.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, 64)
        return self.h(self.n(x + self.o(mixed))), key, value


def kv_decoder(folder: Path) -> None:
    """A decoding step as text-generation exports have it."""
    random = seeded()
    past = {0: "batch", 2: "past_sequence"}
    axes = {
        "input_ids": {0: "batch", 1: "sequence"}, "attention_mask": {0: "batch", 1: "past_sequence + sequence"},
        "past_key": past, "past_value": past, "logits": {0: "batch", 1: "sequence"},
        "present_key": {0: "batch", 2: "total"}, "present_value": {0: "batch", 2: "total"},
    }  # fmt: skip
    cache = torch.randn(2, 4, 5, 16)
    whole = (torch.ones(2, 3, dtype=torch.long), torch.ones(2, 8, dtype=torch.long), cache, cache)
    exported(CachedDecoder(), whole, folder / "model.onnx", axes, 4)
    arrays = {"input_ids": random.integers(0, 100, (30, 1, 1)), "attention_mask": np.ones((30, 1, 8), "i8")}
    arrays |= {name: random.normal(size=(30, 1, 4, 7, 16)).astype("f4") for name in ("past_key", "past_value")}
    np.savez(folder / "eval.npz", **arrays)


def calibrations(folder: Path) -> None:
    """A trained classifier and calibration sets: good ones, one of which has a dead pixel of 5000, one sample, zeros, a NaN."""
    random = seeded()
    kinds = random.normal(size=(8, 1, 16, 16))

    def drawn(count: int) -> tuple[Any, Any]:
        y = random.integers(0, 8, count)
        noise = random.normal(0, 2.0, (count, 1, 16, 16))
        return (kinds[y] * random.uniform(0.5, 1.5, (count, 1, 1, 1)) + noise).astype("f4"), y

    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 8),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(150):
        x, y = drawn(48)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(torch.tensor(x)), torch.tensor(y)).backward()
        optimizer.step()
    exported(net, (torch.zeros(2, 1, 16, 16),), folder / "model.onnx", {"x": {0: "n"}, "y": {0: "n"}}, 1)
    x, y = drawn(500)
    good, _ = drawn(60)
    broken, damaged = good.copy(), good.copy()
    broken[7, 0, 3, 3], damaged[5, 0, 0, 0] = 5000, np.nan
    np.savez(folder / "eval.npz", x=x, labels=y)
    for name, made in {"good": good, "one": good[:1] * 0.05, "outlier": broken, "zeros": good * 0, "nan": damaged}.items():
        np.savez(folder / f"{name}.npz", x=made)


def binary(folder: Path) -> None:
    """A classifier with one sigmoid column and few positives."""
    random = seeded()
    x = random.normal(size=(4000, 20)).astype("f4")
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 3.0).astype("i8")
    net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy(net(torch.tensor(x[:3000]))[:, 0], torch.tensor(y[:3000]).float()).backward()
        optimizer.step()
    exported(net, (torch.zeros(2, 20),), folder / "model.onnx", {"x": {0: "n"}, "p": {0: "n"}}, 1)
    np.savez(folder / "eval.npz", x=x[3000:], labels=y[3000:])


class Heads(nn.Module):
    """A regression beside a classification, the classification second."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.size, self.kind = nn.Sequential(nn.Linear(16, 64), nn.ReLU()), nn.Linear(64, 3), nn.Linear(64, 4)

    def forward(self, x: Any) -> Any:
        """Both."""
        hidden = self.body(x)
        return self.size(hidden), self.kind(hidden)


def two_heads(folder: Path) -> None:
    """`Heads`, labelled with the second head's own classes."""
    random, net = seeded(), Heads().eval()
    axes = {"x": {0: "n"}, "size": {0: "n"}, "kind": {0: "n"}}
    exported(net, (torch.zeros(2, 16),), folder / "model.onnx", axes, 1)
    x = random.normal(size=(80, 16)).astype("f4")
    np.savez(folder / "eval.npz", x=x, labels=net(torch.tensor(x))[1].argmax(1).numpy())


ATTENTION = '''import torch
from torch import nn


class Seer(nn.Module):
    """A small vision transformer: one convolution cuts the picture into patches, the rest are products of matrices."""

    def __init__(self):
        super().__init__()
        self.p, self.e = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)
        self.t, self.o = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(64, 10)

    def forward(self, x):
        return self.o(self.t(self.e(self.p(x).flatten(2).transpose(1, 2))).mean(1))


def attention():
    torch.manual_seed(0)
    return Seer()
'''


def seer(folder: Path) -> None:
    """The module of `ATTENTION`."""
    random = seeded()
    (folder / "nets.py").write_text(ATTENTION)
    np.savez(folder / "eval.npz", image=random.normal(size=(60, 3, 32, 32)).astype("f4"))
    np.savez(folder / "calib.npz", image=random.normal(size=(20, 3, 32, 32)).astype("f4"))


def tokenizer(folder: Path) -> None:
    """Words and letters, [CLS] and [SEP] around and between."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(200)), *"abcdefghij"]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(known)}, unk_token="[UNK]"))
    made.pre_tokenizer, made.normalizer = pre_tokenizers.Whitespace(), normalizers.Lowercase()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **special).save_pretrained(folder)


def sentence(number: int, length: int, step: int = 1) -> str:
    """Some words, the same every time."""
    return " ".join(f"w{(number * 7 + place * step) % 200}" for place in range(length))


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """JSON, one a line."""
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
