"""Calls of text and image models for the tests of batching; numbers small enough to be exact in float32."""

from __future__ import annotations

from mlpack_runtime.serving.batching import Layout, Unit
from mlpack_runtime.tensor import Tensor, tensor

PADS = {"input_ids": 9, "attention_mask": 0}
TEXT = Layout(batched=True, pads=PADS, lengths={"tokens": 1})
LEFT = Layout(batched=True, pads=PADS, lengths={"tokens": 1}, pad_left=True)
IMAGE = Layout(batched=True)


def text(layout: Layout, rows: int, length: int, first: int = 0) -> Unit:
    """`rows` texts of one length, whose ids count on from `first`."""
    ids = tensor([first + at for at in range(rows * length)], "INT64", (rows, length))
    return Unit(layout, {"input_ids": ids, "attention_mask": tensor([1] * (rows * length), "INT64", (rows, length))})


def model(feeds: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a text model does, exactly: each token's id where its mask is 1, and the sum of those for each text."""
    ids, mask = feeds["input_ids"].tolist(), feeds["attention_mask"].tolist()
    tokens = [[a * b for a, b in zip(one, other, strict=True)] for one, other in zip(ids, mask, strict=True)]
    shape = feeds["input_ids"].shape
    return {
        "tokens": tensor([value for row in tokens for value in row], "INT64", shape),
        "pooled": tensor([sum(row) for row in tokens], "INT64", (shape[0],)),
    }
