"""Models of the zoo that are made on the spot instead of fetched: Hugging Face architectures with random weights, as directories
that `save_pretrained` leaves, with arrays that they take as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sample_models.npz import write_npz
from sample_models.zoo import Member
from tests_slow import hf_zoo

Calls = Sequence[Mapping[str, Any]]


def members() -> tuple[Member, ...]:
    """One of each architecture."""
    return tuple(
        Member(name=f"hf-{name}", place=partial(_place, name), kind="random", answers=partial(_answers, name))
        for name in hf_zoo.models()
    )


def _loaded(name: str, folder: Path) -> Any:
    from mlpack.passes.export import huggingface

    return huggingface.load(folder, hf_zoo.TASKS.get(name))


def _place(name: str, folder: Path, _cache: Path) -> Path:
    """The directory, and a few samples of what eager torch takes."""
    from mlpack.passes.export import huggingface, ports

    source = hf_zoo.save(name, folder / "model")
    model = _loaded(name, source)
    feeds, _ = ports.fitting(lambda feed: huggingface.eager(model, feed), model.invention)
    largest = max(feeds, key=lambda feed: max(len(array) for array in feed.values()))
    write_npz(folder / "eval.npz", dict(largest))
    return source


def _answers(name: str, model: Path, calls: Calls) -> Calls:
    """What eager torch says."""
    from mlpack.passes.export import huggingface

    loaded = _loaded(name, model)
    return [
        {key: np.asarray(value) for key, value in huggingface.eager(loaded, {k: np.array(v) for k, v in call.items()}).items()}
        for call in calls
    ]
