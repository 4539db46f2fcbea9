"""Who publishes what, from where: by CI variables, by git, or not at all."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from mlpack.errors import RecipeError
from mlpack.registry.releases.provenance import read, who

SHA = "0123456789abcdef0123456789abcdef01234567"
BARE = {"PATH": os.environ["PATH"], "USER": "carol"}

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SHA": SHA,
    "GITHUB_ACTOR": "alice",
    "GITHUB_SERVER_URL": "https://github.example",
    "GITHUB_REPOSITORY": "team/models",
    "GITHUB_RUN_ID": "42",
    "GITHUB_REF": "refs/heads/main",
}
SYSTEMS = [
    (GITHUB, (None, "alice", "https://github.example/team/models/actions/runs/42")),
    (
        GITHUB | {"GITHUB_RUN_ATTEMPT": "2", "GITHUB_TRIGGERING_ACTOR": "bob", "GITHUB_REF": "refs/tags/v1.2.0"},
        ("v1.2.0", "bob", "https://github.example/team/models/actions/runs/42/attempts/2"),
    ),
    (
        {
            "GITLAB_CI": "true",
            "CI_COMMIT_SHA": SHA,
            "GITLAB_USER_LOGIN": "alice",
            "CI_JOB_URL": "https://gitlab.example/-/jobs/7",
            "CI_COMMIT_TAG": "v2",
        },
        ("v2", "alice", "https://gitlab.example/-/jobs/7"),
    ),
    (
        {
            "CODEBUILD_BUILD_ID": "models:1",
            "CODEBUILD_RESOLVED_SOURCE_VERSION": SHA,
            "CODEBUILD_INITIATOR": "pipeline/models",
            "CODEBUILD_BUILD_ARN": "arn:aws:codebuild:eu-west-1:1:build/models:1",
            "CODEBUILD_WEBHOOK_TRIGGER": "tag/v3.0.0",
        },
        ("v3.0.0", "pipeline/models", "arn:aws:codebuild:eu-west-1:1:build/models:1"),
    ),
    (
        {
            "JENKINS_URL": "https://jenkins.example/",
            "GIT_COMMIT": SHA,
            "BUILD_USER_ID": "alice",
            "BUILD_URL": "https://jenkins.example/job/models/5/",
        },
        (None, "alice", "https://jenkins.example/job/models/5/"),
    ),
    (
        {
            "BUILDKITE": "true",
            "BUILDKITE_COMMIT": SHA,
            "BUILDKITE_BUILD_CREATOR": "Alice",
            "BUILDKITE_BUILD_URL": "https://buildkite.example/team/models/builds/9",
            "BUILDKITE_JOB_ID": "job",
        },
        (None, "Alice", "https://buildkite.example/team/models/builds/9#job"),
    ),
    (
        {"CIRCLECI": "true", "CIRCLE_SHA1": SHA, "CIRCLE_USERNAME": "alice", "CIRCLE_BUILD_URL": "https://circle.example/3"},
        (None, "alice", "https://circle.example/3"),
    ),
    (
        {
            "TF_BUILD": "True",
            "BUILD_SOURCEVERSION": SHA,
            "BUILD_REQUESTEDFOR": "Alice",
            "SYSTEM_COLLECTIONURI": "https://azure.example/team/",
            "SYSTEM_TEAMPROJECT": "models",
            "BUILD_BUILDID": "11",
            "BUILD_SOURCEBRANCH": "refs/tags/v4",
        },
        ("v4", "Alice", "https://azure.example/team/models/_build/results?buildId=11"),
    ),
    (
        {
            "BITBUCKET_BUILD_NUMBER": "8",
            "BITBUCKET_COMMIT": SHA,
            "BITBUCKET_STEP_TRIGGERER_UUID": "{alice}",
            "BITBUCKET_GIT_HTTP_ORIGIN": "https://bitbucket.example/team/models",
        },
        (None, "{alice}", "https://bitbucket.example/team/models/pipelines/results/8"),
    ),
]


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit by dave, without a tag."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "config", "user.name", "Dave")
    git(folder, "config", "user.email", "dave@team.example")
    (folder / "recipe.yaml").write_text("name: minilm\n")
    git(folder, "add", ".")
    git(folder, "-c", "commit.gpgsign=false", "commit", "--quiet", "-m", "first")
    return folder


@pytest.mark.parametrize(("environ", "expected"), SYSTEMS)
def test_what_the_ci_says_counts(tmp_path: Path, environ: dict[str, str], expected: tuple[str | None, str, str]) -> None:
    found = read(BARE | environ, tmp_path)
    assert (found.label, found.who, found.where) == expected
    assert (found.commit, found.dirty) == (SHA, None)


@pytest.mark.parametrize(("environ", "_expected"), SYSTEMS)
def test_variables_that_are_not_set_are_not_known(tmp_path: Path, environ: dict[str, str], _expected: object) -> None:
    sign, value = next(iter(environ.items()))
    found = read(BARE | {sign: value}, tmp_path)
    assert (found.label, found.commit, found.who, found.where) == (None, None, None, None)
    assert read(BARE | dict.fromkeys(environ, ""), tmp_path).who == "carol"


def test_without_ci_git_is_asked(repository: Path) -> None:
    found = read(BARE, repository)
    head = git(repository, "rev-parse", "HEAD")
    assert found.commit == head
    assert found.label is not None
    assert head.startswith(found.label)
    assert (found.dirty, found.who, found.where) == (False, "dave@team.example", socket.gethostname())


def test_labels_are_what_git_describes(repository: Path) -> None:
    git(repository, "tag", "v1.2.0")
    assert read(BARE, repository).label == "v1.2.0"
    git(repository, "-c", "commit.gpgsign=false", "commit", "--quiet", "--allow-empty", "-m", "more")
    assert str(read(BARE, repository).label).startswith("v1.2.0-1-g")


def test_changes_that_were_not_committed_are_told(repository: Path) -> None:
    (repository / "out").mkdir()
    (repository / "out" / "build.json").write_text("{}")
    assert read(BARE, repository / "out").dirty is False  # what a build left is no change of the sources
    (repository / "recipe.yaml").write_text("name: other\n")
    found = read(BARE, repository / "out")
    assert found.dirty is True
    assert str(found.label).endswith("-dirty")


def test_the_ci_says_which_commit_and_git_whether_it_is_dirty(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    ours = read(BARE | GITHUB | {"GITHUB_SHA": head}, repository)
    assert (ours.commit, ours.dirty, ours.who) == (head, False, "alice")
    other = read(BARE | GITHUB, repository)
    assert (other.commit, other.dirty, other.label) == (SHA, None, None)


def test_a_commit_that_is_none_is_asked_of_git(repository: Path) -> None:
    found = read(BARE | {"BUILDKITE": "true", "BUILDKITE_COMMIT": "HEAD"}, repository)
    assert found.commit == git(repository, "rev-parse", "HEAD")


def test_without_git_and_ci_nothing_is_guessed(tmp_path: Path) -> None:
    found = read({"PATH": str(tmp_path), "USER": "carol"}, tmp_path)
    assert (found.label, found.commit, found.dirty, found.who, found.where) == (None, None, None, "carol", socket.gethostname())
    assert read(BARE, tmp_path / "nowhere").commit is None
    assert who(BARE, tmp_path) == "carol"


def test_an_empty_repository_has_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    found = read(BARE, tmp_path)
    assert (found.label, found.commit, found.dirty) == (None, None, None)


@pytest.mark.parametrize(
    "label", ["1.4.0", "v1.4.0-rc.1+build.5", "v1.4.0-3-gdeadbee", "v1.4.0-dirty", "deadbee1", "release/2026.11"]
)
def test_a_label_may_be_given(repository: Path, label: str) -> None:
    assert read(BARE, repository, label).label == label


@pytest.mark.parametrize("label", ["", "latest", "1.0 beta", "-1", "v1\n", "v1;rm", "1" * 129, "\x1b[31m1"])
def test_a_label_that_is_none_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(RecipeError, match="git describe"):
        read(BARE, tmp_path, label)


def test_hostile_words_become_one_plain_line(tmp_path: Path) -> None:
    found = read(BARE | GITHUB | {"GITHUB_ACTOR": "al\x1b[31mice\n::set-output::\u202e" + "x" * 999}, tmp_path)
    assert found.who is not None
    assert found.who.startswith("al\\x1b[31mice ::set-output::\\u202ex")
    assert len(found.who) == 256
