"""A service of several models: which of them a request is for, and the protocol's repository of models.

    /v2/models/NAME/...                              that model's own, as if it were alone
    POST /v2/repository/index                        [{"name", "version", "state", "reason"}]; {"ready": true}: those that answer
    POST /v2/repository/models/NAME/load, unload     {}
    the header `mlpack-model`, a message's `model`, "model_name" of a direct invocation      which model, where no path says it

Promises: everything else goes to the default model; a model is loaded by its first request, in the process that gets it. Readiness
of a model is whether a request to it would be answered, so one that is not in memory yet is ready. Who may not ask is refused
before anything is loaded or told, and a tenant's limits hold for all models together, however often they come and go.
Will not: load what is not in the package.

Source: the Open Inference Protocol's "Model Repository Extension" (Triton).
"""

import os
import sys
import threading

from mlpack_runtime import jsontext, model, ort, routes, telemetry
from mlpack_runtime.limits import number, quoted
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import JSON, Reply, Service
from mlpack_runtime.several import shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from mlpack_runtime.json_room import JsonRoom
    from mlpack_runtime.model import Described
    from mlpack_runtime.service import Check

    Observe = Callable[[Described], "Callable[[telemetry.Record], None] | None"]

EXTENSIONS = ("binary_tensor_data", "classification", "model_repository")
_MOST_BYTES = 1 << 16
_SHARE = 0.7
"""Of the memory, what models may have together where nobody says it: the engine, requests and packed weights need the rest."""


class Opened:
    """A model in memory. `close` lets go of it."""

    def __init__(self, service: Service, close: "Callable[[], None]") -> None:
        self.service = service
        self.close = close


class _LetIn(threading.local):
    """The access of each model's own service: whoever comes to it was let in before. A request stays in its thread."""

    known: "telemetry.Record | None" = None
    """What was found out about them."""

    def enter(self, record: telemetry.Record, *_: object) -> None:
        """As Access's."""
        if self.known is not None:
            record.detail.update(self.known.detail)
            record.stages_ms.update(self.known.stages_ms)

    def mark(self, *_: object) -> None:
        """As Access's: the service of all marks the answer."""


