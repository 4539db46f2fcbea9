"""Many at once: one wins each revision, and what is published by many is kept once.

64 processes move one alias, 32 publish overlapping content, on a directory and on AWS (moto, on loopback). MLPACK_SOAK=1: 10,000
moves instead of 640.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from tests.support.registry.builds import build
from tests.support.registry.places import put_releases
from tests.support.services.aws_server import AwsServer

from mlpack.core import digest
from mlpack.registry import ConflictError, Place, places
from mlpack.registry.aliases.aliases import MoveRequest, history, promote
from mlpack.registry.aws import opening as aws_
from mlpack.registry.aws.clients import Clients, Timeouts
from mlpack.registry.aws.dynamodb import DynamoTable
from mlpack.registry.aws.s3 import S3Blobs
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows.rows import Reference

MOVERS = 64
MOVES = 10_000 if os.environ.get("MLPACK_SOAK") else 640
ROUNDS = 5
PUBLISHERS = 32
BUILDS = 8
WAIT_S = 600.0

# Forked, so that boto3 is imported once and not 64 times.
_forked = multiprocessing.get_context("fork")


@pytest.fixture(params=["directory", "aws"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty registry's name."""
    if request.param == "directory":
        yield str(tmp_path / "registry")
    else:
        yield request.getfixturevalue("aws").make_place()


def kind(where: str) -> str:
    return "aws" if where.startswith("s3:") else "directory"


def opened(where: str) -> Registry:
    """The registry, for processes that are forked from here: boto3's clients take 0.1 s each, and are made once, without a
    connection yet, so that every process makes its own."""
    if kind(where) == "directory":
        return places.open_registry(where)
    address = aws_.parse(where)
    clients = Clients(address, Timeouts())
    for service in ("dynamodb", "s3"):
        clients.get(service)
    return Registry(Place(where=where, table=DynamoTable(clients, address), blobs=S3Blobs(clients, address), now=time.time))


def at_once(count: int, work: Callable[[int, Barrier], Any]) -> list[Any]:
    """What each of so many processes returned, which wait for each other at the barrier; a failure of one is raised here."""
    barrier = _forked.Barrier(count)

    def run(index: int, sender: Any) -> None:
        try:
            sender.send((True, work(index, barrier)))
        except BaseException as error:  # noqa: BLE001 - told to the parent, which raises it
            barrier.abort()  # nobody waits for this one
            sender.send((False, f"{type(error).__name__}: {error}"))
        finally:
            os._exit(0)  # nothing of pytest's is to run in here

    pipes = []
    for index in range(count):
        receiver, sender = _forked.Pipe(duplex=False)
        process = _forked.Process(target=run, args=(index, sender))
        process.start()
        sender.close()
        pipes.append((process, receiver))
    said = [receiver.recv() for _, receiver in pipes]
    for process, receiver in pipes:
        process.join()
        receiver.close()
    assert [text for good, text in said if not good] == []
    return [value for _, value in said]


def test_revisions_have_one_winner_each_and_one_whole_history(where: str) -> None:
    registry, shared = places.open_registry(where), opened(where)
    put_releases(registry.place, "minilm", 2 * MOVERS)
    each, began = -(-MOVES // MOVERS), time.monotonic()

    def move(index: int, barrier: Barrier) -> list[tuple[int, int]]:
        """Two versions of its own in turn, so that each promotion is a move; the revisions it got."""
        place, won = shared.place, []
        barrier.wait(WAIT_S)
        for number in range(each):
            version = 2 * index + 1 + number % 2
            wish = MoveRequest(who=str(index), retry=True)
            made = promote(place, Reference(name="minilm", version=version), "prod", wish, lambda *_: ())
            assert made.moved
            won.append((made.move.revision, version))
        return won

    done = enumerate(at_once(MOVERS, move))
    took = time.monotonic() - began
    won = {revision: (index, version) for index, mine in done for revision, version in mine}
    assert len(won) == each * MOVERS >= MOVES
    moves = list(history(registry.place, Reference(name="minilm", alias="prod")))[::-1]
    assert [one.revision for one in moves] == list(range(1, each * MOVERS + 1))
    assert [(int(one.who or -1), one.version) for one in moves] == [won[one.revision] for one in moves]
    assert [one.previous for one in moves] == [None, *(one.version for one in moves)][:-1]
    assert [one.when for one in moves] == sorted(one.when for one in moves)
    print(f"\n{kind(where)}: {MOVERS} processes, {len(won)} moves in one history, each by one of them, in {took:.0f} s")


def test_of_all_who_expect_a_revision_one_moves(where: str) -> None:
    registry, shared = places.open_registry(where), opened(where)
    put_releases(registry.place, "minilm", MOVERS)

    def move(index: int, barrier: Barrier) -> list[bool]:
        """In each round: expect the revision of the round before."""
        place, won = shared.place, []
        for expect in range(ROUNDS):
            barrier.wait(WAIT_S)
            wish = MoveRequest(who=str(index), expect=expect)
            try:
                made = promote(place, Reference(name="minilm", version=index + 1), "prod", wish, lambda *_: ())
                won.append(made.moved)  # False for the last winner: it is there already
            except ConflictError:
                won.append(False)
        return won

    rounds = list(zip(*at_once(MOVERS, move), strict=True))
    assert [sum(won) for won in rounds] == [1] * ROUNDS
    assert [one.revision for one in history(registry.place, Reference(name="minilm", alias="prod"))] == list(range(ROUNDS, 0, -1))
    print(f"\n{kind(where)}: {ROUNDS} rounds of {MOVERS} processes, one winner each")


def test_what_many_publish_is_whole_and_kept_once(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Eight builds; every publisher has four of them, in an order of its own."""
    shared = opened(where)
    folders = [build(tmp_path / f"out{index}", content=b"function %d" % index) for index in range(BUILDS)]

    def publish(index: int, barrier: Barrier) -> list[tuple[int, int]]:
        barrier.wait(WAIT_S)
        mine = [(index * 3 + step) % BUILDS for step in range(4)]
        return [(number, shared.publish(folders[number]).version) for number in mine]

    got = [pair for mine in at_once(PUBLISHERS, publish) for pair in mine]
    versions = dict(got)
    assert len(set(got)) == len(versions) == BUILDS, "the same content had two versions"
    assert sorted(versions.values()) == list(range(1, BUILDS + 1))

    registry = places.open_registry(where)
    wanted = {named for release in registry.releases() for named in release.files.values()}
    for release in registry.releases():
        registry.pull(release, tmp_path / f"pulled{release.version}")
        number = next(number for number, version in versions.items() if version == release.version)
        assert digest.of_tree(tmp_path / f"pulled{release.version}") == digest.of_tree(folders[number])
    stored = Counter(stored.digest for stored in registry.place.blobs.list())
    assert stored == Counter(wanted)
    if where.startswith("s3:"):
        _written_once(request.getfixturevalue("aws"), len(wanted))
    print(f"\n{kind(where)}: {PUBLISHERS} publishers, {len(got)} publications, {BUILDS} releases, {len(wanted)} blobs, each once")


def _written_once(server: AwsServer, count: int) -> None:
    """Uploads that took effect, by key: conditional writes let one through."""
    written = Counter(one.path for one in server.log("s3") if one.operation == "PutObject" and one.status == 200)
    assert set(written.values()) == {1}
    assert len(written) == count
