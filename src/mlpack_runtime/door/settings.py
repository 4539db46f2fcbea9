"""What a front door is told by its environment. docs/front-door.md has the table.

Promises: every setting that makes no sense is named, all at once, before any event is taken. Will not: reach for anything.
"""

from mlpack_runtime import aws
from mlpack_runtime.aws import promises

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MESSAGE_LIMIT_BYTES = 1024 * 1024  # AWS: 1 MiB with its attributes, since August 2025
OLDER_LIMIT_BYTES = 256 * 1024  # what it was before, and what queues from then still have as their MaximumMessageSize
MODES = ("sync", "ticket", "http")
_NUMBERS = {  # name: (default, least, most)
    "MLPACK_DEADLINE_MS": (25_000, 1, 900_000),
    "MLPACK_MARGIN_MS": (1_000, 0, 60_000),
    "MLPACK_GRACE_MS": (60_000, 0, 86_400_000),
    "MLPACK_TICKET_S": (86_400, 60, 1_209_600),
    "MLPACK_MESSAGE_BYTES": (OLDER_LIMIT_BYTES, 1_024, MESSAGE_LIMIT_BYTES),
    "MLPACK_BACKLOG_LIMIT": (0, 0, 1_000_000_000),
    "MLPACK_BREAKER_FAILURES": (5, 1, 1_000),
    "MLPACK_BREAKER_OPEN_MS": (10_000, 100, 600_000),
}


class SettingsError(RuntimeError):
    """The function's environment makes no sense. The message names every problem."""


class Settings:
    """The settings, read and checked. Milliseconds are kept as seconds. Raises SettingsError."""

    def __init__(self, environ: "Mapping[str, str]") -> None:
        self._problems: list[str] = []
        number = {name: self._number(environ, name) for name in _NUMBERS}
        self.queue_url = environ.get("MLPACK_QUEUE_URL", "")
        self.worker_url = environ.get("MLPACK_WORKER_URL", "")
        self.results = environ.get("MLPACK_RESULTS", "")
        self.unconditional = promises.is_waived(environ)
        self.mode = environ.get("MLPACK_MODE") or ("http" if self.worker_url and not self.queue_url else "sync")
        self.deadline_s = number["MLPACK_DEADLINE_MS"] / 1000
        self.margin_s = number["MLPACK_MARGIN_MS"] / 1000
        self.grace_s = number["MLPACK_GRACE_MS"] / 1000
        self.ticket_s = number["MLPACK_TICKET_S"]
        self.message_bytes = number["MLPACK_MESSAGE_BYTES"]
        self.backlog_limit = number["MLPACK_BACKLOG_LIMIT"]
        self.breaker_failures = number["MLPACK_BREAKER_FAILURES"]
        self.breaker_open_s = number["MLPACK_BREAKER_OPEN_MS"] / 1000
        self.payloads = self._payloads(environ.get("MLPACK_PAYLOADS", ""))
        self._check()
        if self._problems:
            raise SettingsError("; ".join(self._problems))

    def _number(self, environ: "Mapping[str, str]", name: str) -> int:
        default, least, most = _NUMBERS[name]
        text = environ.get(name) or str(default)
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else -1
        if not least <= number <= most:
            self._problems.append(f"{name} is {text!r}: a whole number from {least} to {most} is needed")
            return default
        return number

    def _payloads(self, uri: str) -> "tuple[str, str] | None":
        """Bucket and prefix; the results' own where they lie in S3 and nothing else was said."""
        if not uri and not self.results.startswith("s3://"):
            return None
        try:
            _, bucket, prefix = aws.split_uri(uri or self.results, "s3")
        except aws.AwsError as error:
            self._problems.append(f"MLPACK_PAYLOADS: {error}")
            return None
        return bucket, prefix

    def _check(self) -> None:
        if self.mode not in MODES:
            self._problems.append(f"MLPACK_MODE is {self.mode!r}: one of {', '.join(MODES)} is needed")
        elif self.mode == "http" and not self.worker_url:
            self._problems.append("MLPACK_MODE is 'http', and MLPACK_WORKER_URL is not set")
        elif self.mode != "http" and not self.queue_url:
            self._problems.append("neither MLPACK_QUEUE_URL nor MLPACK_WORKER_URL says where requests go")
        if bool(self.queue_url) != bool(self.results):
            self._problems.append("MLPACK_QUEUE_URL and MLPACK_RESULTS (where its workers put results) belong together")
        if self.results:
            try:
                aws.split_uri(self.results, "s3", "dynamodb")
            except aws.AwsError as error:
                self._problems.append(f"MLPACK_RESULTS: {error}")
