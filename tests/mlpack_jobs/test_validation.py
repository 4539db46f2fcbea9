"""Fresh data: there or not, the same as last time or not, right or wrong in a sample."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.services.account import Around

from mlpack_jobs import validation

pytestmark = pytest.mark.slow

SETTINGS = {"data": "s3://work/data/", "artifacts": "s3://work", "columns": {"id": "string", "x": "number"}}
EVENT = {"reason": "fresh data", "place": "s3://work/retrain/run-1"}


def run(around: Around, event: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    return validation.run(SETTINGS | settings, around.clients, EVENT if event is None else event)


def test_good_data_are_told_with_where_they_are(around: Around) -> None:
    for at in range(30):
        around.put(f"data/{at:02}.jsonl", '{"id": "a", "x": 1}\n')
    told = run(around)
    assert (told["state"], told["place"], told["objects"], told["problems"]) == ("good", "s3://work/data/", 30, [])
    assert json.loads(around.text("retrain/run-1/data.json")) == told


def test_the_data_of_the_last_run_are_nothing_new(around: Around) -> None:
    around.put("data/a.csv", "id,x\na,1\n")
    around.put(validation.LAST, json.dumps({"digest": run(around)["digest"]}))
    assert run(around)["state"] == "nothing new"
    assert run(around, {"reason": "drift"})["state"] == "good"  # what is asked has changed, not what is known
    around.put("data/a.csv", "id,x\na,2\n")
    assert run(around)["state"] == "good"


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        ({}, "no objects"),
        ({"data/": "", "data/a.csv": ""}, "no objects"),
        ({"data/a.parquet": "PAR1"}, "ends neither"),
        ({"data/a.csv": "id\na\n"}, "lacks the columns x"),
        ({"data/a.csv": "id,x\n"}, "has no rows"),
        ({"data/a.csv": "id,x\na,1\nb,much\n"}, "1 of 2 rows are wrong: row 2 has"),
        ({"data/a.jsonl": '{"id": 1}\n'}, "1 of 1 rows are wrong"),
    ],
)
def test_bad_data_are_told_with_the_reason(around: Around, objects: dict[str, str], why: str) -> None:
    for key, body in objects.items():
        around.put(key, body)
    told = run(around)
    assert told["state"] == "bad"
    assert why in told["problems"][0]


def test_training_may_know_its_data_itself(around: Around) -> None:
    assert run(around, data="") == {"state": "good", "place": "", "problems": []}


def test_data_without_a_schema_have_to_be_there(around: Around) -> None:
    around.put("data/cat.jpg", b"\xff\xd8")
    assert run(around, columns=None)["state"] == "good"
