"""Finds who publishes, from where, and from which sources: it asks the CI, then git, then this machine.

Promises:
- An unknown fact is None, never a guess.
- No question can fail a publication, except a label that is not a valid version.
- It reads the environment that the caller gives, never changes a repository, and runs no program that a repository names
  (`git`).
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlpack.core.text import words
from mlpack.errors import RecipeError
from mlpack.registry.records import Provenance
from mlpack.registry.releases.git import Git

_TEXT_MAX = 256

_LABEL = re.compile(r"(?=.*[0-9])[0-9A-Za-z][0-9A-Za-z._/+-]{0,127}")
"""A semantic version, a tag, TAG-COMMITS-gHASH or a hash, as `git describe --tags --always --dirty` writes them. A text without a
digit (`latest`, `stable`) names no version: aliases are for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _CiSystem:
    """The variables of a CI system. `sign`: the variable that is set when it runs us. Of the others the first one counts whose
    variables are all set."""

    sign: str
    commit: str
    who: tuple[str, ...]
    where: tuple[str, ...]
    tag: str = ""
    tag_prefix: str = ""
    """What the variable begins with when it is a tag and nothing else."""


_SYSTEMS = (
    _CiSystem(
        # docs.github.com/actions/reference/workflows-and-actions/variables
        sign="GITHUB_ACTIONS",
        commit="{GITHUB_SHA}",
        who=("{GITHUB_TRIGGERING_ACTOR}", "{GITHUB_ACTOR}"),
        where=(
            "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}/attempts/{GITHUB_RUN_ATTEMPT}",
            "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
        ),
        tag="{GITHUB_REF}",
        tag_prefix="refs/tags/",
    ),
    _CiSystem(
        # docs.gitlab.com/ci/variables/predefined_variables
        sign="GITLAB_CI",
        commit="{CI_COMMIT_SHA}",
        who=("{GITLAB_USER_LOGIN}",),
        where=("{CI_JOB_URL}", "{CI_PIPELINE_URL}"),
        tag="{CI_COMMIT_TAG}",
    ),
    _CiSystem(
        # docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html
        sign="CODEBUILD_BUILD_ID",
        commit="{CODEBUILD_RESOLVED_SOURCE_VERSION}",
        who=("{CODEBUILD_INITIATOR}",),
        where=("{CODEBUILD_BUILD_URL}", "{CODEBUILD_BUILD_ARN}"),
        tag="{CODEBUILD_WEBHOOK_TRIGGER}",
        tag_prefix="tag/",
    ),
    _CiSystem(
        # buildkite.com/docs/pipelines/configure/environment-variables
        sign="BUILDKITE",
        commit="{BUILDKITE_COMMIT}",
        who=("{BUILDKITE_BUILD_CREATOR}", "{BUILDKITE_BUILD_AUTHOR}"),
        where=("{BUILDKITE_BUILD_URL}#{BUILDKITE_JOB_ID}", "{BUILDKITE_BUILD_URL}"),
        tag="{BUILDKITE_TAG}",
    ),
    _CiSystem(
        # circleci.com/docs/reference/variables
        sign="CIRCLECI",
        commit="{CIRCLE_SHA1}",
        who=("{CIRCLE_USERNAME}",),
        where=("{CIRCLE_BUILD_URL}",),
        tag="{CIRCLE_TAG}",
    ),
    _CiSystem(
        # learn.microsoft.com/azure/devops/pipelines/build/variables
        sign="TF_BUILD",
        commit="{BUILD_SOURCEVERSION}",
        who=("{BUILD_REQUESTEDFOR}",),
        where=("{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}",),
        tag="{BUILD_SOURCEBRANCH}",
        tag_prefix="refs/tags/",
    ),
    _CiSystem(
        # support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets
        sign="BITBUCKET_BUILD_NUMBER",
        commit="{BITBUCKET_COMMIT}",
        who=("{BITBUCKET_STEP_TRIGGERER_UUID}",),
        where=("{BITBUCKET_GIT_HTTP_ORIGIN}/pipelines/results/{BITBUCKET_BUILD_NUMBER}",),
        tag="{BITBUCKET_TAG}",
    ),
    _CiSystem(
        # www.jenkins.io/doc/book/pipeline/jenkinsfile, and the plugins git and build-user-vars
        sign="JENKINS_URL",
        commit="{GIT_COMMIT}",
        who=("{BUILD_USER_ID}", "{CHANGE_AUTHOR}"),
        where=("{BUILD_URL}",),
        tag="{TAG_NAME}",
    ),
)


def read(environ: Mapping[str, str], folder: Path, label: str | None = None) -> Provenance:
    """The provenance of a publication from this directory, which is among the sources. RecipeError for an invalid label."""
    if label is not None and _LABEL.fullmatch(label) is None:
        raise RecipeError(f"--label {label!r}: write a semantic version, or what `git describe` says, as in v1.4.0-3-gdeadbee")
    ci = next((each for each in _SYSTEMS if environ.get(each.sign)), None)
    git = Git(environ, folder)
    head = git.answer("rev-parse", "--verify", "HEAD")
    commit = _filled(ci.commit, environ) if ci else None
    if commit is None or not re.fullmatch(r"[0-9a-f]{40,64}", commit):  # Buildkite may say HEAD
        commit = head
    dirty, described = None, None
    if head is not None and head == commit:  # else the repository around the directory is another one
        dirty, described = git.dirty(), git.answer("describe", "--tags", "--always")
        described = f"{described}-dirty" if described and dirty else described
    return Provenance(
        label=label or _text((_tag(ci, environ) if ci else None) or described),
        commit=commit,
        dirty=dirty,
        who=_text(_first(ci.who, environ) if ci else git.user() or environ.get("USER") or environ.get("LOGNAME") or _user()),
        where=_text(_first(ci.where, environ) if ci else socket.gethostname()),
    )


def who(environ: Mapping[str, str], folder: Path) -> str | None:
    """Who runs mlpack, for histories, as in `read`."""
    return read(environ, folder).who


def _user() -> str | None:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None  # a container's user without a name


def _tag(ci: _CiSystem, environ: Mapping[str, str]) -> str | None:
    """The tag that this CI run is for."""
    value = _filled(ci.tag, environ) if ci.tag else None
    return value.removeprefix(ci.tag_prefix) if value and value.startswith(ci.tag_prefix) else None


def _first(templates: tuple[str, ...], environ: Mapping[str, str]) -> str | None:
    return next((value for each in templates if (value := _filled(each, environ)) is not None), None)


def _filled(template: str, environ: Mapping[str, str]) -> str | None:
    """The text with its variables; None when one of them is not set."""
    names = re.findall(r"\{(\w+)\}", template)
    if not all(environ.get(name) for name in names):
        return None
    return re.sub(r"\{(\w+)\}", lambda match: environ[match[1]], template)


def _text(value: str | None) -> str | None:
    """Foreign text as one line without control characters."""
    return " ".join(words.clean(value).split())[:_TEXT_MAX] or None if value else None
