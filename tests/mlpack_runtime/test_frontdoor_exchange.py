"""One request at the front door, over a real queue and real results, with a clock of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from time import sleep, time
from typing import Any

import pytest
from tests.support.runtime.front_doors import BUCKET, DYNAMODB_RESULTS, REQUEST, S3_RESULTS, Edge, described, quick_client
from tests.support.services.aws_server import AwsServer, Fault

from mlpack_runtime.door.exchange import open_door
from mlpack_runtime.door.forms import traced
from mlpack_runtime.door.sending import Message, Queue
from mlpack_runtime.door.settings import SettingsError
from mlpack_runtime.door.tickets import S3Results
from mlpack_runtime.model import ModelError
from mlpack_runtime.queueing.envelopes import opened
from mlpack_runtime.service import Reply

pytestmark = pytest.mark.slow

INFER = "/v2/models/tiny/infer"
OTHER: dict[str, Any] = {"inputs": {"pixels": [[1, 2, 3, 5]]}}


@pytest.fixture
def make(aws: AwsServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def edge(results: str = S3_RESULTS, model: dict[str, Any] | None = None, **settings: str) -> Edge:
        monkeypatch.setenv("MLPACK_MODEL_DIR", str(described(tmp_path, **(model or {}))))
        return Edge(aws, results, **settings)

    return edge


def post(edge: Edge, body: object = REQUEST, path: str = INFER, limit_s: float = float("inf"), **headers: str) -> Reply:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    made = edge.door.exchange(given, "new-id", limit_s)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return made.http("POST", path, given, data, made.request_id)


def get(edge: Edge, path: str, **headers: str) -> Reply:
    made = edge.door.exchange(headers, "ask", float("inf"))
    return made.http("GET", path, headers, b"", made.request_id)


def said(reply: Reply) -> Any:
    return json.loads(reply.body)


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


@pytest.mark.parametrize("results", [S3_RESULTS, DYNAMODB_RESULTS])
def test_a_request_is_answered_with_its_result(make: Any, results: str, capfd: pytest.CaptureFixture[str]) -> None:
    edge = make(results)
    edge.clock.meanwhile = [lambda: None, lambda: None, edge.work]
    reply = post(edge, x_trace_id="trace-1", x_request_id="mine")
    assert (reply.status, said(reply)) == (200, REQUEST)
    assert reply.headers == {"content-type": "application/json", "x-trace-id": "trace-1", "x-request-id": "mine"}
    assert edge.clock.pauses == sorted(edge.clock.pauses)
    (line,) = lines(capfd)
    expected = {"trace_id": "trace-1", "request_id": "mine", "target": "frontdoor", "variant": "fp16", "status": 200}
    assert {key: line[key] for key in expected} == expected
    assert set(line["stages_ms"]) == {"decode", "send", "wait"}
    assert (line["cold_start"], line["batch"]) == (True, 1)
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "mlpack"


def test_a_message_has_what_workers_read(make: Any) -> None:
    edge = make()
    post(edge, x_trace_id="t", x_deadline_ms="1500", prefer="respond-async")
    (message,) = edge.messages()
    assert json.loads(message.pop("body")) == REQUEST
    message.pop("system")
    assert message == {
        "request_id": "new-id",
        "trace_id": "t",
        "model": "tiny",
        "version": "3",
        "envelope": "none",
        "deadline_ms": str(1_000_001_500),
    }


@pytest.mark.parametrize("results", [S3_RESULTS, DYNAMODB_RESULTS])
def test_ids_are_each_tenants_own(make: Any, results: str) -> None:
    digests = {name: hashlib.sha256(f"key of {name}".encode()).hexdigest() for name in ("a", "b")}
    edge = make(results, {"authorize": {"api_keys": {"digests": digests}}})
    mine, other = ({"x-api-key": f"key of {name}"} for name in ("a", "b"))
    accepted = post(edge, prefer="respond-async", idempotency_key="order-1", **mine)
    assert (accepted.status, accepted.headers["location"]) == (202, "/v2/requests/order-1")
    edge.work()
    assert said(get(edge, "/v2/requests/order-1", **mine)) == REQUEST
    assert get(edge, "/v2/requests/order-1", **other).status == 404
    assert get(edge, "/v2/requests/order-1").status == 401
    assert post(edge, OTHER, prefer="respond-async", idempotency_key="order-1", **mine).status == 422
    assert post(edge, OTHER, prefer="respond-async", idempotency_key="order-1", **other).status == 202
    edge.work()
    assert said(get(edge, "/v2/requests/order-1", **other)) == OTHER
    assert said(get(edge, "/v2/requests/order-1", **mine)) == REQUEST


STRANGE = [
    {
        **REQUEST,
        "Type": "Notification",
        "TopicArn": "arn",
        "Message": "{}",
        "MessageAttributes": {"payload": {"Value": "s3://b/k"}},
    },
    {
        **REQUEST,
        "Records": [
            {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}
        ],
    },
    {**REQUEST, "detail-type": "Object Created", "source": "aws.s3", "detail": {"bucket": {"name": "b"}, "object": {"key": "k"}}},
    {**REQUEST, "detail-type": "x", "source": "y", "detail": {"inputs": []}},
]


@pytest.mark.parametrize("body", STRANGE, ids=["sns", "s3", "bridge-s3", "bridge"])
def test_no_object_is_read_because_a_caller_says_so(make: Any, body: dict[str, Any]) -> None:
    """A worker takes what AWS puts around a request off. What a stranger sends through a front door is a request."""
    edge = make()
    post(edge, body, prefer="respond-async")
    (message,) = edge.messages()
    attributes = {name: text for name, text in message.items() if name not in ("body", "system")}
    found = opened(message["body"], attributes)
    assert (json.loads(found.body), found.place, found.attributes) == (body, None, attributes)
    assert opened(message["body"], {}).body != message["body"]  # it would be opened otherwise


def test_a_result_that_is_an_error_is_the_answer(make: Any) -> None:
    edge = make()
    edge.clock.meanwhile = [lambda: edge.put("new-id", 422, '{"error":"x","error_type":"Unprocessable"}')]
    assert (post(edge).status, edge.clock.now_s) == (422, 1_000_000.02)


@pytest.mark.parametrize("results", [S3_RESULTS, DYNAMODB_RESULTS])
def test_a_deadline_that_is_over_leaves_a_ticket(make: Any, results: str) -> None:
    edge = make(results)
    reply = post(edge, path="/v2/v2/models/tiny/infer", x_deadline_ms="1500")
    assert (reply.status, said(reply)["error_type"]) == (504, "DeadlineExceeded")
    assert edge.clock.now_s == pytest.approx(1_000_001.5)
    assert (said(reply)["ticket"], said(reply)["href"]) == ("new-id", "/v2/v2/requests/new-id")
    assert get(edge, said(reply)["href"]).status == 202
    edge.work()
    assert said(get(edge, said(reply)["href"])) == REQUEST


def test_the_functions_own_time_ends_every_wait(make: Any) -> None:
    edge = make()
    assert post(edge, limit_s=edge.clock.now_s + 2, x_deadline_ms="60000").status == 504
    assert edge.clock.now_s == pytest.approx(1_000_002)
    (message,) = edge.messages()
    assert message["deadline_ms"] == str(1_000_060_000)  # the caller's own: it may come back with its ticket


@pytest.mark.parametrize("headers", [{"x_deadline_ms": "0"}, {"x_deadline_ms": "-7", "prefer": "respond-async"}])
def test_a_deadline_that_was_over_before_sends_nothing(make: Any, headers: dict[str, str]) -> None:
    edge = make()
    reply = post(edge, **headers)
    assert (reply.status, "ticket" in said(reply)) == (504, False)
    assert edge.messages() == []


@pytest.mark.parametrize("results", [S3_RESULTS, DYNAMODB_RESULTS])
def test_tickets(make: Any, results: str) -> None:
    edge = make(results)
    reply = post(edge, prefer="respond-async", x_trace_id="t")
    assert (reply.status, said(reply)) == (202, {"ticket": "new-id", "href": "/v2/requests/new-id", "trace_id": "t"})
    expected = {"location": "/v2/requests/new-id", "preference-applied": "respond-async", "retry-after": "1"}
    assert {name: reply.headers[name] for name in expected} == expected
    (message,) = edge.messages()
    assert "deadline_ms" not in message
    pending = get(edge, "/v2/requests/new-id")
    assert (pending.status, "preference-applied" in pending.headers) == (202, False)
    edge.clock.meanwhile = [lambda: edge.put("new-id", body=message["body"])]
    assert (get(edge, "/v2/requests/new-id", prefer="wait=5").status, edge.clock.pauses) == (200, [0.02])
    assert get(edge, "/v2/requests/new-id/").headers["x-request-id"] == "new-id"


def test_a_ticket_that_expired_is_unknown(make: Any) -> None:
    edge = make(MLPACK_MODE="ticket", MLPACK_TICKET_S="60")
    assert post(edge).status == 202
    edge.clock.now_s += 59
    assert get(edge, "/v2/requests/new-id").status == 202
    edge.clock.now_s += 1
    assert get(edge, "/v2/requests/new-id").status == 404


@pytest.mark.parametrize("path", ["/other", "/..", "/a%2Fb", "", "/a/b"])
def test_what_was_never_accepted_is_unknown(make: Any, path: str) -> None:
    reply = get(make(), f"/v2/requests{path}")
    assert (reply.status, said(reply)["error_type"]) == (404, "NotFound")


def test_a_ticket_is_only_asked_with(make: Any) -> None:
    reply = post(make(), path="/v2/requests/a")
    assert (reply.status, said(reply)["error_type"]) == (405, "MethodNotAllowed")


@pytest.mark.parametrize("results", [S3_RESULTS, DYNAMODB_RESULTS])
@pytest.mark.parametrize("header", [{"x_request_id": "mine"}, {"idempotency_key": '"mine"', "x_request_id": "a-proxy's"}])
def test_the_same_request_again_is_the_same_request(make: Any, results: str, header: dict[str, str]) -> None:
    edge = make(results)
    assert post(edge, prefer="respond-async", **header).status == 202
    assert post(edge, prefer="respond-async", **header).status == 202
    assert said(post(edge, x_deadline_ms="100", **header))["ticket"] == "mine"
    (message,) = edge.messages()
    edge.put("mine", body=message["body"])
    assert said(post(edge, **header)) == REQUEST
    assert edge.messages() == []


def test_another_request_under_the_same_id_is_refused(make: Any) -> None:
    edge = make(MLPACK_MODE="ticket")
    assert post(edge, x_request_id="mine").status == 202
    reply = post(edge, OTHER, x_request_id="mine")
    assert (reply.status, said(reply)["error_type"]) == (422, "IdReused")
    assert len(edge.messages()) == 1


@pytest.mark.parametrize("results", [S3_RESULTS, DYNAMODB_RESULTS])
def test_an_old_result_never_answers_another_request(make: Any, results: str) -> None:
    edge = make(results, MLPACK_TICKET_S="60")
    edge.clock.meanwhile = [edge.work]
    assert said(post(edge, x_request_id="order-17")) == REQUEST
    edge.clock.now_s += 61
    for body in (OTHER, REQUEST):  # whose result it is, nobody knows any more
        reply = post(edge, body, x_request_id="order-17")
        assert (reply.status, said(reply)["error_type"]) == (422, "IdReused")
        assert "/v2/requests/order-17" in said(reply)["error"]
    assert edge.messages() == []
    assert said(get(edge, "/v2/requests/order-17")) == REQUEST


@pytest.mark.parametrize("results", [S3_RESULTS, DYNAMODB_RESULTS])
def test_a_ticket_that_expired_is_replaced(make: Any, results: str) -> None:
    edge = make(results, MLPACK_TICKET_S="60")
    assert post(edge, prefer="respond-async", x_request_id="mine").status == 202
    edge.messages()
    edge.clock.now_s += 60
    assert post(edge, OTHER, prefer="respond-async", x_request_id="mine").status == 202
    assert get(edge, "/v2/requests/mine").status == 202
    assert post(edge, x_request_id="mine").status == 422
    edge.work()
    assert said(post(edge, OTHER, x_request_id="mine")) == OTHER


@pytest.mark.parametrize("results", [S3_RESULTS, DYNAMODB_RESULTS])
def test_of_two_requests_at_once_under_one_id_one_is_sent(make: Any, results: str) -> None:
    edge = make(results, MLPACK_MODE="ticket")
    meanwhile = 0
    for call in range(1, 9):  # the other one comes at every place where the first asks for the time
        name, calls, others = f"id-{call}", iter(range(1, 99)), []

        def now() -> float:
            if next(calls) == call:  # noqa: B023
                others.append(post(edge, OTHER, x_request_id=name))  # noqa: B023
            return edge.clock.now()  # type: ignore[no-any-return]

        edge.door.now = now
        first = post(edge, x_request_id=name)
        edge.door.now = edge.clock.now
        meanwhile += len(others)
        second = others[0] if others else post(edge, OTHER, x_request_id=name)
        assert sorted([first.status, second.status]) == [202, 422]
        (message,) = edge.messages()
        assert json.loads(message["body"]) == (REQUEST if first.status == 202 else OTHER)
    assert meanwhile > 2


class Twins(S3Results):
    """The bucket's results, where `twin` happens before the first look for one."""

    twin: Any = None

    def result(self, name: str) -> dict[str, Any] | None:
        """As ever."""
        twin, self.twin = self.twin, None
        if twin is not None:
            twin()
        return super().result(name)


