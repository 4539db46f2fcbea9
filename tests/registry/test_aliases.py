"""Aliases: what moves them, what does not, what their history says, and what rolling back leads to."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.registry.places import PLACES, Unreadable, empty_place, put_releases

from mlpack.core.text.times import parse_time
from mlpack.errors import ExitCode, RecipeError, ServiceError
from mlpack.registry import ConflictError, DamagedError, Delete, Key, Place, Put, Row, numbered
from mlpack.registry.aliases import aliases
from mlpack.registry.aliases.aliases import (
    MoveRequest,
    MoveResult,
    as_json,
    good_before,
    history,
    live_at,
    promote,
    rollback,
)
from mlpack.registry.aliases.gates import Gate, GateError
from mlpack.registry.records import Release
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import leases, rows
from mlpack.registry.rows.rows import Move, Reference, parse_reference

PROD = Reference(name="minilm", alias="prod")
ALICE = MoveRequest(who="alice")


def passes(release: Release, live: Release | None) -> tuple[Gate, ...]:
    return (Gate(gate="size", ok=True, detail="fits"),)


def refuses(release: Release, live: Release | None) -> tuple[Gate, ...]:
    return (Gate(gate="size", ok=False, detail="too large"), Gate(gate="latency", ok=True, detail="fits"))


def to(place: Place, version: int, wish: MoveRequest = ALICE, judge: Any = passes) -> MoveResult:
    return promote(place, Reference(name="minilm", version=version), "prod", wish, judge)


def at_time(place: Place, seconds: float) -> Place:
    """The same place, by a clock that stands."""
    return dataclasses.replace(place, now=lambda: seconds)


def versions(place: Place) -> list[int]:
    return [move.version for move in history(place, PROD)]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place with minilm@1 to minilm@4, without their bytes."""
    with empty_place(request, tmp_path) as made:
        put_releases(made, "minilm", 4)
        yield made


@dataclasses.dataclass
class Meddling:
    """A table in front of another, in which somebody else is quicker: `first` happens before each commit, once."""

    table: Any
    first: Callable[[], object] | None = None
    after: Exception | None = None

    def get(self, key: Key) -> Row | None:
        return self.table.get(key)  # type: ignore[no-any-return]

    def query(self, partition: str, **how: Any) -> Iterator[Row]:
        return self.table.query(partition, **how)  # type: ignore[no-any-return]

    def commit(self, *writes: Put | Delete) -> None:
        meddle, self.first = self.first, None
        if meddle is not None:
            meddle()
        self.table.commit(*writes)
        if self.after is not None:
            raise self.after

    def close(self) -> None:
        self.table.close()


@pytest.mark.parametrize("alias", ["latest", "1", "v1", "sha256"])
def test_name_that_says_a_version_is_refused_and_still_read(alias: str, place: Place) -> None:
    wanted = Reference(name="minilm", alias=alias)
    with pytest.raises(RecipeError, match="cannot be an alias"):
        promote(place, Reference(name="minilm", version=1), alias, ALICE, passes)
    assert list(history(place, wanted)) == []
    for version in (1, 2):  # as an older mlpack let it
        made = to(place, version).move
        puts = [rows.move_put(dataclasses.replace(made, alias=alias))]
        place.table.commit(*puts, *([Put(key=Key(rows.aliases("minilm"), alias), head={})] if version == 1 else []))
    assert Registry(place).show(wanted).version == 2
    assert rollback(place, wanted, ALICE).move.version == 1
    with pytest.raises(RecipeError, match="cannot be an alias"):
        promote(place, Reference(name="minilm", version=3), alias, ALICE, passes)


