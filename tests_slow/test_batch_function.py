"""A function under the real emulator answers manifests: from its queue, and in as many calls as a state machine makes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.tiny_packages import affine, package
from tests.support.runtime.workers import Place, add_botocore
from tests.support.services.aws_server import AwsServer
from tests_slow.test_event_sources import Mapping
from tests_slow.test_runtime_emulator import Booted, boot, lines

__all__ = ["boot"]

MANIFEST = "s3://results/in/m.jsonl"


def rows(number: int) -> str:
    """Lines of a manifest, one of them wrong."""
    made = [json.dumps({"id": at, "inputs": {"pixels": [[1, 1, 1, at]], "marks": [at]}}) for at in range(number)]
    return "\n".join("nope" if at == 3 else row for at, row in enumerate(made))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_botocore(package(tmp_path_factory.mktemp("batches") / "tiny", affine))


@pytest.fixture
def start(boot: Callable[..., Booted], root: Path, aws: AwsServer) -> Callable[..., Booted]:
    def started(**environment: str) -> Booted:
        return boot(sys.executable, "-I", "-S", str(root / "bootstrap.py"), **aws.environment, **environment)

    return started


def results(place: Place, prefix: str) -> list[dict[str, Any]]:
    keys = [one["Key"] for one in place.s3.list_objects_v2(Bucket="results", Prefix=f"{prefix}/results/")["Contents"]]
    texts = [place.s3.get_object(Bucket="results", Key=key)["Body"].read() for key in keys]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_a_queue_of_orders_is_answered_once(start: Callable[..., Booted], aws: AwsServer) -> None:
    place = Place(aws)
    place.s3.put_object(Bucket="results", Key="in/m.jsonl", Body=rows(40).encode())
    order = {"batch": {"manifest": MANIFEST, "results": "s3://results/out"}}
    for name in ("one", "two"):
        place.send(order, request_id=name)
    place.send({"batch": {"manifest": "s3://results/gone.csv"}}, request_id="gone")
    function = start(MLPACK_RESULTS="s3://results/answers", MLPACK_BATCH_CHECKPOINT_ITEMS="7", MLPACK_BATCH_PART_ITEMS="16")
    Mapping(place, function).run()
    assert place.counts() == (0, 0)
    assert [row["item"] for row in results(place, "out")] == list(range(40))
    assert [place.answer(name)[0] for name in ("one", "two", "gone")] == [200, 200, 400]
    assert [message["MessageAttributes"]["request_id"]["StringValue"] for message in place.dead()] == ["gone"]
    told = [line for line in lines(function.log()) if line.get("message") == "batch"]
    assert sum(line["batch_items"] for line in told) == 40
    assert {metric["Name"] for metric in told[0]["_aws"]["CloudWatchMetrics"][0]["Metrics"]} == {
        "batch_items", "batch_failed", "batch_progress",
    }  # fmt: skip
    place.close()


def test_a_manifest_takes_as_many_invocations_as_it_needs(start: Callable[..., Booted], aws: AwsServer) -> None:
    """The time-out is the emulator's own, which ends a function that runs into it, as a busy machine makes one: either way the
    next call goes on after what is written."""
    place, number = Place(aws), 12_000
    place.s3.put_object(Bucket="results", Key="in/m.jsonl", Body=rows(number).encode())
    settings = {"MLPACK_BATCH_CHECKPOINT_ITEMS": "500", "MLPACK_BATCH_PART_ITEMS": "2000", "MLPACK_BATCH_LEASE_S": "1"}
    function = start(AWS_LAMBDA_FUNCTION_TIMEOUT="3", **settings)
    answer: dict[str, Any] = {"batch": {"manifest": MANIFEST, "results": "s3://results/out"}}
    calls = 0
    while not answer.get("done"):
        calls += 1
        assert calls < 60
        try:
            answer = function.invoke(answer)
        except json.JSONDecodeError as error:  # the emulator's own words, and no answer
            if "timed out" not in error.doc:
                raise
        assert "batch" in answer, answer
    assert calls > 1
    assert (answer["batch"]["answered"], answer["batch"]["failed"]) == (number - 1, 1)
    found = results(place, "out")
    assert [row["item"] for row in found] == list(range(number))
    assert [row["id"] for row in found if row["status"] >= 400] == [None]
    place.close()
