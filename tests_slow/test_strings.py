"""Strings in and out of a real model, a pipeline of columns of words, wherever packages are served: by a worker's own process,
through the front door and its queue, and in a Lambda image that podman boots under the emulator. In JSON and in binary."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import struct
import zipfile
from base64 import b64decode, b64encode
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.models import classical_zoo
from tests.support.models.estimators import evaluation_dir, sklearn_dir
from tests.support.runtime.front_doors import event
from tests.support.runtime.tiny_packages import package
from tests.support.runtime.workers import Place, Process, add_botocore, place
from tests.support.small_packages import HERE, packed
from tests_slow.conftest import MakeRuntime, program
from tests_slow.test_frontdoor_boot import Function

from mlpack.graphs import files
from mlpack.oci.base import Base
from mlpack.passes import convert
from mlpack.passes.convert import Convert
from mlpack.targets import LambdaImage
from mlpack.targets.format import frontdoor
from mlpack.targets.format.contents import Contents
from mlpack.targets.shipped import boot

__all__ = ["place"]

LENGTH = "inference-header-content-length"


class Asked:
    """The model's directory, a request of some rows, and what the estimator says to them."""

    def __init__(self, folder: Path) -> None:
        (folder / "place").mkdir()
        fit = classical_zoo._module(classical_zoo._columns(folder / "place", folder).parent)
        numbers, shade, note, names = fit.table()
        source = sklearn_dir(folder / "source", classical_zoo._COLUMNS, {"numbers": numbers, "shade": shade, "note": note})
        self.model = folder / "model"
        self.model.mkdir()
        data = evaluation_dir(folder / "data", {"numbers": numbers, "shade": shade, "note": note}, 60)
        convert.run(source, Convert(evaluation=data), self.model)
        (self.model / "engine.json").write_text(json.dumps({"graph_optimization_level": 1, "session": {}}))
        missing = np.isnan(numbers).any(axis=1)
        rows = [np.flatnonzero(missing & (names == "barolo"))[0]]
        rows += [np.flatnonzero(~missing & (names == name))[0] for name in ("grignolino", "barbera")]
        self.columns = {"numbers": numbers[rows], "shade": shade[rows], "note": note[rows]}
        made = fit.fitted()
        given = fit.columns(*self.columns.values())
        self.label = [str(each) for each in made.predict(given)]
        self.probabilities = made.predict_proba(given)

    def without_missing(self) -> Asked:
        """The same of the rows that miss nothing: a message is JSON, which has no NaN."""
        made = copy(self)
        made.columns = {name: array[1:] for name, array in self.columns.items()}
        made.label, made.probabilities = self.label[1:], self.probabilities[1:]
        return made

    @property
    def ports(self) -> dict[str, Any]:
        said = json.loads((self.model / "signature.json").read_bytes())
        return {"inputs": said["inputs"], "outputs": said["outputs"]}

    def request(self) -> dict[str, Any]:
        """As JSON; a missing number is null."""
        rows = []
        for name, array in self.columns.items():
            kind = "FP32" if array.dtype.kind == "f" else "BYTES"
            values = [None if kind == "FP32" and np.isnan(each) else each for each in array.ravel().tolist()]
            rows.append({"name": name, "datatype": kind, "shape": list(array.shape), "data": values})
        return {"inputs": rows}

    def binary(self) -> tuple[bytes, int]:
        """The same as binary tensors, and how long the JSON before them is."""
        rows, tensors = [], b""
        for name, array in self.columns.items():
            words = [each.encode() for each in array.ravel().tolist()] if array.dtype.kind != "f" else []
            data = b"".join(struct.pack("<I", len(word)) + word for word in words) if words else array.astype("<f4").tobytes()
            kind = "BYTES" if words else "FP32"
            rows.append({"name": name, "datatype": kind, "shape": list(array.shape), "parameters": {"binary_data_size": len(data)}})
            tensors += data
        head = json.dumps({"inputs": rows, "parameters": {"binary_data_output": True}}).encode()
        return head + tensors, len(head)

    def holds(self, outputs: Any) -> None:
        """Whether an answer's outputs, as JSON has them, are the estimator's."""
        found = {each["name"]: each for each in outputs}
        assert found["label"]["datatype"] == "BYTES"
        assert found["label"]["data"] == self.label
        np.testing.assert_allclose(found["probabilities"]["data"], self.probabilities.ravel(), atol=1e-5)

    def holds_binary(self, body: bytes, length: int) -> None:
        """The same of a binary answer, whose JSON is so long."""
        at, said = length, {}
        for each in json.loads(body[:length])["outputs"]:
            size = each["parameters"]["binary_data_size"]
            said[each["name"]] = (each["datatype"], body[at : at + size])
            at += size
        assert at == len(body)
        kind, data = said["label"]
        words = []
        while data:
            (size,) = struct.unpack_from("<I", data)
            words.append(data[4 : 4 + size].decode())
            data = data[4 + size :]
        assert (kind, words) == ("BYTES", self.label)
        np.testing.assert_allclose(np.frombuffer(said["probabilities"][1], "<f4"), self.probabilities.ravel(), atol=1e-5)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked(tmp_path_factory.mktemp("strings"))


