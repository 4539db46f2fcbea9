"""The front door's zip before a real worker: two packages of one build, and nothing between them but the queue and the bucket."""

from __future__ import annotations

import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.front_doors import event
from tests.support.runtime.tiny_packages import affine, package
from tests.support.runtime.workers import Place, Process, add_botocore, place
from tests_slow.test_frontdoor_boot import Function

from mlpack.targets.format import frontdoor
from mlpack.targets.format.contents import Contents

__all__ = ["place"]

PORTS = {
    "inputs": [
        {"name": "pixels", "dtype": "float32", "shape": ["batch", 4]},
        {"name": "marks", "dtype": "int64", "shape": ["batch"]},
    ],
    "outputs": [{"name": "scores", "dtype": "float32", "shape": ["batch", 3]}, {"name": "count", "dtype": "int64", "shape": []}],
}
REQUEST = {
    "inputs": [
        {"name": "pixels", "datatype": "FP32", "shape": [1, 4], "data": [0.5, 1, -2, 3]},
        {"name": "marks", "datatype": "INT64", "shape": [1], "data": [7]},
    ]
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A worker's package."""
    made = package(tmp_path_factory.mktemp("worker") / "package", affine, target="cpu-worker", worker={"max_batch": 4}, **PORTS)
    return add_botocore(made)


@pytest.fixture
def function(root: Path, place: Place, tmp_path: Path) -> Iterator[Function]:
    """The front door of that package, as its zip has it."""
    frontdoor.write_zip(Contents(runtime=root, model=root, code=root, labels={}), tmp_path / "frontdoor.zip")
    with zipfile.ZipFile(tmp_path / "frontdoor.zip") as archive:
        archive.extractall(tmp_path / "task")
    assert not (tmp_path / "task/model/model.onnx").exists()
    settings = {"MLPACK_QUEUE_URL": place.url, "MLPACK_RESULTS": "s3://results/answers", "MLPACK_DEADLINE_MS": "20000"}
    made = Function(tmp_path / "task", {"PATH": os.environ["PATH"], **place.aws.environment, **settings})
    yield made
    made.end()


def scores(answer: Any) -> list[float]:
    return list(next(one["data"] for one in json.loads(answer["body"])["outputs"] if one["name"] == "scores"))


def test_a_request_is_checked_queued_computed_and_answered(root: Path, place: Place, function: Function) -> None:
    worker = place.worker(root).ready()
    direct = Process(root).ready()
    status, own = direct.http("POST", "/v2/models/tiny/infer", REQUEST)
    assert status == 200
    assert direct.end() == 0
    wanted = next(one["data"] for one in own["outputs"] if one["name"] == "scores")

    answer = function(event(REQUEST, **{"x-trace-id": "edge-to-model", "x-request-id": "first"}))
    assert answer["statusCode"] == 200, answer
    assert scores(answer) == wanted
    assert answer["headers"]["x-trace-id"] == "edge-to-model"
    again = function(event(REQUEST, **{"x-request-id": "first"}))
    assert scores(again) == wanted

    ticket = function(event(REQUEST, prefer="respond-async"))
    assert ticket["statusCode"] == 202
    href, until = json.loads(ticket["body"])["href"], time.monotonic() + 60
    while (later := function(event(method="GET", path=href)))["statusCode"] == 202 and time.monotonic() < until:
        time.sleep(0.05)
    assert later["statusCode"] == 200
    assert scores(later) == wanted

    wrong = {"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
    assert function(event(wrong))["statusCode"] == 400
    assert worker.end() == 0
    lines = [line for line in worker.answers if line["status"] == 200]
    assert len(lines) == 2  # the second with that id was not computed again, the wrong one never left the door
    assert lines[0]["trace_id"] == "edge-to-model"
    assert place.counts() == (0, 0)
    assert place.dead() == []
