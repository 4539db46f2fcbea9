"""What a small request may cost, at each of the three entrances: counted, not timed.

For every request of the corpus: calls of Python and C functions, the highest memory meanwhile, what the engine is asked for, and
what is answered and logged, each held to a bound by the request's bytes. docs/reliability.md has the bounds.
"""

from __future__ import annotations

import base64
import importlib
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.runtime import hostile_requests
from tests.support.runtime.front_doors import Context, described
from tests.support.runtime.hostile_requests import Request

from mlpack_runtime import model, service, telemetry
from mlpack_runtime.backend import open_backend
from mlpack_runtime.door import exchange
from mlpack_runtime.door.settings import Settings
from mlpack_runtime.service import Reply
from mlpack_runtime.serving.batched import Batched
from mlpack_runtime.serving.batcher import Batcher
from mlpack_runtime.serving.breaker import Breaker
from mlpack_runtime.serving.probe import probe
from mlpack_runtime.tensor import count

CALLS = (3_000, 30)
PEAK_BYTES = (300_000, 300)
ASKED_VALUES = (20_000, 10)
REFUSAL_BYTES = 12_000
LOG_BYTES = 16_000
PROMISED = (200, 400, 413, 422, 504)
"""A request may cost the first number, and the second for each of its bytes."""

PORTS = {
    "inputs": [{"name": name, "dtype": "int64", "shape": ["batch", "sequence"]} for name in ("input_ids", "attention_mask")],
    "outputs": [{"name": "embedding", "dtype": "float32", "shape": ["batch", 5]}],
}
Answer = Callable[[Request], tuple[int, int]]
"""Status and bytes of the answer to a request."""


class Meter:
    """What one request cost."""

    def __init__(self) -> None:
        self.asked = self.logged = self.calls = self.peak = 0

    def run(self, work: Callable[[], Any]) -> Any:
        self.asked = self.logged = self.calls = 0

        def count_call(_frame: object, event: str, _argument: object) -> None:
            self.calls += event in ("call", "c_call")

        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        sys.setprofile(count_call)
        try:
            return work()
        finally:
            sys.setprofile(None)
            self.peak = tracemalloc.get_traced_memory()[1] - before


@pytest.fixture(scope="module")
def meter() -> Iterator[Meter]:
    made = Meter()
    tracemalloc.start(1)
    yield made
    tracemalloc.stop()


