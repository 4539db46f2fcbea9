"""XGBoost's and LightGBM's objectives and forms, with missing values: convert gives their own answers on every row, or refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.models.estimators import evaluation_dir, signed

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
    "dart": ("cancer", {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.5}),
    "dart-classes": ("wine", {"objective": "multi:softprob", "num_class": 3, "booster": "dart", "rate_drop": 0.5}),
    "linear": ("diabetes", {"booster": "gblinear"}),
    "linear-classes": ("wine", {"objective": "multi:softprob", "num_class": 3, "booster": "gblinear"}),
    "linear-binary": ("cancer", {"objective": "binary:logistic", "booster": "gblinear"}),
    "targets": ("targets", {}),
    "targets-vectors": ("targets", {"multi_strategy": "multi_output_tree", "max_depth": 4}),
    "targets-labels": ("labels", {"objective": "binary:logistic"}),
    "targets-linear": ("targets", {"booster": "gblinear"}),
    "quantiles": ("diabetes", {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]}),
    "tweedie": ("diabetes", {"objective": "reg:tweedie"}),
    "log": ("diabetes", {"objective": "reg:squaredlogerror"}),
    "survival": ("diabetes", {"objective": "survival:cox"}),
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
    "linear": ("diabetes", {"linear_tree": True}),
    "linear-classes": ("wine", {"linear_tree": True, "objective": "multiclass", "num_class": 3}),
    "linear-binary": ("cancer", {"linear_tree": True, "objective": "binary"}),
    "zero": ("zeros", {"objective": "binary", "zero_as_missing": True}),
    "each": ("wine", {"objective": "multiclassova", "num_class": 3}),
    "forest-classes": (
        "wine",
        {"objective": "multiclass", "num_class": 3, "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7},
    ),
    "lambda": ("cancer", {"objective": "cross_entropy_lambda"}),
    "gamma": ("diabetes", {"objective": "gamma"}),
    "goss": ("diabetes", {"data_sample_strategy": "goss"}),
    "percent": ("diabetes", {"objective": "mape"}),
}


def table(name: str) -> tuple[Any, Any]:
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

    made = {"cancer": load_breast_cancer, "zeros": load_breast_cancer, "labels": load_breast_cancer, "wine": load_wine}
    x, y = made.get(name, load_diabetes)(return_X_y=True)
    x = x.astype(np.float32)
    if name == "targets":
        y = np.stack([y, 2 * y + 100 * x[:, 0], -y], axis=1)
    if name == "labels":
        y = np.stack([y, x[:, 1] > 19, x[:, 2] > 90], axis=1).astype(int)
    if name == "zeros":
        x[x < np.median(x, axis=0) / 1.2] = 0
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


def test_columns_of_categories(tmp_path: Path) -> None:
    """Sets of categories decide, among them some that were never seen, and missing ones."""
    import lightgbm
    import xgboost

    random = np.random.default_rng(5)
    x = random.integers(0, 30, (600, 3)).astype(np.float32)
    y = np.isin(x[:, 0], [1, 4, 5, 17, 28]) * 3.0 + np.isin(x[:, 1], [0, 2, 9]) + 0.1 * x[:, 2]
    x[random.random(x.shape) < 0.1] = np.nan
    kinds = ["c", "c", "float"]
    seen = xgboost.DMatrix(x[:300], y[:300], feature_types=kinds, enable_categorical=True)
    for folder in (tmp_path / "x", tmp_path / "l"):
        (folder / "source").mkdir(parents=True)
    xgboost.train({"nthread": 1, "max_cat_to_onehot": 3, "max_depth": 5}, seen, 10).save_model(tmp_path / "x/source/model.json")
    said = {"verbosity": -1, "num_threads": 1, "min_data_per_group": 5, "cat_smooth": 1, "min_data_in_leaf": 3}
    data = lightgbm.Dataset(x[:300], y[:300], categorical_feature=[0, 1], params=said)
    lightgbm.train(said, data, 10).save_model(tmp_path / "l/source/model.txt")
    odd = x.copy()  # LightGBM cuts categories off at the point, and takes any number for one
    odd[:50, 0], odd[50:90, 0], odd[90:99, 0] = 17.7, -1, 1e6
    for folder, x in ((tmp_path / "x", x), (tmp_path / "l", odd)):  # noqa: B020
        assert notes_of(folder, x)["difference"] < 1e-5
        assert b"BRANCH_EQ" in (folder / "out/model.onnx").read_bytes()


def test_an_objective_that_is_not_known_is_refused_by_its_name(tmp_path: Path) -> None:
    import json

    import xgboost

    x, y = table("diabetes")
    made = xgboost.train({"nthread": 1}, xgboost.DMatrix(x, y), 1)
    (tmp_path / "source").mkdir()
    made.save_model(tmp_path / "source/model.json")
    said = json.loads((tmp_path / "source/model.json").read_bytes())
    del said["learner"]["objective"]["reg_loss_param"]
    said["learner"]["objective"] = {"name": "interval:of_tomorrow"}
    (tmp_path / "source/model.json").write_text(json.dumps(said))
    with pytest.raises(PassError, match="interval:of_tomorrow"):
        notes_of(tmp_path, x)
