"""Damaged registries: each with one thing wrong, made of a seed or of the table below; and every verb run on them.

`damaged(seed, folder)` makes one, `answers(root)` runs every verb, `problems(answer)` says what of an answer is none of the
promised forms. Nothing here asserts, so that fast tests, slow ones and `make soak` use the same.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from tests.support.registry.builds import build

from mlpack.cli import commands
from mlpack.core.digest import of_bytes
from mlpack.core.records import Budgets
from mlpack.registry import Key, Put, audit, numbered, settings
from mlpack.registry.aliases import policies
from mlpack.registry.aliases.aliases import MoveRequest, promote, rollback
from mlpack.registry.local import directory
from mlpack.registry.rows import leases, rows

FOREIGN = str(of_bytes(b"foreign"))
DEEP = "[" * 100_000 + "]" * 100_000
KINDS: dict[str, tuple[str, str]] = {
    "name": (rows.NAMES, "minilm"),
    "release": (rows.releases("minilm"), numbered(2)),
    "newest": (rows.releases("minilm"), numbered(3)),
    "head": (rows.heads("minilm"), numbered(2)),
    "digest": (rows.digests("minilm"), ""),
    "alias": (rows.aliases("minilm"), "prod"),
    "move": (rows.moves("minilm", "prod"), numbered(2)),
    "last move": (rows.moves("minilm", "prod"), numbered(4)),
    "policy": (rows.POLICIES, "minilm:prod"),
    "publication": (rows.PUBLISHING, "0" * 32),
    "lease": (rows.LEASE.partition, rows.LEASE.sort),
    "fence": (rows.FENCES, "minilm"),
    "audit": (rows.AUDIT, ""),
    "schema": (rows.SETTINGS, "schema"),
    "images": (rows.SETTINGS, "images"),
}
"""A row of each kind in the registry that is damaged; "" is whichever comes first."""

VERBS: dict[str, tuple[str, ...]] = {
    "list": ("list",),
    "list json": ("list", "--json"),
    "show": ("show", "minilm"),
    "show version": ("show", "minilm@2", "--json"),
    "show alias": ("show", "minilm:prod", "--json"),
    "field": ("show", "minilm@2", "--field", "zip"),
    "history": ("history", "minilm:prod"),
    "history json": ("history", "minilm:prod", "--json"),
    "pull": ("pull", "minilm@2", "--out", "{out}/pulled"),
    "pull alias": ("pull", "minilm:prod", "--file", "build.json", "--out", "{out}/build.json"),
    "verify": ("verify",),
    "audit": ("registry", "audit"),
    "audit json": ("registry", "audit", "--json"),
    "policies": ("registry", "policy", "show"),
    "policy": ("registry", "policy", "show", "minilm:prod", "--json"),
    "gc": ("gc",),
    "export": ("registry", "export", "{out}/exported"),
    "migrate": ("registry", "migrate"),
    "create": ("registry", "create", "{root}"),
    "promote": ("promote", "minilm@1", "--to", "prod", "--force", "--why", "a test"),
    "rollback": ("rollback", "minilm:prod"),
    "publish": ("publish", "{build}"),
    "publish again": ("publish", "{known}"),
    "policy set": ("registry", "policy", "set", "minilm:prod", "--refuse", "size"),
    "policy remove": ("registry", "policy", "remove", "minilm:prod"),
    "gc yes": ("gc", "--yes", "--keep", "1", "--days", "0", "--grace", "0"),
}
READING = (
    *("list", "list json", "show", "show version", "show alias", "field", "history", "history json", "pull", "pull alias"),
    *("verify", "audit", "audit json", "policies", "policy", "gc", "export"),
)


# --- the registry -----------------------------------------------------------------------------------------------------


@functools.cache
def _template() -> Path:
    """minilm@1 to @3 and fashion@1; minilm:prod went 2, 1, 3, 1; two policies; something in the log; a publisher and a collector
    that were killed; and two builds, one of which is minilm@2."""
    root = Path(tempfile.mkdtemp(prefix="mlpack-damages-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    registry = directory.open_registry(root / "registry")
    settings.create(root / "registry", "registry.example/team")
    for number in (1, 2, 3):
        registry.publish(build(root / f"build{number}", content=b"function %d" % number))
    registry.publish(build(root / "fashion", name="fashion"))
    build(root / "build4", content=b"function 4")
    place, wish = registry.place, MoveRequest(who="alice", why="because")
    for version in (2, 1, 3):
        promote(place, rows.Reference(name="minilm", version=version), "prod", wish, lambda _release, _live: ())
    rollback(place, rows.Reference(name="minilm", alias="prod"), wish)
    for subject in ("minilm:prod", "*:prod"):
        policies.put(place, policies.Policy(subject=subject, budgets=Budgets(package_size_bytes=10**9)), "alice")
    audit.record(place, audit.COLLECTED, "bob", {"releases": {"gone@1": FOREIGN}, "images": []})
    past, named = place.now() - 3600.0, [str(of_bytes(b"half published"))]
    place.table.commit(Put(key=Key(rows.PUBLISHING, "0" * 32), head={"until": past, "digests": named}))
    held = {"who": "bob", "since": rows.timestamp(past), "id": "0" * 32, "until": past}
    place.table.commit(Put(key=rows.LEASE, head=held))
    return root


def fresh(folder: Path) -> Path:
    """A whole registry, in `folder`/registry."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(_template() / "registry", folder / "registry")
    return folder / "registry"


