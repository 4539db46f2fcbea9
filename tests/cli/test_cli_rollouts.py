"""The commands of rollouts: what they print, and their exit codes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.command_line import run
from tests.support.rollouts.registries import SETTINGS, Cloud, stocked

from mlpack.deploy.rollouts import leading
from mlpack.deploy.rollouts.leading import StartRequest
from mlpack.registry import Key, Put

SHORT = {**SETTINGS, "policy": {**SETTINGS["policy"], "steps": [50, 100]}}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry with a rollout that was finalised. There are no credentials for AWS, and nobody to ask for some."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    cloud = Cloud()
    leader = stocked(str(tmp_path / "registry"), tmp_path, cloud)
    leading.start(leader, StartRequest(reference="fashion@2", alias="prod", settings=SHORT, here=True))
    leader.place.table.close()
    (tmp_path / "deployment").mkdir()
    (tmp_path / "deployment/rollout.json").write_text(json.dumps(SETTINGS))
    return tmp_path / "registry"


def test_status_shows_the_numbers_and_replays(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("rollout", "status", "fashion:prod", "--registry", registry, "--replay") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1  publish  same bytes  a rollout begins with a version"
    assert lines[-1].startswith("fashion-prod-1: fashion@2 to prod: finalised, 100 %: every metric is good")
    assert any("errors: good: at most" in line for line in lines)


def test_status_as_json_has_the_evidence(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("rollout", "status", "fashion:prod", "--number", 1, "--registry", registry, "--json", "--replay") == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["phase"], status["percent"], set(status["replay"])) == ("finalised", 100, {True})
    assert status["looks"][-1]["action"] == {"kind": "finalise"}


def test_evidence_that_was_changed_ends_with_3(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leader = _leader(registry)
    key = Key("name/fashion/rollout/prod/000000001", "000000004")
    row = leader.place.table.get(key)
    assert row is not None
    leader.place.table.commit(Put(key=key, head=row.head, body=row.body.replace(b"errors", b"terror"), expect=row.revision))
    assert run("rollout", "status", "fashion:prod", "--registry", registry, "--replay") == 3
    assert "OTHER BYTES" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status", "fashion"], "is not an alias"),
        (["status", "fashion:next"], "there was no rollout to fashion:next"),
        (["status", "fashion:prod", "--number", 2], "there was no rollout 2"),
        (["abort", "fashion:prod"], "there is nothing under way"),
        (["answer", "fashion:prod", "advance"], "there is nothing under way"),
        (["start", "fashion@2", "--to", "prod", "--deployment", "DEPLOYMENT", "--here"], "is at fashion@2 already"),
        (["start", "fashion@1", "--to", "prod", "--deployment", "DEPLOYMENT"], "--here"),
        (["start", "fashion@1", "--to", "prod", "--deployment", "."], "rollout.json"),
    ],
)
def test_what_cannot_be_done_ends_with_2(
    words: list[Any], message: str, registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(registry.parent / "deployment") if word == "DEPLOYMENT" else word for word in words]
    assert run("rollout", *words, "--registry", registry) == 2
    assert message in capsys.readouterr().err


def test_a_start_without_credentials_is_told(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deployment = registry.parent / "deployment"
    words = ["start", "fashion@1", "--to", "prod", "--deployment", deployment, "--here", "--registry", registry]
    assert run("rollout", *words) == 4
    assert capsys.readouterr().err
    assert run("rollout", "status", "fashion:prod", "--registry", registry) == 0
    assert "fashion-prod-2: fashion@1 to prod: rolled_back" in capsys.readouterr().out


def _leader(registry: Path) -> leading.Leader:
    from mlpack.core.progress import Silent
    from mlpack.deploy.rollouts.aws import Account
    from mlpack.registry.library.access import open_access

    cloud = Cloud()
    leader = leading.Leader(access=open_access(registry, None, Silent(), {}), account=Account("", cloud.client))
    return dataclasses.replace(leader, clock=lambda: cloud.now)
