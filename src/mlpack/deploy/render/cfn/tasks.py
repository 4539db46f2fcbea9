"""Clusters, tasks, their services and how these scale, as resources of CloudFormation. Pure."""

from __future__ import annotations

from typing import Any

from mlpack.deploy.graph.endpoints import LoadBalancer
from mlpack.deploy.graph.tasks import CapacityProvider, Cluster, Container, Scaling, Service, Task
from mlpack.deploy.graph.values import Joined, Ref
from mlpack.deploy.graph.watching import Expression, Metric
from mlpack.deploy.render import documents
from mlpack.deploy.render.cfn.compute import Resources, granted
from mlpack.deploy.render.cfn.language import Formation, resource


def cluster(node: Cluster, to: Formation) -> Resources:
    """A cluster, and what its tasks run on."""
    insights = [{"Name": "containerInsights", "Value": "enabled" if node.insights else "disabled"}]
    own = resource("ECS::Cluster", {"ClusterName": node.name, "ClusterSettings": insights, "Tags": to.tags})
    providers = [name if name.startswith("FARGATE") else {"Ref": name} for name in node.providers]
    association = {
        "Cluster": {"Ref": node.id},
        "CapacityProviders": providers,
        "DefaultCapacityProviderStrategy": [{"CapacityProvider": providers[0], "Weight": 1}],
    }
    return {node.id: own, f"{node.id}Providers": resource("ECS::ClusterCapacityProviderAssociations", association)}


def capacity_provider(node: CapacityProvider, to: Formation) -> Resources:
    """Machines of EC2 for tasks: template, group, and the provider that grows and drains the group."""
    profile, template, group = f"{node.id}Profile", f"{node.id}Template", f"{node.id}Group"
    disk = {"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "VolumeSize": 100, "VolumeType": "gp3"}}
    data = {
        "ImageId": to.value(node.image),
        "IamInstanceProfile": {"Arn": {"Fn::GetAtt": [profile, "Arn"]}},
        "SecurityGroupIds": [to.value(Ref(node.security_group, "id"))],
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [disk],
        "UserData": {"Fn::Base64": to.value(documents.first_script(to.graph, node))},
    }
    launch = {"LaunchTemplateId": {"Ref": template}, "Version": {"Fn::GetAtt": [template, "LatestVersionNumber"]}}
    spread = {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": launch,
            "Overrides": [{"InstanceType": kind} for kind in node.instance_types],
        },
        "InstancesDistribution": {
            "OnDemandPercentageAboveBaseCapacity": round((1 - node.spot_share) * 100),
            "SpotAllocationStrategy": "price-capacity-optimized",
        },
    }
    scaled = {
        "MinSize": str(node.least),
        "MaxSize": str(node.most),
        "VPCZoneIdentifier": to.value(node.subnets),
        "MixedInstancesPolicy": spread,
        "NewInstancesProtectedFromScaleIn": True,
        "Tags": [{**tag, "PropagateAtLaunch": True} for tag in to.tags],
    }
    managed = {
        "AutoScalingGroupArn": {"Ref": group},
        "ManagedScaling": {"Status": "ENABLED", "TargetCapacity": 100},
        "ManagedDraining": "ENABLED",
        "ManagedTerminationProtection": "ENABLED",
    }
    return {
        profile: resource("IAM::InstanceProfile", {"Roles": [{"Ref": node.role}]}),
        template: resource("EC2::LaunchTemplate", {"LaunchTemplateData": data}),
        group: resource("AutoScaling::AutoScalingGroup", scaled),
        node.id: resource("ECS::CapacityProvider", {"Name": node.name, "AutoScalingGroupProvider": managed, "Tags": to.tags}),
    }


def task(node: Task, to: Formation) -> Resources:
    """A task of one container."""
    properties = {
        "Family": node.family,
        "Cpu": str(node.cpu),
        "Memory": str(node.memory_mb),
        "NetworkMode": "awsvpc",
        "RequiresCompatibilities": [node.on.upper()],
        "RuntimePlatform": {"CpuArchitecture": node.architecture.upper(), "OperatingSystemFamily": "LINUX"},
        "TaskRoleArn": to.value(Ref(node.role)),
        "ExecutionRoleArn": to.value(Ref(node.execution_role)),
        "ContainerDefinitions": [to.resolve(container(node.container, node.logs))],
        "Tags": to.tags,
    }
    return {node.id: resource("ECS::TaskDefinition", properties)}


def container(of: Container, logs: Any) -> dict[str, Any]:
    """What runs in a task, in the words of ECS with the first letters of CloudFormation."""
    options = {
        "awslogs-group": Ref(logs, "name"),
        "awslogs-region": documents.REGION,
        "awslogs-stream-prefix": of.name,
    }
    definition: dict[str, Any] = {"Name": of.name, "Image": of.image, "Essential": True, "StopTimeout": of.stop_s}
    if of.environment:
        definition["Environment"] = [{"Name": name, "Value": value} for name, value in sorted(of.environment.items())]
    if of.port is not None:
        definition["PortMappings"] = [{"ContainerPort": of.port, "Protocol": "tcp"}]
    if of.health:
        definition["HealthCheck"] = {"Command": list(of.health), "Interval": 30, "Timeout": 5, "Retries": 3, "StartPeriod": 60}
    if of.gpus:
        definition["ResourceRequirements"] = [{"Type": "GPU", "Value": str(of.gpus)}]
    return definition | {"LogConfiguration": {"LogDriver": "awslogs", "Options": options}}


