"""Workers as they ship, in processes of their own, and a queue, a dead-letter queue and a place for results to point them at."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.services.aws_server import REGION, AwsServer

PATIENCE_S = 60.0


def add_botocore(root: Path) -> Path:
    """What a worker's package has besides: botocore and what it imports. The package."""
    import botocore
    import dateutil
    import jmespath
    import six
    import urllib3

    for module in (botocore, dateutil, jmespath, six, urllib3):
        source = Path(str(module.__file__))
        source = source.parent if source.name == "__init__.py" else source
        (root / "site" / source.name).symlink_to(source)
    return root


class Process:
    """One worker. `lines` are its log's; `port` is where it answers, once it is ready."""

    def __init__(
        self,
        root: Path,
        environment: dict[str, str] | None = None,
        *,
        python: Path = Path(sys.executable),
        entrance: str = "worker",
        **settings: object,
    ) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "MLPACK_"))}
        told = {f"MLPACK_{name.upper()}": str(value) for name, value in {"port": 0, "lame_duck_s": 0, **settings}.items()}
        command = [str(python), "-I", "-S", str(root / "bootstrap.py"), entrance]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean | (environment or {}) | told, text=True
        )
        self.lines: list[dict[str, Any]] = []
        self.stderr = ""
        self._readers = [threading.Thread(target=self._read_lines), threading.Thread(target=self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.stderr = self.process.stderr.read()

    def ready(self) -> Process:
        """Itself, once it says that it is."""
        until(lambda: self.said("ready") or self.process.poll() is not None, "the worker is ready")
        assert self.said("ready"), f"it ended with {self.process.poll()}: {self.lines[-5:]} {self.stderr[-2000:]}"
        return self

    @property
    def port(self) -> int:
        """Where it answers."""
        return int(self.said("ready")[0]["port"])

    def said(self, message: str) -> list[dict[str, Any]]:
        """Lines whose message begins so."""
        return [line for line in list(self.lines) if line.get("message", "").startswith(message)]

    @property
    def answers(self) -> list[dict[str, Any]]:
        """Lines about requests."""
        return [line for line in list(self.lines) if "status" in line and "batch" in line]

    def http(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """(status, JSON) of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal, unless it is gone; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        return status


def until(done: Any, what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait for a condition; its value. Fails, naming it, when it does not come."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        found = done()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"it did not come to pass: {what}")


class Place:
    """A queue whose redrive policy ends in a dead-letter queue, a bucket and a table, on an AWS of the test's own. `fifo`: both
    queues are, as SQS demands."""

    def __init__(self, aws: AwsServer, *, receives: int = 3, fifo: bool = False) -> None:
        self.aws = aws
        self.fifo, ending, kind = fifo, ".fifo" if fifo else "", {"FifoQueue": "true"} if fifo else {}
        self.sqs, self.s3, self.dynamodb = aws.client("sqs"), aws.client("s3"), aws.client("dynamodb")
        self.dead_url = self.sqs.create_queue(QueueName=f"dead{ending}", Attributes=kind)["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.dead_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": receives})
        self.url = self.sqs.create_queue(QueueName=f"work{ending}", Attributes={"RedrivePolicy": policy, **kind})["QueueUrl"]
        self.s3.create_bucket(Bucket="results", CreateBucketConfiguration={"LocationConstraint": REGION})
        self.dynamodb.create_table(
            TableName="results",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def close(self) -> None:
        """Let go of connections."""
        for client in (self.sqs, self.s3, self.dynamodb):
            client.close()

    def worker(self, root: Path, **settings: object) -> Process:
        """A worker of this queue, being started."""
        told = {"queue_url": self.url, "results": "s3://results/answers", "poll_s": 1, **settings}
        return Process(root, self.aws.environment, **told)

    def send(self, body: object, *, group: str = "g", **attributes: str) -> str:
        """One message; its id. `group`: its message group in a FIFO queue."""
        text = body if isinstance(body, str) else json.dumps(body)
        described = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        order = {"MessageGroupId": group, "MessageDeduplicationId": uuid.uuid4().hex} if self.fifo else {}
        return str(self.sqs.send_message(QueueUrl=self.url, MessageBody=text, MessageAttributes=described, **order)["MessageId"])

    def result(self, request_id: str) -> dict[str, Any] | None:
        """The document in the bucket, or None."""
        try:
            answer = self.s3.get_object(Bucket="results", Key=f"answers/tiny/{request_id}.json")
        except self.s3.exceptions.NoSuchKey:
            return None
        return dict(json.loads(answer["Body"].read()))

    def answer(self, request_id: str) -> tuple[int, Any]:
        """(status, JSON body) of the result, once it is there."""
        found = until(lambda: self.result(request_id), f"a result of {request_id}")
        return found["status"], json.loads(found["body"])

    def counts(self, url: str | None = None) -> tuple[int, int]:
        """Messages that are visible, and in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def dead(self) -> list[dict[str, Any]]:
        """Take everything out of the dead-letter queue."""
        found: list[dict[str, Any]] = []
        while True:
            some = self.sqs.receive_message(
                QueueUrl=self.dead_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"]
            )
            if not some.get("Messages"):
                return found
            found += some["Messages"]


@pytest.fixture
def place(aws: AwsServer) -> Iterator[Place]:
    """An empty one."""
    made = Place(aws)
    yield made
    made.close()
