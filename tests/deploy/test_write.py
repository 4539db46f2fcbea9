"""A deployment's directory: what is in it, whose each file is, and that the same inputs give the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.deployments import service

from mlpack.core import digest
from mlpack.deploy import write as writing
from mlpack.deploy.design import design
from mlpack.deploy.planning import plan
from mlpack.errors import RecipeError


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    one = service()
    graph = design(one)
    return writing.files(one, graph, plan(one, graph))


def test_the_same_service_gives_the_same_bytes(made: dict[str, bytes]) -> None:
    again = service()
    graph = design(again)
    assert writing.files(again, graph, plan(again, graph)) == made


def test_the_files_of_a_function(made: dict[str, bytes]) -> None:
    assert {"service.cfn.json", "service.tf.json", "parameters.prod.json", "rollout.asl.json", "controller.zip"} <= set(made)
    assert {"PLAN.md", "deploy.lock", "dashboard.json", "openapi.json", "policies/ModelRole.json"} <= set(made)
    assert len(made["controller.zip"]) <= 60_000
    lock = json.loads(made["deploy.lock"])
    assert lock["files"] == {name: str(digest.of_bytes(data)) for name, data in sorted(made.items()) if name != "deploy.lock"}
    assert lock["release"]["name"] == "fashion@8"
    assert "fashion@8" in made["PLAN.md"].decode()


def test_a_directory_appears_and_is_kept(made: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "deep" / "fashion-prod"
    assert set(writing.write(made, out)) == set(made)
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == {*made, "overrides.yaml"}
    assert writing.write(made, out) == ()
    assert list(out.parent.iterdir()) == [out]


def test_overrides_and_strangers_are_never_touched(made: dict[str, bytes], tmp_path: Path) -> None:
    writing.write(made, tmp_path / "out")
    (tmp_path / "out/overrides.yaml").write_text("parameters: {Subnets: subnet-1}\n")
    (tmp_path / "out/terraform.tfstate").write_text("{}")
    fewer = {name: data for name, data in made.items() if name != "dashboard.json"}
    writing.write({**fewer, "deploy.lock": b'{"files": {}}'}, tmp_path / "out")
    assert (tmp_path / "out/overrides.yaml").read_text() == "parameters: {Subnets: subnet-1}\n"
    assert (tmp_path / "out/terraform.tfstate").exists()
    assert not (tmp_path / "out/dashboard.json").exists()


def test_overrides_are_merged_into_what_is_written() -> None:
    one = service()
    graph = design(one)
    own = b"parameters: {CodeBucket: mine}\ncloudformation: {Model: {Properties: {MemorySize: 3008}}}\n"
    made = writing.files(one, graph, plan(one, graph), own)
    assert json.loads(made["service.cfn.json"])["Resources"]["Model"]["Properties"]["MemorySize"] == 3008
    assert json.loads(made["parameters.prod.json"])["Parameters"]["CodeBucket"] == "mine"
    with pytest.raises(RecipeError, match="is no resource here"):
        writing.files(one, graph, plan(one, graph), b"cloudformation: {Modell: {Properties: {}}}\n")


def test_rollout_and_simulation_are_told(made: dict[str, bytes]) -> None:
    led = json.loads(made["rollout.json"])
    assert led["target"] == {"kind": "function", "function": "fashion-prod", "alias": "live"}
    assert led["machine"] == "fashion-prod-rollout"
    assert len(led["counting"]["alarms"]) == 1
    assert json.loads(made["simulation.json"])["peak_rps"] == 50


def test_a_file_that_somebody_changed_is_not_lost(made: dict[str, bytes], tmp_path: Path) -> None:
    writing.write(made, tmp_path / "out")
    (tmp_path / "out/service.cfn.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"service.cfn.json changed by hand: put the change into overrides.yaml"):
        writing.write({**made, "PLAN.md": b"new"}, tmp_path / "out")
    (tmp_path / "out/service.cfn.json").unlink()
    assert writing.write(made, tmp_path / "out") == ("service.cfn.json",)


def test_what_an_interrupted_write_left_is_completed(made: dict[str, bytes], tmp_path: Path) -> None:
    """Some files are new and the lock is old: they are what the next write would write."""
    old = {**made, "PLAN.md": b"old"}
    old["deploy.lock"] = json.dumps(
        {"files": {name: str(digest.of_bytes(data)) for name, data in old.items() if name != "deploy.lock"}}
    ).encode()
    writing.write(old, tmp_path / "out")
    (tmp_path / "out/PLAN.md").write_bytes(made["PLAN.md"])
    assert writing.write(made, tmp_path / "out") == ("deploy.lock",)


@pytest.mark.parametrize(
    ("lock", "reason"),
    [
        (None, "is not empty, and has no deploy.lock"),
        ("[]", "cannot be read"),
        ('{"files": {"a": 1}}', "cannot be read"),
        ('{"files": {"../../x": "sha256:0"}}', "no file below it"),
        ('{"files": {"/etc/x": "sha256:0"}}', "no file below it"),
    ],
)
def test_a_strange_directory_is_left_alone(made: dict[str, bytes], tmp_path: Path, lock: str | None, reason: str) -> None:
    (tmp_path / "mine.txt").write_text("x")
    if lock is not None:
        (tmp_path / "deploy.lock").write_text(lock)
    with pytest.raises(RecipeError, match=reason):
        writing.write(made, tmp_path)
    assert not (tmp_path / "PLAN.md").exists()


def test_a_stranger_of_our_name_is_left_alone(made: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "deploy.lock").write_text('{"files": {}}')
    (tmp_path / "PLAN.md").write_text("mine")
    with pytest.raises(RecipeError, match=r"PLAN.md not written by mlpack"):
        writing.write(made, tmp_path)


def test_a_file_in_the_place_of_the_directory(made: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(RecipeError, match="is no directory"):
        writing.write(made, tmp_path / "out")
    with pytest.raises(RecipeError, match="lies below a file"):
        writing.write(made, tmp_path / "out" / "deployment")
