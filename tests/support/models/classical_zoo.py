"""Classical models of the zoo, fitted on the data sets that scikit-learn brings: columns of numbers, categories and texts, classes
that are words, missing values. `models()` gives members whose own library answers for them.

A model's file of XGBoost or LightGBM is what `mlpack init` is given; a function that returns an estimator it cannot see, so those
bring the recipe that their owner writes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sample_models.npz import write_npz
from sample_models.zoo import Member

Calls = Sequence[Mapping[str, Any]]

_RECIPE = """# As its owner writes it: a function cannot be looked into.
name: {name}
source: {{sklearn: "fit:fitted"}}
inputs:
{inputs}
data: {{evaluation: eval.npz}}
metric: top1   # share of samples whose class, as the model says it, is the label
variants: {{fp32: []}}
targets:
  lambda-zip: {{arch: x86_64, memory_mb: 1769}}
budgets:
  accuracy_drop: 0.01
"""
_COLUMNS = """
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_wine
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

WORDS = np.array(["rich", "dry", "größe", "oak", "fruit", "light", "deep", "sour"])


def table():
    x, y = load_wine(return_X_y=True)
    random = np.random.default_rng(4)
    numbers = x[:, :5].astype("f4")
    numbers[random.random(numbers.shape) < 0.1] = np.nan
    shade = np.array(["pale", "medium", "dark"])[np.digitize(x[:, 9], [3.5, 6])]
    note = np.array([" ".join(random.choice(WORDS[c : c + 4], 5)) for c in (x[:, 6] > 2).astype(int) * 2 + (x[:, 12] > 750)])
    return numbers, shade[:, None], note[:, None], np.array(["barolo", "grignolino", "barbera"])[y]


def columns(numbers, shade, note):
    return np.hstack([numbers.astype(object), shade.astype(object), note.astype(object)])


def fitted():
    numbers, shade, note, names = table()
    parts = [
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), list(range(5))),
        ("shade", OneHotEncoder(handle_unknown="ignore"), [5]),
        ("note", TfidfVectorizer(), 6),
    ]
    made = make_pipeline(ColumnTransformer(parts), LogisticRegression(max_iter=1000))
    return made.fit(columns(numbers, shade, note)[::2], names[::2])
"""
_WORDS = """
import lightgbm
import numpy as np
from sklearn.datasets import load_iris


def fitted():
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    made = lightgbm.LGBMClassifier(n_estimators=20, n_jobs=1, verbose=-1)
    return made.fit(x[::2].astype("f4"), names[::2])
"""
_CODED = """
import numpy as np
import xgboost
from sklearn.datasets import load_wine


def fitted():
    x, y = load_wine(return_X_y=True)
    made = xgboost.XGBClassifier(booster="dart", rate_drop=0.2, n_estimators=20, n_jobs=1)
    return made.fit(x[::2].astype("f4"), y[::2])
"""


def models() -> tuple[Member, ...]:
    """The estimators by their function, and boosters by their file."""
    return (
        Member(name="sklearn-columns", place=_columns, kind="classical", answers=_by_estimator),
        Member(name="lightgbm-words", place=partial(_estimator, _WORDS, "iris"), kind="classical", answers=_by_estimator),
        Member(name="xgboost-dart", place=partial(_estimator, _CODED, "wine"), kind="classical", answers=_by_estimator),
        Member(name="lightgbm-missing", place=_lightgbm, kind="classical", answers=_by_lightgbm),
        Member(name="xgboost-missing", place=_xgboost, kind="classical", answers=_by_xgboost),
    )


def _columns(folder: Path, _cache: Path) -> Path:
    fit = _written(folder, _COLUMNS)
    numbers, shade, note, names = fit.table()
    write_npz(folder / "eval.npz", {"numbers": numbers[1::2], "shade": shade[1::2], "note": note[1::2], "labels": names[1::2]})
    words = "{dtype: string, shape: [batch, 1]}"
    return _recipe(folder, "sklearn-columns", f"  numbers: {{shape: [batch, 5]}}\n  shade: {words}\n  note: {words}")


def _estimator(code: str, data: str, folder: Path, _cache: Path) -> Path:
    from sklearn import datasets

    _written(folder, code)
    x, y = getattr(datasets, f"load_{data}")(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y] if data == "iris" else y
    write_npz(folder / "eval.npz", {"X": x[1::2].astype("f4"), "labels": names[1::2]})
    return _recipe(folder, f"trees-on-{data}", f"  X: {{shape: [batch, {x.shape[1]}]}}")


def _written(folder: Path, code: str) -> Any:
    (folder / "fit.py").write_text(code, "utf-8")
    return _module(folder)


def _recipe(folder: Path, name: str, inputs: str) -> Path:
    (folder / "recipe.yaml").write_text(_RECIPE.format(name=name, inputs=inputs), "utf-8")
    return folder / "recipe.yaml"


def _module(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("fit_of_the_zoo", folder / "fit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _holes(load: Callable[..., Any]) -> tuple[Any, Any]:
    x, y = load(return_X_y=True)
    x = x.astype("f4")
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    return x, y


def _lightgbm(folder: Path, _cache: Path) -> Path:
    import lightgbm
    from sklearn.datasets import load_breast_cancer

    x, y = _holes(load_breast_cancer)
    data = lightgbm.Dataset(x[::2], y[::2], params={"verbosity": -1})
    lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, data, 30).save_model(folder / "tumours.txt")
    write_npz(folder / "eval.npz", {"X": x[1::2], "labels": y[1::2]})
    return folder / "tumours.txt"


def _xgboost(folder: Path, _cache: Path) -> Path:
    import xgboost
    from sklearn.datasets import load_diabetes

    x, y = _holes(load_diabetes)
    xgboost.train({"nthread": 1, "max_depth": 4}, xgboost.DMatrix(x[::2], y[::2]), 30).save_model(folder / "progression.json")
    write_npz(folder / "eval.npz", {"X": x[1::2], "labels": y[1::2]})
    return folder / "progression.json"


def _by_estimator(model: Path, calls: Calls) -> list[Mapping[str, Any]]:
    """What the fitted estimator says, by the names of convert's outputs."""
    fit = _module(model.parent)
    made = fit.fitted()
    found = []
    for call in calls:
        given = fit.columns(*call.values()) if hasattr(fit, "columns") else call["X"]
        label = np.asarray(made.predict(given))
        label = label.astype(object) if label.dtype.kind in "UO" else label.astype(np.int64)
        found.append({"label": label, "probabilities": made.predict_proba(given)})
    return found


def _by_lightgbm(model: Path, calls: Calls) -> list[Mapping[str, Any]]:
    import lightgbm

    made = lightgbm.Booster(model_file=str(model))
    second = [np.asarray(made.predict(call["X"])) for call in calls]
    return [{"label": (each > 0.5).astype(np.int64), "probabilities": np.stack([1 - each, each], axis=1)} for each in second]


def _by_xgboost(model: Path, calls: Calls) -> list[Mapping[str, Any]]:
    import xgboost

    made = xgboost.Booster({"nthread": 1})
    made.load_model(model)
    return [{"variable": made.predict(xgboost.DMatrix(call["X"]))[:, None]} for call in calls]
