"""The worker's other entrance: messages of a queue into the consumer, through real batches, in this process. The queue, S3 and the
place for results are lists."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

from tests_slow.fuzzing import harness, oracle, packages, requests
from tests_slow.fuzzing.packages import SPECS, Spec

from mlpack_runtime.backend import open_backend
from mlpack_runtime.model import Model
from mlpack_runtime.queueing.consumer import Consumer
from mlpack_runtime.queueing.sqs import Delivery
from mlpack_runtime.service import Service
from mlpack_runtime.serving.batched import Batched
from mlpack_runtime.serving.batcher import Batcher
from mlpack_runtime.serving.breaker import Breaker
from mlpack_runtime.serving.probe import probe


class Store:
    """All that a consumer knows besides its service: what became of the one message."""

    url = "https://sqs.eu-central-1.amazonaws.com/1/work"

    def __init__(self) -> None:
        self.held = self.buried = self.deleted = self.given_back = 0
        self.results: dict[str, dict[str, Any]] = {}

    def drop(self, _: Delivery) -> bool:
        held, self.held = self.held, 0
        return bool(held)

    def add(self, _: Delivery) -> None:
        self.deleted += 1

    def change(self, entries: list[tuple[Delivery, int]]) -> None:
        self.given_back += len(entries)

    def bury(self, _: Delivery, reason: str) -> bool:
        self.buried += 1
        oracle.check(len(reason) <= 4_000, f"a reason of {len(reason)} letters")
        return True

    def put(self, _: str, request_id: str, document: dict[str, Any]) -> bool:
        there = self.status("", request_id)
        oracle.check(there is None or 400 <= there < 500, "a second result")  # a refused message is buried when it comes again
        self.results.setdefault(request_id, document)
        return there is None

    def status(self, _: str, request_id: str) -> int | None:
        return int(self.results[request_id]["status"]) if request_id in self.results else None


class Payloads:
    """S3, as far as a consumer asks it."""

    def __init__(self) -> None:
        self.body = b""

    def get_object(self, **where: str) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        if where["Bucket"] != "bucket":
            raise ClientError(
                {"Error": {"Code": "NoSuchKey", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "GetObject"
            )
        return {"ContentLength": len(self.body), "Body": io.BytesIO(self.body)}


def batched(root: Path) -> tuple[Service, Model, Batcher]:
    """A package's service as a worker has it."""
    loaded = packages.load(root, lambda place, told: open_backend(place, told))
    backend: Any = loaded.session
    found = probe(loaded, backend)
    batcher = Batcher(backend, found.layout, max_batch=8, max_wait_s=0, breaker=Breaker(3, 0.01), sample=found.sample)
    batcher.start()
    return Service(loaded, Batched(loaded, batcher)), loaded, batcher


class Entrance:
    """Consumers of four packages over one store."""

    def __init__(self, told: harness.Told, output: harness.Output) -> None:
        sys.setswitchinterval(0.0005)
        self.seed = told.seed + 2
        self.output = output
        self.store, self.payloads = Store(), Payloads()
        self.batchers, self.consumers = [], {}
        for spec in SPECS:
            service, _, batcher = batched(packages.make(told.work / f"messages-{spec.kind}", spec))
            store: Any = self.store
            self.consumers[spec.kind] = made = Consumer(service, store, store, store, store)
            made._s3 = self.payloads
            self.batchers.append(batcher)
        self.first: dict[tuple[str, int], Any] = {}
        output.lines()

    def of(self, number: int) -> tuple[Spec, requests.Request, dict[str, Any]]:
        spec = SPECS[number % len(SPECS)]
        request, random = requests.draw(self.seed, number // len(SPECS), spec)
        return spec, request, requests.cleaned(requests.message(random, request))

    def send(self, number: int) -> tuple[int, str]:
        """One message to its end: deleted after its result, or given back."""
        spec, request, message = self.of(number)
        store = self.store
        store.held, store.buried, store.deleted, store.given_back, store.results = 1, 0, 0, 0, {}
        self.payloads.body = request.body
        self.consumers[spec.kind].handle(Delivery(message, time.monotonic(), time.time() * 1000))
        lines = [oracle.line(text, "lambda-zip") for text in self.output.lines()]
        size = request.size + len(str(message["MessageAttributes"]))
        if store.given_back:
            self._given_back(spec, lines)
            oracle.check(request.correct is None, "a correct message was given back", lines)
            return size, "given back"
        oracle.check((store.deleted, store.given_back, len(store.results)) == (1, 0, 1), "what became of a message", vars(store))
        ((request_id, document),) = store.results.items()
        oracle.check(not set(request_id) - requests.NAME_LETTERS and 0 < len(request_id) <= 200, "a result's name", request_id)
        status, value = self._document(document, spec)
        oracle.check(store.buried == int(400 <= status < 500), f"{store.buried} dead letters for {status}", value)
        oracle.check([line["status"] for line in lines if "batch" in line] == [status], "lines about a message", lines)
        if request.correct is not None:
            oracle.check(status == 200, f"a correct message got {status}", value)
            first = self.first.setdefault((spec.kind, request.correct), oracle.plain(value))
            oracle.check(oracle.plain(value) == first, "a correct message's answer is another one than at first", value)
        return size, str(status)

    def _given_back(self, spec: Spec, lines: list[dict[str, Any]]) -> None:
        """Only for another version, which another worker may have, and for a hook's own fault."""
        store = self.store
        oracle.check((store.deleted, store.given_back, store.results) == (0, 1, {}), "what became of a message", vars(store))
        told = {line.get("error_type") for line in lines if line.get("status")}
        hooks = {*packages.HOOKS_FAULTS} if spec.hooked else set()
        oracle.check(told and told <= {"OtherVersion"} | hooks, "why a message was given back", lines)

    def _document(self, document: dict[str, Any], spec: Spec) -> tuple[int, Any]:
        """Its answer, from a result's document: as the front door reads it."""
        from mlpack_runtime.door.tickets import reply_of

        oracle.check(
            set(document) == {"status", "headers", "body", "binary", "trace_id", "request_id"}, "a result's keys", document
        )
        reply = reply_of(document, "name")
        headers = {**reply.headers, "x-trace-id": document["trace_id"]}
        return reply.status, oracle.answer(
            reply.status, headers, reply.body, {500: set(packages.HOOKS_FAULTS)} if spec.hooked else {}
        )

    def describe(self, number: int) -> str:
        spec, _, message = self.of(number)
        return f"package {spec.kind}: {harness.shown(message)}"

    def end(self) -> None:
        for one in self.batchers:
            one.stop()


def run(told: harness.Told) -> None:
    """As many as it is told."""
    with harness.Output() as output:
        entrance = Entrance(told, output)
        try:
            harness.Run("messages", told, output).each(entrance.send, entrance.describe)
        finally:
            entrance.end()