@contextlib.contextmanager
def edited(root: Path) -> Iterator[sqlite3.Connection]:
    """The database, open to whoever tampers with it."""
    connection = sqlite3.connect(root / "registry.sqlite", isolation_level=None)
    connection.text_factory = bytes
    try:
        yield connection
    finally:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()


# --- damages of one row -----------------------------------------------------------------------------------------------

Change = Callable[[random.Random, dict[str, bytes]], None]
"""Changes a row's columns: partition, sort, head, body."""

ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**31, 10**18, 1.5, 1e300, "", "x", "NaN", "\x1b[31mred\x07", "::error::x", "a\nb", "../../x", FOREIGN),
    *([], {}, [[]], {"a": {"b": []}}, ["x"], "\ud800", "x" * 5_000_000, "9" * 5000, "2999-99-99T99:99:99Z", "9" * 9),
)
"""Values that a field may have got."""
RAW = (
    *("", "{", "null", "[]", "NaN", '{"version": NaN}', '{"version": 1e999}'),
    *('{"a":' + "9" * 5000 + "}", DEEP, '{"a":' + DEEP + "}"),
)
"""Whole heads and bodies."""


def _field(value: Any) -> Change:
    def change(draw: random.Random, row: dict[str, bytes]) -> None:
        head = json.loads(row["head"])
        if head:
            head[draw.choice(sorted(head))] = value
            row["head"] = json.dumps(head).encode()
        else:
            row["head"] = json.dumps({"version": value}).encode()

    return change


def _without(draw: random.Random, row: dict[str, bytes]) -> None:
    head = json.loads(row["head"])
    if head:
        del head[draw.choice(sorted(head))]
    row["head"] = json.dumps(head).encode()


def _whole(column: str, value: bytes) -> Change:
    return lambda _draw, row: row.__setitem__(column, value)


def _cut(column: str) -> Change:
    return lambda draw, row: row.__setitem__(column, row[column][: draw.randrange(len(row[column]) or 1)])


def _flip(column: str) -> Change:
    def change(draw: random.Random, row: dict[str, bytes]) -> None:
        if value := bytearray(row[column]):
            value[draw.randrange(len(value))] ^= 1 << draw.randrange(8)
            row[column] = bytes(value)

    return change


def _inner(draw: random.Random, row: dict[str, bytes]) -> None:
    """A value somewhere within a body."""
    if not row["body"]:
        return
    body = json.loads(row["body"])
    key = draw.choice(sorted(body))
    body[key] = draw.choice(ODD)
    row["body"] = json.dumps(body).encode()


