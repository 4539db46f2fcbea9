"""Graphs of deployments with every noun in them, for renderers and checks."""

from __future__ import annotations

from mlpack.deploy.graph.endpoints import (
    FunctionUrl,
    HttpApi,
    Jwt,
    LoadBalancer,
    RestApi,
    Route,
    SecurityGroup,
    TargetGroup,
    Tenant,
    Throttle,
)
from mlpack.deploy.graph.functions import Alias, Function, Image, Permission, Provisioned, Version, Zip
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.machines import Build, Machine, Rule, Schedule
from mlpack.deploy.graph.roles import Grant, Logs, Role
from mlpack.deploy.graph.stores import Bucket, Queue, Source, Table, Topic
from mlpack.deploy.graph.tasks import CapacityProvider, Cluster, Container, Scaling, Service, Task
from mlpack.deploy.graph.values import Context, Id, Joined, Node, Parameter, Ref
from mlpack.deploy.graph.watching import (
    Alarm,
    Anomaly,
    Budget,
    CompositeAlarm,
    Dashboard,
    Expression,
    Metric,
    Panel,
)

TAGS = {"service": "fashion", "team": "vision", "env": "prod"}
BUCKET = Parameter("CodeBucket", "bucket of the registry")
KEY = Parameter("CodeKey", "key of the package", "releases/fashion.zip")
SUBNETS = Parameter("Subnets", "private subnets", kind="texts")
VPC = Parameter("Vpc", "the network")
CERTIFICATE = Parameter("Certificate", "ARN of the certificate")
IMAGE = Parameter("Image", "address of the image, by digest")
GPU_IMAGE = Parameter("GpuImage", "AMI of ECS with drivers", "ami-0123456789abcdef0", kind="ami")
BALANCER = "elasticloadbalancing.amazonaws.com"
BY_ROLE = "lambda.amazonaws.com"


def i(name: str) -> Id:
    """An id."""
    return Id(name)


def grant(action: str, *resources: str) -> Grant:
    """A grant of one action with what has ids."""
    return Grant(actions=(action,), resources=tuple(Ref(i(name)) for name in resources), why=f"to {action}")


def function(name: str, code: Zip | Image | None = None, **settings: object) -> tuple[Node, ...]:
    """A function with its log group, role, first version and alias."""
    fields = {"architecture": "arm64", "memory_mb": 1769, "timeout_s": 20, "reserved": 40} | settings
    lines = Grant(
        actions=("logs:CreateLogStream", "logs:PutLogEvents"),
        resources=(Joined((Ref(i(f"{name}Logs")), ":*")),),
        why="log lines",
    )
    code = code or Zip(bucket=BUCKET, key=KEY, runtime="python3.12", handler="mlpack_runtime.handler", sha256="a" * 64)
    return (
        Logs(id=i(f"{name}Logs"), name=f"/aws/lambda/fashion-prod-{name.lower()}", retention_days=30),
        Role(id=i(f"{name}Role"), service=BY_ROLE, grants=(lines, *settings.pop("grants", ()))),  # type: ignore[misc]
        Function(
            id=i(name),
            name=f"fashion-prod-{name.lower()}",
            role=i(f"{name}Role"),
            code=code,
            logs=i(f"{name}Logs"),
            **{key: value for key, value in fields.items() if key != "grants"},  # type: ignore[arg-type]
        ),
        Version(id=i(f"{name}First"), function=i(name)),
        Alias(id=i(f"{name}Live"), function=i(name), version=i(f"{name}First")),
    )


