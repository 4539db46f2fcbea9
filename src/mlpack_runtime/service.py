"""One request to its answer: inference, errors, and the log line of each. The same for every target.

Promises: every request has an answer with a trace id, whatever was sent and whatever a hook did; an error says what was expected;
of a failure that is the package's the traceback is logged.
Will not: know events, sockets, or where it runs. Answers are the Open Inference Protocol's, but a `postprocess` hook's value
is the whole answer to a plain request.

A plain request is a JSON object that is no protocol request: what `preprocess` takes; without that hook what the package's task
takes, `{"text": "..."}` or `{"texts": [...]}` for a text model (pairs: `{"text", "text_pair"}` or `[first, second]`),
`{"inputs": {name: lists}}` for any. A task reads what `preprocess` returned, too, and `postprocess` goes before its answer.
"""

import sys
from time import perf_counter_ns

from mlpack_runtime import jsontext, model, ort, protocol, telemetry, texts
from mlpack_runtime.limits import ENVELOPE_BYTES, REQUEST_ID, TRACEBACK, cut, fits, keys_of, kind_of
from mlpack_runtime.protocol import Call, RequestError
from mlpack_runtime.telemetry import Clock
from mlpack_runtime.tensor import DATATYPES, count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from mlpack_runtime.access import Access
    from mlpack_runtime.around import Around
    from mlpack_runtime.fetching import Urls
    from mlpack_runtime.json_room import JsonRoom
    from mlpack_runtime.tasks.requests import Task
    from mlpack_runtime.tensor import Tensor

    Check = Callable[["Reply"], None]
    Predict = Callable[[Call, telemetry.Record], Mapping[str, Tensor]]

JSON = "application/json"
BINARY = "application/octet-stream"
RESPONSE_LIMIT_BYTES = 6 * 1024 * 1024  # AWS: 6 MB for a synchronous answer, after base64


