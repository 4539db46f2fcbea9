"""Clusters, tasks, their services and how these scale, as resources of Terraform. Pure."""

from __future__ import annotations

from typing import Any

from mlpack.deploy.graph.endpoints import LoadBalancer
from mlpack.deploy.graph.tasks import CapacityProvider, Cluster, Container, Scaling, Service, Task
from mlpack.deploy.graph.values import Joined, Ref
from mlpack.deploy.graph.watching import Expression, Metric
from mlpack.deploy.render import documents
from mlpack.deploy.render.tf.compute import granted
from mlpack.deploy.render.tf.language import Resources, Terraform, resource


def cluster(node: Cluster, to: Terraform) -> Resources:
    """A cluster, and what its tasks run on."""
    insights = {"name": "containerInsights", "value": "enabled" if node.insights else "disabled"}
    providers = [_provider(name) for name in node.providers]
    association = {
        "cluster_name": f"${{aws_ecs_cluster.{node.id}.name}}",
        "capacity_providers": providers,
        "default_capacity_provider_strategy": [{"capacity_provider": providers[0], "weight": 1}],
    }
    return {
        ("aws_ecs_cluster", node.id): resource({"name": to.literal(node.name), "setting": [insights]}),
        ("aws_ecs_cluster_capacity_providers", f"{node.id}Providers"): resource(association),
    }


def _provider(name: str) -> str:
    return name if name.startswith("FARGATE") else f"${{aws_ecs_capacity_provider.{name}.name}}"


def capacity_provider(node: CapacityProvider, to: Terraform) -> Resources:
    """Machines of EC2 for tasks: template, group, and the provider that grows and drains the group."""
    profile, launch, group = f"{node.id}Profile", f"{node.id}Template", f"{node.id}Group"
    script = to.template(documents.first_script(to.graph, node)).replace("\\", "\\\\").replace("\n", "\\n")
    data = {
        "image_id": to.value(node.image),
        "iam_instance_profile": {"arn": f"${{aws_iam_instance_profile.{profile}.arn}}"},
        "vpc_security_group_ids": [to.value(Ref(node.security_group, "id"))],
        "metadata_options": {"http_tokens": "required", "http_put_response_hop_limit": 1},
        "block_device_mappings": [
            {"device_name": "/dev/xvda", "ebs": {"encrypted": True, "volume_size": 100, "volume_type": "gp3"}}
        ],
        "user_data": f'${{base64encode("{script}")}}',
    }
    spread = {
        "launch_template": {
            "launch_template_specification": {
                "launch_template_id": f"${{aws_launch_template.{launch}.id}}",
                "version": f"${{aws_launch_template.{launch}.latest_version}}",
            },
            "override": [{"instance_type": kind} for kind in node.instance_types],
        },
        "instances_distribution": {
            "on_demand_percentage_above_base_capacity": round((1 - node.spot_share) * 100),
            "spot_allocation_strategy": "price-capacity-optimized",
        },
    }
    scaled = {
        "min_size": node.least,
        "max_size": node.most,
        "vpc_zone_identifier": to.value(node.subnets),
        "mixed_instances_policy": spread,
        "protect_from_scale_in": True,
        "tag": [{"key": key, "value": value, "propagate_at_launch": True} for key, value in sorted(to.graph.tags.items())],
        "lifecycle": {"ignore_changes": ["desired_capacity"]},
    }
    managed = {
        "auto_scaling_group_arn": f"${{aws_autoscaling_group.{group}.arn}}",
        "managed_scaling": {"status": "ENABLED", "target_capacity": 100},
        "managed_draining": "ENABLED",
        "managed_termination_protection": "ENABLED",
    }
    provider = {"name": to.literal(node.name), "auto_scaling_group_provider": managed}
    return {
        ("aws_iam_instance_profile", profile): resource({"role": f"${{aws_iam_role.{node.role}.name}}"}),
        ("aws_launch_template", launch): resource(data),
        ("aws_autoscaling_group", group): resource(scaled),
        ("aws_ecs_capacity_provider", node.id): resource(provider),
    }


def task(node: Task, to: Terraform) -> Resources:
    """A task of one container."""
    arguments = {
        "family": to.literal(node.family),
        "cpu": str(node.cpu),
        "memory": str(node.memory_mb),
        "network_mode": "awsvpc",
        "requires_compatibilities": [node.on.upper()],
        "runtime_platform": {"cpu_architecture": node.architecture.upper(), "operating_system_family": "LINUX"},
        "task_role_arn": to.value(Ref(node.role)),
        "execution_role_arn": to.value(Ref(node.execution_role)),
        "container_definitions": to.text([container(node.container, node.logs)]),
    }
    return {("aws_ecs_task_definition", node.id): resource(arguments)}


def container(of: Container, logs: Any) -> dict[str, Any]:
    """What runs in a task, in the words of ECS."""
    options = {
        "awslogs-group": Ref(logs, "name"),
        "awslogs-region": documents.REGION,
        "awslogs-stream-prefix": of.name,
    }
    definition: dict[str, Any] = {"name": of.name, "image": of.image, "essential": True, "stopTimeout": of.stop_s}
    if of.environment:
        definition["environment"] = [{"name": name, "value": value} for name, value in sorted(of.environment.items())]
    if of.port is not None:
        definition["portMappings"] = [{"containerPort": of.port, "protocol": "tcp"}]
    if of.health:
        definition["healthCheck"] = {"command": list(of.health), "interval": 30, "timeout": 5, "retries": 3, "startPeriod": 60}
    if of.gpus:
        definition["resourceRequirements"] = [{"type": "GPU", "value": str(of.gpus)}]
    return definition | {"logConfiguration": {"logDriver": "awslogs", "options": options}}


