"""Starts a rollout, says how it is, answers its question, and ends it.

Promises:
- A release passes the alias's gates before anything is published; the registry's alias moves at the end alone.
- One rollout of an alias at a time. `abort` clears the weights first, by the brake, then ends the machine, then writes the end.
- `state` writes the end that the controller could not write, from where the traffic is.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mlpack.deploy.rollouts import driving, trail
from mlpack.deploy.rollouts.aws import Account
from mlpack.deploy.rollouts.trail import End, RegistryTrail, Rollout
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import ConflictError, Place
from mlpack.registry.aliases import aliases, gates, policies
from mlpack.registry.library.access import Access
from mlpack.registry.records import Release
from mlpack.registry.releases.releases import function_zip
from mlpack.registry.rows import leases, rows
from mlpack_control.brake import brake
from mlpack_control.failures import Overtaken
from mlpack_control.handler import Controller
from mlpack_control.moving.function import MARK, FunctionAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """Who leads from here: the registry, the account, and the clock."""

    access: Access
    account: Account
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    told: Callable[[str], None] = field(default=lambda _text: None)

    @property
    def place(self) -> Place:
        """The registry's."""
        return self.access.opened.place


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """What is to be rolled out where. `here`: lead it from this process; `prepare`: begin it, and let somebody else start its
    state machine; `force`, `why`: as of a promotion."""

    reference: str
    alias: str
    settings: Mapping[str, Any]
    here: bool = False
    prepare: bool = False
    force: bool = False
    why: str | None = None


def start(leader: Leader, request: StartRequest) -> Rollout:
    """Start it, and lead it to its end if `here`. GateError, or RecipeError where there is nothing to roll out."""
    place, parsed = leader.place, rows.parse_reference(request.reference)
    if parsed.version is None:
        raise RecipeError(f"{request.reference}: roll out NAME@VERSION, as in {parsed.name}@3")
    registry = None if request.here else _registry(leader.access.where)
    judge = partial(gates.judge, place, policies.of_alias(place, parsed.name, request.alias))
    wish = aliases.MoveRequest(who=leader.access.who(), why=request.why, force=request.force)
    move = aliases.prospect(place, parsed, request.alias, wish, judge)
    if move is None:
        raise RecipeError(f"{parsed.name}:{request.alias} is at {parsed} already: there is nothing to roll out")
    last = trail.latest(place, parsed.name, request.alias)
    if last is not None and RegistryTrail(place, last).end() is None:
        ways = f"`mlpack rollout status {parsed.name}:{request.alias}` shows it, and `mlpack rollout abort` ends it"
        raise RecipeError(f"{last.id}: the rollout of {last.name}@{last.version} is under way: {ways}")
    number = last.number + 1 if last else 1
    release = move.target(place.where)
    document = {
        "id": f"{parsed.name}-{request.alias}-{number}",
        "target": request.settings.get("target") or leader.account.target(request.settings["brake"]),
        "release": _code(release),
        "counting": request.settings["counting"],
        "policy": request.settings["policy"],
        "machine": "" if request.here else request.settings["machine"],
        **({"registry": {**registry, "name": parsed.name, "alias": request.alias, "number": number}} if registry else {}),
    }
    with leases.protected(place, release):
        rollout = _begun(place, move, number, document)
    if request.prepare:
        return rollout
    return _led(leader, rollout) if request.here else _started(leader, rollout)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutState:
    """How a rollout is. `looks`: the evidence of each; `traffic`: where the alias is now, None where it is no function's or nobody
    could be asked."""

    rollout: Rollout
    looks: tuple[Mapping[str, Any], ...]
    end: End | None
    traffic: Mapping[str, Any] | None = None


def state(leader: Leader, name: str, alias: str, number: int | None = None) -> RolloutState:
    """How the newest rollout to an alias is, or that of this number."""
    rollout = _known(leader.place, name, alias, number)
    kept = RegistryTrail(leader.place, rollout)
    looks, end = tuple(kept.looks()), kept.end()
    try:
        traffic = _traffic(leader, rollout)
        if end is None and traffic is not None:
            end = _settled(leader, rollout, looks, traffic)
    except (ServiceError, RecipeError):  # no credentials here, say: the trail is there all the same
        traffic = None
    return RolloutState(rollout=rollout, looks=looks, end=end, traffic=traffic)


def answer(leader: Leader, name: str, alias: str, word: str) -> Rollout:
    """Answer the question of a rollout that asked: advance or roll_back. RecipeError where nobody asked."""
    rollout = _under_way(leader.place, name, alias)
    kept = RegistryTrail(leader.place, rollout)
    looks = tuple(kept.looks())
    last = looks[-1] if looks else None
    if last is None or not (last["action"]["kind"] == "ask" or last["state"]["asked"]):
        raise RecipeError(f"{rollout.id} asks nothing: {last['why'] if last else 'it has not looked yet'}")
    kept.reply(last["state"]["step"], word, leader.access.who())
    return rollout


