"""A package as a process: the model loaded, its batcher, HTTP, health, and an end that nobody notices.

SIGTERM, SIGINT and whoever calls `Stop.ask` end it: readiness is 503 at once, and every answer says that its connection is closed;
requests are taken and answered until the lame duck's time is over, because whoever sends them learns of the end later than we do;
then nothing more is taken, and what is at hand is finished within MLPACK_DRAIN_S of the signal.
Promises: what was taken is answered. Will not: start other processes, mend a device, or know a queue (a subclass may).
"""

import importlib.machinery  # noqa: F401  (not first in two threads at once: the tokenizer's, and what a backend's module brings)
import os
import sys
import threading
from time import monotonic, time

from mlpack_runtime import model, ort, telemetry
from mlpack_runtime.backend import BackendError, open_backend
from mlpack_runtime.hosting.settings import LAME_DUCK_S, LAME_DUCK_SHARE, Settings, SettingsError
from mlpack_runtime.hosting.stop import Stop, ignore_signals, on_signals
from mlpack_runtime.json_room import JsonRoom
from mlpack_runtime.limits import Limits
from mlpack_runtime.service import Service
from mlpack_runtime.serving.admission import Admission
from mlpack_runtime.serving.batched import Batched
from mlpack_runtime.serving.batcher import Batcher
from mlpack_runtime.serving.breaker import Breaker
from mlpack_runtime.serving.health import Server
from mlpack_runtime.serving.probe import Found, probe
from mlpack_runtime.serving.prometheus import Gauge, Metrics
from mlpack_runtime.serving.side import Side

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

LOST = 70
_LOOK_S = 1.0
_LAST_S = 2.0  # for what is logged, after a drain that took all its time


class Process:
    """One process's worth: the model, its batcher and a server."""

    name = "server"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stop = Stop()
        self._began_s = time()
        self.server = Server(settings.port, self._unready, settings.host, settings.http)
        self.server.admission = Admission(settings.concurrency)
        self.server.gzip_bytes = settings.gzip_bytes
        self.server.gauges = self._gauges
        metrics = self.server.metrics = Metrics() if settings.metrics_port else None
        self._side = Side(self.server, settings.host, settings.metrics_port) if metrics and settings.metrics_port > 0 else None
        self.loading = False
        self._breaker = Breaker(settings.failures, settings.cooldown_s)
        self._batcher: Batcher | None = None
        self.tell_ready: Callable[[], None] = lambda: None
        """Writes the line of the start."""

    def run(self) -> int:
        """Load, serve, and end when asked. Raises what loading raises."""
        for warning in self.settings.warnings:
            emit(None, "WARNING", warning)
        self.server.start()  # alive while a large model loads
        if self._side:
            self._side.connections.start()
        loaded = self._load()
        if loaded is None:
            emit(None, "INFO", "ended", reason=self.stop.reason, status=self.stop.code)
            return self.stop.code
        service = self._serve(loaded)
        service.room = service.room or JsonRoom()
        batcher = self._batcher
        assert batcher is not None
        self._begin(loaded, service)
        self.server.service = service
        self.tell_ready()
        self._watch(batcher)
        return self._drain(loaded, batcher)

    def _serve(self, loaded: model.Model) -> Service:
        """The service of what is loaded, and how deadlines reach it."""
        if model.has_several(place := model.directory()):
            __import__("mlpack_runtime.hosting.several")  # by name: only packages of several models have it
            several: Service = sys.modules["mlpack_runtime.hosting.several"].serve(self, place, loaded)
            return several
        batcher, predict, found = self.batch(loaded)
        self._batcher, self.server.limit = batcher, predict.limit
        self.tell_ready = lambda: self.tell_start(loaded, found, batcher)
        service = Service(loaded, predict)
        service.observe = self.server.metrics.observe if self.server.metrics else None
        return service

    def batch(self, loaded: model.Model, caller: "threading.local | None" = None) -> "tuple[Batcher, Batched, Found]":
        """A batcher for a model, at work, what asks it, and what was found out about the model."""
        assert not isinstance(loaded.session, ort.Session)
        found = probe(loaded, loaded.session)
        batcher = Batcher(
            loaded.session,
            found.layout,
            max_batch=self.settings.max_batch,
            max_wait_s=self.settings.max_wait_s,
            breaker=self._breaker,
            sample=found.sample,
        )
        batcher.hold_to(loaded.limits)
        batcher.on_sticky = lambda error: self.stop.ask(f"the device is lost: {error}", LOST)
        batcher.callers = self._callers()
        batcher.start()
        return batcher, Batched(loaded, batcher, caller), found

    def gather(self, batchers: Batcher) -> None:
        """Watch several batchers as one."""
        self._batcher = batchers

    def _callers(self) -> "Callable[[], int] | None":
        """How to ask how many are at work on a request; None where others than HTTP bring them."""
        return lambda: self.server.admission.count

    def _begin(self, loaded: model.Model, service: Service) -> None:
        """Start what takes requests beside HTTP."""

    def _give_back(self, until_s: float) -> int:  # noqa: ARG002  (a worker's own needs it)
        """Take no more of them, and finish or give back what is at hand; how many were given back."""
        return 0

    def _ended_beside(self) -> str:
        """The name of a thread of theirs that has ended."""
        return ""

    def _load(self) -> "model.Model | None":
        """The model; None where the end was asked for before it was there. Loading is one long call into the engine, in which this
        thread could not take a signal: it is done by another."""
        outcome: list[model.Model | BaseException] = []

        def load() -> None:
            try:
                outcome.append(self.open(model.first(model.directory())))
            except BaseException as error:  # noqa: BLE001  (it is raised again where somebody waits for it)
                outcome.append(error)
            done.set()

        done, self.loading = threading.Event(), True
        threading.Thread(target=load, name="load", daemon=True).start()
        while not done.wait(0.05):
            if self.stop.asked:
                return None
        self.loading = False
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    def open(self, place: str) -> model.Model:
        """The model in a directory, behind its backend."""
        return model.load(lambda folder, told: open_backend(folder, told, lambda text: emit(None, "WARNING", text)), place)

    def tell_start(self, loaded: model.Model, found: Found, batcher: Batcher) -> None:
        assert not isinstance(loaded.session, ort.Session)
        emit(
            loaded,
            "INFO",
            "ready",
            backend=loaded.session.kind,
            device=loaded.session.device,
            port=self.server.port,
            **self._told(),
            max_batch=batcher.max_batch if found.layout.batched else 1,
            **({"one_by_one": found.why} if found.why else {}),
            stages_ms={stage: round(spent, 3) for stage, spent in loaded.stages_ms.items()},
        )

    def _told(self) -> "dict[str, Any]":
        """What else the line of the start says."""
        return {}

    def _gauges(self) -> "list[Gauge]":
        """What the metrics say of this moment."""
        batcher, connections = self._batcher, self.server.connections
        ready, busy_s = not self._unready(), batcher.busy_s if batcher else 0.0
        return [
            Gauge("mlpack_ready", float(ready), "1 where new requests are welcome."),
            Gauge("mlpack_requests_in_flight", self.server.admission.count, "Requests over HTTP that are being answered."),
            Gauge("mlpack_rows_waiting", batcher.waiting if batcher else 0, "Rows that wait for the engine."),
            Gauge("mlpack_connections", connections.count, "Connections that are open."),
            Gauge("mlpack_held_bytes", connections.held, "Bytes of bodies and answers on their way, beyond 64 KB each.", "bytes"),
            Gauge("mlpack_engine_busy_seconds", busy_s, "Time that the engine has run.", "seconds", counts=True),
            Gauge("process_start_time_seconds", self._began_s, "When the process started, since 1970.", "seconds"),
        ]

    def _unready(self) -> str:
        """Why this process is not ready; nothing when it is."""
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
        return self._ended_beside()

    def _drain(self, loaded: model.Model, batcher: Batcher) -> int:
        began_s = monotonic()
        until_s, lame_duck_s = began_s + self.settings.drain_s, self._lame_duck_s()
        more = {"answers_for_s": lame_duck_s} if lame_duck_s else {}
        emit(loaded, "ERROR" if self.stop.code else "INFO", f"ending: {self.stop.reason}", **more)
        if not lame_duck_s:
            batcher.hurry()
        given_back = self._give_back(until_s)
        self.stop.wait_hurried(began_s + lame_duck_s - monotonic())
        batcher.hurry()
        answered = self.server.stop(max(0.0, until_s - monotonic()))
        if answered and not self.stop.code and not given_back:  # else the engine may be at work still
            batcher.stop()
            assert not isinstance(loaded.session, ort.Session)
            loaded.session.close()
        if (
            logs := sys.modules.get("mlpack_runtime.around.prediction_log")
        ) is not None:  # packages without one have no such module
            logs.close(max(_LAST_S, until_s - monotonic()))
        spent = {"given_back": given_back, "status": self.stop.code, "engine_ms": round(1e3 * batcher.busy_s, 3)}
        emit(loaded, "INFO", "ended", **spent)
        return self.stop.code

    def _lame_duck_s(self) -> float:
        """For how long requests are taken: as told, else where somebody sends them by HTTP; never so long that none is finished."""
        told = self.settings.lame_duck_s
        wanted = told if told is not None else LAME_DUCK_S if self.server.asked else 0.0
        return 0.0 if self.stop.hurried else min(wanted, LAME_DUCK_SHARE * self.settings.drain_s)


