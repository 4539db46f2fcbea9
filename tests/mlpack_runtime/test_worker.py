"""Whole workers, as they ship, in processes of their own, against a queue over HTTP."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.tiny_packages import affine, package, words
from tests.support.runtime.workers import Place, Process, add_botocore, until
from tests.support.services.aws_server import AwsServer, Fault

pytestmark = pytest.mark.slow

TEXTS = ["cat", "the cat sat", "the dog sat on the mat", "a mat"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text model's package with what a worker needs."""
    made = package(
        tmp_path_factory.mktemp("worker") / "package",
        words,
        tokenizer={"file": "tokenizer.json", "max_length": 8},
        worker={"max_batch": 4, "max_wait_ms": 20},
    )
    return add_botocore(made)


def embeddings(answer: Any) -> list[list[float]]:
    """Rows of the first output."""
    found = answer["outputs"][0]
    width = found["shape"][1]
    return [found["data"][at : at + width] for at in range(0, len(found["data"]), width)]


def test_without_a_queue_it_serves_http_and_ends_with_0(root: Path) -> None:
    worker = Process(root, max_wait_ms=300).ready()
    assert worker.http("GET", "/v2/health/ready") == (200, {"ready": True})
    request = {"inputs": [{"name": "text", "shape": [4], "datatype": "BYTES", "data": TEXTS}]}
    status, whole = worker.http("POST", "/v2/models/tiny/infer", request)
    assert status == 200
    with ThreadPoolExecutor(4) as pool:
        single = list(pool.map(lambda text: worker.http("POST", "/", {"text": text})[1], TEXTS))
    assert [embeddings(one)[0] for one in single] == [pytest.approx(row, rel=1e-5) for row in embeddings(whole)]
    assert worker.http("POST", "/", {"text": 1})[0] == 400
    assert worker.end() == 0
    assert [line["batch"] for line in worker.answers] == [4, 1, 1, 1, 1, 0]
    assert sum(line["cold_starts"] for line in worker.answers) == 1
    assert worker.stderr == ""


def test_messages_are_answered_once_and_wrong_ones_are_buried(root: Path, place: Place) -> None:
    worker = place.worker(root).ready()
    for number in range(30):
        place.send({"text": TEXTS[number % 4]}, request_id=f"r-{number}", trace_id=f"t-{number}")
    unnamed = place.send({"texts": TEXTS})
    wrong = place.send("not JSON", request_id="wrong", extra="kept")
    place.send({"text": "cat"}, request_id="other", model="another")
    place.send({"text": "cat"}, request_id="late", deadline_ms="1000")
    place.send({"text": "cat"}, request_id="a b/c")
    _, expected = place.answer(unnamed)
    for number in range(30):
        status, answer = place.answer(f"r-{number}")
        assert (status, answer["parameters"]) == (200, {"trace_id": f"t-{number}"})
        assert embeddings(answer)[0] == pytest.approx(embeddings(expected)[number % 4], rel=1e-5)
    assert [place.answer(name)[0] for name in ("wrong", "other", "late")] == [400, 404, 504]
    until(lambda: place.counts() == (0, 0), "an empty queue")
    assert worker.end() == 0
    dead = {message["MessageAttributes"].get("request_id", {}).get("StringValue"): message for message in place.dead()}
    assert dead.keys() == {"wrong", "other", "a b/c"}
    assert dead["wrong"]["Body"] == "not JSON"
    assert dead["wrong"]["MessageId"] != wrong
    assert dead["wrong"]["MessageAttributes"]["extra"]["StringValue"] == "kept"
    assert "400" in dead["wrong"]["MessageAttributes"]["reason"]["StringValue"]
    line = next(line for line in worker.answers if line["request_id"] == "r-7")
    assert line["trace_id"] == "t-7"
    assert line["queue_age_ms"] >= 0
    assert (line["retries"], line["batch_fill"] > 0) == (0, True)
    assert {row["Name"] for row in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]} >= {"queue_age_ms", "batch_fill", "retries"}


