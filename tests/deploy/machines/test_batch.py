"""What a batch's machine does, by the interpreter: batches of items, lost items up to a share, result files, time, and runners."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.asl.edges import missing
from tests.support.asl.interpreter import Run, Took
from tests.support.machines import BUCKET, items_machine, runners_machine

LAMBDA = "arn:aws:states:::lambda:invoke"
SNS = "arn:aws:states:::sns:publish"
INPUT = {"manifest": "s3://in/m", "bucket": "in", "key": "m"}


class ServiceError(Exception):
    """A function's failure."""


def batch(machine: dict[str, Any], function: Callable[[Any], Any], manifest: str, news: list[Any] | None = None) -> Run:
    """A batch over a manifest, whose function is this one."""

    def call(parameters: Any) -> Any:
        answer = function(parameters["Payload"])
        if isinstance(answer, Took):
            return Took(answer.seconds, {"StatusCode": 200, "Payload": answer.result})
        return {"StatusCode": 200, "Payload": answer}

    run = Run(machine, {LAMBDA: call, SNS: (news if news is not None else []).append})
    run.store["in", "m"] = manifest
    return run.execute(INPUT)


def lines(number: int) -> str:
    return "".join(json.dumps({"id": at, "text": f"text {at}"}) + "\n" for at in range(number))


def files(run: Run) -> dict[str, list[dict[str, Any]]]:
    """The rows of each result file, by status."""
    place = run.output["results"]["ResultWriterDetails"] if run.output else {"Bucket": BUCKET, "Key": "batch/run/manifest.json"}
    told = json.loads(run.store[place["Bucket"], place["Key"]])["ResultFiles"]
    return {status: [row for one in names for row in json.loads(run.store[BUCKET, one["Key"]])] for status, names in told.items()}


def test_each_item_is_answered_once_in_batches() -> None:
    run = batch(items_machine(batch=4), lambda event: [f"answer {item['id']}" for item in event["Items"]], lines(10))
    assert run.status == "SUCCEEDED"
    rows = files(run)["SUCCEEDED"]
    assert [len(json.loads(row["Input"])["Items"]) for row in rows] == [4, 4, 2]
    assert [answer for row in rows for answer in json.loads(row["Output"])] == [f"answer {at}" for at in range(10)]


def test_rows_of_csv_come_with_what_their_columns_mean() -> None:
    seen: list[Any] = []
    machine = items_machine(form="csv", columns=(("text", "review"), ("x", ("a", "b"))))
    assert batch(machine, seen.append, "review,a,b\ngood,1,2\n").status == "SUCCEEDED"
    assert seen == [
        {"Items": [{"review": "good", "a": "1", "b": "2"}], "BatchInput": {"columns": {"text": "review", "x": ["a", "b"]}}}
    ]


@pytest.mark.parametrize(("lost", "status"), [(10, "SUCCEEDED"), (11, "FAILED")])
def test_a_share_of_items_may_be_lost(lost: int, status: str) -> None:
    def answer(event: Any) -> Any:
        if event["Items"][0]["id"] < lost:
            raise ServiceError("no")
        return "answer"

    news: list[Any] = []
    run = batch(items_machine(batch=1, tolerate=5, at_once=1), answer, lines(200), news)
    assert (run.status, len(news)) == (status, status == "FAILED")
    rows = files(run)
    if status == "SUCCEEDED":
        assert (len(rows["SUCCEEDED"]), len(rows["FAILED"]), len(rows["PENDING"])) == (190, 10, 0)
    else:  # nothing that had not begun is begun, and what there is stays there
        assert run.error == "BatchFailed"
        assert (len(rows["SUCCEEDED"]), len(rows["FAILED"]), len(rows["PENDING"])) == (0, 11, 189)
        assert json.loads(news[0]["Message"])["error"]["Error"] == "States.ExceedToleratedFailureThreshold"


