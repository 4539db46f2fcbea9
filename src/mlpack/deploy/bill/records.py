"""A bill: its lines, and what they come to. Pure.

Promises: dollars of a month are those of the section's traffic; sums are of the lines and of nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlpack.recipe.deploy.section import Budget

Component = Literal["model", "gateway", "logs", "storage", "coordination", "observability", "provisioned"]
COMPONENTS: tuple[Component, ...] = ("model", "gateway", "logs", "storage", "coordination", "observability", "provisioned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """`month_usd`: whether requests come or not. `per_1k_usd`: for a thousand of them. `how`: the sum in words. `prices`: names in
    `PRICES`, or where else they stand."""

    component: Component
    what: str
    how: str
    prices: tuple[str, ...]
    month_usd: float = 0.0
    per_1k_usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a deployment costs at `requests` a month. `left_out`: what is there and has no price here, with the reason."""

    requests: float
    lines: tuple[Line, ...]
    left_out: tuple[str, ...] = ()

    @property
    def fixed_usd(self) -> float:
        """A month without a request."""
        return sum(line.month_usd for line in self.lines)

    @property
    def per_1k_usd(self) -> float:
        """A thousand requests more."""
        return sum(line.per_1k_usd for line in self.lines)

    @property
    def month_usd(self) -> float:
        """A month of the section's traffic."""
        return self.fixed_usd + self.per_1k_usd * self.requests / 1000

    @property
    def components(self) -> Mapping[Component, tuple[float, float]]:
        """(dollars a month fixed, dollars for a thousand requests) of each component."""
        return {
            name: (
                sum(line.month_usd for line in self.lines if line.component == name),
                sum(line.per_1k_usd for line in self.lines if line.component == name),
            )
            for name in COMPONENTS
        }

    @property
    def all_in_per_1k_usd(self) -> float:
        """A thousand requests with their share of what is fixed, at the section's traffic."""
        return self.month_usd / (self.requests / 1000) if self.requests else 0.0

    def over(self, budget: Budget) -> tuple[str, ...]:
        """Which budgets the bill breaks, each with its largest line and what to change."""
        sentences = []
        for name, value, limit, unit in (
            ("month", self.month_usd, budget.month_usd, "a month"),
            ("per_1k", self.per_1k_usd, budget.per_1k_usd, "for 1,000 requests"),
        ):
            if limit is not None and value > limit:
                largest = max(self.lines, key=lambda line: line.month_usd + line.per_1k_usd * self.requests / 1000)
                dollars = largest.month_usd + largest.per_1k_usd * self.requests / 1000
                sentences.append(
                    f"deploy.budget.{name}: ${value:.4g} {unit} are more than ${limit:.4g}. The largest part is {largest.what},"
                    f" ${dollars:.4g} a month ({largest.how})"
                )
        return tuple(sentences)
