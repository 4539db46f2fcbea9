"""The typed record of a build: what reads it and its published schema say the same."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.errors import RecipeError
from mlpack.report import diff, report, webpage
from mlpack.report.record import BuildRecord, files, reading, schema

ROOT = Path(__file__).parent.parent.parent
GOLDEN = (ROOT / "tests" / "golden" / "build.json").read_bytes()
PUBLISHED = jsonschema.Draft202012Validator(json.loads((ROOT / "docs" / "build.schema.json").read_text("utf-8")))


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def full() -> dict[str, Any]:
    """A record in which every key has a value, of one candidate with few samples."""
    record: dict[str, Any] = json.loads(GOLDEN)
    one = next(one for one in record["candidates"] if one["graph"] is not None)
    tried = {"name": "unchanged", "kept_float": ["a"], "options": {"smooth": 0.5}, "fits": True, "why": "inside", "seconds": 2}
    tried |= {"metric": "top1", "value": 0.9, "drop": 0, "ci_low": -0.1, "ci_high": 0.1, "ratio": 0.4, "size_bytes": 7}
    one["search"] = {"layers": 9, "most": 8, "taken": 0, "ended": "inside every budget", "seconds": 2.5, "tried": [tried]}
    one["search"]["damage"] = [{"node": "a", "damage": 0.25}]
    one["accuracy"]["proof"] = {"how": "run", "why": "it ran", "processor": "max", "samples": 8, "agreement": 1.0, "risks": ["a"]}
    device = {"device": "L4", "instance": "g6.xlarge", "latency_ms": 1.5, "throughput_per_s": 900, "usd_per_hour": 0.8}
    one["estimates"] = [device | {"cost_per_million_usd": 0.06, "basis": "roofline"}]
    size = {"memory_mb": 1769, "measured": True, "basis": "one core", "threads": 1, "latency_p50_ms": 9.5, "latency_p95_ms": 11.5}
    size |= {"latency_n": 100, "cold_start_ms": 88, "peak_memory_bytes": 7, "cost_per_million_usd": 0.4, "problems": ["too slow"]}
    record["sizing"] = {"candidate": one["id"], "proposed_mb": 1769, "taken": True, "quota": "a cgroup", "sizes": [size]}
    return record | {"candidates": [one], "calibration": {"source": "evaluation", "samples": 20, "of": 100}}


FULL = full()
PLACES = sorted(places(FULL), key=repr)
OTHERS: tuple[Any, ...] = (None, True, 0, -7, 0.5, "", "words", [], ["a"], [1], [[]], {}, {"a": 1}, {"a": {}})


def changed(place: tuple[str | int, ...], change: Any) -> dict[str, Any]:
    """The full record with `change(parent, key)` made at one place."""
    record = copy.deepcopy(FULL)
    parent: Any = record
    for key in place[:-1]:
        parent = parent[key]
    change(parent, place[-1])
    return record


def test_the_schema_is_one_and_the_golden_record_keeps_it() -> None:
    jsonschema.Draft202012Validator.check_schema(PUBLISHED.schema)
    PUBLISHED.validate(json.loads(GOLDEN))
    PUBLISHED.validate(FULL)
    assert json.loads(files.encode(files.decode(json.dumps(FULL).encode()))) == FULL


def test_a_record_is_written_as_it_was_read() -> None:
    record = files.decode(GOLDEN)
    assert files.encode(record) == GOLDEN
    assert record.candidates[0].latency_ms.samples[0] > 0
    assert record.candidates[0].steps[0].name == "export"


@given(st.sampled_from(PLACES), st.sampled_from(OTHERS))
def test_the_schema_and_the_reader_refuse_the_same_values(place: tuple[str | int, ...], other: Any) -> None:
    def put(parent: Any, key: str | int) -> None:
        parent[key] = copy.deepcopy(other)

    record = changed(place, put)
    assert PUBLISHED.is_valid(record) == is_read(record)


@given(st.sampled_from([place for place in PLACES if isinstance(place[-1], str)]))
def test_the_schema_and_the_reader_require_the_same_keys(place: tuple[str | int, ...]) -> None:
    def remove(parent: Any, key: str | int) -> None:
        del parent[key]

    record = changed(place, remove)
    assert PUBLISHED.is_valid(record) == is_read(record)


@given(st.sampled_from([place for place in PLACES if isinstance(place[-1], str)]), st.sampled_from(OTHERS))
def test_the_schema_and_the_reader_take_keys_that_came_later(place: tuple[str | int, ...], other: Any) -> None:
    """Beside any key that is not the user's own name for something."""

    def add(parent: Any, _key: str | int) -> None:
        parent["another key"] = copy.deepcopy(other)

    if not {"tags", "files", "targets", "inputs"} & set(place[:-1]):
        record = changed(place, add)
        assert PUBLISHED.is_valid(record)
        assert is_read(record)


