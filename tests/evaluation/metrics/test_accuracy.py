from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlpack.core.records import Accuracy, MetricSpec
from mlpack.errors import MeasureError, MlpackError, RecipeError
from mlpack.evaluation.data.calls import to_bytes
from mlpack.evaluation.metrics.accuracy import AccuracyJudge, read_outputs


def written(prefix: Path, outputs: list[np.ndarray]) -> Path:
    """Outputs in the two files that a package's bench writes."""
    rows, data = [], b""
    for array in outputs:
        rows.append({"y": {"datatype": "FP32", "shape": list(array.shape), "offset": len(data), "size": array.nbytes}})
        data += array.astype("float32").tobytes()
    Path(f"{prefix}.json").write_text(json.dumps(rows))
    Path(f"{prefix}.bin").write_bytes(data)
    return prefix


def one_hot(classes: list[int]) -> list[np.ndarray]:
    return [np.eye(4, dtype="float32")[[label]] for label in classes]


def judge(labels: tuple[int, ...] | None, metric: str = "top1") -> AccuracyJudge:
    def no_hook(_reference: str) -> object:
        raise AssertionError("no hook was named")

    return AccuracyJudge(metric=MetricSpec(name=metric), labels=labels, isa="avx2", load_hook=no_hook)  # type: ignore[arg-type]


def test_outputs_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    arrays = [np.arange(6, dtype="float32").reshape(2, 3), np.zeros((1, 3), "float32")]
    for call, array in zip(read_outputs(written(tmp_path / "o", arrays)), arrays, strict=True):
        np.testing.assert_array_equal(call["y"], array)


def test_drop_is_baseline_minus_candidate_on_the_same_samples(tmp_path: Path) -> None:
    labels = tuple(index % 4 for index in range(40))
    right = written(tmp_path / "right", one_hot(list(labels)))
    wrong = written(tmp_path / "wrong", one_hot([(label + (index < 10)) % 4 for index, label in enumerate(labels)]))
    found = judge(labels).accuracies({"float": right, "int8": wrong}, "float")
    assert isinstance(found["int8"], Accuracy)
    assert (found["int8"].value, found["int8"].drop, found["int8"].n) == (0.75, 0.25, 40)
    assert found["int8"].isa == "avx2"
    assert found["int8"].ci_low < 0.25 < found["int8"].ci_high
    assert isinstance(found["float"], Accuracy)
    assert (found["float"].drop, found["float"].ci_low, found["float"].ci_high) == (0.0, 0.0, 0.0)


def test_without_labels_the_float_baseline_is_the_measure(tmp_path: Path) -> None:
    base = written(tmp_path / "base", one_hot([0, 1, 2, 3]))
    other = written(tmp_path / "other", one_hot([0, 1, 2, 0]))
    found = judge(None, "agreement").accuracies({"float": base, "int8": other}, "float")
    assert isinstance(found["int8"], Accuracy)
    assert found["int8"].compared_with == "float baseline"
    assert found["int8"].value == 0.75


def test_a_model_that_gives_nan_fails_alone(tmp_path: Path) -> None:
    base = written(tmp_path / "base", one_hot([0, 1]))
    broken = written(tmp_path / "broken", [np.full((1, 4), np.nan, "float32")] * 2)
    found = judge((0, 1)).accuracies({"float": base, "int8": broken, "fp16": base}, "float")
    assert isinstance(found["int8"], MeasureError)
    assert isinstance(found["float"], Accuracy)
    assert isinstance(found["fp16"], Accuracy)


def test_accuracy_says_which_column_was_read_from_where_up(tmp_path: Path) -> None:
    scores = np.array([[0.2, 0.8], [0.35, 0.65], [0.9, 0.1], [0.1, 0.9]], np.float32)
    base = written(tmp_path / "base", [scores])
    sure = replace(judge((1, 0, 0, 1)), metric=MetricSpec(name="top1", threshold=0.7))
    (found,) = sure.accuracies({"float": base}, "float").values()
    assert isinstance(found, Accuracy)
    assert (found.value, found.column, found.threshold) == (1.0, 1, 0.7)


def test_strings_are_read_back_from_behind_other_outputs(tmp_path: Path) -> None:
    labels = np.array(["a", "bcd"], object)
    strings = to_bytes(labels)
    described = {
        "y": {"datatype": "FP32", "shape": [1], "offset": 0, "size": 4},
        "label": {"datatype": "BYTES", "shape": [2, 1], "offset": 4, "size": len(strings)},
        "last": {"datatype": "INT64", "shape": [2], "offset": 4 + len(strings), "size": 16},
    }
    (tmp_path / "o.json").write_text(json.dumps([described]))
    (tmp_path / "o.bin").write_bytes(np.float32(1.5).tobytes() + strings + np.array([7, 8], np.int64).tobytes())
    (call,) = read_outputs(tmp_path / "o")
    assert {name: array.tolist() for name, array in call.items()} == {"y": [1.5], "label": [["a"], ["bcd"]], "last": [7, 8]}


def test_no_calls_are_our_error_also_where_outputs_are_drawn(tmp_path: Path) -> None:
    none = written(tmp_path / "none", [])
    for drawn in ((), ("y",)):
        with pytest.raises(MlpackError):
            replace(judge(None, "fidelity"), drawn=drawn).accuracies({"float": none}, "float")


def test_labels_that_are_missing_are_the_recipes_fault(tmp_path: Path) -> None:
    base = written(tmp_path / "base", one_hot([0, 1]))
    with pytest.raises(RecipeError, match="labels"):
        judge(None).accuracies({"float": base}, "float")


def test_outputs_drawn_at_random_are_left_out_and_said(tmp_path: Path) -> None:
    def both(path: Path, seed: int) -> Path:
        rows, data = [], b""
        for index in range(20):
            row = {}
            sampled = np.random.default_rng(seed + index).normal(size=(1, 3))
            for name, array in (("mean", np.full((1, 3), index)), ("sampled", sampled)):
                row[name] = {"datatype": "FP32", "shape": [1, 3], "offset": len(data), "size": 12}
                data += array.astype("float32").tobytes()
            rows.append(row)
        Path(f"{path}.json").write_text(json.dumps(rows))
        Path(f"{path}.bin").write_bytes(data)
        return path

    predictions = {"float": both(tmp_path / "a", 1), "int8": both(tmp_path / "b", 100)}
    drawn = replace(judge(None, "fidelity"), drawn=("sampled",))
    found = drawn.accuracies(predictions, "float")["int8"]
    assert isinstance(found, Accuracy)
    assert (found.value, found.output) == (1.0, "mean")
    assert found.unjudged is not None
    assert "sampled cannot be judged: the graph draws random numbers" in found.unjudged
    everything = replace(drawn, drawn=("sampled", "mean")).accuracies(predictions, "float")["int8"]
    assert isinstance(everything, Accuracy)
    assert everything.value < 0.5
    assert "says little" in (everything.unjudged or "")