def test_request_sent_twice_has_one_answer_and_one_trace(root: Path, place: Place) -> None:
    trace = "1-5759e988-bd862e3fe1be46a994272793"
    for text in ("cat", "the cat sat"):
        place.sqs.send_message(
            QueueUrl=place.url,
            MessageBody=json.dumps({"text": text}),
            MessageAttributes={"request_id": {"DataType": "String", "StringValue": "twice"}},
            MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": f"Root={trace};Sampled=1"}},
        )
    worker = place.worker(root, results="dynamodb://results").ready()
    until(lambda: place.counts() == (0, 0), "an empty queue")
    assert worker.end() == 0
    item = place.dynamodb.get_item(TableName="results", Key={"id": {"S": "tiny/twice"}})["Item"]
    assert (item["status"], item["trace_id"]) == ({"N": "200"}, {"S": trace})
    assert int(item["expires"]["N"]) - int(item["created"]["N"]) == 7 * 86_400
    assert json.loads(item["body"]["S"])["request_id"] == "twice"
    puts = [one.status for one in place.aws.log("dynamodb") if one.operation == "PutItem"]
    assert puts[:2] == [200, 400]  # whether the table keeps what is written once
    assert sorted(puts[2:]) == [200, 400]


def test_a_large_request_lies_in_a_bucket(root: Path, place: Place) -> None:
    place.s3.put_object(Bucket="results", Key="in/1.json", Body=json.dumps({"texts": TEXTS * 50}).encode())
    place.send({}, request_id="large", payload="s3://results/in/1.json")
    place.send({}, request_id="gone", payload="s3://results/in/2.json")
    place.send({}, request_id="odd", payload="ftp://results/in/2.json")
    worker = place.worker(root).ready()
    status, answer = place.answer("large")
    assert (status, answer["outputs"][0]["shape"]) == (200, [200, 5])
    assert [place.answer(name)[0] for name in ("gone", "odd")] == [404, 400]
    assert worker.end() == 0


