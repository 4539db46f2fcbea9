"""CloudWatch with as many requests a minute as a test says. boto3's client for `cloudwatch`, as far as rollouts use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Series = Callable[[str, str], float | None]
"""What a metric is each minute, by its name and the version; None: it has no data."""


def healthy(metric: str, _version: str) -> float | None:
    """A thousand requests a minute, all of them well."""
    return 1000.0 if metric in ("Invocations", "RequestCount", "total") else 0.0


def broken(metric: str, version: str) -> float | None:
    """The same, and a tenth of the new version's requests fail."""
    return 100.0 if metric in ("Errors", "errors") and version == "8" else healthy(metric, version)


@dataclass
class Metrics:
    """See above. `series` is asked for each metric; totals of the package's own lines are called `total`."""

    series: Series = healthy
    alarms: dict[str, str] = field(default_factory=dict)
    queries: list[dict[str, Any]] = field(default_factory=list)

    def get_metric_data(self, **request: Any) -> dict[str, Any]:
        """GetMetricData."""
        self.queries = request["MetricDataQueries"]
        minutes = [datetime.fromtimestamp(at, UTC) for at in range(int(request["StartTime"]), int(request["EndTime"]), 60)]
        results = []
        for query in self.queries:
            metric = query["MetricStat"]["Metric"]
            name = "total" if query["MetricStat"]["Stat"] == "SampleCount" else metric["MetricName"]
            value = self.series(name, metric["Dimensions"][-1]["Value"])
            stamps = minutes if value is not None else []
            results.append({"Id": query["Id"], "Timestamps": stamps, "Values": [value] * len(stamps)})
        return {"MetricDataResults": results}

    def describe_alarms(self, **_request: Any) -> dict[str, Any]:
        """DescribeAlarms."""
        return {"MetricAlarms": [{"AlarmName": name, "StateValue": state} for name, state in self.alarms.items()]}
