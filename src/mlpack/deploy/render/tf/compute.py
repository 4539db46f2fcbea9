"""Functions, roles, log groups and state machines as resources of Terraform. Pure."""

from __future__ import annotations

from typing import Any

from mlpack.deploy.graph.functions import Alias, Function, Permission, Provisioned, Version, Zip
from mlpack.deploy.graph.machines import Build, Machine, Rule, Schedule
from mlpack.deploy.graph.roles import Logs, Role
from mlpack.deploy.graph.values import Joined, Ref
from mlpack.deploy.render import documents
from mlpack.deploy.render.tf.language import Resources, Terraform, plain_json, resource
from mlpack.deploy.render.values import policy_of


def role(node: Role, to: Terraform) -> Resources:
    """The role, and its policy as a resource of its own."""
    result: Resources = {("aws_iam_role", node.id): resource({"assume_role_policy": to.text(documents.trust(node))})}
    if node.grants:
        granted = {"name": "grants", "role": f"${{aws_iam_role.{node.id}.id}}", "policy": to.text(documents.policy(node))}
        result["aws_iam_role_policy", f"{node.id}Policy"] = resource(granted)
    return result


def granted(to: Terraform, node: Any) -> list[str]:
    """What has to exist before a node's role can be used."""
    owner = to.graph[node.role]
    return [f"aws_iam_role_policy.{policy_of(node)}"] if isinstance(owner, Role) and owner.grants else []


def logs(node: Logs, to: Terraform) -> Resources:
    """A log group that forgets."""
    key = None if node.key is None else to.value(node.key)
    arguments = {"name": to.literal(node.name), "retention_in_days": node.retention_days, "kms_key_id": key}
    return {("aws_cloudwatch_log_group", node.id): resource(arguments)}


def function(node: Function, to: Terraform) -> Resources:
    """The function. Each change is published as a version that no caller sees."""
    packed = isinstance(node.code, Zip)
    if isinstance(node.code, Zip):
        code = {"s3_bucket": to.value(node.code.bucket), "s3_key": to.value(node.code.key)}
        code |= {"runtime": node.code.runtime, "handler": node.code.handler, "layers": to.resolve(node.code.layers)}
    else:
        code = {"image_uri": to.value(node.code.uri)}
    arguments = {
        "function_name": to.literal(node.name),
        "role": to.value(Ref(node.role)),
        "package_type": "Zip" if packed else "Image",
        **code,
        "architectures": [node.architecture],
        "memory_size": node.memory_mb,
        "timeout": node.timeout_s,
        "ephemeral_storage": {"size": node.ephemeral_mb},
        "environment": {"variables": to.resolve(node.environment)} if node.environment else None,
        "kms_key_arn": None if node.key is None else to.value(node.key),
        "reserved_concurrent_executions": node.reserved,
        "snap_start": {"apply_on": "PublishedVersions"} if node.snapstart else None,
        "tracing_config": {"mode": "Active"} if node.tracing else None,
        "dead_letter_config": None if node.dead_letters is None else {"target_arn": to.value(node.dead_letters)},
        "logging_config": {"log_group": to.value(Ref(node.logs, "name")), "log_format": "Text"},
        "publish": any(each.function == node.id for each in to.graph.of(Version)),
    }
    return {("aws_lambda_function", node.id): resource(arguments, depends_on=granted(to, node))}


def alias(node: Alias, to: Terraform) -> Resources:
    """The alias at its first version. What it points to, and by what weights, is the rollout's: changes of it are not undone."""
    arguments = {
        "name": to.literal(node.name),
        "function_name": to.value(Ref(node.function, "name")),
        "function_version": to.value(Ref(node.version, "version")),
        "lifecycle": {"ignore_changes": ["function_version", "routing_config"]},
    }
    return {("aws_lambda_alias", node.id): resource(arguments)}


def provisioned(node: Provisioned, to: Terraform) -> Resources:
    """Warmth at the first version, always or by schedule: the rollout moves it with the alias."""
    owner = to.graph[node.alias]
    assert isinstance(owner, Alias)
    qualifier = to.value(Ref(owner.version, "version"))
    if not node.schedule:
        arguments = {
            "function_name": to.value(Ref(owner.function, "name")),
            "qualifier": qualifier,
            "provisioned_concurrent_executions": node.count,
            "lifecycle": {"ignore_changes": ["qualifier", "provisioned_concurrent_executions"]},
        }
        return {("aws_lambda_provisioned_concurrency_config", node.id): resource(arguments)}
    counts = [node.count, *(count for _, count in node.schedule)]
    target = {
        "service_namespace": "lambda",
        "scalable_dimension": "lambda:function:ProvisionedConcurrency",
        "resource_id": to.value(Joined(("function:", Ref(owner.function, "name"), ":", Ref(owner.version, "version")))),
        "min_capacity": min(counts),
        "max_capacity": max(counts),
        "lifecycle": {"ignore_changes": ["resource_id", "min_capacity", "max_capacity"]},
    }
    result: Resources = {("aws_appautoscaling_target", node.id): resource(target)}
    for number, (cron, count) in enumerate(node.schedule, 1):
        action = {
            "name": f"{node.id}{number}",
            "service_namespace": f"${{aws_appautoscaling_target.{node.id}.service_namespace}}",
            "resource_id": f"${{aws_appautoscaling_target.{node.id}.resource_id}}",
            "scalable_dimension": f"${{aws_appautoscaling_target.{node.id}.scalable_dimension}}",
            "schedule": cron if cron.startswith(("cron(", "rate(", "at(")) else f"cron({cron})",
            "timezone": node.timezone,
            "scalable_target_action": {"min_capacity": count, "max_capacity": count},
        }
        result["aws_appautoscaling_scheduled_action", f"{node.id}{number}"] = resource(action)
    return result


