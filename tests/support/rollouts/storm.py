"""Rollouts in a storm: at each request anybody else may act in between, and anybody may die before it or after it took effect.

Two controllers (of one rollout, or of two), a person, and the brake act on one alias. `Storm` plays one such story by a seed and
says what was wrong with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.rollouts.alias_api import AliasApi
from tests.support.rollouts.metrics import Metrics, broken, healthy
from tests.support.rollouts.rollouts import ROLLOUT, Account, Memory, end_of

from mlpack_control.failures import NotReady, Overtaken
from mlpack_control.moving.function import MARK

POLICY = {**ROLLOUT["policy"], "bake_s": 60, "expire_s": 7200}
VERSIONS = {"7", "8"}
_DEEPEST = 2


class Crash(BaseException):
    """A process died: nothing of it catches this."""


@dataclass
class Machine:
    """A state machine that leads a rollout. `life`: its events, one at each step."""

    name: str
    rollout: dict[str, Any]
    life: Iterator[None]
    over: bool = False
    dead: bool = False


@dataclass
class Storm:
    """One story. `problems`: what should not have been."""

    seed: int
    api: AliasApi = field(default_factory=AliasApi)
    trails: dict[str, Memory] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.metrics = Metrics(self.random.choice([healthy, healthy, broken]))
        self.now = 0.0
        self._depth = 0
        self._crashes = self.random.choice([0.0, 0.02, 0.1])
        self._others = self.random.choice([0.0, 0.1, 0.3])
        self._people = self.random.choice([0.0, 0.1])
        self.api.before, self.api.after = self._before, self._after
        ids = ["fashion-prod-1", self.random.choice(["fashion-prod-1", "fashion-prod-2"])]
        self.machines = []
        for number, name in enumerate(ids):
            rollout = {**ROLLOUT, "id": name, "policy": POLICY}
            machine = Machine(f"machine {number}", rollout, iter(()))
            machine.life = self._life(machine)
            self.machines.append(machine)

    def run(self) -> list[str]:
        """Play it to its end; the problems."""
        for _ in range(1000):
            alive = [machine for machine in self.machines if not machine.over]
            if not alive:
                break
            self._step(self.random.choice(alive))
        else:
            self.problems.append("it never ended")
        self._crashes = self._others = 0.0
        for machine in self.machines:
            self._brake(end_of(machine.rollout))  # the dead man's rule, once it comes through
        self._judge()
        return self.problems

    def _judge(self) -> None:
        alias = self.api.alias
        by_hand = not alias.description.startswith(MARK)
        if alias.main not in VERSIONS or (alias.weights and not by_hand):
            self.problems.append(f"it ended at {alias.main} with {alias.weights}")
        revisions = [revision for _, _, revision in self.api.history]
        if None in revisions or len(set(revisions)) < len(revisions):
            self.problems.append(f"two moved one revision: {revisions}")
        for main, weights, _ in self.api.history:
            if main not in VERSIONS or set(weights) - VERSIONS or any(share not in (0.05, 0.25, 0.5) for share in weights.values()):
                self.problems.append(f"traffic went to {main} with {weights}")
        for name, trail in self.trails.items():
            if len(trail.ends) > 1:
                self.problems.append(f"{name} ended as {trail.ends}")
            if trail.ends == ["finalised"] and "8" not in [main for main, _, _ in self.api.history]:
                self.problems.append(f"{name} says that it was finalised")

    # --- who acts -----------------------------------------------------------------------------------------------------

    def _step(self, machine: Machine) -> None:
        """One event of a machine. One that died is ended by AWS, and the rule on its end starts the brake."""
        try:
            next(machine.life)
        except StopIteration:
            machine.over = True
        except Crash:
            machine.over = machine.dead = True
            self._brake(end_of(machine.rollout))

    def _life(self, machine: Machine) -> Iterator[None]:
        account = self._account(machine)
        document: dict[str, Any] = {"rollout": machine.rollout}
        try:
            while True:
                document = self._send(account, "decide", document)
                yield
                action = document["action"]
                if action["kind"] == "end":
                    return
                if action["kind"] in ("hold", "ask"):
                    self.now += action["seconds"]
                    continue
                document = self._send(account, action["kind"], document)
                yield
                if document["state"]["phase"] in ("finalised", "rolled_back"):
                    return
        except Overtaken:
            self._brake(end_of(machine.rollout))
        except Exception:  # noqa: BLE001 - as States.ALL
            try:
                self._send(account, "roll_back", document)
            except Exception:  # noqa: BLE001
                self._brake(end_of(machine.rollout))

    def _send(self, account: Account, do: str, document: dict[str, Any]) -> dict[str, Any]:
        """An event with the tries that the state machine has. A Lambda that died in it was sent it again; a machine may die."""
        for number in range(3):
            account.now = self.now
            try:
                return account.send(do, document)
            except NotReady:
                self.now += 10
            except Crash:
                if number == 2 or self.random.random() < 0.5:
                    raise
        return account.send(do, document)

    def _account(self, machine: Machine) -> Account:
        trail = self.trails.setdefault(machine.rollout["id"], Memory())
        return Account(api=self.api, metrics=self.metrics, trail=trail)

    def _brake(self, event: dict[str, Any]) -> None:
        """EventBridge sends an event again when the brake died."""
        for _ in range(20):
            try:
                Account(api=self.api).brake(event)
            except (Crash, NotReady):
                continue
            break

    def _person(self) -> None:
        alias, where = self.api.alias, {"FunctionName": "fashion-prod", "Name": "live", "RevisionId": self.api.alias.revision}
        published = [version for version in ("7", "8") if version in self.api.versions]
        choice = self.random.choice(["clear", "finalise", "back", "half", "take"])
        if choice == "clear":
            self.api.update_alias(**where, RoutingConfig={})
        elif choice in ("finalise", "back"):
            main = published[-1] if choice == "finalise" else "7"
            self.api.update_alias(**where, FunctionVersion=main, RoutingConfig={})
        elif alias.main == "7" and "8" in published:
            more = {"Description": "by hand"} if choice == "take" else {}
            self.api.update_alias(**where, RoutingConfig={"AdditionalVersionWeights": {"8": 0.5}}, **more)

    # --- what happens at a request ------------------------------------------------------------------------------------

    def _before(self, _call: str) -> None:
        if self._depth < _DEEPEST and self.random.random() < self._others:
            self._between(self.random.choice([self._machine, self._alarm, *([self._person] if self._people else [])]))
        self._die()

    def _after(self, _call: str) -> None:
        self._die()

    def _between(self, act: Callable[[], None]) -> None:
        self._depth += 1
        try:
            act()
        except Crash:
            pass
        except Exception as error:  # noqa: BLE001 - a person reads what AWS refuses
            if act != self._person:
                self.problems.append(f"{type(error).__name__}: {error}")
        finally:
            self._depth -= 1

    def _machine(self) -> None:
        """A machine that is not in the middle of an event itself."""
        able = [machine for machine in self.machines if not machine.over and not machine.life.gi_running]  # type: ignore[attr-defined]
        if able:
            self._step(self.random.choice(able))

    def _alarm(self) -> None:
        Account(api=self.api).brake({"rollout": self.random.choice(self.machines).rollout})

    def _die(self) -> None:
        if self.random.random() < self._crashes:
            raise Crash


def problems(seeds: range) -> dict[int, list[str]]:
    """What was wrong with the stories of these seeds, by seed."""
    stories = {seed: Storm(seed).run() for seed in seeds}
    return {seed: wrong for seed, wrong in stories.items() if wrong}
