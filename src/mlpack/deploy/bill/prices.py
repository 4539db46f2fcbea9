"""What AWS charges for the parts of a deployment, each price with its source and the month in which it was read. Pure.

Promises:
- Prices are list prices in us-east-1, first tier: no free tier, no discount, no data transfer. Lambda's and Fargate's own stand in
  `mlpack.targets.prices`, those of machines with GPUs in `mlpack.pipeline.estimates.devices`.

Will not: know a deployment.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars for one of `unit`. `read`: the month of this row. `checked`: whether the source was looked at then. What was
    not is what we remember of it, and a plan says so."""

    usd: float
    unit: str
    source: str
    read: str
    checked: bool = True


def _seen(usd: float, unit: str, source: str, read: str = "2026-11", per: int = 1) -> Price:
    return Price(usd=usd / per, unit=unit, source=source, read=read)


def _remembered(usd: float, unit: str, source: str, per: int = 1) -> Price:
    return Price(usd=usd / per, unit=unit, source=source, read="2026-12", checked=False)


_CLOUDWATCH = "https://signoz.io/guides/cloudwatch-pricing (us-east-1, 2026-02)"
_LOGS = "https://www.factualminds.com/blog/amazon-cloudwatch-pricing-metrics-logs-alarms-dashboards/ (us-east-1, 2026-06)"
_GATEWAY = (
    "https://docs.aws.amazon.com/whitepapers/latest/best-practices-api-gateway-private-apis-integration/cost-optimization.html"
)
_LAMBDA = "https://aws.amazon.com/lambda/pricing/ (us-east-1)"
_DYNAMODB = "https://airbyte.com/data-engineering-resources/dynamodb-pricing (us-east-1)"
_S3 = "https://aws.amazon.com/s3/pricing/ (us-east-1, S3 Standard)"

_MILLION = 1_000_000
_XRAY = "https://aws.amazon.com/xray/pricing/"
_ELB = "https://aws.amazon.com/elasticloadbalancing/pricing/ (us-east-1)"
_MACHINES = "https://aws.amazon.com/step-functions/pricing/ (us-east-1)"
_SQS = "https://cloudburn.io/blog/amazon-sqs-pricing (us-east-1, 2026-03)"

PRICES: dict[str, Price] = {
    "provisioned x86_64": _remembered(0.0000041667, "GB-second kept", _LAMBDA),
    "provisioned arm64": _remembered(0.0000033334, "GB-second kept", _LAMBDA),
    "provisioned use x86_64": _remembered(0.0000097222, "GB-second in use", _LAMBDA),
    "provisioned use arm64": _remembered(0.0000077778, "GB-second in use", _LAMBDA),
    "snapshot": _remembered(0.0000015046, "GB-second that a snapshot is kept", _LAMBDA),
    "restore": _remembered(0.0001397998, "GB of a snapshot that is restored", _LAMBDA),
    "HTTP API": _seen(1.00, "request of up to 512 KB", _GATEWAY, per=_MILLION),
    "REST API": _seen(3.50, "request", _GATEWAY, per=_MILLION),
    "load balancer": _remembered(0.0225, "hour", _ELB),
    "LCU": _remembered(0.008, "LCU-hour", _ELB),
    "address": _remembered(0.005, "public IPv4 address and hour", "https://aws.amazon.com/vpc/pricing/"),
    "log ingestion": _seen(0.50, "GB", _LOGS),
    "log storage": _seen(0.03, "GB-month", "https://www.fortem.dev/blog/cloudwatch-costs-ecs/", "2026-12"),
    "metric": _seen(0.30, "metric and month", _CLOUDWATCH),
    "alarm": _seen(0.10, "metric of an alarm and month", _CLOUDWATCH),
    "composite alarm": _seen(0.50, "alarm and month", "https://c3x.dev/resources/aws/aws_cloudwatch_metric_alarm", "2026-12"),
    "dashboard": _seen(3.00, "dashboard and month", _CLOUDWATCH),
    "trace": _remembered(5.00, "trace", _XRAY, per=_MILLION),
    "SQS": _seen(0.40, "request of up to 64 KB", _SQS, "2026-12", per=_MILLION),
    "SQS FIFO": _seen(0.50, "request of up to 64 KB", _SQS, "2026-12", per=_MILLION),
    "DynamoDB read": _seen(0.125, "read of up to 4 KB", _DYNAMODB, "2026-12", per=_MILLION),
    "DynamoDB write": _seen(0.625, "write of up to 1 KB", _DYNAMODB, "2026-12", per=_MILLION),
    "S3 write": _remembered(5.00, "PUT, COPY, POST or LIST", _S3, per=_MILLION),
    "S3 read": _remembered(0.40, "GET", _S3, per=_MILLION),
    "S3 storage": _remembered(0.023, "GB-month", _S3),
    "Firehose": _remembered(0.029, "GB, each record rounded up to 5 KB", "https://aws.amazon.com/firehose/pricing/"),
    "ECR": _remembered(0.10, "GB-month", "https://aws.amazon.com/ecr/pricing/"),
    "transition": _seen(0.000025, "transition of a Standard machine", _MACHINES),
    "express request": _seen(1.00, "run of an Express machine", _MACHINES, per=_MILLION),
    "scheduler": _remembered(1.00, "start", "https://aws.amazon.com/eventbridge/pricing/", per=_MILLION),
    "build": _seen(0.01, "minute of general1.medium", "https://c3x.dev/resources/aws/aws_codebuild_project/", "2026-12"),
    "Spot": _remembered(0.30, "share of the price without Spot", "https://aws.amazon.com/fargate/pricing/ (up to 70 % less)"),
}
"""By the name that the lines of a bill give."""

TABLE_READ = max(price.read for price in PRICES.values())
"""The month of the newest price: `deploy.lock` and PLAN.md say it."""

HOURS = 730.0
"""Hours of a month, as AWS counts them."""
SECONDS = HOURS * 3600
