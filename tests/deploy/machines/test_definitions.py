"""All machines: their form by a linter, what each task says, and which training jobs can be started."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from tests.support.machines import FARGATE, cut, items_machine, retrain_machine, rollout_machine, runners_machine

from mlpack.deploy.machines import batch, training
from mlpack.deploy.machines.asl import UNKNOWN_TO_STATELINT
from mlpack.errors import RecipeError

ARNS = [
    "arn:aws:states:eu-central-1:123456789012:stateMachine:train",
    "arn:aws:lambda:eu-central-1:123456789012:function:train:live",
    "arn:aws:codebuild:eu-central-1:123456789012:project/train",
    "arn:aws-cn:batch:cn-north-1:123456789012:job-definition/train:3",
]
MACHINES = {
    "rollout": rollout_machine(),
    "retrain": retrain_machine(),
    "retrain on Fargate": retrain_machine(FARGATE),
    **{f"retrain by {arn.split(':')[2]}": retrain_machine(train=arn) for arn in ARNS},
    "items": items_machine(),
    "items of csv": items_machine(form="csv", columns=(("text", "review"), ("x", ("a", "b"))), seconds=90.0),
    "runners": runners_machine(),
}


def states(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states(state["ItemProcessor"])


@pytest.mark.skipif(find_spec("statelint") is None, reason="statelint is not installed")
@pytest.mark.parametrize("name", MACHINES)
def test_statelint_sees_nothing_wrong(name: str) -> None:
    from statelint.linter import Linter

    problems = Linter.validate(json.loads(json.dumps(MACHINES[name])))
    assert [problem for problem in problems if not any(gap in problem for gap in UNKNOWN_TO_STATELINT)] == []


@pytest.mark.parametrize("name", MACHINES)
def test_tasks_end_in_time_are_tried_again_and_caught(name: str) -> None:
    assert MACHINES[name]["TimeoutSeconds"] > 0
    for title, state in states(MACHINES[name]):
        if state["Type"] == "Task":
            assert state["TimeoutSeconds"] > 0, title
            assert state["Retry"], title
            assert "Catch" in state or "End" in state or name == "runners", title
        if state["Type"] == "Map":
            assert state["Catch"], title


@pytest.mark.parametrize(
    "arn", ["", "train", "arn:aws:s3:::bucket", "arn:aws:lambda:r:123456789012:layer:x", "arn:aws:sqs:r:1:q\n"]
)
def test_what_cannot_be_waited_for_is_refused(arn: str) -> None:
    with pytest.raises(RecipeError, match=r"deploy\.retrain\.train"):
        training.kind_of(arn)


def test_children_are_of_the_cheaper_kind_that_has_time() -> None:
    assert batch.children(1.0) == "EXPRESS"
    assert batch.children(46.0) == "EXPRESS"
    assert batch.children(48.0) == "STANDARD"  # 64 MB for 48 s cost more than two transitions
    assert batch.children(99.9) == batch.children(101.0) == "STANDARD"


def test_a_map_over_a_million_items_has_its_price() -> None:
    assert batch.map_usd(1_000_000, cut(seconds=60.0)) == pytest.approx(0.15)  # 2,000 children, three transitions each
    assert batch.map_usd(1_000_000, cut(seconds=1.0)) == pytest.approx(0.0541, abs=1e-4)