def test_a_promotion_is_a_move_with_everything_about_it(place: Place) -> None:
    made = to(place, 2, MoveRequest(who="alice", why="first"))
    assert made.moved
    move = made.move
    assert (move.revision, move.version, move.previous, move.kind) == (1, 2, None, "promote")
    assert (move.who, move.why, move.forced) == ("alice", "first", False)
    assert move.gates == ({"gate": "size", "ok": True, "detail": "fits"},)
    assert list(history(place, PROD, whole=True)) == [move]
    assert Registry(place).show(PROD).version == 2
    assert [row.key.sort for row in place.table.query(rows.aliases("minilm"))] == ["prod"]
    assert json.loads(json.dumps(as_json(move)))["gates"][0]["gate"] == "size"


def test_the_same_again_is_a_success_that_moves_nothing(place: Place) -> None:
    first = to(place, 1)
    again = to(place, 1, judge=refuses)
    assert not again.moved
    assert again.move.revision == first.move.revision
    assert versions(place) == [1]


def test_histories_of_other_aliases_and_models_stay_apart(place: Place) -> None:
    put_releases(place, "fashion", 1)
    to(place, 1)
    promote(place, Reference(name="minilm", version=2), "canary", ALICE, passes)
    promote(place, Reference(name="fashion", version=1), "prod", ALICE, passes)
    assert versions(place) == [1]
    assert [move.version for move in history(place, Reference(name="minilm", alias="canary"))] == [2]
    assert Registry(place).show(parse_reference("fashion:prod")).name == "fashion"
    assert [row.key.sort for row in place.table.query(rows.aliases("minilm"))] == ["canary", "prod"]


def test_what_is_not_there_is_not_promoted(place: Place) -> None:
    with pytest.raises(RecipeError, match=r"no release minilm@9 .*mlpack list minilm"):
        to(place, 9)
    with pytest.raises(RecipeError, match="NAME@VERSION"):
        promote(place, PROD, "prod", ALICE, passes)
    with pytest.raises(RecipeError, match="small letters"):
        promote(place, Reference(name="minilm", version=1), "Prod", ALICE, passes)
    assert versions(place) == []


def test_gates_refuse_with_their_own_code_and_force_is_recorded(place: Place) -> None:
    to(place, 1)
    with pytest.raises(
        GateError, match=r"(?s)minilm@2 to prod was refused by 1 gate:\n  size: too large\n.*--force --why"
    ) as caught:
        to(place, 2, judge=refuses)
    assert caught.value.exit_code is ExitCode.OVER_BUDGET
    with pytest.raises(RecipeError, match="--why"):
        to(place, 2, MoveRequest(who="alice", force=True), refuses)
    forced = to(place, 2, MoveRequest(who="alice", force=True, why="fire"), refuses).move
    assert (forced.forced, forced.why, [gate["ok"] for gate in forced.gates]) == (True, "fire", [False, True])
    assert not to(place, 3, MoveRequest(who="alice", force=True, why="habit"), passes).move.forced


def test_gates_are_asked_about_what_is_live(place: Place) -> None:
    asked: list[int | None] = []

    def judge(release: Release, live: Release | None) -> tuple[Gate, ...]:
        asked.append(live.version if live else None)
        return ()

    for version in (1, 3, 2):
        to(place, version, judge=judge)
    assert asked == [None, 1, 3]


def test_unreadable_evidence_stops_a_promotion_unless_forced(place: Place) -> None:
    def unreadable(release: Release, live: Release | None) -> tuple[Gate, ...]:
        raise ServiceError("S3 is down", retryable=True)

    with pytest.raises(ServiceError, match="S3 is down"):
        to(place, 1, judge=unreadable)
    move = to(place, 1, MoveRequest(who="alice", force=True, why="fire"), unreadable).move
    assert move.gates == ({"gate": "evidence", "ok": False, "detail": "could not be read: S3 is down"},)
    assert move.forced