@pytest.mark.parametrize("body", [REQUEST, OTHER])
def test_a_twin_that_is_answered_between_two_looks_is_known(make: Any, aws: AwsServer, body: dict[str, Any]) -> None:
    edge = make()
    edge.door.results = results = Twins(quick_client("s3", aws.endpoint), BUCKET, "results")

    def twin() -> None:
        edge.clock.meanwhile = [edge.work]
        assert said(post(edge, body, x_request_id="mine")) == body

    results.twin = twin
    reply = post(edge, x_request_id="mine")
    assert (reply.status, reply.status == 200 and said(reply)) == ((200, REQUEST) if body is REQUEST else (422, False))
    assert edge.messages() == []


@pytest.mark.parametrize("results", [S3_RESULTS, DYNAMODB_RESULTS])
def test_what_was_noted_but_not_sent_is_sent_the_next_time(make: Any, aws: AwsServer, results: str) -> None:
    edge = make(results)
    aws.plan(Fault("error", service="sqs", operation="SendMessage", onward=True))
    assert post(edge, x_request_id="mine").status == 503
    aws.plan()
    assert edge.messages() == []
    edge.clock.meanwhile = [edge.work]
    assert said(post(edge, x_request_id="mine")) == REQUEST


@pytest.mark.parametrize("given", ["../secret", "a b", "é", "x" * 129, ".."])
def test_an_id_that_could_be_a_path_is_refused(make: Any, given: str) -> None:
    edge = make()
    reply = post(edge, x_request_id=given)
    assert (reply.status, said(reply)["error_type"]) == (400, "InvalidRequest")
    assert edge.messages() == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "JSON list"),
        (b"{}", "no keys"),
        ({"inputs": []}, "'pixels' is missing"),
        ({"inputs": {"pixels": [[1, 2]]}}, "has shape"),
        ({"inputs": [{**REQUEST["inputs"][0], "datatype": "INT64"}]}, "datatype"),
        ({"inputs": [{**REQUEST["inputs"][0], "shape": [1, 5]}]}, "holds 5 values"),
        ({"inputs": [{**REQUEST["inputs"][0], "data": ["1", 2, 3, 4]}]}, "holds a str"),
        ({"inputs": [*REQUEST["inputs"], {**REQUEST["inputs"][0], "name": "more"}]}, "unknown input 'more'"),
        ({**REQUEST, "outputs": [{"name": "logits"}]}, "unknown output 'logits'"),
        ({"text": "the cat"}, "the body has 'text'"),
    ],
)
def test_what_a_worker_would_refuse_is_never_sent(make: Any, body: object, message: str) -> None:
    edge = make()
    reply = post(edge, body)
    assert (reply.status, said(reply)["error_type"]) == (400, "InvalidRequest")
    assert message in said(reply)["error"]
    assert said(reply)["trace_id"] == reply.headers["x-trace-id"]
    assert edge.messages() == []


