"""ONNX files that came from scikit-learn, made anew by its converter, with their data and the estimator's answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def ratings(folder: Path) -> None:
    """Classes 1 to 5 instead of 0 to 4; the evaluation rows happen to hold no 5."""
    import onnx
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(3)
    x = random.normal(size=(3000, 5)).astype("f4")
    y = 1 + np.digitize(x[:, 0] * 2 + x[:, 1], [-2, -0.5, 0.5, 2])
    fitted = LogisticRegression(max_iter=500).fit(x[:2000], y[:2000])
    onnx.save(to_onnx(fitted, x[:1], options={"zipmap": False}, target_opset=17), folder / "model.onnx")
    held, kept = slice(2000, None), y[2000:] < 5
    np.savez(folder / "eval.npz", X=x[held][kept], labels=y[held][kept])
    np.savez(folder / "all.npz", X=x[held], labels=y[held])
    np.savez(folder / "answers.npz", eval=fitted.score(x[held][kept], y[held][kept]), all=fitted.score(x[held], y[held]))


def animals(folder: Path) -> None:
    """Classes that are words: `model.onnx` with an output of words, `zipmap.onnx` with maps."""
    import onnx
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    random = np.random.default_rng(2)
    x = random.normal(size=(600, 4)).astype("f4")
    y = np.array(["cat", "dog", "fox"])[(x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int) + (x[:, 3] > 0.7)]
    fitted = RandomForestClassifier(20, max_depth=6, random_state=0).fit(x[:400], y[:400])
    onnx.save(to_onnx(fitted, x[:1], options={"zipmap": False}, target_opset=17), folder / "model.onnx")
    onnx.save(to_onnx(fitted, x[:1], target_opset=17), folder / "zipmap.onnx")
    numbers = np.searchsorted(fitted.classes_, y)
    np.savez(folder / "eval.npz", X=x[400:], labels=numbers[400:])
    np.savez(folder / "words.npz", X=x[400:], labels=y[400:].astype("U"))
    np.savez(folder / "calib.npz", X=x[:100])
    np.savez(folder / "answers.npz", score=fitted.score(x[400:], y[400:]), said=fitted.predict(x[400:]).astype("U"))


def cities(folder: Path) -> None:
    """A table with a column of numbers and one of words, each an input of its own."""
    import onnx
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    random = np.random.default_rng(1)
    age, city = random.normal(40, 10, 600).astype("f4"), random.choice(["Riga", "Oslo", "Łódź"], 600)
    y = ((age > 40) ^ (city == "Oslo")).astype(int)
    table = np.empty((600, 2), object)
    table[:, 0], table[:, 1] = age, city
    columns = ColumnTransformer([("n", StandardScaler(), [0]), ("s", OneHotEncoder(handle_unknown="ignore"), [1])])
    fitted = Pipeline([("c", columns), ("m", LogisticRegression())]).fit(table, y)
    types = [("age", FloatTensorType([None, 1])), ("city", StringTensorType([None, 1]))]
    onnx.save(convert_sklearn(fitted, initial_types=types, options={"zipmap": False}, target_opset=17), folder / "model.onnx")
    np.savez(folder / "eval.npz", age=age[:300, None], city=city[:300, None].astype("U"), labels=y[:300])
    np.savez(folder / "answers.npz", score=fitted.score(table[:300], y[:300]))
