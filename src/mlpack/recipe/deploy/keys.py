"""The keys of `deploy` as typed models. Imported with the other keys (`schema`), which says what they promise.

What two keys of the section say together is checked by `reading`, what they ask of a package by `mlpack.deploy`.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema  # noqa: TID253

from mlpack.core.text.quantities import parse_duration_ms, quoted, share_of
from mlpack.recipe.deploy.times import Schedule, Window, parse_schedule, parse_span_s, parse_window
from mlpack.recipe.units import Keys, Money, Text

Preset = Literal[
    "Canary10Percent5Minutes", "Canary10Percent10Minutes", "Canary10Percent15Minutes", "Canary10Percent30Minutes",
    "Linear10PercentEvery1Minute", "Linear10PercentEvery2Minutes", "Linear10PercentEvery3Minutes", "Linear10PercentEvery10Minutes",
    "AllAtOnce",
]  # fmt: skip
_TASKS = re.compile(r"([0-9]{1,4})\.\.([0-9]{1,4})")
_RATE = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(?:/\s*(s|min))?\s*")
_S3 = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$"
_ARN = r"^arn:[a-z-]+:[a-z0-9-]+:[a-z0-9-]*:([0-9]{12}|aws)?:.+$"


def _share(value: Any) -> float:
    text = share_of(value)
    number = float(text) if text is not None else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
        raise ValueError(f'must be a share, such as "0.5%" or 0.005, not {quoted(value)}')
    return float(number)


def _rate(value: Any) -> float:
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    number = float(match[1]) / (60 if match[2] == "min" else 1) if match else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= 1e6:
        raise ValueError(f"must be requests a second, such as 5/s or 0.5, not {quoted(value)}")
    return float(number)


def _tasks(value: Any) -> tuple[int, int]:
    match = _TASKS.fullmatch(value) if isinstance(value, str) else None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 5000:
        return value, value
    if match is None or not int(match[1]) <= int(match[2]) <= 5000 or int(match[2]) < 1:
        raise ValueError(f"must be how many tasks there are, such as 0..8 or 2, at most 5000, not {quoted(value)}")
    return int(match[1]), int(match[2])


def _drift(value: Any) -> float:
    match = re.fullmatch(r"\s*psi\s*>\s*([0-9](?:\.[0-9]{1,4})?)\s*", value) if isinstance(value, str) else None
    if match is None or not 0 < float(match[1]) <= 5:
        raise ValueError(f"must be a bound on the population stability index, such as psi>0.2, not {quoted(value)}")
    return float(match[1])


def _auth(value: Any) -> Any:
    """One problem in one place, where a union would give one for each of its kinds."""
    if isinstance(value, str) and value in ("iam", "key", "none"):
        return value
    if isinstance(value, dict) and value.keys() == {"jwt"}:
        given = value["jwt"]
        issuer, audience = (given.get("issuer"), given.get("audience")) if isinstance(given, dict) else (None, None)
        listed = [audience] if isinstance(audience, str) else audience
        fine = isinstance(listed, list) and listed and all(isinstance(each, str) and each for each in listed)
        if isinstance(issuer, str) and re.fullmatch(r"https://[^\s?#]+", issuer) and fine and len(given) == 2:
            return {"issuer": issuer, "audience": listed}
        raise ValueError("jwt needs an issuer (an https URL) and an audience: {jwt: {issuer: https://..., audience: [...]}}")
    raise ValueError(f"must be iam, key, none or {{jwt: {{issuer: https://..., audience: [...]}}}}, not {quoted(value)}")


def _string(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


_JWT = {"type": "object", "required": ["issuer", "audience"], "additionalProperties": False}
_JWT_KEYS = {"issuer": {"type": "string", "pattern": "^https://"}, "audience": {"type": ["string", "array"]}}
_AUTH = {
    "anyOf": [
        {"enum": ["iam", "key", "none"]},
        {
            "type": "object",
            "properties": {"jwt": {**_JWT, "properties": _JWT_KEYS}},
            "required": ["jwt"],
            "additionalProperties": False,
        },
    ]
}
Share = Annotated[
    float,
    PlainValidator(_share),
    WithJsonSchema({"type": ["number", "string"], "minimum": 0, "maximum": 1, "pattern": r"^\s*[0-9.]+\s*%\s*$"}),
]
Rate = Annotated[float, PlainValidator(_rate), WithJsonSchema({"type": ["number", "string"], "exclusiveMinimum": 0})]
Span = Annotated[float, PlainValidator(parse_span_s), _string(r"^\s*[0-9.]+\s*(ms|s|m|min|h|d)\s*$")]
Millis = Annotated[float, PlainValidator(parse_duration_ms), _string(r"^\s*[0-9.]+\s*(us|ms|s|min)\s*$")]
When = Annotated[Window, PlainValidator(parse_window), WithJsonSchema({"type": "string"})]
Times = Annotated[Schedule, PlainValidator(parse_schedule), WithJsonSchema({"type": "string"})]
Tasks = Annotated[
    tuple[int, int], PlainValidator(_tasks), WithJsonSchema({"type": ["integer", "string"], "pattern": _TASKS.pattern})
]
Auth = Annotated[Any, PlainValidator(_auth), WithJsonSchema(_AUTH)]
Drift = Annotated[float, PlainValidator(_drift), _string(r"^\s*psi\s*>\s*[0-9.]+\s*$")]
S3 = Annotated[str, Field(pattern=_S3)]
Arn = Annotated[str, Field(pattern=_ARN)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=40)]


def _steps(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(one >= other for one, other in pairwise((0, *values))) or values[-1:] != (100,):
        raise ValueError(f"must be percents that grow and end with 100, such as [5, 25, 50, 100], not {list(values)}")
    return values


class EndpointKeys(Keys):
    """What is asked over HTTP, and who may ask."""

    kind: Literal["http-api", "rest", "alb", "url", "none"] = Field(
        default="http-api",
        description="`http-api` or `rest`: API Gateway's; `alb`: a load balancer; `url`: the function's own address; `none`: only "
        "AWS's Invoke asks",
    )
    auth: Auth | None = Field(
        default=None,
        description="who may ask: `iam` (signed requests), `key` (`rest` alone), `{jwt: {issuer: https://..., audience: [...]}}` "
        "(`http-api` alone), or `none` [iam; of a load balancer it has to be said]",
    )
    accept: Literal["public"] | None = Field(
        default=None,
        description="`public`: that anybody may ask, which `auth: none` needs unless the package asks (`serve.authorize`)",
    )
    internal: bool = Field(default=False, description="of `alb`: whether it is reached from its own network alone")


class TrafficKeys(Keys):
    """How much is asked."""

    peak_rps: Annotated[float, Field(gt=0, le=100_000)] = Field(description="the most requests a second, of an ordinary day")
    mean_rps: Annotated[float, Field(gt=0, le=100_000)] | None = Field(
        default=None, description="requests a second over a month [a tenth of the peak]"
    )
    burst: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="requests that may come at once [what the peak needs, and 20]"
    )
    tenants: dict[Label, Rate] = Field(
        default_factory=dict,
        description="who has a key of their own and how much they may ask: `{free: 5/s, gold: 50/s}`; `rest` alone",
    )
    account_concurrency: Annotated[int, Field(ge=10, le=1_000_000)] = Field(
        default=1000, description="how many requests all functions of the account may work on at once: its quota"
    )


class SloKeys(Keys):
    """What callers are promised: alarms, dashboards and rollouts hold the service to it."""

    latency_p95: Millis | None = Field(default=None, description="95th percentile of a request [three times what was measured]")
    error_rate: Annotated[Share, Field(gt=0, lt=1)] = Field(
        default=0.01, json_schema_extra={"default": "1%"}, description="the share of requests that may fail"
    )
    cold_starts: Annotated[Share, Field(gt=0)] = Field(
        default=0.05, json_schema_extra={"default": "5%"}, description="the share of requests that may wait for a start"
    )
    hops: dict[Label, Millis] = Field(
        default_factory=dict, description="the time of each hop, together at most `latency_p95`: `{features: 40ms, model: 60ms}`"
    )


class RolloutKeys(Keys):
    """How a release gets its traffic."""

    steps: Annotated[tuple[int, ...], Field(min_length=1, max_length=10), AfterValidator(_steps)] | None = Field(
        default=None, description="percents of the requests [5, 25, 50, 100]"
    )
    bake: Span = Field(default=600.0, json_schema_extra={"default": "10min"}, description="the least time of a step")
    give_up: Span = Field(
        default=7200.0, json_schema_extra={"default": "2h"}, description="after this time of a step, `on_doubt` says what happens"
    )
    on_doubt: Literal["hold", "roll-back", "advance"] = Field(
        default="hold", description="what happens where the requests of a step do not decide: `hold` asks a person"
    )
    codedeploy: Preset | None = Field(
        default=None, description="a preset of CodeDeploy in place of the steps: it has two steps at most, or a line"
    )


class WarmKeys(Keys):
    """Environments that wait for requests, or start from a snapshot."""

    provisioned: Annotated[int, Field(ge=1, le=1000)] | None = Field(default=None, description="how many environments are kept")
    when: When | None = Field(default=None, description='when they are kept: "mon-fri 07-19 Europe/Berlin" [always]')
    on: Literal["version", "alias"] = Field(
        default="version", description="`version`: the rollout moves them; `alias`: only with `codedeploy`, or steps of [100]"
    )
    snapstart: bool = Field(default=False, description="whether environments start from a snapshot: zips of Python 3.12 or later")


class WorkerKeys(Keys):
    """The tasks of a worker behind its queue."""

    tasks: Tasks = Field(
        default=(0, 4), json_schema_extra={"default": "0..4"}, description="how many there are, at least and at most"
    )
    wait: Span = Field(default=10.0, json_schema_extra={"default": "10s"}, description="how long a request may wait in the queue")
    spot: Share = Field(
        default=0.0, json_schema_extra={"default": "0%"}, description="the share of tasks on Spot, beyond the first"
    )
    on: Literal["fargate", "ec2"] | None = Field(default=None, description="where they run [ec2 for a GPU, else fargate]")
    instances: Annotated[tuple[Text, ...], Field(min_length=1, max_length=10)] = Field(
        default=("g6.xlarge", "g5.xlarge"), description="kinds of EC2's machines with GPUs, of which any will do"
    )
    receives: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=5, description="how often a message may be begun before it goes to the dead letters"
    )


class BatchKeys(Keys):
    """Requests out of objects, answered without anybody waiting."""

    source: S3 = Field(
        alias="from",
        description="s3://BUCKET/PREFIX of requests, an object each; with a schedule the manifest s3://BUCKET/KEY, .jsonl or .csv",
    )
    items: Annotated[int, Field(ge=1, le=10_000)] = Field(default=500, description="requests that are worked on together")
    tolerate: Share = Field(default=0.01, json_schema_extra={"default": "1%"}, description="the share of items that may fail")
    at_once: Annotated[int, Field(ge=1, le=1000)] = Field(default=10, description="how many such parts are worked on at a time")
    schedule: Times | None = Field(
        default=None, description='when: "daily 02:00 Europe/Berlin", "weekly mon", or cron(...) [each new object at once]'
    )


class RowKeys(Keys):
    """Rows that become features: each new object is checked and written to the table of features."""

    source: S3 = Field(alias="from", description="s3://BUCKET/PREFIX of objects with a row a line (.jsonl)")
    columns: Annotated[dict[Label, Literal["number", "string", "boolean"]], Field(min_length=1, max_length=100)] = Field(
        description="what a row has to hold: `{age: number, country: string}`; another row is refused"
    )
    ttl: Span = Field(default=7_776_000.0, json_schema_extra={"default": "90d"}, description="how long features are kept")


class TriggerKeys(Keys):
    """What begins a training: one of these."""

    fresh_data: S3 | None = Field(default=None, description="new objects below s3://BUCKET/PREFIX")
    drift: Drift | None = Field(default=None, description="inputs that are not as before: psi>0.2 (population stability index)")


class RetrainKeys(Keys):
    """When the model is made anew, and by what."""

    train: Arn = Field(description="the ARN of what trains: a state machine, a function, a CodeBuild project")
    when: tuple[TriggerKeys, ...] = Field(
        default=(), description="`[{fresh_data: s3://BUCKET/PREFIX}, {drift: psi>0.2}]`: new objects, inputs that are not as before"
    )
    schedule: Times | None = Field(default=None, description='and when: "weekly mon 03:00"')


class SpendingKeys(Keys):
    """The most that it may cost: over it `mlpack deploy plan` ends with 5."""

    month: Money | None = Field(default=None, description="dollars a month at the traffic above")
    per_1k: Money | None = Field(default=None, description="dollars for a thousand requests at the traffic above")


class TableKeys(Keys):
    """The table of features."""

    table: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{3,255}$")] = Field(description="its name")
    key: Annotated[Text, Field(max_length=255)] = Field(description="its key")
    type: Literal["S", "N"] = Field(default="S", description="the key's type: S text, N number")
    create: bool = Field(default=True, description="whether the stack makes it")


class KeptKeys(Keys):
    """What is kept of requests."""

    sample: Share | None = Field(default=None, description="the share of requests whose prediction is logged [as `serve.log` says]")
    to: S3 | None = Field(default=None, description="s3://BUCKET/PREFIX [as `serve.log` says]")
    keep: Span = Field(default=2_592_000.0, json_schema_extra={"default": "30d"}, description="how long lines of the log are kept")


class DeployKeys(Keys):
    """How the package is deployed on AWS. `{traffic: {peak_rps: 50}}` is enough. It is no part of a build or of its digest."""

    traffic: TrafficKeys = Field(description="how much is asked")
    endpoint: EndpointKeys = Field(default_factory=EndpointKeys, description="what is asked over HTTP, and who may ask")
    slo: SloKeys = Field(default_factory=SloKeys, description="what callers are promised")
    rollout: RolloutKeys = Field(default_factory=RolloutKeys, description="how a release gets its traffic")
    warm: WarmKeys = Field(default_factory=WarmKeys, description="environments that wait for requests")
    worker: WorkerKeys = Field(default_factory=WorkerKeys, description="the tasks of a worker")
    batch: BatchKeys | None = Field(default=None, description="requests out of objects")
    data: RowKeys | None = Field(default=None, description="rows that become features")
    retrain: RetrainKeys | None = Field(default=None, description="when the model is made anew")
    budget: SpendingKeys = Field(default_factory=SpendingKeys, description="the most that it may cost")
    features: TableKeys | None = Field(default=None, description="the table of features [as `serve.features` says]")
    log: KeptKeys = Field(default_factory=KeptKeys, description="what is kept of requests")
    notify: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$", max_length=254)] | None = Field(
        default=None, description="a mail address that hears of alarms, rollouts and money"
    )
