"""The drift job: the features in a day's logged requests against those that the version was first asked for.

The log is that of `mlpack_runtime.around.prediction_log`: lines of JSON under PREFIX/MODEL/VERSION/YYYY/MM/DD/HH/. The reference is
made once for each version, of its first lines, as soon as there are enough, and kept; before that everything is unknown.

Promises: of a long log an even sample of objects is read, the same one each time; a line that is no line is counted and left out.
Will not: write an event of a drift that it is not sure of; judge answers, or values that were not logged (pictures, sounds).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from mlpack_jobs import psi
from mlpack_jobs.places import Clients, Place, objects, place_of, read, read_json, write_json

MOST_OBJECTS = 200
MOST_LINES = 100_000
FEATURES = 64
"""More of one request are left out: pixels are no features."""
ENOUGH = 1000
"""Lines of a reference."""
EVENT = {"Source": "mlpack", "DetailType": "drift"}


def run(settings: Mapping[str, Any], clients: Clients, now: float) -> dict[str, Any]:
    """The report: the verdict of each feature and of all. An event is put where there is drift."""
    s3, kept = clients("s3"), place_of(settings["artifacts"])
    log = place_of(settings["log"]).below(settings["model"])
    until = datetime.fromtimestamp(now, UTC)
    since = until - timedelta(hours=settings.get("hours", 24))
    version = _busiest(s3, log, since, until)
    report: dict[str, Any] = {"service": settings["service"], "version": version, "until": until.strftime("%Y-%m-%dT%H:%M:%SZ")}
    if version is None:
        return {**report, "verdict": "unknown", "why": "nothing was logged", "features": {}}
    folder = log.below(version)
    today, broken = _values(s3, list(_between(s3, folder, since, until)))
    place = kept.below(f"drift/{version}/reference.json")
    before = read_json(s3, place)
    if before is None:
        first, _ = _values(s3, _first(s3, folder))
        if (lines := max(map(len, first.values()), default=0)) < ENOUGH:
            why = f"the version has {lines} logged requests, and a reference takes {ENOUGH}"
            return {**report, "verdict": "unknown", "why": why, "features": {}}
        before = {name: psi.reference(values) for name, values in first.items()}
        write_json(s3, place, before)
    features = compare(before, today, float(settings.get("drift", 0.2)))
    verdicts = {finding["verdict"] for finding in features.values()}
    verdict = next((word for word in ("drift", "unknown") if word in verdicts), "stable" if verdicts else "unknown")
    report |= {"verdict": verdict, "features": features, "broken_lines": broken}
    write_json(s3, kept.below(f"drift/{version}/{until:%Y-%m-%dT%H}.json"), report)
    if verdict == "drift":
        names = [name for name, finding in features.items() if finding["verdict"] == "drift"]
        detail = {"service": settings["service"], "version": version, "features": names[:20]}
        answer = clients("events").put_events(Entries=[{**EVENT, "Detail": json.dumps(detail)}])
        if answer.get("FailedEntryCount"):
            raise RuntimeError(f"the event of the drift was refused: {answer['Entries'][0].get('ErrorMessage')}")
    return report


def compare(before: Mapping[str, Any], today: Mapping[str, list[Any]], limit: float) -> dict[str, dict[str, Any]]:
    """By feature, the finding as JSON. A feature of one side alone drifts where the other has lines without it."""
    lines = max(map(len, today.values()), default=0)
    told = {}
    for name, bins in sorted(before.items()):
        values = today.get(name, [None] * lines)
        finding = psi.compare(bins["counts"], psi.counts(bins, values), limit, len(before))
        told[name] = {key: round(value, 6) if isinstance(value, float) else value for key, value in finding._asdict().items()}
    return told


def features_of(request: Any) -> dict[str, Any]:
    """The features in a logged request by name, scalars all; of the protocol's inputs the first row, a name for each column."""
    told: dict[str, Any] = {}
    if not isinstance(request, dict):
        return told
    inputs = request.get("inputs")
    if isinstance(inputs, list) and all(isinstance(one, dict) and "name" in one for one in inputs):
        pairs = [(str(one["name"]), one.get("data")) for one in inputs]
    elif isinstance(inputs, dict):
        pairs = list(inputs.items())
    elif "texts" in request:
        pairs = [("text", request["texts"])]
    else:
        pairs = list(request.items())
    for name, value in pairs:
        _add(told, name, value)
    return dict(sorted(told.items())[:FEATURES])


def _add(told: dict[str, Any], name: str, value: Any) -> None:
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        if "bytes" in value:  # a picture or a sound
            told[f"{name}.bytes"] = value["bytes"]
    elif not isinstance(value, list):
        told[name] = value
    elif value and isinstance(value[0], list):
        _add(told, name, value[0])
    elif len(value) <= FEATURES:
        told |= {f"{name}[{at}]": one for at, one in enumerate(value) if not isinstance(one, list | dict)}


def _values(s3: Any, places: list[Place]) -> tuple[dict[str, list[Any]], int]:
    """Each feature's values in all lines, None in a line without it; and how many lines were none."""
    rows: list[dict[str, Any]] = []
    broken = 0
    step = max(1, -(-len(places) // MOST_OBJECTS))
    for place in places[::step]:
        if len(rows) >= MOST_LINES:
            break
        for line in read(s3, place).splitlines():
            try:
                told = json.loads(line)
            except (ValueError, RecursionError):
                broken += 1
                continue
            if isinstance(told, dict) and "request" in told:
                rows.append(features_of(told["request"]))
    names = sorted({name for row in rows for name in row})
    return {name: [row.get(name) for row in rows] for name in names}, broken


def _between(s3: Any, folder: Place, since: datetime, until: datetime) -> Iterator[Place]:
    """The log's objects of these hours, in order."""
    hour = since.replace(minute=0, second=0, microsecond=0)
    while hour < until:
        for one in objects(s3, folder.below(f"{hour:%Y/%m/%d/%H}/")):
            yield Place(folder.bucket, one["Key"])
        hour += timedelta(hours=1)


def _first(s3: Any, folder: Place) -> list[Place]:
    """The version's first objects, enough of them for a reference where there are."""
    return [Place(folder.bucket, one["Key"]) for one in islice(objects(s3, Place(folder.bucket, folder.key + "/")), MOST_OBJECTS)]


def _busiest(s3: Any, log: Place, since: datetime, until: datetime) -> str | None:
    """The version with the most objects in these hours; of equals the last by name."""
    prefix = log.key.rstrip("/") + "/"
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=log.bucket, Prefix=prefix.lstrip("/"), Delimiter="/")
    names = [one["Prefix"][len(prefix.lstrip("/")) : -1] for page in pages for one in page.get("CommonPrefixes", ())]
    counts = {name: sum(1 for _ in _between(s3, log.below(name), since, until)) for name in names}
    return max((name for name in names if counts[name]), key=lambda name: (counts[name], name), default=None)
