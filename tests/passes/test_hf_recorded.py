"""The export of a Hugging Face directory on the recipe's own calls: what inputs are made of them, and models that nothing invented
fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpack.core.records import TensorSpec
from mlpack.errors import PassError
from mlpack.evaluation.data.calls import CallsWriter
from mlpack.passes import export
from mlpack.passes.export import described
from mlpack.passes.export.ports import doubled, sides_of

WIDE: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
VOICE: dict[str, Any] = {**WIDE, "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
                         "tdnn_dim": (8,) * 5, "xvector_output_dim": 8, "initializer_range": 0.5}  # fmt: skip
"""Its time-delay layers look at 15 frames, which is more than invented sounds have."""


def spec(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=shape)


def test_free_sides_of_pictures_are_those_of_the_calls() -> None:
    calls = [{"p": np.zeros((1, 3, *sides), np.float32), "m": np.zeros((1, 9), np.float32)} for sides in ((4, 6), (4, 6), (8, 6))]
    free, fixed, rows = spec("p", "batch", 3, "height", "width"), spec("p", "batch", 3, 4, "width"), spec("m", "batch", 9)
    assert sides_of([free, rows], calls[:2]) == {(4, 6)}
    assert sides_of([free, rows], calls) == {(4, 6), (8, 6)}
    assert sides_of([fixed, rows], calls) == sides_of([free], []) == set()


def test_calls_are_doubled_where_every_input_has_an_open_batch() -> None:
    call = {"a": np.arange(6, dtype=np.float32).reshape(1, 6), "b": np.ones((1,), np.float32)}
    (twice,) = doubled([call], [spec("a", "batch", "n"), spec("b", "batch")])
    assert np.array_equal(twice["a"], np.stack([call["a"][0]] * 2))
    assert twice["b"].shape == (2,)
    assert doubled([call], [spec("a", "batch", "n"), spec("b", 1)]) == []
    assert doubled([call], [spec("a", "batch", "n"), spec("b")]) == []


def voice(folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    transformers.Wav2Vec2ForXVector(transformers.Wav2Vec2Config(**VOICE)).save_pretrained(folder)
    return folder


def recorded(folder: Path, *lengths: int) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    with CallsWriter(folder) as writer:
        for length in lengths:
            writer.tensors({"input_values": random.standard_normal((1, length)).astype(np.float32)}, 1)
        writer.finish(None)
    return folder


@pytest.mark.slow
def test_model_that_nothing_invented_fits_uses_its_own_calls(tmp_path: Path) -> None:
    model = voice(tmp_path / "model")
    for name in ("described", "refused", "short", "out"):
        (tmp_path / name).mkdir()
    described.describe(model, None, tmp_path / "described")
    said = json.loads((tmp_path / "described" / "signature.json").read_bytes())
    assert [each["shape"] for each in said["inputs"]] == [["batch", "samples"]]
    with pytest.raises(PassError, match=r"the model itself fails on inputs of shapes input_values \(1, "):
        export.run(model, export.Export(), tmp_path / "refused")
    with pytest.raises(PassError, match="the model itself fails on inputs of shapes"):
        export.run(model, export.Export(examples=recorded(tmp_path / "few", 3000)), tmp_path / "short")
    export.run(model, export.Export(examples=recorded(tmp_path / "calls", 8000, 12000)), tmp_path / "out")
    notes = json.loads((tmp_path / "out" / "notes.json").read_bytes())
    assert notes["compared_on"] == {"recorded": 2, "invented": 2}
    signature = json.loads((tmp_path / "out" / "signature.json").read_bytes())
    assert [each["shape"] for each in signature["inputs"]] == [["batch", "samples"]]
    # Lengths and batches that it was not shown.
    from mlpack.graphs import check
    from mlpack.passes.export import huggingface

    feed = {"input_values": np.random.default_rng(1).standard_normal((3, 9000)).astype(np.float32)}
    eager = huggingface.load(model, None, lambda _model: [feed])
    got = check.run(check.session(tmp_path / "out"), feed)
    assert check.difference(got, list(huggingface.eager(eager, feed).values())) < 1e-4


@pytest.mark.slow
def test_graph_that_is_wrong_on_recipes_calls_alone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short call agrees; eager answers otherwise from 11,000 samples on, as code that branches on a length does."""
    from mlpack.passes.export import huggingface

    model, honest = voice(tmp_path / "model"), huggingface.eager

    def branching(loaded: huggingface.LoadedModel, feed: dict[str, Any]) -> dict[str, Any]:
        wrong = 1.0 if feed["input_values"].shape[1] > 11000 else 0.0
        return {name: value + wrong for name, value in honest(loaded, feed).items()}

    monkeypatch.setattr(huggingface, "eager", branching)
    (tmp_path / "out").mkdir()
    calls = recorded(tmp_path / "calls", 8000, 12000)
    with pytest.raises(PassError, match="differs from the eager model by"):
        export.run(model, export.Export(examples=calls, exporter="dynamo"), tmp_path / "out")