def is_read(record: dict[str, Any]) -> bool:
    try:
        files.decode(json.dumps(record).encode())
    except RecipeError:
        return False
    return True


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("candidates", 0, "search", "taken"), 99),
        (("candidates", 0, "search", "taken"), -5),
        (("calibration", "of"), None),
        (("candidates", 0, "accuracy", "n"), None),
        (("candidates", 0, "steps", 0, "notes"), {"remarks": "text", "kept": 7}),
        (("candidates", 0, "id"), "\ud800"),
        (("candidates", 0, "package", "size_bytes"), 10**300),
        (("candidates", 0, "graph", "size_bytes"), 0),
        (("chosen",), "gone"),
        (("candidates",), []),
    ],
)
def test_what_somebody_else_may_have_written_is_shown(place: tuple[str | int, ...], value: Any) -> None:
    def put(parent: Any, key: str | int) -> None:
        parent[key] = value

    document = changed(place, put)
    if document["candidates"]:  # a search of one form is not told
        document["candidates"][0]["search"]["tried"] *= 2
    record = files.decode(json.dumps(document).encode())
    assert files.decode(files.encode(record)) == record
    assert FULL["recipe"]["name"] in report.markdown(record)
    assert FULL["recipe"]["name"] in webpage.html(record)
    assert diff.text(diff.compare(files.decode(GOLDEN), record))


def test_every_key_of_the_schema_is_described() -> None:
    parts = [PUBLISHED.schema, *PUBLISHED.schema["$defs"].values()]
    assert len(parts) > 25
    for part in parts:
        assert part["description"]
        for key, value in part["properties"].items():
            assert value.get("description", "$ref" in value and ".").endswith("."), f"{part['description']}: {key}"


def test_the_schema_names_every_field_of_the_record() -> None:
    assert list(PUBLISHED.schema["properties"]) == [each.name for each in dataclasses.fields(BuildRecord)]
    assert schema.json_schema() == PUBLISHED.schema
    assert list(reading.as_json(files.decode(GOLDEN))) == list(PUBLISHED.schema["properties"])


@pytest.mark.parametrize("digits", [400, 4000])
@pytest.mark.parametrize("place", [("seconds",), ("machine", "memory_bytes")])
def test_numbers_beyond_all_numbers_are_refused(place: tuple[str, ...], digits: int) -> None:
    def put(parent: Any, key: str | int) -> None:
        parent[key] = 10**digits

    with pytest.raises(RecipeError, match=rf"{'.'.join(place)}: expected a"):
        files.decode(json.dumps(changed(place, put)).encode())


def test_reading_a_record_loads_no_slow_library() -> None:
    """A promotion reads two records; pydantic alone would take longer than that."""
    code = (
        "import sys; from pathlib import Path; from mlpack.report.record import files; files.read(Path(sys.argv[1])); "
        "assert not {'pydantic', 'pydantic_core', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(ROOT / "tests" / "golden" / "build.json")], check=True)
