"""The Lambda that acts: one event of the rollout's state machine, done and answered.

Promises: traffic goes to the two versions of its document and to no other; each event may come twice; evidence is kept before its
action is done, and where it cannot be kept nothing advances; a roll-back waits for nothing but the traffic's own API.

Events and answers are in docs/decisions/0060-a-controller-that-can-wait.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mlpack_control.counting import alarm_states, observe
from mlpack_control.deciding import RED, decide
from mlpack_control.failures import NotReady, Overtaken, Refused
from mlpack_control.moving import Clients, Mover, mover
from mlpack_control.records import Action, Policy, State
from mlpack_control.replaying import canonical
from mlpack_control.trail import DynamoTrail, NoTrail, Trail

Document = dict[str, Any]
_clients: dict[str, Any] = {}


def handler(event: Mapping[str, Any], _context: object = None) -> Document:
    """Lambda's entry."""
    return Controller(aws, time.time).run(event)


def aws(service: str) -> Any:
    """boto3's client, which Lambda's Python has. Importing it takes longer than all of this package."""
    if service not in _clients:
        import boto3

        _clients[service] = boto3.client(service)
    return _clients[service]


class Controller:
    """Does one event after the other. `trail`: the trail of a rollout where it is not in DynamoDB."""

    def __init__(self, clients: Clients, clock: Callable[[], float], trail: Trail | None = None) -> None:
        self._clients = clients
        self._clock = clock
        self._given_trail = trail

    def run(self, event: Mapping[str, Any]) -> Document:
        """The document after this event. NotReady, Overtaken or Refused where it was not done."""
        do, document = event.get("do"), dict(event.get("document") or {})
        rollout = document.get("rollout") or {}
        moves = mover(rollout.get("target") or {}, str(rollout.get("id", "")), self._clients)
        if do == "decide":
            return self._decide(document, rollout, moves)
        if do == "roll_back":
            return self._roll_back(document, moves)
        if do != (document.get("action") or {}).get("kind"):
            raise Refused(f"the event says {do!r}, and the decision was {document.get('action')}")
        state = State.of(document.get("state"))
        if do == "publish":
            document["state"] = replace(state, new=moves.publish(rollout.get("release") or {})).json()
        elif do == "warm":
            moves.warm(_new(state), Policy.of(rollout["policy"]).provisioned)
        elif do == "shift":
            percent = document["action"]["percent"]
            document["revision"] = moves.shift(state.old, _new(state), percent, document["revision"])
        elif do == "finalise":
            document["revision"] = moves.finalise(state.old, _new(state), document["revision"])
            self._finish(document, "finalised")
        return document

    def _decide(self, document: Document, rollout: Mapping[str, Any], moves: Mover) -> Document:
        policy, now = Policy.of(rollout.get("policy")), self._clock()
        if not document.get("state"):
            old, document["revision"] = moves.begin()
            alarms = alarm_states(self._clients, (rollout.get("counting") or {}).get("alarms", ()))
            red = tuple(sorted(name for name, state in alarms.items() if state == RED))
            document["state"] = State(old=old, begun=now, since=now, red=red).json()
        state, look = State.of(document["state"]), document.get("looks", 0) + 1
        observed = observe(self._clients, rollout, state, now) if state.phase == "baking" else {}
        if state.asked and (answer := self._trail(document).answer(state.step)) is not None:
            observed["answer"] = answer
        after, action, evidence = decide(policy, state, observed, now)
        if action.kind != "end":
            after, action, evidence = self._kept(document, policy, look, (after, action, evidence))
        return {**document, "state": after.json(), "action": action.json(), "why": evidence["why"], "looks": look}

    def _kept(
        self, document: Document, policy: Policy, look: int, decision: tuple[State, Action, dict[str, Any]]
    ) -> tuple[State, Action, dict[str, Any]]:
        """The decision whose evidence is in the trail: this one, or that of the event before whose answer was lost."""
        _, action, evidence = decision
        try:
            kept = self._trail(document).record(look, evidence)
        except Exception as error:
            if action.kind == "roll_back":
                return decision
            raise NotReady(f"the trail cannot be written, so nothing advances: {error}") from error
        if canonical(kept) == canonical(evidence):
            return decision
        if kept["state"] != evidence["state"] and look > 1:
            raise Overtaken("another controller leads this rollout: its trail has another state")
        return decide(policy, State.of(kept["state"]), kept["observed"], kept["at"])

    def _roll_back(self, document: Document, moves: Mover) -> Document:
        if not document.get("state"):
            now = self._clock()
            return {**document, "state": State(phase="rolled_back", old="", begun=now, since=now).json()}
        state = State.of(document["state"])
        document["revision"] = moves.roll_back(state.old, state.new, document["revision"])
        document["state"] = replace(state, phase="rolled_back").json()
        self._finish(document, "rolled_back")
        return document

    def _finish(self, document: Document, phase: str) -> None:
        """The end in the trail. Traffic is where it belongs already: `mlpack rollout status` writes what could not be written."""
        try:
            done = self._trail(document).finish(phase, str(document.get("why", "")), self._clock())
            document["registry"] = "written" if done else "moved by somebody else"
        except Exception as error:  # noqa: BLE001 - nothing about the registry may undo what the traffic does
            document["registry"] = f"not written: {type(error).__name__}"

    def _trail(self, document: Document) -> Trail:
        if self._given_trail is not None:
            return self._given_trail
        registry = document["rollout"].get("registry")
        return DynamoTrail(self._clients("dynamodb"), registry) if registry else NoTrail()


def _new(state: State) -> str:
    if state.new is None:
        raise Refused("no version is published yet")
    return state.new
