"""An order to a runner: manifest, folder, plan and service put together, and run.

Promises: the same order of the same manifest for the same package has one folder and one plan, whoever makes them; a folder of
another manifest or package is refused. Will not: know where the order came from.
"""

# ruff: noqa: PTH123 - pathlib is nothing that this runtime needs

import os
from hashlib import sha256
from time import sleep

from mlpack_runtime import aws, jsontext
from mlpack_runtime.aws import promises
from mlpack_runtime.batch.answering import Answerer, Crew
from mlpack_runtime.batch.errors import BatchError
from mlpack_runtime.batch.items import Opener
from mlpack_runtime.batch.places import Places
from mlpack_runtime.batch.reading.manifests import open_manifest
from mlpack_runtime.batch.reading.plans import parts
from mlpack_runtime.batch.reading.sources import open_source
from mlpack_runtime.batch.runs import Bounds, Run
from mlpack_runtime.batch.writing.claims import LEASE_S, Claims
from mlpack_runtime.batch.writing.folders import S3Folder
from mlpack_runtime.batch.writing.local_folder import LocalFolder
from mlpack_runtime.batch.writing.pieces import note_of
from mlpack_runtime.batch.writing.planning import Planning
from mlpack_runtime.batch.writing.progress import RUNNING, Counts, Progress
from mlpack_runtime.limits import number
from mlpack_runtime.model import ROOT, tokenizer_digest
from mlpack_runtime.routes import MODEL_HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from mlpack_runtime.batch.items import Item
    from mlpack_runtime.batch.orders import Order
    from mlpack_runtime.batch.reading.manifests import Manifest
    from mlpack_runtime.batch.reading.plans import Part
    from mlpack_runtime.batch.reading.sources import Source
    from mlpack_runtime.batch.writing.folders import Folder
    from mlpack_runtime.model import Described
    from mlpack_runtime.service import Service

SCHEMA = 1
_JOB = "job.json"


class Settings:
    """How a runner works. Raises SettingsError. `part_items`: of a part at first; `checkpoint_items`, `checkpoint_s`: when what is
    answered is written; `lease_s`: how long a part is a runner's that says nothing."""

    def __init__(self, environment: "Mapping[str, str]") -> None:
        self.part_items = int(number(environment, "MLPACK_BATCH_PART_ITEMS", 1000, 1, 1 << 30))
        self.checkpoint_items = int(number(environment, "MLPACK_BATCH_CHECKPOINT_ITEMS", 1000, 1, 1 << 20))
        self.checkpoint_s = number(environment, "MLPACK_BATCH_CHECKPOINT_S", 30, 0.01, 3600)
        self.lease_s = number(environment, "MLPACK_BATCH_LEASE_S", LEASE_S, 1, 86_400)
        self.unconditional = promises.is_waived(environment)


