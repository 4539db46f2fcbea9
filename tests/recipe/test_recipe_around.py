"""`serve.features`, `serve.cache` and `serve.log`: what is refused, and what model.json says of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mlpack.core.records import Recipe, Signature, TensorSpec
from mlpack.errors import RecipeError
from mlpack.recipe import reader
from mlpack.recipe.serve import around

if TYPE_CHECKING:
    from pathlib import Path

MATRIX = (TensorSpec(name="x", dtype="float32", shape=("batch", 3)),)
MIXED = (
    *MATRIX,
    TensorSpec(name="visits", dtype="int64", shape=("batch",)),
    TensorSpec(name="plan", dtype="string", shape=("n", 1)),
)
FEATURES: dict[str, Any] = {"table": "customers", "key": "customer", "columns": ["a", "b", "c"]}


def _signature(inputs: tuple[TensorSpec, ...] = MATRIX) -> Signature:
    return Signature(inputs=inputs, outputs=())


def _read(folder: Path, **serve: Any) -> Recipe:
    for name in ("model.onnx", "eval.npz", "calib.npz"):
        (folder / name).touch()
    text = (
        "name: tiny\nsource: {onnx: model.onnx}\ndata: {evaluation: eval.npz, calibration: calib.npz}\n"
        "targets: {lambda-zip: {arch: x86_64, memory_mb: 1769}}\n"
    )
    (folder / "recipe.yaml").write_text(f"{text}serve: {json.dumps(serve)}\n")
    return reader.load(folder / "recipe.yaml")


def test_what_is_left_out_is_filled_in(tmp_path: Path) -> None:
    serve = _read(tmp_path, features=FEATURES, cache={}, log={"to": "s3://logs", "sample": 1}).serve
    assert around.settings(serve, _signature()) == {
        "features": {
            "table": "customers",
            "key": ["customer"],
            "columns": {"x": ["a", "b", "c"]},
            "defaults": {},
            "deadline_ms": 40.0,
        },
        "cache": {"memory_bytes": 32_000_000, "ttl_s": 3600.0},
        "log": {"to": "s3://logs", "sample": 1.0},
    }
    assert around.settings(_read(tmp_path).serve, _signature()) == {}


def test_everything_said_is_in_model_json(tmp_path: Path) -> None:
    features = {
        "table": "arn:aws:dynamodb:eu-central-1:1:table/c",
        "key": ["account", "day"],
        "columns": {"x": ["a", "b", "c"], "visits": "v", "plan": ["p"]},
        "defaults": {"a": 1, "b": None, "v": 3, "p": "basic"},
        "deadline": "15ms",
        "keep": "1min",
        "latency": "4ms",
    }
    (tmp_path / "privacy.py").write_text("def redact(line):\n    return line\n")
    cache = {"memory": "1MiB", "ttl": "90s", "table": "predictions"}
    log = {"to": "firehose://stream", "sample": 0.25, "redact": "privacy:redact"}
    settings = around.settings(_read(tmp_path, features=features, cache=cache, log=log).serve, _signature(MIXED))
    assert settings["features"] == {
        "table": "arn:aws:dynamodb:eu-central-1:1:table/c",
        "key": ["account", "day"],
        "columns": {"x": ["a", "b", "c"], "visits": ["v"], "plan": ["p"]},
        "defaults": {"a": 1, "b": None, "v": 3, "p": "basic"},
        "deadline_ms": 15.0,
        "keep_s": 60.0,
        "latency_ms": 4.0,
    }
    assert settings["cache"] == {"memory_bytes": 1 << 20, "ttl_s": 90.0, "table": "predictions", "deadline_ms": 20.0}
    assert settings["log"] == log
    assert around.modules(settings) == (
        "around", "around.features", "around.prediction_cache", "around.prediction_log", "aws.signed",
    )  # fmt: skip
    assert around.modules({"cache": {"memory_bytes": 1, "ttl_s": 1}}) == ("around", "around.prediction_cache")
    assert around.modules({}) == around.modules(None) == ()


@pytest.mark.parametrize(
    ("serve", "says"),
    [
        ({"features": FEATURES | {"columns": []}}, "serve.features.columns"),
        ({"features": FEATURES | {"columns": ["a", "a", "b"]}}, "'a' is there twice"),
        ({"features": FEATURES | {"columns": {"x": ["a", "customer"]}}}, "'customer' is the key"),
        ({"features": FEATURES | {"key": ["k", "k"]}}, "names one attribute twice"),
        ({"features": FEATURES | {"key": ["a1", "b1", "c1"]}}, "serve.features.key"),
        ({"features": FEATURES | {"defaults": {"bb": 1}}}, "is no column"),
        ({"features": FEATURES | {"defaults": {"a": [1]}}}, "serve.features.defaults.a"),
        ({"features": FEATURES | {"deadline": "0ms"}}, "serve.features.deadline"),
        ({"features": FEATURES | {"deadline": "40"}}, "serve.features.deadline"),
        ({"features": FEATURES | {"tabel": "x"}}, "did you mean 'table'?"),
        ({"features": {"table": "x"}}, "serve.features.key"),
        ({"cache": {"memory": 64}}, "serve.cache.memory"),
        ({"cache": {"deadline": "5ms"}}, "is for a table, and there is none"),
        ({"log": {"to": "gs://bucket", "sample": 1}}, "serve.log.to"),
        ({"log": {"to": "firehose://a/b", "sample": 1}}, "serve.log.to"),
        ({"log": {"to": "s3://bucket", "sample": 1.5}}, "serve.log.sample"),
        ({"log": {"to": "s3://bucket"}}, "serve.log.sample"),
        ({"log": {"to": "s3://bucket", "sample": 1, "redact": "nothing:here"}}, "serve.log.redact"),
    ],
)
def test_keys_that_contradict_themselves_are_refused(tmp_path: Path, serve: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as error:
        _read(tmp_path, **serve)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("features", "inputs", "says"),
    [
        (FEATURES, MIXED, "the model has the inputs x, visits, plan: write"),
        (FEATURES | {"columns": {"y": "a"}}, MATRIX, "the model has no input 'y'"),
        (FEATURES | {"columns": ["a", "b"]}, MATRIX, "2 attributes are named, and the input ['batch', 3] has 3 columns"),
        (FEATURES | {"key": "visits", "columns": {"x": ["a", "b", "c"]}}, MIXED, "'visits' is an input of the model"),
        (FEATURES | {"defaults": {"a": "x"}}, MATRIX, "'x' is no float32"),
        (FEATURES | {"columns": {"visits": "v"}, "defaults": {"v": 1.5}}, MIXED, "1.5 is no int64"),
        (FEATURES | {"columns": {"visits": "v"}, "defaults": {"v": None}}, MIXED, "None is no int64"),
        (FEATURES | {"columns": {"visits": "v"}, "defaults": {"v": True}}, MIXED, "True is no int64"),
        (FEATURES | {"columns": {"plan": "p"}, "defaults": {"p": 1}}, MIXED, "1 is no string"),
        (FEATURES | {"defaults": {"a": 1e39}}, MATRIX, "1e+39 is no float32"),
        (FEATURES | {"defaults": {"a": -1e39}}, MATRIX, "-1e+39 is no float32"),
        (FEATURES | {"columns": {"visits": "v"}, "defaults": {"v": 1 << 63}}, MIXED, "9223372036854775808 is no int64"),
        (
            FEATURES | {"columns": ["a"], "defaults": {"a": -1}},
            (TensorSpec(name="x", dtype="uint8", shape=("n",)),),
            "-1 is no uint8",
        ),
        (
            FEATURES | {"columns": ["a"], "defaults": {"a": 128}},
            (TensorSpec(name="x", dtype="int8", shape=("n",)),),
            "128 is no int8",
        ),
        (FEATURES | {"columns": {"x": "row"}, "defaults": {"row": 1}}, MATRIX, "takes rows of 3"),
        (FEATURES, (TensorSpec(name="x", dtype="float32", shape=("batch", 3, 2)),), "inputs of a batch, or of a batch of rows"),
        (FEATURES, (TensorSpec(name="x", dtype="float32", shape=(8, 3)),), "first axis is fixed at 8"),
        (FEATURES, (TensorSpec(name="x", dtype="complex64", shape=("n", 3)),), "the input is of complex64"),
    ],
)
def test_features_that_the_model_has_no_inputs_for_are_refused(
    tmp_path: Path, features: dict[str, Any], inputs: tuple[TensorSpec, ...], says: str
) -> None:
    with pytest.raises(RecipeError) as error:
        around.settings(_read(tmp_path, features=features).serve, _signature(inputs))
    assert says in str(error.value)
