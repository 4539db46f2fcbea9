"""Functions, roles, log groups and state machines as resources of CloudFormation. Pure."""

from __future__ import annotations

from typing import Any

from mlpack.deploy.graph.functions import Alias, Function, Permission, Provisioned, Version, Zip
from mlpack.deploy.graph.machines import Build, Machine, Rule, Schedule
from mlpack.deploy.graph.roles import Logs, Role
from mlpack.deploy.graph.values import Joined, Ref
from mlpack.deploy.render import documents
from mlpack.deploy.render.cfn.language import Formation, resource
from mlpack.deploy.render.values import policy_of

Resources = dict[str, dict[str, Any]]


def role(node: Role, to: Formation) -> Resources:
    """The role, and its policy as a resource of its own: so it may name what names the role."""
    own = resource("IAM::Role", {"AssumeRolePolicyDocument": to.resolve(documents.trust(node)), "Tags": to.tags})
    if not node.grants:
        return {node.id: own}
    granted = {"PolicyName": "grants", "Roles": [{"Ref": node.id}], "PolicyDocument": to.resolve(documents.policy(node))}
    return {node.id: own, f"{node.id}Policy": resource("IAM::Policy", granted)}


def logs(node: Logs, to: Formation) -> Resources:
    """A log group that forgets."""
    key = None if node.key is None else to.value(node.key)
    properties = {"LogGroupName": node.name, "RetentionInDays": node.retention_days, "KmsKeyId": key, "Tags": to.tags}
    return {node.id: resource("Logs::LogGroup", properties)}


def function(node: Function, to: Formation) -> Resources:
    """The function. Its updates change `$LATEST` alone, which no caller sees."""
    packed = isinstance(node.code, Zip)
    if isinstance(node.code, Zip):
        code = {"S3Bucket": to.value(node.code.bucket), "S3Key": to.value(node.code.key)}
        form = {"Runtime": node.code.runtime, "Handler": node.code.handler, "Layers": to.resolve(node.code.layers)}
    else:
        code, form = {"ImageUri": to.value(node.code.uri)}, {}
    properties = {
        "FunctionName": node.name,
        "Role": to.value(Ref(node.role)),
        "PackageType": "Zip" if packed else "Image",
        "Code": code,
        **form,
        "Architectures": [node.architecture],
        "MemorySize": node.memory_mb,
        "Timeout": node.timeout_s,
        "EphemeralStorage": {"Size": node.ephemeral_mb},
        "Environment": {"Variables": to.resolve(node.environment)} if node.environment else None,
        "KmsKeyArn": None if node.key is None else to.value(node.key),
        "ReservedConcurrentExecutions": node.reserved,
        "SnapStart": {"ApplyOn": "PublishedVersions"} if node.snapstart else None,
        "TracingConfig": {"Mode": "Active"} if node.tracing else None,
        "DeadLetterConfig": None if node.dead_letters is None else {"TargetArn": to.value(node.dead_letters)},
        "LoggingConfig": {"LogGroup": to.value(Ref(node.logs, "name"))},
        "Tags": to.tags,
    }
    return {node.id: resource("Lambda::Function", properties, DependsOn=granted(to, node))}


def granted(to: Formation, node: Any) -> list[str]:
    """What has to exist before a node's role can be used."""
    owner = to.graph[node.role]
    return [policy_of(node)] if isinstance(owner, Role) and owner.grants else []


def version(node: Version, to: Formation) -> Resources:
    """The version that the alias begins with. It is kept when the stack goes, as the rollout's are."""
    warm = next((each for each in to.graph.of(Provisioned) if _version(to, each) == node.id and not each.schedule), None)
    properties = {
        "FunctionName": {"Ref": node.function},
        "ProvisionedConcurrencyConfig": None if warm is None else {"ProvisionedConcurrentExecutions": warm.count},
    }
    keep = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
    return {node.id: resource("Lambda::Version", properties, **keep)}


def _version(to: Formation, node: Provisioned) -> str:
    owner = to.graph[node.alias]
    assert isinstance(owner, Alias)
    return owner.version


def alias(node: Alias, to: Formation) -> Resources:
    """The alias at its first version. No later template changes it: the rollout moves it."""
    first = to.value(Ref(node.version, "version"))
    return {
        node.id: resource("Lambda::Alias", {"FunctionName": {"Ref": node.function}, "FunctionVersion": first, "Name": node.name})
    }