def test_requests_inside_of_awss_envelopes_are_answered(root: Path, place: Place) -> None:
    """SNS without raw delivery, S3's notifications, a rule of EventBridge, and AWS's extended clients."""
    text, texts = {"text": "cat"}, json.dumps({"texts": TEXTS}).encode()
    place.s3.put_object(Bucket="results", Key="in/a b.json", Body=texts)
    object_ = {"bucket": {"name": "results"}, "object": {"key": "in/a+b.json", "size": len(texts)}}
    created = {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": object_}]}
    named = {"request_id": {"Type": "String", "Value": "sns"}}
    place.send({"Type": "Notification", "TopicArn": "arn", "Message": json.dumps(text), "MessageAttributes": named})
    place.send({"detail-type": "Order", "source": "shop", "detail": text}, request_id="bridge")
    place.send(created, request_id="s3")
    place.send({"Type": "Notification", "TopicArn": "arn", "Message": json.dumps(created)}, request_id="s3-sns")
    pointer = "software.amazon.payloadoffloading.PayloadS3Pointer"
    place.send([pointer, {"s3BucketName": "results", "s3Key": "in/a b.json"}], request_id="extended")
    place.send([pointer, {"s3BucketName": "results", "s3Key": "gone"}], request_id="gone")
    tried = place.send({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "results"})
    answered = {"bucket": {"name": "results"}, "object": {"key": "answers/tiny/sns.json", "size": 9}}
    own = place.send({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": answered}]})
    document = {"status": 400, "headers": {}, "body": "{}", "binary": False, "trace_id": "t", "request_id": "r"}
    place.s3.put_object(Bucket="results", Key="other/r.json", Body=json.dumps(document).encode())
    written = {"bucket": {"name": "results"}, "object": {"key": "other/r.json", "size": 9}}
    anothers = place.send({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": written}]})
    said = place.send(created, envelope="none")  # as a front door says of what its callers send
    worker = place.worker(root).ready()
    shapes = {"sns": [1, 5], "bridge": [1, 5], "s3": [4, 5], "s3-sns": [4, 5], "extended": [4, 5]}
    assert {name: place.answer(name)[1]["outputs"][0]["shape"] for name in shapes} == shapes
    assert place.answer("gone")[0] == 404
    until(lambda: place.counts() == (0, 0), "an empty queue")
    assert worker.end() == 0
    assert [place.result(name) for name in (tried, own, anothers)] == [None, None, None]
    assert all(worker.said(f"message {name} asks for nothing") for name in (tried, own, anothers))
    assert place.answer(said)[0] == 400


def test_what_fails_here_comes_back_until_redrive_ends_it(tmp_path: Path, aws: AwsServer, monkeypatch: Any) -> None:
    made = package(tmp_path / "hooked", affine, preprocess="hooks_of_worker:read", worker={"max_batch": 4, "max_wait_ms": 1})
    (made / "app/hooks_of_worker.py").write_text("def read(body):\n    return 1 / body['zero']\n")
    place = Place(aws, receives=2)
    place.send({"zero": 0}, request_id="r")
    worker = place.worker(add_botocore(made)).ready()
    until(lambda: len(worker.answers) == 2, "two tries")
    until(lambda: place.counts(place.dead_url)[0] == 1, "the message in the dead-letter queue")
    assert worker.end() == 0
    assert [(line["status"], line["retries"]) for line in worker.answers] == [(500, 0), (500, 1)]
    assert place.result("r") is None  # another try might have mended it
    place.close()


def test_poison_of_a_fifo_queue_ends_and_its_group_goes_on(root: Path, aws: AwsServer) -> None:
    place = Place(aws, fifo=True)
    place.send("not JSON", request_id="wrong")
    place.send({"text": "cat"}, request_id="next")
    worker = place.worker(root).ready()
    assert [place.answer(name)[0] for name in ("wrong", "next")] == [400, 200]
    until(lambda: place.counts() == (0, 0), "an empty queue")
    assert worker.end() == 0
    (dead,) = place.dead()
    assert (dead["Body"], dead["Attributes"]["MessageGroupId"]) == ("not JSON", "g")
    assert "400" in dead["MessageAttributes"]["reason"]["StringValue"]
    place.close()


def test_poison_that_no_queue_takes_has_a_result_all_the_same(root: Path, aws: AwsServer) -> None:
    """Whoever waits for an answer is told at once, though the message itself stays until the queue's own policy ends it."""
    place = Place(aws, receives=2)
    place.aws.plan(Fault("error", operation="SendMessage", status=403, code="AccessDenied", onward=True, number=2))
    place.send("not JSON", request_id="wrong")
    worker = place.worker(root).ready()
    assert place.answer("wrong")[0] == 400
    until(lambda: place.counts(place.dead_url)[0] == 1, "the message in the dead-letter queue")
    assert worker.end() == 0
    assert len([line for line in worker.answers if line["status"] == 400]) == 2
    assert [line["level"] for line in worker.said("message")] == ["WARNING"] * 2
    assert "the dead-letter queue refuses it: AccessDenied" in worker.said("message")[0]["message"]
    place.close()


def test_poison_waits_until_it_is_known_where_it_goes(root: Path, place: Place) -> None:
    """A worker that is started while SQS cannot say which queue is for dead letters, and that one wrong message comes to."""
    place.aws.plan(Fault("error", operation="GetQueueAttributes", onward=True))
    worker = place.worker(root).ready()
    assert worker.said("which queue is for dead letters cannot be known yet")
    place.send("not JSON", request_id="wrong")
    until(lambda: [line for line in worker.lines if "is given back" in line.get("message", "")], "the message is given back")
    assert place.result("wrong") is None
    place.aws.plan()
    assert place.answer("wrong")[0] == 400
    until(lambda: place.counts() == (0, 0), "an empty queue")
    assert worker.end() == 0
    assert [one["MessageAttributes"]["request_id"]["StringValue"] for one in place.dead()] == ["wrong"]


def test_services_that_fail_for_a_while_cost_only_time(root: Path, place: Place) -> None:
    faults = [
        Fault(action, after=after, service=service, operation=operation, number=number)
        for service, operation in (("sqs", "ReceiveMessage"), ("sqs", "DeleteMessageBatch"), ("s3", "PutObject"))
        for number, (action, after) in enumerate([("close", False), ("close", True), ("error", True)], 2)
    ]
    worker = place.worker(root, visibility_s=3).ready()
    place.aws.plan(*faults)
    for number in range(40):
        place.send({"text": TEXTS[number % 4]}, request_id=f"r-{number}")
    for number in range(40):
        assert place.answer(f"r-{number}")[0] == 200
    until(lambda: place.counts() == (0, 0), "an empty queue")
    assert worker.end() == 0
    assert place.dead() == []


def test_what_answers_in_the_place_of_a_service_ends_no_thread(root: Path, place: Place) -> None:
    for number in range(40):
        place.send({"text": TEXTS[number % 4]} if number % 10 else "not JSON", request_id=f"r-{number}")
    operations = ("ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch", "SendMessage")
    place.aws.plan(*(Fault("nonsense", operation=name, number=number) for name in operations for number in (1, 2, 4)))
    worker = place.worker(root, visibility_s=3).ready()
    for number in range(40):
        assert place.answer(f"r-{number}")[0] == (200 if number % 10 else 400)
    place.aws.plan()
    until(lambda: place.counts() == (0, 0), "an empty queue")
    assert worker.http("GET", "/v2/health/ready") == (200, {"ready": True})
    assert worker.end() == 0
    assert {one["MessageAttributes"]["request_id"]["StringValue"] for one in place.dead()} == {f"r-{at}" for at in range(0, 40, 10)}


def test_a_hook_that_ends_its_thread_costs_its_message_alone(tmp_path: Path, aws: AwsServer) -> None:
    made = package(tmp_path / "exits", affine, preprocess="hooks_of_exits:read", worker={"max_batch": 4})
    code = (
        "import sys\ndef read(body):\n    if body['exits']:\n        sys.exit(3)\n"
        "    return {'pixels': [[1, 1, 1, 1]], 'marks': [1]}\n"
    )
    (made / "app/hooks_of_exits.py").write_text(code)
    place = Place(aws, receives=2)
    worker = place.worker(add_botocore(made), prefetch=20).ready()
    for number in range(30):
        place.send({"exits": True}, request_id=f"bad-{number}")
    for number in range(10):
        place.send({"exits": False}, request_id=f"good-{number}")
    for number in range(10):
        assert place.answer(f"good-{number}")[0] == 200
    until(lambda: place.counts() == (0, 0), "redrive to the dead-letter queue", 90)
    assert worker.http("GET", "/v2/health/ready") == (200, {"ready": True})
    assert worker.end() == 0
    assert len(place.dead()) == 30
    place.close()


def test_a_queue_that_hangs_does_not_hold_up_the_end(root: Path, place: Place) -> None:
    worker = place.worker(root, drain_s=5).ready()
    place.aws.plan(Fault("hang", operation="DeleteMessageBatch", onward=True))
    place.send({"text": "cat"}, request_id="r")
    assert place.answer("r")[0] == 200
    until(lambda: [one for one in place.aws.log("sqs") if one.operation == "DeleteMessageBatch"], "its deletion is asked for")
    began_s = time.monotonic()
    assert worker.end() == 0
    assert time.monotonic() - began_s < 60  # the queue would hang for an hour
    place.aws.plan()
    assert worker.said("ended")[0]["given_back"] == 1


@pytest.mark.parametrize("payload", ["s3://results", "s3://results/", "s3://no bucket/key"])
def test_a_place_that_cannot_be_is_the_senders_mistake(payload: str, root: Path, place: Place) -> None:
    worker = place.worker(root).ready()
    place.send("", request_id="r", payload=payload)
    assert place.answer("r")[0] == 400
    until(lambda: place.counts() == (0, 0), "an empty queue")
    assert worker.end() == 0
    assert len(place.dead()) == 1


def test_the_end_gives_back_what_cannot_be_finished(tmp_path: Path, aws: AwsServer) -> None:
    made = package(tmp_path / "slow", affine, preprocess="hooks_of_slow:read", worker={"max_batch": 4})
    code = "import time\ndef read(body):\n    open(body['at'], 'w').close()\n    time.sleep(body['s'])\n"
    (made / "app/hooks_of_slow.py").write_text(code + "    return {'pixels': [[1, 1, 1, 1]], 'marks': [1]}\n")
    place = Place(aws)
    worker = place.worker(add_botocore(made), drain_s=10).ready()
    begun = {name: tmp_path / name for name in ("long", "short")}
    place.send({"s": 60, "at": str(begun["long"])}, request_id="long")
    place.send({"s": 1, "at": str(begun["short"])}, request_id="short")
    until(lambda: all(path.exists() for path in begun.values()), "both at work")  # a queue counts them before they are here
    assert place.counts() == (0, 2)
    assert worker.end() == 0
    assert worker.said("ended")[0]["given_back"] == 1
    assert place.answer("short")[0] == 200
    assert place.counts() == (1, 0)  # at once, not when its time-out is over
    place.close()


def test_long_work_stays_ours(tmp_path: Path, aws: AwsServer) -> None:
    made = package(tmp_path / "long", affine, preprocess="hooks_of_long:read", worker={"max_batch": 4})
    code = "import time\ndef read(body):\n    time.sleep(body['s'])\n    return {'pixels': [[1, 1, 1, 1]], 'marks': [1]}\n"
    (made / "app/hooks_of_long.py").write_text(code)
    place = Place(aws)
    worker = place.worker(add_botocore(made), visibility_s=3).ready()
    place.send({"s": 7}, request_id="long")
    assert place.answer("long")[0] == 200
    until(lambda: place.counts() == (0, 0), "an empty queue")
    assert worker.end() == 0
    assert len(worker.answers) == 1
    place.close()


@pytest.mark.parametrize(
    ("settings", "status", "said"),
    [
        ({"max_batch": "many"}, 2, "MLPACK_MAX_BATCH is 'many'"),
        ({"limit_rows": "0"}, 2, "MLPACK_LIMIT_ROWS is '0'"),
        ({"queue_url": "https://sqs.eu-west-1.amazonaws.com/1/q"}, 2, "MLPACK_RESULTS is not"),
        ({"queue_url": "https://x/1/q", "results": "ftp://a"}, 1, "'ftp://a' is no address"),
        ({"model_dir": "/nowhere"}, 1, "no model.json in /nowhere"),
        ({"host": "203.0.113.1"}, 2, "MLPACK_HOST is '203.0.113.1'"),
        ({"http_head_s": "soon"}, 2, "MLPACK_HTTP_HEAD_S is 'soon'"),
    ],
)
def test_what_is_set_wrong_is_said_and_ends_it(root: Path, settings: dict[str, str], status: int, said: str) -> None:
    worker = Process(root, {"AWS_DEFAULT_REGION": "eu-west-1"}, **settings)
    began_s = time.monotonic()
    assert worker.process.wait(60) == status, f"after {time.monotonic() - began_s:.0f} s"
    worker.end()
    assert said in worker.lines[-1]["message"]
    assert worker.stderr == ""
