"""The worked example, as a user runs it: image classification from weights to a checked deployment, its bill and its rollout.

10,000 requests a day, a model of about 100 MB before it is optimised, a 95th percentile below 500 ms, less than $50 a month, JPEG
in the body or by URL; one command for each step. The latency is that of this machine, so it is held by the build's own budget.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_models.wide import make
from tests.support.project import HERE, Project, candidate

pytestmark = pytest.mark.slow

CANDIDATE = f"int8@lambda-zip-{HERE}"
LABELS = {"t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"}


@pytest.fixture(scope="module")
def project(make_project: Callable[..., Project], warm_store: Path) -> Project:
    made = make_project("wide", "fashion", store=warm_store)
    make.make(made.root / "sample_models/wide/wide.safetensors")
    return made


@pytest.fixture(scope="module")
def build(project: Project) -> dict[str, Any]:
    return project.build("image-api")


@pytest.fixture(scope="module")
def directory(project: Project, build: dict[str, Any]) -> Path:
    project.mlpack("deploy", "write", "out/image-api", "-o", "deploy/image-api")
    return project.root / "deploy/image-api"


def test_model_is_as_large_as_the_example_says(project: Project, build: dict[str, Any]) -> None:
    weights = (project.root / "sample_models/wide/wide.safetensors").stat().st_size
    assert 95e6 < weights < 110e6
    assert candidate(build, CANDIDATE)["model"]["size_bytes"] < weights / 3
    assert build["chosen"] == CANDIDATE


def test_accuracy_is_that_of_the_trained_weights(build: dict[str, Any]) -> None:
    assert candidate(build, f"fp32@lambda-zip-{HERE}")["accuracy"]["value"] == pytest.approx(0.939, abs=0.001)
    assert candidate(build, CANDIDATE)["accuracy"]["drop"] <= 0.01


def test_package_classifies_a_jpeg(project: Project, build: dict[str, Any], tmp_path: Path) -> None:
    from PIL import Image

    with np.load(project.root / "sample_models/fashion/eval.npz", allow_pickle=False) as samples:
        pixels = (samples["image"][0, 0] * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((280, 280)).convert("RGB").save(file, "JPEG", quality=92)
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"image": base64.b64encode(file.getvalue()).decode()}))
    answer = json.loads(project.mlpack("run", "out/image-api", "--event", request).stdout)
    assert answer["label"] in LABELS
    assert answer["label"] == "ankle boot"


def test_a_month_costs_less_than_its_budget(project: Project, build: dict[str, Any]) -> None:
    plan = json.loads(project.mlpack("deploy", "plan", "out/image-api", "--json").stdout)
    assert plan["fits"]
    assert 290_000 < plan["cost"]["requests_a_month"] < 330_000
    assert plan["cost"]["month_usd"] < 50


def test_directory_is_the_same_twice_and_checked(project: Project, directory: Path) -> None:
    project.mlpack("deploy", "write", "out/image-api", "-o", "deploy/again")
    names = sorted(path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    assert {"PLAN.md", "service.cfn.json", "service.tf.json", "simulation.json"} <= {str(name) for name in names}
    for name in names:
        assert (directory / name).read_bytes() == (project.root / "deploy/again" / name).read_bytes()
    project.mlpack("deploy", "check", "deploy/image-api")


@pytest.mark.parametrize("scenario", ["diurnal-traffic", "bad-release", "sick-dependency", "peak"])
def test_rollout_ends_as_its_scenario_says(project: Project, directory: Path, scenario: str) -> None:
    done = project.mlpack("deploy", "simulate", "deploy/image-api", "--scenario", scenario, "--runs", "20", "--json")
    assert json.loads(done.stdout)["met"] is True
