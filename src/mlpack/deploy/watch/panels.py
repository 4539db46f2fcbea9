"""The dashboard of a deployment: the same panels in the same order for every one that has what they show. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlpack.deploy.graph.endpoints import HttpApi, LoadBalancer, RestApi
from mlpack.deploy.graph.stores import Queue
from mlpack.deploy.graph.tasks import Cluster
from mlpack.deploy.graph.tasks import Service as TaskService
from mlpack.deploy.graph.values import Id, Node, Ref, Value
from mlpack.deploy.graph.watching import Dashboard, Expression, Metric, Panel
from mlpack.deploy.service import Service
from mlpack.deploy.watch.behind import task_dimensions
from mlpack.deploy.watch.emitted import AROUND, aws, by_release, own
from mlpack.deploy.watch.endpoint import LATENCY_BUDGET, Program, slow_ms
from mlpack.targets.prices import LAMBDA


def dashboard(service: Service, programs: Sequence[Program], nodes: Sequence[Node]) -> Dashboard:
    """One dashboard: what callers see, what it costs and needs, what runs behind it."""
    panels = [_head(service)]
    for program in programs:
        panels += _answers(service, program)
        panels += _function(service, program)
    panels += [*_gateway(nodes), *_around(service, programs), *_queues(service, nodes), *_tasks(nodes)]
    return Dashboard(id=Id("Dashboard"), name=service.stack, panels=tuple(panels))


def _head(service: Service) -> Panel:
    slo = service.deploy.slo
    return Panel(
        title="", width=24,
        text=f"# {service.stack}\nPromised: p95 {service.slo_p95_ms:g} ms, errors {100 * slo.error_rate:g} %,"
        f" cold starts {100 * slo.cold_starts:g} %; peak {service.deploy.traffic.peak_rps:g} requests/s.",
    )  # fmt: skip


def _answers(service: Service, program: Program) -> Iterator[Panel]:
    slo, name = service.deploy.slo, program.name
    door = program.function is not None and service.package.kind == "worker"
    yield Panel(title=f"{name}: requests", lines=(("requests", own("errors", name, "SampleCount")),))
    crashed = () if program.function is None else (("process ended", aws("AWS/Lambda", "Errors", program.dimensions, "Sum")),)
    yield Panel(
        title=f"{name}: errors", lines=(("answered 500 and more", own("errors", name, "Sum")), *crashed),
    )  # fmt: skip
    yield Panel(title=f"{name}: share of errors", lines=(("errors", program.errors(300)),), limits=(("promised", slo.error_rate),))
    yield Panel(
        title=f"{name}: latency", unit="ms", limits=(("promised p95", slow_ms(service, door=door)),),
        lines=tuple((each, own("latency_ms", name, each)) for each in ("p50", "p95", "p99")),
    )  # fmt: skip
    yield Panel(
        title=f"{name}: slow answers", lines=(("slow", program.share("slow", 300)),), limits=(("promised", LATENCY_BUDGET),)
    )
    yield Panel(title=f"{name}: errors by release", lines=(("errors", by_release("errors", name)),))
    yield Panel(title=f"{name}: slow answers by release", lines=(("slow", by_release("slow", name)),))


def _function(service: Service, program: Program) -> Iterator[Panel]:
    function = program.function
    if function is None:
        return
    cold = ("cold starts", program.share("cold_starts", 300))
    yield Panel(title=f"{program.name}: cold starts", lines=(cold,), limits=(("promised", service.deploy.slo.cold_starts),))
    whole = (("FunctionName", function.name),)
    at_once = aws("AWS/Lambda", "ConcurrentExecutions", whole, "Maximum")
    limits = () if function.reserved is None else (("reserved", float(function.reserved)),)
    yield Panel(title=f"{program.name}: environments at work", lines=(("at work", at_once),), limits=limits)
    yield Panel(
        title=f"{program.name}: throttles", lines=(("throttles", aws("AWS/Lambda", "Throttles", program.dimensions, "Sum")),)
    )
    yield Panel(title=f"{program.name}: dollars for 1,000 requests", lines=(("model", _dollars(program)),))


def _dollars(program: Program) -> Expression:
    """Of a function's time and requests: what CloudWatch knows of the bill as it happens."""
    function = program.function
    assert function is not None
    rate = LAMBDA[function.architecture]
    per_ms = function.memory_mb / 1024 / 1000 * rate.gb_second_usd
    return Expression(
        formula=f"1000 * duration * {per_ms:.10f} + {rate.million_requests_usd / 1000:.6f}", label="model",
        metrics=(("duration", aws("AWS/Lambda", "Duration", program.dimensions, "Average", period_s=300)),),
    )  # fmt: skip


def _gateway(nodes: Sequence[Node]) -> Iterator[Panel]:
    for node in nodes:
        lines: list[tuple[str, Metric]] = []
        if isinstance(node, HttpApi):
            dimensions: tuple[tuple[str, Value], ...] = (("ApiId", Ref(node.id, "id")),)
            lines = [(name, aws("AWS/ApiGateway", name, dimensions, "Sum")) for name in ("Count", "4xx", "5xx")]
        elif isinstance(node, RestApi):
            dimensions = (("ApiName", node.name),)
            lines = [(name, aws("AWS/ApiGateway", name, dimensions, "Sum")) for name in ("Count", "4XXError", "5XXError")]
        elif isinstance(node, LoadBalancer):
            dimensions = (("LoadBalancer", Ref(node.id, "full_name")),)
            names = ("RequestCount", "HTTPCode_ELB_5XX_Count", "HTTPCode_Target_5XX_Count")
            lines = [(name, aws("AWS/ApplicationELB", name, dimensions, "Sum")) for name in names]
        if lines:
            yield Panel(title=f"{node.id}: answers", lines=tuple(lines))


def _around(service: Service, programs: Sequence[Program]) -> Iterator[Panel]:
    for name, metrics in AROUND.items():
        if getattr(service.package, name) is not None:
            lines = tuple((metric, own(metric, program.name, "Sum")) for program in programs for metric in metrics)
            yield Panel(title=f"{service.stack}: {name}", lines=lines)


def _queues(service: Service, nodes: Sequence[Node]) -> Iterator[Panel]:
    for node in nodes:
        if isinstance(node, Queue) and node.dead is not None:
            dimensions: tuple[tuple[str, Value], ...] = (("QueueName", node.name),)
            yield Panel(
                title=f"{node.name}: messages",
                lines=(
                    ("waiting", aws("AWS/SQS", "ApproximateNumberOfMessagesVisible", dimensions, "Maximum")),
                    ("at work", aws("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", dimensions, "Maximum")),
                ),
            )
            yield Panel(
                title=f"{node.name}: age of the oldest", unit="s", limits=(("promised", service.deploy.worker.wait_s),),
                lines=(("age", aws("AWS/SQS", "ApproximateAgeOfOldestMessage", dimensions, "Maximum")),),
            )  # fmt: skip


def _tasks(nodes: Sequence[Node]) -> Iterator[Panel]:
    for node in nodes:
        if isinstance(node, TaskService):
            dimensions = task_dimensions(nodes, node)
            cluster = next(one for one in nodes if isinstance(one, Cluster) and one.id == node.cluster)
            if cluster.insights:
                running = aws("ECS/ContainerInsights", "RunningTaskCount", dimensions, "Maximum")
                yield Panel(title=f"{node.id}: tasks", lines=(("running", running),))
            use = tuple((name, aws("AWS/ECS", name, dimensions, "Average")) for name in ("CPUUtilization", "MemoryUtilization"))
            yield Panel(title=f"{node.id}: use", lines=use, unit="%")
