"""One builder at a time: a lease in a DynamoDB table, with an expiry and a heartbeat.

    MLPACK_LEASES = dynamodb://table       key: `id` (string)
    {"id": "engine/<key>", "owner": ..., "expires": seconds since 1970, "ttl": the same and a day, for the table's TTL}

Promises: of any number of processes at most one holds a lease that has not run out, where the table keeps conditions, which it is
asked (`is_kept`); one whose holder died is free `LEASE_S` after its last heartbeat, counted by the clocks of the machines, which
have to agree to within that; one whose holder hangs is free after `MOST_S` and that. Losing it is noticed, and told.
Will not: make a lost lease harmless; publishing is conditional, and that does.
"""

import os
import threading
import time
import uuid

from mlpack_runtime import aws
from mlpack_runtime.aws import promises
from mlpack_runtime.tensorrt.engine_store import SERVICE, EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

LEASE_S = 120
"""How long after its last heartbeat a lease is free."""
HEARTBEAT_S = 30
"""How often a holder renews."""
MOST_S = 2700
"""How long a holder renews: whoever is not done by then hangs, and those who wait are to have their turn. More than a build's
limit, less than `engine_make.WAIT_S`."""
CONNECT_S, READ_S, ATTEMPTS = 2, 5, 2
"""Of one call. A heartbeat counts from before its first try, so that all of them have to be over well within the lease."""
_DAY_S = 86_400
_REFUSED = "ConditionalCheckFailedException"


NOT_KEPT = (
    "this table takes writes whose conditions do not hold, so that its leases keep nobody from building at the same time: the work "
    "may be done several times, and one engine is kept"
)


class Lease:
    """A lease that may be taken. `lease_s`, `heartbeat_s` and `most_s` are seconds."""

    def __init__(
        self, address: str, name: str, *, lease_s: float = LEASE_S, heartbeat_s: float = HEARTBEAT_S, most_s: float = MOST_S
    ) -> None:
        try:
            _, self._table, _ = aws.split_uri(address, "dynamodb")
            self._client = aws.client("dynamodb", connect_s=CONNECT_S, read_s=READ_S, attempts=ATTEMPTS)
        except aws.AwsError as error:
            raise EngineError(f"MLPACK_LEASES: {error}") from None
        self._name, self._lease_s, self._heartbeat_s, self._most_s = name, lease_s, heartbeat_s, most_s
        self._owner = f"{os.uname().nodename}/{os.getpid()}/{uuid.uuid4()}"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost = False

    def take(self) -> bool:
        """Whether it is ours now. It was free, or its holder's time had run out."""
        now = time.time()
        try:
            self._client.put_item(
                TableName=self._table,
                Item={"id": {"S": self._name}, "owner": {"S": self._owner}, **self._times(now)},
                # Ours: the answer to an earlier try was lost, and this is the client's next.
                ConditionExpression="attribute_not_exists(id) OR expires < :now OR #owner = :owner",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues={":now": {"N": f"{now:.3f}"}, ":owner": {"S": self._owner}},
            )
        except aws.failures() as error:
            if aws.code(error) == _REFUSED:
                return False
            raise EngineError(f"no lease on {self._name} from the table {self._table}: {aws.told(error)}", SERVICE) from None
        return True

    def is_kept(self) -> bool:
        """Whether the table would refuse this lease to another now. It is asked with a write; Amazon's own is not."""
        if promises.is_amazons(self._client):
            return True
        ours = {"id": {"S": self._name}, "owner": {"S": self._owner}, **self._times(time.time())}
        try:
            self._client.put_item(TableName=self._table, Item=ours, ConditionExpression="attribute_not_exists(id)")
        except aws.failures() as error:
            # Any other failure is the heartbeat's to notice.
            return aws.code(error) == _REFUSED or aws.code(error) not in promises.UNKNOWN
        return False

    def __enter__(self) -> "Lease":
        """Keep it alive from a thread of its own."""
        self._thread = threading.Thread(target=self._beat, name="engine-lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None") -> None:
        """Give it back, if it is still ours. A service that fails here costs the others `LEASE_S`, nothing else."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self._client.delete_item(TableName=self._table, Key={"id": {"S": self._name}}, **self._ours())
        except aws.failures():
            pass

    def renew(self) -> bool:
        """One heartbeat: whether it is still ours."""
        expires = self._times(time.time())
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"id": {"S": self._name}},
                UpdateExpression="SET expires = :expires, #ttl = :ttl",
                ConditionExpression="#owner = :owner",
                ExpressionAttributeNames={"#owner": "owner", "#ttl": "ttl"},
                ExpressionAttributeValues={":owner": {"S": self._owner}, ":expires": expires["expires"], ":ttl": expires["ttl"]},
            )
        except aws.failures() as error:
            if aws.code(error) == _REFUSED:
                self.lost = True
                return False
            return True  # the table did not answer; the next heartbeat tries again, well within the lease
        return True

    def _beat(self) -> None:
        end = time.monotonic() + self._most_s
        while not self._stop.wait(self._heartbeat_s):
            if time.monotonic() > end or not self.renew():
                self.lost = True
                return

    def _times(self, now: float) -> "dict[str, Any]":
        expires = now + self._lease_s
        return {"expires": {"N": f"{expires:.3f}"}, "ttl": {"N": str(int(expires + _DAY_S))}}

    def _ours(self) -> "dict[str, Any]":
        return {
            "ConditionExpression": "#owner = :owner",
            "ExpressionAttributeNames": {"#owner": "owner"},
            "ExpressionAttributeValues": {":owner": {"S": self._owner}},
        }