def permission(node: Permission, to: Terraform) -> Resources:
    """The right of a service to invoke the alias."""
    owner = to.graph[node.alias]
    assert isinstance(owner, Alias)
    source = documents.source_arn(to.graph, node.source)
    balancer = node.service == "elasticloadbalancing.amazonaws.com"
    if node.by_url:
        return _by_url(node, to)
    arguments = {
        "function_name": to.value(Ref(owner.function, "name")),
        "qualifier": f"${{aws_lambda_alias.{owner.id}.name}}",
        "action": "lambda:InvokeFunctionUrl" if node.function_url else "lambda:InvokeFunction",
        "principal": node.service,
        "source_arn": None if source is None or balancer or node.function_url else to.value(source),
        "source_account": to.value(documents.ACCOUNT) if balancer or node.service == "s3.amazonaws.com" else None,
        "function_url_auth_type": node.function_url,
    }
    return {("aws_lambda_permission", node.id): resource(arguments)}


def _by_url(node: Permission, to: Terraform) -> Resources:
    """The right to invoke through an address. The provider has no such argument, and without it anybody could Invoke: so a stack of
    CloudFormation's with this one resource."""
    right = {
        "FunctionName": to.value(Ref(node.alias)),
        "Action": "lambda:InvokeFunction",
        "Principal": node.service,
        "InvokedViaFunctionUrl": True,
    }
    template = {"Resources": {node.id: {"Type": "AWS::Lambda::Permission", "Properties": right}}}
    name = "".join(letter if letter.isalnum() else "-" for letter in f"{to.graph.name}-{to.graph.environment}-address")
    return {("aws_cloudformation_stack", node.id): resource({"name": name, "template_body": plain_json(template)})}


def machine(node: Machine, to: Terraform) -> Resources:
    """A state machine, its definition as one text."""
    logging = {
        "level": "ERROR",
        "include_execution_data": False,
        "log_destination": to.value(Joined((Ref(node.logs), ":*"))),
    }
    arguments = {
        "name": to.literal(node.name),
        "type": "EXPRESS" if node.express else "STANDARD",
        "role_arn": to.value(Ref(node.role)),
        "definition": to.text(node.definition),
        "logging_configuration": logging,
        "tracing_configuration": {"enabled": True},
    }
    return {("aws_sfn_state_machine", node.id): resource(arguments, depends_on=granted(to, node))}


def rule(node: Rule, to: Terraform) -> Resources:
    """Events to their target."""
    target = {
        "rule": f"${{aws_cloudwatch_event_rule.{node.id}.name}}",
        "target_id": node.target,
        "arn": to.value(Ref(node.target)),
        "role_arn": None if node.role is None else to.value(Ref(node.role)),
        "input": None if node.input is None else to.text(node.input),
        "retry_policy": {"maximum_retry_attempts": 20, "maximum_event_age_in_seconds": 3600},
    }
    own = {"name": to.literal(node.name), "event_pattern": to.text(node.pattern), "state": "ENABLED"}
    return {
        ("aws_cloudwatch_event_rule", node.id): resource(own),
        ("aws_cloudwatch_event_target", f"{node.id}Target"): resource(target),
    }


def schedule(node: Schedule, to: Terraform) -> Resources:
    """A time for a target."""
    target = {
        "arn": to.value(Ref(node.target)),
        "role_arn": to.value(Ref(node.role)),
        "input": to.text(node.input),
        "retry_policy": {"maximum_retry_attempts": 3, "maximum_event_age_in_seconds": 3600},
    }
    arguments = {
        "name": to.literal(node.name),
        "schedule_expression": node.expression,
        "schedule_expression_timezone": node.timezone,
        "flexible_time_window": {"mode": "OFF"},
        "target": target,
        "state": "ENABLED",
    }
    return {("aws_scheduler_schedule", node.id): resource(arguments)}


def build(node: Build, to: Terraform) -> Resources:
    """A CodeBuild project without a source of its own."""
    arguments = {
        "name": to.literal(node.name),
        "service_role": to.value(Ref(node.role)),
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {"type": "LINUX_CONTAINER", "compute_type": node.compute, "image": to.value(node.image)},
        "source": {"type": "NO_SOURCE", "buildspec": to.text(documents.build_commands(node))},
        "build_timeout": node.timeout_min,
        "logs_config": {"cloudwatch_logs": {"status": "ENABLED", "group_name": to.value(Ref(node.logs, "name"))}},
    }
    return {("aws_codebuild_project", node.id): resource(arguments)}
