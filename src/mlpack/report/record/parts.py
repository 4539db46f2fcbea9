"""What all parts of a record have in common: they are plain frozen dataclasses, and the string after a field is its description.

A field's type says what its key holds. Without a default a key is always there; one that came after schema 1 began has the default
None, and records that were written before lack it. Plain dataclasses, not pydantic's models: whoever promotes a release
reads two records, and loading pydantic would take longer than that (decision 0040).
"""

from __future__ import annotations

from typing import Any, ClassVar

from mlpack.report.record import reading


class RecordPart:
    """A part of a record. pydantic, which makes the JSON Schema, takes the string after a field for its description."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, Any]] = {"use_attribute_docstrings": True}

    def to_json(self) -> dict[str, Any]:
        """The part as JSON values, keys in the order of the fields."""
        value: dict[str, Any] = reading.as_json(self)
        return value
