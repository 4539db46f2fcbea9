"""A sample of what was answered, in S3 or Firehose: its form, its bounds, and what becomes of it when a service fails."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.around_services import Packaged
from tests.support.runtime.functions import function
from tests.support.services.aws_server import REGION, AwsServer, Fault

from mlpack_runtime import model
from mlpack_runtime.around import prediction_log
from mlpack_runtime.model import Described
from mlpack_runtime.telemetry import Record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

S3: dict[str, Any] = {"to": "s3://logs/team/a", "sample": 1.0}
PLAIN = {"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [4]}}
KEYS = {"schema", "timestamp", "trace_id", "request_id", "model", "version", "variant", "target", "batch", "cached", "stages_ms"}
KEYS |= {"request", "answer"}


@pytest.fixture
def bucket(aws: AwsServer) -> Any:
    """A client of S3, with the bucket of the settings."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="logs", CreateBucketConfiguration={"LocationConstraint": REGION})
    aws.clear_log()
    yield s3
    s3.close()


def _sent(bucket: Any) -> list[dict[str, Any]]:
    names = [row["Key"] for row in bucket.list_objects_v2(Bucket="logs").get("Contents", [])]
    lines = [line for name in names for line in bucket.get_object(Bucket="logs", Key=name)["Body"].read().splitlines()]
    return [json.loads(line) for line in lines]


def _flush(one: Packaged) -> bool:
    assert one.service.around is not None
    assert one.service.around.log is not None
    return one.service.around.log.flush(5)


def test_a_line_has_the_request_and_its_answer(packaged: Callable[..., Packaged], bucket: Any) -> None:
    one = packaged(log=S3)
    reply, line = one.ask(PLAIN)
    one.ask({"inputs": {"pixels": [[1]]}})  # refused: not logged
    one.service.http("GET", "/v2/health/ready", {}, b"")
    assert _flush(one)
    (entry,) = _sent(bucket)
    assert entry.keys() == KEYS
    assert (entry["trace_id"], entry["batch"], entry["cached"]) == (line["trace_id"], 1, False)
    assert entry["request"] == PLAIN
    assert entry["answer"] == json.loads(reply.body)
    (name,) = [row["Key"] for row in bucket.list_objects_v2(Bucket="logs")["Contents"]]
    head, prefix, made, version, *day, last = name.split("/")
    assert (head, prefix, made, version) == ("team", "a", one.service.model.name, one.service.model.version)
    assert len(day) == 4
    assert last.endswith(".jsonl")


def test_binary_tensors_are_logged_as_numbers(packaged: Callable[..., Packaged], bucket: Any) -> None:
    one = packaged(log=S3)
    rows = [("pixels", [1, 4], "FP32", struct.pack("<4f", 1, 2, float("nan"), 4)), ("marks", [1], "INT64", struct.pack("<q", 4))]
    described = [
        {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(data)}}
        for name, shape, datatype, data in rows
    ]
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    reply = one.service.http("POST", "/v2/models/tiny/infer", headers, head + b"".join(data for *_, data in rows))
    assert (reply.status, reply.binary) == (200, True)
    assert _flush(one)
    (entry,) = _sent(bucket)
    assert entry["request"]["inputs"][0] == {"name": "pixels", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, None, 4]}
    assert {row["name"] for row in entry["answer"]["outputs"]} == {"scores", "count"}


