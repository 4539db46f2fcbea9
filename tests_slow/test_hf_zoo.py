"""Every Hugging Face model of the zoo is exported, and the engine answers as eager does. A few of them in `make slow`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.support.models import hf_zoo

from mlpack.graphs import check, files
from mlpack.passes import export
from mlpack.passes.export import huggingface, ports

# DeBERTa's own module compiles functions with torch.jit when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
NAMES = tuple(hf_zoo.makers()) if os.environ.get("MLPACK_SOAK") == "1" else hf_zoo.FEW


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_answers_as_eager_does(name: str, tmp_path: Path) -> None:
    source, out, task = hf_zoo.save(name, tmp_path / "hf"), tmp_path / "out", hf_zoo.TASKS.get(name)
    out.mkdir()
    export.run(source, export.Export(task=task), out)
    notes = json.loads((out / files.NOTES).read_text())
    assert notes["difference"] <= export.TOLERANCE
    model = huggingface.load(source, task)
    feeds, wanted = ports.fitting(lambda feed: huggingface.eager(model, feed), model.invention)
    opened = check.session(out, "ORT_DISABLE_ALL")
    assert {tuple(row.name for row in opened.get_outputs())} == {tuple(answer) for answer in wanted}
    for feed, answer in zip(feeds, wanted, strict=True):
        assert check.difference(check.run(opened, feed), list(answer.values())) <= export.TOLERANCE


def test_the_zoo_has_the_architectures_that_it_promises() -> None:
    kinds = {type(make()).__name__ for make in hf_zoo.makers().values()}
    assert len(kinds) >= 25
