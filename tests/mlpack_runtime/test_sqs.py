"""A queue over HTTP: deliveries held, extended, lost, deleted and buried."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import pytest
from tests.support.runtime.workers import Place, until
from tests.support.services.aws_server import AwsServer, Fault

from mlpack_runtime import aws as aws_module
from mlpack_runtime.queueing.dead_letters import DeadLetters
from mlpack_runtime.queueing.sqs import LONGEST_S, BurialError, Deleter, Keeper, Queue

pytestmark = pytest.mark.slow


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def place(aws: AwsServer) -> Iterator[Place]:
    made = Place(aws, receives=50)
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(place: Place, clock: Clock) -> Queue:
    dead = DeadLetters(place.sqs, place.url, place.dead_url, pytest.fail)
    return Queue(place.sqs, place.url, dead=dead, visibility_s=2, clock=clock)


def test_a_delivery_says_what_the_message_says(place: Place, queue: Queue) -> None:
    sent = place.send({"a": 1}, request_id="r", note="kept")
    (found,) = queue.receive(10, 0)
    assert (found.message_id, found.body, found.receives) == (sent, '{"a": 1}', 1)
    assert found.attributes == {"request_id": "r", "note": "kept"}
    assert found.age_ms >= 0
    assert queue.receive(10, 0) == []


def test_what_is_held_stays_ours_and_what_is_not_comes_back(place: Place, queue: Queue) -> None:
    for number in range(12):
        place.send({}, request_id=str(number))
    queue.visibility_s = 5
    taken = [*queue.receive(10, 0), *queue.receive(10, 0)]
    keeper = Keeper(queue, pytest.fail)
    keeper.hold(taken[:11])
    queue.visibility_s = 60  # what a beat asks for, so that a machine may be slow between two
    keeper.beat()
    (back,) = until(lambda: queue.receive(10, 0), "the one that is not held comes back")
    assert queue.receive(10, 0) == []
    assert (back.message_id, back.receives) == (taken[11].message_id, 2)
    assert all(keeper.drop(delivery) for delivery in taken[:11])
    assert not keeper.drop(taken[0])


def test_nothing_is_extended_past_twelve_hours(place: Place, queue: Queue, clock: Clock) -> None:
    place.send({})
    (delivery,) = queue.receive(1, 0)
    said: list[str] = []
    keeper = Keeper(queue, said.append)
    keeper.hold([delivery])
    clock.now_s += LONGEST_S - 1.5
    keeper.beat()
    assert not delivery.lost
    clock.now_s += 1
    keeper.beat()
    assert delivery.lost
    assert not keeper.drop(delivery)
    assert "receipt has expired" in said[0]


def test_an_expired_receipt_is_lost_and_its_neighbours_are_not(place: Place, queue: Queue) -> None:
    for number in range(3):
        place.send({}, request_id=str(number))
    taken = queue.receive(10, 0)
    taken[1].receipt = "nobody's"
    keeper = Keeper(queue, lambda _: None)
    keeper.hold(taken)
    keeper.beat()
    assert [delivery.lost for delivery in taken] == [False, True, False]
    assert keeper.held() == [taken[0], taken[2]]
    taken[0].receipt = "nobody's either"
    assert queue.delete(taken) == []
    assert [delivery.lost for delivery in taken] == [True, True, False]


def test_a_service_that_is_away_leaves_them_held(place: Place, queue: Queue, aws: AwsServer) -> None:
    place.send({})
    (delivery,) = queue.receive(1, 0)
    aws.plan(Fault("error", service="sqs", operation="ChangeMessageVisibilityBatch", status=400, code="AccessDenied", onward=True))
    said: list[str] = []
    keeper = Keeper(queue, said.append)
    keeper.hold([delivery])
    keeper.beat()
    assert keeper.held() == [delivery]
    assert "AccessDenied" in said[0]


def test_deletes_go_ten_at_a_time(place: Place, queue: Queue, aws: AwsServer) -> None:
    for number in range(25):
        place.send({}, request_id=str(number))
    taken = [delivery for _ in range(3) for delivery in queue.receive(10, 0)]
    keeper = Keeper(queue, pytest.fail)
    keeper.hold(taken)
    deleter = Deleter(queue, keeper, pytest.fail)
    for delivery in taken[:20]:
        deleter.add(delivery)
    deleter.start()
    for delivery in taken[20:]:
        deleter.add(delivery)
    deleter.stop(time.monotonic() + 60)
    assert place.counts() == (0, 0)
    assert keeper.held() == []
    assert len([one for one in aws.log("sqs") if one.operation == "DeleteMessageBatch"]) == 3


def test_a_buried_message_is_what_it_was_with_the_reason(place: Place, queue: Queue) -> None:
    place.send("text", request_id="r")
    (delivery,) = queue.receive(1, 0)
    assert queue.bury(delivery, "bad\x00\n" + "x" * 2000)
    (dead,) = place.dead()
    assert (dead["Body"], dead["MessageAttributes"]["request_id"]["StringValue"]) == ("text", "r")
    assert dead["MessageAttributes"]["reason"]["StringValue"].startswith("bad  x")
    nowhere = DeadLetters(place.sqs, place.dead_url, "", pytest.fail)  # that queue has no redrive policy of its own
    assert not Queue(place.sqs, place.url, dead=nowhere, visibility_s=2).bury(delivery, "why")


def test_message_of_a_group_is_buried_in_its_group_once(aws: AwsServer) -> None:
    """A FIFO queue's dead-letter queue has to be FIFO, and takes no message without a group."""
    place = Place(aws, fifo=True)
    place.send("text", group="orders", request_id="r")
    queue = Queue(place.sqs, place.url, dead=DeadLetters(place.sqs, place.url, "", pytest.fail), visibility_s=30)
    (delivery,) = queue.receive(1, 0)
    assert delivery.group == "orders"
    assert queue.bury(delivery, "bad")
    assert queue.bury(delivery, "bad")  # after a kill, say
    (dead,) = place.dead()
    assert (dead["Body"], dead["Attributes"]["MessageGroupId"]) == ("text", "orders")
    assert dead["Attributes"]["MessageDeduplicationId"] == delivery.message_id
    place.close()


