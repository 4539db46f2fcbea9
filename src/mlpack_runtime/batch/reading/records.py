"""A record of a manifest, and the forms that a manifest has."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMATS = ("jsonl", "csv", "parquet")
ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


class Record:
    """One record: `value`, a line's bytes or a row's cells; `problem`: why there is none. `number` from 0, `line` from 1."""

    __slots__ = ("line", "number", "problem", "value")

    def __init__(self, number: int, line: int, value: "bytes | list[Any] | None", problem: str = "") -> None:
        self.number = number
        self.line = line
        self.value = value
        self.problem = problem


def format_of(name: str) -> str:
    """What a name's ending says of its form, with or without `.gz` behind it; "" where it says nothing."""
    name = name.lower().removesuffix(".gz")
    return next((kind for ending, kind in ENDINGS.items() if name.endswith(ending)), "")
