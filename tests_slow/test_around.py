"""Features, a cache and a log of predictions around packages that really run: a function under AWS's emulator, a container and a
worker, whose ends come at any moment.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.around_services import create_tables
from tests.support.runtime.tiny_packages import affine, package
from tests.support.runtime.workers import Process, until
from tests.support.services.aws_server import REGION, AwsServer, Fault, aws_server
from tests.support.serving.entrances import function
from tests.support.serving.gateway import FORMS

__all__ = ["aws_server"]

INFER = "/v2/models/tiny/infer"
COLUMNS = {"pixels": ["a", "b", "c", "d"], "marks": ["visits"]}
DEFAULTS = dict.fromkeys(("a", "b", "c", "d", "visits"), 0)
AROUND: dict[str, Any] = {
    "features": {"table": "customers", "key": ["customer"], "columns": COLUMNS, "defaults": DEFAULTS, "deadline_ms": 60_000},
    "cache": {"memory_bytes": 1 << 20, "ttl_s": 600, "table": "predictions", "deadline_ms": 60_000},
    "log": {"to": "s3://logs/predictions", "sample": 1.0},
}
ITEM = {"customer": {"S": "7"}, "a": {"N": "1"}, "b": {"N": "2"}, "c": {"N": "3"}, "d": {"N": "4"}, "visits": {"N": "5"}}
WHOLE = {"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [5]}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with all three, which has no botocore."""
    told = {"max_batch": 4, "max_wait_ms": 1, "port": 8080, "concurrency": 0, "lame_duck_s": 0.0}
    return package(tmp_path_factory.mktemp("around") / "package", affine, target="container", worker=told, around=AROUND)


@pytest.fixture
def place(aws_server: AwsServer) -> Iterator[Any]:
    """The tables and the bucket of the settings, empty but for customer 7; gives clients."""
    aws_server.reset()
    s3, dynamodb = aws_server.client("s3"), aws_server.client("dynamodb")
    s3.create_bucket(Bucket="logs", CreateBucketConfiguration={"LocationConstraint": REGION})
    create_tables(dynamodb, ITEM)
    yield s3, dynamodb
    s3.close()
    dynamodb.close()


def _environment(aws_server: AwsServer) -> dict[str, str]:
    return {**aws_server.environment, "AWS_REGION": REGION}


def _lines(s3: Any) -> list[dict[str, Any]]:
    names = [row["Key"] for row in s3.list_objects_v2(Bucket="logs").get("Contents", [])]
    return [json.loads(line) for name in names for line in s3.get_object(Bucket="logs", Key=name)["Body"].read().splitlines()]


def _scores(answer: Any) -> list[float]:
    (scores,) = (row["data"] for row in answer["outputs"] if row["name"] == "scores")
    return list(scores)


def test_a_function_logs_before_it_is_frozen(root: Path, rie: Path, aws_server: AwsServer, place: Any) -> None:
    s3, _ = place
    with function(next(iter(FORMS)), root, rie, _environment(aws_server)) as port:
        answers = []
        for number, body in enumerate(({"customer": "7"}, WHOLE, {"customer": ["7", "9"]}), 1):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", INFER, json.dumps(body), {"traceparent": f"00-{number:032x}-00f067aa0ba902b7-01"})
            answer = connection.getresponse()
            assert answer.status == 200
            answers.append((answer.headers["x-prediction-cache"], json.loads(answer.read())))
            connection.close()
            # The emulator takes the answer before the function asks for the next event: the log is sent between the two.
            assert until(lambda number=number: len(_lines(s3)) == number, f"line {number} is in the bucket")  # type: ignore[misc]
    assert [cached for cached, _ in answers] == ["miss", "hit", "miss"]
    assert _scores(answers[0][1]) == _scores(answers[1][1]) == _scores(answers[2][1])[:3]
    lines = sorted(_lines(s3), key=lambda line: line["trace_id"])
    assert [line["trace_id"] for line in lines] == [f"{number:032x}" for number in (1, 2, 3)]
    assert [line["request"] for line in lines] == [{"customer": "7"}, WHOLE, {"customer": ["7", "9"]}]
    assert {request.operation for request in aws_server.log("dynamodb")} >= {"BatchGetItem", "GetItem", "PutItem"}


