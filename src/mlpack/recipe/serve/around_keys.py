"""The keys of `serve.features`, `serve.cache` and `serve.log` as typed models.

Imported with the other keys (`schema`), which says what they promise; `around` beside it has what depends on the model.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field  # noqa: TID253

from mlpack.core.serving import Features, PredictionCache, PredictionLog
from mlpack.recipe.units import Duration, Keys, Size, Text

Default = bool | int | float | str | None
Name = Annotated[Text, Field(max_length=255)]
_DESTINATION = r"^(s3://[^/]+(/.*)?|firehose://[^/]+)$"


def _destination(text: str) -> str:
    if not re.match(_DESTINATION, text):
        raise ValueError(f"{text!r} is no place for a log: s3://BUCKET/PREFIX or firehose://STREAM is needed")
    return text


class FeatureKeys(Keys):
    """Features of entities from a DynamoDB table, read when a request names ids."""

    table: Annotated[Text, Field(max_length=1024)] = Field(description="the table's name or ARN")
    key: Name | Annotated[tuple[Name, ...], Field(min_length=1, max_length=2)] = Field(
        description="the table's key, under the same name in requests; two names for a table with a sort key"
    )
    columns: (
        Annotated[tuple[Name, ...], Field(min_length=1)]
        | Annotated[dict[Text, Name | Annotated[tuple[Name, ...], Field(min_length=1)]], Field(min_length=1)]
    ) = Field(
        description="attributes by input of the model, in the order of the input's columns; a list alone for a model of one input"
    )
    defaults: dict[Name, Default] = Field(
        default_factory=dict,
        description="values of attributes that are missing or late; null is NaN. Where there is none, the request is refused",
    )
    deadline: Annotated[Duration, Field(gt=0, le=60_000)] = Field(
        default=40.0, json_schema_extra={"default": "40ms"}, description="time for all features of a request"
    )
    keep: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None, description="how long an item is kept in memory; without it not at all"
    )
    latency: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None,
        description="how long the table takes, as you measured it: a build waits that long instead, and `budgets.stages` counts it",
    )

    def record(self) -> Features:
        """What the recipe's record has of these keys."""
        columns = self.columns
        return Features(
            table=self.table,
            key=(self.key,) if isinstance(self.key, str) else self.key,
            columns={name: (each,) if isinstance(each, str) else each for name, each in columns.items()}
            if isinstance(columns, dict)
            else columns,
            defaults=self.defaults,
            deadline_ms=self.deadline,
            keep_ms=self.keep,
            latency_ms=self.latency,
        )


class CacheKeys(Keys):
    """Outputs kept by the model's version and a digest of its inputs."""

    memory: Size = Field(
        default=32_000_000, json_schema_extra={"default": "32MB"}, description="bytes of outputs that an instance keeps"
    )
    ttl: Annotated[Duration, Field(gt=0)] = Field(
        default=3_600_000.0, json_schema_extra={"default": "60min"}, description="how old an answer may be"
    )
    table: Annotated[Text, Field(max_length=1024)] | None = Field(
        default=None, description="a DynamoDB table that all instances share: key `id`, TTL attribute `expires`"
    )
    deadline: Annotated[Duration, Field(gt=0, le=60_000)] | None = Field(
        default=None, description="time for each look at the table and each write [20ms]"
    )

    def record(self) -> PredictionCache:
        """What the recipe's record has of these keys."""
        return PredictionCache(memory_bytes=self.memory, ttl_ms=self.ttl, table=self.table, deadline_ms=self.deadline)


class LogKeys(Keys):
    """A sample of requests and their answers."""

    to: Annotated[Text, AfterValidator(_destination)] = Field(
        json_schema_extra={"pattern": _DESTINATION}, description="`s3://BUCKET/PREFIX` or `firehose://STREAM`"
    )
    sample: Annotated[float, Field(ge=0, le=1)] = Field(description="the share of requests, 0 to 1; the trace id decides which")
    redact: Text | None = Field(
        default=None, description="`module:function` that takes a line's object and returns what is written, or None for nothing"
    )

    def record(self) -> PredictionLog:
        """What the recipe's record has of these keys."""
        return PredictionLog(to=self.to, sample=float(self.sample), redact=self.redact)
