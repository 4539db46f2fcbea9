"""Packages whose weights lie outside: in an S3 under Lambda's emulator, and at a server that is slow, damaged, or there when the
process is killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from tests.support.runtime.tiny_packages import package, save
from tests.support.runtime.weight_servers import WeightServer, outside
from tests.support.runtime.workers import Process
from tests.support.services.aws_server import AwsServer
from tests.support.serving.entrances import _free_port, _invoke, _wait
from tools import parts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PART = 64 << 10
ASK = {"inputs": {"x": [[1.0] * 512]}}


def large(path: Path) -> Path:
    """y[batch, 512] = x[batch, 512] @ w, whose weights are 1 MB."""
    import numpy as np
    from onnx import TensorProto, helper

    weights = {"w": np.random.default_rng(3).normal(size=(512, 512)).astype(np.float32)}
    given, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 512]) for name in ("x", "y"))
    return save(path, [helper.make_node("MatMul", ["x", "w"], ["y"])], [given], [result], weights)


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the package answers with its weights in it."""
    root = package(tmp_path_factory.mktemp("inside") / "package", large, target="container", worker={"port": 0})
    process = Process(root, entrance="serve").ready()
    try:
        return process.http("POST", "/", ASK)[1]["outputs"]
    finally:
        process.end()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """The same package without them, and them."""
    root = package(tmp_path_factory.mktemp("outside") / "package", large, target="container", worker={"port": 0})
    return root, outside(root, PART)


@pytest.fixture
def server(built: tuple[Path, bytes]) -> Iterator[WeightServer]:
    _, data = built
    one = WeightServer({f"/{hashlib.sha256(data).hexdigest()}": data})
    yield one
    one.close()


