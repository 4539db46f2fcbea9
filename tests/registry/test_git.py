"""What git is asked of a repository that a stranger made: answers, and nothing of the stranger's that runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mlpack.registry.releases.git import Git
from mlpack.registry.releases.provenance import read

BARE = {"PATH": os.environ["PATH"], "USER": "carol"}
QUIET = ("-c", "commit.gpgsign=false", "-c", "user.name=Dave", "-c", "user.email=dave@team.example")

PROGRAMS = (
    *("core.fsmonitor", "core.sshCommand", "core.gitProxy", "core.pager", "core.editor", "core.askPass"),
    *("core.alternateRefsCommand", "fetch.bundleURI", "http.proxySSLCert"),
    *("sequence.editor", "gpg.program", "gpg.ssh.program", "gpg.x509.program", "gpg.ssh.defaultKeyCommand", "credential.helper"),
    *("diff.external", "diff.evil.command", "diff.evil.textconv", "merge.evil.driver", "merge.tool", "mergetool.evil.cmd"),
    *("filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "interactive.diffFilter", "pager.config", "pager.describe"),
    *("pager.status", "pager.ls-files", "pager.rev-parse", "alias.rev-parse", "alias.describe", "alias.config", "alias.ls-files"),
    *("alias.diff-index", "alias.check-attr", "alias.status", "remote.origin.uploadpack", "remote.origin.receivepack"),
    *("remote.origin.vcs", "remote.origin.proxy", "sendemail.smtpserver", "uploadpack.packObjectsHook", "browser.evil.cmd"),
    "man.evil.cmd",
    *("web.browser", "help.browser"),
    *("trailer.evil.command", "trailer.evil.cmd", "tar.evil.command", "submodule.inner.update", "imap.tunnel", "gui.evil.cmd"),
    *("core.hooksPath", "init.templateDir", "receive.procReceiveRefs", "guitool.evil.cmd", "difftool.evil.cmd", "instaweb.httpd"),
    *("svn.authorsProg", "core.gitProxy", "notes.rewriteRef", "blame.ignoreRevsFile", "mailmap.file", "commit.template"),
)
"""Every key of git-config(1) that names a program, or a folder of them, and some more."""
HOOKS = (
    *("post-index-change", "pre-commit", "post-checkout", "reference-transaction", "fsmonitor-watchman", "pre-auto-gc"),
    *("post-merge", "post-commit", "commit-msg", "pre-receive"),
    *("query-watchman", "pre-push", "update", "post-update", "push-to-checkout", "sendemail-validate", "p4-changelist"),
)


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *QUIET, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    for name in ("a.txt", "b.txt", "deep/c.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"{name}\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("a.txt")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return repository(tmp_path / "project")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A program that leaves a file beside itself when it runs, whatever it is called with."""
    program = tmp_path / "canary"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {tmp_path}/ran\ncat\n')
    program.chmod(0o755)
    return program


def armed(folder: Path, canary: Path, attributes: str) -> None:
    """The repository names the program wherever git reads the name of one."""
    hooks = folder / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in HOOKS:
        shutil.copy(canary, hooks / name)
    config = folder / ".git" / "config"
    lines = [f"[include]\n\tpath = {folder}/.git/more\n"]
    for key in PROGRAMS:
        section, _, rest = key.partition(".")
        inner, _, name = rest.rpartition(".")
        value = hooks if key == "core.hooksPath" else f"!{canary}" if section == "alias" else canary
        lines.append(f"[{section}{f' {chr(34)}{inner}{chr(34)}' if inner else ''}]\n\t{name} = {value}\n")
    lines.append('[filter "evil"]\n\trequired = true\n[remote "origin"]\n\tpromisor = true\n\turl = ext::' + f"{canary} %S\n")
    lines.append('[protocol "ext"]\n\tallow = always\n[log]\n\tshowSignature = true\n[core]\n\tuntrackedCache = true\n')
    (folder / ".git" / "more").write_text("".join(lines[1:]))
    config.write_text(config.read_text() + "".join(lines))
    (folder / ".gitattributes").write_text(attributes)
    (folder / ".git" / "info").mkdir(exist_ok=True)
    (folder / ".git" / "info" / "attributes").write_text(attributes)


@pytest.mark.parametrize("state", ["as it was", "touched", "changed", "staged", "objects are missing", "a merge"])
def test_nothing_that_a_repository_names_is_run(made: Path, canary: Path, tmp_path: Path, state: str) -> None:
    if state == "touched":
        os.utime(made / "a.txt", (1, 1))
    if state == "changed":
        (made / "a.txt").write_text("other\n")
    if state in ("staged", "a merge"):
        line = f"100644 {git(made, 'rev-parse', 'HEAD:run.sh')} {1 if state == 'a merge' else 0}\ta.txt\n"
        subprocess.run(["git", "update-index", "--index-info"], cwd=made, input=line, text=True, check=True)
    if state == "objects are missing":
        shutil.rmtree(made / ".git" / "objects")
        (made / ".git" / "objects").mkdir()
    armed(made, canary, "*.txt filter=evil diff=evil merge=evil\n")
    (tmp_path / "ran").unlink(missing_ok=True)
    found = read(BARE, made / "deep")
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
    assert found.commit is not None
    told = {"as it was": False, "touched": False, "changed": None, "staged": True, "objects are missing": None, "a merge": True}
    assert found.dirty is told[state]


