"""Both forms of a batch's machine around a package's own function: a map over items, and runners that share a manifest in S3."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.asl.interpreter import Run
from tests.support.machines import BUCKET, items_machine, runners_machine
from tests.support.runtime.functions import function
from tests.support.runtime.workers import Place

pytestmark = pytest.mark.slow

LAMBDA = "arn:aws:states:::lambda:invoke"
MANIFEST = "s3://results/in/m.jsonl"
ITEMS = [{"id": f"i{at}", "inputs": {"pixels": [[1, 1, 1, at]], "marks": [at]}} for at in range(7)]
LINES = "\n".join(json.dumps(item) for item in [*ITEMS[:3], {"nonsense": 1}, *ITEMS[3:]])


def lambda_of(call: Callable[..., Any]) -> Callable[[Any], Any]:
    """The function behind a task."""
    return lambda parameters: {"StatusCode": 200, "Payload": json.loads(json.dumps(call(parameters["Payload"])))}


def test_a_map_over_items_gets_an_answer_for_each(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(items_machine(batch=3), {LAMBDA: lambda_of(function(tiny, monkeypatch))}, store={("in", "m"): LINES})
    assert run.execute({"manifest": "s3://in/m", "bucket": "in", "key": "m"}).status == "SUCCEEDED"
    told = json.loads(run.store[BUCKET, run.output["results"]["ResultWriterDetails"]["Key"]])
    rows = json.loads(run.store[BUCKET, told["ResultFiles"]["SUCCEEDED"][0]["Key"]])
    answers = [answer for row in rows for answer in json.loads(row["Output"])]
    assert [answer["outputs"][1]["data"] for answer in answers if "outputs" in answer] == [[at] for at in range(7)]
    assert [at for at, answer in enumerate(answers) if answer.get("error_type") == "InvalidRequest"] == [3]


def test_runners_share_a_manifest_and_one_may_die(tiny: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.s3.put_object(Bucket="results", Key="in/m.jsonl", Body=LINES.encode())
    monkeypatch.setenv("MLPACK_BATCH_PART_ITEMS", "2")
    call = function(tiny, monkeypatch, MLPACK_RESULTS="s3://results/answers")
    calls: list[Any] = []

    def mortal(order: Any) -> Any:
        calls.append(order)
        if len(calls) <= 6:  # the first runner, and each of its retries
            raise MemoryError("killed")
        return call(order)

    run = Run(runners_machine(3), {LAMBDA: lambda_of(mortal)})
    assert run.execute({"manifest": MANIFEST, "bucket": "results", "key": "in/m.jsonl"}).status == "SUCCEEDED"
    ends = [{key: end[key] for key in ("state", "items", "answered", "failed")} for end in run.output["results"]]
    assert ends == [{"state": "complete", "items": 8, "answered": 7, "failed": 1}] * 2
