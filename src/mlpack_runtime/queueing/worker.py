"""A package as a worker: `bootstrap.py worker`. Messages of an SQS queue, and HTTP, through one engine in dynamic batches.

Settings come from the environment, else from model.json's "worker" (docs/worker.md lists them); without MLPACK_QUEUE_URL it serves
HTTP alone. SIGTERM, SIGINT and a Spot notice end it: no more is taken, what is at hand is finished within MLPACK_DRAIN_S, the rest
given back.

Exit status: 0 ended as asked; 1 cannot start; 2 settings; 4 a service failed at the start: start anew, or does not keep what
results rest on: take another; 5 there is no engine for this device; 70 the device was lost, or does not come back (`EX_SOFTWARE`):
start anew, elsewhere perhaps.
Promises: a message is never lost by how a worker ends, kill -9 included. Will not: start other processes, or mend a device.
"""

import importlib.machinery  # noqa: F401  (here, not first in two threads at once: the tokenizer's and the backend's both use it)
import os
import sys
from time import monotonic

from mlpack_runtime import aws, model, ort, telemetry
from mlpack_runtime.aws.promises import PromiseError
from mlpack_runtime.backend import BackendError, open_backend
from mlpack_runtime.json_room import JsonRoom
from mlpack_runtime.limits import Limits
from mlpack_runtime.queueing.consumer import Batched
from mlpack_runtime.queueing.drain import SpotWatch, Stop, on_signals
from mlpack_runtime.queueing.intake import Intake
from mlpack_runtime.queueing.settings import Settings, SettingsError
from mlpack_runtime.service import Service
from mlpack_runtime.serving.batcher import Batcher
from mlpack_runtime.serving.breaker import Breaker
from mlpack_runtime.serving.health import Server
from mlpack_runtime.serving.probe import Found, probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOST = 70
_MARGIN_S = 2.0
_LOOK_S = 1.0


def main(arguments: "list[str]") -> int:
    """Serve until told to end; the exit status."""
    if arguments:
        sys.stderr.write(f"a worker takes no arguments, not {' '.join(arguments)}: its settings are in the environment\n")
        return 2
    # The engine's thread comes back from the engine with the interpreter in other hands: 5 ms, the default, is a batch of its own.
    sys.setswitchinterval(0.0005)
    try:
        place = model.directory()
        packaged = model.read_settings(place)
        settings = Settings(os.environ, packaged.get("worker") or {})
        Limits(os.environ, packaged)  # what is wrong with them is said as of other settings, before a large model loads
        worker = Worker(settings)
        on_signals(worker.stop)
        return worker.run()
    except SettingsError as error:
        _emit(None, "CRITICAL", str(error))
        return 2
    except (model.ModelError, ort.OrtError, BackendError, aws.AwsError, OSError) as error:
        _emit(None, "CRITICAL", f"the worker cannot start: {error}")
        return error.status if isinstance(error, (BackendError, PromiseError)) else 1


class Worker:
    """One process's worth: the model, its batcher, a server, and where there is a queue, its consumers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stop = Stop()
        self.server = Server(settings.port, self._unready, settings.host, settings.http)
        self._breaker = Breaker(settings.failures, settings.cooldown_s)
        self._model: model.Model | None = None
        self._batcher: Batcher | None = None
        self._intake: Intake | None = None

    def run(self) -> int:
        """Load, serve, and end when asked. Raises what loading raises."""
        self.server.start()  # alive while a large model loads
        loaded = model.load(lambda place, told: open_backend(place, told, lambda text: _emit(None, "WARNING", text)))
        self._model = loaded
        assert not isinstance(loaded.session, ort.Session)
        found = probe(loaded, loaded.session)
        batcher = self._batcher = Batcher(
            loaded.session,
            found.layout,
            max_batch=self.settings.max_batch,
            max_wait_s=self.settings.max_wait_s,
            breaker=self._breaker,
            sample=found.sample,
        )
        batcher.hold_to(loaded.limits)
        batcher.on_sticky = lambda error: self.stop.ask(f"the device is lost: {error}", LOST)
        batcher.start()
        service = Service(loaded, Batched(loaded, batcher))
        service.room = JsonRoom()
        if self.settings.queue_url:
            self._intake = Intake(self.settings, service, self._breaker, self.stop)
            self._intake.start()
        if self.settings.spot:
            SpotWatch(self.stop, self.settings.imds, lambda text: _emit(loaded, "WARNING", text)).start()
        self.server.service = service
        self._tell_start(loaded, found, batcher)
        self._watch(batcher)
        return self._drain(loaded, batcher)

    def _tell_start(self, loaded: model.Model, found: Found, batcher: Batcher) -> None:
        assert not isinstance(loaded.session, ort.Session)
        _emit(
            loaded,
            "INFO",
            "ready",
            backend=loaded.session.kind,
            device=loaded.session.device,
            port=self.server.port,
            queue=self.settings.queue_url,
            max_batch=batcher.max_batch if found.layout.batched else 1,
            **({"one_by_one": found.why} if found.why else {}),
            stages_ms={stage: round(spent, 3) for stage, spent in loaded.stages_ms.items()},
        )

    def _unready(self) -> str:
        """Why this worker is not ready; nothing when it is."""
        if self.stop.asked:
            return f"ending: {self.stop.reason}"
        if self.server.service is None:
            return "the model is being loaded"
        if ended := self._ended():
            return f"its thread {ended} has ended, which is a bug: start another"
        if not self._breaker.closed:
            return f"the device failed; the breaker is {self._breaker.state}"
        running_s, most_s = self._batcher.running_s if self._batcher else 0.0, self.settings.stall_s
        return (
            f"a batch has been run for {running_s:.0f} s, longer than {most_s:g} s (MLPACK_STALL_S)" if running_s > most_s else ""
        )

    def _watch(self, batcher: Batcher) -> None:
        """Until the end is asked for; by itself where the engine does not come back, which nothing but a new process mends."""
        while not self.stop.wait(_LOOK_S):
            if self.settings.hang_s and batcher.running_s > self.settings.hang_s:
                self.stop.ask(f"the engine has not come back for {batcher.running_s:.0f} s (MLPACK_HANG_S)", LOST)

    def _ended(self) -> str:
        """The name of a thread without which nothing is answered, and which is gone."""
        engine = self._batcher.thread if self._batcher else None
        if engine is not None and engine.ident and not engine.is_alive():
            return engine.name
        return self._intake.ended if self._intake else ""

    def _drain(self, loaded: model.Model, batcher: Batcher) -> int:
        until_s = monotonic() + self.settings.drain_s
        _emit(loaded, "ERROR" if self.stop.code else "INFO", f"ending: {self.stop.reason}")
        batcher.hurry()
        given_back = self._intake.drain(until_s - _MARGIN_S) if self._intake else 0
        answered = self.server.stop(max(0.0, until_s - monotonic()))
        if answered and not self.stop.code and not given_back:  # else the engine may be at work still
            batcher.stop()
            assert not isinstance(loaded.session, ort.Session)
            loaded.session.close()
        spent = {"given_back": given_back, "status": self.stop.code, "engine_ms": round(1e3 * batcher.busy_s, 3)}
        _emit(loaded, "INFO", "ended", **spent)
        return self.stop.code


def _emit(about: "model.Model | None", level: str, message: str, **detail: "Any") -> None:
    telemetry.emit(telemetry.event(about, level, message, **detail))
