"""The trail of rollouts in a registry of either kind, as rows of its table: `mlpack_control.trail` says which.

Promises:
- What the controller writes into DynamoDB is read here, and what is written here has its very form.
- Of two that start a rollout of one alias one gets the number; of two ends one is written.
- The alias moves together with the end, and only if nobody moved it since the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlpack.errors import RecipeError
from mlpack.registry import ConflictError, Key, Place, Put, Row, numbered
from mlpack.registry.fields import BODY_BYTES, FieldError, Fields, parse
from mlpack.registry.rows import rows
from mlpack.registry.rows.rows import Move
from mlpack_control import PolicyError, State, canonical
from mlpack_control.trail import ANSWER, END, timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rollout as it was started. `document`: what the controller goes by; `move`: how the alias is to move at its end."""

    name: str
    alias: str
    number: int
    version: int
    when: str
    who: str | None
    document: Mapping[str, Any]
    move: Mapping[str, Any]

    @property
    def id(self) -> str:
        """What the rollout is called at AWS."""
        return f"{self.name}-{self.alias}-{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a rollout ended: finalised, rolled_back, or overtaken by somebody else."""

    phase: str
    why: str
    when: str


class RegistryTrail:
    """The trail of one rollout. See `mlpack_control.trail.Trail`."""

    def __init__(self, place: Place, rollout: Rollout) -> None:
        self._place = place
        self._rollout = rollout
        self._steps = _steps(rollout.name, rollout.alias, rollout.number)

    def record(self, look: int, evidence: Mapping[str, Any]) -> Any:
        """See `Trail`."""
        head = {"kind": evidence["action"]["kind"], "why": evidence["why"][:1000]}
        key = Key(self._steps, numbered(look))
        try:
            self._place.table.commit(Put(key=key, head=head, body=canonical(evidence)))
        except ConflictError:
            row = self._place.table.get(key)
            if row is None:
                raise
            return _body(row, self._place.where)
        return evidence

    def finish(self, phase: str, why: str, now: float) -> bool:
        """See `Trail`."""
        end = Put(key=Key(self._steps, END), head={"phase": phase, "why": why[:1000], "when": timestamp(now)})
        moves = self._moves(now) if phase == "finalised" else ()
        try:
            self._place.table.commit(end, *moves)
        except ConflictError as error:
            if error.key == end.key or self.end() is not None:
                row = self._place.table.get(moves[0].key) if moves else None
                return not moves or (row is not None and row.body == moves[0].body)
            self._place.table.commit(end)  # somebody moved the alias: the end is written alone
            return False
        return True

    def answer(self, step: int) -> str | None:
        """See `Trail`."""
        row = self._place.table.get(Key(self._steps, f"{ANSWER}{step}"))
        return None if row is None else str(row.head.get("answer"))

    def reply(self, step: int, answer: str, who: str | None) -> None:
        """Keep a person's answer about a step. RecipeError where there is one already."""
        head = {"answer": answer, "who": who, "when": timestamp(self._place.now())}
        try:
            self._place.table.commit(Put(key=Key(self._steps, f"{ANSWER}{step}"), head=head))
        except ConflictError:
            raise RecipeError(f"{self._rollout.id}: somebody answered about this step already: {self.answer(step)}") from None

    def looks(self) -> Iterator[Any]:
        """The evidence of each look, in order."""
        for row in self._place.table.query(self._steps, bodies=True):
            if row.key.sort.isdecimal():
                yield _look(row, self._place.where)

    def end(self) -> End | None:
        """How it ended; None while it is under way."""
        row = self._place.table.get(Key(self._steps, END))
        if row is None:
            return None
        with rows.reading(row.key, self._place.where):
            fields = Fields(row.head)
            return End(phase=fields.label("phase"), why=fields.text("why"), when=fields.time("when"))

    def _moves(self, now: float) -> tuple[Put, ...]:
        """The move of the alias as it was prepared, made now."""
        move, name, alias = self._rollout.move, self._rollout.name, self._rollout.alias
        head = {**move["head"], "when": max(timestamp(now), move["head"]["when"])}
        put = Put(key=Key(rows.moves(name, alias), numbered(move["revision"])), head=head, body=move["body"].encode())
        return (put, Put(key=Key(rows.aliases(name), alias), head={})) if move["revision"] == 1 else (put,)


def begin(place: Place, move: Move, number: int, document: Mapping[str, Any]) -> Rollout:
    """Write the row of a rollout. ConflictError where somebody else took the number."""
    put = rows.move_put(move)
    prepared = {"revision": move.revision, "head": dict(put.head), "body": put.body.decode()}
    rollout = Rollout(
        name=move.name,
        alias=move.alias,
        number=number,
        version=move.version,
        when=rows.timestamp(place.now()),
        who=move.who,
        document=document,
        move=prepared,
    )
    head = {"version": rollout.version, "when": rollout.when, "who": rollout.who}
    body = canonical({"rollout": document, "move": prepared})
    place.table.commit(Put(key=Key(_rollouts(move.name, move.alias), numbered(number)), head=head, body=body))
    return rollout


def latest(place: Place, name: str, alias: str) -> Rollout | None:
    """The newest rollout to an alias; None where there was none."""
    for row in place.table.query(_rollouts(name, alias), newest_first=True, bodies=True, limit=1):
        return _rollout(row, place.where, name, alias)
    return None


def numbered_one(place: Place, name: str, alias: str, number: int) -> Rollout | None:
    """The rollout of this number."""
    row = place.table.get(Key(_rollouts(name, alias), numbered(number)))
    return None if row is None else _rollout(row, place.where, name, alias)


def _rollout(row: Row, where: str, name: str, alias: str) -> Rollout:
    body = _body(row, where)
    with rows.reading(row.key, where):
        fields, parts = Fields(row.head), Fields(body, "its body")
        move = parts.inside("move")
        Fields(move, "its move").text("body", BODY_BYTES)
        return Rollout(
            name=name,
            alias=alias,
            number=int(row.key.sort),
            version=fields.version("version"),
            when=fields.time("when"),
            who=fields.maybe("who", fields.label),
            document=parts.inside("rollout"),
            move=move,
        )


def _look(row: Row, where: str) -> Any:
    """The evidence of a look, with what is shown of it in its form."""
    value = _body(row, where)
    with rows.reading(row.key, where):
        fields = Fields(value, "its evidence")
        fields.text("why")
        action = Fields(fields.inside("action"), "its action")
        if action.label("kind") == "shift":
            action.whole("percent")
        for each in fields.each("verdicts"):
            verdict = Fields(each, "a verdict")
            verdict.label("metric"), verdict.label("verdict"), verdict.text("why")
        try:
            State.of(fields.raw("state"))
        except PolicyError as error:
            raise FieldError(str(error)) from error
    return value


def _body(row: Row, where: str) -> Any:
    with rows.reading(row.key, where):
        return parse(row.body, BODY_BYTES, texts=BODY_BYTES)


def _rollouts(name: str, alias: str) -> str:
    return f"name/{name}/rollouts/{alias}"


def _steps(name: str, alias: str, number: int) -> str:
    return f"name/{name}/rollout/{alias}/{numbered(number)}"