class Several(Service):
    """The models of a package, by name. `opener`: the directory of a model to the model in memory."""

    def __init__(self, place: str, settings: "Mapping[str, Any]", opener: "Callable[[str], Opened]") -> None:
        """Loads the default model. Raises ModelError, ort.OrtError, and what `opener` raises."""
        self.index = settings["models"]
        self.default: str = settings["default"]
        self._root = os.path.join(os.path.dirname(place), "models")
        self._descriptions: dict[str, Described] = {}
        self._opener = opener
        memory_mb = float(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE") or settings.get("memory_mb") or model.MB_PER_VCPU)
        told = settings.get("models_mb") or int(_SHARE * memory_mb)
        budget_mb = number(os.environ, "MLPACK_MODELS_MB", told, 1, 1 << 24)
        sizes = {name: row["size_bytes"] for name, row in self.index.items()}
        self.shelf: shelf.Shelf = shelf.Shelf(sizes, int(budget_mb) << 20, self._open, _close)
        self._let_in = _LetIn()
        self.room: JsonRoom | None = None
        self.watch: Observe | None = None
        with self.shelf.use(self.default) as opened:
            self._first: Service = opened.service
            self.model = self._first.model

    def equip(self, room: "JsonRoom", watch: "Observe | None") -> None:
        """What every model's service has, those in memory included: room for JSON, and who counts requests."""
        self.room, self.watch = room, watch
        for opened in self.shelf.values():
            self._equip(opened.service)

    def _equip(self, service: Service) -> None:
        service.room = self.room
        service.observe = self.watch(service.model) if self.watch is not None else None

    def http(
        self,
        method: str,
        path: str,
        headers: "Mapping[str, str]",
        body: bytes,
        request_id: str = "",
        check: "Check | None" = None,
    ) -> Reply:
        """As Service's."""

        def answer() -> Reply:
            _, parts = routes.split(path)
            early = None
            if self.access is not None:
                self._let_in.known = known = telemetry.Record("", request_id, cold_start=False)
                early = self.access.enter(known, method, path, headers)
            if early is not None:
                return Reply(204, b"", early)
            if parts is not None and parts[:1] == ["repository"]:
                return self._repository(method, parts[1:], body)
            if parts == [] or (parts is None and routes.parts_of(path) == [] and method != "POST"):
                routes.allow(method, "GET", "HEAD")
                return _json(self._about())
            name = (
                parts[1] if parts and parts[0] == "models" and len(parts) > 1 else headers.get(routes.MODEL_HEADER) or self.default
            )
            if parts and parts[0] == "models":
                if name not in self.index:
                    raise self._strange(name)
                described = routes.find(self.described(name), method, path)
                if described is not None:
                    return self._told(name, described())
            return self._ask(name, lambda service: service.http(method, path, headers, body, request_id, check))

        reply = self._guarded(answer, request_id, headers)
        reply.headers.setdefault(telemetry.TRACE_HEADER, telemetry.trace_id(headers))
        if self.access is not None:
            self.access.mark(headers, reply.headers)
        return reply

    def value(self, value: object, request_id: str = "", check: "Check | None" = None) -> Reply:
        """As Service's. `model_name` of an object says which model, as in the protocol's own form for gRPC."""
        name = self.default
        if type(value) is dict and type(value.get("model_name")) is str:
            name = value["model_name"]
            value = {key: each for key, each in value.items() if key != "model_name"}
        return self._guarded(lambda: self._ask(name, lambda service: service.value(value, request_id, check)), request_id, {})

    def message(
        self,
        headers: "Mapping[str, str]",
        body: bytes,
        request_id: str,
        metrics: "Mapping[str, float]",
        check: "Check | None" = None,
    ) -> Reply:
        """As Service's."""
        name = headers.get(routes.MODEL_HEADER) or self.default
        asked = lambda service: service.message(headers, body, request_id, metrics, check)  # noqa: E731  (a name for one line)
        return self._guarded(lambda: self._ask(name, asked), request_id, headers)

    def refuse(self, error: RequestError, request_id: str = "", headers: "Mapping[str, str] | None" = None) -> Reply:
        """As Service's."""
        reply = self._first.refuse(error, request_id, headers)
        if self.access is not None:
            self.access.mark(headers or {}, reply.headers)
        return reply

    def warmup(self) -> Reply:
        """As Service's: the default model's."""
        return self._first.warmup()

    def restored(self, spent_ms: float) -> None:
        """As Service's, for every model in memory."""
        for opened in self.shelf.values():
            opened.service.restored(spent_ms)

    def takes(self, parts: "list[str]") -> bool:
        """As Service's: inference by any of the models, and the repository's questions."""
        named = parts[:1] == ["models"] and len(parts) > 1 and parts[1] in self.index
        return (named and parts[-1] == "infer") or parts[:1] == ["repository"]

    def described(self, name: "str | None") -> "Described":
        """What a model says of itself, in memory or not; the default's without a name, or with a strange one."""
        name = self.default if name is None or name not in self.index else name
        if name not in self._descriptions:
            self._descriptions[name] = model.describe(os.path.join(self._root, name))
        return self._descriptions[name]

    def _ask(self, name: str, ask: "Callable[[Service], Reply]") -> Reply:
        if name not in self.index:
            raise self._strange(name)
        with self.shelf.use(name) as opened:
            service: Service = opened.service
            return ask(service)

    def _strange(self, name: "str | None") -> RequestError:
        return RequestError(f"no model {quoted(name)} here; this package has {', '.join(sorted(self.index))}", 404, "NotFound")

    def _guarded(self, answer: "Callable[[], Reply]", request_id: str, headers: "Mapping[str, str]") -> Reply:
        """An answer, with what keeps a model from being loaded as an error of the request."""
        try:
            return answer()
        except RequestError as error:
            failed = error
        except shelf.ShelfError as error:
            failed = RequestError(str(error), 503, "ModelUnavailable", None if error.state == shelf.UNLOADED else 1.0)
        except (model.ModelError, ort.OrtError) as error:
            failed = RequestError(f"the model cannot be loaded: {error}", 503, "ModelUnavailable")
        return self.refuse(failed, request_id, headers)

    def _open(self, name: str) -> Opened:
        try:
            opened = self._opener(os.path.join(self._root, name))
        except (model.ModelError, ort.OrtError):
            raise
        except Exception as error:  # a backend, a hook that is imported, memory: nothing of it may reach the server
            raise model.ModelError(f"{type(error).__name__}: {error}") from error
        if opened.service.access is not None:
            # The same for all models of a package, which is not put together otherwise: the first one's counts for all.
            self.access = self.access or opened.service.access
            opened.service.access = self._let_in  # type: ignore[assignment]  # all that a Service asks of it
        self._equip(opened.service)
        return opened

    def _about(self) -> "dict[str, Any]":
        return {"name": "mlpack", "version": routes.VERSION, "extensions": list(EXTENSIONS)}

    def _told(self, name: str, said: "Any") -> Reply:
        """What a model says of itself. Ready is one that a request would be answered by."""
        if type(said) is dict and said.keys() == {"name", "ready"}:
            state, why = self.shelf.state(name)
            if state in (shelf.UNLOADED, shelf.FAILED):
                raise RequestError(f"model {name!r} is not ready: {why or state}", 503, "NotReady")
        return _json(said)

    def _repository(self, method: str, parts: "list[str]", body: bytes) -> Reply:
        if parts == ["index"]:
            routes.allow(method, "POST", "GET")
            asked = _asked(body)
            rows = [row for row in self._rows() if not asked.get("ready") or row["state"] == "READY"]
            return _json(rows)
        if len(parts) != 3 or parts[0] != "models" or parts[2] not in ("load", "unload"):
            raise RequestError(
                "nothing there; try /v2/repository/index, /v2/repository/models/NAME/load or /unload", 404, "NotFound"
            )
        routes.allow(method, "POST")
        if parts[1] not in self.index:
            raise self._strange(parts[1])
        parameters = _asked(body).get("parameters") or {}
        if type(parameters) is not dict or parameters.keys() - {"unload_dependents"}:
            raise RequestError("a model is loaded as the package has it: no config and no files can be sent")
        if parts[2] == "load":
            self.shelf.load(parts[1])
        else:
            self.shelf.unload(parts[1])
        return _json({})

    def _rows(self) -> "Iterator[dict[str, str]]":
        reasons = {shelf.ABSENT: "not in memory yet: its first request loads it", shelf.UNLOADED: "unloaded"}
        for name in self.index:
            state, why = self.shelf.state(name)
            answers = state not in (shelf.UNLOADED, shelf.FAILED)
            yield {
                "name": name,
                "version": self.index[name]["version"],
                "state": "LOADING" if state == shelf.LOADING else "READY" if answers else "UNAVAILABLE",
                "reason": why or reasons.get(state, ""),
            }


def _asked(body: bytes) -> "dict[str, Any]":
    text = bytes(body[: _MOST_BYTES + 1])
    try:
        value = jsontext.loads(text) if text.strip() else {}
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if type(value) is not dict or len(text) > _MOST_BYTES:
        raise RequestError("the body of a question to the repository is a small JSON object, or nothing")
    return value


def _json(value: object) -> Reply:
    return Reply(200, jsontext.dumps(value).encode(), {"content-type": JSON})


def _close(opened: Opened) -> None:
    """Let go of a model, and of what stands around it: connections, and answers that were kept."""
    if opened.service.around is not None:
        opened.service.around.close()
    opened.close()


def open_several(place: str, settings: "Mapping[str, Any]") -> Several:
    """The models of a function: one engine, and a session for each model that is in memory."""
    engine = ort.Engine(model.library("lib/libonnxruntime.so", "the engine"))

    def opener(there: str) -> Opened:
        loaded = model.load(lambda folder, told: model.open_session(engine, folder, told), there)
        return kept(lambda: Service(loaded), lambda: let_go(loaded))

    return Several(place, settings, opener)


def kept(make: "Callable[[], Service]", close: "Callable[[], None]") -> Opened:
    """A model in memory with the service that `make` gives. Where a hook or a table keeps it from one it is let go of again: it is
    tried anew every few seconds."""
    try:
        return Opened(make(), close)
    except BaseException:
        close()
        raise


def let_go(loaded: model.Model) -> None:
    """Close a model's session, and unmap its weights where they lie outside the package."""
    loaded.session.close()
    if loaded.settings.get("weights"):
        sys.modules["mlpack_runtime.remote.start"].release(loaded.directory)
