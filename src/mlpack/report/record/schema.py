"""The JSON Schema of `build.json`, for programs that read it: made from the classes of the record by pydantic, which is loaded here
alone, when a schema is written."""

from __future__ import annotations

from typing import Any

from mlpack.report.record import SCHEMA, BuildRecord


def json_schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12).

    Returns:
        The schema as `json.dumps` takes it. It requires the keys that every record has, and lets through keys that are not named.
    """
    from pydantic import TypeAdapter

    whole = TypeAdapter(BuildRecord).json_schema()
    whole["properties"]["schema"] |= {"const": SCHEMA}
    step = whole["$defs"]["StepRecord"]
    step["properties"] = {"pass": step["properties"].pop("name"), **step["properties"]}
    step["required"] = ["pass" if name == "name" else name for name in step["required"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mlpack build.json", **_tidy(whole)}


def _tidy(value: Any) -> Any:
    """Descriptions on one line, and no titles: those that pydantic makes of names say nothing more than the names."""
    if isinstance(value, dict):
        return {key: _tidy(inner) for key, inner in value.items() if key != "title" or not isinstance(inner, str)}
    if isinstance(value, list):
        return [_tidy(inner) for inner in value]
    return " ".join(value.split()) if isinstance(value, str) else value