def test_somebody_quicker_is_named(place: Place) -> None:
    to(place, 1)
    slow = dataclasses.replace(place, table=Meddling(place.table, lambda: to(place, 3, MoveRequest(who="bob"))))
    with pytest.raises(
        ConflictError, match=r"minilm:prod is at revision 2: bob moved it to minilm@3 at .*mlpack history"
    ) as caught:
        to(slow, 2)
    assert caught.value.exit_code is ExitCode.SERVICE
    assert versions(place) == [3, 1]


def test_somebody_quicker_with_the_very_same_is_a_success(place: Place) -> None:
    slow = dataclasses.replace(place, table=Meddling(place.table, lambda: to(place, 2, MoveRequest(who="bob"))))
    made = to(slow, 2)
    assert (made.moved, made.move.who) == (False, "bob")
    assert versions(place) == [2]


def test_retrying_goes_over_what_others_did(place: Place) -> None:
    slow = dataclasses.replace(place, table=Meddling(place.table, lambda: to(place, 3, MoveRequest(who="bob"))))
    made = to(slow, 2, MoveRequest(who="alice", retry=True))
    assert (made.moved, made.move.revision, made.move.previous) == (True, 2, 3)


def test_retrying_ends_where_others_never_do(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aliases, "_TRIES", 3)
    others = itertools.cycle((3, 4))

    class Always(Meddling):
        def commit(self, *writes: Put | Delete) -> None:
            to(place, next(others), MoveRequest(who="bob"))
            self.table.commit(*writes)

    busy = dataclasses.replace(place, table=Always(place.table))
    with pytest.raises(ServiceError, match="minilm:prod: others moved it 3 times meanwhile: try again") as caught:
        to(busy, 2, MoveRequest(who="alice", retry=True))
    assert caught.value.retryable
    assert versions(place) == [3, 4, 3]


@pytest.mark.parametrize(("expect", "fits"), [(0, False), (1, True), (2, False)])
def test_an_expected_revision_holds(place: Place, expect: int, fits: bool) -> None:
    to(place, 1)
    if fits:
        assert to(place, 2, MoveRequest(who="alice", expect=expect)).moved
        return
    with pytest.raises(ConflictError, match=f"is at revision 1, not at revision {expect}: alice moved it"):
        to(place, 2, MoveRequest(who="alice", expect=expect))
    assert versions(place) == [1]


def test_an_expected_revision_of_what_was_never_moved(place: Place) -> None:
    with pytest.raises(ConflictError, match="was never moved"):
        to(place, 1, MoveRequest(who="alice", expect=3))
    assert to(place, 1, MoveRequest(who="alice", expect=0)).moved


def test_expected_revision_is_error_even_when_quicker_did_same(place: Place) -> None:
    to(place, 1)
    slow = dataclasses.replace(place, table=Meddling(place.table, lambda: to(place, 2, MoveRequest(who="bob"))))
    with pytest.raises(ConflictError, match="bob moved it to minilm@2"):
        to(slow, 2, MoveRequest(who="alice", expect=1))


def test_an_answer_that_was_lost_is_no_failure(place: Place) -> None:
    lost = ServiceError("timed out", retryable=True)
    deaf = dataclasses.replace(place, table=Meddling(place.table, after=lost))
    assert to(deaf, 1).moved
    assert to(deaf, 2).moved
    assert rollback(deaf, PROD, ALICE).moved
    assert versions(place) == [1, 2, 1]


def test_a_commit_that_failed_is_told(place: Place) -> None:
    def broken() -> None:
        raise ServiceError("throttled", retryable=True)

    with pytest.raises(ServiceError, match="throttled"):
        to(dataclasses.replace(place, table=Meddling(place.table, broken)), 1)
    assert versions(place) == []


def test_time_never_goes_back(place: Place) -> None:
    for version, at in ((1, 1000.0), (2, 500.0), (3, 2000.0)):
        to(at_time(place, at), version)
    assert [move.when for move in history(place, PROD)] == [rows.timestamp(at) for at in (2000, 1000, 1000)]