def endpoint(auth: object = "iam") -> tuple[Node, ...]:
    """A function behind an HTTP API, with an alarm, a dashboard, a budget."""
    call = Metric(namespace="AWS/Lambda", name="Errors", dimensions=(("FunctionName", Ref(i("Model"), "name")),), statistic="Sum")
    calls = Metric(namespace="AWS/Lambda", name="Invocations", dimensions=call.dimensions, statistic="Sum")
    share = Expression(formula="100*errors/calls", metrics=(("errors", call), ("calls", calls)), label="errors, %")
    slow = Metric(namespace="AWS/Lambda", name="Duration", dimensions=call.dimensions, statistic="p95")
    everything = Joined((Ref(i("Api"), "execution_arn"), "/*"))
    alarm = {"periods": 3, "points": 2, "missing": "notBreaching", "comparison": ">", "actions": (Ref(i("Pager")),)}
    return (
        *function("Model", environment={"LOG": "full ${x}", "QUEUE": Context("region")}),
        Logs(id=i("ApiLogs"), name="/aws/apigateway/fashion-prod", retention_days=30),
        HttpApi(
            id=i("Api"),
            name="fashion-prod",
            alias=i("ModelLive"),
            auth=auth,  # type: ignore[arg-type]
            routes=(Route(method="POST", path="/v2/models/{name}/infer"), Route(method="GET", path="/v2/health/ready")),
            throttle=Throttle(rate=50, burst=20),
            timeout_ms=25_000,
            logs=i("ApiLogs"),
            cors={"origins": ["https://shop.example"], "methods": ["POST"], "max_age_s": 600},
        ),
        Permission(id=i("ApiMay"), alias=i("ModelLive"), service="apigateway.amazonaws.com", source=everything),
        Topic(id=i("Pager"), name="fashion-prod-alarms", services=("cloudwatch.amazonaws.com", "budgets.amazonaws.com")),
        Alarm(id=i("Errors"), name="fashion-prod-errors", description="errors", metric=share, threshold=1.0, **alarm),  # type: ignore[arg-type]
        Alarm(
            id=i("Slow"), name="fashion-prod-slow", description="p95", metric=slow, threshold=200.0,
            low_samples="ignore", **alarm,  # type: ignore[arg-type]
        ),
        CompositeAlarm(
            id=i("Brake"), name="fashion-prod-brake", description="either", mode="any", alarms=(i("Errors"), i("Slow")),
            actions=(Ref(i("Pager")),),
        ),
        Dashboard(
            id=i("Board"),
            name="fashion-prod",
            panels=(
                Panel(title="errors", lines=(("errors", share),), limits=(("limit", 1.0),), unit="%"),
                Panel(title="p95", lines=(("p95", slow),), width=12),
                Panel(title="", text="# fashion", width=24),
            ),
        ),
        Budget(id=i("Month"), name="fashion-prod", month_usd=50.0, service="fashion", topic=i("Pager")),
        Anomaly(id=i("Costs"), name="fashion-prod", service="fashion", topic=i("Pager"), from_usd=5.0),
    )  # fmt: skip


def workers(on: str = "fargate") -> tuple[Node, ...]:
    """A queue with workers that scale on what waits, from none."""
    ec2 = on == "ec2"
    waiting = Metric(
        namespace="AWS/SQS", name="ApproximateNumberOfMessagesVisible", dimensions=(("QueueName", Ref(i("Work"), "name")),),
        statistic="Maximum",
    )  # fmt: skip
    where = (("ClusterName", Ref(i("Pool"), "name")), ("ServiceName", Ref(i("Workers"), "name")))
    tasks = Metric(namespace="ECS/ContainerInsights", name="RunningTaskCount", dimensions=where, statistic="Average")
    backlog = Expression(formula="IF(tasks<1,waiting,waiting/tasks)", metrics=(("waiting", waiting), ("tasks", tasks)))
    machines: tuple[Node, ...] = (
        Role(id=i("HostRole"), service="ec2.amazonaws.com", grants=(grant("ecs:SubmitTaskStateChange", "Pool"),)),
        CapacityProvider(
            id=i("Gpus"), name="fashion-prod-gpus", instance_types=("g4dn.xlarge", "g5.xlarge"), image=GPU_IMAGE,
            subnets=SUBNETS, security_group=i("WorkerNet"), role=i("HostRole"), least=0, most=4, spot_share=0.8,
        ),
    )  # fmt: skip
    return (
        Queue(id=i("Dead"), name="fashion-prod-dead", visibility_s=60, retention_s=1_209_600),
        Queue(id=i("Work"), name="fashion-prod-work", visibility_s=120, retention_s=86_400, dead=i("Dead"), receives=5),
        Cluster(id=i("Pool"), name="fashion-prod", providers=("Gpus",) if ec2 else ("FARGATE", "FARGATE_SPOT")),
        SecurityGroup(id=i("WorkerNet"), description="workers", vpc=VPC),
        *(machines if ec2 else ()),
        Logs(id=i("WorkerLogs"), name="/fashion-prod/worker", retention_days=30),
        Role(id=i("WorkerRole"), service="ecs-tasks.amazonaws.com", grants=(grant("sqs:ReceiveMessage", "Work"),)),
        Role(id=i("StartRole"), service="ecs-tasks.amazonaws.com", grants=(grant("logs:PutLogEvents", "WorkerLogs"),)),
        Task(
            id=i("WorkerTask"), family="fashion-prod-worker", cpu=1024, memory_mb=4096, architecture="x86_64",
            role=i("WorkerRole"), execution_role=i("StartRole"), logs=i("WorkerLogs"), on="ec2" if ec2 else "fargate",
            container=Container(
                name="worker", image=IMAGE, environment={"QUEUE_URL": Ref(i("Work"), "url")}, stop_s=110,
                health=("CMD-SHELL", "test -f /tmp/ready"), gpus=1 if ec2 else 0,
            ),
        ),
        Service(
            id=i("Workers"), name="fashion-prod-workers", cluster=i("Pool"), task=i("WorkerTask"), count=0,
            strategy=(("Gpus", 0, 1),) if ec2 else (("FARGATE", 1, 1), ("FARGATE_SPOT", 0, 4)), subnets=SUBNETS,
            security_group=i("WorkerNet"),
        ),
        Scaling(
            id=i("WorkerScale"), service=i("Workers"), least=0, most=8, metric=backlog, target=20.0, in_cooldown_s=300,
            out_cooldown_s=60, wake=waiting,
        ),
    )  # fmt: skip


