"""Batches in the process of the tests: manifests as files, a service that echoes, and folders that end a runner."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack_runtime.batch.answering import Answerer, Crew
from mlpack_runtime.batch.items import Opener
from mlpack_runtime.batch.reading.manifests import open_manifest
from mlpack_runtime.batch.reading.plans import Planner, parts
from mlpack_runtime.batch.reading.sources import FileSource
from mlpack_runtime.batch.runs import Bounds, Run
from mlpack_runtime.batch.writing.claims import Claims
from mlpack_runtime.batch.writing.progress import Progress
from mlpack_runtime.model import Described
from mlpack_runtime.protocol import RequestError, error_body
from mlpack_runtime.service import JSON, Reply

if TYPE_CHECKING:
    from mlpack_runtime.batch.reading.manifests import Manifest

MOST = 10_000


def described(**settings: Any) -> Described:
    """A package by its settings, with the ports of `inputs`."""
    told = {"name": "tiny", "version": "3", "variant": "fp32", "target": "container", **settings}
    return Described("", told, settings.get("ports", ()), ())


def manifest(path: Path, data: bytes | str, kind: str = "", most: int = MOST) -> Manifest:
    """One in a file."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return open_manifest(FileSource(str(path)), kind, most)


def cut(found: Manifest, items: int = 3) -> list[Any]:
    """Its parts."""
    rows = found.plan(Planner(items), lambda: True)
    assert rows is not None
    return parts(rows)


class Echo:
    """A service: `statuses` by body, each time one of them; else the body is the answer."""

    def __init__(self, **statuses: list[int]) -> None:
        self.model = described()
        self.statuses = statuses
        self.asked: list[str] = []

    def described(self, name: Any) -> Described:
        """The package."""
        return self.model

    def message(self, headers: Any, body: bytes, request_id: str, metrics: Any) -> Reply:
        """The answer."""
        text = json.loads(body)["text"]
        self.asked.append(text)
        rest = self.statuses.get(text, [])
        status = rest.pop(0) if len(rest) > 1 else rest[0] if rest else 200
        if status == 200:
            return Reply(200, json.dumps({"echo": text}).encode(), {"content-type": JSON})
        return Reply(status, error_body("Wrong", f"status {status}", "t"), {})

    def refuse(self, error: RequestError, request_id: str = "", headers: Any = None) -> Reply:
        """An error's."""
        return Reply(error.status, error_body(error.kind, error, "t"), {})


class Killed(BaseException):
    """The process is gone: nothing it does after this has any effect."""


class Mortal:
    """A folder that ends its runner at its `at`-th call: before it has an effect, or with `after` right behind it."""

    def __init__(self, folder: Any, at: int, *, after: bool = False) -> None:
        self._folder = folder
        self._at = at
        self._after = after
        self.calls = 0
        self.uri = folder.uri

    def kill(self) -> None:
        """From now on no call has an effect."""
        self._at = 0
        raise Killed

    def __getattr__(self, name: str) -> Callable[..., Any]:
        work = getattr(self._folder, name)

        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls > self._at or (self.calls == self._at and not self._after):
                raise Killed
            value = work(*arguments)
            if self.calls == self._at:
                raise Killed
            return value

        return call


def runner(folder: Any, found: Manifest, service: Any, *, threads: int = 1, piece: int = 2, part: int = 3) -> Run:
    """A runner of a manifest that is there."""
    opener = Opener(service.model, found.columns, {})
    rows = cut(found, part)

    def items(one: Any, skipped: int) -> Any:
        return (opener.item(record) for record in found.records(one) if record.number >= one.first + skipped)

    answerer = Answerer(service, lambda *_: (b"", {}), "batch-0", lambda _: None)
    about = {"manifest": "m", "results": folder.uri}
    made = Run(folder, rows, items, Crew(answerer, threads), Claims(folder), Progress(folder, service.model, about))
    made.bounds = Bounds(piece)
    return made


def results(folder: Path) -> list[dict[str, Any]]:
    """All lines of all pieces, in order."""
    return [json.loads(line) for path in sorted(folder.glob("results/*")) for line in path.read_text().splitlines()]
