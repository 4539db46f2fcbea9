"""Where messages go that can never be answered: the queue that is set, or the one that the queue's own redrive policy names.

Promises: "there is none" is said only by the service: there is no policy, or the right to ask has been missing for `SETTLE_S`
(a role's rights take a while to spread). A service that is away says nothing, and is asked again when a message needs it.
Will not: send anything.

Source: Amazon SQS developer guide, "Using dead-letter queues": both queues are of one account and region, so their addresses
differ in the name alone.
"""

from time import monotonic

from mlpack_runtime import aws, jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SETTLE_S = 120.0
_REFUSED = ("AccessDenied", "AccessDeniedException", "AuthorizationError")


class DeadLetters:
    """The dead-letter queue of `queue_url`; `url`: the one that is set, "" where it is to be looked up. Threads may share it."""

    def __init__(
        self, client: "Any", queue_url: str, url: str, say: "Callable[[str], None]", clock: "Callable[[], float]" = monotonic
    ) -> None:
        self._client = client
        self._queue_url = queue_url
        self._say = say
        self._clock = clock
        self._known = bool(url)
        self._url = url or None
        self._refused_s: float | None = None

    def url(self) -> "str | None":
        """Its address; None where there is none. Raises `aws.failures()` when that cannot be known now."""
        if not self._known:
            try:
                self._url = self._asked()
                self._known = True
            except aws.failures() as error:
                if aws.code(error) not in _REFUSED or not self._settled(error):
                    raise
        return self._url

    def _settled(self, error: Exception) -> bool:
        """Whether this refusal has stood for long enough to be believed; said when it is first met."""
        if self._refused_s is None:
            self._refused_s = self._clock()
            self._say(f"the queue's dead-letter queue may not be looked up (set MLPACK_DLQ_URL): {aws.told(error)}")
        return self._clock() - self._refused_s >= SETTLE_S

    def _asked(self) -> "str | None":
        answer = self._client.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=["RedrivePolicy"])
        policy = answer.get("Attributes", {}).get("RedrivePolicy")
        if not policy:
            return None
        name = str(jsontext.loads(policy)["deadLetterTargetArn"]).rpartition(":")[2]
        return f"{self._queue_url.rpartition('/')[0]}/{name}"
