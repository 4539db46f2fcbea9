"""The trail of a rollout in a registry on AWS: rows of DynamoDB in the form of `mlpack.registry`.

    name/NAME/rollouts/ALIAS              000000004    a rollout: what it goes by, and the move of the alias that it is to end with
    name/NAME/rollout/ALIAS/000000004     000000001    a look: its evidence
    name/NAME/rollout/ALIAS/000000004     answer 1     what a person answered about the second step
    name/NAME/rollout/ALIAS/000000004     end          how it ended

Promises: no row is ever changed; of two ends one is written; the alias moves together with the end, and only if nobody moved it
since the start.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from mlpack_control.failures import code_of
from mlpack_control.replaying import canonical

END, ANSWER = "end", "answer "


class Trail(Protocol):
    """Where looks and the end are kept."""

    def record(self, look: int, evidence: Mapping[str, Any]) -> Any:
        """Keep the evidence of a look. What was kept of this look: another's evidence, if that was there first."""

    def finish(self, phase: str, why: str, now: float) -> bool:
        """Keep the end, and move the registry's alias if it is `finalised`. Whether the alias is where it should be now."""

    def answer(self, step: int) -> str | None:
        """What a person answered about this step."""


class NoTrail:
    """Of a rollout without a registry: the state machine's own history is all there is."""

    def record(self, look: int, evidence: Mapping[str, Any]) -> Any:
        """See `Trail`."""
        return evidence

    def finish(self, phase: str, why: str, now: float) -> bool:
        """See `Trail`."""
        return True

    def answer(self, step: int) -> str | None:
        """See `Trail`."""
        return None


class DynamoTrail:
    """See `Trail`. `registry`: table, scope (the registry's prefix of partitions), name, alias and number of the rollout."""

    def __init__(self, client: Any, registry: Mapping[str, Any]) -> None:
        self._client = client
        self._table = registry["table"]
        self._scope = registry["scope"]
        self._name, self._alias = registry["name"], registry["alias"]
        self._number = f"{registry['number']:09d}"
        self._steps = f"name/{self._name}/rollout/{self._alias}/{self._number}"

    def record(self, look: int, evidence: Mapping[str, Any]) -> Any:
        """See `Trail`."""
        head = {"kind": evidence["action"]["kind"], "why": evidence["why"][:1000]}
        put = self._put(self._steps, f"{look:09d}", head, canonical(evidence))
        try:
            self._client.put_item(**put)
        except Exception as error:
            if code_of(error) != "ConditionalCheckFailedException":
                raise
            return json.loads(self._get(self._steps, f"{look:09d}")["body"]["B"])
        return evidence

    def finish(self, phase: str, why: str, now: float) -> bool:
        """See `Trail`."""
        end = self._put(self._steps, END, {"phase": phase, "why": why[:1000], "when": timestamp(now)})
        moves = self._moves(now) if phase == "finalised" else []
        while True:
            try:
                self._client.transact_write_items(TransactItems=[{"Put": put} for put in (end, *moves)])
            except Exception as error:
                if code_of(error) != "TransactionCanceledException":
                    raise
                reasons = getattr(error, "response", {}).get("CancellationReasons", [])
                failed = [reason.get("Code") == "ConditionalCheckFailed" for reason in reasons]
                if failed[:1] == [True]:
                    return self._is_there(moves)  # it has ended already
                if not any(failed) or not moves:
                    raise
                moves = []  # somebody moved the alias: the end is written alone
            else:
                return phase != "finalised" or bool(moves)

    def answer(self, step: int) -> str | None:
        """See `Trail`."""
        key = self._key(self._steps, f"{ANSWER}{step}")
        item = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return str(json.loads(item["head"]["S"]).get("answer")) if item else None

    def _moves(self, now: float) -> list[dict[str, Any]]:
        """The move of the registry's alias, as the start prepared it."""
        row = self._get(f"name/{self._name}/rollouts/{self._alias}", self._number)
        move = json.loads(row["body"]["B"])["move"]
        head = {**move["head"], "when": max(timestamp(now), move["head"]["when"])}
        puts = [self._put(f"name/{self._name}/alias/{self._alias}", f"{move['revision']:09d}", head, move["body"].encode())]
        if move["revision"] == 1:
            puts.append(self._put(f"name/{self._name}/aliases", self._alias, {}))
        return puts

    def _is_there(self, moves: list[dict[str, Any]]) -> bool:
        """Whether the prepared move was made."""
        for put in moves[:1]:
            key = {name: put["Item"][name] for name in ("pk", "sk")}
            answer = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
            body = answer.get("Item", {}).get("body", {}).get("B")
            return body is not None and bytes(body) == put["Item"]["body"]["B"]
        return True

    def _get(self, partition: str, sort: str) -> Mapping[str, Any]:
        answer = self._client.get_item(TableName=self._table, Key=self._key(partition, sort), ConsistentRead=True)
        item: Mapping[str, Any] = answer["Item"]
        return item

    def _key(self, partition: str, sort: str) -> dict[str, Any]:
        return {"pk": {"S": f"{self._scope}:{partition}"}, "sk": {"S": sort}}

    def _put(self, partition: str, sort: str, head: Mapping[str, Any], body: bytes = b"") -> dict[str, Any]:
        item = {
            **self._key(partition, sort),
            "rev": {"N": "1"},
            "head": {"S": json.dumps(head, sort_keys=True, ensure_ascii=False)},
            "writer": {"S": os.urandom(16).hex()},
        }
        body_part = {"body": {"B": body}} if body else {}
        return {"TableName": self._table, "ConditionExpression": "attribute_not_exists(pk)", "Item": item | body_part}


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as UTC, ISO 8601, to the millisecond, as the registry writes them."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
