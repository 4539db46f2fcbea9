"""Damaged registries under every verb that reads, and some that write: a directory's rows, bytes and database are changed as nobody
should; whatever is then asked ends with an answer that is true or an error in words, never with a bug.

Half of the damages are the table's of tests/support/registry/damages.py; the others are drawn here, blobs among them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.support.registry import damages
from tests_slow.fuzzing import extremes, harness, oracle

WRITING = tuple(verb for verb in damages.VERBS if verb not in damages.READING)
"""Two of them, after those that read: each must end as well, whatever it makes of the damage."""


def run(told: harness.Told) -> None:
    """As many registries as it is told."""
    for name in ("MLPACK_REGISTRY", "MLPACK_CACHE", "CI", "GITHUB_ACTIONS", "GITLAB_CI"):
        os.environ.pop(name, None)
    os.environ.update(HOME=str(told.work), MLPACK_STORE=str(told.work / "store"), USER="alice")
    tempfile.tempdir = str(told.work)
    os.chdir(told.work)
    entrance = Entrance(told)
    made = harness.Run("registries", told)
    made.kept_per_request = 200  # of some 25 command lines, each of which is a process of its own otherwise
    made.each(entrance.send, entrance.describe)


class Entrance:
    """A registry as it should be, what is true of it, and copies of it that are damaged."""

    def __init__(self, told: harness.Told) -> None:
        self.told = told
        self.whole = damages.fresh(told.work / "whole")
        with contextlib.closing(sqlite3.connect(self.whole / "registry.sqlite")) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self.rows = database.execute("SELECT partition, sort FROM rows ORDER BY 1, 2").fetchall()
        self.blobs = sorted(path.relative_to(self.whole) for path in (self.whole / "blobs").rglob("*") if path.is_file())
        self.digests = {"sha256:" + hashlib.sha256((self.whole / path).read_bytes()).hexdigest() for path in self.blobs}
        self.releases = {damages._core(self._shown(f"minilm@{version}")) for version in (1, 2, 3)}
        for answer in damages.truth().values():
            oracle.check(answer.code in (0, 5) and not damages.problems(answer), "a whole registry", answer)

    def send(self, number: int) -> tuple[int, str]:
        """One damaged registry, every verb that reads, and two that write."""
        root, what, said = self.damaged(number)
        answers = damages.answers(root, damages.READING)
        for answer in answers:
            self._promised(answer)
        self._pulled(root)
        writing = Random(f"{number}").sample(WRITING, 2)
        for answer in damages.answers(root, tuple(writing)):
            self._promised(answer)
        refused = "some" if any(answer.code for answer in answers) else "no"
        return len(said), f"{what} ({refused} verb refused)"

    def _promised(self, answer: damages.Answer) -> None:
        found = damages.problems(answer)
        if answer.verb == "show alias" and answer.code == 0 and damages._core(json.loads(answer.out)) in self.releases:
            return  # an alias whose last move was taken away leads to where it led before: rows are not signed (docs/security.md)
        oracle.check(not found, f"`{answer.verb}` {'; '.join(found)}", answer.err[-1500:] + answer.out[-500:])

    def _shown(self, reference: str) -> dict[str, Any]:
        """A release of the whole registry."""
        with damages._hurried(self.told.work):
            answer = damages._run("show", ["show", reference, "--json", "--registry", str(self.whole)])
        return dict(json.loads(answer.out))

    def _pulled(self, root: Path) -> None:
        """A pull that succeeds has left what was published, and no link."""
        for words in (["pull", "minilm@2", "--unpacked"], ["pull", "minilm:prod"]):
            out = self.told.work / "pulled"
            shutil.rmtree(out, ignore_errors=True)
            with damages._hurried(self.told.work):
                answer = damages._run("pull", [*words, "--out", str(out), "--registry", str(root)])
            oracle.check(not damages.problems(answer), "`pull`", answer)
            if answer.code or "--unpacked" in words:
                continue
            for one in out.rglob("*"):
                named = "" if one.is_dir() else "sha256:" + hashlib.sha256(one.read_bytes()).hexdigest()
                oracle.check(
                    not one.is_symlink() and (one.is_dir() or named in self.digests), "`pull` wrote what was never published", one
                )

    def damaged(self, number: int) -> tuple[Path, str, str]:
        """(the registry, the kind of its damage, in words what was done)."""
        folder = self.told.work / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        random = Random(f"{self.told.seed}:registry:{number}")
        if random.random() < 0.5:
            root = damages.damaged(random.randrange(2**32), folder)
            said = (folder / "damage.txt").read_text()
            return root, "of the table", said
        folder.mkdir()
        root = folder / "registry"
        shutil.copytree(self.whole, root)
        kinds: list[tuple[str, Callable[[Random, Path], str]]] = [
            ("a row's value", self._value),
            ("a row's value", self._value),
            ("a row's bytes", self._bytes),
            ("a row's key", self._key),
            ("rows removed", self._removed),
            ("rows mixed up", self._mixed),
            ("a blob", self._blob),
        ]
        kind, work = random.choice(kinds)
        return root, kind, work(random, root)

    def describe(self, number: int) -> str:
        _, kind, said = self.damaged(number)
        return f"{kind}: {said}"

    def _change(self, root: Path, *statements: tuple[str, tuple[Any, ...]]) -> str:
        with contextlib.closing(sqlite3.connect(root / "registry.sqlite")) as database:
            for text, values in statements:
                with contextlib.suppress(sqlite3.Error):  # a value that the column's type refuses is no damage
                    database.execute(text, values)
            database.commit()
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return harness.shown(statements)

    def _row(self, random: Random, root: Path) -> tuple[tuple[str, str], str, bytes]:
        key = random.choice(self.rows)
        with contextlib.closing(sqlite3.connect(root / "registry.sqlite")) as database:
            head, body = database.execute("SELECT head, body FROM rows WHERE partition = ? AND sort = ?", key).fetchone()
        return key, head, bytes(body)

    def _set(self, root: Path, key: tuple[str, str], column: str, value: Any) -> str:
        """`column` of a row; text that is no UTF-8 too."""
        cast = "CAST(? AS TEXT)" if column == "head" and isinstance(value, bytes) else "?"
        return self._change(root, (f"UPDATE rows SET {column} = {cast} WHERE partition = ? AND sort = ?", (value, *key)))

    def _value(self, random: Random, root: Path) -> str:
        """A value somewhere in a row's JSON, also in the JSON within it."""
        key, head, body = self._row(random, root)
        column, data = ("body", body) if body and random.random() < 0.5 else ("head", head.encode())
        value = json.loads(data)
        inner = (
            [name for name, text in value.items() if isinstance(text, str) and text.startswith("{")]
            if isinstance(value, dict)
            else []
        )
        if inner and random.random() < 0.5:
            changed = extremes.changed(random, json.loads(value[inner[0]]))
            value = {**value, inner[0]: extremes.written(random, changed).decode("utf-8", "replace")}
        else:
            value = extremes.changed(random, value)
        return self._set(root, key, column, extremes.written(random, value))

    def _bytes(self, random: Random, root: Path) -> str:
        key, head, body = self._row(random, root)
        if random.random() < 0.2:
            odd = random.choice(
                (b"", b"null", b"[]", b"{}", b"[" * 100_000, b'{"a":' * 50_000, b"\x00", b"9" * 5000, b"\xff" * 100)
            )
            return self._set(root, key, random.choice(("head", "body")), odd)
        if body and random.random() < 0.5:
            return self._set(root, key, "body", extremes.mangled(random, body))
        return self._set(root, key, "head", extremes.mangled(random, head.encode()))

    def _key(self, random: Random, root: Path) -> str:
        key = random.choice(self.rows)
        column = random.choice(("partition", "sort", "sort"))
        odd = random.choice(
            (*(other[0] for other in self.rows), *(other[1] for other in self.rows), "000000000", "999999999", "1", "-1", "zz")
        )
        value = odd if random.random() < 0.6 else extremes.text(random).encode("utf-8", "surrogatepass")
        cast = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
        if random.random() < 0.2:
            many = random.choice((1, 2, 2**31, 2**62))
            return self._change(root, ("UPDATE rows SET revision = ? WHERE partition = ? AND sort = ?", (many, *key)))
        return self._change(root, (f"UPDATE OR IGNORE rows SET {column} = {cast} WHERE partition = ? AND sort = ?", (value, *key)))

    def _removed(self, random: Random, root: Path) -> str:
        keys = random.sample(self.rows, random.choice((1, 1, 1, 2, 5)))
        return self._change(root, *(("DELETE FROM rows WHERE partition = ? AND sort = ?", key) for key in keys))

    def _mixed(self, random: Random, root: Path) -> str:
        first, second = random.sample(self.rows, 2)
        text = "UPDATE rows SET {} = (SELECT {} FROM rows WHERE partition = ? AND sort = ?) WHERE partition = ? AND sort = ?"
        columns = random.choice((("head",), ("body",), ("head", "body")))
        return self._change(root, *((text.format(column, column), (*first, *second)) for column in columns))

    def _blob(self, random: Random, root: Path) -> str:
        chosen = random.choice(self.blobs)
        path, other = root / chosen, root / random.choice(self.blobs)
        how = random.randrange(7)
        if how == 0:
            path.unlink()
        elif how == 1:
            path.write_bytes(path.read_bytes()[: random.randrange(path.stat().st_size + 1)])
        elif how == 2:
            path.write_bytes(extremes.mangled(random, path.read_bytes()))
        elif how == 3:
            shutil.copyfile(other, path) if other != path else path.unlink()
        elif how == 4:
            path.unlink()
            path.symlink_to(random.choice((other, Path("/etc/passwd"), path.parent, Path("nowhere"))))
        elif how == 5:
            path.unlink()
            path.mkdir()
        else:
            path.with_name(
                extremes.text(random).replace("/", "").replace("\x00", "")[:100].encode("utf-8", "replace").decode() or "x"
            ).touch()
        return f"{chosen}, way {how}"
