"""A fault at every request boundary of publish, promote, rollback, pull and gc in turn, on AWS and in a directory: what is left is
whole, and running the verb again finishes it.

The boundaries are those of a run without faults, taken from its log, and each is struck once with each kind of fault: nothing is
sampled. MLPACK_SOAK=1 also lets everything from the boundary on fail.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.registry.builds import build
from tests.support.services.aws_server import AwsServer, Fault, aws, aws_server

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.errors import MlpackError
from mlpack.registry import Place, parallel
from mlpack.registry.aliases import aliases
from mlpack.registry.aws.clients import Address, Clients, Timeouts
from mlpack.registry.aws.dynamodb import DynamoTable
from mlpack.registry.aws.opening import parse
from mlpack.registry.aws.s3 import S3Blobs
from mlpack.registry.local import directory
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows.rows import Reference
from mlpack.registry.upkeep.care import verify
from mlpack.registry.upkeep.collection import RetentionPolicy, collect

__all__ = ["aws", "aws_server"]

SOAK = bool(os.environ.get("MLPACK_SOAK"))
DAY = 24 * 3600.0
PROD = Reference(name="minilm", alias="prod")
SECOND = Reference(name="minilm", version=2)
NOTHING = RetentionPolicy(newest=0, days=0, tags=(), moves=0, window_days=0, grace_days=0)
OK, REFUSED, BUG = 0, 4, 99
PATIENT = Timeouts(read_s=20.0, tries=1)
HASTY = tuple(Timeouts(read_s=seconds, tries=1) for seconds in (0.3, 2.0, 20.0))
"""For what hangs. On a busy machine one of the requests before it may take longer than the first of these."""


# --- the verbs --------------------------------------------------------------------------------------------------------


def later(registry: Registry, days: float) -> Registry:
    """The same registry, as many days from now."""
    return Registry(dataclasses.replace(registry.place, now=lambda: time.time() + days * DAY))


def move(registry: Registry, version: int) -> None:
    wanted = Reference(name="minilm", version=version)
    aliases.promote(registry.place, wanted, "prod", aliases.MoveRequest(who="alice"), lambda _release, _live: ())


@dataclass(frozen=True)
class Verb:
    """Something that is done to a registry, in `folder`, once more when it failed, and what must be so when it was done.

    `releases`: how many of `Builds` are published before; minilm:prod went to `moves` of them.
    """

    name: str
    releases: int
    do: Callable[[Registry, Path], object]
    again: Callable[[Registry, Path], object]
    done: Callable[[Registry, Path], bool]
    moves: tuple[int, ...] = (1,)


class Builds:
    """Builds that have a file in common, and no more files than a build must have."""

    def __init__(self, root: Path) -> None:
        self.folders = [build(root / f"o{version}", content=bytes([version]) * 100) for version in range(1, 4)]
        for folder in self.folders:
            (folder / "report.md").unlink()
            (folder / "report.html").unlink()

    def verbs(self) -> dict[str, Verb]:
        def published(registry: Registry, _folder: Path) -> bool:
            return [release.version for release in registry.releases()] == [1, 2]

        def promoted(registry: Registry, _folder: Path) -> bool:
            return [step.version for step in aliases.history(registry.place, PROD)] == [2, 1]

        def roll_back(registry: Registry, _folder: Path) -> None:
            aliases.rollback(later(registry, 1).place, PROD, aliases.MoveRequest(who="alice", expect=2))

        def roll_back_again(registry: Registry, folder: Path) -> None:
            if len(list(aliases.history(registry.place, PROD))) == 2:  # as who gets an error is told to look
                roll_back(registry, folder)

        def rolled_back(registry: Registry, _folder: Path) -> bool:
            return [step.version for step in aliases.history(registry.place, PROD)] == [1, 2, 1]

        def pull(registry: Registry, folder: Path) -> None:
            if not folder.exists():  # the whole of it, or nothing
                registry.pull(registry.show(SECOND), folder)

        def pulled(_registry: Registry, folder: Path) -> bool:
            return digest.of_tree(folder) == digest.of_tree(self.folders[1])

        def collected(registry: Registry, _folder: Path) -> bool:
            left = {stored.digest for stored in registry.place.blobs.list()}
            kept = list(registry.releases())
            return [release.version for release in kept] == [1, 3] and left == {n for r in kept for n in r.files.values()}

        def gc(days: float) -> Callable[[Registry, Path], object]:
            return lambda registry, _folder: collect(later(registry, days), NOTHING, who="bob")

        def publish(registry: Registry, _folder: Path) -> None:
            registry.publish(self.folders[1])

        def promote(registry: Registry, _folder: Path) -> None:
            move(later(registry, 1), 2)

        made = (
            Verb("publish", 1, publish, publish, published),
            Verb("promote", 2, promote, promote, promoted),
            Verb("rollback", 2, roll_back, roll_back_again, rolled_back, moves=(1, 2)),
            Verb("pull", 2, pull, pull, pulled),
            # A day later: the lease of one that was killed is over.
            Verb("gc", 3, gc(100), gc(101), collected),
        )
        return {verb.name: verb for verb in made}

    def prepare(self, registry: Registry, verb: Verb) -> None:
        for folder in self.folders[: verb.releases]:
            registry.publish(folder)
        for version in verb.moves:
            move(registry, version)


VERBS = ["publish", "promote", "rollback", "pull", "gc"]


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    return Builds(tmp_path_factory.mktemp("builds"))


@pytest.fixture(autouse=True)
def _one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests in one order, so that the n-th is the same one each time."""
    monkeypatch.setattr(parallel, "_PARALLEL", 1)


