"""Questions to git about the repository around a directory, asked so that git runs no program that the repository names.

A repository may come from a stranger, for example in an archive with its `.git/config`, hooks and attributes. Git runs programs
that these name: filters and fsmonitor to compare files, hooks, helpers of remotes to fetch what a partial clone lacks, pagers,
editors, gpg.

Promises:
- It asks only for refs, the index and objects that are there. It compares files with the index itself, byte by byte, so that no
  filter runs. An answer that needs a filter is None.
- Git's own refusal of other people's repositories (safe.directory) stays in force.
- Of the variables GIT_* git gets only those that name the user's settings.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_GIT_S = 20.0
_DEEP = 3
"""How deeply submodules may be nested."""
_READ_BYTES = 1 << 30
"""How many bytes of files that look changed are compared, all together."""
_CHUNK_BYTES = 1 << 20
_FOR_THE_USER = re.compile(r"GIT_CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_[0-9]+|VALUE_[0-9]+)|GIT_CEILING_DIRECTORIES")
_SAFE = (
    # These override every file of the repository. git-scm.com/docs/git-config
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat", "-c", "core.untrackedCache=false"),
    *("-c", "core.alternateRefsCommand=true", "-c", "core.sshCommand=false", "-c", "core.askPass=true", "-c", "gpg.program=false"),
    *("-c", "log.showSignature=false", "-c", "protocol.allow=never", "-c", "credential.helper="),
    *("-c", "submodule.recurse=false", "-c", "diff.ignoreSubmodules=all", "-c", "safe.bareRepository=explicit"),
)
_ENTRY = re.compile(
    rb"(?P<tag>[A-Za-z?]) (?P<mode>[0-7]{6}) (?P<id>[0-9a-f]{40,64}) (?P<stage>[0-3])\t(?P<path>[^\0]+)\0"
    rb"(?:  ctime: [0-9:]+\n  mtime: (?P<seconds>[0-9]+):(?P<nanos>[0-9]+)\n  dev: [^\n]*\n  uid: [^\n]*\n"
    rb"  size: (?P<size>[0-9]+)\tflags: [^\n]*\n)?"
)
_GITLINK = 0o160000


class Git:
    """Questions to git about the repository around a directory. An answer is None without a repository or git, or on failure."""

    def __init__(self, environ: Mapping[str, str], folder: Path, deep: int = 0) -> None:
        variables = {key: value for key, value in environ.items() if not key.startswith("GIT_") or _FOR_THE_USER.fullmatch(key)}
        self._environ = variables | {
            # git takes no locks, fetches nothing and asks for no password.
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_PAGER": "cat",
            "LC_ALL": "C",
        }
        self._callers_environ = environ
        self._folder = folder
        self._deep = deep
        self._until = time.monotonic() + _GIT_S

    def answer(self, *question: str) -> str | None:
        """The output of git, without the line's end."""
        answer = self._run(*question)
        return None if answer is None else answer.decode(errors="replace").strip()

    def user(self) -> str | None:
        """The name that commits would have."""
        return self.answer("config", "user.email") or self.answer("config", "user.name")

    def dirty(self) -> bool | None:
        """Whether tracked files differ from the commit; None where only a filter of the repository could tell."""
        root = self._root()
        if root is None:
            return None
        staged = self._run("diff-index", "--cached", "--quiet", "--ignore-submodules=all", "HEAD", "--", codes=(0, 1))
        listed = self._run("-C", str(root), "ls-files", "-z", "--stage", "-t", "--debug")
        if staged is None or listed is None:
            return None
        if staged:
            return True
        entries = list(_entries(listed))
        if any(entry.stage for entry in entries):
            return True  # a merge that was not ended
        unsure, remaining = False, _READ_BYTES
        for entry in entries:
            if time.monotonic() > self._until:
                return None
            changed, read = self._changed(root, entry, remaining)
            remaining -= read
            if changed:
                return True
            unsure = unsure or changed is None
        return None if unsure else False

    def _root(self) -> Path | None:
        """The work tree around the directory; None when `core.worktree` points elsewhere."""
        answer = self.answer("rev-parse", "--show-toplevel")
        if not answer:
            return None
        root = Path(answer)
        try:
            return root if self._folder.resolve().is_relative_to(root.resolve()) else None
        except OSError:
            return None

    def _changed(self, root: Path, entry: _Entry, remaining: int) -> tuple[bool | None, int]:
        """Whether a file differs from the index, and how many bytes were read to find out."""
        if entry.passed_over:
            return False, 0
        path = root / os.fsdecode(entry.path)
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return entry.mode != _GITLINK, 0
        except OSError:
            return None, 0
        if entry.mode == _GITLINK:
            return self._submodule(path, entry), 0
        kind = stat.S_IFLNK if stat.S_ISLNK(entry.mode) else stat.S_IFREG
        if stat.S_IFMT(status.st_mode) != kind or not _inside(root, path):
            return True, 0
        if kind == stat.S_IFREG and bool(entry.mode & 0o100) != bool(status.st_mode & 0o100) and self._modes_count():
            return True, 0
        if entry.is_as_it_was(status):
            return False, 0
        if status.st_size > remaining:
            return None, 0
        try:
            if _object_id(path, status, len(entry.id)) == entry.id:
                return False, status.st_size
        except OSError:
            return None, 0
        # The bytes differ, which is a change unless git stores the file in another form.
        return (None if kind == stat.S_IFREG and self._converted(root, entry.path) else True), status.st_size

    def _submodule(self, path: Path, entry: _Entry) -> bool | None:
        if not (path / ".git").exists():
            return False  # it was not checked out
        if self._deep >= _DEEP:
            return None
        inner = Git(self._callers_environ, path, self._deep + 1)
        head = inner.answer("rev-parse", "--verify", "HEAD")
        if head is None:
            return None
        return True if head != entry.id else inner.dirty()

    def _modes_count(self) -> bool:
        return self.answer("config", "--type=bool", "core.fileMode") != "false"

    def _converted(self, root: Path, path: bytes) -> bool:
        """Whether git stores the file in another form: line ends, keywords, an encoding, or a filter's output."""
        if self.answer("config", "core.autocrlf") in ("true", "input"):
            return True
        names = ("filter", "text", "eol", "crlf", "ident", "working-tree-encoding")
        answer = self._run("-C", str(root), "check-attr", "-z", *names, "--", os.fsdecode(path))
        if answer is None:
            return True
        return any(value not in (b"unspecified", b"unset") for value in answer.split(b"\0")[2::3])

    def _run(self, *question: str, codes: tuple[int, ...] = (0,)) -> bytes | None:
        """The output of git. `codes` are accepted exit codes; one that is not 0 stands for a word."""
        try:
            done = subprocess.run(
                ("git", "-C", str(self._folder), *_SAFE, *question),
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=max(0.1, self._until - time.monotonic()),
                check=False,
            )
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
        if done.returncode not in codes:
            return None
        return done.stdout or (b"1" if done.returncode else b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A line of the index."""

    path: bytes
    mode: int
    id: str
    stage: int
    passed_over: bool
    """It was left out of a sparse checkout."""
    modified: tuple[int, int] | None
    size: int

    def is_as_it_was(self, status: os.stat_result) -> bool:
        """Whether the file has the time and size that git recorded when it last compared it, and that time is not recent."""
        if self.modified is None or self.size != status.st_size & 0xFFFFFFFF or not self.size:
            return False
        seconds, nanos = self.modified
        there = divmod(status.st_mtime_ns, 10**9)
        return (seconds, nanos) in (there, (there[0], 0)) and time.time() - status.st_mtime > 2


def _entries(listed: bytes) -> Iterator[_Entry]:
    for match in _ENTRY.finditer(listed):
        seconds = match["seconds"]
        yield _Entry(
            path=match["path"],
            mode=int(match["mode"], 8),
            id=match["id"].decode(),
            stage=int(match["stage"]),
            passed_over=match["tag"] == b"S",
            modified=None if seconds is None else (int(seconds), int(match["nanos"])),
            size=int(match["size"] or 0),
        )


def _inside(root: Path, path: Path) -> bool:
    """Whether no folder above the file is a link: git does not follow those either."""
    above = path.parent
    while above != root:
        if above.is_symlink():
            return False
        above = above.parent
    return True


def _object_id(path: Path, status: os.stat_result, digits: int) -> str:
    """The id that git would give these bytes."""
    state = hashlib.sha256() if digits == 64 else hashlib.sha1(usedforsecurity=False)
    if stat.S_ISLNK(status.st_mode):
        target = os.fsencode(path.readlink())
        state.update(b"blob %d\0" % len(target) + target)
        return state.hexdigest()
    state.update(b"blob %d\0" % status.st_size)
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()
