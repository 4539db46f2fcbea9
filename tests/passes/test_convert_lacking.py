"""Estimators that skl2onnx lacks or gets wrong, and boosters where pipelines hold them: convert compares every row, and here the
outputs are looked at once more by their names; what cannot be converted is refused in words that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.models.estimators import evaluation_dir, sklearn_dir

from mlpack.errors import PassError
from mlpack.graphs import check, files, quiet
from mlpack.passes import convert
from mlpack.passes.convert import Convert, sources

pytestmark = pytest.mark.slow

HEAD = """
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import *
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.decomposition import *
from sklearn.ensemble import *
from sklearn.feature_extraction.text import *
from sklearn.impute import *
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_approximation import *
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import *
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.multioutput import *
from sklearn.neighbors import *
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import *
from sklearn.svm import *
import lightgbm, xgboost

def table(name):
    random = np.random.default_rng(1)
    if name == "ints":
        x = random.integers(0, 6, (300, 4)).astype("i8")
        return x, x.sum(1) % 3
    if name == "mixed":
        x = np.empty((300, 2), object)
        x[:, 0], x[:, 1] = random.normal(40, 10, 300), random.integers(0, 4, 300)
        x = x.astype("f4")
        return x, ((x[:, 0] > 40) ^ (x[:, 1] == 2)).astype(int)
    if name == "texts":
        words = np.array("good bad film Plot actor great awful dull it's don't naïve Größe 7".split())
        x = np.array([" ".join(random.choice(words, random.integers(1, 9))) for _ in range(200)])
        return x, np.array(["pos" if "good" in row or "great" in row else "neg" for row in x])
    x, y = {"iris": load_iris, "cancer": load_breast_cancer, "wine": load_wine, "diabetes": load_diabetes}[name](return_X_y=True)
    return x.astype("f4"), y

def holes(x):
    x = x.copy()
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    return x

def own(x):
    return np.log1p(np.abs(x))