def abort(leader: Leader, name: str, alias: str, why: str | None) -> End:
    """End a rollout that is under way: all traffic to the old version."""
    rollout = _under_way(leader.place, name, alias)
    reason = f"aborted by {leader.access.who() or 'somebody'}{f': {why}' if why else ''}"
    with leader.account.explained("lambda:UpdateAlias", str(rollout.document["target"])):
        brake({"rollout": rollout.document}, leader.account.client, None)
    if (machine := rollout.document.get("machine")) and leader.account.is_running(machine, rollout.id):
        leader.account.stop(machine, rollout.id, reason)
    kept = RegistryTrail(leader.place, rollout)
    traffic = _traffic(leader, rollout)
    looks = tuple(kept.looks())
    if traffic is not None and looks and traffic["version"] == looks[-1]["state"]["new"]:
        raise RecipeError(f"{rollout.id} has all the traffic already; `mlpack rollout status` writes its end: roll back then")
    kept.finish("rolled_back", reason, leader.clock())
    end = kept.end()
    assert end is not None, "it was just written"
    return end


def _begun(place: Place, move: rows.Move, number: int, document: Mapping[str, Any]) -> Rollout:
    try:
        return trail.begin(place, move, number, document)
    except ConflictError as error:
        raise ServiceError(f"{document['id']}: somebody else started it at this moment: look at its status") from error


def _started(leader: Leader, rollout: Rollout) -> Rollout:
    machine = rollout.document["machine"]
    try:
        leader.account.start(machine, rollout.id, {"rollout": rollout.document})
    except BaseException:
        if not leader.account.is_running(machine, rollout.id):
            RegistryTrail(leader.place, rollout).finish("rolled_back", "its state machine could not be started", leader.clock())
        raise
    return rollout


def _led(leader: Leader, rollout: Rollout) -> Rollout:
    kept = RegistryTrail(leader.place, rollout)
    controller = Controller(leader.account.client, leader.clock, kept)

    def send(do: str, document: Mapping[str, Any]) -> dict[str, Any]:
        return controller.run({"do": do, "document": document})

    with leader.account.explained("lambda:UpdateAlias", str(rollout.document["target"])):
        try:
            driving.drive({"rollout": rollout.document}, send, leader.sleep, leader.told)
        except BaseException as error:  # as the dead man's rule
            with suppress(Exception):
                brake({"rollout": rollout.document}, leader.account.client, None)
            kept.finish("overtaken" if isinstance(error, Overtaken) else "rolled_back", str(error), leader.clock())
            raise
    return rollout


def _registry(where: str) -> dict[str, Any]:
    """Where the controller finds the registry's table. RecipeError for a registry that it cannot reach."""
    if not where.startswith("s3:"):
        ways = "lead it from here with --here, or use a registry on AWS"
        raise RecipeError(f"{where}: a state machine at AWS cannot write its trail into a directory: {ways}")
    from mlpack.registry.aws import opening

    address = opening.parse(where)
    return {"table": address.table, "scope": address.scope}


def _code(release: Release) -> dict[str, Any]:
    """How the platform knows the release's code."""
    code: dict[str, Any] = {"name": release.name, "version": release.version}
    if (path := function_zip(release)) is not None:
        return code | {"sha256": base64.b64encode(bytes.fromhex(release.files[path].hex)).decode()}
    return code | {"digest": str(release.artifact.digest)}


def _known(place: Place, name: str, alias: str, number: int | None) -> Rollout:
    one = trail.latest(place, name, alias) if number is None else trail.numbered_one(place, name, alias, number)
    if one is None:
        what = f"no rollout {number}" if number else "no rollout"
        raise RecipeError(f"{place.where}: there was {what} to {name}:{alias}; `mlpack rollout start {name}@VERSION --to {alias}`")
    return one


def _under_way(place: Place, name: str, alias: str) -> Rollout:
    rollout = _known(place, name, alias, None)
    if (end := RegistryTrail(place, rollout).end()) is not None:
        raise RecipeError(f"{rollout.id} was {end.phase} at {end.when}: there is nothing under way")
    return rollout


def _traffic(leader: Leader, rollout: Rollout) -> dict[str, Any] | None:
    """Where the alias of a function is, and whether this rollout wrote it last."""
    target = rollout.document["target"]
    if target.get("kind") != "function":
        return None
    with leader.account.explained("lambda:GetAlias", f"{target.get('function')}:{target.get('alias')}"):
        seen = FunctionAlias(leader.account.client("lambda"), target["function"], target["alias"], rollout.id).read()
    return {"version": seen.main, "weights": seen.weights, "ours": seen.mark == f"{MARK}{rollout.id}"}


def _settled(leader: Leader, rollout: Rollout, looks: tuple[Mapping[str, Any], ...], traffic: Mapping[str, Any]) -> End | None:
    """The end of a rollout whose machine ended without writing one: what the traffic says, written now."""
    machine = rollout.document.get("machine")
    if not machine or not looks or traffic["weights"] or leader.account.is_running(machine, rollout.id):
        return None
    old, new = looks[-1]["state"]["old"], looks[-1]["state"]["new"]
    finalised = traffic["ours"] and traffic["version"] == new
    phase = "finalised" if finalised else "rolled_back" if traffic["version"] == old else "overtaken"
    kept = RegistryTrail(leader.place, rollout)
    why = str(looks[-1]["why"]) if finalised else "its state machine ended without a word; this is where the traffic is"
    kept.finish(phase, why, leader.clock())
    return kept.end()
