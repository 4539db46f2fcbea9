"""Bills beside a sheet that was computed by hand, with the prices written out: one per cent is what they may differ by."""

from __future__ import annotations

import pytest
from tests.support.deployments import section, service
from tests.support.thin_deployment import door_graph, graph, nodes
from tests.support.topologies import PROGRAMS

from mlpack.deploy.bill.total import bill
from mlpack.deploy.design import design
from mlpack.deploy.graph.functions import Provisioned
from mlpack.deploy.graph.values import Id
from mlpack.recipe.deploy.section import Budget, Traffic, Warm, Worker

DAILY = Traffic(peak_rps=5.0, mean_rps=10_000 / 86_400)


def test_a_function_behind_an_http_api_by_hand() -> None:
    made = service(deploy=section(traffic=DAILY))
    total = bill(made, graph(made))
    month = 10_000 / 86_400 * 730 * 3600  # requests of a month of 730 hours: 304,167
    assert total.requests == pytest.approx(month)
    gb = 1769 / 1024
    parts = {
        # 3 ms of 1,769 MB at $0.0000166667, and a request at $0.20 a million; 1 of 833 meets a cold start of 68 ms
        "model": (
            0.0,
            1000 * (0.003 * gb * 0.0000166667 + 0.2e-6) + 1000 * (1 / (7200 * 10_000 / 86_400)) * 0.068 * gb * 0.0000166667,
        ),
        "gateway": (0.0, 0.001),
        "logs": (0.0, _logs()),
        "storage": (0.0, 0.0),
        "coordination": (0.0, 0.0),
        "provisioned": (0.0, 0.0),
    }
    for name, (fixed, each) in parts.items():
        got = total.components[name]  # type: ignore[index]
        assert got[0] == pytest.approx(fixed, rel=0.01), name
        assert got[1] == pytest.approx(each, rel=0.01), name
    fixed, each = total.components["observability"]
    # 5 metrics and 3 counts by release at $0.30, a dashboard, 5 composite alarms, and alarms of 3 x 4, 2 x 4, 2, 1 and 1 metrics
    assert fixed == pytest.approx(8 * 0.30 + 3 + 5 * 0.50 + 24 * 0.10, rel=0.01)
    assert each == pytest.approx(0.005, rel=0.01)  # every request is the first of its second, and is traced
    hand = fixed + (sum(one for _, one in parts.values()) + each) * month / 1000
    assert total.month_usd == pytest.approx(hand, rel=0.01)


def _logs() -> float:
    lines = 900 + 26 + 440 + 3 * 26 + 330 + 26  # the package's line, Lambda's three, the gateway's one
    return lines * 1000 / 1e9 * (0.50 + 0.03)


def test_kept_environments_by_hand() -> None:
    made = service(deploy=section(traffic=DAILY, warm=Warm(provisioned=2)))
    more = Provisioned(id=Id("Warm"), alias=Id("Live"), count=2)
    total = bill(made, graph(made, (*nodes(made), more)))
    assert total.components["provisioned"][0] == pytest.approx(37.8, rel=0.01)  # 2 x 1.7275 GB x 2,628,000 s x $0.0000041667
    (request,) = [line for line in total.lines if line.what.startswith("requests to fashion-prod")]
    assert request.per_1k_usd == pytest.approx(1000 * (0.003 * 1769 / 1024 * 0.0000097222 + 0.2e-6), rel=0.01)


def test_workers_by_hand() -> None:
    made = service("worker", deploy=section(traffic=Traffic(peak_rps=400, mean_rps=200), worker=Worker(least=1, most=8)))
    total = bill(made, door_graph(made))
    hour = 0.04048 + 2 * 0.004445
    # 250 requests/s a task at half use are 1.6 tasks: one is kept, and 0.6 of one on Spot comes with requests
    tasks = [line for line in total.lines if line.what.endswith("fashion-prod-worker")]
    assert sum(line.month_usd for line in tasks) == pytest.approx(730 * hour, rel=0.01)
    assert sum(line.per_1k_usd for line in tasks) == pytest.approx(0.6 * 0.3 * hour * 730 / (200 * 730 * 3600 / 1000), rel=0.01)
    messages = [line for line in total.lines if line.what.startswith("messages of")]
    assert sum(line.per_1k_usd for line in messages) == pytest.approx(0.0012, rel=0.01)


def test_a_bill_over_its_budget_names_the_largest_part() -> None:
    made = service(deploy=section(traffic=DAILY, budget=Budget(month_usd=5.0, per_1k_usd=0.001)))
    month, each = bill(made, graph(made)).over(made.deploy.budget)
    assert month.startswith("deploy.budget.month: $")
    assert "dashboard" in month
    assert each.startswith("deploy.budget.per_1k: $")
    assert bill(made, graph(made)).over(Budget(month_usd=50.0, per_1k_usd=0.02)) == ()


def test_machines_without_a_price_are_said() -> None:
    made = service("worker", deploy=section(worker=Worker(least=1, instances=("p9.huge",))), gpu=True)
    total = bill(made, design(made, PROGRAMS))
    assert any("no price of p9.huge is known here" in text for text in total.left_out)
    known = service("worker", deploy=section(worker=Worker(least=1)), gpu=True)
    assert bill(known, design(known, PROGRAMS)).components["model"][0] == pytest.approx(730 * 1.006, rel=0.01)  # g5.xlarge


@pytest.mark.parametrize("mean", [0.0001, 0.1, 4000.0])
def test_any_traffic_has_a_bill(mean: float) -> None:
    for kind in ("lambda-zip", "worker"):
        made = service(kind, deploy=section(traffic=Traffic(peak_rps=mean * 10, mean_rps=mean)))
        total = bill(made, design(made, PROGRAMS))
        assert 0 < total.fixed_usd < total.month_usd
        assert 0 < total.per_1k_usd < 20


def test_a_bill_is_the_sum_of_its_components() -> None:
    made = service("worker")
    total = bill(made, door_graph(made))
    assert sum(fixed for fixed, _ in total.components.values()) == pytest.approx(total.fixed_usd)
    assert sum(each for _, each in total.components.values()) == pytest.approx(total.per_1k_usd)
    assert total.month_usd == pytest.approx(total.fixed_usd + total.per_1k_usd * total.requests / 1000)
    assert all(line.how and line.prices for line in total.lines)
    assert total.left_out[-1] == "whether these prices still hold, which nobody looked up: ECR, S3 read, S3 write, Spot, trace"
