"""Batches, streams and their failures, as their sources are told of them; without a place for answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.runtime.functions import Context, function
from tests.support.runtime.source_events import DATA, REQUEST, ROWS, bridge, dynamodb, item, kinesis, sns, sqs

from mlpack_runtime.limits import SettingsError
from mlpack_runtime.triggers import records, sources
from mlpack_runtime.triggers.answers import Clock
from mlpack_runtime.triggers.records import FormError
from mlpack_runtime.triggers.settings import Settings

FIFO = "arn:aws:sqs:eu-west-1:1:work.fifo"
Function = Callable[..., Any]


@pytest.fixture
def call(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Function:
    return function(tiny, monkeypatch)


def failures(answer: Any) -> list[str]:
    assert answer.keys() == {"batchItemFailures"}
    return [one["itemIdentifier"] for one in answer["batchItemFailures"]]


def lines(captured: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in captured.readouterr().out.splitlines()]


def grouped(*groups: str, body: Any = REQUEST) -> dict[str, Any]:
    """Messages of these groups in a FIFO queue; one of a group in capitals is wrong."""
    event = sqs(*("wrong" if group.isupper() else body for group in groups), arn=FIFO)
    for record, group in zip(event["Records"], groups, strict=True):
        record["attributes"]["MessageGroupId"] = group.lower()
    return event


def test_what_is_wrong_in_a_batch_is_told_and_the_rest_answered(call: Function, capfd: Any) -> None:
    assert failures(call(sqs(REQUEST, "wrong", REQUEST, {"nonsense": 1}))) == ["m-1", "m-3"]
    told = lines(capfd)
    assert [line["status"] for line in told if "batch" in line] == [200, 400, 200, 400]
    assert [line["request_id"] for line in told if "batch" in line] == ["m-0", "m-1", "m-2", "m-3"]
    assert told[0]["message"].startswith("MLPACK_RESULTS is not set")
    assert told[-1]["level"] == "WARNING"
    assert told[-1]["message"].startswith("2 of 4 records of an SQS queue come again: m-1: 400 the body is not JSON")
    assert failures(call(sqs(REQUEST))) == []
    assert "MLPACK_RESULTS" not in str(lines(capfd))  # once is enough


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (grouped("A", "a", "b"), ["m-0", "m-1"]),
        (grouped("a", "A", "b", "a", "B", "b", "c"), ["m-1", "m-3", "m-4", "m-5"]),
        (grouped("a", "b", "c"), []),
        # Groups of a queue that is not FIFO are for fairness: they have no order.
        (sqs("wrong", REQUEST, group="a"), ["m-0"]),
    ],
)
def test_order_within_a_group_is_kept_after_a_failure(call: Function, event: Any, expected: list[str]) -> None:
    assert failures(call(event)) == expected


def test_message_that_is_refused_again_holds_nobody_back(call: Function) -> None:
    """Receipts of those behind it are counted too: they would end in the dead-letter queue with it."""
    event = grouped("A", "a", "a")
    with pytest.raises(RuntimeError, match="3 of 3 records"):
        call(event)
    for record in event["Records"]:
        record["attributes"]["ApproximateReceiveCount"] = "2"
    assert failures(call(event)) == ["m-0"]


def test_message_behind_a_failure_is_not_computed(call: Function, capfd: Any) -> None:
    call(grouped("A", "a", "b"))
    assert [line["request_id"] for line in lines(capfd) if "batch" in line] == ["m-0", "m-2"]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (kinesis(DATA, DATA), []),
        (kinesis(DATA, "e30=", DATA, "e30="), ["101"]),
        (kinesis(DATA, DATA, "%%%"), ["102"]),
        (kinesis(DATA, ""), ["101"]),
        (dynamodb({"request": REQUEST}, {"request": "{}"}, {"request": REQUEST}), ["201"]),
        (dynamodb(REQUEST, {"request": json.dumps(REQUEST)}), []),
    ],
)
def test_stream_is_told_of_its_first_failure(call: Function, event: Any, expected: list[str], capfd: Any) -> None:
    assert failures(call(event)) == expected
    at = len(event["Records"]) if not expected else int(expected[0]) % 100 + 1
    assert len([line for line in lines(capfd) if "batch" in line]) == at  # what follows comes again anyway


def test_removed_items_and_test_events_ask_for_nothing(call: Function, capfd: Any) -> None:
    assert failures(call(dynamodb({"request": REQUEST}, name="REMOVE"))) == []
    assert failures(call(sqs({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}))) == []
    assert [line for line in lines(capfd) if "batch" in line] == []


@pytest.mark.parametrize("event", [sqs("a", "b"), kinesis("e30=", DATA), dynamodb({"request": 1}), grouped("A", "a"), sqs("a")])
def test_batch_of_which_all_comes_again_is_a_function_error(call: Function, event: Any) -> None:
    """A mapping that does not read batchItemFailures would delete them all."""
    with pytest.raises(RuntimeError, match=r"records of .* come again") as caught:
        call(event)
    assert json.loads(str(caught.value))["error_type"] == "BatchFailed"


def test_a_failed_asynchronous_event_says_where_it_came_from(call: Function) -> None:
    with pytest.raises(RuntimeError) as caught:
        call(bridge({"x": 1}, "EC2 Instance State-change", "aws.ec2"))
    told = json.loads(str(caught.value))
    assert told["source"] == "EventBridge: 'aws.ec2', 'EC2 Instance State-change'"
    assert told["error"].startswith("the body has 'x'")


def test_answers_of_asynchronous_events_are_their_destinations(call: Function) -> None:
    assert call(sns(trace_id="edge-1"))["parameters"]["trace_id"] == "edge-1"
    assert call(bridge(REQUEST))["outputs"][1]["data"] == [2]
    two = {"Records": sns()["Records"] * 2}
    assert [one["outputs"][1]["data"] for one in call(two)] == [[2], [2]]
    rows = [{"name": "pixels", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}]
    rows += [{"name": "marks", "shape": [1], "datatype": "INT64", "data": [2]}]
    binary = call(sns(json.dumps({"inputs": rows, "parameters": {"binary_data_output": True}})))
    assert (binary["status"], binary["binary"]) == (200, True)


def test_items_of_a_map_are_answered_in_their_order(call: Function) -> None:
    first, wrong, last = call({"Items": [REQUEST, {"nonsense": 1}, REQUEST]})
    assert (first["outputs"][1]["data"], last["outputs"][1]["data"]) == ([2], [2])
    assert wrong["error_type"] == "InvalidRequest"
    assert call({"Items": [], "BatchInput": {}}) == []


def test_what_there_is_no_time_for_comes_again(call: Function, capfd: Any) -> None:
    with pytest.raises(RuntimeError, match="no time left"):
        call(sqs(REQUEST, REQUEST), Context(left_ms=400))
    assert [line for line in lines(capfd) if line.get("batch")] == []


def test_items_that_there_is_no_time_for_fail_their_batch(call: Function) -> None:
    with pytest.raises(RuntimeError, match="after 0 of 2 items"):
        call({"Items": [REQUEST, REQUEST]}, Context(left_ms=400))


def test_a_record_is_begun_when_there_is_time_for_the_longest() -> None:
    now_s = 100.0
    clock = Clock(10, lambda: now_s)
    assert clock.has_time()
    now_s += 4
    assert clock.has_time()
    now_s += 1
    assert clock.has_time()  # 5 s are gone, and 4.5 s are left for one of 4 s
    now_s += 1
    assert not clock.has_time()
    assert Clock(float("inf")).has_time()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"BAD": 1}, "the type 'BAD'"),
        ({"N": "x"}, "invalid literal"),
        ({"N": "9" * 100}, "no short text"),
        ({"N": "1e999"}, "not JSON compliant"),
        ({"S": "a", "N": "1"}, "one type"),
        ("text", "one type"),
        ({"L": 3}, "the type 'L'"),
    ],
)
def test_items_that_dynamodb_would_not_write_are_refused(value: Any, words: str) -> None:
    event = dynamodb({"request": REQUEST})
    event["Records"][0]["dynamodb"]["NewImage"] = {"request": value}
    (found,) = records.read("dynamodb", event["Records"])
    assert words in str(found.refused)


def test_item_is_read_as_json_has_it() -> None:
    value = {"id": "7", "request": {"a": [1, 2.5, None, True, "x"], "b": {}}, "trace_id": "t", "rank": 3}
    (found,) = records.read("dynamodb", dynamodb(value)["Records"])
    assert json.loads(found.body) == value["request"]
    assert found.opened.attributes == {"trace_id": "t"}
    (whole,) = records.read("dynamodb", dynamodb({"text": "x"})["Records"])
    assert json.loads(whole.body) == {"text": "x"}
    assert item(None) == {"NULL": True}


def test_kinds_of_streams_without_new_items_are_told() -> None:
    event = dynamodb({"request": REQUEST})
    del event["Records"][0]["dynamodb"]["NewImage"]
    with pytest.raises(FormError, match="NEW_IMAGE"):  # no record of the stream has any: it is the stream that is wrong
        records.read("dynamodb", event["Records"])


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("sqs", {}),
        ("sqs", {"messageId": 3, "body": "x"}),
        ("sns", {"Sns": []}),
        ("sns", {}),
        ("kinesis", {"kinesis": {"data": DATA}}),
        ("kinesis", {"kinesis": {"data": DATA, "sequenceNumber": "1", "approximateArrivalTimestamp": 10**400}}),
        ("dynamodb", {"dynamodb": {}, "eventName": "INSERT"}),
        ("dynamodb", {"dynamodb": {"SequenceNumber": "1"}, "eventName": "INSERT"}),
    ],
)
def test_record_without_its_sources_form_is_the_events_fault(name: str, record: Any) -> None:
    with pytest.raises(FormError, match=f"record 0 of the event is not as {name} has them"):
        records.read(name, [record])


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("sqs", {"messageId": "m", "body": 3}),
        ("sqs", {"messageId": "m", "attributes": {"ApproximateReceiveCount": "9" * 5000, "SentTimestamp": "now"}}),
        ("sns", {"Sns": {"MessageId": "m"}}),
        ("kinesis", {"kinesis": {"sequenceNumber": "1", "data": None}}),
        ("dynamodb", {"dynamodb": {"SequenceNumber": "1", "NewImage": {"id": 3}}, "eventName": "INSERT"}),
    ],
)
def test_record_without_a_request_fails_alone(name: str, record: Any) -> None:
    (found,) = records.read(name, [record])
    assert found.refused is not None
    assert (found.receives, found.age_ms) == (1, None)


def test_names_of_results_about_objects_are_names_and_differ() -> None:
    keys = ["in/a b.json", "in/a-b.json", "é" * 500, "", "a" * 1024, "../..", "\ud800"]
    names = [records.object_name(key, f"b/{key}", "v", "1") for key in keys]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 200 and name.isascii() and "/" not in name for name in names)


@pytest.mark.parametrize(
    "env",
    [{"MLPACK_EVENTS": "sqs,kafka"}, {"MLPACK_EVENTS": "direct,sqs"}, {"MLPACK_RAISE": "all"}, {"MLPACK_RESULTS": "results"},
     {"MLPACK_RESULTS_KEEP_S": "soon"}, {"MLPACK_ANSWER_BYTES": "256 KB"}, {"MLPACK_ANSWER_BYTES": "7000000"}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_named(env: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(env))):
        Settings(env)


def test_wrong_setting_stops_the_start(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="MLPACK_EVENTS"):
        function(tiny, monkeypatch, MLPACK_EVENTS="carrier-pigeon")


def test_without_botocore_it_is_said_what_is_missing(tiny: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    import sys

    call = function(tiny, monkeypatch, MLPACK_RESULTS="s3://results/answers")
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setitem(sys.modules, "botocore.config", None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(RuntimeError, match="botocore is neither in this package nor in its Python"):
        call(sqs(REQUEST))
    assert lines(capfd)[-1]["status"] == 503


@pytest.fixture(scope="module")
def long_lived(tiny: Path) -> Iterator[Function]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the discard port: nobody listens
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield function(tiny, patch)


KINDS = ("InvalidRequest", "UnsupportedEvent", "BatchFailed", "NotFound", "Unprocessable", "Unavailable")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """An event of the table with one part replaced or removed, wherever it is."""
    event = json.loads(json.dumps(draw(st.sampled_from(ROWS)).event))
    holder: Any = [event]
    at: Any = 0
    while isinstance(holder[at], (dict, list)) and holder[at] and draw(st.integers(0, 3)):
        holder = holder[at]
        at = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else list(range(len(holder)))))
    if holder == [event] or draw(st.booleans()):
        holder[at] = draw(VALUES)
        return holder[0] if holder == [event] else event
    del holder[at]
    return event


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damaged() | VALUES)
def test_no_event_of_any_shape_is_a_fault_without_a_sentence(long_lived: Function, event: Any) -> None:
    try:
        answer = long_lived(event)
    except RuntimeError as error:
        answer, raised = json.loads(str(error)), type(error).__name__
    else:
        raised = ""
    if raised:
        assert raised == "InferenceError"
        assert len(answer["error"]) > 10
        assert answer["error_type"] in KINDS
    else:
        source = sources.recognize(event)
        json.dumps(answer)
        # An answer with an error in it would be a success to the service.
        assert source is None or source.name in ("map", sources.LATTICE) or "error" not in answer