def service(node: Service, to: Formation) -> Resources:
    """So many tasks; how many, is no business of a later template's where the service scales."""
    owner = to.graph[node.task]
    assert isinstance(owner, Task)
    scaled = any(each.service == node.id for each in to.graph.of(Scaling))
    network: dict[str, Any] = {"Subnets": to.value(node.subnets), "SecurityGroups": [to.value(Ref(node.security_group, "id"))]}
    if owner.on == "fargate":
        network["AssignPublicIp"] = "ENABLED" if node.public_ip else "DISABLED"
    strategy = [
        {"CapacityProvider": name if name.startswith("FARGATE") else {"Ref": name}, "Base": base, "Weight": weight}
        for name, base, weight in node.strategy
    ]
    balancers = None
    if node.target_group is not None:
        port = {"ContainerName": owner.container.name, "ContainerPort": owner.container.port}
        balancers = [{**port, "TargetGroupArn": to.value(Ref(node.target_group))}]
    properties = {
        "ServiceName": node.name,
        "Cluster": {"Ref": node.cluster},
        "TaskDefinition": to.value(Ref(node.task)),
        "DesiredCount": None if scaled else node.count,
        "CapacityProviderStrategy": strategy,
        "NetworkConfiguration": {"AwsvpcConfiguration": network},
        "LoadBalancers": balancers,
        "HealthCheckGracePeriodSeconds": node.grace_s if balancers else None,
        "DeploymentConfiguration": {"DeploymentCircuitBreaker": {"Enable": True, "Rollback": True}},
        "EnableECSManagedTags": True,
        "PropagateTags": "SERVICE",
        "Tags": to.tags,
    }
    return {node.id: resource("ECS::Service", properties, DependsOn=before_service(node, to))}


def before_service(node: Service, to: Formation) -> list[str]:
    """What a service needs that it does not name: its cluster's providers, its task's rights, its listener."""
    owner = to.graph[node.task]
    assert isinstance(owner, Task)
    listeners = [f"{each.id}Listener" for each in to.graph.of(LoadBalancer) if node.target_group in (each.target, each.other)]
    return [f"{node.cluster}Providers", *granted(to, owner), *(listeners if node.target_group is not None else [])]


def scaling(node: Scaling, to: Formation) -> Resources:
    """How many tasks: a target that is kept, and 0 → 1 by a step of its own."""
    owner = to.graph[node.service]
    assert isinstance(owner, Service)
    target = {
        "ServiceNamespace": "ecs",
        "ScalableDimension": "ecs:service:DesiredCount",
        "ResourceId": to.value(Joined(("service/", Ref(owner.cluster, "name"), "/", Ref(owner.id, "name")))),
        "MinCapacity": node.least,
        "MaxCapacity": node.most,
    }
    tracking = {
        "TargetValue": node.target,
        "ScaleInCooldown": node.in_cooldown_s,
        "ScaleOutCooldown": node.out_cooldown_s,
        "CustomizedMetricSpecification": {"Metrics": metric_queries(node.metric, to, period=False)},
    }
    kept = {"PolicyName": f"{owner.name}-target", "PolicyType": "TargetTrackingScaling", "ScalingTargetId": {"Ref": node.id}}
    result = {
        node.id: resource("ApplicationAutoScaling::ScalableTarget", target),
        f"{node.id}Target": resource(
            "ApplicationAutoScaling::ScalingPolicy", kept | {"TargetTrackingScalingPolicyConfiguration": tracking}
        ),
    }
    waking = documents.wake(to.graph, node)
    if waking is None:
        return result
    step = {
        "AdjustmentType": "ChangeInCapacity",
        "Cooldown": 120,
        "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
    }
    woken = {"PolicyName": f"{owner.name}-wake", "PolicyType": "StepScaling", "ScalingTargetId": {"Ref": node.id}}
    alarm = {
        "AlarmName": f"{owner.name}-wake",
        "AlarmDescription": "Work waits and no task runs: not for people, it starts the first task.",
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "Threshold": 1,
        "EvaluationPeriods": 1,
        "DatapointsToAlarm": 1,
        "TreatMissingData": "notBreaching",
        "Metrics": metric_queries(waking, to),
        "AlarmActions": [{"Ref": f"{node.id}Wake"}],
        "Tags": to.tags,
    }
    result[f"{node.id}Wake"] = resource("ApplicationAutoScaling::ScalingPolicy", woken | {"StepScalingPolicyConfiguration": step})
    result[f"{node.id}WakeAlarm"] = resource("CloudWatch::Alarm", alarm)
    return result


def metric_queries(metric: Metric | Expression, to: Formation, period: bool = True) -> list[dict[str, Any]]:
    """Metrics and the formula over them, as alarms and scaling policies have them (the latter know no periods)."""
    result = []
    for number, (name, what) in enumerate(documents.queries(metric)):
        entry: dict[str, Any] = {"Id": name, "ReturnData": number == 0}
        if isinstance(what, str):
            entry["Expression"] = what
        else:
            where = [{"Name": key, "Value": to.value(value)} for key, value in what.dimensions]
            stat: dict[str, Any] = {"Metric": {"Namespace": what.namespace, "MetricName": what.name, "Dimensions": where}}
            entry["MetricStat"] = stat | {"Stat": what.statistic} | ({"Period": what.period_s} if period else {})
        result.append(entry)
    return result