def fitted():
"""
TWO = "np.stack([y, 2 * y + x[:, 0]], 1)"
LABELS = "np.stack([y > 0, y > 1], 1).astype(int)"
WORDS = "np.array(['a', 'ö', 'c'])[y]"

RIGHT: dict[str, tuple[str, str]] = {
    "dart": ("cancer", "xgboost.XGBClassifier(booster='dart', rate_drop=0.5, n_estimators=10, n_jobs=1).fit(x, y)"),
    "gblinear": ("diabetes", "xgboost.XGBRegressor(booster='gblinear', n_jobs=1).fit(x, y)"),
    "xgb-targets": ("diabetes", f"xgboost.XGBRegressor(n_estimators=8, n_jobs=1).fit(x, {TWO})"),
    "xgb-vectors": (
        "diabetes",
        f"xgboost.XGBRegressor(n_estimators=8, multi_strategy='multi_output_tree', n_jobs=1).fit(x, {TWO})",
    ),
    "xgb-labels": ("iris", f"xgboost.XGBClassifier(n_estimators=8, n_jobs=1).fit(x, {LABELS})"),
    "xgb-forest": ("cancer", "xgboost.XGBRFClassifier(n_estimators=8, n_jobs=1).fit(x, y)"),
    "xgb-early": (
        "cancer",
        (
            "xgboost.XGBClassifier(n_estimators=80, early_stopping_rounds=3, n_jobs=1)"
            ".fit(x[:400], y[:400], eval_set=[(x[400:], y[400:])], verbose=False)"
        ),
    ),
    "xgb-missing": ("ints", "xgboost.XGBRegressor(n_estimators=8, missing=0, n_jobs=1).fit(x.astype('f4'), y)"),
    "xgb-stacked": (
        "wine",
        (
            "StackingClassifier([('a', xgboost.XGBClassifier(n_estimators=8, n_jobs=1)),"
            " ('b', GradientBoostingClassifier())]).fit(x, y)"
        ),
    ),
    "lgb-linear": ("diabetes", "lightgbm.LGBMRegressor(linear_tree=True, n_jobs=1, verbose=-1).fit(x, y)"),
    "lgb-forest": (
        "cancer",
        "lightgbm.LGBMClassifier(boosting_type='rf', bagging_freq=1, bagging_fraction=0.7, n_jobs=1, verbose=-1).fit(x, y)",
    ),
    "lgb-zero": ("ints", "lightgbm.LGBMRegressor(zero_as_missing=True, n_jobs=1, verbose=-1).fit(x.astype('f4'), y)"),
    "lgb-sets": ("ints", "lightgbm.LGBMClassifier(n_jobs=1, verbose=-1).fit(x, y, categorical_feature=[0, 1])"),
    "lgb-each": ("wine", "lightgbm.LGBMClassifier(objective='multiclassova', n_jobs=1, verbose=-1).fit(x, y)"),
    "lgb-rank": ("diabetes", "lightgbm.LGBMRanker(n_jobs=1, verbose=-1).fit(x, (y > 150) * 1, group=[42, 400])"),
    "lgb-words": ("wine", f"make_pipeline(StandardScaler(), lightgbm.LGBMClassifier(n_jobs=1, verbose=-1)).fit(x, {WORDS})"),
    "lgb-voted": (
        "wine",
        (
            "VotingClassifier([('a', xgboost.XGBClassifier(n_estimators=8, n_jobs=1)),"
            " ('b', lightgbm.LGBMClassifier(n_jobs=1, verbose=-1))],"
            " voting='soft').fit(x, y)"
        ),
    ),
    "histogram-sets": ("ints", "HistGradientBoostingClassifier(categorical_features=[0, 1]).fit(x, y)"),
    "histogram-unknown": (
        "ints",
        "HistGradientBoostingClassifier(categorical_features=[3, 1]).fit(x[x.max(1) < 5], y[x.max(1) < 5])",
    ),
    "histogram-mixed": ("mixed", "HistGradientBoostingClassifier(categorical_features=[1]).fit(holes(x), y)"),
    "histogram-poisson": ("diabetes", "HistGradientBoostingRegressor(loss='poisson').fit(x, y)"),
    "histogram-calibrated": ("wine", "CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=10)).fit(x, y)"),
    "log1p": ("wine", "make_pipeline(FunctionTransformer(np.log1p), LogisticRegression(max_iter=3000)).fit(x, y)"),
    "columns-by-function": (
        "wine",
        (
            "make_pipeline(ColumnTransformer([('l', FunctionTransformer(np.sqrt), [0, 2]), ('c', FunctionTransformer(np.cbrt), "
            "[1])], remainder='passthrough'), StandardScaler(), LogisticRegression()).fit(x, y)"
        ),
    ),
    "bins": ("diabetes", "make_pipeline(KBinsDiscretizer(5), Ridge()).fit(x, y)"),
    "bins-of-float64": ("diabetes", "make_pipeline(KBinsDiscretizer(5, encode='ordinal'), Ridge()).fit(load_diabetes().data, y)"),
    "splines": ("diabetes", "make_pipeline(SplineTransformer(4), Ridge()).fit(x, y)"),
    "splines-on": (
        "diabetes",
        "make_pipeline(SplineTransformer(5, degree=2, extrapolation='continue', include_bias=False), Ridge()).fit(x[:99], y[:99])",
    ),
    "splines-off": ("diabetes", "make_pipeline(SplineTransformer(5), Ridge()).fit(x[:99], y[:99])"),
    "kernel-ridge": ("diabetes", "KernelRidge(kernel='rbf', gamma=2.0).fit(x, y)"),
    "kernel-poly": ("diabetes", "KernelRidge(kernel='poly', degree=2).fit(x, y)"),
    "nystroem": ("wine", "make_pipeline(StandardScaler(), Nystroem(n_components=20), LogisticRegression()).fit(x, y)"),
    "sampler": ("wine", "make_pipeline(StandardScaler(), RBFSampler(n_components=20), LogisticRegression()).fit(x, y)"),
    "ica": ("wine", "make_pipeline(StandardScaler(), FastICA(3), LogisticRegression()).fit(x, y)"),
    "target": ("diabetes", "TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1).fit(x, y)"),
    "target-scaled": (
        "diabetes",
        "TransformedTargetRegressor(make_pipeline(StandardScaler(), Ridge()), transformer=StandardScaler()).fit(x, y)",
    ),
    "threshold": ("cancer", "FixedThresholdClassifier(LogisticRegression(max_iter=9000), threshold=0.3).fit(x, y)"),
    "threshold-found": (
        "cancer",
        "TunedThresholdClassifierCV(LogisticRegression(max_iter=9000)).fit(x, np.array(['no', 'ja'])[y])",
    ),
    "indicators": (
        "cancer",
        "make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), LogisticRegression()).fit(holes(x), y)",
    ),
    "booleans": ("cancer", "LogisticRegression(max_iter=9000).fit(x, y == 1)"),
    "search": ("cancer", "GridSearchCV(make_pipeline(StandardScaler(), SVC()), {'svc__C': [1, 10]}, cv=2).fit(x, y)"),
    "svc": ("wine", "make_pipeline(StandardScaler(), SVC()).fit(x, y)"),
    "targets-apart": ("iris", "MultiOutputClassifier(LogisticRegression(max_iter=2000)).fit(x, np.stack([y, (y > 0) * 1], 1))"),
    "targets-of-trees": ("iris", f"RandomForestClassifier(10).fit(x, {LABELS})"),
    "words-of-any-script": ("texts", "make_pipeline(TfidfVectorizer(stop_words='english'), LogisticRegression()).fit(x, y)"),
    "words-and-pairs": (
        "texts",
        "make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LinearSVC()).fit(x, y)",
    ),
    "words-by-spaces": (
        "texts",
        "make_pipeline(CountVectorizer(token_pattern=r'\\S+', lowercase=False), LogisticRegression()).fit(x, y)",
    ),
    "letters": ("texts", "make_pipeline(TfidfVectorizer(analyzer='char', ngram_range=(1, 3)), LogisticRegression()).fit(x, y)"),
}
NAMES = {
    "svc": ["label", "decision_function"],
    "search": ["label", "decision_function"],
    "words-and-pairs": ["label", "decision_function"],
    "targets-apart": ["label", "probabilities_0", "probabilities_1"],
    "targets-of-trees": ["label", "probabilities_0", "probabilities_1"],
    "lgb-words": ["label", "probabilities"],
    "gblinear": ["variable"],
}
REFUSED: dict[str, tuple[str, str, str]] = {
    "own-function": (
        "wine",
        "make_pipeline(FunctionTransformer(own), LogisticRegression(max_iter=3000)).fit(x, y)",
        r"the function 'own', whose steps cannot be seen.*preprocess",
    ),
    "hashes": (
        "texts",
        "make_pipeline(HashingVectorizer(n_features=16), LogisticRegression()).fit(x, y)",
        r"no converter for a part",
    ),
    "parts-of-words": (
        "texts",
        "make_pipeline(CountVectorizer(analyzer='char_wb'), LogisticRegression()).fit(x, y)",
        r"no converter",
    ),
    "isotonic": (
        "cancer",
        "CalibratedClassifierCV(RandomForestClassifier(9), method='isotonic').fit(x, y)",
        r"furthest rows[\s\S]*only a few",
    ),
    "distances": (
        "wine",
        "make_pipeline(StandardScaler(), KNeighborsClassifier(weights='distance')).fit(x, y)",
        r"labels differ.*\n.*",
    ),
    "kernel": ("diabetes", "KernelRidge(kernel='laplacian').fit(x, y)", r"kernel 'laplacian' is not known here: use rbf"),
    "periods": (
        "diabetes",
        "make_pipeline(SplineTransformer(extrapolation='periodic'), Ridge()).fit(x, y)",
        "'periodic'.*use 'constant'",
    ),
    "probabilities-of-nothing": (
        "cancer",
        "xgboost.XGBClassifier(objective='binary:hinge', n_estimators=3).fit(x, y)",
        "no class prob",
    ),
}


def known() -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(HEAD + "    return None\n", found)  # noqa: S102
    return found


def source(folder: Path, data: str, expression: str) -> tuple[Path, Path, dict[str, Any]]:
    inputs = {"X": known()["table"](data)[0]}
    code = HEAD + f"    x, y = table({data!r})\n    return {expression}\n"
    return sklearn_dir(folder / "source", code, inputs), evaluation_dir(folder / "data", inputs, 100), inputs


@pytest.mark.parametrize("name", RIGHT)
def test_answers_as_the_estimator(name: str, tmp_path: Path) -> None:
    made, evaluation, inputs = source(tmp_path, *RIGHT[name])
    (tmp_path / "out").mkdir()
    convert.run(made, Convert(evaluation=evaluation), tmp_path / "out")
    names = [each.name for each in files.read_signature(tmp_path / "out").outputs]
    notes = json.loads((tmp_path / "out/notes.json").read_bytes())
    assert notes["rows_compared"] == len(inputs["X"])
    assert notes["difference"] < 1e-5
    if name in NAMES:
        assert names == NAMES[name]
    feed = {"X": inputs["X"].astype(object) if inputs["X"].dtype.kind == "U" else inputs["X"]}
    got = dict(zip(names, check.run(check.session(tmp_path / "out"), feed), strict=True))
    with quiet.exporters(), sources.opened(made) as estimator:
        for output, method in {"label": "predict", "variable": "predict", "probabilities": "predict_proba"}.items():
            if output in got:
                want = np.asarray(estimator.methods[method](feed))
                ours = got[output].reshape(want.shape)
                same = (
                    ours == want
                    if want.dtype.kind in "OUib"
                    else np.isclose(ours, want, rtol=1e-4, atol=1e-4 * max(1, np.abs(want).max()))
                )
                assert np.count_nonzero(~np.asarray(same)) <= len(notes.get("ties", []))
        if "decision_function" in got:
            want = estimator.methods["decision_function"](feed)
            columns = np.stack([-want, want], axis=1) if want.ndim == 1 else want
            ours = got["decision_function"].reshape(len(want), -1)
            assert np.allclose(ours if ours.shape[1] > 1 else np.hstack([-ours, ours]), columns, atol=1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_converted_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    data, expression, words = REFUSED[name]
    made, evaluation, _ = source(tmp_path, data, expression)
    (tmp_path / "out").mkdir()
    with pytest.raises(PassError, match=words):
        convert.run(made, Convert(evaluation=evaluation), tmp_path / "out")