def host(
    read: "Callable[[Mapping[str, str], Mapping[str, Any]], Settings]",
    make: "Callable[[Any], Process]",
    status: "Callable[[BaseException], int]",
) -> int:
    """Serve until told to end; the exit status. `read`: environment and model.json's "worker" to settings; `make`: settings to a
    process; `status`: how an error that keeps it from starting ends it. Raises what is no such error."""
    # The engine's thread comes back from the engine with the interpreter in other hands: 5 ms, the default, is a batch of its own.
    sys.setswitchinterval(0.0005)
    process: Process | None = None
    try:
        packaged = model.read_settings(model.directory())
        settings = read(os.environ, packaged.get("worker") or {})
        Limits(os.environ, packaged)  # what is wrong with them is said as of other settings, before a large model loads
        process = make(settings)
        if (authorize := packaged.get("authorize")) is not None:
            process.server.hides_metrics = "metrics" not in authorize.get("public", ())
        if packaged.get("cors"):
            from mlpack_runtime.access.cors import Cors

            process.server.cors = Cors.of(packaged)
        on_signals(process.stop)
        code = process.run()
        ignore_signals()
    except SettingsError as error:
        emit(None, "CRITICAL", str(error))
        return 2
    except Exception as error:
        if not (code := status(error)):
            raise
        emit(None, "CRITICAL", f"the {process.name if process else 'package'} cannot start: {error}")
        return code
    if process.loading:
        os._exit(code)  # the engine is still being opened: an interpreter that ends under it may crash
    return code


def failed(error: BaseException) -> int:
    """The exit status after an error that keeps a process from starting; 0 for one that is nothing of the kind."""
    if isinstance(error, BackendError):
        return error.status
    return int(isinstance(error, (model.ModelError, ort.OrtError, OSError)))


def emit(about: "model.Model | None", level: str, message: str, **detail: "Any") -> None:
    """A line of the log that is about no request."""
    telemetry.emit(telemetry.event(about, level, message, **detail))
