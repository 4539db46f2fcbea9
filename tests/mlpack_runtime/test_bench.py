from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.support.runtime.tiny_packages import affine, package

from mlpack_runtime.tensor import DATATYPES

if TYPE_CHECKING:
    from pathlib import Path


def write_calls(folder: Path, calls: list[dict[str, Any]]) -> Path:
    """A directory of calls from {"inputs": {name: array}} and {"texts": [...]}, as the measurer writes it."""
    folder.mkdir()
    names = {row[3]: datatype for datatype, row in DATATYPES.items()}
    described, raw = [], b""
    for call in calls:
        if "texts" in call:
            described.append(call)
            continue
        row = {}
        for name, array in call["inputs"].items():
            data = array.tobytes()
            row[name] = {"datatype": names[array.dtype.name], "shape": array.shape, "offset": len(raw), "size": len(data)}
            raw += data
        described.append({"inputs": row})
    (folder / "calls.json").write_text(json.dumps(described))
    (folder / "calls.bin").write_bytes(raw)
    return folder


def bench(root: Path, calls: Path, *commands: Any, status: int = 0) -> list[dict[str, Any]]:
    lines = "".join((command if isinstance(command, str) else json.dumps(command)) + "\n" for command in commands)
    run = subprocess.run(
        [sys.executable, "-I", "-S", str(root / "bootstrap.py"), "bench", str(calls)],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == status, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def pixels(seed: int, batch: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {"inputs": {"pixels": random.normal(size=(batch, 4)).astype(np.float32), "marks": random.integers(0, 9, batch)}}


def test_bench_answers_every_operation(tiny: Path, tmp_path: Path) -> None:
    calls = write_calls(tmp_path / "calls", [pixels(seed, 3) for seed in range(4)])
    load, first, latency, throughput, predicted, memory, quitted = bench(
        tiny,
        calls,
        {"op": "load"},
        {"op": "first", "call": 1},
        {"op": "latency", "calls": [0, 1, 2], "repeat": 5},
        {"op": "throughput", "calls": [0, 1], "seconds": 0.05},
        {"op": "predict", "calls": [1, 3], "out": str(tmp_path / "out")},
        {"op": "memory"},
        {"op": "quit"},
        {"op": "never read"},
    )
    assert load["load_ms"] > 0
    assert load["import_ms"] > 0
    assert load["threads"] == 1
    assert {"engine", "session"} <= load["stages_ms"].keys()
    assert first["ns"] > 0
    assert len(latency["samples_ns"]) == 15
    assert throughput["rows"] == 3 * throughput["calls"] > 0
    assert throughput["seconds"] >= 0.05
    assert predicted == {"calls": 2}
    assert memory["peak_rss_bytes"] > 10_000_000
    assert quitted == {}


def test_bench_predictions_equal_the_python_api_bit_for_bit(tiny: Path, tmp_path: Path) -> None:
    import onnxruntime

    sent = [pixels(seed, seed + 1) for seed in range(5)]
    bench(tiny, write_calls(tmp_path / "c", sent), {"op": "load"}, {"op": "predict", "calls": [0, 5], "out": str(tmp_path / "out")})
    described, raw = json.loads((tmp_path / "out.json").read_text()), (tmp_path / "out.bin").read_bytes()
    session = onnxruntime.InferenceSession(str(tiny / "model/model.onnx"), providers=["CPUExecutionProvider"])
    for call, row in zip(sent, described, strict=True):
        for port, expected in zip(session.get_outputs(), session.run(None, call["inputs"]), strict=True):
            place = row[port.name]
            assert place["shape"] == list(expected.shape)
            assert raw[place["offset"] : place["offset"] + place["size"]] == expected.tobytes()
    assert len(raw) == sum(place["size"] for row in described for place in row.values())


def test_bench_texts_are_tokenised_inside_what_is_measured(texts: Path, tmp_path: Path) -> None:
    calls = write_calls(tmp_path / "calls", [{"texts": ["the cat"]}, {"texts": ["a dog", "sat on"]}])
    *_, throughput, predicted = bench(
        texts,
        calls,
        {"op": "load"},
        {"op": "throughput", "calls": [1], "seconds": 0.01},
        {"op": "predict", "calls": [0, 2], "out": str(tmp_path / "out")},
    )
    assert throughput["rows"] == 2 * throughput["calls"]
    assert predicted == {"calls": 2}
    assert [row["embedding"]["shape"] for row in json.loads((tmp_path / "out.json").read_text())] == [[1, 5], [2, 5]]


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        (["{"], ""),
        ([{"op": "latency", "calls": [0]}], 'must be {"op": "load"}'),
        ([{"op": "dance"}], "'dance' is not one of load"),
        ([{"op": "load"}, {"op": "first", "call": 9}], "call 9 is not one of 0..0"),
        ([{"op": "load"}, {"op": "first"}], "call"),
        ([{"op": "load"}, {"op": "throughput", "calls": [], "seconds": 1}], "at least one call"),
        ([{"op": "load"}, {"op": "predict", "calls": [0, 1], "out": "/nowhere/at/all"}], "No such file"),
    ],
)
def test_bench_failure_is_one_line_and_status_3(tiny: Path, tmp_path: Path, commands: list[Any], message: str) -> None:
    *_, last = bench(tiny, write_calls(tmp_path / "calls", [pixels(0, 1)]), *commands, status=3)
    assert message in last["error"]["message"]
    assert last["error"]["type"]


def test_bench_calls_that_do_not_fit_are_status_3(tiny: Path, tmp_path: Path) -> None:
    wrong = {"inputs": {"pixels": np.zeros((1, 4)), "marks": np.zeros(1, np.int64)}}
    *_, last = bench(tiny, write_calls(tmp_path / "a", [wrong]), {"op": "load"}, {"op": "first", "call": 0}, status=3)
    assert "'pixels' is FP32, not FP64" in last["error"]["message"]
    short = write_calls(tmp_path / "b", [pixels(0, 1)])
    (short / "calls.bin").write_bytes(b"abc")
    *_, last = bench(tiny, short, {"op": "load"}, {"op": "first", "call": 0}, status=3)
    assert "16 bytes, not 3" in last["error"]["message"]
    (last,) = bench(tiny, tmp_path / "nowhere", {"op": "load"}, status=3)
    assert last["error"]["type"] == "FileNotFoundError"


def test_bench_counts_what_hooks_import_into_a_start(tmp_path: Path) -> None:
    root = package(tmp_path / "hooked", affine, postprocess="slow_hook:best", preload=["slow_module"])
    (root / "app/slow_hook.py").write_text("import time\ntime.sleep(0.1)\ndef best(outputs):\n    return {}\n")
    (root / "site/slow_module.py").write_text("import time\ntime.sleep(0.1)\n")
    calls = write_calls(tmp_path / "calls", [pixels(0, 1)])
    (load,) = bench(root, calls, {"op": "load"})
    assert load["load_ms"] >= 200
    (root / "app/slow_hook.py").write_text("import absent\n")
    (failed,) = bench(root, calls, {"op": "load"}, status=3)
    assert "hook 'slow_hook:best' cannot be imported" in json.dumps(failed)