def test_the_canary_would_have_run(made: Path, canary: Path, tmp_path: Path) -> None:
    """What was asked before ran it: the test above means something."""
    armed(made, canary, "*.txt filter=evil\n")
    os.utime(made / "a.txt", (1, 1))
    subprocess.run(["git", "-c", "core.fsmonitor=false", "status", "--porcelain"], cwd=made, capture_output=True, check=False)
    assert (tmp_path / "ran").exists()


def test_nothing_of_a_submodule_is_run(made: Path, canary: Path, tmp_path: Path) -> None:
    inner = repository(tmp_path / "inner")
    git(made, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "sub")
    git(made, "commit", "--quiet", "-m", "with a submodule")
    assert Git(BARE, made).dirty() is False
    config = made / ".git" / "modules" / "sub" / "config"
    config.write_text(config.read_text() + f'[filter "evil"]\n\tclean = {canary}\n[core]\n\tfsmonitor = {canary}\n')
    (made / ".git" / "modules" / "sub" / "info" / "attributes").write_text("* filter=evil\n")
    os.utime(made / "sub" / "a.txt", (1, 1))
    assert Git(BARE, made).dirty() is False
    (made / "sub" / "a.txt").write_text("other\n")
    assert Git(BARE, made).dirty() is None
    git(made / "sub", "-c", "core.fsmonitor=", "-c", "filter.evil.clean=cat", "commit", "--quiet", "--allow-empty", "-m", "more")
    (tmp_path / "ran").unlink(missing_ok=True)
    assert Git(BARE, made).dirty() is True
    assert not (tmp_path / "ran").exists()


def change_mode(folder: Path) -> None:
    (folder / "run.sh").chmod(0o644)


CHANGES = {
    "content": lambda folder: (folder / "a.txt").write_text("other\n"),
    "same size": lambda folder: (folder / "a.txt").write_text("A.txt\n"),
    "removed": lambda folder: (folder / "a.txt").unlink(),
    "mode": change_mode,
    "link": lambda folder: ((folder / "link").unlink(), (folder / "link").symlink_to("b.txt")),
    "link for a file": lambda folder: ((folder / "a.txt").unlink(), (folder / "a.txt").symlink_to("b.txt")),
    "a pipe": lambda folder: ((folder / "a.txt").unlink(), os.mkfifo(folder / "a.txt")),
    "a folder elsewhere": lambda folder: ((folder / "deep").rename(folder / "other"), (folder / "deep").symlink_to("other")),
    "staged": lambda folder: ((folder / "new").write_text("x"), git(folder, "add", "new")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_kind_of_change_is_seen(made: Path, change: object) -> None:
    assert Git(BARE, made).dirty() is False
    assert callable(change)
    change(made)
    assert Git(BARE, made).dirty() is True


def test_what_only_looks_changed_is_not(made: Path) -> None:
    for path in made.rglob("*.txt"):
        os.utime(path, (1, 1))
    (made / "untracked").write_text("x")
    assert Git(BARE, made).dirty() is False


def test_line_ends_that_git_converts_are_not_guessed(made: Path) -> None:
    git(made, "config", "core.autocrlf", "true")
    (made / "a.txt").write_bytes(b"a.txt\r\n")
    assert Git(BARE, made).dirty() is None


def test_a_sparse_checkout_and_odd_names_are_clean(made: Path) -> None:
    odd = 'tab\tand\nline \xe9 \\ "quoted".txt'
    (made / odd).write_text("x\n")
    git(made, "add", ".")
    git(made, "commit", "--quiet", "-m", "odd")
    assert Git(BARE, made).dirty() is False
    git(made, "sparse-checkout", "set", "deep")
    assert Git(BARE, made).dirty() is False
    (made / "deep" / "c.txt").write_text("other\n")
    assert Git(BARE, made).dirty() is True


def test_a_worktree_elsewhere_is_not_looked_at(made: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    git(made, "config", "core.worktree", str(tmp_path / "victim"))
    assert Git(BARE, made).dirty() is None


def test_what_looks_like_a_bare_repository_is_none(tmp_path: Path, canary: Path) -> None:
    """A folder of a checkout that holds HEAD, objects, refs and a config of the stranger's."""
    folder = tmp_path / "models"
    folder.mkdir()
    git(folder, "init", "--quiet", "--bare", ".")
    with (folder / "config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = {canary}\n\tworktree = {tmp_path}\n")
    found = read(BARE, folder)
    assert (found.commit, found.dirty) == (None, None)
    assert not (tmp_path / "ran").exists()


def test_the_environment_leads_nowhere_else(made: Path, canary: Path, tmp_path: Path) -> None:
    other = repository(tmp_path / "other")
    (other / "a.txt").write_text("more\n")
    git(other, "commit", "--quiet", "-am", "more")
    hostile = {"GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other), "GIT_INDEX_FILE": str(other / ".git/index"),
               "GIT_EXTERNAL_DIFF": str(canary), "GIT_SSH_COMMAND": str(canary), "GIT_PAGER": str(canary),
               "GIT_TRACE": str(tmp_path / "trace"), "GIT_CONFIG_PARAMETERS": f"'core.fsmonitor={canary}'",
               "GIT_ASKPASS": str(canary), "GIT_PROXY_COMMAND": str(canary), "GIT_EXEC_PATH": str(tmp_path)}  # fmt: skip
    found = read(BARE | hostile, made)
    assert found.commit == git(made, "rev-parse", "HEAD")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "trace").exists()
