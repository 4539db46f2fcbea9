"""What stands around a package's model: features from a table, answers kept beside it, a log of predictions.

A package has what model.json says in `around`: `features`, `cache` and `log`, each an object of settings. Each is a module here
that a package carries, and loads, only where it has it.

Promises: only features may refuse a request; whatever goes wrong with the cache or the log is counted, and the request is answered.
With MLPACK_AROUND=stub nothing is asked of AWS: features are invented after the recipe's own latency, and nothing is kept or logged
elsewhere.
"""

import os
import sys

from mlpack_runtime.model import ModelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from mlpack_runtime.around.features import Features
    from mlpack_runtime.around.prediction_cache import PredictionCache
    from mlpack_runtime.around.prediction_log import PredictionLog
    from mlpack_runtime.aws.signed import Client
    from mlpack_runtime.model import Described
    from mlpack_runtime.protocol import Call
    from mlpack_runtime.telemetry import Record
    from mlpack_runtime.tensor import Tensor

    Predict = Callable[[Call, Record], Mapping[str, Tensor]]

MODE = "MLPACK_AROUND"
STUB = "stub"
CACHE_HEADER = "x-prediction-cache"
_OPEN_S = 2.0


class Around:
    """The parts that a package has. `predict`: how a call becomes outputs without a cache."""

    def __init__(self, model: "Described", settings: "Mapping[str, Any]", predict: "Predict") -> None:
        mode = os.environ.get(MODE, "")
        if mode not in ("", STUB):
            raise ModelError(f"{MODE} is {mode!r}: leave it out, or say {STUB}, which asks nothing of AWS")
        self._predict = predict
        self.features: Features | None = None
        self.cache: PredictionCache | None = None
        self.log: PredictionLog | None = None
        if settings.get("features"):
            self.features = _module("features").Features(model, settings["features"], stubbed=mode == STUB)
        if settings.get("cache"):
            self.cache = _module("prediction_cache").PredictionCache(model, settings["cache"], stubbed=mode == STUB)
        if settings.get("log") and mode != STUB:
            self.log = _module("prediction_log").open_log(model, settings["log"])

    @property
    def forms(self) -> "list[str]":
        """Forms of plain requests that it takes, for messages."""
        return [self.features.form] if self.features is not None else []

    def begin(self, record: "Record", value: "Any") -> None:
        """Note what is asked, before anything is done with it."""
        if self.log is not None:
            self.log.keep(record, value)

    def feed(self, value: "dict[str, Any]", record: "Record") -> "dict[str, Any] | None":
        """The model's inputs of a plain request that names entities, as nested lists; None of any other. Raises RequestError."""
        if self.features is None or not self.features.is_asked(value):
            return None
        return self.features.inputs(value, record)

    def predict(self, call: "Call", record: "Record") -> "Mapping[str, Tensor]":
        """A call's outputs, out of the cache where they are there."""
        outputs = self._predict(call, record) if self.cache is None else self.cache.outputs(call, record, self._predict)
        if self.log is not None:
            record.seen = (call, outputs)
        return outputs

    def finish(self, record: "Record", reply: "Any") -> None:
        """Note what was answered by a `service.Reply`. Never raises."""
        if "cache_hits" in record.metrics:
            reply.headers[CACHE_HEADER] = "hit" if record.metrics["cache_hits"] else "miss"
        if self.log is not None:
            self.log.add(record, reply)

    def close(self) -> None:
        """Let go of the tables' connections, and of what is kept in memory."""
        for part in (self.features, self.cache):
            if part is not None:
                part.close()


def open_around(model: "Described", settings: "Mapping[str, Any]", predict: "Predict") -> Around:
    """The parts that model.json's `around` names. Raises ModelError for settings that this runtime does not know."""
    return Around(model, settings, predict)


def open_tables(why: str, *, attempts: int) -> "Client":
    """A client of DynamoDB, whose connection is opened beside the rest of the start: a first request has a deadline, too. `why` it
    is needed, for the ModelError where there is none."""
    from mlpack_runtime.aws import AwsError, signed

    try:
        client = signed.Client("dynamodb", attempts=attempts)
    except AwsError as error:
        raise ModelError(f"{why}, and {error}") from None
    client.open_beside(_OPEN_S)
    return client


def _module(name: str) -> "Any":
    module = f"mlpack_runtime.around.{name}"
    __import__(module)
    return sys.modules[module]
