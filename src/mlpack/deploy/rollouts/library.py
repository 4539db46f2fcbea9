"""Rollouts in the library: `import mlpack`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpack.core.environment import AnyPath
from mlpack.core.progress import Silent
from mlpack.errors import RecipeError
from mlpack.registry.library.access import open_access

if TYPE_CHECKING:
    from mlpack.deploy.rollouts.leading import Leader, RolloutState


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStatus:
    """A rollout and its trail.

    Attributes:
        id: What it is called at AWS.
        name: The model.
        alias: Where its release goes.
        number: Which rollout of this alias it is, from 1.
        version: Its release.
        when: When it was started: UTC, ISO 8601.
        who: Who started it; None where nobody knows.
        phase: begun, published, warm, baking, finalised, rolled_back or overtaken.
        percent: How much of the traffic the new version was given last.
        why: The reason of the last decision, or of the end.
        looks: The evidence of every decision, in order.
        ended: When it ended; None while it is under way.
        traffic: Where the alias of the function is now; None where nobody could be asked.
        document: What the controller goes by: the state machine's input is `{"rollout": document}`.
    """

    id: str
    name: str
    alias: str
    number: int
    version: int
    when: str
    who: str | None
    phase: str
    percent: int
    why: str
    looks: tuple[Mapping[str, Any], ...] = field(repr=False)
    ended: str | None
    traffic: Mapping[str, Any] | None
    document: Mapping[str, Any] = field(repr=False)

    def replay(self) -> Iterator[tuple[int, bool]]:
        """Make every decision again from its own evidence.

        Returns:
            The number of each look, from 1, and whether the same bytes came of it.
        """
        from mlpack_control import Policy, replay

        for number, replayed in enumerate(replay(Policy.of(self.document["policy"]), self.looks), 1):
            yield number, replayed.same

    def to_json(self) -> dict[str, Any]:
        """Give the status as JSON values."""
        keys = ("id", "name", "alias", "number", "version", "when", "who", "phase", "percent", "why", "ended", "traffic")
        return {**{key: getattr(self, key) for key in keys}, "looks": list(self.looks)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutOptions:
    """How a rollout is started.

    Attributes:
        here: Lead it from this process until it ends, in the place of the state machine.
        prepare: Begin it, and let somebody else start the state machine with its document: a retraining's machine does.
        force: Start although gates refuse; the history keeps that, and why.
        why: The reason, for the history. `force` needs one.
        told: Told of each decision in a sentence, with `here`. None is nobody.
    """

    here: bool = False
    prepare: bool = False
    force: bool = False
    why: str | None = None
    told: Callable[[str], None] | None = None


def start_rollout(
    reference: str,
    to: str,
    deployment: AnyPath | Mapping[str, Any],
    *,
    options: RolloutOptions = RolloutOptions(),
    registry: AnyPath | None = None,
    environ: Mapping[str, str] | None = None,
) -> RolloutStatus:
    """Start a rollout: a release gets an alias's traffic step by step, and the alias at the end.

    Args:
        reference: `NAME@VERSION`. The stack has brought its code already.
        to: The alias, such as `prod`. The release has to pass its gates.
        deployment: The directory that `mlpack deploy write` made, or what its `rollout.json` says.
        options: How it is started.
        registry: As of `open_registry`.
        environ: As of `open_registry`.

    Returns:
        How it is: started, or led from here to its end.

    Raises:
        RecipeError: There is no such release, nothing to roll out, another rollout is under way, or the deployment leads none.
        MlpackError: A gate refuses.
        ServiceError: AWS or the registry could not be reached, or somebody else moved the traffic.
    """
    from mlpack.deploy.rollouts import leading, settings

    if isinstance(deployment, Mapping):
        known = settings.checked(dict(deployment), "the settings")
    else:
        known = settings.read(Path(os.fspath(deployment)))
    leader = _leader(registry, environ, options.told)
    request = leading.StartRequest(
        reference=reference,
        alias=to,
        settings=known,
        here=options.here,
        prepare=options.prepare,
        force=options.force,
        why=options.why,
    )
    rollout = leading.start(leader, request)
    return _status(leading.state(leader, rollout.name, rollout.alias, rollout.number))


def rollout_status(
    reference: str,
    *,
    number: int | None = None,
    registry: AnyPath | None = None,
    environ: Mapping[str, str] | None = None,
) -> RolloutStatus:
    """Say how a rollout is. An end that the controller could not write is written now.

    Args:
        reference: `NAME:ALIAS`.
        number: Which one. None is the newest.
        registry: As of `open_registry`.
        environ: As of `open_registry`.

    Returns:
        The rollout with its trail.

    Raises:
        RecipeError: There was none.
        ServiceError: The registry could not be reached, or a row is damaged.
    """
    from mlpack.deploy.rollouts import leading

    return _status(leading.state(_leader(registry, environ), *_alias(reference), number))


def answer_rollout(
    reference: str,
    answer: Literal["advance", "roll_back"],
    *,
    registry: AnyPath | None = None,
    environ: Mapping[str, str] | None = None,
) -> RolloutStatus:
    """Answer a rollout that asks, because it is undecided for too long. The controller reads it at its next look.

    Args:
        reference: `NAME:ALIAS`.
        answer: What it is to do.
        registry: As of `open_registry`.
        environ: As of `open_registry`.

    Returns:
        How it is now.

    Raises:
        RecipeError: It asks nothing, or was answered already.
        ServiceError: The registry could not be reached.
    """
    from mlpack.deploy.rollouts import leading

    leader = _leader(registry, environ)
    leading.answer(leader, *_alias(reference), answer)
    return _status(leading.state(leader, *_alias(reference)))


def abort_rollout(
    reference: str, *, why: str | None = None, registry: AnyPath | None = None, environ: Mapping[str, str] | None = None
) -> RolloutStatus:
    """End a rollout that is under way: all traffic goes to the old version, at once.

    Args:
        reference: `NAME:ALIAS`.
        why: The reason, for its trail.
        registry: As of `open_registry`.
        environ: As of `open_registry`.

    Returns:
        How it ended.

    Raises:
        RecipeError: Nothing is under way.
        ServiceError: AWS or the registry could not be reached.
    """
    from mlpack.deploy.rollouts import leading

    leader = _leader(registry, environ)
    leading.abort(leader, *_alias(reference), why)
    return _status(leading.state(leader, *_alias(reference)))


def _leader(registry: AnyPath | None, environ: Mapping[str, str] | None, told: Callable[[str], None] | None = None) -> Leader:
    from mlpack.deploy.rollouts.aws import Account
    from mlpack.deploy.rollouts.leading import Leader

    access = open_access(registry, None, Silent(), environ)
    return Leader(access=access, account=Account(access.where), told=told or (lambda _text: None))


def _alias(text: str) -> tuple[str, str]:
    from mlpack.registry.rows import rows

    parsed = rows.parse_reference(text)
    if parsed.alias is None:
        raise RecipeError(f"{text!r} is not an alias: write NAME:ALIAS, as in {parsed.name}:prod")
    return parsed.name, parsed.alias


def _status(state: RolloutState) -> RolloutStatus:
    rollout, end, looks = state.rollout, state.end, state.looks
    last: Mapping[str, Any] = looks[-1] if looks else {"state": {"phase": "begun"}, "why": "it has not looked yet"}
    shifts = [look["action"]["percent"] for look in looks if look["action"]["kind"] == "shift"]
    percent = (100 if end.phase == "finalised" else 0) if end else (shifts[-1] if shifts else 0)
    return RolloutStatus(
        id=rollout.id,
        name=rollout.name,
        alias=rollout.alias,
        number=rollout.number,
        version=rollout.version,
        when=rollout.when,
        who=rollout.who,
        phase=end.phase if end else last["state"]["phase"],
        percent=percent,
        why=end.why if end else last["why"],
        looks=looks,
        ended=end.when if end else None,
        traffic=state.traffic,
        document=rollout.document,
    )
