"""The front door's zip as Lambda has it: unpacked, its handler in a process of its own, before a real queue and real results.

The worker is played by a thread that does what docs/front-door.md says of messages and results: no GPU and no engine is here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.runtime.front_doors import BUCKET, DYNAMODB_RESULTS, REQUEST, S3_RESULTS, TABLE, Edge, described, event
from tests.support.services.aws_server import ACCOUNT, REGION, AwsServer, Fault
from tests_slow.test_runtime_emulator import STOCK_CLIENT, Booted, boot, lines

from mlpack.targets.format import bytecode, frontdoor
from mlpack.targets.format.contents import Contents

__all__ = ["boot"]

SOURCES = Path(__file__).resolve().parent.parent / "src/mlpack_runtime"
DRIVER = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from mlpack_runtime.frontdoor import handler
class Context:
    aws_request_id = "r-1"
    def get_remaining_time_in_millis(self): return 30000
for line in sys.stdin:
    try:
        answer = handler(json.loads(line), Context())
    except Exception as error:
        answer = {"raised": type(error).__name__, "said": str(error)}
    out.write(json.dumps(answer) + "\\n")
    out.flush()
"""


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """/var/task of the front door, from a package's contents by way of its zip."""
    for name in SOURCES.rglob("*.py"):
        target = tmp_path / "in/runtime/mlpack_runtime" / name.relative_to(SOURCES)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(name.read_bytes())
    running = bytecode.interpreter(f"{sys.version_info[0]}.{sys.version_info[1]}")
    assert running is not None
    bytecode.compile_tree(tmp_path / "in/runtime", running, "/var/task")
    described(tmp_path / "in/code/model")
    given = Contents(runtime=tmp_path / "in/runtime", model=tmp_path / "in", code=tmp_path / "in/code", labels={})
    frontdoor.write_zip(given, tmp_path / "frontdoor.zip")
    with zipfile.ZipFile(tmp_path / "frontdoor.zip") as archive:
        archive.extractall(tmp_path / "task")
    return tmp_path / "task"


@pytest.fixture(params=[S3_RESULTS, DYNAMODB_RESULTS])
def edge(request: pytest.FixtureRequest, aws: AwsServer, unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> Edge:
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(unpacked / "model"))
    return Edge(aws, request.param, MLPACK_DEADLINE_MS="20000", MLPACK_MESSAGE_BYTES="4096", MLPACK_PAYLOADS=f"s3://{BUCKET}/large")