def batch() -> tuple[Node, ...]:
    """A bucket, a queue that hears of it, a machine on a schedule, a rule, a build, a table."""
    definition = {
        "StartAt": "Ask",
        "TimeoutSeconds": 3600,
        "States": {
            "Ask": {
                "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Next": "Done", "TimeoutSeconds": 60,
                "Parameters": {"FunctionName": Ref(i("JobLive")), "Payload.$": "$"},
            },
            "Done": {"Type": "Succeed"},
        },
    }  # fmt: skip
    return (
        *function("Job", Image(uri=IMAGE), timeout_s=60, grants=(grant("sqs:ReceiveMessage", "Events"),)),
        Queue(id=i("DeadEvents"), name="fashion-prod-dead-events.fifo", fifo=True, visibility_s=60, retention_s=1_209_600),
        Queue(id=i("LostEvents"), name="fashion-prod-lost", visibility_s=60, retention_s=1_209_600),
        Queue(
            id=i("Events"), name="fashion-prod-events", visibility_s=360, retention_s=86_400, dead=i("LostEvents"),
            senders=(("s3.amazonaws.com", Ref(i("Items"))),),
        ),
        Bucket(
            id=i("Items"), name=Joined(("fashion-prod-items-", Context("account"))), expire_days=30, versioned=True,
            events=(("s3:ObjectCreated:*", "in/", Ref(i("Events"))),),
        ),
        Source(id=i("EventsToJob"), queue=i("Events"), alias=i("JobLive"), batch=10, window_s=5, most_at_once=10),
        Table(id=i("Users"), name="fashion-prod-users", hash_key=("user", "S")),
        Table(id=i("Tickets"), name="fashion-prod-tickets", hash_key=("ticket", "S"), range_key=("at", "N"), ttl="until"),
        Logs(id=i("MachineLogs"), name="/aws/vendedlogs/states/fashion-prod", retention_days=30),
        Role(id=i("MachineRole"), service="states.amazonaws.com", grants=(grant("lambda:InvokeFunction", "JobLive"),)),
        Machine(id=i("Nightly"), name="fashion-prod-batch", role=i("MachineRole"), definition=definition, logs=i("MachineLogs")),
        Role(id=i("ClockRole"), service="scheduler.amazonaws.com", grants=(grant("states:StartExecution", "Nightly"),)),
        Schedule(
            id=i("EveryNight"), name="fashion-prod-nightly", expression="cron(0 2 * * ? *)", timezone="Europe/Berlin",
            target=i("Nightly"), role=i("ClockRole"), input={"prefix": "in/"},
        ),
        Role(id=i("RuleRole"), service="events.amazonaws.com", grants=(grant("states:StartExecution", "Nightly"),)),
        Rule(
            id=i("Fresh"), name="fashion-prod-fresh", pattern={"source": ["aws.s3"], "detail": {"b": [Ref(i("Items"), "name")]}},
            target=i("Nightly"), role=i("RuleRole"), input={"why": "fresh data"},
        ),
        Logs(id=i("BuildLogs"), name="/aws/codebuild/fashion-prod", retention_days=30),
        Role(id=i("BuildRole"), service="codebuild.amazonaws.com", grants=(grant("logs:PutLogEvents", "BuildLogs"),)),
        Build(
            id=i("Rebuild"), name="fashion-prod-build", role=i("BuildRole"), image="aws/codebuild/amazonlinux2-x86_64-standard:5.0",
            commands=("mlpack build recipe.yaml --out ${OUT}",), logs=i("BuildLogs"),
        ),
    )  # fmt: skip


