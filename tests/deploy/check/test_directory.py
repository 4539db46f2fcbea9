"""A directory: its digests, its overrides, what could not run; and the command that says so."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from tests.support.command_line import run
from tests.support.deployments import build_directory

import mlpack
from mlpack.deploy.check.proofs import linters
from mlpack.deploy.check.proofs.own import own_proofs
from mlpack.deploy.check.proofs.programs import program_proofs
from mlpack.deploy.check.records import DeploymentReport, Finding, Proof
from mlpack.errors import ExitCode, RecipeError

SECTION = {"traffic": {"peak_rps": 50}}
TAGS = {"service": "fashion", "team": "vision", "env": "prod"}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_directory(tmp_path_factory.mktemp("build") / "out", deploy=SECTION, tags=TAGS)


@pytest.fixture(scope="module")
def sound(build: Path) -> Path:
    """A directory as `deploy write` leaves it."""
    mlpack.write_deployment(build, build.parent / "deployment")
    return build.parent / "deployment"


@pytest.fixture
def directory(sound: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(sound, tmp_path / "deployment"))


def found(directory: Path) -> list[str]:
    return [str(finding) for proof in own_proofs(directory) for finding in proof.findings]


def test_own_proofs_hold_in_what_is_written(sound: Path) -> None:
    assert found(sound) == []


def test_a_changed_file_is_named(directory: Path) -> None:
    (directory / "rollout.asl.json").write_text('{"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"}}}')
    (directory / "PLAN.md").unlink()
    assert [each for each in found(directory) if "asl" in each or "PLAN" in each] == [
        "deploy.lock: files.PLAN.md: there is no such file: run `mlpack deploy write` again",
        "rollout.asl.json: was changed after it was written: put the change into overrides.yaml and write again",
        "rollout.asl.json: States: none of them ends the machine",
        "rollout.asl.json: States.A.Next: B is no state here",
    ]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": []}', '{"files": {"../x": "sha256:0"}}', "\x00"])
def test_a_broken_lock_is_a_finding(directory: Path, text: str) -> None:
    (directory / "deploy.lock").write_text(text)
    assert any(each.startswith("deploy.lock: ") for each in found(directory))


@pytest.mark.parametrize("name", ["service.cfn.json", "service.tf.json", "rollout.asl.json", "parameters.prod.json"])
def test_broken_files_are_findings(directory: Path, name: str) -> None:
    for text in ("", "[]", '{"Resources": 1, "resource": [], "States": 0, "Parameters": {"X": 1}}'):
        (directory / name).write_text(text)
        assert any(each.startswith(f"{name}: ") for each in found(directory)), text


def test_overrides_are_merged_and_checked(build: Path, directory: Path) -> None:
    (directory / "overrides.yaml").write_text(
        "parameters: {CodeBucket: mine}\n"
        "cloudformation: {Model: {Properties: {MemorySize: 20000, TracingConfig: null}}}\n"
        "terraform: {resource: {aws_lambda_function: {Model: {memory_size: 2048}}}}\n"
    )
    assert found(directory) == ["overrides.yaml: has changed since the files were written: run `mlpack deploy write` again"]
    mlpack.write_deployment(build, directory)
    assert found(directory) == ["service.cfn.json: Resources.Model.Properties.MemorySize: 20000 is outside 128 to 10240"]
    written = json.loads((directory / "service.cfn.json").read_text())["Resources"]["Model"]["Properties"]
    assert "TracingConfig" not in written
    assert '"memory_size": 2048' in (directory / "service.tf.json").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cloudformation: {Modle: {Properties: {}}}", "cloudformation.Modle: is no resource here"),
        ("terraforms: {}", "overrides.yaml:1: terraforms: is none of parameters, cloudformation, terraform"),
        ("parameters: {X: {}}", "overrides.yaml:1: parameters.X: has to be a text, a number or a list of texts"),
        ("cloudformation: {Model: 1}", "overrides.yaml:1: cloudformation.Model: has to be a resource"),
        ("cloudformation: [1]", "overrides.yaml:1: cloudformation: has to be a mapping"),
        ("- 1", "overrides.yaml:1: write a mapping with"),
        ("{", "overrides.yaml:1: is not YAML"),
    ],
)
def test_overrides_that_say_nothing_are_refused(build: Path, directory: Path, text: str, said: str) -> None:
    (directory / "overrides.yaml").write_text(text)
    with pytest.raises(RecipeError, match=re.escape(said)):
        mlpack.write_deployment(build, directory)


def test_a_strange_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("deploy", "check", tmp_path) == ExitCode.RECIPE
    assert "has no deploy.lock: name a directory that `mlpack deploy write` wrote" in capsys.readouterr().err


def test_a_report_says_what_could_not_run_and_why() -> None:
    report = DeploymentReport("d", (Proof("a", "ok"), Proof("b", "could not run", why="it is not installed")))
    assert report.ok
    assert report.text() == "ok            a\ncould not run b: it is not installed"
    failed = DeploymentReport("d", (Proof("c", "failed", (Finding("f", "k", "r"),)),))
    assert failed.text() == "failed        c\n    f: k: r"
    assert failed.to_json()["proofs"][0]["findings"] == [{"file": "f", "key": "k", "reason": "r"}]


def test_a_linters_long_lists_are_left_out() -> None:
    names = [f"EndpointRoute{number}" for number in range(40)]
    assert linters._short(f"'Model' is not one of {names}") == "'Model' is not one of [...]"
    assert linters._short(f"'{'x' * 300}' is longer than 256") == f"'{'x' * 60}...' is longer than 256"


@pytest.mark.parametrize("mirrored", [True, False])
def test_terraform_asks_no_registry(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirrored: bool) -> None:
    program = tmp_path / "bin" / "terraform"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/words\npwd > {tmp_path}/work\necho "Error: no provider" >&2; exit 1\n')
    program.chmod(0o755)
    folder = tmp_path / "home" / ".terraform.d" / "plugins"
    if mirrored:
        folder.mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    environ = {"HOME": str(tmp_path / "home"), "XDG_DATA_DIRS": str(tmp_path / "none")}
    first = next(program_proofs(sound, environ))
    assert (first.name, first.status) == ("terraform validate", "could not run")
    assert first.why.startswith("its provider is not on this machine: ")
    words, work = ((tmp_path / name).read_text().split() for name in ("words", "work"))
    assert [each for each in words if "plugin-dir" in each] == [f"-plugin-dir={folder if mirrored else work[0]}"]


@pytest.mark.slow
def test_the_command_ends_with_5_when_a_proof_fails(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("deploy", "check", directory, "--no-tools") == ExitCode.OK
    assert "ok            cfn-lint" in capsys.readouterr().out.splitlines()
    (directory / "service.tf.json").write_text("{}")
    assert run("deploy", "check", directory, "--no-tools", "--json") == ExitCode.OVER_BUDGET
    assert json.loads(capsys.readouterr().out)["ok"] is False
