"""`mlpack init` on models in XGBoost's and LightGBM's own formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpack.errors import RecipeError
from mlpack.recipe import first, reader
from mlpack.recipe.first import boosters


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(classes: int) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    x = random.standard_normal((80, 7)).astype(np.float32)
    return x, random.integers(0, classes, 80) if classes else x[:, 0] * 2


def xgboost_model(path: Path, classes: int) -> None:
    import xgboost

    x, y = table(classes)
    said: dict[str, Any] = {"nthread": 1, "verbosity": 0}
    said |= {"objective": {0: "reg:squarederror", 2: "binary:logistic"}.get(classes, "multi:softprob")}
    said |= {"num_class": classes} if classes > 2 else {}
    xgboost.train(said, xgboost.DMatrix(x, y), 2).save_model(path)


def lightgbm_model(path: Path, classes: int) -> None:
    import lightgbm

    x, y = table(classes)
    said = {"objective": {0: "regression", 2: "binary"}.get(classes, "multiclass"), "verbosity": -1, "num_threads": 1}
    said |= {"num_class": classes} if classes > 2 else {}
    lightgbm.train(said, lightgbm.Dataset(x, y, params={"verbosity": -1}), 2).save_model(path)


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("name", ["model.json", "model.ubj", "model.txt"])
def test_recipe_of_a_booster_loads_and_says_what_it_takes(name: str, classes: int) -> None:
    path = Path(name)
    (lightgbm_model if name.endswith(".txt") else xgboost_model)(path, classes)
    x, y = table(classes)
    np.savez("eval.npz", X=x, labels=y)
    text = first.suggest(path)
    Path("recipe.yaml").write_text(text)
    loaded = reader.load(Path("recipe.yaml"))
    assert loaded.source.format == ("lightgbm" if name.endswith(".txt") else "xgboost")
    assert "float32 [batch, 7]" in text
    assert [variant.name for variant in loaded.variants or ()] == ["fp32"]
    assert f"metric: {'top1' if classes else 'mae'}" in text
    from mlpack.passes.convert.boosting.boosters import features

    assert features(path) == boosters.columns(path, loaded.source.format) == 7


@pytest.mark.parametrize(
    ("objective", "labels", "wanted"),
    [
        ("binary:logistic", "flags", "{name: multilabel_f1, output: label}"),
        ("binary:hinge", "classes", "{name: f1, threshold: 0.5}"),
        ("binary:logitraw", "classes", "{name: f1, threshold: 0}"),
        ("reg:squarederror", "flags", "mae"),
    ],
)
def test_metric_by_objective_and_labels(objective: str, labels: str, wanted: str) -> None:
    import xgboost

    x, y = table(2)
    y = np.stack([y, x[:, 0] > 0], axis=1).astype(int) if labels == "flags" else y
    xgboost.train({"objective": objective, "nthread": 1, "verbosity": 0}, xgboost.DMatrix(x, y), 2).save_model("model.json")
    np.savez("eval.npz", X=x, labels=y)
    text = first.suggest(Path("model.json"))
    assert f"metric: {wanted} " in text
    Path("recipe.yaml").write_text(text)
    reader.load(Path("recipe.yaml"))


@pytest.mark.parametrize("name", ["model.json", "model.txt"])
def test_a_rankers_scores_are_not_held_against_relevance(name: str) -> None:
    x, y = table(3)
    if name == "model.txt":
        import lightgbm

        data = lightgbm.Dataset(x, y, group=[10] * 8, params={"verbosity": -1})
        lightgbm.train({"objective": "lambdarank", "verbosity": -1, "num_threads": 1}, data, 2).save_model(name)
    else:
        import xgboost

        matrix = xgboost.DMatrix(x, y)
        matrix.set_group([10] * 8)
        xgboost.train({"objective": "rank:ndcg", "nthread": 1, "verbosity": 0}, matrix, 2).save_model(name)
    np.savez("eval.npz", X=x, labels=y)
    Path("recipe.yaml").write_text(first.suggest(Path(name)))
    assert reader.load(Path("recipe.yaml")).metric.name == "fidelity"


@pytest.mark.parametrize(("name", "content"), [("a.json", b"{}"), ("a.txt", b"treetop"), ("a.ubj", b"\0{"), ("a.txt", b"")])
def test_other_files_of_those_names_are_none(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(RecipeError, match="a model of XGBoost or LightGBM"):
        first.suggest(Path(name))
