"""Front doors over a real queue and real results (moto's), with a clock of their own, and the events that come to them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.services.aws_server import REGION, AwsServer

from mlpack_runtime import aws
from mlpack_runtime.door.exchange import Door
from mlpack_runtime.door.sending import Queue, Worker
from mlpack_runtime.door.settings import Settings
from mlpack_runtime.door.tickets import DynamoResults, S3Results
from mlpack_runtime.model import describe

if TYPE_CHECKING:
    from mlpack_runtime.door.tickets import Results

BUCKET, TABLE = "models", "results"
S3_RESULTS, DYNAMODB_RESULTS = f"s3://{BUCKET}/results", f"dynamodb://{TABLE}"
REQUEST: dict[str, Any] = {"inputs": [{"name": "pixels", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


@cache
def quick_client(service: str, _endpoint: str, read_s: float = 20.0) -> Any:
    """Our client of it, which asks once. Kept, because making one takes botocore longer than a test may."""
    return aws.client(service, connect_s=20, read_s=read_s, attempts=1)


@cache
def plain_client(service: str, server: AwsServer) -> Any:
    """boto3's."""
    return server.client(service)


def results_at(uri: str, server: AwsServer) -> Results:
    """As `open_results` makes them, with the clients of these tests."""
    scheme, place, prefix = aws.split_uri(uri)
    client = quick_client(scheme, server.endpoint)
    return S3Results(client, place, prefix) if scheme == "s3" else DynamoResults(client, place)


class Clock:
    """Time as a test has it: pausing moves it, and does `meanwhile`."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0
        self.pauses: list[float] = []
        self.meanwhile: list[Any] = []

    def now(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds
        if self.meanwhile:
            self.meanwhile.pop(0)()


class Context:
    """Of an invocation."""

    def __init__(self, left_ms: int = 30_000, request_id: str = "invocation-1") -> None:
        self.aws_request_id = request_id
        self._left_ms = left_ms

    def get_remaining_time_in_millis(self) -> int:
        return self._left_ms


def described(folder: Path, **settings: Any) -> Path:
    """A directory with the model.json of a tiny model."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = {"inputs": [("pixels", "float32", ["batch", 4])], "outputs": [("scores", "float32", ["batch", 3])]}
    known = {key: [{"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape in rows] for key, rows in ports.items()}
    head = {"schema": 1, "name": "tiny", "version": "3", "variant": "fp16", "target": "gpu-worker", "graph": "model.onnx"}
    none = {"tokenizer": None, "preprocess": None, "postprocess": None}
    (folder / "model.json").write_text(json.dumps({**head, **known, **none, **settings}))
    return folder


class Edge:
    """A queue, a place for results and a front door before them; `work` does what a worker would."""

    def __init__(self, server: AwsServer, results: str, **settings: str) -> None:
        self.sqs, self.s3, self.dynamodb = (plain_client(name, server) for name in ("sqs", "s3", "dynamodb"))
        self.server = server
        self.url = self.sqs.create_queue(QueueName="requests")["QueueUrl"]
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.dynamodb.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.results = results
        self.clock = Clock()
        self.settings = Settings({"MLPACK_QUEUE_URL": self.url, "MLPACK_RESULTS": results, **settings})
        worker = Worker(self.settings.worker_url) if self.settings.worker_url else None
        ways = (self.queue(self.settings.message_bytes, self.settings.payloads), results_at(results, server), worker)
        self.door = Door(describe(), self.settings, ways, self.clock.now, self.clock.pause)
        server.clear_log()

    def queue(self, limit: int, payloads: tuple[str, str] | None, url: str | None = None) -> Queue:
        """A way into it."""
        sqs, s3 = (quick_client(name, self.server.endpoint) for name in ("sqs", "s3"))
        return Queue(sqs, url or self.url, limit, s3, payloads)

    def messages(self) -> list[dict[str, Any]]:
        """What waits in the queue, taken out: {"body", **attributes}."""
        found = []
        while got := self.sqs.receive_message(
            QueueUrl=self.url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"], MaxNumberOfMessages=10
        ).get("Messages"):
            for one in got:
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=one["ReceiptHandle"])
                attributes = {key: value["StringValue"] for key, value in one.get("MessageAttributes", {}).items()}
                found.append({"body": one["Body"], "system": one["Attributes"], **attributes})
        return found

    def put(self, request_id: str, status: int = 200, body: str = '{"outputs":[]}', **other: Any) -> None:
        """A result, as a worker writes it."""
        document = {
            "status": status,
            "headers": {"content-type": "application/json", "x-trace-id": "t"},
            "body": body,
            "binary": False,
            "trace_id": "t",
            "request_id": request_id,
            **other,
        }
        text = json.dumps(document)
        if self.results == S3_RESULTS:
            self.s3.put_object(Bucket=BUCKET, Key=f"results/tiny/{request_id}.json", Body=text, IfNoneMatch="*")
            return
        item = {"id": {"S": f"tiny/{request_id}"}, "status": {"N": str(status)}, "body": {"S": text}, "expires": {"N": "1"}}
        self.dynamodb.put_item(TableName=TABLE, Item=item, ConditionExpression="attribute_not_exists(id)")

    def work(self) -> None:
        """Answer what waits, with its own body as the answer."""
        for one in self.messages():
            self.put(one["request_id"], body=one["body"])


def event(body: object = REQUEST, method: str = "POST", path: str = "/v2/models/tiny/infer", **headers: str) -> dict[str, Any]:
    """Payload format 2.0; header names with _ for -."""
    return {
        "version": "2.0",
        "rawPath": path,
        "headers": {name.replace("_", "-"): value for name, value in headers.items()},
        "requestContext": {"http": {"method": method}, "stage": "$default"},
        "body": body if isinstance(body, str) or body is None else json.dumps(body),
        "isBase64Encoded": False,
    }
