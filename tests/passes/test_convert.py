"""Estimators become ONNX that answers as they do, on every row of their evaluation data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.models.estimators import evaluation_dir, signed, sklearn_dir

from mlpack.errors import PassError
from mlpack.graphs import check, files
from mlpack.passes import convert
from mlpack.passes.convert import Convert, sources

IRIS = """
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

def fitted():
    x, y = load_iris(return_X_y=True)
    return LogisticRegression(max_iter=500).fit(x.astype("f4"), y)

def forest():
    from sklearn.ensemble import RandomForestClassifier
    x, y = load_iris(return_X_y=True)
    return RandomForestClassifier(5).fit(x.astype("f4"), y)

def unfitted():
    return LogisticRegression()

def raising():
    return 1 / 0

def nothing():
    return 7
"""


def iris() -> Any:
    from sklearn.datasets import load_iris

    return load_iris().data.astype(np.float32)


def converted(source: Path, evaluation: Path, out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The outputs of what was made for the first three rows of its data, and its notes."""
    out.mkdir()
    convert.run(source, Convert(evaluation=evaluation), out)
    names = [each.name for each in files.read_signature(out).outputs]
    with sources.opened(source) as estimator:
        from mlpack.passes.convert.agreement import EvaluationRows

        table = EvaluationRows(evaluation, source, estimator.inputs)
    feed = {name: array[:3] for name, array in table.whole.items()}
    return dict(zip(names, check.run(check.session(out), feed), strict=True)), json.loads((out / "notes.json").read_bytes())


def test_classifier_answers_as_itself(tmp_path: Path) -> None:
    x = iris()
    source = sklearn_dir(tmp_path / "source", IRIS, {"X": x})
    outputs, notes = converted(source, evaluation_dir(tmp_path / "data", {"X": x}), tmp_path / "out")
    assert outputs["label"].tolist() == [0, 0, 0]
    assert outputs["probabilities"].shape == (3, 3)
    assert notes["rows_compared"] == 150
    assert notes["precision"] == "float32"
    (given,) = files.read_signature(tmp_path / "out").inputs
    assert given.shape == ("batch", 4)


def test_what_is_fitted_at_random_is_the_same_every_time(tmp_path: Path) -> None:
    x = iris()
    source = sklearn_dir(tmp_path / "source", IRIS, {"X": x}, "forest")
    evaluation = evaluation_dir(tmp_path / "data", {"X": x}, 150)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        convert.run(source, Convert(evaluation=evaluation), tmp_path / name)
    assert (tmp_path / "one/model.onnx").read_bytes() == (tmp_path / "two/model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("unfitted", "not fitted"),
        ("raising", "ZeroDivisionError: division by zero"),
        ("nothing", "returned a int, which is no scikit-learn estimator"),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_function_that_gives_no_estimator_is_refused(tmp_path: Path, function: str, said: str) -> None:
    x = iris()
    source = sklearn_dir(tmp_path / "source", IRIS, {"X": x}, function)
    (tmp_path / "out").mkdir()
    with pytest.raises(PassError, match=said):
        convert.run(source, Convert(evaluation=evaluation_dir(tmp_path / "data", {"X": x})), tmp_path / "out")


def test_graph_that_answers_otherwise_is_refused_by_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is what is tested here: the graph is right, and the estimator is made to say something else."""
    x = iris()
    source = sklearn_dir(tmp_path / "source", IRIS, {"X": x})
    real = sources._estimator

    def lying(folder: Path) -> Any:
        made = real(folder)
        made.predict = lambda given: np.where(np.arange(len(given)) == 5, 2, type(made).predict(made, given))
        return made

    monkeypatch.setattr(sources, "_estimator", lying)
    (tmp_path / "out").mkdir()
    with pytest.raises(PassError, match=r"1 of 150 labels differ from the estimator's, in rows 5 \(0.0 instead of 2.0\)"):
        convert.run(source, Convert(evaluation=evaluation_dir(tmp_path / "data", {"X": x})), tmp_path / "out")


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost"])
def test_boosters_of_their_own_formats_with_missing_values(tmp_path: Path, kind: str) -> None:
    x = iris()
    y = (x[:, 0] > 5.8).astype(int)
    x[::3, 1] = np.nan
    (tmp_path / "source").mkdir()
    if kind == "lightgbm":
        import lightgbm

        data = lightgbm.Dataset(x, y, params={"verbosity": -1})
        made = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, data, num_boost_round=5)
        made.save_model(tmp_path / "source/model.txt")
    else:
        import xgboost

        made = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(x, y), num_boost_round=5)
        made.save_model(tmp_path / "source/model.json")
    source = signed(tmp_path / "source", {"X": x})
    outputs, notes = converted(source, evaluation_dir(tmp_path / "data", {"X": x}, 150), tmp_path / "out")
    assert outputs["probabilities"].shape == (3, 2)
    assert notes["rows_compared"] == 150
    assert notes["difference"] < 1e-5


def test_thresholds_are_rounded_to_the_side_that_decides_alike() -> None:
    from onnx import helper

    from mlpack.passes.convert import thresholds

    exact = 0.1  # float32's nearest is above it
    node = helper.make_node("TreeEnsembleRegressor", ["X"], ["y"], domain="ai.onnx.ml", nodes_values=[exact, exact, 0.5],
                            nodes_modes=["BRANCH_LEQ", "BRANCH_LT", "BRANCH_LEQ"])  # fmt: skip
    model = helper.make_model(helper.make_graph([node], "g", [], []))
    assert thresholds.mend(model, [exact, 0.5]) == 1
    values = next(a for a in model.graph.node[0].attribute if a.name == "nodes_values").floats
    assert values[0] < exact < values[1]
    assert values[2] == 0.5
    assert np.nextafter(np.float32(values[0]), np.float32(1)) == np.float32(values[1])


def test_without_evaluation_data_nothing_is_converted(tmp_path: Path) -> None:
    with pytest.raises(PassError, match="needs the evaluation data"):
        convert.run(tmp_path, replace(Convert(), evaluation=None), tmp_path)