def test_what_was_live_at_a_time(place: Place) -> None:
    with pytest.raises(RecipeError, match="was never moved"):
        live_at(place, PROD, 0)
    for version, at in ((1, 100.0), (2, 200.0), (3, 200.0), (1, 300.0)):
        to(at_time(place, at), version)
    found = {at: live_at(place, PROD, at).version for at in (100, 199.999, 200, 250, 300, 1e9)}
    assert found == {100: 1, 199.999: 1, 200: 3, 250: 3, 300: 1, 1e9: 1}
    with pytest.raises(RecipeError, match=r"was not there at 1970-01-01T00:01:39.000Z: its first move was at .*:40.000Z"):
        live_at(place, PROD, 99)


def test_times_are_read() -> None:
    assert parse_time("1970-01-02") == parse_time("1970-01-02T00:00Z") == parse_time("1970-01-02T01:00+01:00") == 86400
    for text in ("", "yesterday", "2026-13-01", "9999-12-31T23:59-23:59"):
        with pytest.raises(RecipeError, match="is not a time"):
            parse_time(text)


def test_rolling_back_goes_to_the_release_before(place: Place) -> None:
    for version in (1, 2, 3):
        to(place, version)
    back = rollback(place, PROD, MoveRequest(who="bob", why="slow")).move
    assert (back.version, back.previous, back.kind, back.who, back.why, back.gates) == (2, 3, "rollback", "bob", "slow", ())
    assert Registry(place).show(PROD).version == 2
    assert rollback(place, PROD, ALICE).move.version == 1
    with pytest.raises(RecipeError, match="nothing good was live before minilm@1"):
        rollback(place, PROD, ALICE)
    to(place, 3)  # mended, or the cause was another
    to(place, 4)
    assert rollback(place, PROD, ALICE).move.version == 3
    assert versions(place) == [3, 4, 3, 1, 2, 3, 2, 1]


def test_rolling_back_needs_a_history(place: Place) -> None:
    with pytest.raises(RecipeError, match=r"was never moved; `mlpack promote minilm@VERSION --to prod` does that"):
        rollback(place, PROD, ALICE)
    with pytest.raises(RecipeError, match="NAME:ALIAS"):
        rollback(place, Reference(name="minilm"), ALICE)


def test_a_release_that_was_collected_is_not_gone_back_to(place: Place) -> None:
    for version in (1, 2, 3):
        to(place, version)
    row = place.table.get(rows.release_key("minilm", 2))
    assert row is not None
    place.table.commit(Delete(key=row.key, expect=row.revision))
    assert rollback(place, PROD, ALICE).move.version == 1


def test_oldest_move_that_is_left_is_named_where_others_lack(place: Place) -> None:
    for version in (1, 2, 3):
        to(place, version)
    first = Key(rows.moves("minilm", "prod"), numbered(1))
    place.table.commit(Delete(key=first, expect=1))
    moves = history(place, PROD)
    assert next(moves).version == 3
    with pytest.raises(DamagedError, match="the moves before it are missing") as caught:
        next(moves)
    assert caught.value.key == Key(rows.moves("minilm", "prod"), numbered(2))


def test_two_who_roll_back_at_once_go_one_step(place: Place) -> None:
    for version in (1, 2, 3):
        to(place, version)
    slow = dataclasses.replace(place, table=Meddling(place.table, lambda: rollback(place, PROD, MoveRequest(who="bob"))))
    made = rollback(slow, PROD, ALICE)
    assert (made.moved, made.move.who, made.move.version) == (False, "bob", 2)
    assert versions(place) == [2, 3, 2, 1]