@contextmanager
def working(edge: Edge) -> Iterator[list[dict[str, Any]]]:
    """A worker until the end; what it took out of the queue."""
    taken: list[dict[str, Any]] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            for message in edge.messages():
                taken.append(message)
                body = message["body"]
                if "payload" in message:
                    key = message["payload"].removeprefix(f"s3://{BUCKET}/")
                    body = edge.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()
                try:
                    edge.put(message["request_id"], body=body, trace_id=message["trace_id"])
                except ClientError as error:  # there is one already, which stays
                    assert error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalCheckFailedException")  # noqa: PT017
            ended.wait(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield taken
    finally:
        ended.set()
        thread.join()


class Function:
    """The handler in a process without our environment."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        command = [sys.executable, "-I", "-W", "ignore", "-c", DRIVER, str(root)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env, cwd="/")

    def __call__(self, value: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.end()
        return json.loads(line)

    def end(self) -> str:
        """Its log."""
        return self._process.communicate(timeout=60)[1]


def environment(edge: Edge) -> dict[str, str]:
    settings = {"MLPACK_QUEUE_URL": edge.url, "MLPACK_RESULTS": edge.results, "MLPACK_PAYLOADS": f"s3://{BUCKET}/large"}
    numbers = {"MLPACK_DEADLINE_MS": "20000", "MLPACK_MESSAGE_BYTES": "4096", "MLPACK_BREAKER_FAILURES": "2"}
    return {"PATH": os.environ["PATH"], **edge.server.environment, **settings, **numbers}


@pytest.fixture
def function(edge: Edge, unpacked: Path) -> Iterator[Function]:
    made = Function(unpacked, environment(edge))
    yield made
    made.end()


def asked(function: Function, href: str) -> Any:
    """What a ticket gives in the end."""
    for _ in range(1200):
        answer = function(event(None, "GET", href))
        if answer["statusCode"] != 202:
            return answer
        time.sleep(0.05)
    return pytest.fail("the ticket gave no result in 60 seconds")


def test_results_and_tickets_end_to_end(edge: Edge, function: Function) -> None:
    large = {"inputs": {"pixels": [[1, 2, 3, 4]] * 1000}}
    with working(edge) as taken:
        answer = function(event(x_trace_id="trace-1", x_request_id="first"))
        assert (answer["statusCode"], json.loads(answer["body"])) == (200, REQUEST)
        assert (answer["headers"]["x-trace-id"], answer["headers"]["x-request-id"]) == ("trace-1", "first")
        assert json.loads(function(event(x_request_id="first"))["body"]) == REQUEST
        accepted = function(event(large, prefer="respond-async", x_request_id="second"))
        assert accepted["statusCode"] == 202
        assert json.loads(asked(function, accepted["headers"]["location"])["body"]) == large
        assert function(REQUEST) == REQUEST
        assert function(event({"text": "no"}))["statusCode"] == 400
    assert [message["request_id"] for message in taken] == ["first", "second", "r-1"]
    assert ["payload" in message for message in taken] == [False, True, False]
    logged = [json.loads(line) for line in function.end().splitlines()]
    assert [line["status"] for line in logged if line["batch"]] == [200, 200, 202, 200]
    assert (logged[0]["cold_start"], logged[0]["target"], logged[0]["trace_id"]) == (True, "frontdoor", "trace-1")


def test_a_worker_that_is_late_leaves_a_ticket(edge: Edge, function: Function) -> None:
    late = function(event(x_deadline_ms="3000"))
    body = json.loads(late["body"])
    assert (late["statusCode"], body["error_type"]) == (504, "DeadlineExceeded")
    with working(edge):
        assert json.loads(asked(function, body["href"])["body"]) == REQUEST


def test_services_that_fail(edge: Edge, function: Function, aws: AwsServer) -> None:
    aws.plan(Fault("close", service="sqs", operation="SendMessage", onward=True))
    first, second, third = (function(event())["body"] for _ in range(3))
    assert [json.loads(one)["error_type"] for one in (first, second, third)] == ["Unavailable", "Unavailable", "CircuitOpen"]
    assert function(REQUEST)["raised"] == "InferenceError"
    aws.plan(*(Fault("cut", onward=True, operation=operation) for operation in ("GetObject", "GetItem")))
    edge.put("there")
    answer = function(event(None, "GET", "/v2/requests/there"))
    assert (answer["statusCode"], json.loads(answer["body"])["error_type"]) == (503, "Unavailable")


def test_a_service_that_hangs_is_given_up_within_its_time(edge: Edge, function: Function, aws: AwsServer) -> None:
    assert function(event(None, "GET", "/v2"))["statusCode"] == 200  # it has started, which is no part of that time
    aws.plan(Fault("hang", service="sqs", operation="SendMessage", onward=True))
    began_s = time.monotonic()
    answer = function(event())
    assert (answer["statusCode"], json.loads(answer["body"])["error_type"]) == (503, "Unavailable")
    assert time.monotonic() - began_s < 30  # the service would hang for an hour
    places = [Fault("hang", operation=one, onward=True) for one in ("GetObject", "PutObject", "GetItem", "PutItem")]
    aws.plan(*places)
    began_s = time.monotonic()
    answer = function(event(x_deadline_ms="500"))
    assert (answer["statusCode"], json.loads(answer["body"]).get("ticket")) == (503, "r-1")
    assert time.monotonic() - began_s < 30


def test_requests_at_once_under_one_id_have_one_result(edge: Edge, unpacked: Path) -> None:
    functions = [Function(unpacked, environment(edge)) for _ in range(3)]
    answers: list[Any] = []
    with working(edge):
        same = event(x_request_id="same")
        threads = [threading.Thread(target=lambda made=made: answers.append(made(same))) for made in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [(answer["statusCode"], json.loads(answer["body"])) for answer in answers] == [(200, REQUEST)] * 3
    for made in functions:
        made.end()


@pytest.mark.parametrize("edge", [DYNAMODB_RESULTS], indirect=True)
def test_the_stock_client_serves_it_under_the_emulator(
    edge: Edge, unpacked: Path, boot: Callable[..., Booted], tmp_path: Path
) -> None:
    client = tmp_path / "client"
    install = ["uv", "pip", "install", "--quiet", "--python", sys.executable, "--target", str(client), STOCK_CLIENT]
    subprocess.run([sys.executable, "-m", *install], check=True)
    env = {"PYTHONPATH": f"{unpacked}:{client}", "LAMBDA_TASK_ROOT": str(unpacked), **environment(edge)}
    function = boot(sys.executable, "-m", "awslambdaric", frontdoor.HANDLER, **env)
    with working(edge) as taken:
        answer = function.invoke(event(x_trace_id="trace-1"))
    assert (answer["statusCode"], json.loads(answer["body"])) == (200, REQUEST)
    assert (taken[0]["trace_id"], len(taken[0]["request_id"])) == ("trace-1", 36)
    assert function.invoke({"warmup": True})["warm"] is True
    (line,) = lines(function.log())
    assert (line["status"], line["target"]) == (200, "frontdoor")
    assert edge.dynamodb.describe_table(TableName=TABLE)["Table"]["ItemCount"] == 2  # and what the table was asked with


def policy(edge: Edge) -> dict[str, Any]:
    """The one on the page, for these places, as far as moto enforces it: of resources it knows S3's alone."""
    page = (SOURCES.parent.parent / "docs/front-door.md").read_text("utf-8")
    text = page.partition(f"```json policy-{'s3' if edge.results == S3_RESULTS else 'dynamodb'}\n")[2].partition("```")[0]
    for name, value in {"REGION": REGION, "ACCOUNT": ACCOUNT, "QUEUE": "requests", "BUCKET": BUCKET, "TABLE": TABLE}.items():
        text = text.replace(name, value)
    made: dict[str, Any] = json.loads(text.replace("PREFIX", "results"))
    for statement in made["Statement"]:
        if "s3" not in statement["Resource"]:
            statement["Resource"] = "*"
    return made


@pytest.mark.parametrize("missing", [None, 0, 1])  # s3:ListBucket, the third, changes nothing in moto: there 404 is 404
def test_permissions_on_the_page_are_enough_and_none_is_idle(
    edge: Edge, unpacked: Path, aws: AwsServer, missing: int | None
) -> None:
    statements, iam = policy(edge)["Statement"], aws.client("iam")
    iam.create_user(UserName="door")
    kept = [each for at, each in enumerate(statements) if at != missing]
    iam.put_user_policy(UserName="door", PolicyName="page", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": kept}))
    key = iam.create_access_key(UserName="door")["AccessKey"]
    keys = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    env = environment(edge) | keys | {"MLPACK_PAYLOADS": edge.results if edge.results == S3_RESULTS else ""}
    function = Function(unpacked, {name: value for name, value in env.items() if name != "AWS_SESSION_TOKEN"})
    aws.enforce_iam()
    large = {"inputs": {"pixels": [[1, 2, 3, 4]] * 1000}} if edge.results == S3_RESULTS else REQUEST
    answers = [
        function(event(x_request_id="a", prefer="respond-async")),
        function(event(large, x_request_id="b", x_deadline_ms="1000")),
        function(event(None, "GET", "/v2/requests/a")),
        function(event(None, "GET", "/v2/requests/unknown")),
    ]
    function.end()
    statuses = [answer["statusCode"] for answer in answers]
    if missing is None:
        assert statuses == [202, 504, 202, 404], answers
    else:
        assert 503 in statuses
        assert "Access" in "".join(answer["body"] for answer in answers)