class Job:
    """A batch for a service. `threads`: how many items are asked of it at a time; `files`: whether manifest, results and objects
    may lie on this machine; `client`: makes a client of S3; `warn`: told of what a store lacks."""

    def __init__(
        self,
        order: "Order",
        service: "Service",
        settings: Settings,
        *,
        threads: int = 1,
        files: bool = False,
        client: "Callable[[], Any] | None" = None,
    ) -> None:
        self._order = order
        self._service = service
        self._settings = settings
        self._threads = threads
        self._files = files
        self._made: Any = None
        self._client = client or (lambda: aws.client("s3"))
        self.going: Callable[[], bool] = lambda: True
        self.wait: Callable[[float], object] | None = None
        self.pause: Callable[[float], object] = sleep
        self.say: Callable[[dict[str, Any]], None] | None = None
        self.warn: Callable[[str], None] = lambda _: None

    def run(self) -> "dict[str, Any]":
        """Until all is done, or as `Run.run` ends; what the status says then. Raises BatchError."""
        order, model = self._order, self._model
        if order.model not in ("", model.name):
            raise BatchError(f"there is no model {order.model!r} here; this package has {model.name!r}")
        if not self._files and not order.manifest.startswith("s3://"):
            raise BatchError(f"the manifest is {order.manifest!r}: an address s3://bucket/key is needed")
        try:
            source = open_source(order.manifest, self._s3)
            manifest = open_manifest(source, order.format, model.limits.body_bytes)
            try:
                return self._run(source, manifest)
            finally:
                manifest.close()
        except aws.AwsError as error:
            raise BatchError(str(error), 4) from None

    def _run(self, source: "Source", manifest: "Manifest") -> "dict[str, Any]":
        order, model = self._order, self._model
        opener = Opener(model, manifest.columns, order.columns)
        described = self._described(source)
        identity = sha256(jsontext.dumps(described).encode()).hexdigest()[:12]
        folder = self._folder(order.results or f"{source.uri}.results/{identity}")
        told = {"columns": order.columns, "format": order.format, "model": order.model}
        about = {"manifest": source.uri, "results": folder.uri, **{key: value for key, value in told.items() if value}}
        rows = self._planned(folder, described, manifest)
        if rows is None:
            return Progress(folder, model, about, self.say).tell(Counts(0, 0), RUNNING)
        places = Places(source.uri, self._s3, model.limits, files=self._files)
        answerer = Answerer(self._service, places.fetch, f"batch-{identity}", self.pause)
        answerer.headers = {MODEL_HEADER: order.model} if order.model else {}
        crew = Crew(answerer, self._threads)
        run = Run(
            folder,
            parts(rows),
            lambda part, skipped: _items(manifest, opener, part, skipped),
            crew,
            Claims(folder, self._settings.lease_s),
            Progress(folder, model, about, self.say),
        )
        run.bounds = Bounds(self._settings.checkpoint_items, seconds=self._settings.checkpoint_s)
        run.going, run.wait = self.going, self.wait
        try:
            return run.run()
        finally:
            crew.end()

    def _described(self, source: "Source") -> "dict[str, Any]":
        model, order = self._model, self._order
        return {
            "schema": SCHEMA,
            "manifest": source.uri,
            "tag": source.tag,
            "size": source.size,
            "model": model.name,
            "version": model.version,
            "variant": model.variant,
            **({"code": code} if (code := _code(model)) else {}),
            "columns": order.columns,
            "format": order.format,
        }

    def _planned(self, folder: "Folder", told: "dict[str, Any]", manifest: "Manifest") -> "list[list[int]] | None":
        """The folder's own plan: the first one that was written; None where the next runner goes on with it."""
        held = folder.read(_JOB)
        if held is None:
            planning = Planning(folder, told, manifest)
            rows = manifest.plan(planning.planner(self._settings.part_items), self.going)
            if rows is None:
                if planning.stopped():
                    return None
                raise BatchError(
                    f"{told['manifest']} is too large to be looked through in the time that there is. Begin it with a worker, or"
                    " with `mlpack run --batch`, which may be stopped when its folder has a job.json: functions go on from there"
                )
            plan = {**told, "record_bytes": manifest.most, "parts": rows}
            if folder.put_new(_JOB, jsontext.dumps(plan).encode()):
                return rows
            held = folder.read(_JOB)
        found = jsontext.loads(held[0]) if held else {}
        other = next((key for key, value in told.items() if found.get(key) != value), None)
        if other is not None:
            raise BatchError(
                f"{folder.uri} has the results of another batch (its {other} is {found.get(other)!r}, here it is {told[other]!r}):"
                " name another place for these"
            )
        manifest.most = found["record_bytes"]  # whoever planned may have had other limits
        rows = found["parts"]
        assert isinstance(rows, list)
        return rows

    def _folder(self, uri: str) -> "Folder":
        if not uri.startswith("s3://"):
            if not self._files:
                raise BatchError(f"the results are to go to {uri!r}: an address s3://bucket/prefix is needed")
            return LocalFolder(uri, note_of)
        _, bucket, prefix = aws.split_uri(uri, "s3")
        folder = S3Folder(self._s3(), bucket, prefix)
        folder.assure(self.warn, unconditional=self._settings.unconditional)
        return folder

    @property
    def _model(self) -> "Described":
        return self._service.described(self._order.model or None)

    def _s3(self) -> "Any":
        if self._made is None:
            self._made = self._client()
        return self._made


def _items(manifest: "Manifest", opener: Opener, part: "Part", skipped: int) -> "Iterator[Item]":
    for record in manifest.records(part):
        if record.number >= part.first + skipped:
            yield opener.item(record)


def _code(model: "Described") -> str:
    """A digest of what makes answers of the model's outputs, and its inputs of requests, which its version knows nothing of: hooks
    with their files, the task, features, and what cuts texts. "" for a package that has nothing of it."""
    settings = model.settings
    told = {key: settings[key] for key in ("preprocess", "postprocess", "task") if settings.get(key)}
    features = (settings.get("around") or {}).get("features") or {}
    told |= {f"features.{key}": features[key] for key in ("table", "key", "columns", "defaults") if key in features}
    if settings.get("tokenizer"):
        told["tokenizer"] = tokenizer_digest(model.directory, settings["tokenizer"]).hex()
    if settings.get("preprocess") or settings.get("postprocess"):
        told["files"] = _files(os.path.join(os.environ.get("LAMBDA_TASK_ROOT") or ROOT, "app"))
    return sha256(jsontext.dumps(sorted(told.items())).encode()).hexdigest()[:12] if told else ""


def _files(folder: str) -> "list[list[str]]":
    """The name and digest of each file below a folder but bytecode, which each version of Python has of its own."""
    rows = []
    for place, _, names in os.walk(folder):
        for name in names:
            if os.path.basename(place) != "__pycache__":
                with open(os.path.join(place, name), "rb") as stream:
                    rows.append([os.path.relpath(os.path.join(place, name), folder), sha256(stream.read()).hexdigest()])
    return sorted(rows)
