"""Aliases: promotion, rollback, and which release was live at a moment.

Promises:
- The history of an alias is its rows. A move is one conditional write of the row after the last one. Of several movers exactly
  one gets each revision, without a gap and without a fork. No row ever changes.
- A request for the state that the alias has already is a success and moves nothing.
- A rollback reads and writes rows only. It works while no blob can be read, and waits for no garbage collection
  (`leases.fence`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from mlpack.core import retry
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import ConflictError, DamagedError, Key, Place, Put, Row, numbered
from mlpack.registry.aliases import alias_names
from mlpack.registry.aliases.gates import Gate, GateError
from mlpack.registry.records import Release
from mlpack.registry.rows import leases, rows
from mlpack.registry.rows.manifest import is_name
from mlpack.registry.rows.rows import Move, Reference

PROMOTE, ROLLBACK = "promote", "rollback"

Judge = Callable[[Release, Release | None], Sequence[Gate]]
"""Computes the gates of a move from the release and the live one."""

_TRIES = 1000
_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRequest:
    """A request for a move and who makes it. `expect`: the revision that the alias must have (0: never moved). `retry`: try again
    after a conflict. `force`: move although gates refuse; `why` is then required."""

    who: str | None
    why: str | None = None
    force: bool = False
    expect: int | None = None
    retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveResult:
    """The last move of an alias, and whether the request made it."""

    move: Move
    moved: bool


def check_names(reference: Reference, alias: str) -> None:
    """Raise RecipeError unless these are a NAME@VERSION and a valid name of an alias."""
    if reference.version is None or not is_name(alias):
        raise RecipeError(f"{reference} to {alias!r}: promote NAME@VERSION to a name of small letters, digits and dashes")
    alias_names.check(alias)


def promote(place: Place, reference: Reference, alias: str, wish: MoveRequest, judge: Judge) -> MoveResult:
    """Point the alias at NAME@VERSION.

    RecipeError when the release does not exist, GateError when gates refuse, ConflictError when another moved it meanwhile.
    """
    release, prepare = _promotion(place, reference, alias, wish, judge)
    with leases.protected(place, release):
        return _move(place, reference.name, alias, wish, prepare)


def prospect(place: Place, reference: Reference, alias: str, wish: MoveRequest, judge: Judge) -> Move | None:
    """The move that `promote` would make now, after its gates, without making it: a rollout makes it at its end, unless somebody
    moved the alias meanwhile. None: the alias is there already.

    RecipeError when the release does not exist, GateError when gates refuse, ConflictError when the alias is not as expected.
    """
    _, prepare = _promotion(place, reference, alias, wish, judge)
    last = latest(place, reference.name, alias)
    _check_expected(place, f"{reference.name}:{alias}", last, wish.expect)
    return prepare(last)


def _promotion(
    place: Place, reference: Reference, alias: str, wish: MoveRequest, judge: Judge
) -> tuple[Release, Callable[[Move | None], Move | None]]:
    """The release to promote, and what makes the move after the last one (None: nothing to do)."""
    check_names(reference, alias)
    if wish.force and not wish.why:
        raise RecipeError("--force needs --why: the history records the reason")
    assert reference.version is not None
    row = _release_row(place, reference.name, reference.version)
    if row is None:
        raise RecipeError(f"no release {reference} in the registry {place.where}; see `mlpack list {reference.name}`")
    release, version = rows.decode(row, place.where), reference.version

    def prepare(last: Move | None) -> Move | None:
        if last is not None and last.version == version:
            return None
        live = last.target(place.where) if last else None
        gates = _judged(f"the promotion of {reference} to {alias}", judge, release, live, wish)
        forced = not all(gate["ok"] for gate in gates)
        intent: dict[str, Any] = {"alias": alias, "kind": PROMOTE, "forced": forced, "gates": gates}
        return _next(place, last, wish, release, row.body, **intent)

    return release, prepare


def rollback(place: Place, reference: Reference, wish: MoveRequest) -> MoveResult:
    """Point NAME:ALIAS at the newest earlier release that was live and was not rolled back from since.

    RecipeError when there is none, ConflictError when another moved it meanwhile.
    """
    name, alias = reference.name, _alias_of(reference)

    def prepare(last: Move | None) -> Move | None:
        if last is None:
            raise _never_moved(place, reference)
        for version in good_before(history(place, reference)):
            # A release that was collected since cannot be the target.
            if (row := _release_row(place, name, version)) is not None:
                release = rows.decode(row, place.where)
                intent: dict[str, Any] = {"alias": alias, "kind": ROLLBACK, "forced": False, "gates": ()}
                return _next(place, last, wish, release, row.body, **intent)
        raise RecipeError(
            f"{reference} cannot be rolled back: nothing good was live before {name}@{last.version}; promote a version"
        )

    return _move(place, name, alias, wish, prepare, fenced=True)


def good_before(moves: Iterator[Move]) -> Iterator[int]:
    """The versions that a rollback may choose, best first, from a history whose newest move comes first.

    The last move that concerns a version decides: a version that became live is good, one that was rolled back from is bad.
    """
    decided: set[int] = set()
    for index, move in enumerate(moves):
        if move.version not in decided:
            decided.add(move.version)
            if index > 0:
                yield move.version
        if move.kind == ROLLBACK and move.previous is not None:
            decided.add(move.previous)


def history(place: Place, reference: Reference, *, whole: bool = False) -> Iterator[Move]:
    """Every move of NAME:ALIAS, newest first, read in pages during the iteration; with gates and releases when `whole`.

    DamagedError when a move contradicts the one after it, or moves are missing. A move is yielded only after it was compared
    with the one before it, because the key of the newest row proves nothing.
    """
    alias, newer = _alias_of(reference), None
    for row in place.table.query(rows.moves(reference.name, alias), newest_first=True, bodies=whole):
        move = rows.decode_move(row, place.where)
        if whole:
            move.target(place.where)
        elif newer is None and (last := place.table.get(row.key)) is not None:
            rows.decode_move(last, place.where).target(place.where)  # its target, which no later move confirms
        if newer is not None:
            _check_chain(place, newer, move, row)
            yield newer
        newer = move
    if newer is None:
        return
    if (newer.revision, newer.previous) != (1, None):
        key = Key(rows.moves(reference.name, alias), numbered(newer.revision))
        raise DamagedError(place.where, key, "the moves before it are missing")
    yield newer


def _check_chain(place: Place, newer: Move, move: Move, row: Row) -> None:
    if newer.revision != move.revision + 1:
        raise DamagedError(place.where, row.key, f"the moves between it and move {newer.revision} are missing")
    if newer.previous != move.version:
        problem = f"it leads to version {move.version}, and move {newer.revision} came from version {newer.previous}"
        raise DamagedError(place.where, row.key, problem)
    if newer.when < move.when:
        raise DamagedError(place.where, row.key, f"it was made at {move.when}, after move {newer.revision} ({newer.when})")


def live_at(place: Place, reference: Reference, when: float) -> Move:
    """The move that was the last one of NAME:ALIAS at this time (seconds since the epoch). RecipeError when there was none yet."""
    limit, first = rows.timestamp(when), None
    for move in history(place, reference):
        if move.when <= limit:
            return move
        first = move
    if first is None:
        raise _never_moved(place, reference)
    raise RecipeError(f"{reference} was not there at {limit}: its first move was at {first.when}")


def as_json(move: Move) -> dict[str, Any]:
    """A move as JSON for other programs."""
    keys = ("name", "alias", "revision", "version", "previous", "when", "who", "kind", "why", "forced", "digest")
    return {key: getattr(move, key) for key in keys} | {"gates": [dict(gate) for gate in move.gates]}


# --- moving -----------------------------------------------------------------------------------------------------------


def _move(
    place: Place, name: str, alias: str, wish: MoveRequest, prepare: Callable[[Move | None], Move | None], *, fenced: bool = False
) -> MoveResult:
    """Read the last move, let `prepare` make the next one from it (None: nothing to do), and commit that one.

    `fenced`: do not wait for a collection; the commit fails if releases were removed after `prepare` read them.
    """
    pending: Move | None = None
    begun = 0.0

    def pause(number: int) -> float:
        """As long as a try takes, and longer and longer: what others do meanwhile takes them about as long."""
        if pending is not None and not wish.retry:
            return 0.0  # there is no retry: the next read only shows which writer was first
        took = time.monotonic() - begun
        return retry.spread(took * 2, min(took * 64, _PAUSE_S))(number)

    for _ in retry.attempts(_TRIES, pause):
        begun = time.monotonic()
        last = latest(place, name, alias)
        _check_expected(place, f"{name}:{alias}", last, wish.expect)
        if last is not None and pending is not None:
            if last.version == pending.version:
                return MoveResult(move=last, moved=False)  # another writer made the same move
            if not wish.retry:
                raise _overtaken(place, last)
        fence = (leases.fence(place, name),) if fenced else ()
        move = prepare(last)
        if move is None:
            assert last is not None, "what was never moved is nowhere already"
            return MoveResult(move=last, moved=False)
        with nullcontext() if fenced else leases.protected(place, move.target(place.where)):
            conflict = _commit(place, move, *fence)
        if conflict is None:
            return MoveResult(move=move, moved=True)
        at_fence = conflict.partition == rows.FENCES  # the alias has not moved
        pending = None if at_fence else move
    raise ServiceError(f"{name}:{alias}: others moved it {_TRIES} times meanwhile: try again", retryable=True)


def latest(place: Place, name: str, alias: str) -> Move | None:
    """The last move with its release, in one read; None when there is none."""
    for row in place.table.query(rows.moves(name, alias), newest_first=True, bodies=True, limit=1):
        return rows.decode_move(row, place.where)
    return None


def _next(place: Place, last: Move | None, wish: MoveRequest, release: Release, body: bytes, **fields: Any) -> Move:
    """The move after the last one. Its time is never earlier than the last one's, although clocks differ."""
    now = rows.timestamp(place.now())
    return Move(
        name=release.name,
        revision=last.revision + 1 if last else 1,
        version=release.version,
        previous=last.version if last else None,
        when=max(now, last.when) if last else now,
        who=wish.who,
        why=wish.why,
        release=body,
        digest=str(release.digest),
        **fields,
    )