@pytest.mark.parametrize(
    ("status", "code", "raised"),
    [
        (403, "AccessDenied", BurialError),
        (400, "MissingParameter", BurialError),
        (400, "ThrottlingException", None),
        (503, "X", None),
    ],
)
def test_refusal_for_good_is_told_from_one_that_passes(
    status: int, code: str, raised: type[Exception] | None, place: Place, queue: Queue
) -> None:
    place.send("text")
    (delivery,) = queue.receive(1, 0)
    place.aws.plan(Fault("error", operation="SendMessage", status=status, code=code, onward=True))
    with pytest.raises(raised or aws_module.failures()):
        queue.bury(delivery, "bad")


@pytest.mark.parametrize(("refusals", "buried"), [(1, True), (2, False)])
def test_a_message_too_large_for_its_reason_is_buried_without(refusals: int, buried: bool, place: Place, queue: Queue) -> None:
    place.send("text", request_id="r")
    (delivery,) = queue.receive(1, 0)
    refusal = Fault("error", operation="SendMessage", status=400, code="InvalidParameterValue")
    place.aws.plan(*(dataclasses.replace(refusal, number=at + 1) for at in range(refusals)))
    assert queue.bury(delivery, "bad") is buried
    assert [set(dead["MessageAttributes"]) for dead in place.dead()] == [{"request_id"}] * buried


def test_the_threads_of_a_queue_survive_what_no_queue_says(place: Place, queue: Queue) -> None:
    """botocore makes AttributeErrors of it, and more."""
    for number in range(25):
        place.send({}, request_id=str(number))
    taken = [*queue.receive(10, 0), *queue.receive(10, 0), *queue.receive(10, 0)]
    said: list[str] = []
    keeper = Keeper(queue, said.append)
    keeper.hold(taken)
    place.aws.plan(Fault("nonsense", service="sqs", number=1), Fault("nonsense", service="sqs", number=2))
    keeper.beat()
    assert len(said) == 2
    assert len(keeper.held()) == 25
    deleter = Deleter(queue, keeper, said.append)
    deleter.start()
    place.aws.plan(Fault("nonsense", service="sqs"))
    for delivery in taken:
        deleter.add(delivery)
    deleter.stop(time.monotonic() + 60)
    assert len(said) == 3
    assert keeper.held() == []
    until(lambda: sum(place.counts()) == 10, "those of the first ten are left")


def test_a_queue_that_hangs_does_not_hold_up_the_end(place: Place, queue: Queue) -> None:
    place.send({})
    (delivery,) = queue.receive(1, 0)
    place.aws.plan(Fault("hang", operation="DeleteMessageBatch"))
    said: list[str] = []
    deleter = Deleter(queue, Keeper(queue, said.append), said.append)
    deleter.start()
    deleter.add(delivery)
    began_s = time.monotonic()
    deleter.stop(began_s + 0.5)
    assert time.monotonic() - began_s < 30  # the queue would hang for an hour
    assert said == []
    place.aws.reset()
    deleter.thread.join(60)
    assert len(said) == 1  # the message comes again


def test_changing_to_nothing_gives_back_at_once(place: Place, queue: Queue) -> None:
    place.send({})
    (delivery,) = queue.receive(1, 0)
    assert queue.change([(delivery, 0)]) == []
    (again,) = until(lambda: queue.receive(1, 0), "the message again")
    assert again.receives == 2


def test_a_regions_name_is_in_the_queues_address() -> None:
    assert aws_module.region_of("https://sqs.eu-west-1.amazonaws.com/1/q") == "eu-west-1"
    assert aws_module.region_of("http://127.0.0.1:5000/1/q") is None