def provisioned(node: Provisioned, to: Formation) -> Resources:
    """Warmth by schedule, at the first version: the rollout moves it with the alias. Warmth without one stands at the version."""
    if not node.schedule:
        return {}
    owner = to.graph[node.alias]
    assert isinstance(owner, Alias)
    actions = [
        {
            "ScheduledActionName": f"{node.id}{number}",
            "Schedule": cron if cron.startswith(("cron(", "rate(", "at(")) else f"cron({cron})",
            "Timezone": node.timezone,
            "ScalableTargetAction": {"MinCapacity": count, "MaxCapacity": count},
        }
        for number, (cron, count) in enumerate(node.schedule, 1)
    ]
    counts = [node.count, *(count for _, count in node.schedule)]
    properties = {
        "ServiceNamespace": "lambda",
        "ScalableDimension": "lambda:function:ProvisionedConcurrency",
        "ResourceId": to.value(Joined(("function:", Ref(owner.function, "name"), ":", Ref(owner.version, "version")))),
        "MinCapacity": min(counts),
        "MaxCapacity": max(counts),
        "ScheduledActions": actions,
    }
    return {node.id: resource("ApplicationAutoScaling::ScalableTarget", properties)}


def permission(node: Permission, to: Formation) -> Resources:
    """The right of a service to invoke the alias."""
    source = documents.source_arn(to.graph, node.source)
    balancer = node.service == "elasticloadbalancing.amazonaws.com"  # its target group waits for this right
    properties = {
        "FunctionName": to.value(Ref(node.alias)),
        "Action": "lambda:InvokeFunctionUrl" if node.function_url else "lambda:InvokeFunction",
        "Principal": node.service,
        "SourceArn": None if source is None or balancer or node.function_url or node.by_url else to.value(source),
        "SourceAccount": {"Ref": "AWS::AccountId"} if balancer or node.service == "s3.amazonaws.com" else None,
        "FunctionUrlAuthType": node.function_url,
        "InvokedViaFunctionUrl": node.by_url or None,
    }
    return {node.id: resource("Lambda::Permission", properties)}


def machine(node: Machine, to: Formation) -> Resources:
    """A state machine, its definition as one text."""
    destination = {"CloudWatchLogsLogGroup": {"LogGroupArn": to.value(Joined((Ref(node.logs), ":*")))}}
    properties = {
        "StateMachineName": node.name,
        "StateMachineType": "EXPRESS" if node.express else "STANDARD",
        "RoleArn": to.value(Ref(node.role)),
        "DefinitionString": to.text(node.definition),
        "LoggingConfiguration": {"Level": "ERROR", "IncludeExecutionData": False, "Destinations": [destination]},
        "TracingConfiguration": {"Enabled": True},
        "Tags": to.tags,
    }
    return {node.id: resource("StepFunctions::StateMachine", properties, DependsOn=granted(to, node))}


def rule(node: Rule, to: Formation) -> Resources:
    """Events to their target."""
    target = {"Id": node.target, "Arn": to.value(Ref(node.target))}
    if node.role is not None:
        target["RoleArn"] = to.value(Ref(node.role))
    if node.input is not None:
        target["Input"] = to.text(node.input)
    target["RetryPolicy"] = {"MaximumRetryAttempts": 20, "MaximumEventAgeInSeconds": 3600}
    pattern = to.resolve(node.pattern)
    properties = {"Name": node.name, "EventPattern": pattern, "State": "ENABLED", "Targets": [target]}
    return {node.id: resource("Events::Rule", properties)}


def schedule(node: Schedule, to: Formation) -> Resources:
    """A time for a target."""
    target = {"Arn": to.value(Ref(node.target)), "RoleArn": to.value(Ref(node.role)), "Input": to.text(node.input)}
    target["RetryPolicy"] = {"MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 3600}
    properties = {
        "Name": node.name,
        "ScheduleExpression": node.expression,
        "ScheduleExpressionTimezone": node.timezone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": target,
        "State": "ENABLED",
    }
    return {node.id: resource("Scheduler::Schedule", properties)}


def build(node: Build, to: Formation) -> Resources:
    """A CodeBuild project without a source of its own."""
    properties = {
        "Name": node.name,
        "ServiceRole": to.value(Ref(node.role)),
        "Artifacts": {"Type": "NO_ARTIFACTS"},
        "Environment": {"Type": "LINUX_CONTAINER", "ComputeType": node.compute, "Image": to.value(node.image)},
        "Source": {"Type": "NO_SOURCE", "BuildSpec": to.text(documents.build_commands(node))},
        "TimeoutInMinutes": node.timeout_min,
        "LogsConfig": {"CloudWatchLogs": {"Status": "ENABLED", "GroupName": to.value(Ref(node.logs, "name"))}},
        "Tags": to.tags,
    }
    return {node.id: resource("CodeBuild::Project", properties)}