_KEYS = (b"", b"\x1b[2J", b"../../x", b"\xff\xfe", b"1", b"a\0b", b"0000000001", "\u0661".encode())
DAMAGES: dict[str, Change] = {
    "a field is missing": _without,
    **{f"a field is {index}: {str(value)[:12]!r}": _field(value) for index, value in enumerate(ODD)},
    **{f"the head is {index}: {text[:12]!r}": _whole("head", text.encode()) for index, text in enumerate(RAW)},
    **{f"the body is {index}: {text[:12]!r}": _whole("body", text.encode()) for index, text in enumerate(RAW)},
    "another field": lambda _draw, row: row.__setitem__("head", json.dumps(json.loads(row["head"]) | {"more": 1}).encode()),
    "the head is no UTF-8": _whole("head", b'{"a": "\xff"}'),
    "the head is cut off": _cut("head"),
    "the body is cut off": _cut("body"),
    "a bit of the head": _flip("head"),
    "a bit of the body": _flip("body"),
    "a value of the body": _inner,
    "the key is odd": lambda draw, row: row.__setitem__("sort", draw.choice(_KEYS)),
    "the key is long": _whole("sort", b"x" * 100_000),
}


def damage(root: Path, kind: str, change: Change, seed: int = 0) -> None:
    """Do that to the row of this kind."""
    partition, sort = KINDS[kind]
    with edited(root) as connection:
        query = "SELECT partition, sort, head, body FROM rows WHERE partition = ? AND (sort = ? OR ? = '') ORDER BY sort LIMIT 1"
        found = connection.execute(query, (partition, sort, sort)).fetchone()
        row = dict(zip(("partition", "sort", "head", "body"), found, strict=True))
        was = row["sort"]
        change(random.Random(seed), row)
        connection.execute(
            "UPDATE OR IGNORE rows SET sort = CAST(? AS TEXT), head = CAST(? AS TEXT), body = ? "
            "WHERE partition = CAST(? AS TEXT) AND sort = CAST(? AS TEXT)",
            (row["sort"], row["head"], bytes(row["body"]), row["partition"], was),
        )


def swap(root: Path, kind: str, other: tuple[str, str]) -> None:
    """Another row's head and body in this one's place."""
    partition, sort = KINDS[kind]
    with edited(root) as connection:
        connection.execute(
            "UPDATE rows SET (head, body) = (SELECT head, body FROM rows WHERE partition = ? AND (sort = ? OR ? = '') LIMIT 1) "
            "WHERE partition = ? AND (sort = ? OR ? = '')",
            (*other, other[1], partition, sort, sort),
        )


def remove(root: Path, kind: str) -> None:
    """The row is gone."""
    partition, sort = KINDS[kind]
    with edited(root) as connection:
        connection.execute("DELETE FROM rows WHERE partition = ? AND (sort = ? OR ? = '')", (partition, sort, sort))


# --- damages of the database ------------------------------------------------------------------------------------------


def _sql(*statements: str) -> Callable[[Path, random.Random], None]:
    def change(root: Path, _draw: random.Random) -> None:
        with edited(root) as connection:
            for statement in statements:
                connection.execute(statement)

    return change


def _bytes(root: Path, draw: random.Random) -> None:
    """A page of garbage."""
    path = root / "registry.sqlite"
    data = bytearray(path.read_bytes())
    begin = draw.randrange(0, len(data), 4096)
    data[begin : begin + 4096] = draw.randbytes(4096)
    path.write_bytes(data)