def test_a_function_reads_its_weights_from_s3(
    built: tuple[Path, bytes], inside: Any, aws: AwsServer, rie: Path, tmp_path: Path
) -> None:
    root, data = built
    client = _client(aws)
    client.create_bucket(Bucket="weights", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    client.put_object(Bucket="weights", Key=f"models/{hashlib.sha256(data).hexdigest()}", Body=data)
    told = {"MLPACK_WEIGHTS": "s3://weights/models", "MLPACK_WEIGHTS_CACHE": str(tmp_path)}
    for turn in range(2):
        aws.clear_log()
        answer, log = _asked_under(rie, root, {**aws.environment, **told})
        assert answer["outputs"] == inside
        line = next(json.loads(text) for text in log.splitlines() if '"load_weights"' in text)
        gets = [one for one in aws.log() if one.service == "s3"]
        assert len(gets) == (0 if turn else -(-len(data) // PART)), "the second start reads its cache"
        assert line["stages_ms"]["load_weights"] >= 0
    elsewhere = {"MLPACK_WEIGHTS": "s3://weights/none", "MLPACK_WEIGHTS_CACHE": "memory"}
    refused, log = _asked_under(rie, root, {**aws.environment, **elsewhere})
    assert "nothing is there under the weights' digest" in json.dumps(refused) + log
    assert "aws s3 cp weights/" in json.dumps(refused) + log


@pytest.mark.parametrize("prefix", ["models", "modèle é/ü", "a+b c%20d/it's"])
def test_a_store_that_is_not_amazons(built: tuple[Path, bytes], inside: Any, tmp_path: Path, prefix: str) -> None:
    """rclone's S3 checks signatures, and gives a part of an object with status 200."""
    root, data = built
    folder = tmp_path / "s3/weights" / prefix
    folder.mkdir(parents=True)
    (folder / hashlib.sha256(data).hexdigest()).write_bytes(data)
    port = _free_port()
    command = [
        parts.rclone(),
        "serve",
        "s3",
        "--config",
        "/dev/null",
        "--auth-key",
        "ACCESSKEY,SECRET",
        "--addr",
        f"127.0.0.1:{port}",
    ]
    store = subprocess.Popen([*command, tmp_path / "s3"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, store)
        environment = {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "ACCESSKEY",
            "AWS_SECRET_ACCESS_KEY": "SECRET",
            "AWS_REGION": "eu-central-1",
        }
        settings = {"weights": f"s3://weights/{prefix}", "weights_cache": tmp_path}
        process = Process(root, environment, entrance="serve", **settings).ready()
        try:
            assert process.http("POST", "/", ASK)[1]["outputs"] == inside
        finally:
            assert process.end() == 0
    finally:
        store.kill()
        store.wait()


def test_killed_while_it_fetches(built: tuple[Path, bytes], inside: Any, server: WeightServer, tmp_path: Path) -> None:
    """Liveness is answered meanwhile, what is there after kill -9 is kept, and only the rest is fetched."""
    root, data = built
    number = -(-len(data) // PART)

    killed = threading.Event()

    def slowly(_first: int, _size: int) -> None:
        if len(server.asked) > 8:
            killed.wait(60)

    server.instead = slowly
    settings = {"weights": server.address, "weights_cache": tmp_path, "weights_connections": 2}
    port = _free_port()
    first = Process(root, entrance="serve", **{**settings, "port": port})
    _until(lambda: len(server.asked) > 8)
    assert _status(port, "/v2/health/live") == 200
    assert _status(port, "/v2/health/ready") == 503
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    killed.set()
    assert not (tmp_path / "mlpack-weights" / hashlib.sha256(data).hexdigest()).exists()
    before = Counter(server.asked)
    server.asked.clear()
    server.instead = lambda _first, _size: None
    second = Process(root, entrance="serve", **settings).ready()
    try:
        assert second.http("POST", "/", ASK)[1]["outputs"] == inside
    finally:
        assert second.end() == 0
    # What was under way when it was killed is asked for again, no more: two connections have two parts.
    assert number - len(before) <= len(server.asked) <= number - len(before) + 2
    assert len(before) > 4


def test_damaged_ranges_are_fetched_again_alone(
    built: tuple[Path, bytes], inside: Any, server: WeightServer, tmp_path: Path
) -> None:
    root, data = built
    wrong = {PART * index: list(kinds) for index, kinds in {1: ["flip"], 5: ["break", "flip"], 9: ["busy", "busy"]}.items()}

    def damaged(first: int, size: int) -> tuple[int, bytes] | None:
        kinds = wrong.get(first)
        kind = kinds.pop(0) if kinds else ""
        body = bytes(size)
        return {"flip": (206, body), "break": (0, body[:100]), "busy": (503, b"slow down")}.get(kind)

    server.instead = damaged
    process = Process(root, entrance="serve", weights=server.address, weights_cache=tmp_path).ready()
    try:
        assert process.http("POST", "/", ASK)[1]["outputs"] == inside
    finally:
        assert process.end() == 0
    asked = Counter(first for first, _ in server.asked)
    assert asked == {first: 1 + {1: 1, 5: 2, 9: 2}.get(first // PART, 0) for first in range(0, len(data), PART)}


def _client(aws: AwsServer) -> Any:
    told = aws.environment
    return boto3.client(
        "s3",
        endpoint_url=aws.endpoint,
        region_name="eu-central-1",
        aws_access_key_id=told["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"],
    )


def _asked_under(rie: Path, root: Path, environment: dict[str, str]) -> tuple[Any, str]:
    """The answer of a function under the emulator, and its log."""
    port, api_port = _free_port(), _free_port()
    addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{api_port}"]
    told = {"PATH": os.environ["PATH"], "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769", **environment}
    command = [rie, *addresses, sys.executable, "-I", "-S", str(root / "bootstrap.py")]
    process = subprocess.Popen(command, cwd="/", env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        _wait(port, process)  # type: ignore[arg-type]
        answer = _invoke(port, ASK)
    finally:
        process.terminate()
        log, _ = process.communicate(timeout=60)
    return answer, log


def _until(done: Any) -> None:
    for _ in range(6000):
        if done():
            return
        time.sleep(0.01)
    raise AssertionError("it took more than 60 seconds")


def _status(port: int, path: str) -> int:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()
