"""What a service asks for outputs in a process that stays: the batcher, for any number of callers at a time.

Promises: a call's own outputs, or a RequestError with the status that says whose fault it was; a caller whose deadline is over
before a batch takes its call is refused, and the engine does not run for it.
"""

import threading
from time import monotonic

from mlpack_runtime import telemetry
from mlpack_runtime.backend import BackendError
from mlpack_runtime.limits import too_many_tokens
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.telemetry import Clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlpack_runtime.model import Model
    from mlpack_runtime.protocol import Call
    from mlpack_runtime.serving.batcher import Batcher
    from mlpack_runtime.tensor import Tensor
    from mlpack_runtime.texts import Text

_STATUS = {
    "input": (422, "Unprocessable"),
    "device": (503, "DeviceError"),
    "sticky": (503, "DeviceError"),
    "busy": (503, "Overloaded"),
    "size": (413, "PayloadTooLarge"),
    "late": (504, "DeadlineExceeded"),
}
_TOGETHER = "this graph's rows are not answered each by itself"
BUSY_S = 1.0
"""After how long whoever was refused because too much waits may try again."""


class Batched:
    """What a service asks for outputs. A thread answers one caller at a time, so what it knows of that caller stays with it."""

    def __init__(self, model: "Model", batcher: "Batcher", caller: "threading.local | None" = None) -> None:
        """`caller`: what a thread knows of its caller, where several models share it."""
        self._model = model
        self._batcher = batcher
        self._caller = caller or threading.local()

    def limit(self, until_s: "float | None") -> None:
        """Until when (by `monotonic`) this thread's caller waits; None: for ever. It stays so until said otherwise."""
        self._caller.until_s = until_s

    def __call__(self, call: "Call", record: telemetry.Record) -> "Mapping[str, Tensor]":
        """A call's outputs. Raises RequestError: 413 for too much, 422 where the engine refuses it, 503 for its device, 504 where
        it would come too late."""
        clock, layout = Clock(record), self._batcher.layout
        if call.texts is not None:
            tokenizer, names = self._model.tokenizer, tuple(port.name for port in self._model.inputs)
            assert tokenizer is not None  # the service has looked
            calls = tokenizer.rows(call.texts, names) if layout.batched else self._whole(call.texts)
            clock.lap("tokenize")
        else:
            calls = [call.inputs]
            if self._model.tokenizer is not None:
                self._check_tokens(call)
        handed_s = monotonic()
        job = self._batcher.submit(calls, getattr(self._caller, "until_s", None))
        try:
            outputs = job.wait(layout)
        except BackendError as error:
            status, kind = _STATUS.get(error.sort, (500, "EngineError"))
            raise RequestError(str(error), status, kind, BUSY_S if error.sort == "busy" else None) from None
        stages = record.stages_ms  # a task may ask more than once
        stages["wait"] = stages.get("wait", 0.0) + (job.began_s - handed_s) * 1e3
        stages["infer"] = stages.get("infer", 0.0) + (job.ended_s - job.began_s) * 1e3
        record.metrics["batch_fill"] = 100 * job.fill
        return outputs

    def _check_tokens(self, call: "Call") -> None:
        """Refuse tensors of a text model that are too much for one run and cannot be cut."""
        tokens, batched = self._model.tokens(call.inputs), self._batcher.layout.batched
        if tokens // (max(1, call.batch) if batched else 1) > self._model.limits.engine_tokens:
            raise too_many_tokens(self._model.limits, "a row alone has more" if batched else _TOGETHER)

    def _whole(self, texts: "list[Text]") -> "list[dict[str, Tensor]]":
        made = self._model.tokenize_within(texts)
        if made is None:
            raise too_many_tokens(self._model.limits, _TOGETHER)
        return [made]