@pytest.mark.parametrize("entrance", ["serve", "worker"])
def test_a_process_that_is_told_to_end_sends_its_log(root: Path, aws_server: AwsServer, place: Any, entrance: str) -> None:
    s3, dynamodb = place
    process = Process(root, _environment(aws_server), entrance=entrance).ready()
    for number in range(20):
        status, _ = process.http("POST", INFER, {"customer": "7", "a": number % 4})
        assert status == 200
    metrics = [line for line in process.answers if "cache_hits" in line]
    assert process.end(signal.SIGTERM) == 0
    assert len(_lines(s3)) == 20
    assert sum(line["cache_hits"] for line in metrics) >= 15
    assert all(line["stages_ms"].keys() >= {"decode", "features", "cache"} for line in metrics)
    assert len(dynamodb.scan(TableName="predictions")["Items"]) == 4


def test_a_process_that_ends_by_itself_sends_its_log(root: Path, aws_server: AwsServer, place: Any) -> None:
    """As a batch does."""
    s3, _ = place
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from mlpack_runtime.service import open_service\nservice = open_service()\n"
    )
    code += "for mark in range(3): assert service.value({'customer': '7', 'visits': mark}).status == 200"
    environment = {"PATH": os.environ["PATH"], **_environment(aws_server)}
    subprocess.run([sys.executable, "-I", "-S", "-c", code, str(root)], check=True, env=environment, capture_output=True)
    assert len(_lines(s3)) == 3


def test_a_log_that_cannot_be_sent_delays_no_end(root: Path, aws_server: AwsServer, place: Any) -> None:
    process = Process(root, _environment(aws_server), entrance="serve", drain_s=3).ready()
    assert process.http("POST", INFER, WHOLE)[0] == 200
    aws_server.plan(Fault("hang", service="s3", onward=True))
    began = time.monotonic()
    assert process.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 60  # the bucket would hang for an hour
    (lost,) = process.said("1 lines of the log of predictions were not sent")
    assert lost["log_dropped"] == 1


def test_what_a_killed_process_leaves_is_whole(root: Path, aws_server: AwsServer, place: Any) -> None:
    """SIGKILL after ever more requests: what is in the bucket is whole lines, none is there twice, and who comes next goes on."""
    s3, dynamodb = place
    for kill_after in (1, 3, 7):
        process = Process(root, _environment(aws_server), entrance="serve").ready()
        for number in range(kill_after):
            status, answer = process.http("POST", INFER, {"customer": "7", "a": kill_after * 10 + number})
            assert status == 200
        process.process.send_signal(signal.SIGKILL)
        process.end(signal.SIGKILL)
    process = Process(root, _environment(aws_server), entrance="serve").ready()
    status, again = process.http("POST", INFER, {"customer": "7", "a": 76})  # the killed one's last
    assert (status, _scores(again)) == (200, _scores(answer))
    assert process.end(signal.SIGTERM) == 0
    assert [line["cache_hits"] for line in process.answers] == [1]
    traces = [line["trace_id"] for line in _lines(s3)]
    assert len(set(traces)) == len(traces) >= 1
    assert len(dynamodb.scan(TableName="predictions")["Items"]) == 11


def test_nothing_is_asked_of_aws_where_a_package_is_tried(root: Path, aws_server: AwsServer, place: Any) -> None:
    aws_server.clear_log()
    environment = {name: value for name, value in os.environ.items() if name == "PATH"} | {"MLPACK_AROUND": "stub"}
    process = Process(root, environment, entrance="serve").ready()
    status, _ = process.http("POST", INFER, {"customer": "7"})
    assert status == 200
    assert process.end(signal.SIGTERM) == 0
    assert aws_server.log() == []
