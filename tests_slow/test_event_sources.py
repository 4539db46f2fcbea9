"""Event sources around the real emulator: what a mapping of Lambda does with a queue, and all samples of AWS's own command line.

The mapping is an imitation, from AWS's documentation: where a function did not fail it deletes what that did not report as failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.source_events import OBJECTS, REQUEST, ROWS, s3
from tests.support.runtime.tiny_packages import affine, package
from tests.support.runtime.workers import Place, add_botocore
from tests.support.services.aws_server import AwsServer
from tests_slow.test_runtime_emulator import Booted, boot, lines
from tools import parts

__all__ = ["boot"]


class Mapping:
    """An event source mapping of a queue. `reports`: whether it reads batchItemFailures (`ReportBatchItemFailures`)."""

    def __init__(self, place: Place, function: Booted, *, reports: bool = True) -> None:
        self._place = place
        self._function = function
        self._reports = reports
        self.batches = 0

    def run(self) -> None:
        """Until the queue is empty."""
        arn = f"arn:aws:sqs:eu-west-1:1:{self._place.url.rpartition('/')[2]}"
        while messages := self._received():
            self.batches += 1
            assert self.batches < 50, "messages come again for ever"
            rows = [
                {
                    "messageId": message["MessageId"],
                    "receiptHandle": message["ReceiptHandle"],
                    "body": message["Body"],
                    "attributes": message["Attributes"],
                    "messageAttributes": {
                        name: {"stringValue": value["StringValue"], "dataType": value["DataType"]}
                        for name, value in message.get("MessageAttributes", {}).items()
                    },
                    "eventSource": "aws:sqs",
                    "eventSourceARN": arn,
                    "awsRegion": "eu-west-1",
                }
                for message in messages
            ]
            answer = self._function.invoke({"Records": rows})
            failed = {row["messageId"] for row in rows} if "errorType" in answer else set()
            if self._reports:
                failed |= {one["itemIdentifier"] for one in answer.get("batchItemFailures", ())}
            for message in messages:
                handle = {"QueueUrl": self._place.url, "ReceiptHandle": message["ReceiptHandle"]}
                if message["MessageId"] in failed:
                    self._place.sqs.change_message_visibility(**handle, VisibilityTimeout=0)
                else:
                    self._place.sqs.delete_message(**handle)

    def _received(self) -> list[dict[str, Any]]:
        answer = self._place.sqs.receive_message(
            QueueUrl=self._place.url, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
        )
        return list(answer.get("Messages", ()))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_botocore(package(tmp_path_factory.mktemp("sources") / "tiny", affine))


@pytest.fixture
def start(boot: Callable[..., Booted], root: Path, aws: AwsServer) -> Callable[..., Booted]:
    def started(**environment: str) -> Booted:
        told = {"MLPACK_RESULTS": "s3://results/answers", **environment}
        return boot(sys.executable, "-I", "-S", str(root / "bootstrap.py"), **aws.environment, **told)

    return started


@pytest.mark.parametrize("reports", [True, False])
def test_a_queues_messages_are_answered_once_and_poison_is_dead(
    reports: bool, start: Callable[..., Booted], aws: AwsServer
) -> None:
    place = Place(aws)
    place.s3.put_object(Bucket="results", Key="in/one.json", Body=json.dumps(REQUEST).encode())
    for number in range(12):
        place.send(REQUEST, request_id=f"good-{number}")
    for name in ("twice", "twice"):
        place.send(REQUEST, request_id=name)
    place.send({"Type": "Notification", "TopicArn": "arn", "Message": json.dumps(REQUEST)}, request_id="topic")
    place.send(s3(), request_id="object")
    place.send("not JSON", request_id="poison")
    place.send(REQUEST, request_id="other", model="another")
    function = start() if reports else start(MLPACK_RAISE="batch")
    Mapping(place, function, reports=reports).run()
    assert place.counts() == (0, 0)
    keys = [one["Key"] for one in place.s3.list_objects_v2(Bucket="results", Prefix="answers/tiny/")["Contents"]]
    found = {Path(key).stem for key in keys if key.endswith(".json")}
    good = {f"good-{number}" for number in range(12)} | {"twice", "topic", "object"}
    assert found == good | {"poison", "other"}
    assert {name for name in found if place.answer(name)[0] == 200} == good
    dead = {message["MessageAttributes"]["request_id"]["StringValue"] for message in place.dead()}
    assert dead >= {"poison", "other"}
    if reports:
        assert dead == {"poison", "other"}
    answered = [line["request_id"] for line in lines(function.log()) if line.get("status") == 200]
    assert len(answered) == len(set(answered)) + 1  # `twice`, whose result is the first's
    place.close()


def test_a_fifo_queue_keeps_its_order_and_loses_nothing(start: Callable[..., Booted], aws: AwsServer) -> None:
    place = Place(aws, fifo=True)
    for name, body in (("poison", "not JSON"), ("first", REQUEST), ("second", REQUEST)):
        place.send(body, group="one", request_id=name)
    place.send(REQUEST, group="two", request_id="beside")
    function = start()
    Mapping(place, function).run()
    assert place.counts() == (0, 0)
    (dead,) = place.dead()
    assert (dead["Body"], dead["Attributes"]["MessageGroupId"]) == ("not JSON", "one")
    assert {name: place.answer(name)[0] for name in ("poison", "first", "second", "beside")} == {
        "poison": 400, "first": 200, "second": 200, "beside": 200,
    }  # fmt: skip
    answered = [line["request_id"] for line in lines(function.log()) if line.get("status") == 200]
    assert [name for name in answered if name != "beside"] == ["first", "second"]
    place.close()


def test_samples_of_awss_command_line_are_answered_or_refused(start: Callable[..., Booted], aws: AwsServer) -> None:
    """As they are in its wheel, their places for values unfilled: their bodies are no requests of this package."""
    place = Place(aws)
    function, expected = start(), {name: row for row in ROWS + OBJECTS for name in row.samples.split()}
    samples = {f"sam:{path.parent.name}/{path.stem}": path for path in parts.sam_events().glob("*/*.json")}
    assert samples.keys() == {name for name in expected if name.startswith("sam:")}
    for name, path in samples.items():
        answer, outcome = function.invoke(json.loads(path.read_text())), expected[name].outcome
        if outcome.startswith("http"):
            assert answer["statusCode"] >= 400, name
        elif outcome.startswith("direct"):
            assert answer["error_type"] == "InvalidRequest", name
        else:
            assert answer["errorType"] == "InferenceError", name
            told = json.loads(answer["errorMessage"])
            assert outcome.removeprefix("refused ") in told["error"] or not outcome.startswith("refused"), name
            assert (told["error_type"] == "UnsupportedEvent") <= outcome.startswith("refused"), name
    place.close()