@pytest.fixture(scope="module")
def root(asked: Asked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A worker's package."""

    def graph(path: Path) -> Path:
        return Path(shutil.copyfile(asked.model / "model.onnx", path))

    where = tmp_path_factory.mktemp("worker") / "package"
    return add_botocore(package(where, graph, target="cpu-worker", worker={"max_batch": 4}, **asked.ports))


def test_a_workers_own_process(asked: Asked, root: Path) -> None:
    worker = Process(root).ready()
    status, answer = worker.http("POST", "/v2/models/tiny/infer", asked.request())
    assert status == 200, answer
    asked.holds(answer["outputs"])
    plain = {name: [[None if one != one else one for one in row] for row in a.tolist()] for name, a in asked.columns.items()}
    assert worker.http("POST", "/infer", {"inputs": plain})[0] == 200

    body, length = asked.binary()
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=60)
    connection.request("POST", "/v2/models/tiny/infer", body, {LENGTH: str(length), "content-type": "application/octet-stream"})
    found = connection.getresponse()
    raw = found.read()
    connection.close()
    assert found.status == 200, raw[:500]
    asked.holds_binary(raw, int(found.headers[LENGTH]))

    refused = asked.request()
    refused["inputs"][1]["data"][0] = "cut\0here"
    assert worker.http("POST", "/v2/models/tiny/infer", refused)[0] in (400, 422)
    assert worker.end() == 0


def test_the_front_door_and_its_queue(asked: Asked, root: Path, place: Place, tmp_path: Path) -> None:
    frontdoor.write_zip(Contents(runtime=root, model=root, code=root, labels={}), tmp_path / "frontdoor.zip")
    with zipfile.ZipFile(tmp_path / "frontdoor.zip") as archive:
        archive.extractall(tmp_path / "task")
    settings = {"MLPACK_QUEUE_URL": place.url, "MLPACK_RESULTS": "s3://results/answers", "MLPACK_DEADLINE_MS": "20000"}
    function = Function(tmp_path / "task", {"PATH": os.environ["PATH"], **place.aws.environment, **settings})
    worker = place.worker(root).ready()
    try:
        answer = function(event(asked.request(), **{"x-request-id": "json"}))
        assert answer["statusCode"] == 200, answer
        asked.holds(json.loads(answer["body"])["outputs"])

        whole = asked.without_missing()
        body, length = whole.binary()
        heads = {LENGTH: str(length), "x-request-id": "binary"}
        answer = function(event(b64encode(body).decode(), **heads) | {"isBase64Encoded": True})
        assert answer["statusCode"] == 200, answer
        said = b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"].encode()
        heads = {name.lower(): value for name, value in answer["headers"].items()}
        if LENGTH in heads:
            whole.holds_binary(said, int(heads[LENGTH]))
        else:
            whole.holds(json.loads(said)["outputs"])
    finally:
        function.end()
        assert worker.end() == 0


@pytest.mark.parametrize("form", ["json", "binary"])
def test_a_lambda_image_under_the_emulator(
    form: str, asked: Asked, make_runtime: MakeRuntime, base: Base, rie: Path, test_cache: Path, tmp_path: Path
) -> None:
    config = LambdaImage(arch=HERE)
    given = {"python": "3.11", "base": base, "cache_dir": test_cache / "oci", "model_dir": asked.model}
    artifact, _ = packed(tmp_path, config, make_runtime(config, "3.11"), sample=asked.request(), **given)
    said = event(asked.request())
    if form == "binary":
        body, length = asked.binary()
        said = event(b64encode(body).decode(), **{LENGTH: str(length)}) | {"isBase64Encoded": True}
    booted = boot(artifact, json.dumps(said).encode(), rie=rie, podman=program("podman"))
    assert "under the Lambda emulator" in booted.how
    answer = booted.answer
    assert answer["statusCode"] == 200, answer
    if form == "json":
        asked.holds(json.loads(answer["body"])["outputs"])
        return
    assert answer["isBase64Encoded"] is True
    heads = {name.lower(): value for name, value in answer["headers"].items()}
    asked.holds_binary(b64decode(answer["body"]), int(heads[LENGTH]))


def test_what_is_served_is_what_was_converted(asked: Asked) -> None:
    """The other tests would be of little worth with numbers alone."""
    ports = files.read_signature(asked.model)
    assert [spec.dtype for spec in ports.inputs] == ["float32", "string", "string"]
    assert ports.outputs[0].dtype == "string"
