"""Estimators of every kind on scikit-learn's own data sets, through convert, simplify and optimize: what comes out answers as they
do on every row. Convert itself refuses what differs; here the last graph is asked once more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.models.estimators import evaluation_dir, sklearn_dir

from mlpack.graphs import check, files, quiet
from mlpack.passes import PASSES
from mlpack.passes.convert import sources

pytestmark = pytest.mark.slow

HEAD = """
import numpy as np
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.ensemble import *
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import SimpleImputer, KNNImputer
from sklearn.linear_model import *
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import *
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

def table(name):
    x, y = {"iris": load_iris, "cancer": load_breast_cancer, "wine": load_wine, "diabetes": load_diabetes}[name](return_X_y=True)
    return x.astype("f4"), y

def holes(x):
    x = x.copy()
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    return x

def words(y, names=("setosa", "größer", "virginica")):
    return np.array(names)[y]

def mixed():
    random = np.random.default_rng(1)
    age = random.normal(40, 10, 300).astype("f4")
    city = random.choice(["Riga", "Oslo", "Łódź", ""], 300)
    return age[:, None], city[:, None], ((age > 40) ^ (city == "Oslo")).astype(int)

def texts():
    random = np.random.default_rng(2)
    words = np.array("good bad film plot actor great awful dull bright scene".split())
    rows = np.array([" ".join(random.choice(words, random.integers(1, 9))) for _ in range(200)])
    return rows, np.array(["pos" if "good" in row or "great" in row else "neg" for row in rows])