def test_the_share_is_of_items_not_of_batches() -> None:
    def answer(event: Any) -> Any:
        if event["Items"][0]["id"] == 0:
            raise ServiceError("no")
        return "answer"

    assert batch(items_machine(batch=100, tolerate=5), answer, lines(1000)).status == "FAILED"
    assert batch(items_machine(batch=50, tolerate=5), answer, lines(1000)).status == "SUCCEEDED"


def test_so_many_children_are_at_work_at_once() -> None:
    run = batch(items_machine(batch=1, at_once=10, seconds=5.0), lambda _: Took(5, "answer"), lines(100))
    assert (run.status, run.now) == ("SUCCEEDED", 50.0)


def test_a_child_that_takes_too_long_is_lost_after_its_retry() -> None:
    run = batch(items_machine(batch=1, tolerate=100), lambda _: Took(1000, "answer"), lines(1))
    assert run.status == "SUCCEEDED"
    (row,) = files(run)["FAILED"]
    assert row["Error"] == "States.Timeout"
    assert run.now == 65 + 1 + 65  # the function's time-out and five seconds, twice


@pytest.mark.parametrize("manifest", ["not json\n", json.dumps({"text": "x" * 300_000})])
def test_a_manifest_that_cannot_be_cut_fails_and_is_told(manifest: str) -> None:
    news: list[Any] = []
    run = batch(items_machine(), lambda _: "answer", manifest, news)
    assert (run.status, run.error, len(news)) == ("FAILED", "BatchFailed", 1)
    assert json.loads(news[0]["Message"])["error"]["Error"] == "States.ItemReaderFailed"


def test_an_empty_manifest_has_no_answers() -> None:
    run = batch(items_machine(), lambda _: "answer", "\n\n")
    assert (run.status, files(run)) == ("SUCCEEDED", {"FAILED": [], "PENDING": [], "SUCCEEDED": []})


def test_runners_call_again_until_all_is_done() -> None:
    left = [7]

    def answer(order: Any) -> Any:
        assert order["batch"]["manifest"] == "s3://in/m"
        left[0] -= 1
        return Took(600, {"batch": {**order["batch"], "items": 7, "failed": 0}, "done": left[0] <= 0})

    run = batch(runners_machine(3), answer, "")
    assert run.status == "SUCCEEDED"
    assert run.output["results"] == [{"manifest": "s3://in/m", "items": 7, "failed": 0}] * 3


def test_one_runner_that_lives_is_enough_and_none_is_told() -> None:
    calls: list[str] = []

    def answer(order: Any) -> Any:
        calls.append("call")
        if len(calls) <= 2 * 6:  # two runners with all their retries
            raise ServiceError("killed")
        return {"batch": order["batch"], "done": True}

    assert batch(runners_machine(3), answer, "").status == "SUCCEEDED"
    calls[:] = []
    news: list[Any] = []
    run = batch(runners_machine(2), answer, "", news)
    assert (run.status, run.error, len(news)) == ("FAILED", "BatchFailed", 1)


@pytest.mark.parametrize("machine", [items_machine(batch=1, tolerate=0), runners_machine(1)], ids=["items", "runners"])
def test_every_state_and_way_is_gone_through(machine: dict[str, Any]) -> None:
    runs = []
    for outcomes, reachable in [((False, True), True), ((None,) * 9, True), ((None,) * 9, False)]:
        left = iter(outcomes)

        def answer(_: Any, left: Any = left) -> Any:
            done = next(left)
            if done is None:
                raise ServiceError("killed")
            return {"Payload": {"batch": {}, "done": done}}

        def tell(_: Any, reachable: bool = reachable) -> None:
            if not reachable:
                raise ServiceError("no topic")

        runs.append(Run(machine, {LAMBDA: answer, SNS: tell}, store={("in", "m"): lines(1)}).execute(INPUT))
    entered = [name for run in runs for name, _ in run.trace]
    assert missing(machine, entered, [edge for run in runs for edge in run.edges]) == (set(), set())