def _flips(root: Path, draw: random.Random) -> None:
    path = root / "registry.sqlite"
    data = bytearray(path.read_bytes())
    for _ in range(draw.randrange(1, 50)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    path.write_bytes(data)


def _half(root: Path, draw: random.Random) -> None:
    path = root / "registry.sqlite"
    os.truncate(path, draw.randrange(path.stat().st_size))


def _instead(make: Callable[[Path], object]) -> Callable[[Path, random.Random], None]:
    def change(root: Path, _draw: random.Random) -> None:
        path = root / "registry.sqlite"
        path.rename(root / "elsewhere.sqlite")
        make(path)

    return change


def _beside(suffix: str, make: Callable[[Path, random.Random], object]) -> Callable[[Path, random.Random], None]:
    return lambda root, draw: make(root / f"registry.sqlite{suffix}", draw) and None


_LOOSE = "CREATE TABLE rows (partition, sort, revision, head, body)"
FILES: dict[str, Callable[[Path, random.Random], None]] = {
    "a view": _sql(
        "ALTER TABLE rows RENAME TO real", "CREATE VIEW rows AS SELECT partition, 'z' AS sort, revision, head, body FROM real"
    ),
    "an endless view": _sql(
        "ALTER TABLE rows RENAME TO real",
        "CREATE VIEW rows AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT 'names' AS partition, printf('m%d', i) AS sort, 1 AS revision, '{}' AS head, x'' AS body FROM n",
    ),
    "a trigger": _sql("CREATE TRIGGER evil AFTER INSERT ON rows BEGIN DELETE FROM rows; END"),
    "an index": _sql("CREATE INDEX more ON rows (head)"),
    "another table": _sql("CREATE TABLE more (x)"),
    "no table": _sql("DROP TABLE rows"),
    "a loose table": _sql("ALTER TABLE rows RENAME TO old", _LOOSE, "INSERT INTO rows SELECT * FROM old", "DROP TABLE old"),
    "text for bytes": _sql(
        *("ALTER TABLE rows RENAME TO old", _LOOSE),
        *("INSERT INTO rows SELECT partition, sort, 'x', 7, 'text' FROM old", "DROP TABLE old"),
    ),
    "schema 0": _sql("PRAGMA user_version = 0"),
    "schema 1": _sql("PRAGMA user_version = 1"),
    "schema 2": _sql("PRAGMA user_version = 2"),
    "schema -3": _sql("PRAGMA user_version = -3"),
    "schema 9": _sql("PRAGMA user_version = 9"),
    "nothing": _instead(lambda path: path.write_bytes(b"")),
    "garbage": _instead(lambda path: path.write_bytes(b"no database at all" * 1000)),
    "a directory": _instead(lambda path: path.mkdir()),
    "a pipe": _instead(os.mkfifo),
    "a link": _instead(lambda path: path.symlink_to("elsewhere.sqlite")),
    "a link to nothing": _instead(lambda path: path.symlink_to("nowhere")),
    "a link to itself": _instead(lambda path: path.symlink_to(path.name)),
    "bits": _flips,
    "a page": _bytes,
    "half": _half,
    "a garbage journal": _beside("-journal", lambda path, draw: path.write_bytes(draw.randbytes(9000))),
    "a garbage log": _beside("-wal", lambda path, draw: path.write_bytes(draw.randbytes(9000))),
    "a pipe for a log": _beside("-wal", lambda path, _draw: os.mkfifo(path)),
    "a directory for a log": _beside("-wal", lambda path, _draw: path.mkdir()),
    "a garbage index of the log": _beside("-shm", lambda path, draw: path.write_bytes(draw.randbytes(32768))),
    "a link for a log": _beside("-wal", lambda path, _draw: path.symlink_to("blobs")),
}
"""Damages of the file."""


def damaged(seed: int, folder: Path) -> Path:
    """A registry in `folder`/registry with something wrong that the seed says; its directory. `folder`/damage.txt says what."""
    draw = random.Random(seed)
    root = fresh(folder)
    if draw.random() < 0.15:
        name = draw.choice(sorted(FILES))
        FILES[name](root, draw)
        said = [name]
    else:
        said = []
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            kind, name = draw.choice(sorted(KINDS)), draw.choice((*sorted(DAMAGES), "swap", "gone"))
            said.append(f"{kind}: {name}")
            with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError, RecursionError):  # it may be no JSON already
                if name == "swap":
                    swap(root, kind, KINDS[draw.choice(sorted(KINDS))])
                elif name == "gone":
                    remove(root, kind)
                else:
                    damage(root, kind, DAMAGES[name], draw.randrange(2**32))
    (folder / "damage.txt").write_text("\n".join(said))
    return root


# --- every verb -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a verb said, and how it ended."""

    verb: str
    code: int
    out: str
    err: str


def answers(root: Path, verbs: tuple[str, ...] = tuple(VERBS)) -> list[Answer]:
    """Run these verbs on the registry, one after the other: those that write come last."""
    made = []
    for verb in (each for each in VERBS if each in verbs):
        with tempfile.TemporaryDirectory() as out, _hurried(Path(out)):
            given = {"out": out, "root": str(root), "build": str(_template() / "build4"), "known": str(_template() / "build2")}
            words = [word.format(**given) for word in VERBS[verb]]
            where = [] if verb == "create" else ["--registry", str(root)]
            made.append(_run(verb, [*words, *where]))
    return made


