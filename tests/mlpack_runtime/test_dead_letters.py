"""Where poison goes: said, looked up, refused, or not to be known at the moment."""

from __future__ import annotations

import pytest
from tests.support.runtime.workers import Place
from tests.support.services.aws_server import Fault

from mlpack_runtime import aws as aws_module
from mlpack_runtime.queueing.dead_letters import SETTLE_S, DeadLetters

pytestmark = pytest.mark.slow

DENIED = Fault("error", operation="GetQueueAttributes", status=403, code="AccessDenied", message="no", onward=True)


@pytest.fixture(autouse=True)
def _new_log(place: Place) -> None:
    place.aws.clear_log()


def asked(place: Place) -> list[str]:
    return [one.operation for one in place.aws.log("sqs")]


def test_one_that_is_set_is_not_looked_up(place: Place) -> None:
    assert DeadLetters(place.sqs, place.url, place.dead_url, pytest.fail).url() == place.dead_url
    assert asked(place) == []


def test_the_redrive_policys_is_looked_up_once(place: Place) -> None:
    found = DeadLetters(place.sqs, place.url, "", pytest.fail)
    assert [found.url(), found.url()] == [place.dead_url] * 2
    assert asked(place) == ["GetQueueAttributes"]


def test_without_a_policy_there_is_none_and_that_is_asked_once(place: Place) -> None:
    found = DeadLetters(place.sqs, place.dead_url, "", pytest.fail)
    assert [found.url(), found.url()] == [None, None]
    assert asked(place) == ["GetQueueAttributes"]


def test_missing_right_is_believed_after_a_while_and_may_come(place: Place) -> None:
    said: list[str] = []
    now_s = [1000.0]
    found = DeadLetters(place.sqs, place.url, "", said.append, clock=lambda: now_s[0])
    place.aws.plan(DENIED)
    for _ in range(2):
        with pytest.raises(aws_module.failures(), match="AccessDenied"):
            found.url()
    now_s[0] += SETTLE_S
    assert found.url() is None
    assert said == ["the queue's dead-letter queue may not be looked up (set MLPACK_DLQ_URL): AccessDenied: no"]
    place.aws.plan()
    assert found.url() == place.dead_url


@pytest.mark.parametrize("action", ["error", "close"])
def test_a_service_that_is_away_says_nothing_about_it(action: str, place: Place) -> None:
    place.aws.plan(Fault(action, operation="GetQueueAttributes", onward=True))
    found = DeadLetters(place.sqs, place.url, "", pytest.fail)
    for _ in range(2):
        with pytest.raises(aws_module.failures()):
            found.url()
    place.aws.plan()
    assert found.url() == place.dead_url
