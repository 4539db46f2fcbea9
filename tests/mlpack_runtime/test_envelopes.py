"""What AWS puts around a request before it lies in a queue."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime.protocol import RequestError
from mlpack_runtime.queueing.envelopes import Opened, opened

REQUEST = '{"text": "a \\"TopicArn\\" of ours"}'


def sns(message: str, **attributes: str) -> str:
    """As SNS puts it into a queue without raw delivery."""
    told = {name: {"Type": "String", "Value": value} for name, value in attributes.items()}
    return json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:x:1:t", "Message": message, "MessageAttributes": told})


def bridge(detail: object, kind: str = "Order Placed", source: str = "shop") -> str:
    """As a rule of EventBridge puts it into a queue."""
    return json.dumps({"version": "0", "id": "e-1", "detail-type": kind, "source": source, "detail": detail})


def notification(key: str = "in/a+b%C3%A9.json", name: str = "ObjectCreated:Put", **thing: Any) -> str:
    """As S3 puts it into a queue."""
    record = {"eventSource": "aws:s3", "eventName": name, "s3": {"bucket": {"name": "b"}, "object": {"key": key, **thing}}}
    return json.dumps({"Records": [record]})


def pointer(name: str = "software.amazon.payloadoffloading.PayloadS3Pointer", **where: str) -> str:
    """As the extended clients put it into a queue."""
    return json.dumps([name, where or {"s3BucketName": "b", "s3Key": "k"}])


def told(found: Opened) -> tuple[str, str]:
    return found.body, found.place.uri if found.place else ""


@pytest.mark.parametrize(
    ("body", "request_", "place"),
    [
        (REQUEST, REQUEST, ""),
        (sns(REQUEST), REQUEST, ""),
        (sns(sns(REQUEST)), REQUEST, ""),
        (bridge({"text": "x"}), '{"text":"x"}', ""),
        (sns(bridge({"text": "x"})), '{"text":"x"}', ""),
        (notification(), "", "s3://b/in/a bé.json"),
        (sns(notification()), "", "s3://b/in/a bé.json"),
        (bridge({"bucket": {"name": "b"}, "object": {"key": "a+b"}}, "Object Created", "aws.s3"), "", "s3://b/a+b"),
        (pointer(), "", "s3://b/k"),
        (pointer("com.amazon.sqs.javamessaging.MessageS3Pointer"), "", "s3://b/k"),
        (sns(pointer()), "", "s3://b/k"),
        # none of these is an envelope: it is refused, or taken, as what it is
        ('{"Type": "Notification", "TopicArn": 3, "Message": "x"}', None, ""),
        ('{"Type": "SubscriptionConfirmation", "TopicArn": "arn", "Message": "x"}', None, ""),
        ('{"detail-type": "x", "detail": {}}', None, ""),
        ('{"Records": [{"eventSource": "aws:s3"}, 3]}', None, ""),
        ('{"Records": [], "x": "aws:s3"}', None, ""),
        ('["software.amazon.payloadoffloading.PayloadS3Pointer"]', None, ""),
        ('["another.S3Pointer", {}]', None, ""),
        ('"TopicArn" is not JSON', None, ""),
    ],
)
def test_request_is_taken_out_of_what_is_around_it(body: str, request_: str | None, place: str) -> None:
    assert told(opened(body, {})) == (body if request_ is None else request_, place)


@pytest.mark.parametrize("body", [sns(REQUEST), bridge({"text": "x"}), notification(), pointer(), sns(notification())])
def test_body_that_is_said_to_be_the_request_is_not_looked_into(body: str) -> None:
    assert told(opened(body, {"envelope": "none"})) == (body, "")
    assert told(opened(body, {"envelope": "any"})) == told(opened(body, {}))


def test_attributes_of_the_message_come_before_those_inside() -> None:
    inside = sns(REQUEST, request_id="inner", trace_id="t")
    assert opened(inside, {"request_id": "outer"}).attributes == {"request_id": "outer", "trace_id": "t"}


def test_object_has_its_version_and_size() -> None:
    found = opened(notification(versionId="v1", size=12), {}).place
    assert found is not None
    assert (found.version, found.size) == ("v1", 12)


@pytest.mark.parametrize(("key", "size", "nothing"), [("in/", 0, True), ("in/", 5, False), ("in/x", 0, False)])
def test_folder_of_s3s_console_asks_for_nothing(key: str, size: int, nothing: bool) -> None:
    assert ("folder" in opened(notification(key, size=size), {}).nothing) is nothing


def test_event_that_s3_sends_to_try_a_queue_asks_for_nothing() -> None:
    assert "test event" in opened('{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}', {}).nothing


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (notification(name="ObjectRemoved:Delete"), "only new objects"),
        (notification(key=""), "which object"),
        (json.dumps({"Records": [json.loads(notification())["Records"][0]] * 2}), "2 objects"),
        (bridge({}, "Object Deleted", "aws.s3"), "only new objects"),
        (bridge({}, "Object Created", "aws.s3"), "which object"),
        (bridge({}, "Scheduled Event", "aws.events"), "warmup"),
        (bridge("{}", "Scheduled Event", "aws.scheduler"), "warmup"),
        (pointer(s3BucketName="b"), "s3Key"),
        (sns(sns(sns(sns(sns("x"))))), "envelopes"),
    ],
)
def test_envelope_without_a_request_is_refused_in_words(body: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        opened(body, {})
    assert caught.value.status == 400


NAMES = ["Type", "TopicArn", "Message", "MessageAttributes", "Value", "detail", "detail-type", "source", "Records", "eventSource"]
NAMES += ["eventName", "s3", "bucket", "object", "name", "key", "size", "Event", "Service"]
WORDS = ["Notification", "aws:s3", "aws.s3", "Object Created", "s3:TestEvent", "ObjectCreated:Put", "Amazon S3"]
JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=20,
)


@given(JSON)
def test_whatever_lies_in_a_queue_is_opened_or_refused(value: object) -> None:
    try:
        found: Opened | str = opened(json.dumps(value), {})
    except RequestError as error:
        found = str(error)
    if isinstance(found, Opened):
        assert isinstance(found.body, str)
        assert found.place is None or found.place.key
    else:
        assert found