def _run(verb: str, words: list[str]) -> Answer:
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv, signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    sys.argv = ["mlpack", *words]
    code = -1
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            commands.main()
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        sys.argv = before[0]
        signal.signal(signal.SIGTERM, before[1])
        signal.signal(signal.SIGINT, before[2])
    return Answer(verb=verb, code=code, out=out.getvalue(), err=err.getvalue())


@contextlib.contextmanager
def _hurried(folder: Path) -> Iterator[None]:
    """Nobody waits for a collector that a damaged row speaks of; logs of bugs go where the test's files are; nothing is asked of a
    container registry, and git of nobody."""
    with (
        mock.patch.object(leases, "LEASE_S", 0.01),
        mock.patch.object(leases, "MARGIN_S", -10.0),
        mock.patch.object(leases, "_PATIENCE_S", 0.02),
        mock.patch.object(leases.time, "sleep", return_value=None),
        mock.patch.object(tempfile, "tempdir", str(folder)),
        mock.patch("mlpack.registry.library.access.Access.to_publish", lambda access: access.opened),
        mock.patch("mlpack.registry.releases.git.Git._run", return_value=None),
    ):
        yield


@functools.cache
def truth() -> dict[str, Answer]:
    """What the verbs that read say of the whole registry."""
    with tempfile.TemporaryDirectory() as folder:
        root = fresh(Path(folder))
        return {answer.verb: answer for answer in answers(root, READING)}


def problems(answer: Answer) -> list[str]:
    """What of an answer is none of the promised forms; nothing when all is well. See CONTRIBUTING.md and docs/registry.md."""
    found = []
    if answer.code not in (0, 2, 3, 4, 5):
        found.append(f"exit {answer.code}")
    if "a bug" in answer.err or "Traceback" in answer.err + answer.out:
        found.append("says that it is a bug")
    if answer.code and not answer.err.strip() and answer.verb != "verify":
        found.append("ends without a word")
    if len(answer.err) > 20_000:
        found.append(f"says {len(answer.err)} characters")
    if any(len(line) > 4000 for line in answer.err.splitlines()):
        found.append("says a line of more than 4,000 characters")
    if any((ord(character) < 32 and character not in "\n\t") or character == "\x7f" for character in answer.err + answer.out):
        found.append("repeats control characters")
    if answer.verb in READING and not found:
        found += _wrong_values(answer, truth()[answer.verb])
    return found


def _wrong_values(answer: Answer, whole: Answer) -> list[str]:
    """Whatever has a second record is shown as a whole registry shows it, or not at all.

    Who, when and why of moves, entries of the log and policies have none: another text of the same form is the text that is there.
    """
    if answer.verb == "list":
        return [f"shows {line[:200]!r}" for line in answer.out.splitlines() if line not in whole.out.splitlines()]
    if answer.verb == "history":
        known = {(line.split()[0], line.split()[2]) for line in whole.out.splitlines()}
        return [f"shows {line[:200]!r}" for line in answer.out.splitlines() if (line.split()[0], line.split()[2]) not in known]
    if answer.verb in ("list json", "history json", "show version", "show alias") and answer.out:
        # Without its last move an alias stands where it stood before: `history` and `verify` have more to go by.
        said, told = json.loads(answer.out), json.loads((truth()["list json"] if answer.verb == "show alias" else whole).out)
        known = {_core(each) for each in (told if isinstance(told, list) else [told])}
        return [f"shows {str(each)[:300]}" for each in (said if isinstance(said, list) else [said]) if _core(each) not in known]
    return []


def _core(shown: dict[str, Any]) -> str:
    """Of a release or a move what follows from its digest, and where it is."""
    keys = ("name", "version", "digest", "artifact", "files", "tags", "packages", "recipe", "models", "alias", "revision")
    return json.dumps({key: shown.get(key) for key in (*keys, "previous")}, sort_keys=True)


def verbs_of(seed: int, count: int = 6) -> tuple[str, ...]:
    """Some verbs for a soak: each registry sees a few, and thousands of them see every one."""
    return tuple(random.Random(seed).sample(sorted(VERBS), count))