def fitted():
"""

TABLES: dict[str, tuple[str, str]] = {
    "logistic": ("iris", "LogisticRegression(max_iter=2000).fit(x, y)"),
    "logistic-words": ("iris", "LogisticRegression(max_iter=2000).fit(x, words(y))"),
    "logistic-from-one": ("iris", "LogisticRegression(max_iter=2000).fit(x, y + 1)"),
    "logistic-two": ("cancer", "make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)"),
    "logistic-unscaled": ("cancer", "LogisticRegression(max_iter=10000).fit(x, y)"),
    "forest": ("cancer", "RandomForestClassifier(50, random_state=0).fit(x, y)"),
    "forest-words": ("wine", "RandomForestClassifier(50, random_state=0).fit(x, words(y))"),
    "forest-scaled": ("cancer", "make_pipeline(StandardScaler(), RandomForestClassifier(50, random_state=0)).fit(x, y)"),
    "extra-trees": ("wine", "ExtraTreesClassifier(50, random_state=0).fit(x, y)"),
    "tree": ("cancer", "DecisionTreeClassifier(random_state=0).fit(x, y)"),
    "boosting": ("cancer", "GradientBoostingClassifier(random_state=0).fit(x, y)"),
    "boosting-three": ("wine", "GradientBoostingClassifier(random_state=0).fit(x, y)"),
    "histogram": ("cancer", "HistGradientBoostingClassifier(random_state=0).fit(x, y)"),
    "histogram-three": ("iris", "HistGradientBoostingClassifier(random_state=0).fit(x, words(y))"),
    "histogram-scaled": ("wine", "make_pipeline(MinMaxScaler(), HistGradientBoostingClassifier(random_state=0)).fit(x, y)"),
    "svc": ("wine", "make_pipeline(StandardScaler(), SVC(random_state=0)).fit(x, y)"),
    "svc-two": ("cancer", "make_pipeline(StandardScaler(), SVC(random_state=0)).fit(x, y)"),
    "linear-svc": ("wine", "make_pipeline(StandardScaler(), LinearSVC(random_state=0)).fit(x, y)"),
    "neighbours": ("wine", "make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(x, words(y))"),
    "naive": ("wine", "GaussianNB().fit(x, y)"),
    "discriminant": ("wine", "LinearDiscriminantAnalysis().fit(x, y)"),
    "sgd": ("wine", "make_pipeline(StandardScaler(), SGDClassifier(random_state=0)).fit(x, y)"),
    "ridge-classifier": ("wine", "RidgeClassifier().fit(x, y)"),
    "perceptrons": ("wine", "make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=2000, random_state=0)).fit(x, y)"),
    "ada": ("wine", "AdaBoostClassifier(random_state=0).fit(x, y)"),
    "bagging": ("wine", "BaggingClassifier(random_state=0).fit(x, y)"),
    "voting": ("wine", "VotingClassifier([('a', GaussianNB()), ('b', DecisionTreeClassifier())], voting='soft').fit(x, y)"),
    "stacking": ("iris", "StackingClassifier([('a', GaussianNB()), ('b', DecisionTreeClassifier(random_state=0))]).fit(x, y)"),
    "calibrated": ("iris", "CalibratedClassifierCV(GaussianNB()).fit(x, y)"),
    "search": ("iris", "GridSearchCV(LogisticRegression(max_iter=2000), {'C': [0.1, 1]}).fit(x, y)"),
    "isolation": ("cancer", "IsolationForest(random_state=0).fit(x)"),
    "clusters": ("iris", "KMeans(3, random_state=0, n_init=3).fit(x)"),
    "components": ("wine", "make_pipeline(StandardScaler(), PCA(3)).fit(x)"),
    "ridge": ("diabetes", "make_pipeline(PolynomialFeatures(2), Ridge()).fit(x, y)"),
    "elastic": ("diabetes", "ElasticNet(alpha=0.01).fit(x, y)"),
    "forest-regressor": ("diabetes", "RandomForestRegressor(50, random_state=0).fit(x, y)"),
    "histogram-regressor": ("diabetes", "HistGradientBoostingRegressor(random_state=0).fit(x, y)"),
    "boosting-regressor": ("diabetes", "GradientBoostingRegressor(random_state=0).fit(x, y)"),
    "svr": ("diabetes", "make_pipeline(StandardScaler(), SVR()).fit(x, y)"),
    "neighbours-regressor": ("diabetes", "KNeighborsRegressor().fit(x, y)"),
    "perceptrons-regressor": ("diabetes", "make_pipeline(StandardScaler(), MLPRegressor(max_iter=3000, random_state=0)).fit(x, y)"),
    "several-targets": ("diabetes", "RandomForestRegressor(10, random_state=0).fit(x, np.stack([y, 2 * y], 1))"),
    "quantiles": ("diabetes", "make_pipeline(QuantileTransformer(n_quantiles=50), Ridge()).fit(x, y)"),
    "bins": ("diabetes", "make_pipeline(KBinsDiscretizer(5, encode='ordinal', strategy='uniform'), Ridge()).fit(x, y)"),
    "lightgbm": ("wine", "make_pipeline(StandardScaler(), __import__('lightgbm').LGBMClassifier(n_jobs=1, verbose=-1)).fit(x, y)"),
    "xgboost": ("wine", "make_pipeline(StandardScaler(), __import__('xgboost').XGBClassifier(n_jobs=1)).fit(x, y)"),
    "lightgbm-words": ("wine", "__import__('lightgbm').LGBMClassifier(n_jobs=1, verbose=-1).fit(x, words(y))"),
    "lightgbm-regressor": ("diabetes", "__import__('lightgbm').LGBMRegressor(n_jobs=1, verbose=-1).fit(x, y)"),
    "xgboost-regressor": ("diabetes", "__import__('xgboost').XGBRegressor(n_jobs=1, n_estimators=30).fit(x, y)"),
}
HOLES: dict[str, tuple[str, str]] = {
    "histogram-holes": ("cancer", "HistGradientBoostingClassifier(random_state=0).fit(x, y)"),
    "histogram-regressor-holes": ("diabetes", "HistGradientBoostingRegressor(random_state=0).fit(x, y)"),
    "forest-holes": ("cancer", "RandomForestClassifier(20, random_state=0).fit(x, y)"),
    "imputed-holes": ("cancer", "make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(x, y)"),
    "lightgbm-holes": ("cancer", "__import__('lightgbm').LGBMClassifier(n_jobs=1, verbose=-1).fit(x, y)"),
    "xgboost-holes": ("diabetes", "__import__('xgboost').XGBRegressor(n_jobs=1, n_estimators=30).fit(x, y)"),
}


def encoded(encoder: str, rest: str) -> str:
    return f"make_pipeline(ColumnTransformer([('n', StandardScaler(), [0]), ('s', {encoder}, [1])]), {rest}"


MIXED = {
    "one-hot": encoded("OneHotEncoder()", "LogisticRegression()).fit(x, y)"),
    "one-hot-unknown": encoded("OneHotEncoder(handle_unknown='ignore')", "LogisticRegression()).fit(x[:20], y[:20])"),
    "ordinal": encoded("OrdinalEncoder()", "RandomForestClassifier(20, random_state=0)).fit(x, y)"),
    "one-hot-words": encoded("OneHotEncoder()", "LogisticRegression()).fit(x, np.array(['no', 'ja'])[y])"),
}
TEXTS = {
    "tfidf": "make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(rows, y)",
    "tfidf-pairs": "make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression()).fit(rows, y)",
    "counts": "make_pipeline(CountVectorizer(), MultinomialNB()).fit(rows, y)",
}


def namespace() -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(HEAD + "    return None\n", found)  # noqa: S102
    return found


def through(folder: Path, code: str, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The estimator, the last graph's outputs on all rows, and convert's notes."""
    source = sklearn_dir(folder / "source", HEAD + code, inputs)
    evaluation = evaluation_dir(folder / "data", inputs, 100)
    last = source
    for name in ("convert", "simplify", "optimize"):
        (folder / name).mkdir()
        bound = {each: evaluation for each in PASSES[name].binds if each == "evaluation"}
        PASSES[name].run(last, PASSES[name].config(**bound), folder / name)
        last = folder / name
    with quiet.exporters(), sources.opened(source) as estimator:
        feed = {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in inputs.items()}
        asked = ("predict", "predict_proba", "transform")
        wanted = {method: ask(feed) for method, ask in estimator.methods.items() if method in asked}
    names = [each.name for each in files.read_signature(last).outputs]
    got = dict(zip(names, check.run(check.session(last), feed), strict=True))
    return wanted, got, json.loads((folder / "convert/notes.json").read_bytes())


