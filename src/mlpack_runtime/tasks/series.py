"""A request for which a task asks the model more than once: each call by itself, its times and rows in the request's record.

Promises: `preprocess` is what the task does before a call and between two, `postprocess` what it does after the last; the stages of
the calls add up; `batch` is their number.
"""

from mlpack_runtime.protocol import Call
from mlpack_runtime.telemetry import Clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlpack_runtime.telemetry import Record
    from mlpack_runtime.tensor import Tensor

    Outputs = Mapping[str, Tensor]
    Ask = Callable[[Mapping[str, Tensor]], Outputs]
    Predict = Callable[[Call, Record], Outputs]


def run(work: "Callable[[Ask], Outputs]", predict: "Predict", record: "Record") -> "Outputs":
    """Do the task's `work`, which is given what asks the model and returns the outputs that came last. Raises RequestError."""
    clock, record.batch = Clock(record), 0

    def ask(inputs: "Mapping[str, Tensor]") -> "Outputs":
        nonlocal clock
        clock.lap("preprocess")
        part = Call()
        part.inputs = dict(inputs)
        record.batch += part.batch
        outputs = predict(part, record)
        clock = Clock(record)
        return outputs

    outputs = work(ask)
    clock.lap("postprocess")
    return outputs
