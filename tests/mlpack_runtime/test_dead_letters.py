"""Where poison goes: said, looked up, refused, or not to be known at the moment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.aws_server import AwsServer, Fault
from workers import Place

from mlpack_runtime import aws as aws_module
from mlpack_runtime.dead_letters import DeadLetters

pytestmark = pytest.mark.slow


@pytest.fixture
def place(aws: AwsServer) -> Iterator[Place]:
    made = Place(aws)
    aws.clear_log()
    yield made
    made.close()


def asked(place: Place) -> list[str]:
    return [one.operation for one in place.aws.log("sqs")]


def test_one_that_is_set_is_not_looked_up(place: Place) -> None:
    assert DeadLetters(place.sqs, place.url, place.dead_url, pytest.fail).url() == place.dead_url
    assert asked(place) == []


def test_the_redrive_policys_is_looked_up_once(place: Place) -> None:
    found = DeadLetters(place.sqs, place.url, "", pytest.fail)
    assert [found.url(), found.url()] == [place.dead_url] * 2
    assert asked(place) == ["GetQueueAttributes", "GetQueueUrl"]


def test_without_a_policy_there_is_none_and_that_is_asked_once(place: Place) -> None:
    found = DeadLetters(place.sqs, place.dead_url, "", pytest.fail)
    assert [found.url(), found.url()] == [None, None]
    assert asked(place) == ["GetQueueAttributes"]


@pytest.mark.parametrize("operation", ["GetQueueAttributes", "GetQueueUrl"])
def test_who_may_not_ask_is_told_once_what_to_set(operation: str, place: Place) -> None:
    place.aws.plan(Fault("error", operation=operation, status=403, code="AccessDenied", message="no"))
    said: list[str] = []
    found = DeadLetters(place.sqs, place.url, "", said.append)
    assert [found.url(), found.url()] == [None, None]
    assert said == ["the queue's dead-letter queue cannot be found (set MLPACK_DLQ_URL): AccessDenied: no"]


@pytest.mark.parametrize("operation", ["GetQueueAttributes", "GetQueueUrl"])
@pytest.mark.parametrize("fault", [Fault("error", onward=True), Fault("close", onward=True)], ids=["error", "close"])
def test_a_service_that_is_away_says_nothing_about_it(operation: str, fault: Fault, place: Place) -> None:
    place.aws.plan(Fault(fault.action, operation=operation, onward=True))
    found = DeadLetters(place.sqs, place.url, "", pytest.fail)
    for _ in range(2):
        with pytest.raises(aws_module.failures()):
            found.url()
    place.aws.plan()
    assert found.url() == place.dead_url