def child(work: Callable[[], object], ready: Callable[[int], object]) -> int:
    """Do it in a process of its own, after `ready` was told that process's id; its exit code, or minus the signal."""
    waiting, starting = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = BUG
        try:
            os.close(starting)
            os.read(waiting, 1)
            work()
            code = OK
        except (MlpackError, OSError) as error:
            code = REFUSED if not isinstance(error, MlpackError) else int(error.exit_code)
        finally:
            os._exit(code)
    os.close(waiting)
    ready(pid)
    os.close(starting)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check(verb: Verb, registry: Registry, folder: Path, what: str) -> None:
    """Whole now; and after it was done again, done and whole. Verbs act as far as 101 days from now: so does this."""
    assert verify(later(registry, 101), parallel=1).findings == (), f"after {what}"
    verb.again(registry, folder)
    assert verb.done(registry, folder), f"again after {what}"
    assert verify(later(registry, 101), parallel=1).findings == (), f"again after {what}"


# --- on AWS -----------------------------------------------------------------------------------------------------------

KINDS = {
    "error before": Fault("error"),
    "error after": Fault("error", after=True),
    "timeout before": Fault("hang"),
    "timeout after": Fault("hang", after=True),
    "kill before": Fault("kill"),
    "kill after": Fault("kill", after=True),
}


@dataclass(frozen=True)
class Contents:
    """A registry's rows and bytes."""

    scope: str
    items: list[dict[str, Any]]
    blobs: dict[Digest, bytes]


class Account:
    """Registries on AWS, each in a table and a prefix of its own, and clients that were never used: a child's to use first."""

    def __init__(self, server: AwsServer) -> None:
        self.server = server
        self.address = parse(server.make_place())
        self.mine = self._clients(PATIENT)
        self.unused = {patience: self._clients(patience) for patience in (PATIENT, *HASTY)}
        self.made = 0

    def _clients(self, patience: Timeouts) -> Clients:
        made = Clients(self.address, patience)
        made.get("s3"), made.get("s3", once=True), made.get("dynamodb")
        return made

    def read(self, address: Address) -> Contents:
        """Everything of a registry."""
        items = self.mine.get("dynamodb").scan(TableName=address.table)["Items"]
        blobs = self.open(address, self.mine).place.blobs
        return Contents(address.scope, items, {stored.digest: blobs.read(stored.digest) for stored in blobs.list()})

    def copy(self, contents: Contents) -> Address:
        """Another registry like the one that was read."""
        made = self.new()
        fresh = [item | {"pk": {"S": made.scope + item["pk"]["S"].removeprefix(contents.scope)}} for item in contents.items]
        assert len(fresh) <= 25, "more than one request takes"
        self.mine.get("dynamodb").batch_write_item(RequestItems={made.table: [{"PutRequest": {"Item": item}} for item in fresh]})
        for named, data in contents.blobs.items():
            where = self.open(made, self.mine).place.blobs.uri(named).removeprefix(f"s3://{made.bucket}/")
            self.mine.get("s3").put_object(Bucket=made.bucket, Key=where, Body=data, Metadata={"sha256": named.hex})
        return made

    def new(self) -> Address:
        """An empty registry."""
        self.made += 1
        name = f"r{self.made}"
        client = self.mine.get("dynamodb")
        client.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        return dataclasses.replace(self.address, prefix=name, table=name)

    def open(self, address: Address, clients: Clients) -> Registry:
        place = Place(where=str(address), table=DynamoTable(clients, address), blobs=S3Blobs(clients, address), now=time.time)
        return Registry(place)

    def close(self) -> None:
        for clients in (self.mine, *self.unused.values()):
            clients.close()


@pytest.fixture
def account(aws: AwsServer) -> Iterator[Account]:
    made = Account(aws)
    yield made
    made.close()


