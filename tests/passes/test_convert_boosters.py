"""XGBoost's and LightGBM's objectives and forms, with missing values: convert gives their own answers on every row, or refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from estimators import evaluation_dir, signed

from mlpack.errors import PassError
from mlpack.passes import convert
from mlpack.passes.convert import Convert

pytestmark = pytest.mark.slow

XGBOOST: dict[str, tuple[str, dict[str, Any]]] = {
    "binary": ("cancer", {"objective": "binary:logistic"}),
    "base": ("cancer", {"objective": "binary:logistic", "base_score": 0.3}),
    "softmax": ("wine", {"objective": "multi:softmax", "num_class": 3}),
    "softprob": ("wine", {"objective": "multi:softprob", "num_class": 3}),
    "logitraw": ("cancer", {"objective": "binary:logitraw"}),
    "hinge": ("cancer", {"objective": "binary:hinge"}),
    "share": ("cancer", {"objective": "reg:logistic"}),
    "poisson": ("diabetes", {"objective": "count:poisson"}),
    "gamma": ("diabetes", {"objective": "reg:gamma"}),
    "absolute": ("diabetes", {"objective": "reg:absoluteerror"}),
    "squared": ("diabetes", {"max_depth": 10}),
    "forest": ("cancer", {"objective": "binary:logistic", "num_parallel_tree": 4, "subsample": 0.7}),
}
LIGHTGBM: dict[str, tuple[str, dict[str, Any]]] = {
    "binary": ("cancer", {"objective": "binary"}),
    "slope": ("cancer", {"objective": "binary", "sigmoid": 2.0}),
    "forest": ("cancer", {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}),
    "classes": ("wine", {"objective": "multiclass", "num_class": 3}),
    "squared": ("diabetes", {"num_leaves": 100, "min_data_in_leaf": 2}),
    "root": ("diabetes", {"reg_sqrt": True}),
    "poisson": ("diabetes", {"objective": "poisson"}),
    "quantile": ("diabetes", {"objective": "quantile", "alpha": 0.3}),
    "entropy": ("cancer", {"objective": "cross_entropy"}),
    "dart": ("diabetes", {"boosting": "dart"}),
    "whole": ("cancer", {"objective": "binary", "use_missing": False}),
}
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("diabetes", {"linear_tree": True}),
    "zero": ("cancer", {"objective": "binary", "zero_as_missing": True}),
}


def table(name: str) -> tuple[Any, Any]:
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

    x, y = {"cancer": load_breast_cancer, "wine": load_wine, "diabetes": load_diabetes}[name](return_X_y=True)
    x = x.astype(np.float32)
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    return x, y


def notes_of(folder: Path, x: Any) -> dict[str, Any]:
    source = signed(folder / "source", {"X": x})
    (folder / "out").mkdir()
    convert.run(source, Convert(evaluation=evaluation_dir(folder / "data", {"X": x}, 300)), folder / "out")
    return dict(json.loads((folder / "out/notes.json").read_bytes()))


@pytest.mark.parametrize("rounds", [1, 12])
@pytest.mark.parametrize("name", XGBOOST)
def test_xgboost(name: str, rounds: int, tmp_path: Path) -> None:
    import xgboost

    data, said = XGBOOST[name]
    x, y = table(data)
    made = xgboost.train({"nthread": 1, "verbosity": 0, **said}, xgboost.DMatrix(x, y), rounds)
    (tmp_path / "source").mkdir()
    made.save_model(tmp_path / "source" / ("model.ubj" if rounds == 1 else "model.json"))
    notes = notes_of(tmp_path, x)
    assert (notes["rows_compared"], notes.get("left_out")) == (len(x), None)
    assert notes["difference"] < 1e-5


def lightgbm_source(folder: Path, said: dict[str, Any], x: Any, y: Any, rounds: int) -> None:
    import lightgbm

    data = lightgbm.Dataset(x, y, params={"verbosity": -1, **{k: said[k] for k in said if k.startswith(("zero", "use", "linear"))}})
    (folder / "source").mkdir()
    made = lightgbm.train({"verbosity": -1, "num_threads": 1, **said}, data, rounds)
    made.save_model(folder / "source/model.txt")


@pytest.mark.parametrize("rounds", [1, 12])
@pytest.mark.parametrize("name", LIGHTGBM)
def test_lightgbm(name: str, rounds: int, tmp_path: Path) -> None:
    data, said = LIGHTGBM[name]
    x, y = table(data)
    lightgbm_source(tmp_path, said, x, y, rounds)
    notes = notes_of(tmp_path, x)
    assert (notes["rows_compared"], notes.get("left_out")) == (len(x), None)
    assert notes["difference"] < 1e-5


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_converter_gets_wrong_is_refused(name: str, tmp_path: Path) -> None:
    data, said = REFUSED[name]
    x, y = table(data)
    lightgbm_source(tmp_path, said, x, y, 12)
    with pytest.raises(PassError, match=r"gives its own answers:\n  float32: no output is predict.* the furthest rows: \d+"):
        notes_of(tmp_path, x)