def agrees(wanted: dict[str, Any], got: dict[str, Any], notes: dict[str, Any]) -> None:
    outputs = list(got.values())
    ties = notes.get("ties", [])
    assert len(ties) <= 1, notes
    if "predict" in wanted:
        want = np.asarray(wanted["predict"])
        if want.dtype.kind in "OU" or outputs[0].dtype == object:
            assert outputs[0].ravel().tolist() == want.tolist()
        elif "label" in got:
            assert np.delete(outputs[0].ravel(), ties).tolist() == np.delete(want, ties).tolist()
        else:
            np.testing.assert_allclose(outputs[0].reshape(want.shape), want, rtol=1e-4, atol=1e-4 * max(1, np.abs(want).max()))
    if "predict_proba" in wanted:
        np.testing.assert_allclose(outputs[1], wanted["predict_proba"], atol=1e-4)
    print(notes["estimator"], notes["precision"], notes["difference"], notes.get("ties"), notes.get("left_out"), notes["rejected"])


@pytest.mark.parametrize("name", [*TABLES, *HOLES])
def test_table(name: str, tmp_path: Path) -> None:
    data, expression = {**TABLES, **HOLES}[name]
    known = namespace()
    x, _ = known["table"](data)
    put = "holes(x)" if name in HOLES else "x"
    code = f"    x, y = table({data!r})\n    x = {put}\n    return {expression}\n"
    agrees(*through(tmp_path, code, {"X": known["holes"](x) if name in HOLES else x}))


def test_clustering_fitted_on_float64_takes_rows_of_float32(tmp_path: Path) -> None:
    x, _ = namespace()["table"]("iris")
    code = "    x, y = table('iris')\n    return KMeans(3, random_state=0, n_init=3).fit(x.astype('f8'))\n"
    agrees(*through(tmp_path, code, {"X": x}))


@pytest.mark.parametrize("name", MIXED)
def test_columns_of_numbers_and_strings(name: str, tmp_path: Path) -> None:
    age, city, _ = namespace()["mixed"]()
    code = f"    age, city, y = mixed()\n    x = np.hstack([age.astype(object), city.astype(object)])\n    return {MIXED[name]}\n"
    agrees(*through(tmp_path, code, {"age": age, "city": city}))


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str, axes: int, tmp_path: Path) -> None:
    rows, _ = namespace()["texts"]()
    agrees(*through(tmp_path, f"    rows, y = texts()\n    return {TEXTS[name]}\n", {"text": rows if axes == 1 else rows[:, None]}))