def service(node: Service, to: Terraform) -> Resources:
    """So many tasks; how many, is no business of a later plan's where the service scales."""
    owner = to.graph[node.task]
    assert isinstance(owner, Task)
    scaled = any(each.service == node.id for each in to.graph.of(Scaling))
    network: dict[str, Any] = {"subnets": to.value(node.subnets), "security_groups": [to.value(Ref(node.security_group, "id"))]}
    if owner.on == "fargate":
        network["assign_public_ip"] = node.public_ip
    balancer = None
    if node.target_group is not None:
        port = {"container_name": owner.container.name, "container_port": owner.container.port}
        balancer = {**port, "target_group_arn": to.value(Ref(node.target_group))}
    listeners = [
        f"aws_lb_listener.{each.id}Listener" for each in to.graph.of(LoadBalancer) if node.target_group in (each.target, each.other)
    ]
    before = [f"aws_ecs_cluster_capacity_providers.{node.cluster}Providers", *granted(to, owner)]
    arguments = {
        "name": to.literal(node.name),
        "cluster": f"${{aws_ecs_cluster.{node.cluster}.arn}}",
        "task_definition": to.value(Ref(node.task)),
        "desired_count": None if scaled else node.count,
        "capacity_provider_strategy": [
            {"capacity_provider": _provider(name), "base": base, "weight": weight} for name, base, weight in node.strategy
        ],
        "network_configuration": network,
        "load_balancer": balancer,
        "health_check_grace_period_seconds": node.grace_s if balancer else None,
        "deployment_circuit_breaker": {"enable": True, "rollback": True},
        "enable_ecs_managed_tags": True,
        "propagate_tags": "SERVICE",
        "lifecycle": {"ignore_changes": ["desired_count"]} if scaled else None,
    }
    return {("aws_ecs_service", node.id): resource(arguments, depends_on=before + (listeners if node.target_group else []))}


def scaling(node: Scaling, to: Terraform) -> Resources:
    """How many tasks: a target that is kept, and 0 → 1 by a step of its own."""
    owner = to.graph[node.service]
    assert isinstance(owner, Service)
    target = {
        "service_namespace": "ecs",
        "scalable_dimension": "ecs:service:DesiredCount",
        "resource_id": to.value(Joined(("service/", Ref(owner.cluster, "name"), "/", Ref(owner.id, "name")))),
        "min_capacity": node.least,
        "max_capacity": node.most,
    }
    here = {
        key: f"${{aws_appautoscaling_target.{node.id}.{key}}}" for key in ("service_namespace", "scalable_dimension", "resource_id")
    }
    tracking = {
        "target_value": node.target,
        "scale_in_cooldown": node.in_cooldown_s,
        "scale_out_cooldown": node.out_cooldown_s,
        "customized_metric_specification": {"metrics": _scaling_metrics(node.metric, to)},
    }
    kept = {"name": f"{owner.name}-target", "policy_type": "TargetTrackingScaling", **here}
    result: Resources = {
        ("aws_appautoscaling_target", node.id): resource(target),
        ("aws_appautoscaling_policy", f"{node.id}Target"): resource(
            kept | {"target_tracking_scaling_policy_configuration": tracking}
        ),
    }
    waking = documents.wake(to.graph, node)
    if waking is None:
        return result
    step = {
        "adjustment_type": "ChangeInCapacity",
        "cooldown": 120,
        "step_adjustment": [{"metric_interval_lower_bound": "0", "scaling_adjustment": 1}],
    }
    woken = {"name": f"{owner.name}-wake", "policy_type": "StepScaling", **here, "step_scaling_policy_configuration": step}
    alarm = {
        "alarm_name": f"{owner.name}-wake",
        "alarm_description": "Work waits and no task runs: not for people, it starts the first task.",
        "comparison_operator": "GreaterThanOrEqualToThreshold",
        "threshold": 1,
        "evaluation_periods": 1,
        "datapoints_to_alarm": 1,
        "treat_missing_data": "notBreaching",
        "metric_query": metric_queries(waking, to),
        "alarm_actions": [f"${{aws_appautoscaling_policy.{node.id}Wake.arn}}"],
    }
    result["aws_appautoscaling_policy", f"{node.id}Wake"] = resource(woken)
    result["aws_cloudwatch_metric_alarm", f"{node.id}WakeAlarm"] = resource(alarm)
    return result


def metric_queries(metric: Metric | Expression, to: Terraform) -> list[dict[str, Any]]:
    """Metrics and the formula over them, as alarms have them."""
    result = []
    for number, (name, what) in enumerate(documents.queries(metric)):
        entry: dict[str, Any] = {"id": name, "return_data": number == 0}
        if isinstance(what, str):
            entry["expression"] = what
        else:
            where = {key: to.value(value) for key, value in what.dimensions}
            stat = {"namespace": what.namespace, "metric_name": what.name, "dimensions": where}
            entry["metric"] = stat | {"stat": what.statistic, "period": what.period_s}
        result.append(entry)
    return result


def _scaling_metrics(metric: Metric | Expression, to: Terraform) -> list[dict[str, Any]]:
    result = []
    for number, (name, what) in enumerate(documents.queries(metric)):
        entry: dict[str, Any] = {"id": name, "return_data": number == 0}
        if isinstance(what, str):
            entry["expression"] = what
        else:
            where = [{"name": key, "value": to.value(value)} for key, value in what.dimensions]
            stat = {"namespace": what.namespace, "metric_name": what.name, "dimensions": where}
            entry["metric_stat"] = {"metric": stat, "stat": what.statistic}
        result.append(entry)
    return result
