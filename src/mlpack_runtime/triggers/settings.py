"""What a function is told about events: which sources it takes, what is a function error, and where answers go.

Promises: a setting that makes no sense is a SettingsError that names it, when the function starts.
"""

from mlpack_runtime import aws
from mlpack_runtime.aws import promises
from mlpack_runtime.limits import SettingsError, number, quoted
from mlpack_runtime.queueing import results
from mlpack_runtime.service import RESPONSE_LIMIT_BYTES
from mlpack_runtime.triggers.sources import TAKEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

EVENTS = "MLPACK_EVENTS"
RAISE = "MLPACK_RAISE"
RESULTS = "MLPACK_RESULTS"
ANSWER = "MLPACK_ANSWER_BYTES"
DIRECT = "direct"
_ANSWER_BYTES = (4096, RESPONSE_LIMIT_BYTES)
_FAILURES = ("batch", "refused")


class Settings:
    """`direct`: every event that is not HTTP is a direct request. `sources`: those that are taken; `named`: the variable says so.
    `raises_batch`: one failed record is the whole batch's; `raises_refused`: a direct request's 4xx is a function error too.
    `results`: where answers go, "" for nowhere. `answer_bytes`: of an answer that is returned, None where what is known of its way
    says how many there may be."""

    def __init__(self, environment: "Mapping[str, str]") -> None:
        words = _words(environment, EVENTS, (DIRECT, "all", *TAKEN))
        self.direct = words == [DIRECT]
        if DIRECT in words and not self.direct:
            raise SettingsError(f"{EVENTS} has {DIRECT!r} beside others: it stands alone")
        self.named = bool(words) and "all" not in words
        self.sources = frozenset(words) if self.named else frozenset(TAKEN)
        failures = _words(environment, RAISE, _FAILURES)
        self.raises_batch, self.raises_refused = "batch" in failures, "refused" in failures
        self.results = environment.get(RESULTS, "")
        if self.results:
            try:
                aws.split_uri(self.results, "s3", "dynamodb")
            except aws.AwsError as error:
                raise SettingsError(f"{RESULTS}: {error}") from None
        self.answer_bytes = int(number(environment, ANSWER, 0, *_ANSWER_BYTES)) if environment.get(ANSWER) else None
        self.keep_s = results.keep_s(environment)
        self.unconditional = promises.is_waived(environment)


def _words(environment: "Mapping[str, str]", name: str, known: "tuple[str, ...]") -> "list[str]":
    words = [word.strip() for word in environment.get(name, "").split(",") if word.strip()]
    strange = [word for word in words if word not in known]
    if strange:
        raise SettingsError(f"{name} has {quoted(strange[0])}, which is none of {', '.join(known)}")
    return words
