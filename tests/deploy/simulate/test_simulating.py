"""Scenarios with a deployment's numbers: those that come with mlpack end as they say, and wrong ones are told with their lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlpack.deploy.simulate import scenario
from mlpack.deploy.simulate.simulating import simulate
from mlpack.errors import RecipeError

RULES = {"errors": {"limit": 0.01, "margin": 0.005}, "slow": {"limit": 0.05, "margin": 0.02}}
FACTS: dict[str, Any] = {
    "service": "fashion-prod",
    "peak_rps": 20,
    "mean_rps": 5,
    "latency_ms": {"p50": 20, "p95": 40, "slow": 100},
    "cold_ms": 300,
    "policy": {"rules": RULES},
    "function": {"reserved": 24, "timeout_s": 29, "throttle": {"rate": 50, "burst": 24}},
    "pool": {
        "least": 1, "most": 8, "rate": 2, "batch": 8, "wait_s": 300, "in_cooldown_s": 600, "out_cooldown_s": 60, "receives": 5,
    },
}  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "simulation.json").write_text(json.dumps(FACTS))
    return tmp_path


def written(folder: Path, text: str) -> Path:
    (folder / "mine.yaml").write_text(text)
    return folder / "mine.yaml"


def test_scenarios_that_come_with_mlpack() -> None:
    assert {
        "healthy", "bad-release", "slow-release", "cold-start-storm", "missing-metrics", "late-metrics", "sick-dependency",
        "diurnal-traffic", "backlog", "spot-loss", "peak",
    } <= set(scenario.shipped())  # fmt: skip


@pytest.mark.parametrize("name", sorted(scenario.shipped()))
def test_shipped_scenario_ends_as_it_says(directory: Path, name: str) -> None:
    result = simulate(directory, name, runs=1, seed=1)
    assert result.met, result.text()
    assert json.loads(json.dumps(result.to_json()))["numbers"]
    assert result.text().startswith(f"{name} with fashion-prod, 1 run from seed 1")


def test_recorded_minutes_are_the_traffic(directory: Path) -> None:
    (directory / "week.csv").write_text("requests,errors,slow,cold\n600,0,0,1\n300,1,2,0\n")
    path = written(directory, "about: ours\nrollout: {traffic: {recorded: week.csv}, new: {errors: 10%}}\nexpect: rolled back\n")
    assert simulate(directory, path, runs=3).met
    path = written(directory, "about: ours\nrollout: {traffic: {recorded: week.csv}}\nexpect: promoted\n")
    assert simulate(directory, path, runs=3).met


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "mine.yaml:1"),
        ("- a", "mine.yaml:1"),
        ("about: x\n", "exactly one of rollout, pool and load"),
        ("about: x\npool: {}\nload: {}\n", "it has pool and load"),
        ("about: x\nrollout:\n  traffic: {rps: 5}\n  new: {error: 5%}\n", "mine.yaml:4: rollout.new.error: unknown key"),
        ("about: x\nrollout:\n  traffic: {}\n", "mine.yaml:3: rollout.traffic: says either rps or recorded"),
        ("about: x\nrollout:\n  traffic: {rps: -1}\n", "mine.yaml:3"),
        ("about: x\nrollout:\n  traffic: {rps: 5}\n  new: {errors: 105%}\n", "must be a share"),
        ("about: x\nrollout:\n  traffic: {rps: 5}\n  late: soon\n", "must be a time with its unit"),
        ("about: x\nrollout:\n  traffic: {rps: .nan}\n", "mine.yaml:3"),
        ("about: x\nrollout:\n  traffic: {recorded: nowhere.csv}\n", "nowhere.csv"),
        ("about: x\nload: {peak: 1}\nexpect: bliss\n", "mine.yaml:3: expect"),
        ("about: x\nload: {peak: 1}\nexpect: promoted\n", "mine.yaml:3: expect"),
    ],
)
def test_wrong_scenario_is_told_with_its_line(directory: Path, text: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        simulate(directory, written(directory, text))
    assert says in str(caught.value)


@pytest.mark.parametrize("rows", ["", "requests,errors\n", "a,b\n1,2\n", "requests,errors\n5,6\n", "requests,errors\nx,1\n"])
def test_wrong_table_of_minutes_is_refused(directory: Path, rows: str) -> None:
    (directory / "week.csv").write_text(rows)
    with pytest.raises(RecipeError, match=r"week\.csv"):
        simulate(directory, written(directory, "about: x\nrollout: {traffic: {recorded: week.csv}}\n"))


@pytest.mark.parametrize(
    ("change", "name", "says"),
    [
        ({"policy": None}, "healthy", "no rollout"),
        ({"pool": None}, "backlog", "no worker pool"),
        ({"function": None}, "peak", "no function"),
        ({"policy": {"steps": [50]}}, "healthy", "do not rise to 100"),
        ({"latency_ms": 5}, "healthy", "not in its form"),
        ({"peak_rps": "many"}, "peak", "peak_rps is no number"),
    ],
)
def test_deployment_that_does_not_fit_is_told(directory: Path, change: dict[str, Any], name: str, says: str) -> None:
    (directory / "simulation.json").write_text(json.dumps(FACTS | change))
    with pytest.raises(RecipeError, match=says):
        simulate(directory, name, runs=1)


def test_directory_without_a_deployment_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="mlpack deploy write"):
        simulate(tmp_path, "healthy")


def test_scenario_of_no_name_is_told_with_those_that_are(directory: Path) -> None:
    with pytest.raises(RecipeError, match="bad-release"):
        simulate(directory, "worst-release")
