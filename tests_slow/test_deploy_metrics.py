"""What booted packages really emit, beside what alarms, dashboards and bills take for given: every program, from its log lines."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.deployments import section, service
from tests.support.runtime.around_services import create_tables
from tests.support.runtime.front_doors import event
from tests.support.runtime.tiny_packages import affine, package
from tests.support.runtime.workers import Place, Process, add_botocore, place, until
from tests.support.services.aws_server import REGION, AwsServer
from tests.support.thin_deployment import door_graph, graph
from tests_slow.test_around import AROUND, COLUMNS, ITEM
from tests_slow.test_frontdoor_boot import Function as Door
from tests_slow.test_frontdoor_worker import PORTS, REQUEST
from tests_slow.test_runtime_emulator import Booted, boot

from mlpack.deploy.bill.use import LINE_BYTES
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.watching import Alarm, Dashboard, Expression, Metric
from mlpack.deploy.watch.emitted import AROUND as AROUND_METRICS
from mlpack.deploy.watch.emitted import OF_PROGRAM, Program
from mlpack.recipe.deploy.section import Budget, Worker
from mlpack.targets.format import frontdoor
from mlpack.targets.format.contents import Contents

__all__ = ["boot", "place"]

MORE = {"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [5]}}
INFER = "/v2/models/tiny/infer"
NAMES = {"function": "fashion-prod", "door": "fashion-prod", "worker": "fashion-prod-worker", "container": "fashion-prod-worker"}
Series = set[tuple[str, str, tuple[str, ...]]]


def told(program: Program) -> dict[str, str]:
    """What a deployment tells a package."""
    return {"MLPACK_SERVICE": NAMES[program], "MLPACK_SLOW_MS": "200", "MLPACK_RELEASE": "8"}


def series(lines: list[dict[str, Any]]) -> Series:
    """Every series of CloudWatch that these lines make: (namespace, metric, keys of dimensions)."""
    found: Series = set()
    for line in lines:
        for block in line["_aws"]["CloudWatchMetrics"]:
            for metric in block["Metrics"]:
                assert type(line[metric["Name"]]) in (int, float)
                for dimensions in block["Dimensions"]:
                    assert all(type(line[key]) is str for key in dimensions)
                    found.add((block["Namespace"], metric["Name"], tuple(dimensions)))
    return found


def size(line: dict[str, Any]) -> int:
    """Bytes of a line, as it was written."""
    return len(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()) + 1


def logged(text: str) -> list[dict[str, Any]]:
    """Lines about requests in a log."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"timestamp"')]
    return [line for line in lines if "_aws" in line]


def referenced(picture: Graph) -> Series:
    """Every series of mlpack's own that alarms and the dashboard of a deployment name."""

    def below(thing: Any) -> Iterator[Metric]:
        if isinstance(thing, Metric):
            yield thing
        elif isinstance(thing, tuple):
            for one in thing:
                yield from below(one)
        elif hasattr(thing, "__dataclass_fields__"):
            for name in thing.__dataclass_fields__:
                yield from below(getattr(thing, name))

    nodes = (*picture.of(Alarm), *picture.of(Dashboard))
    metrics = [metric for node in nodes for metric in below(node) if not metric.namespace.startswith(("AWS/", "ECS/"))]
    found = {(metric.namespace, metric.name, tuple(key for key, _ in metric.dimensions)) for metric in metrics}
    for panel in (panel for board in picture.of(Dashboard) for panel in board.panels):
        for _, line in panel.lines:
            if isinstance(line, Expression) and line.formula.startswith("SEARCH("):
                schema = line.formula.partition("{")[2].partition("}")[0].split(",")
                found.add((schema[0], line.formula.split('MetricName="')[1].partition('"')[0], tuple(schema[1:])))
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of tensors alone, which is a function's, a container's and a worker's."""
    made = package(tmp_path_factory.mktemp("plain") / "package", affine, target="cpu-worker", worker={"max_batch": 4}, **PORTS)
    return add_botocore(made)


def test_a_function_emits_what_is_watched_and_paid(root: Path, boot: Any) -> None:
    function: Booted = boot(
        sys.executable, "-I", "-S", str(root / "bootstrap.py"), AWS_LAMBDA_FUNCTION_VERSION="7", **told("function")
    )
    for _ in range(3):
        assert json.loads(function.invoke(event(REQUEST))["body"])
    lines = logged(function.log())
    assert len(lines) == 3
    assert {line["release"] for line in lines} == {"8"}  # what it is told goes before the function's version
    emitted = series(lines)
    assert {name for _, name, _ in emitted} == set(OF_PROGRAM["function"])
    wanted = referenced(graph(service(deploy=section(budget=Budget(month_usd=50.0)))))
    assert len(wanted) >= 6
    assert wanted <= emitted
    assert size(lines[-1]) == pytest.approx(LINE_BYTES["function"], rel=0.1)


def test_a_container_emits_what_is_watched_and_paid(root: Path) -> None:
    process = Process(root, told("container"), entrance="serve").ready()
    try:
        for _ in range(3):
            assert process.http("POST", INFER, REQUEST)[0] == 200
    finally:
        assert process.end() == 0
    assert {name for _, name, _ in series(process.answers)} == set(OF_PROGRAM["container"])
    assert size(process.answers[-1]) == pytest.approx(LINE_BYTES["container"], rel=0.1)


