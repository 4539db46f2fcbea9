"""The keys of `budgets` as a typed model.

Imported with the other keys (`schema`), which says what they promise.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field  # noqa: TID253

from mlpack.core.entrypoint import suggestion
from mlpack.core.stages import STAGES
from mlpack.recipe.units import Duration, Keys, Money, Size, Text


def _known(stages: dict[str, float]) -> dict[str, float]:
    """The stages in the order in which they take place. Raises ValueError for one that there is not."""
    for name in stages:
        if name not in STAGES:
            raise ValueError(f"there is no stage {name!r}{suggestion(name, STAGES)} (known: {', '.join(STAGES)})")
    return {name: stages[name] for name in STAGES if name in stages}


class BudgetKeys(Keys):
    """Hard limits. A key left out is no limit."""

    accuracy_drop: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        description="largest drop of the metric, absolute, against the float of the same build. Without it, a drop that is "
        "certainly more than 5 % of the float's value (10 % of its error where lower is better) is over budget",
    )
    confidence: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="how sure the drop must be: with 0.95 the upper end of its 95 % interval must keep accuracy_drop"
    )
    latency_p50: Duration | None = Field(default=None, description="median time of one call, warm")
    latency_p95: Duration | None = Field(default=None, description="95th percentile of one call, warm")
    latency_p99: Duration | None = Field(default=None, description="99th percentile of one call, warm")
    stages: Annotated[dict[Text, Duration], AfterValidator(_known)] = Field(
        default_factory=dict,
        description="95th percentile of stages of a request, by their names in the log: decode, preprocess, features (needs "
        "serve.features.latency), cache, tokenize, infer, postprocess, encode",
    )
    cold_start: Duration | None = Field(default=None, description="process start to first answer, median")
    package_size: Size | None = Field(default=None, description="everything that ships, uncompressed, without a container's base")
    peak_memory: Size | None = Field(default=None, description="largest resident set of the serving process")
    cost_per_million: Money | None = Field(default=None, description="dollars for a million requests at the measured latency")
    accept_estimates: bool = Field(
        default=False,
        description="whether estimates may keep a budget: latency and price of a GPU that the build machine does not have, and the "
        "accuracy of an emulated processor (arm64 on an x86-64 machine). Cold start and memory are not estimated, so a GPU "
        "candidate keeps no budget on them",
    )
    isa: Literal["proven"] | None = Field(
        default=None,
        description="`proven`: only candidates are within budget whose accuracy holds on every processor that the target may run "
        "on. An x86-64 host of Lambda may lack VNNI, without which products of 8-bit weights overflow. The proof is a measurement "
        "on such a host, the graph itself (weights of 7 bits), or a run under qemu",
    )
