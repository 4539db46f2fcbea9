"""The fashion recipe with its evaluation data alone: static int8 comes out, and is judged on what did not calibrate it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.project import HERE, Project, candidate

MakeProject = Callable[..., Project]
DROP = 0.01


@pytest.fixture(scope="module")
def project(make_project: MakeProject, warm_store: Path) -> Project:
    """The sample recipe without its line of calibration."""
    made = make_project("fashion", store=warm_store)

    def without(text: str) -> str:
        kept = [line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("calibration:")]
        return "".join(line for line in kept if "slim-int8" not in line)

    made.edit("fashion", without, to="alone")
    return made


@pytest.fixture(scope="module")
def record(project: Project) -> dict[str, Any]:
    before = project.mlpack("plan", "recipes/alone.yaml").stdout
    assert "calibration: 20% of the evaluation data" in before
    return project.build("alone")


def test_static_int8_comes_out_of_the_evaluation_data_alone(project: Project, record: dict[str, Any]) -> None:
    assert record["calibration"] == {"source": "evaluation", "samples": 400, "of": 2000}
    int8 = candidate(record, f"int8@lambda-zip-{HERE}")
    assert int8["status"] == "ok"
    assert int8["accuracy"]["drop"] <= DROP
    (step,) = [step for step in int8["steps"] if step["pass"] == "quantize"]
    assert step["notes"]["quantized"]["Conv"] >= 1
    assert {each["accuracy"]["n"] for each in record["candidates"]} == {1600}


def test_report_and_plan_say_how_many_were_held_out(project: Project, record: dict[str, Any]) -> None:
    said = "calibrated on 400 samples of the evaluation data's 2,000, held out for all: accuracy is on the other 1,600"
    assert said in (project.out("alone") / "report.md").read_text("utf-8").replace("\\", "")
    assert said in project.mlpack("plan", "recipes/alone.yaml").stdout
    again = project.build("alone", "--only", "fp32@*", out="float")
    assert again["calibration"] == record["calibration"]
    assert all(step["cached"] for each in again["candidates"] for step in each["steps"])