def test_a_door_and_its_workers_emit_what_is_watched(root: Path, place: Place, tmp_path: Path) -> None:
    frontdoor.write_zip(Contents(runtime=root, model=root, code=root, labels={}), tmp_path / "frontdoor.zip")
    with zipfile.ZipFile(tmp_path / "frontdoor.zip") as archive:
        archive.extractall(tmp_path / "task")
    settings = {"MLPACK_QUEUE_URL": place.url, "MLPACK_RESULTS": "s3://results/answers", "MLPACK_DEADLINE_MS": "20000"}
    door = Door(tmp_path / "task", {"PATH": os.environ["PATH"], **place.aws.environment, **settings, **told("door")})
    environment = {name.removeprefix("MLPACK_").lower(): value for name, value in told("worker").items()}
    worker = place.worker(root, **environment).ready()
    try:
        answers = [door(event(REQUEST)) for _ in range(3)]
    finally:
        worker.end()
        said = door.end()
    assert [answer["statusCode"] for answer in answers] == [200, 200, 200], answers
    of_door, of_worker = logged(said), worker.answers
    assert {name for _, name, _ in series(of_door)} == set(OF_PROGRAM["door"])
    assert {name for _, name, _ in series(of_worker)} == set(OF_PROGRAM["worker"])
    assert {line["service"] for line in of_door} | {line["service"] for line in of_worker} == {
        "fashion-prod",
        "fashion-prod-worker",
    }
    made = service("worker", deploy=section(worker=Worker(least=1)))
    assert referenced(door_graph(made)) <= series(of_door) | series(of_worker)
    assert size(of_door[-1]) == pytest.approx(LINE_BYTES["door"], rel=0.1)
    assert size(of_worker[-1]) == pytest.approx(LINE_BYTES["worker"], rel=0.1)


def test_features_a_cache_and_a_log_emit_what_the_dashboard_has(aws: AwsServer, tmp_path: Path) -> None:
    from tests.support.services.aws_server import Fault

    s3, dynamodb = aws.client("s3"), aws.client("dynamodb")
    s3.create_bucket(Bucket="logs", CreateBucketConfiguration={"LocationConstraint": REGION})
    create_tables(dynamodb, ITEM)
    features = AROUND["features"] | {"deadline_ms": 4000, "columns": COLUMNS}
    server = {"max_batch": 4, "max_wait_ms": 1, "port": 8080, "concurrency": 0, "lame_duck_s": 0.0}
    around = AROUND | {"features": features}
    root = package(tmp_path / "package", affine, target="container", worker=server, around=around)
    process = Process(root, {**aws.environment, "AWS_REGION": REGION, **told("container")}, entrance="serve").ready()
    try:
        ask(process, {"customer": "7"}, {"customer": "nobody"})
        aws.plan(
            Fault("error", service="dynamodb", operation="BatchGetItem", onward=True, status=400, code="AccessDeniedException")
        )
        ask(process, {"customer": "8"})
        aws.plan(Fault("hang", service="dynamodb", operation="BatchGetItem", onward=True))
        ask(process, {"customer": "9"})
        aws.plan(Fault("hang", service="s3", onward=True))
        ask(process, *(MORE for _ in range(2500)))
        until(lambda: any("log_dropped" in line for line in process.answers), "a line says what was lost")
    finally:
        process.end(signal.SIGKILL)
    names = {name for _, name, _ in series([line for line in process.answers if "_aws" in line])}
    assert names == {*OF_PROGRAM["container"], *(name for each in AROUND_METRICS.values() for name in each)}
    wanted = referenced(graph(service(features=features, cache=AROUND["cache"], log=AROUND["log"])))
    assert {name for _, name, _ in wanted} <= names
    s3.close()
    dynamodb.close()


def ask(process: Process, *bodies: Any) -> None:
    """Requests on one connection, all of them answered."""
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=60)
    for body in bodies:
        connection.request("POST", INFER, json.dumps(body))
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
    connection.close()


@pytest.mark.parametrize("name", ["tabular", "fashion"])
def test_a_built_package_emits_what_is_watched(name: str, make_project: Any, warm_store: Path, boot: Any, tmp_path: Path) -> None:
    project = make_project(name, store=warm_store)
    record = project.build(name)
    zipped = project.out(name) / "artifacts" / record["chosen"] / "function.zip"
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(tmp_path / "task")
    sample = json.loads((zipped.parent / "event.json").read_text())
    python = next(project.python_dir.glob("python3.1?"))
    function: Booted = boot(
        str(python), "-I", "-S", str(tmp_path / "task/bootstrap.py"), LAMBDA_TASK_ROOT=str(tmp_path / "task"), **told("function")
    )
    assert "error_type" not in function.invoke(sample)
    lines = logged(function.log())
    assert {metric for _, metric, _ in series(lines)} == set(OF_PROGRAM["function"])
    assert referenced(graph(service())) <= series(lines)
