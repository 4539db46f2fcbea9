"""`mlpack deploy plan` and `write`: what they print, their exit codes, and where they find the section."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.command_line import run
from tests.support.deployments import build_directory

from mlpack.errors import ExitCode

SECTION = "tags: {service: a, team: b, env: prod}\ndeploy: {traffic: {peak_rps: 50}}\n"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build that recorded no section."""
    return build_directory(tmp_path_factory.mktemp("build") / "out")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(SECTION)
    return tmp_path / "recipe.yaml"


def test_a_plan_is_printed(build: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("deploy", "plan", build, "--recipe", recipe) == ExitCode.OK
    out = capsys.readouterr().out
    assert "tiny (int8@lambda-zip-x86_64) as tiny-prod" in out
    assert "gateway burst: 21 <= 21" in out
    assert run("deploy", "plan", build, "--recipe", recipe, "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["fits"] is True


def test_over_budget_is_5_and_writes_nothing(build: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(SECTION.replace("50}}", "50}, budget: {month: 1USD}}"))
    assert run("deploy", "plan", build, "--recipe", recipe) == ExitCode.OVER_BUDGET
    assert "deploy.budget.month: " in capsys.readouterr().out
    assert run("deploy", "write", build, "--recipe", recipe, "-o", tmp_path / "out") == ExitCode.OVER_BUDGET
    assert "deploy.budget.month: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_files_are_written_once(build: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run("deploy", "write", build, "--recipe", recipe, "-o", out) == ExitCode.OK
    assert capsys.readouterr().out.strip() == str(out)
    assert run("deploy", "write", build, "--recipe", recipe, "-o", out, "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["changed"] == []
    assert json.loads((out / "service.cfn.json").read_text())["Resources"]["Model"]["Type"] == "AWS::Lambda::Function"


def test_a_section_that_is_nowhere_is_asked_for(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("deploy", "plan", build) == ExitCode.RECIPE
    err = capsys.readouterr().err
    assert "deploy: is required here" in err
    assert "tags: lacks team" in err


def test_a_recorded_section_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tags = {"service": "a", "team": "b", "env": "dev"}
    build = build_directory(tmp_path / "out", deploy={"traffic": {"peak_rps": 5}}, tags=tags)
    assert run("deploy", "plan", build) == ExitCode.OK
    assert "as tiny-dev" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "deploy: {traffic: {peak_rps: 50}, warm: {provisioned: 1, snapstart: true}}\n",
            ":1: deploy.warm.snapstart: ",
        ),
        ("\n\ndeploy:\n  traffic: {peak_rps: 50}\n  endpoint: {auth: none}\n", ":5: deploy.endpoint.auth: none would let anybody"),
        ("tags: [a]\ndeploy: 5\n", ":2: deploy: must be a mapping"),
        ("deploy: {traffic: {peak_rps: 50}}\ntags: {env: 'a b'}\n", ":2: tags.env: 'a b' is part of names"),
        ("[]", "is no recipe"),
        ("deploy: {traffic: {peak_rps: 1}\n", ":"),
    ],
)
def test_a_wrong_section_is_told_with_its_line(
    build: Path, recipe: Path, text: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_text(text if "tags" in text else f"{text}tags: {{service: a, team: b, env: prod}}\n" if text != "[]" else text)
    assert run("deploy", "plan", build, "--recipe", recipe) == ExitCode.RECIPE
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("source", ["nowhere", "nowhere@3", "a:b", "/nowhere/at/all", "UPPER", ""])
def test_a_source_that_is_not_there_is_told(source: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run("deploy", "plan", source, "--recipe", recipe, "--registry", tmp_path / "registry")
    assert code == ExitCode.RECIPE
    assert capsys.readouterr().err.startswith("mlpack: ")
