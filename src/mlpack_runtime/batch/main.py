"""A batch in a process of its own: `bootstrap.py batch MANIFEST [--results PLACE] [--columns JSON] [--format F] [--model NAME]
[--path FOLDER]`.

MANIFEST and PLACE are s3:// addresses or paths; NAME is one of several models, else the default one answers; FOLDER is one more
where botocore or pyarrow may be. Each piece of results is a line on stdout, and the state a last one: {"message": "batch ended",
"batch": {...}}.

Exit status: 0 all items have a result, errors among them; 2 the manifest or the command is wrong; 3 the package fails; 4 a service
fails; 75 stopped by a signal (`EX_TEMPFAIL`). After all but 2, the same command goes on where this one ended.
"""

import os
import sys

from mlpack_runtime import aws, jsontext, model, ort, telemetry
from mlpack_runtime.backend import BackendError, open_backend
from mlpack_runtime.batch.engines import Engine
from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.batch.jobs import Job, Settings
from mlpack_runtime.batch.orders import Order, columns_of
from mlpack_runtime.batch.reading.records import format_of
from mlpack_runtime.batch.writing.progress import COMPLETE
from mlpack_runtime.hosting.stop import Stop, on_signals
from mlpack_runtime.limits import SettingsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STOPPED = 75
_LAST_S = 10.0
_OPTIONS = ("--results", "--columns", "--format", "--model", "--path")


def main(arguments: "list[str]") -> int:
    """Run one; the exit status."""
    loaded: model.Model | None = None
    try:
        order, paths = _order(arguments)
        stop = Stop()
        on_signals(stop)
        settings = Settings(os.environ)
        at = _directory(order.model)
        order.model = ""  # one is loaded, and no other is asked
        loaded = model.load(lambda place, told: open_backend(place, told, lambda text: _emit(None, "WARNING", text)), at)
        told = _run(order, loaded, settings, stop, paths)
    except (BatchError, SettingsError, BackendError, model.ModelError, ort.OrtError, aws.AwsError) as error:
        status = error.status if isinstance(error, BatchError) else 2 if isinstance(error, SettingsError) else 3
        _emit(loaded, "CRITICAL", f"the batch cannot go on: {error}", status=status)
        return status
    _emit(loaded, "INFO", "batch ended", batch=told)
    return 0 if told["state"] == COMPLETE else STOPPED


def _directory(name: str) -> "str | None":
    """Where the model of this name is, or the default one; None for a package of one model. Raises BatchError."""
    place = model.directory()
    if not model.has_several(place):
        own = model.read_settings(place)["name"]
        if name not in ("", own):
            raise BatchError(f"there is no model {name[:100]!r} here; this package has {own!r}")
        return None
    settings = model.read_settings(place)
    if (chosen := name or settings["default"]) not in settings["models"]:
        raise BatchError(f"there is no model {name[:100]!r} here; this package has {', '.join(sorted(settings['models']))}")
    return os.path.join(os.path.dirname(place), "models", chosen)


def _run(order: Order, loaded: model.Model, settings: Settings, stop: Stop, paths: "list[str]") -> "dict[str, Any]":
    engine = Engine(loaded)

    def client() -> "Any":
        sys.path.extend(paths)  # not before they are needed: a hook finds what is in its package, as elsewhere
        return aws.client("s3")

    if order.format == "parquet" or format_of(order.manifest) == "parquet":
        sys.path.extend(paths)
    job = Job(order, engine.service, settings, threads=engine.threads, files=True, client=client)
    job.going = lambda: not stop.asked
    job.wait = job.pause = stop.wait
    job.say = lambda told: _emit(loaded, "INFO", "batch progress", batch=told)
    job.warn = lambda text: _emit(loaded, "WARNING", text)
    try:
        return job.run()
    finally:
        if (logs := sys.modules.get("mlpack_runtime.around.prediction_log")) is not None:
            logs.close(_LAST_S)  # what is sampled of the last items


def _order(arguments: "list[str]") -> "tuple[Order, list[str]]":
    """Raises BatchError."""
    told: dict[str, list[str]] = {name: [] for name in _OPTIONS}
    names: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in told and rest:
            told[word].append(rest.pop(0))
        else:
            names.append(word)
    if len(names) != 1 or names[0].startswith("--"):
        raise BatchError(f"a batch takes one manifest and {', '.join(_OPTIONS)}, not {' '.join(arguments) or 'nothing'}")
    last = {name: values[-1] if values else "" for name, values in told.items()}
    try:
        columns = columns_of(jsontext.loads(last["--columns"])) if last["--columns"] else {}
    except ValueError as error:
        raise BatchError(f"--columns is not JSON: {error}") from None
    order = Order(names[0], last["--results"], columns, last["--format"])
    order.model = last["--model"]
    return order, told["--path"]


def _emit(about: "model.Model | None", level: str, message: str, **detail: "Any") -> None:
    telemetry.emit(telemetry.event(about, level, message, **detail))