@pytest.mark.parametrize("name", VERBS)
def test_every_request_to_aws(
    account: Account, builds: Builds, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    verb = builds.verbs()[name]
    first = account.new()
    builds.prepare(account.open(first, account.mine), verb)
    contents = account.read(first)

    def run(address: Address, folder: Path, patience: Timeouts, fault: Fault | None) -> int:
        def ready(pid: int) -> None:
            account.server.clear_log()
            account.server.plan(*([dataclasses.replace(fault, pid=pid)] if fault else []))

        registry = account.open(address, account.unused[patience])
        return child(lambda: verb.do(registry, folder), ready)

    address = account.copy(contents)
    assert run(address, tmp_path / "clean", PATIENT, None) == OK
    log = account.server.log()
    check(verb, account.open(address, account.mine), tmp_path / "clean", "a run without faults")
    struck = 0
    for onward in (False, True) if SOAK else (False,):
        for number, request in enumerate(log, start=1):
            for kind, planned in KINDS.items():
                what = f"{kind} request {number} of {len(log)}, {request.operation} {request.path}{' and onward' if onward else ''}"
                fault = dataclasses.replace(planned, number=number, onward=onward)
                for patience in HASTY if planned.action == "hang" else (PATIENT,):
                    address, folder = account.copy(contents), tmp_path / f"{number} {kind} {onward} {patience.read_s}"
                    code = run(address, folder, patience, fault)
                    account.server.plan()
                    if faults := [one for one in account.server.log() if one.fault]:
                        break
                assert (faults[0].number, faults[0].operation) == (number, request.operation), what
                assert code in ((-signal.SIGKILL,) if planned.action == "kill" else (OK, REFUSED)), f"{what}: {code}"
                check(verb, account.open(address, account.mine), folder, what)
                struck += 1
    expected = len(log) * len(KINDS) * (2 if SOAK else 1)
    with capsys.disabled():
        print(f"\n{name} on AWS: {len(log)} requests x {len(KINDS)} kinds of fault{' x 2' if SOAK else ''} = {struck}")
    assert struck == expected


# --- in a directory ---------------------------------------------------------------------------------------------------


class Faulty:
    """A disk of which one change goes wrong: `number` from 1, and `onward` every later one. `log`: its changes.

    `kind`: "error" or "kill", "before", "after" or, of a write, "within" it.
    """

    def __init__(self, number: int = 0, kind: str = "", onward: bool = False) -> None:
        self.log: list[str] = []
        self._disk = directory.Disk()
        self._number, self._kind, self._onward = number, kind, onward

    def __getattr__(self, name: str) -> Callable[..., None]:
        method = getattr(self._disk, name)

        def change(*given: Any) -> None:
            self.log.append(name)
            number = len(self.log)
            strikes = number == self._number or (self._onward and number > self._number > 0)
            if strikes and "before" in self._kind:
                self._strike()
            if strikes and "within" in self._kind and name == "write":
                given = (given[0], self._cut(given[1]))
            method(*given)
            if strikes and "after" in self._kind:
                self._strike()

        return change

    def _cut(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk[: len(chunk) // 2]
            self._strike()

    def _strike(self) -> None:
        if self._kind.startswith("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(5, "Input/output error")


DISK_KINDS = ["error before", "error after", "kill before", "kill after"]
WRITE_KINDS = ["error within", "kill within"]


@pytest.mark.parametrize("name", VERBS)
def test_every_change_of_a_directory(builds: Builds, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    verb = builds.verbs()[name]
    builds.prepare(directory.open_registry(tmp_path / "prepared"), verb)

    def prepared(root: Path, disk: Faulty) -> Registry:
        shutil.copytree(tmp_path / "prepared", root)
        return directory.open_registry(root, disk)  # type: ignore[arg-type]

    clean = Faulty()
    verb.do(prepared(tmp_path / "clean", clean), tmp_path / "clean result")
    check(verb, directory.open_registry(tmp_path / "clean"), tmp_path / "clean result", "a run without faults")
    log, struck = clean.log, 0
    for onward in (False, True) if SOAK else (False,):
        for number, change in enumerate(log, start=1):
            for kind in DISK_KINDS + (WRITE_KINDS if change == "write" else []):
                what = f"{kind} change {number} of {len(log)}, {change}{' and onward' if onward else ''}"
                root, folder = tmp_path / f"r{struck}", tmp_path / f"result{struck}"
                registry = prepared(root, Faulty(number, kind, onward))
                code = child(lambda registry=registry, folder=folder: verb.do(registry, folder), lambda _pid: None)  # type: ignore[misc]
                assert code in ((-signal.SIGKILL,) if kind.startswith("kill") else (OK, REFUSED)), f"{what}: {code}"
                check(verb, directory.open_registry(root), folder, what)
                shutil.rmtree(root)
                struck += 1
    expected = (len(log) * len(DISK_KINDS) + log.count("write") * len(WRITE_KINDS)) * (2 if SOAK else 1)
    with capsys.disabled():
        print(f"\n{name} in a directory: {len(log)} changes, {log.count('write')} of them writes: {struck} faults")
    assert struck == expected