@pytest.mark.parametrize(("gone", "leads_to"), [(None, 2), (2, 1)])
def test_what_is_removed_meanwhile_is_not_gone_back_to(place: Place, gone: int | None, leads_to: int) -> None:
    """By a collection, between the look at what is there and the move."""
    for version in (1, 2, 3):
        to(place, version)

    def collected() -> None:
        removal = [Delete(key=rows.release_key("minilm", gone), expect=1)] if gone else []
        place.table.commit(*removal, leases.fence(place, "minilm"))

    slow = dataclasses.replace(place, table=Meddling(place.table, collected))
    made = rollback(slow, PROD, MoveRequest(who="alice", expect=3))
    assert (made.moved, made.move.version, made.move.revision) == (True, leads_to, 4)
    assert leases.intents(place) == ([], [])


def test_rolling_back_never_waits_for_a_collection(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promoting does, because a release that nothing refers to may be removed just then."""
    for version in (1, 2):
        to(place, version)
    monkeypatch.setattr(leases, "_PATIENCE_S", 0.05)
    later = place.now() + 365 * 86400
    old = dataclasses.replace(place, now=lambda: later)
    with leases.collecting(old, "gc"):
        with pytest.raises(ServiceError, match="gc"):
            to(old, 3)
        assert rollback(old, PROD, ALICE).move.version == 1
    assert leases.intents(old) == ([], [])


def test_rolling_back_works_while_no_bytes_can_be_read(place: Place) -> None:
    for version in (1, 2):
        to(place, version)
    down = dataclasses.replace(place, blobs=Unreadable())
    assert rollback(down, PROD, ALICE).move.version == 1
    assert Registry(down).show(PROD).version == 1
    assert [move.version for move in history(down, PROD)] == [1, 2, 1]


def test_histories_are_read_as_far_as_they_are_asked_for(place: Place) -> None:
    """Lazily: what is not asked for is not read, and what is comes in pages."""
    for version in (1, 2, 1, 2, 1):
        to(place, version)
    read: list[str] = []

    class Counting(Meddling):
        def query(self, partition: str, **how: Any) -> Iterator[Row]:
            for row in self.table.query(partition, **how):
                read.append(row.key.sort)
                yield row

    moves = history(dataclasses.replace(place, table=Counting(place.table)), PROD)
    assert read == []
    assert [move.revision for move in itertools.islice(moves, 2)] == [5, 4]
    assert len(read) == 3  # a move is held against the one before it


def test_a_move_under_a_number_that_is_not_its_own_is_not_shown(place: Place) -> None:
    """The newest row's key says its number: what no other row confirms is nobody's move."""
    for version in (1, 2, 1):
        to(place, version)

    class Renumbered(Meddling):
        def query(self, partition: str, **how: Any) -> Iterator[Row]:
            for row in self.table.query(partition, **how):
                far = row.key.sort == "000000003"
                yield dataclasses.replace(row, key=Key(partition, "999999999")) if far else row

    moves = history(dataclasses.replace(place, table=Renumbered(place.table)), PROD)
    with pytest.raises(DamagedError, match="between it and move 999999999"):
        next(moves)


def test_a_move_that_is_later_than_the_next_is_named(place: Place) -> None:
    for version in (1, 2, 1):
        to(place, version)

    class Late(Meddling):
        def query(self, partition: str, **how: Any) -> Iterator[Row]:
            for row in self.table.query(partition, **how):
                late = row.key.sort == "000000002"
                yield dataclasses.replace(row, head={**row.head, "when": rows.timestamp(9e9)}) if late else row

    with pytest.raises(DamagedError, match=f"it was made at {rows.timestamp(9e9)}, after move 3") as caught:
        list(history(dataclasses.replace(place, table=Late(place.table)), PROD))
    assert caught.value.key == Key(rows.moves("minilm", "prod"), numbered(2))


def move(version: int, previous: int | None, kind: str = "promote") -> Move:
    said: dict[str, Any] = {"who": None, "why": None, "forced": False, "gates": (), "release": b"", "digest": "", "when": ""}
    return Move(name="m", alias="prod", revision=1, version=version, previous=previous, kind=kind, **said)


@pytest.mark.parametrize(
    ("moves", "good"),
    [
        ([], []),
        ([move(1, None)], []),
        ([move(2, 1), move(1, None)], [1]),
        ([move(1, 2, "rollback"), move(2, 1), move(1, None)], []),
        ([move(2, 3, "rollback"), move(3, 2), move(2, 1), move(1, None)], [1]),
        ([move(3, 2), move(2, 3, "rollback"), move(3, 2), move(2, 1), move(1, None)], [2, 1]),
        ([move(1, 3), move(3, 2), move(2, 1), move(1, None)], [3, 2]),
    ],
)
def test_good_releases(moves: list[Move], good: list[int]) -> None:
    assert list(good_before(iter(moves))) == good


class Aliased(RuleBasedStateMachine):
    """Promotions, forced ones and roll-backs against a plain list of what is live."""

    place: Place

    def __init__(self) -> None:
        super().__init__()
        self.live: list[int] = []
        self.bad: list[int] = []
        """Rolled back from, and not live since."""
        self.name = f"m{next(_COUNTER)}"
        put_releases(self.place, self.name, 4)
        self.prod = Reference(name=self.name, alias="prod")

    def _promote(self, version: int, wish: MoveRequest, judge: Any) -> MoveResult:
        return promote(self.place, Reference(name=self.name, version=version), "prod", wish, judge)

    def _moved(self, outcome: MoveResult, version: int) -> None:
        assert outcome.moved == (not self.live or self.live[-1] != version)
        assert outcome.move.version == version
        if outcome.moved:
            self.live.append(version)
        self.bad = [each for each in self.bad if each != version]

    @rule(version=st.integers(1, 4), expected=st.booleans())
    def promote(self, version: int, expected: bool) -> None:
        wish = MoveRequest(who="alice", expect=len(self.live) if expected else None)
        self._moved(self._promote(version, wish, passes), version)

    @rule(version=st.integers(1, 4), off=st.sampled_from([-1, 1, 2]))
    def promote_over_what_is_not_there(self, version: int, off: int) -> None:
        if len(self.live) + off >= 0:
            with pytest.raises(ConflictError):
                self._promote(version, MoveRequest(who="alice", expect=len(self.live) + off), passes)

    @rule(version=st.integers(1, 4))
    def force(self, version: int) -> None:
        outcome = self._promote(version, MoveRequest(who="bob", force=True, why="fire"), refuses)
        assert outcome.move.forced or not outcome.moved
        self._moved(outcome, version)

    @rule(version=st.integers(1, 4))
    def refused(self, version: int) -> None:
        if self.live and self.live[-1] == version:
            return
        with pytest.raises(GateError):
            self._promote(version, ALICE, refuses)

    @precondition(lambda self: self.live)
    @rule()
    def roll_back(self) -> None:
        current = self.live[-1]
        good = [version for version in reversed(self.live) if version != current and version not in self.bad]
        if not good:
            with pytest.raises(RecipeError):
                rollback(self.place, self.prod, ALICE)
            return
        outcome = rollback(self.place, self.prod, ALICE)
        self.bad.append(current)
        assert outcome.move.previous == current
        self._moved(outcome, good[0])

    @invariant()
    def the_history_is_the_list(self) -> None:
        moves = list(history(self.place, self.prod))[::-1]
        assert [move.version for move in moves] == self.live
        assert [move.revision for move in moves] == list(range(1, len(moves) + 1))
        assert [move.previous for move in moves] == [None, *self.live][: len(moves)]
        assert [move.when for move in moves] == sorted(move.when for move in moves)
        if self.live:
            assert Registry(self.place).show(self.prod).version == self.live[-1]


_COUNTER = itertools.count()


def test_any_sequence_of_moves(place: Place) -> None:
    where = place

    class Machine(Aliased):
        place = where

    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=15 if place.where.startswith("/") else 4, stateful_step_count=15, deadline=None)
    )