def test_a_managed_functions_handler_sends_before_it_returns(
    packaged: Callable[..., Packaged], bucket: Any, aws: AwsServer, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged(log=S3)  # a function of the same package and settings is imported
    handler = function(tiny, monkeypatch)
    assert handler(PLAIN)["outputs"]
    assert len(_sent(bucket)) == 1
    aws.plan(Fault("error", service="s3", onward=True, status=403, code="AccessDenied"))
    assert handler(PLAIN)["outputs"]
    assert handler({"inputs": {"pixels": [[1]]}})["error_type"] == "InvalidRequest"
    aws.plan()
    assert handler(PLAIN)["outputs"]
    assert len(_sent(bucket)) == 3


def test_a_sample_follows_from_the_trace_alone() -> None:
    traces = [f"{number:032x}" for number in range(4000)]
    tenth = [trace for trace in traces if prediction_log.in_sample(trace, 0.1)]
    assert 320 < len(tenth) < 480
    assert set(tenth) <= {trace for trace in traces if prediction_log.in_sample(trace, 0.2)}
    assert all(prediction_log.in_sample(trace, 1.0) for trace in traces)
    assert not any(prediction_log.in_sample(trace, 0.0) for trace in traces)


def test_a_hook_redacts_and_its_failure_is_counted(
    packaged: Callable[..., Packaged], bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "redact_of_test.py").write_text(
        "def hide(line):\n"
        "    batch = line['request']['inputs']['marks'][0]\n"
        "    if batch == 1:\n        return None\n"
        "    if batch == 2:\n        raise KeyError('x')\n"
        "    if batch == 3:\n        return 'text'\n"
        "    line['request'] = 'hidden'\n    return line\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    one = packaged(log=S3 | {"redact": "redact_of_test:hide"})
    dropped = [one.ask({"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [mark]}})[1].get("log_dropped") for mark in (1, 2, 3, 4)]
    assert dropped == [None, 1, 1, None]
    assert _flush(one)
    assert [entry["request"] for entry in _sent(bucket)] == ["hidden"]
    with pytest.raises(model.ModelError, match="cannot be imported"):
        packaged(log=S3 | {"redact": "redact_of_test:nothing"})


@pytest.mark.parametrize(
    "failure",
    [
        "raise ValueError(line['request']['secret'])",
        "int(line['request']['secret'])",
        "{}[line['request']['secret']]",
        "raise SystemExit(line['request']['secret'])",
        "return line['request']['secret']",
        "return {'set': {line['request']['secret']}}",
    ],
)
def test_a_hook_that_fails_tells_nothing_of_what_it_hides(
    packaged: Callable[..., Packaged], bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    module = f"redact_{abs(hash(failure))}"
    (tmp_path / f"{module}.py").write_text(
        f"def hide(line):\n    {failure}\n    return line\n"
        "def prepare(request):\n    return {name: value for name, value in request.items() if name != 'secret'}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    one = packaged(log=S3 | {"redact": f"{module}:hide"}, preprocess=f"{module}:prepare")
    reply, line = one.ask({"secret": "123-45-6789", **PLAIN["inputs"]})
    assert (reply.status, line["log_dropped"]) == (200, 1)
    assert "redact" in line["log_error"] or "JSON" in line["log_error"]
    assert "123-45" not in json.dumps(one.lines)
    assert _flush(one)
    assert _sent(bucket) == []


def test_a_request_is_logged_as_it_came_whatever_hooks_do(
    packaged: Callable[..., Packaged], bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "changing_hook.py").write_text(
        "def prepare(request):\n"
        "    request['pixels'][0][0] = 99\n"
        "    request['marks'] = {1, 2}\n"
        "    return {'pixels': [[1, 2, 3, 4]], 'marks': [4]}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    one = packaged(log=S3, preprocess="changing_hook:prepare")
    reply, line = one.ask(PLAIN["inputs"])
    assert (reply.status, line.get("log_dropped")) == (200, None)
    assert _flush(one)
    assert [entry["request"] for entry in _sent(bucket)] == [PLAIN["inputs"]]


@pytest.mark.parametrize("sort", ["image", "sound"])
def test_files_in_any_form_are_logged_by_size_and_digest(packaged: Callable[..., Packaged], sort: str) -> None:
    one = packaged(log=S3)
    log = one.service.around.log if one.service.around is not None else None
    assert log is not None
    described = Described("", {**one.service.model.settings, "task": {sort: {}}}, (), ())
    files, key = prediction_log.PredictionLog(described, S3), {"image": "image", "sound": "audio"}[sort]
    data = bytes(range(256))
    text = base64.b64encode(data).decode()
    known = {"bytes": 256, "sha256": hashlib.sha256(data).hexdigest()}
    for given in (data, text, f"data:application/x;base64,{text}", {"b64": text}, {"url": f"data:;base64,{text}"}):
        for name in (key, "inputs"):
            assert _kept(files, {name: given, "top_k": 3}) == {name: known, "top_k": 3}
    assert _kept(files, {f"{key}s": [text, data], "text": text}) == {f"{key}s": [known, known], "text": text}
    for other in ("https://example.com/a.png", {"url": "https://example.com/a.png"}, [0.5, 1], None):
        assert _kept(files, {key: other}) == {key: other}
    assert _kept(log, {key: text}) == {key: text}  # of no task that reads files: nobody knows what it is


def _kept(log: prediction_log.PredictionLog, value: object) -> object:
    record = Record("t", "r", cold_start=False)
    log.keep(record, value)
    return record.value


def test_what_is_too_much_is_dropped_and_counted(
    packaged: Callable[..., Packaged], monkeypatch: pytest.MonkeyPatch, bucket: Any
) -> None:
    monkeypatch.setattr(prediction_log, "_LINES", 2)
    one = packaged(log=S3)
    assert [one.ask(PLAIN)[1].get("log_dropped") for _ in range(4)] == [None, None, 1, 1]
    assert _flush(one)
    assert len(_sent(bucket)) == 2
    monkeypatch.setattr(prediction_log, "LINE_BYTES", 900)
    one.ask({"inputs": {"pixels": [[1, 2, 3, 4]] * 50, "marks": [4] * 50}})
    assert _flush(one)
    (large,) = (entry for entry in _sent(bucket) if "left_out_bytes" in entry)
    assert large["left_out_bytes"] > 900
    assert "request" not in large


def test_a_function_sends_in_the_middle_of_a_long_invocation(
    packaged: Callable[..., Packaged], monkeypatch: pytest.MonkeyPatch, bucket: Any, aws: AwsServer
) -> None:
    """As one that answers a manifest does, whose items have no lines in the log that could say what was dropped."""
    monkeypatch.setattr(prediction_log, "_LINES", 4)
    monkeypatch.setattr(prediction_log, "_SENT_LINES", 2)
    one = packaged(log=S3)
    assert [one.ask(PLAIN)[1].get("log_dropped") for _ in range(7)] == [None] * 7
    assert _flush(one)
    assert len(_sent(bucket)) == 7
    aws.clear_log()
    aws.plan(Fault("error", service="s3", onward=True, status=403, code="AccessDenied"))
    for _ in range(6):  # where it fails, requests do not try it again and again
        assert one.ask(PLAIN)[0].status == 200
    assert len(aws.log("s3")) == 1


@pytest.mark.parametrize("action", ["hang", "error", "close", "nonsense"])
def test_what_could_not_be_sent_is_sent_later_under_its_name(
    packaged: Callable[..., Packaged], bucket: Any, aws: AwsServer, action: str
) -> None:
    one = packaged(log=S3)
    one.ask(PLAIN)
    aws.plan(Fault(action, service="s3", onward=True, status=403, code="AccessDenied"))
    assert one.service.around is not None
    assert one.service.around.log is not None
    assert not one.service.around.log.flush(0.3)
    _, line = one.ask(PLAIN)
    assert line["log_error"]
    assert line["status"] == 200
    aws.plan()
    assert _flush(one)
    assert len(_sent(bucket)) == 2


def test_the_end_sends_what_waits_and_tells_what_is_lost(
    packaged: Callable[..., Packaged], bucket: Any, aws: AwsServer, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_LAMBDA_RUNTIME_API")
    one = packaged(log=S3)
    one.ask(PLAIN)
    log = one.service.around.log if one.service.around is not None else None
    assert prediction_log.open_log(one.service.model, S3) is log  # a model that was let go and comes back
    prediction_log.close(5)
    assert len(_sent(bucket)) == 1
    other = packaged(log=S3)
    other.ask(PLAIN)
    aws.plan(Fault("error", service="s3", onward=True, status=403, code="AccessDenied"))
    prediction_log.close(1)
    (line,) = [json.loads(text) for text in capfd.readouterr().out.splitlines()]
    assert line["log_dropped"] == 1
    assert "AccessDenied" in line["message"]
    assert prediction_log.OPEN == {}


def test_firehose_gets_a_record_a_line(packaged: Callable[..., Packaged], bucket: Any, aws: AwsServer) -> None:
    firehose = aws.client("firehose")
    role = "arn:aws:iam::123456789012:role/firehose"
    target = {"RoleARN": role, "BucketARN": "arn:aws:s3:::logs"}
    firehose.create_delivery_stream(DeliveryStreamName="predictions", ExtendedS3DestinationConfiguration=target)
    one = packaged(log={"to": "firehose://predictions", "sample": 1.0})
    for mark in (1, 2, 3):
        one.ask({"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [mark]}})
    assert _flush(one)
    assert [entry["request"]["inputs"]["marks"] for entry in _sent(bucket)] == [[1], [2], [3]]
    firehose.close()


def test_records_that_firehose_leaves_out_are_sent_again(
    packaged: Callable[..., Packaged], bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = packaged(log={"to": "firehose://predictions", "sample": 1.0})
    for mark in (1, 2, 3):
        one.ask({"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [mark]}})
    assert one.service.around is not None
    log = one.service.around.log
    assert log is not None
    sent: list[int] = []

    def call(operation: str, payload: Any, **_: Any) -> Any:
        sent.append(len(payload["Records"]))
        rows = [
            {"ErrorCode": "ServiceUnavailableException"} if at and len(sent) == 1 else {"RecordId": "1"} for at in range(sent[-1])
        ]
        return {"FailedPutCount": sum("ErrorCode" in row for row in rows), "RequestResponses": rows}

    monkeypatch.setattr(log._client, "call", call)
    assert not log.flush(1)
    assert log.flush(1)
    assert sent == [3, 2]


def test_pictures_are_not_in_the_log() -> None:
    value = prediction_log._without_bytes({"image": b"\x89PNG", "more": [b"x", 1, None]})
    assert value["image"] == {"bytes": 4, "sha256": "0f4636c78f65d3639ece5a064b5ae753e3408614a14fb18ab4d7540d2c248543"}
    assert value["more"][1:] == [1, None]


def test_a_place_that_is_none_stops_the_start(packaged: Callable[..., Packaged], monkeypatch: pytest.MonkeyPatch) -> None:
    for to in ("logs", "gs://logs/a", "s3://"):
        with pytest.raises(model.ModelError, match="is no address"):
            packaged(log=S3 | {"to": to})
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for settings in ({"log": S3}, {"cache": {"memory_bytes": 1, "ttl_s": 1, "table": "t", "deadline_ms": 1}}):
        with pytest.raises(model.ModelError, match="set AWS_REGION"):
            packaged(**settings)
