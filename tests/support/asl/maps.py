"""Map states: items of a list or an object, in batches, in children with clocks of their own, so many at once, results in files.

After `input-output-itemreader`, `-itembatcher`, `-resultwriter` and `maprun-fail-threshold` of AWS's Step Functions guide: the
threshold is of items, and of count and percentage whichever is exceeded first fails the run; children that began before go on to
their end, those that did not are pending; a failed run has its result files, too.
"""

from __future__ import annotations

import csv
import heapq
import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.support.asl.paths import StatesError, fill, look

if TYPE_CHECKING:
    from tests.support.asl.interpreter import Run

EXPRESS_S = 300
_INLINE = 40


def run(parent: Run, state: Mapping[str, Any], given: Any) -> Any:
    """A map's result. Raises StatesError where more failed than it tolerates."""
    processor = state["ItemProcessor"]
    distributed = processor.get("ProcessorConfig", {}).get("Mode") == "DISTRIBUTED"
    items = _items(parent, state, given)
    batches = _batches(state, items, given, parent.context) if "ItemBatcher" in state else [(item, 1) for item in items]
    free = [parent.now] * min(
        state.get("MaxConcurrency") or len(batches) or 1, len(batches) or 1, *([] if distributed else [_INLINE])
    )
    heapq.heapify(free)
    children, failed, over = [], 0, float("inf")
    for at, (data, size) in enumerate(batches):
        begin = heapq.heappop(free)
        if begin >= over:
            children += [(None, each) for each, _ in batches[at:]]
            break
        child = _child(parent, processor, at, data, begin)
        heapq.heappush(free, child.now)
        children.append((child, data))
        failed += 0 if child.status == "SUCCEEDED" else size
        if _exceeded(state, failed, len(items), distributed=distributed):
            over = min(over, child.now)
    parent.now = max([parent.now, *(child.now for child, _ in children if child is not None)])
    if not distributed and over < float("inf"):
        first = next(child for child, _ in children if child is not None and child.status != "SUCCEEDED")
        raise StatesError(first.error, first.cause)
    written = _write(parent, state, given, children) if "ResultWriter" in state else None
    if over < float("inf"):
        raise StatesError("States.ExceedToleratedFailureThreshold", "The specified tolerated failure threshold was exceeded")
    return written or [child.output for child, _ in children if child is not None and child.status == "SUCCEEDED"]


def _child(parent: Run, processor: Mapping[str, Any], at: int, data: Any, begin: float) -> Run:
    """Item or batch number `at`, run to its end. An inline one is a part of its parent's execution."""
    express = processor.get("ProcessorConfig", {}).get("ExecutionType") == "EXPRESS"
    machine = {**processor, "TimeoutSeconds": EXPRESS_S} if express else processor
    child = type(parent)(machine, parent.tasks, f"{parent.name}-{at}", begin, parent.store)
    child.execute(data, Map={"Item": {"Index": at, "Value": data}})
    parent.edges |= child.edges
    parent.trace += child.trace
    return child


def _exceeded(state: Mapping[str, Any], failed: int, items: int, *, distributed: bool) -> bool:
    if not distributed or ("ToleratedFailureCount" not in state and "ToleratedFailurePercentage" not in state):
        return failed > 0
    count = "ToleratedFailureCount" in state and failed > state["ToleratedFailureCount"]
    share = "ToleratedFailurePercentage" in state and 100 * failed > state["ToleratedFailurePercentage"] * items
    return count or share


def _items(parent: Run, state: Mapping[str, Any], given: Any) -> list[Any]:
    if "ItemReader" in state:
        items = _read(parent, state["ItemReader"], given)
    else:
        items = look(state.get("ItemsPath", "$"), given, parent.context)
    if not isinstance(items, list):
        raise StatesError("States.Runtime", "a map is over a list")
    if "ItemSelector" not in state:
        return items
    return [
        fill(state["ItemSelector"], given, {**parent.context, "Map": {"Item": {"Index": at, "Value": item}}})
        for at, item in enumerate(items)
    ]


def _read(parent: Run, reader: Mapping[str, Any], given: Any) -> list[Any]:
    """An object of the store, as the reader's configuration says."""
    place = fill(reader["Parameters"], given, parent.context)
    text = parent.store.get((place["Bucket"], place["Key"]))
    if text is None:
        raise StatesError("States.ItemReaderFailed", f"there is no {place['Key']} in {place['Bucket']}")
    kind = reader["ReaderConfig"]["InputType"]
    try:
        if kind == "JSONL":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        if kind == "CSV":
            return [dict(row) for row in csv.DictReader(io.StringIO(text))]
        return list(json.loads(text))
    except ValueError as error:
        raise StatesError("States.ItemReaderFailed", str(error)) from None


def _batches(state: Mapping[str, Any], items: list[Any], given: Any, context: Mapping[str, Any]) -> list[tuple[Any, int]]:
    """(a child's input, how many items it has)."""
    batcher = state["ItemBatcher"]
    more = {"BatchInput": fill(batcher["BatchInput"], given, context)} if "BatchInput" in batcher else {}
    most = batcher.get("MaxItemsPerBatch", len(items) or 1)
    room = batcher.get("MaxInputBytesPerBatch", 262_144) - len(json.dumps({**more, "Items": []}))
    batches: list[list[Any]] = []
    used = 0
    for item in items:
        size = len(json.dumps(item)) + 2
        if size > room:
            raise StatesError("States.ItemReaderFailed", "an item is larger than a batch")
        if not batches or len(batches[-1]) >= most or used + size > room:
            batches.append([])
            used = 0
        batches[-1].append(item)
        used += size
    return [({**more, "Items": batch}, len(batch)) for batch in batches]


def _write(parent: Run, state: Mapping[str, Any], given: Any, children: list[tuple[Run | None, Any]]) -> Any:
    """Result files by status, and the manifest that names them."""
    place = fill(state["ResultWriter"]["Parameters"], given, parent.context)
    folder = f"{place['Prefix']}/{parent.name}"
    files: dict[str, list[Any]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    for child, data in children:
        row: dict[str, Any] = {"Input": json.dumps(data), "Status": "PENDING" if child is None else child.status}
        if child is not None:
            row |= {"Name": child.name} | (
                {"Output": json.dumps(child.output)}
                if child.status == "SUCCEEDED"
                else {"Error": child.error, "Cause": child.cause}
            )
        files["FAILED" if row["Status"] == "TIMED_OUT" else row["Status"]].append(row)
    told = {}
    for status, rows in files.items():
        name, text = f"{folder}/{status}_0.json", json.dumps(rows)
        told[status] = [{"Key": name, "Size": len(text)}] if rows else []
        if rows:
            parent.store[place["Bucket"], name] = text
    manifest = {"DestinationBucket": place["Bucket"], "MapRunArn": f"{parent.name}/map", "ResultFiles": told}
    parent.store[place["Bucket"], f"{folder}/manifest.json"] = json.dumps(manifest)
    return {
        "MapRunArn": manifest["MapRunArn"],
        "ResultWriterDetails": {"Bucket": place["Bucket"], "Key": f"{folder}/manifest.json"},
    }
