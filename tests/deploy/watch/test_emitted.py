from __future__ import annotations

import pytest

from mlpack.deploy.watch import emitted
from mlpack_runtime import telemetry


def test_own_metrics_are_those_of_the_runtimes_table() -> None:
    for name in emitted.OWN:
        metric = emitted.own(name, "m-prod", "Sum")
        assert (metric.namespace, [key for key, _ in metric.dimensions]) == (telemetry.NAMESPACE, telemetry.SERVICE_DIMENSIONS)
        assert emitted.is_emitted(metric)
    for name in telemetry.RELEASE_METRICS:
        assert emitted.is_emitted(emitted.own(name, "m-prod", "Sum", release="7"))


@pytest.mark.parametrize("name", ["error", "latency", "Errors", ""])
def test_a_metric_that_nobody_emits_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no package emits"):
        emitted.own(name, "m-prod", "Sum")
    with pytest.raises(ValueError, match="by release"):
        emitted.own("latency_ms", "m-prod", "p95", release="7")
    with pytest.raises(ValueError, match="has no"):
        emitted.aws("AWS/Lambda", "Errors", (("FunctionName", "f"), ("ExecutedVersion", "7")), "Sum")


def test_what_surrounds_a_model_is_in_the_table() -> None:
    assert {name for names in emitted.AROUND.values() for name in names} == set(telemetry.AROUND_METRICS)
