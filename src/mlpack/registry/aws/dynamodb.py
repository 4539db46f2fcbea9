"""Rows in a DynamoDB table. It implements `mlpack.registry.Table`.

    pk  bucket/prefix:PARTITION     several registries may share a table
    sk  SORT
    rev, head (JSON), body, writer  `writer` is a random name for each commit

Promises, besides those of the protocol:
- A write whose answer was lost is not taken for another writer's. boto3 repeats a request that gets no answer; the condition
  then fails on the row that the first attempt wrote, and `writer` shows that the row is ours.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from mlpack.core import retry
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import ConflictError, Delete, Doubt, Key, Put, Row, read_row
from mlpack.registry.aws import promises
from mlpack.registry.aws.clients import Address, Clients
from mlpack.registry.aws.refusals import AwsCall, code, explained, tries

ITEM_BYTES = 400 * 1024
"""The largest item that DynamoDB stores, names of its attributes included. developer guide, "Constraints"."""
TRANSACTION_BYTES = 4 << 20
_BUSY_TRIES, _PAUSES = 30, retry.spread(0.04, 1.0)
_BUSY = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
"""Reasons for which a transaction is cancelled that are temporary."""
Item = Mapping[str, Any]


class DynamoTable:
    """Rows in DynamoDB. Threads may share it."""

    heads_alone = False  # a page is cut where it has read 1 MB, bodies included

    def __init__(self, clients: Clients, address: Address) -> None:
        self._clients = clients
        self._address = address
        self._once = promises.PromiseCheck("conditions of a table")

    def get(self, key: Key) -> Row | None:
        """See `Table.get`."""
        client = self._clients.get("dynamodb")
        with explained(self._call("GetItem")):
            answer = client.get_item(TableName=self._address.table, Key=self._key(key), ConsistentRead=True)
        return self._row(key.partition, answer["Item"]) if "Item" in answer else None

    def query(
        self, partition: str, *, after: str = "", newest_first: bool = False, bodies: bool = False, limit: int | None = None
    ) -> Iterator[Row]:
        """See `Table.query`."""
        condition, values = "pk = :pk", {":pk": {"S": self._partition(partition)}}
        if after:
            condition += f" AND sk {'<' if newest_first else '>'} :after"
            values[":after"] = {"S": after}
        request: dict[str, Any] = {
            "TableName": self._address.table,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": values,
            "ProjectionExpression": "sk, rev, head, body" if bodies else "sk, rev, head",
            "ScanIndexForward": not newest_first,
            "ConsistentRead": True,
        }
        for items in self._pages(request, limit):
            for item in items:
                yield self._row(partition, item)

    def _pages(self, request: dict[str, Any], limit: int | None) -> Iterator[list[Item]]:
        """DynamoDB ends a page after it has read 1 MB, unsent bodies included. While the caller uses a page, the next one is read:
        never more than one, and none before the second page is needed."""
        client, call = self._clients.get("dynamodb"), self._call("Query")

        def ask(remaining: int | None) -> Mapping[str, Any]:
            with explained(call):
                return dict(client.query(**request, **({} if remaining is None else {"Limit": remaining})))

        if limit is not None and limit <= 0:
            return
        answer, remaining, ahead = ask(limit), limit, False
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="query") as pool:
            while "LastEvaluatedKey" in answer:
                remaining = None if remaining is None else remaining - len(answer["Items"])
                if remaining == 0:
                    break
                request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
                following = pool.submit(ask, remaining) if ahead else None
                yield answer["Items"]
                answer, ahead = following.result() if following else ask(remaining), True
        yield answer["Items"]

    def commit(self, *writes: Put | Delete) -> None:
        """See `Table.commit`. RecipeError for a row that is too large for DynamoDB."""
        self._once.sure(self._clients.get("dynamodb"), self.doubt)
        self.write(*writes)

    def doubt(self) -> Doubt | None:
        """See `Place.doubts`."""
        return promises.of_table(self._clients, self._address, self)

    def write(self, *writes: Put | Delete) -> None:
        """As `commit`, for a table that is known to honour conditions or is under test."""
        writer = secrets.token_hex(16)
        items = [self._as_action(write, writer) for write in writes]
        self._check_sizes(writes, items)
        for number in retry.attempts(_BUSY_TRIES, _PAUSES):
            once = self._write_one if len(writes) == 1 else self._write_all
            if once(writes, items, writer, number > 1):
                return
        what = ", ".join(str(write.key) for write in writes)
        raise ServiceError(
            f"{self._address}: {what}: others' transactions were in the way {_BUSY_TRIES} times: try again", retryable=True
        )

    def close(self) -> None:
        """See `Table.close`."""
        self._clients.close()

    # --- writing -----------------------------------------------------------------------------------------------------

    def _write_one(self, writes: Sequence[Put | Delete], items: Sequence[dict[str, Any]], writer: str, again: bool) -> bool:
        """Whether the write is done; False when another's transaction was in the way. `again`: an earlier attempt may have taken
        effect."""
        client, put = self._clients.get("dynamodb"), isinstance(writes[0], Put)
        with explained(self._call("PutItem" if put else "DeleteItem")):
            try:
                (client.put_item if put else client.delete_item)(**items[0])
            except ClientError as error:
                if code(error) == "TransactionConflictException":
                    return False
                if code(error) != "ConditionalCheckFailedException":
                    raise
                self._refused(writes, [(writes[0], error.response.get("Item"))], writer, again or tries(error) > 1)
        return True

    def _write_all(self, writes: Sequence[Put | Delete], actions: Sequence[dict[str, Any]], writer: str, again: bool) -> bool:
        """As `_write_one`, for several writes."""
        client = self._clients.get("dynamodb")
        items = [{"Put" if isinstance(write, Put) else "Delete": one} for write, one in zip(writes, actions, strict=True)]
        with explained(self._call("PutItem" if any("Put" in item for item in items) else "DeleteItem")):
            try:
                # AWS recognises a second attempt by the token. moto does not; there the rows show it.
                client.transact_write_items(TransactItems=items, ClientRequestToken=secrets.token_hex(16))
            except ClientError as error:
                if code(error) != "TransactionCanceledException":
                    raise
                reasons = list(zip(writes, error.response.get("CancellationReasons", []), strict=False))
                failed = [(write, reason.get("Item")) for write, reason in reasons if reason["Code"] == "ConditionalCheckFailed"]
                if failed:
                    self._refused(writes, failed, writer, again or tries(error) > 1)
                elif any(reason["Code"] in _BUSY for _, reason in reasons):
                    return False
                else:
                    reasons_text = "; ".join(
                        f"{write.key}: {reason['Code']} {reason.get('Message', '')}" for write, reason in reasons
                    )
                    raise ServiceError(f"{self._address}: a transaction was refused: {reasons_text or error}") from error
        return True

    def _refused(
        self, writes: Sequence[Put | Delete], failed: Sequence[tuple[Put | Delete, Item | None]], writer: str, again: bool
    ) -> None:
        """Raise what it means that rows were not as expected. It returns when our own earlier attempt had changed them."""
        puts = [(write, item) for write, item in failed if isinstance(write, Put)]
        # The transaction is all or nothing: one row of ours proves that all were written.
        if any(item is not None and item.get("writer") == {"S": writer} for _, item in puts):
            return
        # The rows are gone, whichever writer deleted them.
        if again and len(failed) == len(writes) and not any(isinstance(write, Put) or item for write, item in failed):
            return
        if again and puts and all(item is None or int(item["rev"]["N"]) > write.expect + 1 for write, item in puts):
            raise ServiceError(
                f"{self._address}: {puts[0][0].key}: the answer to a write was lost, and others have written since: look again",
                retryable=True,
            )
        key = failed[0][0].key
        raise ConflictError(f"{self._address}: {key} was changed by another", key)

    def _as_action(self, write: Put | Delete, writer: str) -> dict[str, Any]:
        """The write in DynamoDB's form, with its condition."""
        action: dict[str, Any] = {"TableName": self._address.table, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        if write.expect:
            action |= {"ConditionExpression": "rev = :expect", "ExpressionAttributeValues": {":expect": {"N": str(write.expect)}}}
        else:
            action |= {"ConditionExpression": "attribute_not_exists(pk)"}
        if isinstance(write, Delete):
            return action | {"Key": self._key(write.key)}
        item = self._key(write.key) | {
            "rev": {"N": str(write.expect + 1)},
            "head": {"S": json.dumps(write.head, sort_keys=True, ensure_ascii=False)},
            "writer": {"S": writer},
        }
        return action | {"Item": item | ({"body": {"B": write.body}} if write.body else {})}

    def _check_sizes(self, writes: Sequence[Put | Delete], items: Sequence[dict[str, Any]]) -> None:
        sizes = [_item_bytes(one["Item"]) if "Item" in one else 0 for one in items]
        for write, size in zip(writes, sizes, strict=True):
            if size > ITEM_BYTES:
                raise RecipeError(
                    f"{self._address}: the record {write.key} would have {size:,} bytes, and DynamoDB keeps at most "
                    f"{ITEM_BYTES:,}: a release of that many files does not fit; publish fewer and larger ones"
                )
        if sum(sizes) > TRANSACTION_BYTES:
            raise RecipeError(
                f"{self._address}: {len(writes)} records of {sum(sizes):,} bytes, and DynamoDB takes at most {TRANSACTION_BYTES:,} "
                "at once"
            )

    # --- forms -------------------------------------------------------------------------------------------------------

    def _partition(self, partition: str) -> str:
        return f"{self._address.scope}:{partition}"

    def _key(self, key: Key) -> dict[str, Any]:
        return {"pk": {"S": self._partition(key.partition)}, "sk": {"S": key.sort}}

    def _row(self, partition: str, item: Item) -> Row:
        key = Key(partition, str(item["sk"]["S"]))
        head, body, revision = (item.get(name, {}) for name in ("head", "body", "rev"))
        number = str(revision.get("N", ""))
        return read_row(
            str(self._address),
            key,
            str(head.get("S", "")),
            bytes(body["B"]) if "B" in body else "" if body else b"",
            int(number) if number.isdecimal() and len(number) < 19 else None,
        )

    def _call(self, operation: str) -> AwsCall:
        client = self._clients.get("dynamodb")
        region, partition = client.meta.region_name, client.meta.partition
        arn = f"arn:{partition}:dynamodb:{region}:*:table/{self._address.table}"
        return AwsCall(where=str(self._address), action=f"dynamodb:{operation}", resource=arn)


def _item_bytes(item: Item) -> int:
    """The size of an item as DynamoDB counts it: names and values in UTF-8; a number takes at most 21 bytes."""
    size = 0
    for name, typed in item.items():
        for kind, value in typed.items():
            size += len(name) + (21 if kind == "N" else len(value.encode() if kind == "S" else value))
    return size