@pytest.fixture(autouse=True)
def listening(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    def emit(text: str) -> None:
        meter.logged += len(text)

    monkeypatch.setattr(telemetry, "emit", emit)


def event(request: Request) -> dict[str, Any]:
    return {
        "version": "2.0",
        "rawPath": "/v2/models/tiny/infer",
        "headers": request.headers,
        "requestContext": {"http": {"method": "POST"}},
        "body": base64.b64encode(request.body).decode(),
        "isBase64Encoded": True,
    }


def weighed(session: Any, meter: Meter) -> None:
    """The session, counting what it is asked for."""
    run = session.run

    def counted(feeds: Any) -> Any:
        meter.asked += sum(count(made.shape) for made in feeds.values())
        return run(feeds)

    session.run = counted


@pytest.fixture
def function(texts: Path, meter: Meter, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """A Lambda package's handler."""
    monkeypatch.setattr(model, "ROOT", str(texts))
    monkeypatch.delitem(sys.modules, "mlpack_runtime.handler", raising=False)
    handler = importlib.import_module("mlpack_runtime.handler")
    weighed(handler.SERVICE.model.session, meter)

    def answer(request: Request) -> tuple[int, int]:
        given = event(request)
        found = meter.run(lambda: handler.handler(given, Context()))
        return found["statusCode"], len(found["body"])

    return answer


@pytest.fixture
def worker(texts: Path, meter: Meter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answer]:
    """A worker's service, its batcher's thread included."""
    monkeypatch.setattr(model, "ROOT", str(texts))
    loaded = model.load(open_backend)
    backend: Any = loaded.session
    batcher = Batcher(backend, probe(loaded, backend).layout, max_batch=8, max_wait_s=0, breaker=Breaker())
    batcher.hold_to(loaded.limits)
    batcher.start()
    weighed(backend, meter)
    made = service.Service(loaded, Batched(loaded, batcher))

    def answer(request: Request) -> tuple[int, int]:
        before = batcher._waiting.looked_at
        reply = meter.run(lambda: made.http("POST", "/v2/models/tiny/infer", request.headers, request.body, "r"))
        meter.calls += batcher._waiting.looked_at - before
        assert not batcher._waiting.nbytes
        return reply.status, len(reply.body)

    yield answer
    batcher.stop()


@pytest.fixture
def door(tmp_path: Path, meter: Meter, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """A front door before a worker that notes what it is sent."""
    folder = described(tmp_path, **PORTS, tokenizer={"file": "tokenizer.json", "max_length": 6}, memory_mb=1769)
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(folder))
    sent: list[int] = []

    def ask(_path: str, body: bytes, headers: dict[str, str], seconds: float) -> Reply:
        assert 0 < seconds < 2_000_000  # what a socket takes
        assert sum(map(len, headers.values())) < 5000  # what a worker's HTTP takes
        sent.append(len(body) + sum(map(len, headers.values())))
        return Reply(200, b"{}", {"content-type": "application/json"})

    settings = Settings({"MLPACK_WORKER_URL": "http://127.0.0.1:1"})
    ways: Any = (None, None, SimpleNamespace(ask=ask))
    made = exchange.Door(model.describe(), settings, ways)
    monkeypatch.setattr(exchange, "open_door", lambda _: made)
    monkeypatch.delitem(sys.modules, "mlpack_runtime.frontdoor", raising=False)
    frontdoor = importlib.import_module("mlpack_runtime.frontdoor")
    unlimited = SimpleNamespace(aws_request_id="r")  # a context that tells no time, as over plain HTTP

    def answer(request: Request) -> tuple[int, int]:
        sent.clear()
        given = event(request)
        _, found = meter.run(lambda: frontdoor.respond(made, given, unlimited))
        assert sum(sent) <= 1000 + 4 * request.nbytes
        return found["statusCode"], len(found["body"])

    return answer


def allowed(bound: tuple[int, int], request: Request) -> int:
    return bound[0] + bound[1] * request.nbytes


def held(answer: Answer, meter: Meter, requests: list[Request]) -> list[str]:
    """What of these costs more than it may."""
    answer(Request("once", hostile_requests.written(hostile_requests.good())))  # what the first one alone imports
    problems = []
    for one in requests:
        status, size = answer(one)
        costs = {
            "calls": (meter.calls, allowed(CALLS, one)),
            "peak": (meter.peak, allowed(PEAK_BYTES, one)),
            "asked": (meter.asked, allowed(ASKED_VALUES, one)),
            "logged": (meter.logged, LOG_BYTES),
            "refusal": (size if status != 200 else 0, REFUSAL_BYTES),
            "status": (int(status not in PROMISED), 0),
        }
        problems += [
            f"{one.name} ({one.nbytes} bytes, {status}): {what} {cost}, at most {most}"
            for what, (cost, most) in costs.items()
            if cost > most
        ]
    return problems


ENTRANCES = pytest.mark.parametrize("entrance", ["function", "worker", "door"])


@ENTRANCES
def test_a_small_request_costs_little(entrance: str, meter: Meter, request: pytest.FixtureRequest) -> None:
    requests = [*hostile_requests.singles(1000), *list(hostile_requests.pairs(1000))[::25]]
    problems = held(request.getfixturevalue(entrance), meter, requests)
    assert not problems, "\n".join(problems)


@pytest.mark.slow
@ENTRANCES
def test_no_request_of_the_corpus_costs_much(entrance: str, meter: Meter, request: pytest.FixtureRequest) -> None:
    problems = held(request.getfixturevalue(entrance), meter, hostile_requests.corpus())
    assert not problems, "\n".join(problems)
