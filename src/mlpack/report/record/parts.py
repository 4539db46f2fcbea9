"""What all parts of a record have in common: they are plain frozen dataclasses, and the string after a field is its description.

A field's type says what its key holds. Without a default a key is always there; one that came after schema 1 began has the default
None, and records that were written before lack it. Plain dataclasses, not pydantic's models: whoever promotes a release
reads two records, and loading pydantic would take longer than that (decision 0040).
"""

from __future__ import annotations

from typing import Any, ClassVar


class RecordPart:
    """Says to pydantic, which makes the JSON Schema of the parts, that the string after a field is its description."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, Any]] = {"use_attribute_docstrings": True}
