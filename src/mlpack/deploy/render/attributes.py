"""What a `Ref` may ask of a node, and how CloudFormation and Terraform write it. `@` stands for the node's id. A table."""

from __future__ import annotations

from collections.abc import Mapping

from mlpack.deploy.graph.endpoints import FunctionUrl, HttpApi, LoadBalancer, RestApi, SecurityGroup, TargetGroup
from mlpack.deploy.graph.functions import Alias, Function, Version
from mlpack.deploy.graph.machines import Build, Machine, Rule, Schedule
from mlpack.deploy.graph.roles import Logs, Role
from mlpack.deploy.graph.stores import Bucket, Queue, Source, Table, Topic
from mlpack.deploy.graph.tasks import CapacityProvider, Cluster, Service, Task
from mlpack.deploy.graph.values import Node
from mlpack.deploy.graph.watching import Alarm, CompositeAlarm, Dashboard

_HERE = "${AWS::Partition}:%s:${AWS::Region}:${AWS::AccountId}"


def _both(kind: str, arn: str, name: str) -> dict[str, tuple[str, str]]:
    """`arn` and `name` of a resource whose CloudFormation forms these are."""
    return {"arn": (arn, f"${{{kind}.@.arn}}"), "name": (name, f"${{{kind}.@.name}}")}


ATTRIBUTES: Mapping[type[Node], Mapping[str, tuple[str, str]]] = {
    Function: {
        "arn": ("${@.Arn}", "${aws_lambda_function.@.arn}"),
        "name": ("${@}", "${aws_lambda_function.@.function_name}"),
    },
    Version: {
        "arn": ("${@}", "${aws_lambda_function.@.qualified_arn}"),
        "version": ("${@.Version}", "${aws_lambda_function.@.version}"),
    },
    Alias: {"arn": ("${@}", "${aws_lambda_alias.@.arn}")},
    HttpApi: {
        "id": ("${@}", "${aws_apigatewayv2_api.@.id}"),
        "url": ("${@.ApiEndpoint}", "${aws_apigatewayv2_api.@.api_endpoint}"),
        "execution_arn": ("arn:" + _HERE % "execute-api" + ":${@}", "${aws_apigatewayv2_api.@.execution_arn}"),
    },
    RestApi: {
        "id": ("${@}", "${aws_api_gateway_rest_api.@.id}"),
        "url": (
            "https://${@}.execute-api.${AWS::Region}.${AWS::URLSuffix}/${@Stage}",
            "${aws_api_gateway_stage.@Stage.invoke_url}",
        ),
        "execution_arn": ("arn:" + _HERE % "execute-api" + ":${@}", "${aws_api_gateway_rest_api.@.execution_arn}"),
    },
    FunctionUrl: {"url": ("${@.FunctionUrl}", "${aws_lambda_function_url.@.function_url}")},
    LoadBalancer: {
        "arn": ("${@}", "${aws_lb.@.arn}"),
        "full_name": ("${@.LoadBalancerFullName}", "${aws_lb.@.arn_suffix}"),
        "dns": ("${@.DNSName}", "${aws_lb.@.dns_name}"),
        "url": ("https://${@.DNSName}", "https://${aws_lb.@.dns_name}"),
        "listener_arn": ("${@Listener}", "${aws_lb_listener.@Listener.arn}"),
    },
    TargetGroup: {
        "arn": ("${@}", "${aws_lb_target_group.@.arn}"),
        "full_name": ("${@.TargetGroupFullName}", "${aws_lb_target_group.@.arn_suffix}"),
    },
    SecurityGroup: {"id": ("${@.GroupId}", "${aws_security_group.@.id}")},
    Machine: _both("aws_sfn_state_machine", "${@}", "${@.Name}"),
    Rule: {"arn": ("${@.Arn}", "${aws_cloudwatch_event_rule.@.arn}")},
    Schedule: {"arn": ("${@.Arn}", "${aws_scheduler_schedule.@.arn}")},
    Build: _both("aws_codebuild_project", "${@.Arn}", "${@}"),
    Role: _both("aws_iam_role", "${@.Arn}", "${@}"),
    Logs: _both("aws_cloudwatch_log_group", "arn:" + _HERE % "logs" + ":log-group:${@}", "${@}"),
    Queue: {
        **_both("aws_sqs_queue", "${@.Arn}", "${@.QueueName}"),
        "url": ("${@}", "${aws_sqs_queue.@.url}"),
    },
    Bucket: {"arn": ("${@.Arn}", "${aws_s3_bucket.@.arn}"), "name": ("${@}", "${aws_s3_bucket.@.bucket}")},
    Table: _both("aws_dynamodb_table", "${@.Arn}", "${@}"),
    Topic: _both("aws_sns_topic", "${@}", "${@.TopicName}"),
    Source: {"id": ("${@}", "${aws_lambda_event_source_mapping.@.uuid}")},
    Cluster: _both("aws_ecs_cluster", "${@.Arn}", "${@}"),
    CapacityProvider: {"name": ("${@}", "${aws_ecs_capacity_provider.@.name}")},
    Task: {"arn": ("${@}", "${aws_ecs_task_definition.@.arn}")},
    Service: {"arn": ("${@}", "${aws_ecs_service.@.id}"), "name": ("${@.Name}", "${aws_ecs_service.@.name}")},
    Alarm: {
        "arn": ("${@.Arn}", "${aws_cloudwatch_metric_alarm.@.arn}"),
        "name": ("${@}", "${aws_cloudwatch_metric_alarm.@.alarm_name}"),
    },
    CompositeAlarm: {
        "arn": ("${@.Arn}", "${aws_cloudwatch_composite_alarm.@.arn}"),
        "name": ("${@}", "${aws_cloudwatch_composite_alarm.@.alarm_name}"),
    },
    Dashboard: {"name": ("${@}", "${aws_cloudwatch_dashboard.@.dashboard_name}")},
}