def test_paths_are_a_packages_own(make: Any) -> None:
    edge = make()
    assert post(edge, path="/v2/models/other/infer").status == 404
    assert post(edge, path="/v2/models/tiny/versions/4/infer").status == 404
    assert said(get(edge, "/v2/health/ready")) == {"ready": True}
    assert said(get(edge, "/v2/models/tiny"))["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 4]}]
    assert edge.messages() == []


def test_texts_are_checked_and_passed_as_they_are(make: Any) -> None:
    edge = make(model={"tokenizer": {"file": "tokenizer.json"}}, MLPACK_MODE="ticket")
    assert post(edge, {"texts": ["the", 3]}).status == 400
    assert post(edge, {"texts": ["the \uffff cat", "kät"]}).status == 202
    assert json.loads(edge.messages()[0]["body"]) == {"texts": ["the \uffff cat", "kät"]}


def test_what_a_hook_takes_is_passed_as_it_is(make: Any) -> None:
    edge = make(model={"preprocess": "app:preprocess", "postprocess": "app:postprocess"}, MLPACK_MODE="ticket")
    assert post(edge, ["a list"]).status == 400
    assert post(edge, {"row": 1}, path="/anything").status == 202
    assert post(edge, REQUEST | {"inputs": []}).status == 400  # the protocol's form goes past the hooks
    assert json.loads(edge.messages()[0]["body"]) == {"row": 1}


def test_what_a_task_takes_is_passed_and_traced(make: Any) -> None:
    edge = make(
        model={"tokenizer": {"file": "tokenizer.json"}, "task": {"name": "rerank", "output": "scores"}}, MLPACK_MODE="ticket"
    )
    assert post(edge, ["a list"]).status == 400
    question = {"query": "cat", "documents": ["dog"]}
    assert post(edge, question).status == 202
    assert json.loads(edge.messages()[0]["body"]) == question


def test_a_direct_answer_of_a_task_has_its_trace_id_once(make: Any) -> None:
    edge = make(model={"task": {"name": "embeddings", "output": "scores"}})
    edge.clock.meanwhile = [edge.work]
    reply = edge.door.exchange({}, "new-id", float("inf")).value({"input": "a"}, "new-id")
    assert said(reply) == {"trace_id": reply.headers["x-trace-id"], "input": "a"}
    answer = {"model_name": "tiny", "outputs": [], "parameters": {"trace_id": "theirs"}}
    assert said(traced(Reply(200, json.dumps(answer).encode(), {}), "ours")) == answer


def test_binary_tensors_travel_as_json_and_come_back_binary(make: Any) -> None:
    edge = make()
    raw = struct.pack("<4f", 1, 2.5, 3, 4)
    row = {"name": "pixels", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    head = json.dumps({"inputs": [row], "parameters": {"binary_data_output": True}}).encode()

    def work() -> None:
        (message,) = edge.messages()
        assert json.loads(message["body"])["inputs"][0]["data"] == [1, 2.5, 3, 4]
        answer = {"content-type": "application/octet-stream", "inference-header-content-length": "2"}
        edge.put("new-id", body=base64.b64encode(b"{}" + raw).decode(), binary=True, headers=answer)

    edge.clock.meanwhile = [work]
    reply = post(edge, head + raw, inference_header_content_length=str(len(head)))
    assert (reply.status, reply.body, reply.binary) == (200, b"{}" + raw, True)
    assert reply.headers["inference-header-content-length"] == "2"


def test_large_requests_go_through_s3(make: Any) -> None:
    edge = make(MLPACK_MESSAGE_BYTES="1024", MLPACK_MODE="ticket")
    value = {"inputs": {"pixels": [[1, 2, 3, 4]] * 500}}
    assert post(edge, value).status == 202
    (message,) = edge.messages()
    key = message["payload"].removeprefix(f"s3://{BUCKET}/")
    assert (message["body"], key.startswith("results/tiny/new-id.")) == ("{}", True)
    assert json.loads(edge.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()) == value


def test_large_requests_without_a_place_are_413(make: Any) -> None:
    edge = make(DYNAMODB_RESULTS, MLPACK_MESSAGE_BYTES="1024")
    reply = post(edge, {"inputs": {"pixels": [[1, 2, 3, 4]] * 500}})
    assert (reply.status, said(reply)["error_type"]) == (413, "PayloadTooLarge")


@pytest.mark.parametrize("headers", [{"prefer": "wait=1"}, {"x_deadline_ms": "300"}, {"prefer": "respond-async"}])
def test_messages_are_passed_on_or_413_to_their_last_byte(make: Any, headers: dict[str, str]) -> None:
    edge = make(DYNAMODB_RESULTS, {"preprocess": "app:preprocess"}, MLPACK_MESSAGE_BYTES="1024", MLPACK_BREAKER_FAILURES="1")
    told = []
    for size in range(870, 930):  # 30 of them are a deadline's attribute
        reply = said(post(edge, {"row": "x" * size}, x_request_id=f"id-{size}", x_trace_id="t" * 32, **headers))
        told.append(reply["error_type"] if "error" in reply else "Accepted")
    assert set(told) == {"PayloadTooLarge", "Accepted" if "respond-async" in headers.values() else "DeadlineExceeded"}
    assert told == sorted(told, key="PayloadTooLarge".__eq__)


class Broken(Queue):
    """A way into the queue with a bug in it."""

    def send(self, message: Message, trace_header: str | None = None) -> None:
        """Fail before the queue is asked."""
        raise LookupError(message.name)


def test_what_is_no_fault_of_the_queue_leaves_its_circuit_alone(make: Any, aws: AwsServer) -> None:
    edge = make(MLPACK_MODE="ticket", MLPACK_BREAKER_FAILURES="1")
    queue, broken = edge.door.queue, Broken(None, edge.url, 262_144)
    edge.door.queue = broken
    assert [post(edge).status for _ in range(2)] == [500, 500]
    edge.door.queue = queue
    aws.plan(Fault("error", service="sqs", operation="SendMessage", onward=True))
    assert [said(post(edge))["error_type"] for _ in range(2)] == ["Unavailable", "CircuitOpen"]
    aws.plan()
    edge.clock.now_s += 10
    edge.door.queue = broken
    assert post(edge).status == 500  # the probe, which is given back
    edge.door.queue = queue
    assert [post(edge).status for _ in range(2)] == [202, 202]


def test_the_circuit_opens_and_closes_with_the_queue(make: Any, aws: AwsServer) -> None:
    edge = make(MLPACK_BREAKER_FAILURES="2", MLPACK_MODE="ticket")
    aws.plan(Fault("error", service="sqs", operation="SendMessage", onward=True))
    for _ in range(2):
        assert said(post(edge))["error_type"] == "Unavailable"
    sent = len(aws.log("sqs"))
    reply = post(edge)
    assert (reply.status, said(reply)["error_type"], reply.headers["retry-after"]) == (503, "CircuitOpen", "10")
    assert len(aws.log("sqs")) == sent
    edge.clock.now_s += 10
    assert said(post(edge))["error_type"] == "Unavailable"  # the probe
    assert said(post(edge))["error_type"] == "CircuitOpen"
    aws.plan()
    edge.clock.now_s += 20
    assert [post(edge).status for _ in range(2)] == [202, 202]


def test_a_backlog_is_read_now_and_then_and_turns_requests_away(make: Any, aws: AwsServer) -> None:
    edge = make(MLPACK_BACKLOG_LIMIT="1", MLPACK_MODE="ticket")
    assert [post(edge).status for _ in range(3)] == [202, 202, 202]  # as it was at the first of them
    edge.clock.now_s += 5
    reply = post(edge)
    assert (reply.status, said(reply)["error_type"], reply.headers["retry-after"]) == (503, "Overloaded", "5")
    assert post(edge, x_request_id="mine").status == 503
    assert get(edge, "/v2/requests/mine").status == 404  # what was turned away has no ticket
    assert [one.operation for one in aws.log("sqs")].count("GetQueueAttributes") == 2
    edge.messages()
    edge.clock.now_s += 5
    aws.plan(Fault("error", service="sqs", operation="GetQueueAttributes"))
    assert post(edge).status == 202  # unknown is no reason


def test_results_that_cannot_be_read_are_503_with_a_ticket(make: Any, aws: AwsServer) -> None:
    edge = make()
    aws.plan(Fault("error", service="s3", operation="GetObject", code="AccessDenied", status=403, onward=True))
    reply = post(edge, x_deadline_ms="300")
    assert (reply.status, said(reply)["error_type"], said(reply)["ticket"]) == (503, "Unavailable", "new-id")
    assert "AccessDenied" in said(reply)["error"]
    assert get(edge, "/v2/requests/new-id").status == 503


def test_results_that_can_be_read_again_are_waited_for(make: Any, aws: AwsServer) -> None:
    edge = make()
    aws.plan(Fault("close", service="s3", operation="GetObject"))
    edge.clock.meanwhile = [edge.work]
    assert post(edge).status == 200


def test_a_ticket_that_cannot_be_kept_is_not_given(make: Any, aws: AwsServer) -> None:
    edge = make(MLPACK_MODE="ticket")
    aws.plan(Fault("error", service="s3", operation="PutObject", onward=True))
    assert post(edge).status == 503
    assert edge.messages() == []


@pytest.mark.parametrize("results", [S3_RESULTS, DYNAMODB_RESULTS])
def test_a_note_that_fails_after_sending_changes_no_answer(make: Any, aws: AwsServer, results: str) -> None:
    edge, operation = make(results), "PutObject" if results == S3_RESULTS else "PutItem"
    aws.plan(Fault("error", operation=operation, number=2, onward=True))
    edge.clock.meanwhile = [aws.plan, edge.work]
    assert said(post(edge, x_request_id="mine")) == REQUEST


@pytest.mark.parametrize("results", [S3_RESULTS, DYNAMODB_RESULTS])
@pytest.mark.parametrize("named", [True, False])
def test_a_503_after_sending_has_a_ticket(make: Any, aws: AwsServer, results: str, named: bool) -> None:
    edge, operation = make(results), "PutObject" if results == S3_RESULTS else "PutItem"
    aws.plan(Fault("error", operation=operation, number=2 if named else 1, onward=True, code="AccessDenied", status=403))
    given = {"x_request_id": "new-id"} if named else {}
    reply = post(edge, x_deadline_ms="300", **given)
    assert (reply.status, said(reply)["error_type"]) == (503, "Unavailable")
    assert "AccessDenied" in said(reply)["error"]
    assert (said(reply)["ticket"], said(reply)["href"]) == ("new-id", "/v2/requests/new-id")
    aws.plan()
    assert get(edge, "/v2/requests/new-id").status == (202 if named else 404)
    edge.work()
    assert said(get(edge, "/v2/requests/new-id")) == REQUEST


@pytest.mark.parametrize("named", [True, False])
def test_results_that_hang_are_given_up_once(make: Any, aws: AwsServer, named: bool) -> None:
    edge = make()
    edge.door.now, edge.door.pause = time, sleep
    edge.door.results = S3Results(quick_client("s3", aws.endpoint, 2.0), BUCKET, "results")
    hangs = Fault("hang", service="s3", operation="PutObject", number=2 if named else 1, onward=True)
    aws.plan(Fault("hang", service="s3", operation="GetObject", number=3 if named else 1, onward=True), hangs)
    given = {"x_request_id": "new-id"} if named else {}
    reply = post(edge, x_deadline_ms="2000", **given)
    assert 1 <= len([one for one in aws.log("s3") if one.fault]) <= 2  # within the deadline, and a last time
    assert (reply.status, said(reply)["error_type"], said(reply)["ticket"]) == (503, "Unavailable", "new-id")


def test_a_direct_invocation_gets_json_with_its_trace_id(make: Any) -> None:
    edge = make(model={"preprocess": "app:preprocess", "postprocess": "app:postprocess"})
    edge.clock.meanwhile = [edge.work]
    reply = edge.door.exchange({}, "new-id", float("inf")).value({"row": 1}, "new-id")
    assert said(reply) == {"trace_id": reply.headers["x-trace-id"], "row": 1}
    binary = edge.door.exchange({}, "other", float("inf")).value({**REQUEST, "parameters": {"binary_data_output": True}})
    assert (binary.status, "binary outputs need HTTP" in said(binary)["error"]) == (400, True)


def test_a_door_that_cannot_open_says_why(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = {"MLPACK_WORKER_URL": "http://worker:8080"}
    with pytest.raises(SettingsError):
        open_door({})
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(tmp_path))
    with pytest.raises(ModelError, match=r"no model\.json"):
        open_door(worker)
    odd = described(tmp_path / "m", inputs=[{"name": "x", "dtype": "complex64", "shape": []}])
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(odd))
    with pytest.raises(ModelError, match="inputs is no list of ports"):
        open_door(worker)