def balanced() -> tuple[Node, ...]:
    """A balancer before tasks of a container, with a second group for a rollout; another before a function."""
    return (
        Cluster(id=i("Hosts"), name="fashion-prod-web", providers=("FARGATE",)),
        SecurityGroup(id=i("Door"), description="callers", vpc=VPC, ingress=((443, "0.0.0.0/0"),)),
        SecurityGroup(id=i("Inside"), description="containers", vpc=VPC, ingress=((8080, Ref(i("Door"), "id")),)),
        LoadBalancer(
            id=i("Balancer"), name="fashion-prod", subnets=SUBNETS, vpc=VPC, certificate=CERTIFICATE, internal=True,
            target=i("Blue"), other=i("Green"), security_group=i("Door"),
        ),
        TargetGroup(id=i("Blue"), port=8080, vpc=VPC),
        TargetGroup(id=i("Green"), port=8080, vpc=VPC),
        Logs(id=i("WebLogs"), name="/fashion-prod/web", retention_days=30),
        Role(id=i("WebRole"), service="ecs-tasks.amazonaws.com", grants=()),
        Role(id=i("WebStart"), service="ecs-tasks.amazonaws.com", grants=(grant("logs:PutLogEvents", "WebLogs"),)),
        Task(
            id=i("WebTask"), family="fashion-prod-web", cpu=1024, memory_mb=2048, architecture="arm64", role=i("WebRole"),
            execution_role=i("WebStart"), logs=i("WebLogs"), container=Container(name="web", image=IMAGE, port=8080),
        ),
        Service(
            id=i("Web"), name="fashion-prod-web", cluster=i("Hosts"), task=i("WebTask"), count=2, strategy=(("FARGATE", 0, 1),),
            subnets=SUBNETS, security_group=i("Inside"), target_group=i("Blue"), grace_s=30,
        ),
        *function("Small", reserved=10),
        Permission(id=i("BalancerMay"), alias=i("SmallLive"), service=BALANCER, source=Ref(i("Smalls"))),
        TargetGroup(id=i("Smalls"), alias=i("SmallLive")),
        LoadBalancer(
            id=i("Second"), name="fashion-prod-2", subnets=SUBNETS, vpc=VPC, certificate=CERTIFICATE, internal=False,
            target=i("Smalls"), security_group=i("Door"), access_logs=BUCKET,
        ),
    )  # fmt: skip


def tenants() -> tuple[Node, ...]:
    """A REST API with keys and tenants, a function's own address, warmth always and by schedule."""
    everything = Joined((Ref(i("Rest"), "execution_arn"), "/*"))
    return (
        *function("Keyed", reserved=60),
        Logs(id=i("RestLogs"), name="/aws/apigateway/fashion-prod-rest", retention_days=30),
        RestApi(
            id=i("Rest"), name="fashion-prod-rest", alias=i("KeyedLive"), auth="key", throttle=Throttle(rate=50, burst=50),
            timeout_ms=28_000, logs=i("RestLogs"),
            tenants=(
                Tenant(name="free-tier", throttle=Throttle(rate=5, burst=5)),
                Tenant(name="gold", throttle=Throttle(rate=40, burst=40)),
            ),
        ),
        Permission(id=i("RestMay"), alias=i("KeyedLive"), service="apigateway.amazonaws.com", source=everything),
        Provisioned(
            id=i("Warm"), alias=i("KeyedLive"), count=2, schedule=(("0 7 ? * MON-FRI *", 4), ("0 19 ? * MON-FRI *", 0)),
            timezone="Europe/Berlin",
        ),
        *function("Open", reserved=10),
        FunctionUrl(id=i("Url"), alias=i("OpenLive"), auth="iam", streaming=True, cors={"origins": ["*"]}),
        Permission(id=i("UrlMay"), alias=i("OpenLive"), service="*", source="", function_url="AWS_IAM"),
        Permission(id=i("UrlMayInvoke"), alias=i("OpenLive"), service="*", source="", by_url=True),
        Provisioned(id=i("Kept"), alias=i("OpenLive"), count=1),
    )  # fmt: skip


def graph(*nodes: Node, **changes: object) -> Graph:
    """A graph of these nodes."""
    return Graph(**{"name": "fashion", "environment": "prod", "nodes": nodes, "tags": TAGS} | changes)  # type: ignore[arg-type]


def graphs() -> dict[str, Graph]:
    """Graphs by name that hold every noun between them."""
    tokens = Jwt(issuer="https://issuer.example/", audience=("fashion",))
    outputs = {"Url": ("where requests go", Ref(i("Api"), "url")), "Alias": ("what moves", Ref(i("ModelLive")))}
    return {
        "endpoint": graph(*endpoint(tokens), outputs=outputs),
        "workers": graph(*workers()),
        "gpus": graph(*workers("ec2")),
        "batch": graph(*batch()),
        "balanced": graph(*balanced()),
        "tenants": graph(*tenants()),
    }
