"""Every event that AWS's samples know, through the handler as Lambda calls it: answered or refused as the table says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.functions import function
from tests.support.runtime.source_events import OBJECTS, REQUEST, ROWS, Row, bridge, sns, sqs

from mlpack_runtime.triggers import sources

DRIVER = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from mlpack_runtime.handler import handler, render
class Context:
    aws_request_id = "r-1"
    def get_remaining_time_in_millis(self): return 60000
for line in sys.stdin:
    event = json.loads(line)
    told = []
    for function in (handler, render):
        try:
            answer = function(event, Context())
            told.append({"answer": answer if function is handler else json.loads(answer)})
        except Exception as error:
            told.append({"raised": type(error).__name__, "message": str(error)})
    assert told[0].keys() == told[1].keys(), told
    out.write(json.dumps(told[0]) + "\\n")
"""


def ask(root: Path, *events: Any, **env: str) -> list[dict[str, Any]]:
    """What the handler answers or raises, event by event, in a process of its own."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "MLPACK_"))}
    run = subprocess.run(
        [sys.executable, "-I", "-c", DRIVER, str(root)],
        input="".join(json.dumps(event) + "\n" for event in events),
        capture_output=True, text=True, check=False, env=clean | env,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def outcome(told: dict[str, Any]) -> str:
    """An answer in the words of the table; of a refusal, its message."""
    if "raised" in told:
        assert told["raised"] == "InferenceError"
        error = json.loads(told["message"])
        assert error["trace_id"]
        return f"refused {error['error']}"
    answer = told["answer"]
    if isinstance(answer, list):
        return "listed" if all("outputs" in one for one in answer) else "listed errors"
    if "statusCode" in answer:
        return f"http {answer['statusCode']}"
    if "batchItemFailures" in answer:
        return "batch" if answer == {"batchItemFailures": []} else "failures"
    return "answered" if "outputs" in answer else "direct 400"


def fits(row: Row, found: str) -> bool:
    """Whether the outcome is the row's. A direct answer and one to an event are of the same form."""
    if row.outcome.startswith("refused "):
        return found.startswith("refused ") and row.outcome.removeprefix("refused ") in found
    return found == row.outcome.replace("direct 200", "answered")


def test_every_sample_is_answered_or_refused_as_it_is_written(tiny: Path) -> None:
    answers = ask(tiny, *(row.event for row in ROWS))
    assert len(answers) == len(ROWS)
    wrong = [(row.samples, found) for row, found in zip(ROWS, map(outcome, answers), strict=True) if not fits(row, found)]
    assert wrong == []


def test_the_table_names_every_sample_once() -> None:
    names = [name for row in ROWS + OBJECTS for name in row.samples.split() if name.startswith(("sam:", "pt:"))]
    assert len(names) == len(set(names))
    assert sum(name.startswith("pt:") for name in names) == 104
    assert sum(name.startswith("sam:") for name in names) == 66


def test_refusal_says_what_to_use_instead(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError) as caught:
        function(tiny, monkeypatch)({"eventSource": "aws:kafka", "records": {}})
    error = json.loads(str(caught.value))
    assert error["error_type"] == "UnsupportedEvent"
    for words in ("Amazon MSK", "Instead: read the topic with EventBridge Pipes", "MLPACK_EVENTS=direct"):
        assert words in error["error"]


@pytest.mark.parametrize(
    ("env", "event", "expected"),
    [
        ({"MLPACK_EVENTS": "direct"}, sqs(REQUEST), "direct 400"),
        ({"MLPACK_EVENTS": "sns"}, sqs(REQUEST), "refused MLPACK_EVENTS does not name 'sqs': an SQS queue"),
        ({"MLPACK_EVENTS": "sns, sqs"}, sqs(REQUEST), "batch"),
        ({"MLPACK_EVENTS": "all"}, bridge(REQUEST), "answered"),
        ({"MLPACK_RAISE": "refused"}, {"nonsense": 1}, "refused the body has 'nonsense'"),
        ({"MLPACK_RAISE": "refused"}, REQUEST, "answered"),
        ({"MLPACK_RAISE": "refused"}, {"Items": [REQUEST, {}]}, "refused the body has no keys"),
        ({"MLPACK_RAISE": "batch"}, sqs(REQUEST, "wrong"), "refused 1 of 2 records of an SQS queue come again: m-1: 400"),
        ({}, sqs(REQUEST, "wrong"), "failures"),
        ({}, sqs("wrong"), "refused 1 of 1 records"),
        ({}, sns("wrong"), "refused the body is not JSON"),
        ({}, {"Items": [REQUEST, {}]}, "listed errors"),
        ({}, {"Records": []}, "direct 400"),
        ({}, {"Records": [{"eventSource": "aws:sqs"}]}, "refused an SQS queue: record 0 of the event is not as sqs has them"),
        ({}, {"Records": [sqs(REQUEST)["Records"][0], 7]}, "refused an SQS queue: record 1 of the event is no object"),
    ],
)
def test_settings_say_what_is_taken_and_what_is_an_error(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], event: Any, expected: str
) -> None:
    call = function(tiny, monkeypatch, **env)
    try:
        told = {"answer": call(event)}
    except RuntimeError as error:
        told = {"raised": type(error).__name__, "message": str(error)}
    assert outcome(told).startswith(expected)


def test_list_that_is_no_sources_is_a_function_error(tiny: Path) -> None:
    """What a pipe makes of its records by a template: to the pipe an answer is a success, whatever is in it."""
    events: list[Any] = [[REQUEST], [REQUEST, {"body": "x"}], ["text"], [[]], [None]]
    assert {("EventBridge Pipes" in outcome(told), "raised" in told) for told in ask(tiny, *events)} == {(True, True)}
    assert {outcome(told) for told in ask(tiny, *events, MLPACK_EVENTS="direct")} == {"direct 400"}


@pytest.mark.parametrize("event", [row.event for row in ROWS if row.outcome.startswith("refused")])
def test_a_request_that_shares_a_key_with_an_event_is_a_request(event: Any) -> None:
    """One of its keys alone makes nothing an event, but for those that no request would have."""
    telling = {"awslogs", "CodePipeline.job", "labelingJobArn", "widgetContext", "isFinalInvokeForWindow", "eventSource", "Records"}
    for key in set(event if isinstance(event, dict) else ()) - telling - {"directive", "header", "requestContext"}:
        assert sources.recognize({key: event[key], "text": "x"}) is None
