"""Classical models from what was fitted to a booted package, as a user does it: columns of numbers and strings of scikit-learn, and
the recipes that `mlpack init` writes for LightGBM's and XGBoost's own files. The package's answers are the library's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.project import HERE, REPOSITORY

FIT = """
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

def table():
    random = np.random.default_rng(1)
    age = random.normal(40, 10, (400, 1)).astype("f4")
    city = random.choice(["Riga", "Oslo", "Łódź"], (400, 1))
    said = np.where((age > 40) ^ (city == "Oslo"), "ja", "nein").ravel()
    age[random.random(age.shape) < 0.1] = np.nan
    return age, city, said

def columns(age, city):
    return np.hstack([age.astype(object), city.astype(object)])

def fitted():
    age, city, said = table()
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    both = ColumnTransformer([("n", numbers, [0]), ("c", OneHotEncoder(), [1])])
    return make_pipeline(both, LogisticRegression()).fit(columns(age, city), said)

def calls():
    for age, city, said in zip(*table()):
        yield {"age": [age], "city": [city]}, [said]
"""
RECIPE = f"""
name: columns
source: {{sklearn: "fit:fitted"}}
inputs:
  age: {{shape: [batch, 1]}}
  city: {{dtype: string, shape: [batch, 1]}}
data: {{evaluation: "fit:calls"}}
metric: top1
targets:
  lambda-zip: {{arch: {HERE}}}
"""


def mlpack(root: Path, *words: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLPACK_", "PYTEST_"))}
    environment = {**kept, "PYTHONPATH": str(REPOSITORY / "src"), "MLPACK_STORE": str(root / "store"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mlpack.cli", *words], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def asked(root: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """What the package in `out` says to a request of plain JSON, by output."""
    (root / "request.json").write_text(json.dumps({"inputs": inputs}))
    answer = json.loads(mlpack(root, "run", "out", "--event", "request.json"))
    return {each["name"]: each for each in answer["outputs"]}


def chosen(root: Path) -> dict[str, Any]:
    record = json.loads((root / "out/build.json").read_bytes())
    return next(each for each in record["candidates"] if each["id"] == record["chosen"])


def test_columns_of_numbers_and_strings_with_classes_as_words(tmp_path: Path) -> None:
    (tmp_path / "fit.py").write_text(FIT)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    mlpack(tmp_path, "build", "recipe.yaml", "--out", "out")
    found: dict[str, Any] = {}
    exec(FIT, found)  # noqa: S102
    made = found["fitted"]()
    age, city, said = found["table"]()
    assert chosen(tmp_path)["accuracy"]["value"] == pytest.approx(made.score(found["columns"](age, city), said), abs=1e-6)
    rows = [*np.flatnonzero(np.isnan(age))[:2].tolist(), 0, 1, 2]
    asking = {"age": [[None if np.isnan(v) else float(v) for v in age[row]] for row in rows], "city": city[rows].tolist()}
    answer = asked(tmp_path, asking)
    assert answer["label"]["datatype"] == "BYTES"
    assert answer["label"]["data"] == made.predict(found["columns"](age, city))[rows].tolist()
    wanted = made.predict_proba(found["columns"](age, city))[rows].ravel()
    np.testing.assert_allclose(answer["probabilities"]["data"], wanted, atol=1e-5)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_recipe_of_init_for_a_booster_with_missing_values(library: str, tmp_path: Path) -> None:
    from sklearn.datasets import load_breast_cancer, load_diabetes

    x, y = (load_breast_cancer if library == "lightgbm" else load_diabetes)(return_X_y=True)
    x = x.astype(np.float32)
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    np.savez(tmp_path / "eval.npz", X=x, labels=y)
    if library == "lightgbm":
        import lightgbm

        data = lightgbm.Dataset(x, y, params={"verbosity": -1})
        made = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, data, 20)
        made.save_model(tmp_path / "model.txt")
        wanted, name = made.predict(x), "model.txt"
    else:
        import xgboost

        made = xgboost.train({"nthread": 1}, xgboost.DMatrix(x, y), 20)
        made.save_model(tmp_path / "model.json")
        wanted, name = made.predict(xgboost.DMatrix(x)), "model.json"
    text = mlpack(tmp_path, "init", name).replace("arch: x86_64", f"arch: {HERE}")
    (tmp_path / "recipe.yaml").write_text(text)
    mlpack(tmp_path, "build", "recipe.yaml", "--out", "out")
    answer = asked(tmp_path, {"X": [[None if np.isnan(v) else float(v) for v in row] for row in x[:5]]})
    if library == "lightgbm":
        np.testing.assert_allclose(answer["probabilities"]["data"][1::2], wanted[:5], atol=1e-5)
        assert answer["label"]["data"] == (wanted[:5] > 0.5).astype(int).tolist()
    else:
        np.testing.assert_allclose(answer["variable"]["data"], wanted[:5], rtol=1e-5)
