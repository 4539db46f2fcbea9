"""The steps of a retraining: what they fetch, run and leave, by mlpack's exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.services.account import Around

from mlpack_jobs import building, validation

pytestmark = pytest.mark.slow

ENVIRONMENT = {
    "MLPACK_PLACE": "s3://work/retrain/run-1",
    "MLPACK_SOURCE": "s3://work/source",
    "MLPACK_ALIAS": "prod",
    "MLPACK_ARTIFACTS": "s3://work",
}


START = ["rollout", "start", "fashion@9", "--to", "prod", "--deployment", "deployment", "--prepare"]


class Command:
    """mlpack, as its exit codes and output are to be by its verb."""

    def __init__(self, **told: building.Told) -> None:
        self._told = told
        self.calls: list[list[str]] = []
        self.files: list[str] = []

    def __call__(self, arguments: list[str], folder: Path) -> building.Told:
        self.calls.append(arguments)
        self.files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        if arguments[0] == "build":
            (folder / "out").mkdir()
            (folder / "out" / "build.json").write_text("{}")
        return self._told[arguments[0]]


def step(around: Around, tmp_path: Path, name: str, command: Command) -> tuple[int, Any]:
    status = building.run(ENVIRONMENT | {"MLPACK_STEP": name}, tmp_path, around.clients, command)
    key = f"retrain/run-1/{name}.json"
    return status, json.loads(around.text(key)) if key in around.keys() else None  # noqa: SIM118


def test_a_build_gets_recipe_and_model_and_leaves_its_output(around: Around, tmp_path: Path) -> None:
    around.put("source/recipe.yaml", "name: x")
    around.put("source/code/hooks.py", "")
    around.put("retrain/run-1/model/model.onnx", b"onnx")
    command = Command(build=(0, "", "built"))
    assert step(around, tmp_path, "build", command) == (0, {"exit": 0, "said": "built"})
    assert command.calls == [["build", "recipe.yaml", "-o", "out"]]
    assert command.files == ["code/hooks.py", "model/model.onnx", "recipe.yaml"]
    assert "retrain/run-1/build/build.json" in around.keys("retrain/")


@pytest.mark.parametrize("code", [1, 2, 3, 5])
def test_a_build_that_fails_is_told_and_not_an_error(around: Around, tmp_path: Path, code: int) -> None:
    command = Command(build=(code, "", "no"))
    assert step(around, tmp_path, "build", command) == (0, {"exit": code, "said": "no"})
    assert around.keys("retrain/run-1/build/") == []


@pytest.mark.parametrize("name", ["build", "register"])
def test_a_service_that_fails_is_tried_again(around: Around, tmp_path: Path, name: str, capfd: Any) -> None:
    assert step(around, tmp_path, name, Command(build=(4, "", "S3 is away"), publish=(4, "", "S3 is away"))) == (4, None)
    assert "S3 is away" in capfd.readouterr().err


def test_a_release_is_registered_and_its_rollout_prepared(around: Around, tmp_path: Path) -> None:
    around.put("retrain/run-1/build/build.json", "{}")
    around.put("retrain/run-1/data.json", '{"digest": "d"}')
    around.put("source/deployment/rollout.json", "{}")
    command = Command(publish=(0, "fashion@9\n", ""), rollout=(0, '{"rollout": {"id": "r"}}', ""))
    told = {"exit": 0, "release": "fashion@9", "rollout": {"rollout": {"id": "r"}}}
    assert step(around, tmp_path, "register", command) == (0, told)
    assert command.calls == [["publish", "out"], START]
    assert "deployment/rollout.json" in command.files
    assert json.loads(around.text(validation.LAST)) == {"digest": "d"}


def test_gates_that_refuse_leave_the_data_to_be_tried_again(around: Around, tmp_path: Path) -> None:
    around.put("retrain/run-1/data.json", '{"digest": "d"}')
    status, told = step(around, tmp_path, "register", Command(publish=(0, "fashion@9\n", ""), rollout=(5, "", "slower")))
    assert (status, told) == (0, {"exit": 5, "release": "fashion@9", "said": "slower"})
    assert around.keys(validation.LAST) == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"zip": (0, "s3://registry/blobs/ab\n", "")}, {"S3Bucket": "registry", "S3Key": "blobs/ab"}),
        ({"zip": (2, "", "an image"), "image": (0, "host/fashion@sha256:ab\n", "")}, {"ImageUri": "host/fashion@sha256:ab"}),
    ],
)
def test_the_function_gets_the_releases_code(
    around: Around, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, building.Told], code: dict[str, str]
) -> None:
    calls: list[dict[str, str]] = []
    monkeypatch.setattr(around.clients("lambda"), "update_function_code", lambda **given: calls.append(given))

    def command(arguments: list[str], _: Path) -> building.Told:
        told = {"publish": (0, "fashion@9\n", ""), "rollout": (5, "", "slower")}
        return fields[arguments[-1]] if arguments[0] == "show" else told[arguments[0]]

    environment = ENVIRONMENT | {"MLPACK_STEP": "register", "MLPACK_FUNCTION": "fashion-prod"}
    assert building.run(environment, tmp_path, around.clients, command) == 0
    assert calls == [{"FunctionName": "fashion-prod", **code}]


def test_a_key_that_leads_out_of_its_folder_is_refused(around: Around, tmp_path: Path) -> None:
    around.put("source/../../evil", "x")
    with pytest.raises(ValueError, match="leads out"):
        step(around, tmp_path, "build", Command(build=(0, "", "")))


def test_the_command_is_this_pythons_mlpack(tmp_path: Path) -> None:
    code, said, _ = building.mlpack(["--version"], tmp_path)
    assert (code, said.startswith("mlpack")) == (0, True)