class Reply:
    """An answer as HTTP sees it. `binary`: the body is no text."""

    __slots__ = ("binary", "body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: "dict[str, str]", *, binary: bool = False) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.binary = binary


class Service:
    """A loaded model with its hooks. Raises ModelError when a hook cannot be imported.

    `predict`: how a decoded call becomes outputs, RequestError where it does not; a worker puts calls together there. Left out,
    the model is asked at once, in the caller's thread.
    """

    room: "JsonRoom | None" = None
    """Where there is a limit to what is read at a time: a worker's. A function has one request at a time."""
    log_lines = True
    """Whether each request has a line in the log."""
    observe: "Callable[[telemetry.Record], None] | None" = None
    """Told of each request that has a line in the log."""
    around: "Around | None" = None
    """Features, a cache and a log of predictions, where the package has any."""
    _media: "str | None" = None
    """What bodies may be beside JSON: a kind of `media`, "" for any; None where nothing reads them."""
    access: "Access | None" = None
    """Who may ask over HTTP, and which origins' pages; None: anybody."""
    _urls: "Urls | None" = None
    """Puts bytes in the place of URLs. A front door leaves that to the worker."""

    def __init__(self, loaded: model.Model, predict: "Predict | None" = None) -> None:
        self.model = loaded
        self._predict = predict or self._directly
        self._cold = True
        while ort.SAID:
            telemetry.emit(telemetry.event(loaded, "WARNING", f"the engine said while it was loaded: {cut(ort.SAID.pop(0), 500)}"))
        self.access = open_access(loaded)
        self._preprocess = self._postprocess = None
        if loaded.settings.get("preprocess") or loaded.settings.get("postprocess"):
            self._preprocess, self._postprocess = _later("hooks").both(loaded.settings)
        around = loaded.settings.get("around")
        if around:
            self.around = _later("around").open_around(loaded, around, self._predict)
            self._predict = self.around.predict
        settings = loaded.settings.get("task")
        self._task: Task | None = _later("tasks").open_task(loaded, settings) if settings else None
        self._media = self._task.media if self._task is not None else "" if self._preprocess is not None else None
        urls = loaded.settings.get("urls")
        self._urls = _later("fetching").Urls(urls, self._media, loaded.limits) if urls else None

    def http(
        self,
        method: str,
        path: str,
        headers: "Mapping[str, str]",
        body: bytes,
        request_id: str = "",
        check: "Check | None" = None,
    ) -> Reply:
        """The answer to an HTTP request. `headers` have lower-case names; `check` may refuse an answer (RequestError)."""

        def work(record: telemetry.Record) -> Reply:
            early = self.access.enter(record, method, path, headers) if self.access is not None else None
            if early is not None:
                return Reply(204, b"", early)
            return self._in_room(headers, body, lambda content: self._route(record, method, path, headers, content))

        return self._answer(headers, request_id, work, check)

    def value(self, value: object, request_id: str = "", check: "Check | None" = None) -> Reply:
        """The answer to a JSON value that came without HTTP: JSON, which carries the trace id itself where it is an object."""
        return self._answer({}, request_id, lambda record: self._infer(record, value, None), check)

    def message(
        self,
        headers: "Mapping[str, str]",
        body: bytes,
        request_id: str,
        metrics: "Mapping[str, float]",
        check: "Check | None" = None,
    ) -> Reply:
        """The answer to a request out of a queue, in either form. `headers`, `check` as over HTTP; `metrics`: WORKER_METRICS."""

        def work(record: telemetry.Record) -> Reply:
            record.metrics.update(metrics)
            return self._in_room(headers, body, lambda content: self._infer(record, *self._split(record, headers, content)))

        return self._answer(headers, request_id, work, check)

    def refuse(self, error: RequestError, request_id: str = "", headers: "Mapping[str, str] | None" = None) -> Reply:
        """The answer to a request that could not even be read, logged like any other."""

        def fail(_: telemetry.Record) -> Reply:
            raise error

        return self._answer(headers or {}, request_id, fail)

    def warmup(self) -> Reply:
        """A short answer, for whoever only wants an instance to be up. The model does not run and nothing is logged."""
        body = {"warm": True, "model": self.model.name, "version": self.model.version, "trace_id": telemetry.trace_id({})}
        return Reply(200, jsontext.dumps(body).encode(), {"content-type": JSON})

    def described(self, name: "str | None") -> model.Described:  # noqa: ARG002  (where there are several, it says which)
        """What the model that a message is for says of itself."""
        return self.model

    def takes(self, parts: "list[str]") -> bool:
        """Whether a body is read at this path of the protocol, given as what stands behind `/v2`."""
        loaded = self.model
        return parts in (["models", loaded.name, "infer"], ["models", loaded.name, "versions", loaded.version, "infer"])

    def restored(self, spent_ms: float) -> None:
        """Tell in the next line a cold start that was the restore of a snapshot: this took `spent_ms` after it."""
        self._cold, self.model.stages_ms = True, {"restore": spent_ms}

    def _in_room(self, headers: "Mapping[str, str]", body: bytes, work: "Callable[[bytes], Reply]") -> Reply:
        """Do it with the body as it was before it was compressed, when there is room for the JSON that it reads."""
        limits = self.model.limits
        if "content-encoding" in headers:
            from mlpack_runtime.encodings import decoded  # nothing that other requests should pay for

            body = decoded(headers["content-encoding"], body, limits.body_bytes)  # type: ignore[assignment]  # read as a memoryview
        return work(body) if self.room is None else self.room.hold(headers, body, limits.json_bytes, lambda: work(body))

    def _answer(
        self,
        headers: "Mapping[str, str]",
        request_id: str,
        work: "Callable[[telemetry.Record], Reply]",
        check: "Check | None" = None,
    ) -> Reply:
        start = perf_counter_ns()
        record = telemetry.Record(telemetry.trace_id(headers), cut(request_id, REQUEST_ID), cold_start=self._cold)
        record.headers = headers
        try:
            record.answer_bytes = RESPONSE_LIMIT_BYTES if check is not None else None
            reply = work(record)
            if check is not None:
                check(reply)
        except RequestError as error:
            reply = _refusal(record, error)
        except ort.OrtError as error:
            kind, status = ("Unprocessable", 422) if ort.is_refusal(str(error), error.code) else ("EngineError", 500)
            reply = _refusal(record, RequestError(str(error), status, kind), "infer")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  (the boundary: no bug, no hook's SystemExit and no panic of Rust's goes on)
            reply = _refusal(record, RequestError(f"{type(error).__name__}: {error}", 500, type(error).__name__))
            record.detail["traceback"] = _traceback(error)
        reply.headers[telemetry.TRACE_HEADER] = record.trace_id
        if self.access is not None:
            self.access.mark(headers, reply.headers)
        record.status = reply.status
        if self.around is not None:
            self.around.finish(record, reply)
        record.latency_ms = (perf_counter_ns() - start) / 1e6
        if record.asked or reply.status >= 400:  # health checks and metadata are not requests to the model
            record.cold_start, self._cold = self._cold, False  # of several at once, one
            if record.cold_start:
                record.stages_ms.update({f"load_{stage}": spent for stage, spent in self.model.stages_ms.items()})
            if self.log_lines:
                telemetry.emit(telemetry.line(record, self.model))
            if self.observe is not None:
                self.observe(record)
        return reply

    def _route(self, record: telemetry.Record, method: str, path: str, headers: "Mapping[str, str]", body: bytes) -> Reply:
        from mlpack_runtime import routes  # nothing that a direct invocation's start should pay for

        described = routes.find(self.model, method, path)
        if described is None:
            return self._infer(record, *self._split(record, headers, body))
        return Reply(200, jsontext.dumps(described()).encode(), {"content-type": JSON})

    def _infer(self, record: telemetry.Record, value: object, binary: "memoryview | None") -> Reply:
        """`binary`: the bytes after the JSON; None for a direct invocation, which has none and whose answer can have none."""
        loaded, clock = self.model, Clock(record)
        if self.around is not None:
            self.around.begin(record, value)
        if protocol.is_inference(value):
            after, has_texts = memoryview(b"") if binary is None else binary, loaded.has_texts
            ports = (loaded.inputs, loaded.outputs)
            call = protocol.decode(value, after, *ports, has_texts=has_texts, limits=loaded.limits)  # type: ignore[arg-type]
            if binary is None and any(wants for _, wants in call.wanted):
                raise RequestError("a direct invocation's answer is JSON: binary outputs need HTTP. Leave binary_data out")
            clock.lap("decode")
            self._check_answer(record, call)
            outputs, clock = self._outputs(record, call)
            if any(call.classes.values()):
                outputs = _later("classification").answer(outputs, call.classes, loaded.settings)
        else:
            protocol.check_no_bytes(binary)
            call = self._plain(value, clock)
            tensors = self._postprocess is None and call.asked is None
            if tensors:
                self._check_answer(record, call)
            outputs, clock = self._outputs(record, call)
            if not tensors:
                made = self._made(outputs, call)
                clock.lap("postprocess")
                if binary is None and type(made) is dict:  # without HTTP there is no header to carry it
                    made = {"trace_id": record.trace_id, **made}
                body = jsontext.dumps(made).encode() if self._postprocess is None else _later("hooks").to_json(made)
                return Reply(200, body, {"content-type": JSON})
        body, header_bytes = protocol.encode(outputs, call, name=loaded.name, version=loaded.version, trace_id=record.trace_id)
        clock.lap("encode")
        if header_bytes is None:
            return Reply(200, body, {"content-type": JSON})
        headers = {"content-type": BINARY, protocol.HEADER_LENGTH: str(header_bytes)}
        return Reply(200, body, headers, binary=True)

    def _made(self, outputs: "Mapping[str, Tensor]", call: Call) -> "Any":
        """The answer to a plain request that the hook makes, or else the task."""
        if self._postprocess is not None:
            return self._postprocess(outputs)
        assert self._task is not None
        return self._task.answer(outputs, call)

    def _check_answer(self, record: telemetry.Record, call: Call) -> None:
        """Refuse now what would be refused when it is computed: outputs that have the call's rows, and a size for each."""
        axis = self.model.inputs[0].shape[0] if self.model.inputs and self.model.inputs[0].shape else None
        ports, least = {port.name: port for port in self.model.outputs}, 0
        for name, binary in call.wanted if record.answer_bytes is not None and type(axis) is str and axis != "?" else ():
            if call.classes.get(name):  # fewer, and short
                continue
            first, *others = ports[name].shape or (None,)
            if first == axis and all(type(size) is int for size in others):
                least += call.batch * count(tuple(others)) * (DATATYPES[ports[name].datatype][1] if binary else 2)  # type: ignore[arg-type]
        fits(least, record.answer_bytes or least + ENVELOPE_BYTES)

    def _split(self, record: telemetry.Record, headers: "Mapping[str, str]", body: bytes) -> "tuple[Any, memoryview]":
        clock = Clock(record)
        value = self._read(headers, body)
        clock.lap("decode")
        return value

    def _read(self, headers: "Mapping[str, str]", body: bytes) -> "tuple[Any, memoryview]":
        if self._media is not None and bytes(body[:1]) != b"{" and protocol.HEADER_LENGTH not in headers:
            value = _later("media").read(headers, body, self._media, self.model.limits)
            if value is not None:
                return value, memoryview(b"")
        return protocol.split(headers, body, self.model.limits)

    def _outputs(self, record: telemetry.Record, call: Call) -> "tuple[Mapping[str, Tensor], Clock]":
        record.asked, record.batch = True, call.batch
        if call.series is not None:
            return call.series(self._predict, record), Clock(record)
        return self._predict(call, record), Clock(record)

    def _directly(self, call: Call, record: telemetry.Record) -> "Mapping[str, Tensor]":
        clock, loaded, inputs = Clock(record), self.model, call.inputs
        if call.texts is not None:
            inputs = loaded.tokenize_within(call.texts) or {}
            clock.lap("tokenize")
        if (call.texts is not None and not inputs) or loaded.tokens(inputs) > loaded.limits.engine_tokens:
            outputs: Mapping[str, Tensor] = _later("portions").run(loaded, inputs if call.texts is None else call.texts)
        else:
            outputs = loaded.predict(inputs)
        clock.lap("infer")
        return outputs

    def _plain(self, value: object, clock: Clock) -> Call:
        if type(value) is not dict:
            raise RequestError(f"the body is a JSON {kind_of(value)}; an object is needed: {self._usage()}")
        made: Any = value
        if self._urls is not None:
            made = self._urls.fetched(made)
            clock.lap("fetch")
        if self._preprocess is not None:
            made = self._preprocess(made)
            clock.lap("preprocess")
            if type(made) is not dict:
                raise _later("hooks").failure_of("preprocess", f"returned a {type(made).__name__}, not a dict of tensors")
        fed = self.around.feed(made, clock.record) if self.around is not None else None
        if fed is not None:
            clock.lap("features")
        call = self._task.request(made) if self._task is not None and fed is None else None
        if call is not None:
            clock.lap("decode")
            return call
        call = Call()
        call.wanted = [(port.name, False) for port in self.model.outputs]
        if self.model.has_texts and made.keys() in ({"text"}, {"texts"}, {"text", "text_pair"}):
            call.texts = texts.plain(made, self.model.limits)
        elif self._preprocess is not None or fed is not None:
            call.inputs = protocol.tensors(made if fed is None else fed, self.model.inputs, self.model.limits)
        elif made.keys() == {"inputs"} and type(made["inputs"]) is dict:
            call.inputs = protocol.tensors(made["inputs"], self.model.inputs, self.model.limits)
        else:
            raise RequestError(f"the body has {keys_of(made)}: {self._usage()}")
        clock.lap("decode")
        return call

    def _usage(self) -> str:
        forms = ['an Open Inference Protocol v2 request {"inputs": [{"name", "shape", "datatype", "data"}]}']
        if self._preprocess is not None:
            forms.append("what this package's preprocess hook takes")
        else:
            forms += self._task.forms.values() if self._task is not None else []
            forms += [form for form in texts.FORMS if form not in forms] if self.model.has_texts else []
            forms.append('{"inputs": {name: nested lists}}')
        forms += self.around.forms if self.around is not None else []
        return "send " + " or ".join(forms)


def fits_direct(reply: Reply, limit: int = RESPONSE_LIMIT_BYTES, beside: int = 0) -> None:
    """Raise RequestError for an answer that is too large for a direct invocation. `beside`: bytes that go with it."""
    # The stock client writes the answer anew, with a space after each comma and colon.
    fits(len(reply.body) + reply.body.count(b",") + reply.body.count(b":") + beside, limit)


def open_service() -> Service:
    """Load the package in this process. Raises ModelError or OrtError: a package that cannot serve must not start."""
    if model.has_several(place := model.directory()):
        return _later("several.service").open_several(place, model.read_settings(place))  # type: ignore[no-any-return]
    return Service(model.load())


def open_access(described: model.Described, *, hooks: bool = True) -> "Access | None":
    """What `access` knows of a package that says who may ask; None of one that does not. Raises ModelError."""
    settings = described.settings
    return _later("access").Access(described, hooks=hooks) if settings.get("authorize") or settings.get("cors") else None


def _later(name: str) -> "Any":
    """A module by its name: an ordinary request should not pay for it, and a front door has this module, but not that one."""
    __import__(f"mlpack_runtime.{name}")
    return sys.modules[f"mlpack_runtime.{name}"]


def _refusal(record: telemetry.Record, error: RequestError, stage: str = "") -> Reply:
    record.detail.update(error_type=error.kind, error_message=str(error))
    if stage := error.stage or stage:
        record.detail["error_stage"] = stage
    if error.kind == "HookError":
        record.metrics["hook_errors"] = 1
    if error.__cause__ is not None:
        record.detail["traceback"] = _traceback(error.__cause__)
    body = protocol.error_body(error.kind, error, record.trace_id)
    return Reply(error.status, body, {"content-type": JSON, **error.headers})


def _traceback(error: BaseException) -> str:
    from traceback import format_exception

    return cut("".join(format_exception(error)), TRACEBACK)
