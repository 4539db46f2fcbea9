"""Damaged registries under every verb that reads: a directory's rows, bytes and database are changed as nobody should, one way a
registry, and whatever is then asked ends with an answer that is true or an error in words, never with a bug."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.registry import places
from tests_slow.fuzzing import extremes, harness, oracle

from mlpack import cli

CODES = {0, 2, 4, 5}
"""1 would be a bug of ours, 3 is for builds, 130 for Ctrl-C."""
LONGEST = 200_000
_VIEW = """
CREATE VIEW rows AS WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a)
SELECT 'names' AS partition, 'x' || n AS sort, 1 AS revision, '{}' AS head, x'' AS body FROM a
"""
"""A table without an end."""
VERBS: dict[str, tuple[str, ...]] = {
    "list": ("list",),
    "list --json": ("list", "--json"),
    "list NAME": ("list", "minilm", "--json"),
    "show NAME": ("show", "minilm", "--json"),
    "show VERSION": ("show", "minilm@1", "--json"),
    "show ALIAS": ("show", "minilm:prod", "--json"),
    "show in words": ("show", "minilm@2"),
    "show FIELD": ("show", "minilm:prod", "--field", "digest"),
    "show terraform": ("show", "minilm@3", "--format", "terraform"),
    "history": ("history", "minilm:prod", "--json"),
    "history in words": ("history", "minilm:prod"),
    "verify": ("verify", "--json"),
    "gc": ("gc", "--json"),
    "policy": ("registry", "policy", "show", "minilm:prod"),
    "audit": ("registry", "audit", "--json"),
    "pull": ("pull", "minilm@2", "--out", "pulled"),
    "pull ALIAS": ("pull", "minilm:prod", "--out", "pulled"),
    "pull FILE": ("pull", "minilm@1", "--file", "zip", "--out", "pulled"),
    "export": ("registry", "export", "exported"),
}


def run(told: harness.Told) -> None:
    """As many registries as it is told."""
    for name in ("MLPACK_REGISTRY", "MLPACK_CACHE", "CI", "GITHUB_ACTIONS", "GITLAB_CI"):
        os.environ.pop(name, None)
    os.environ.update(HOME=str(told.work), MLPACK_STORE=str(told.work / "store"), USER="alice", TMPDIR=str(told.work))
    tempfile.tempdir = str(told.work)
    os.chdir(told.work)
    entrance = Entrance(told)
    harness.Run("registries", told).each(entrance.send, entrance.describe)


class Entrance:
    """A registry as it should be, what is true of it, and copies of it that are damaged."""

    def __init__(self, told: harness.Told) -> None:
        self.told = told
        whole = places.stocked(told.work / "whole")
        self.whole = told.work / "whole/registry"
        whole.place.table.close()
        with contextlib.closing(sqlite3.connect(self.whole / "registry.sqlite")) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self.rows = database.execute("SELECT partition, sort FROM rows ORDER BY 1, 2").fetchall()
        self.blobs = sorted(path.relative_to(self.whole) for path in (self.whole / "blobs").rglob("*") if path.is_file())
        self.true: dict[str, Any] = {}
        for version in ("minilm@1", "minilm@2", "minilm@3", "fashion@1"):
            code, out, _ = self.ask(self.whole, ("show", version, "--json"))
            assert code == 0, (version, out)
            made = json.loads(out)
            self.true[made["digest"]] = _protected(made)
        for verb, words in VERBS.items():
            code, out, err = self.ask(self.whole, words)
            oracle.check(code in (0, 2), f"{verb} of a whole registry ended with {code}", (out, err))

    def ask(self, root: Path, words: tuple[str, ...]) -> tuple[int, str, str]:
        """(exit code, stdout, stderr) of a verb, in this process."""
        for left in ("pulled", "exported"):
            path = self.told.work / left
            path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)
        out, err = io.StringIO(), io.StringIO()
        before = sys.argv, signal.getsignal(signal.SIGTERM)
        sys.argv = ["mlpack", *words, "--registry", str(root)]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                cli.main()
        except SystemExit as left_with:
            return int(left_with.code or 0), out.getvalue(), err.getvalue()
        finally:
            sys.argv = before[0]
            signal.signal(signal.SIGTERM, before[1])
        raise AssertionError("main always exits")

    def send(self, number: int) -> tuple[int, str]:
        """One damaged registry, and every verb."""
        root = self.told.work / "damaged"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.whole, root)
        what, _ = self.damage(root, number)
        answers = {}
        for verb, words in VERBS.items():
            code, out, err = self.ask(root, words)
            answers[verb] = code
            oracle.check(code in CODES, f"`{' '.join(words)}` ended with {code}", err[-1500:])
            oracle.check(len(out) + len(err) <= LONGEST, f"`{verb}` wrote {len(out) + len(err):,} letters")
            for text in (out, err):
                odd = next((letter for letter in text if not letter.isprintable() and letter != "\n"), None)
                oracle.check(odd is None, f"`{verb}` wrote {odd!r}", text[:500])
            oracle.check(code == 0 or err.strip() or verb == "verify", f"`{verb}` ended with {code} in silence", out)
            if code == 0:
                self._true(verb, words, out, root)
        found = sum(1 for code in answers.values() if code)
        return 0, f"{what}, {'no' if not found else 'some'} verb refused"

    def _true(self, verb: str, words: tuple[str, ...], out: str, root: Path) -> None:
        """What digests protect is what it was, for every release that is shown or pulled."""
        if verb.startswith("show") and "--json" in words:
            made = json.loads(out)
            oracle.check(_protected(made) == self.true.get(made["digest"]), f"`{verb}` printed what was never published", out)
        if verb.startswith("list") and "--json" in words:
            for row in json.loads(out):
                known = {digest for digest, made in self.true.items() if made["reference"] == row.get("reference")}
                if row.get("digest") not in known:
                    code, _, _ = self.ask(root, VERBS["verify"])
                    oracle.check(code == 4, f"`{verb}` printed what was never published, and `verify` says nothing", row)
        if verb == "show FIELD":
            packages = {made["artifact"]["digest"] for made in self.true.values()}
            oracle.check(out.strip() in packages, f"`{verb}` printed what was never published", out)
        if verb.startswith("pull"):
            self._pulled(verb)

    def _pulled(self, verb: str) -> None:
        path = self.told.work / "pulled"
        digests = {str(named) for made in self.true.values() for named in made["files"].values()}
        files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        oracle.check(files and not any(one.is_symlink() for one in path.rglob("*")), f"`{verb}` left nothing, or a link")
        for one in files:
            named = "sha256:" + hashlib.sha256(one.read_bytes()).hexdigest()
            oracle.check(named in digests, f"`{verb}` wrote other bytes than were published", one)

    # --- damages -----------------------------------------------------------------------------------------------------

    def damage(self, root: Path, number: int) -> tuple[str, str]:
        """Do it; (its kind, in words what was done)."""
        random = Random(f"{self.told.seed}:registry:{number}")
        kinds: list[tuple[str, Callable[[Random, Path], str]]] = [
            ("a row's value", self._value), ("a row's value", self._value), ("a row's value", self._value), ("a row's bytes",
            self._bytes),
            ("a row's key", self._key), ("a row removed", self._removed), ("rows mixed up", self._mixed), ("a blob", self._blob),
            ("the database", self._database),
        ]  # fmt: skip
        kind, work = random.choice(kinds)
        said = work(random, root)
        with contextlib.suppress(FileNotFoundError):  # not a change of this very moment, for which a reader waits
            os.utime(root / "registry.sqlite", (1_700_000_000, 1_700_000_000))
        return kind, said

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

    def _database(self, random: Random, root: Path) -> str:
        path = root / "registry.sqlite"
        how = random.randrange(8)
        if how == 0:
            data = path.read_bytes()
            for _ in range(random.choice((1, 3, 30))):
                at = random.randrange(len(data))
                data = data[:at] + random.randbytes(random.choice((1, 4, 100))) + data[at + 1 :]
            path.write_bytes(data[: len(path.read_bytes())])
        elif how == 1:
            path.write_bytes(path.read_bytes()[: random.choice((0, 1, 16, 100, 4096, 5000))])
        elif how == 2:
            path.write_bytes(random.choice((b"", b"hello", random.randbytes(5000), b"SQLite format 3\x00" + bytes(5000))))
        elif how == 3:
            return self._change(
                root, (random.choice(("PRAGMA user_version = 0", "PRAGMA user_version = 99", "PRAGMA user_version = 2")), ())
            )
        elif how == 4:
            return self._change(root, ("ALTER TABLE rows RENAME TO old", ()), (_VIEW, ()))
        elif how == 5:
            return self._change(root, ("DROP TABLE rows", ()), ("CREATE TABLE rows (partition, sort, revision, head, body)", ()))
        elif how == 6:
            path.unlink()
            path.mkdir() if random.random() < 0.5 else path.symlink_to("/etc/passwd")
        else:
            shutil.rmtree(root / "blobs")
            (root / "blobs").write_text("")
        return f"the database, way {how}"

    def describe(self, number: int) -> str:
        root = self.told.work / "described"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.whole, root)
        kind, said = self.damage(root, number)
        return f"{kind}: {said}"


def _protected(made: dict[str, Any]) -> dict[str, Any]:
    """What a release's digest is the digest of."""
    return {key: made[key] for key in ("name", "version", "reference", "artifact", "packages", "files", "tags", "recipe", "models")}
