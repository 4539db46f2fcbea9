"""Where messages go that can never be answered: the queue that is set, or the one that the queue's own redrive policy names.

Promises: "there is none" is said only by the service (no policy, no right to ask, no such queue), and once; a service that is away
says nothing, and is asked again when a message needs it. Will not: send anything.
"""

from mlpack_runtime import aws, jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FINAL = (
    "AccessDenied", "AccessDeniedException", "AuthorizationError", "AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue",
    "QueueDoesNotExist", "InvalidAddress", "UnsupportedOperation",
)  # fmt: skip
"""Answers of SQS that asking again does not change."""


class DeadLetters:
    """The dead-letter queue of `queue_url`; `url`: the one that is set, "" where it is to be looked up. Threads may share it."""

    def __init__(self, client: "Any", queue_url: str, url: str, say: "Callable[[str], None]") -> None:
        self._client = client
        self._queue_url = queue_url
        self._say = say
        self._known = bool(url)
        self._url = url or None

    def url(self) -> "str | None":
        """Its address; None where there is none. Raises `aws.failures()` when that cannot be known now."""
        if not self._known:
            try:
                self._url = self._asked()
            except aws.failures() as error:
                if aws.code(error) not in _FINAL:
                    raise
                self._say(f"the queue's dead-letter queue cannot be found (set MLPACK_DLQ_URL): {aws.told(error)}")
            self._known = True
        return self._url

    def _asked(self) -> "str | None":
        answer = self._client.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=["RedrivePolicy"])
        policy = answer.get("Attributes", {}).get("RedrivePolicy")
        if not policy:
            return None
        account, name = str(jsontext.loads(policy).get("deadLetterTargetArn")).split(":")[-2:]
        return str(self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"])
