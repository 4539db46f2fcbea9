"""Faults that people plant in deployments: each is one change of a file, and some proof has to find it.

The first 27 are those of which cfn-lint found 9 in a SAM template; nobody found those from `alias weight` to `CodeDeploy`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CFN, TF = "service.cfn.json", "service.tf.json"
CUT = object()


@dataclass(frozen=True, slots=True)
class Fault:
    """`graph`: of `deploy_graphs.graphs()`; `place`: where the change is, from the top; `change`: a value, or what makes one."""

    name: str
    graph: str
    file: str
    place: str
    change: Any
    rung: str = "rules"

    @property
    def resource(self) -> str:
        """Whose key a finding has to name."""
        parts = _steps(self.place)
        return parts[2] if parts[0] == "resource" else parts[min(1, len(parts) - 1)]


def _steps(place: str) -> list[str]:
    return place.split("|" if "|" in place else "/")


def planted(document: dict[str, Any], fault: Fault) -> dict[str, Any]:
    """A copy of a file with the fault in it."""
    result: dict[str, Any] = json.loads(json.dumps(document))
    *way, last = _steps(fault.place)
    tree: Any = result
    for step in way:
        tree = tree[int(step)] if isinstance(tree, list) else tree.setdefault(step, {})
    key: Any = int(last) if isinstance(tree, list) else last
    if fault.change is CUT:
        del tree[key]
    else:
        tree[key] = fault.change(tree[key]) if callable(fault.change) else fault.change
    return result


def text(old: str, new: str) -> Callable[[Any], Any]:
    """A change of a text, also of one that is put together."""

    def changed(value: Any) -> Any:
        before = value["Fn::Sub"] if isinstance(value, dict) else value
        assert old in before, (old, before)
        return {"Fn::Sub": before.replace(old, new)} if isinstance(value, dict) else before.replace(old, new)

    return changed


def _cfn(name: str, graph: str, place: str, change: Any, rung: str = "rules") -> Fault:
    node, _, rest = place.partition("/")
    return Fault(name, graph, CFN, f"Resources/{node}/Properties/{rest}", change, rung)


def _tf(name: str, graph: str, place: str, change: Any, rung: str = "rules") -> Fault:
    return Fault(name, graph, TF, f"resource/{place}", change, rung)


_METRICS = "Errors/Metrics/0/Expression"
_STATEMENT = "PolicyDocument/Statement/0"
_MORE = {"Action": "s3:GetObject", "Effect": "Allow", "Resource": "*"}
_MANY = "ProvisionedConcurrentExecutions"
_HEAVY = {"FunctionVersion": "2", "FunctionWeight": 1.5}
_CANARY = "CodeDeployDefault.LambdaCanary"
_UPDATE = "CodeDeployLambdaAliasUpdate"
_ALIAS = "aws_lambda_alias/ModelLive"
_DEAD = "RedrivePolicy/deadLetterTargetArn"
_ANY = "x-amazon-apigateway-any-method|x-amazon-apigateway-integration"
_URI = f"Resources|Rest|Properties|Body|paths|/{{proxy+}}|{_ANY}|uri"
_OPEN = {"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "CidrIp": "0.0.0.0/0"}
FAULTS = (
    # the 27
    _cfn("an unknown runtime", "endpoint", "Model/Runtime", "python3.99"),
    _cfn("a timeout of 1,000 s", "endpoint", "Model/Timeout", 1000),
    _cfn("reserved -1", "endpoint", "Model/ReservedConcurrentExecutions", -1),
    _cfn("an unknown architecture", "endpoint", "Model/Architectures", ["arm128"]),
    _cfn("a zip and an image", "endpoint", "Model/Code/ImageUri", "123456789012.dkr.ecr.us-east-1.amazonaws.com/a@sha256:0"),
    _cfn("an unknown statistic", "endpoint", "Slow/ExtendedStatistic", "q95"),
    _cfn("a statistic p9x", "endpoint", "Slow/ExtendedStatistic", "p9x"),
    Fault("a rule with rate(1 minutes)", "batch", CFN, "Resources/Fresh/Properties/ScheduleExpression", "rate(1 minutes)"),
    _cfn("an unknown type of a state", "batch", "Nightly/DefinitionString", text('"Succeed"', '"Suceed"')),
    _cfn("weights beside provisioned concurrency", "tenants", "OpenLive/ProvisionedConcurrencyConfig", {_MANY: 1}),
    _cfn("a misspelt IAM action", "workers", f"WorkerRolePolicy/{_STATEMENT}/Action", ["sqs:RecieveMessage"], "cfn-lint"),
    _cfn("20,000 MB of memory", "endpoint", "Model/MemorySize", 20_000),
    _cfn("a dashboard that is no JSON", "endpoint", "Board/DashboardBody", text('"widgets":', '"widgets"')),
    _tf("a redrive policy that is no JSON", "workers", "aws_sqs_queue/Work/redrive_policy", text("}", "")),
    _cfn("an alias weight of 1.5", "endpoint", "ModelLive/RoutingConfig", {"AdditionalVersionWeights": [_HEAVY]}),
    _cfn("Next to nowhere in a definition", "batch", "Nightly/DefinitionString", text('"Next":"Done"', '"Next":"Gone"')),
    _cfn("a schedule rate(1 days)", "batch", "EveryNight/ScheduleExpression", "rate(1 days)"),
    _cfn("min above max", "workers", "WorkerScale/MinCapacity", 9),
    _cfn("provisioned above reserved", "tenants", f"OpenFirst/ProvisionedConcurrencyConfig/{_MANY}", 11),
    _cfn("metric math of a name that is not there", "endpoint", _METRICS, "100*errors/m9"),
    _cfn("ALRAM in a composite rule", "endpoint", "Brake/AlarmRule", text("ALARM(", "ALRAM(")),
    _cfn("a misspelt metric", "endpoint", "Slow/MetricName", "Durations"),
    _cfn("maxReceiveCount 5000", "workers", "Work/RedrivePolicy/maxReceiveCount", 5000),
    _cfn("two bases", "workers", "Workers/CapacityProviderStrategy/1/Base", 1),
    _cfn("a launch type beside a strategy", "workers", "Workers/LaunchType", "FARGATE"),
    _cfn("SnapStart on an image", "batch", "Job/SnapStart", {"ApplyOn": "PublishedVersions"}),
    Fault(
        "an unknown CodeDeploy config", "endpoint", CFN, "Resources/Group",
        {"Type": "AWS::CodeDeploy::DeploymentGroup", "Properties": {"DeploymentConfigName": f"{_CANARY}20Percent5Minutes"}},
    ),
    # who invokes, and what a rollout moves
    _cfn("a permission of the bare function", "endpoint", "ApiMay/FunctionName", {"Fn::GetAtt": ["Model", "Arn"]}),
    _cfn("an integration of the bare function", "endpoint", "ApiIntegration/IntegrationUri", {"Fn::GetAtt": ["Model", "Arn"]}),
    _cfn("a queue into the bare function", "batch", "EventsToJob/FunctionName", {"Ref": "Job"}),
    _cfn("an address of $LATEST", "tenants", "Url/Qualifier", CUT),
    _cfn("an alias of $LATEST", "endpoint", "ModelLive/FunctionVersion", "$LATEST"),
    _tf("an alias that Terraform moves back", "endpoint", f"{_ALIAS}/lifecycle/ignore_changes", ["function_version"]),
    _cfn("provisioned for one version alone", "tenants", f"OpenFirst/ProvisionedConcurrencyConfig/{_MANY}", 6),
    Fault("a version that goes with the stack", "endpoint", CFN, "Resources/ModelFirst/DeletionPolicy", "Delete"),
    Fault("two owners of an alias", "batch", CFN, "Resources/JobLive/UpdatePolicy", {_UPDATE: {"ApplicationName": "a"}}),
    _cfn("a permission for every account", "endpoint", "ApiMay/SourceArn", CUT),
    # functions
    _cfn("a variable that Lambda keeps", "endpoint", "Model/Environment/Variables/AWS_REGION", "eu-west-1"),
    _cfn("a log group that nobody made", "endpoint", "Model/LoggingConfig/LogGroup", "/aws/lambda/elsewhere"),
    _tf("a role from elsewhere", "endpoint", "aws_lambda_function/Model/role", "arn:aws:iam::123456789012:role/admin"),
    # queues and stores
    _cfn("a visibility shorter than the work", "batch", "Events/VisibilityTimeout", 60),
    _tf("pollers without a bound", "batch", "aws_lambda_event_source_mapping/EventsToJob/scaling_config", CUT),
    _cfn("more pollers than environments", "batch", "EventsToJob/ScalingConfig/MaximumConcurrency", 500),
    _cfn("batches that come again whole", "batch", "EventsToJob/FunctionResponseTypes", CUT),
    _cfn("a queue without dead letters", "workers", "Work/RedrivePolicy", CUT),
    _cfn("dead letters that go first", "workers", "Dead/MessageRetentionPeriod", 3600),
    _cfn("dead letters of another kind", "batch", f"Events/{_DEAD}", {"Fn::GetAtt": ["DeadEvents", "Arn"]}),
    _cfn("a queue without encryption", "workers", "Work/SqsManagedSseEnabled", CUT),
    _tf("a bucket that may be public", "batch", "aws_s3_bucket_public_access_block/ItemsAccess/block_public_policy", False),
    _cfn("a bucket policy without TLS", "batch", "ItemsPolicy/PolicyDocument/Statement", [_MORE]),
    _cfn("a table without recovery", "batch", "Users/PointInTimeRecoverySpecification/PointInTimeRecoveryEnabled", False),
    _cfn("a TTL on the key", "batch", "Tickets/TimeToLiveSpecification/AttributeName", "ticket"),
    _cfn("lines for ever", "endpoint", "ModelLogs/RetentionInDays", CUT),
    _tf("31 days of lines", "endpoint", "aws_cloudwatch_log_group/ModelLogs/retention_in_days", 31),
    # rights and tags
    _cfn("all actions of a service", "workers", f"WorkerRolePolicy/{_STATEMENT}/Action", ["sqs:*"]),
    _cfn("every resource", "workers", f"WorkerRolePolicy/{_STATEMENT}/Resource", ["*"]),
    _cfn("a right that says what is not allowed", "workers", f"WorkerRolePolicy/{_STATEMENT}/NotAction", ["iam:*"]),
    _cfn("a role for anybody", "workers", "WorkerRole/AssumeRolePolicyDocument/Statement/0/Principal", "*"),
    _cfn("a queue that anybody fills", "batch", "EventsPolicy/PolicyDocument/Statement/1/Condition", CUT),
    _cfn("costs without a team", "endpoint", "Model/Tags", [{"Key": "service", "Value": "fashion"}]),
    Fault("tags that Terraform forgot", "endpoint", TF, "provider/aws/default_tags", {}),
    Fault("a provider of any version", "endpoint", TF, "terraform/required_providers/aws/version", ">= 5"),
    Fault("a macro", "endpoint", CFN, "Transform", "AWS::Serverless-2016-10-31"),
    # gateways
    _cfn("a stage without a throttle", "endpoint", "ApiStage/DefaultRouteSettings", CUT),
    _cfn("a burst above reserved", "endpoint", "ApiStage/DefaultRouteSettings/ThrottlingBurstLimit", 400),
    _cfn("a function slower than its gateway", "endpoint", "Model/Timeout", 29),
    _tf("a gateway of 60 s", "endpoint", "aws_apigatewayv2_integration/ApiIntegration/timeout_milliseconds", 60_000),
    _cfn("a route that names nobody", "endpoint", "ApiRoute1/AuthorizationType", CUT),
    _cfn("tokens that nobody checks", "endpoint", "ApiRoute1/AuthorizerId", CUT),
    _cfn("an issuer without https", "endpoint", "ApiAuthorizer/JwtConfiguration/Issuer", "http://issuer.example/"),
    _cfn("a plan without a key", "tenants", "RestGoldPlanKey/UsagePlanId", {"Ref": "RestFreeTierPlan"}),
    Fault("a REST method of the bare function", "tenants", CFN, _URI, "arn:aws:lambda:x"),
    _cfn("a balancer without TLS", "balanced", "BalancerPlain/DefaultActions/0/Type", "forward"),
    _cfn("old TLS", "balanced", "BalancerListener/SslPolicy", "ELBSecurityPolicy-2016-08"),
    _cfn("a door for everybody at 8080", "balanced", "Inside/SecurityGroupIngress/0", _OPEN),
    # machines and times
    _cfn("a start that is nowhere", "batch", "Nightly/DefinitionString", text('"StartAt":"Ask"', '"StartAt":"Task"')),
    _cfn("a task without an end", "batch", "Nightly/DefinitionString", text(',"TimeoutSeconds":60', "")),
    _cfn("a machine that invokes the bare function", "batch", "Nightly/DefinitionString", text("${JobLive}", "${Job.Arn}")),
    _cfn("a cron of five fields", "batch", "EveryNight/ScheduleExpression", "cron(0 2 * * ?)"),
    _cfn("a time zone that is none", "batch", "EveryNight/ScheduleExpressionTimezone", "Europe/Berlim"),
    _tf("a rule that is switched off", "batch", "aws_cloudwatch_event_rule/Fresh/state", "DISABLED"),
    _cfn("a rule without a role", "batch", "Fresh/Targets/0/RoleArn", CUT),
    # alarms
    _cfn("four points of three", "endpoint", "Errors/DatapointsToAlarm", 4),
    _cfn("a period of 90 s", "endpoint", "Slow/Period", 90),
    _cfn("a dimension that nobody emits", "endpoint", "Slow/Dimensions/0/Name", "Function"),
    _cfn("two metrics that return data", "endpoint", "Errors/Metrics/1/ReturnData", True),
    _cfn("a function of metric math that is none", "endpoint", _METRICS, "100*RATIO(errors,calls)"),
    _tf("an alarm that nobody hears", "workers", "aws_cloudwatch_metric_alarm/WorkerScaleWakeAlarm/alarm_actions", CUT),
    _cfn("a composite of an alarm that is not there", "endpoint", "Brake/AlarmRule", text("${Slow}", "fashion-prod-fast")),
    _cfn("a dashboard of a misspelt metric", "endpoint", "Board/DashboardBody", text('"Invocations"', '"Invocation"')),
    _cfn("a budget of nothing", "endpoint", "Month/Budget/BudgetLimit/Amount", 0),
    # tasks
    _cfn("1 vCPU with 1 GB", "workers", "WorkerTask/Memory", "1024"),
    _cfn("a GPU on Fargate", "workers", "WorkerTask/ContainerDefinitions/0/ResourceRequirements", [{"Type": "GPU", "Value": "1"}]),
    _cfn("300 s to stop", "workers", "WorkerTask/ContainerDefinitions/0/StopTimeout", 300),
    _cfn("a provider that the cluster has not", "gpus", "PoolProviders/CapacityProviders", ["FARGATE"]),
    _cfn("a port that nobody listens at", "balanced", "Web/LoadBalancers/0/ContainerPort", 8081),
    _cfn("machines that are not drained", "gpus", "Gpus/AutoScalingGroupProvider/ManagedDraining", "DISABLED"),
    _cfn("machines that answer without tokens", "gpus", "GpusTemplate/LaunchTemplateData/MetadataOptions/HttpTokens", "optional"),
    _tf("a pool that never wakes", "workers", "aws_appautoscaling_policy/WorkerScaleWake", CUT),
    _cfn("a target of 0", "workers", "WorkerScaleTarget/TargetTrackingScalingPolicyConfiguration/TargetValue", 0),
    # what linters find
    _cfn("a property that is none", "endpoint", "Model/MemorySizes", 512, "cfn-lint"),
    _cfn("a reference to nothing", "endpoint", "Model/Role", {"Fn::GetAtt": ["Nobody", "Arn"]}),
    Fault("a cycle", "endpoint", CFN, "Resources/ModelRole/DependsOn", "Model", "cfn-lint"),
)  # fmt: skip