def _commit(place: Place, move: Move, *fence: Put) -> Key | None:
    """Commit a move. Returns the key that another writer took first (None: it is committed). ServiceError when the result cannot be
    known."""
    put = rows.move_put(move)
    name_put = (Put(key=Key(rows.aliases(move.name), move.alias), head={}),) if move.revision == 1 else ()
    try:
        place.table.commit(put, *name_put, *fence)
    except ConflictError as error:
        return error.key
    except ServiceError:
        # Whether it was written is unknown: a lost answer looks like a failure.
        try:
            row = place.table.get(put.key)
        except ServiceError:
            row = None
        if row is None or (dict(row.head), row.body) != (dict(put.head), put.body):
            raise
    return None


def _check_expected(place: Place, what: str, last: Move | None, expect: int | None) -> None:
    current = last.revision if last else 0
    if expect is None or current == expect:
        return
    if last is None:
        name, _, alias = what.partition(":")
        key = Key(rows.moves(name, alias), numbered(1))
        raise ConflictError(f"{place.where}: {what} was never moved, so it is not at revision {expect}: look at `mlpack show`", key)
    raise _overtaken(place, last, f", not at revision {expect}")


def _overtaken(place: Place, last: Move, instead: str = "") -> ConflictError:
    what = f"{last.name}:{last.alias}"
    by = f"{last.who or 'somebody'} moved it to {last.name}@{last.version} at {last.when}"
    return ConflictError(
        f"{place.where}: {what} is at revision {last.revision}{instead}: {by}. Look at `mlpack history {what}`, then decide again",
        Key(rows.moves(last.name, last.alias), numbered(last.revision)),
    )


def _judged(what: str, judge: Judge, release: Release, live: Release | None, wish: MoveRequest) -> tuple[dict[str, Any], ...]:
    """The gates as the history stores them. GateError when one refuses and the move is not forced."""
    try:
        gates = judge(release, live)
    except ServiceError as error:
        if not wish.force:
            raise
        gates = (Gate(gate="evidence", ok=False, detail=f"could not be read: {error}"),)
    failed = [gate for gate in gates if not gate.ok]
    if failed and not wish.force:
        raise GateError(what, failed)
    return tuple(dataclasses.asdict(gate) for gate in gates)


def _release_row(place: Place, name: str, version: int) -> Row | None:
    return place.table.get(rows.release_key(name, version))


def _alias_of(reference: Reference) -> str:
    if reference.alias is None:
        raise RecipeError(f"{reference} is not an alias: write NAME:ALIAS, as in {reference.name}:prod")
    return reference.alias


def _never_moved(place: Place, reference: Reference) -> RecipeError:
    first = f"mlpack promote {reference.name}@VERSION --to {reference.alias}"
    return RecipeError(f"{place.where}: {reference} was never moved; `{first}` does that")
