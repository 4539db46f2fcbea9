"""Queues, buckets, tables, topics, and what watches them, as resources of CloudFormation. Pure."""

from __future__ import annotations

from typing import Any

from mlpack.deploy.graph.functions import Alias, Function, Permission
from mlpack.deploy.graph.stores import Bucket, Queue, Source, Table, Topic
from mlpack.deploy.graph.values import Ref
from mlpack.deploy.graph.watching import Alarm, Anomaly, Budget, CompositeAlarm, Dashboard, Metric
from mlpack.deploy.render import documents
from mlpack.deploy.render.cfn.compute import Resources, granted
from mlpack.deploy.render.cfn.language import Formation, intrinsic, resource
from mlpack.deploy.render.cfn.tasks import metric_queries

KEEP = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}


def queue(node: Queue, to: Formation) -> Resources:
    """An encrypted queue, TLS only."""
    redrive = None
    if node.dead is not None:
        redrive = {"deadLetterTargetArn": to.value(Ref(node.dead)), "maxReceiveCount": node.receives}
    properties = {
        "QueueName": node.name,
        "FifoQueue": True if node.fifo else None,
        "VisibilityTimeout": node.visibility_s,
        "MessageRetentionPeriod": node.retention_s,
        "RedrivePolicy": redrive,
        "KmsMasterKeyId": None if node.key is None else to.value(node.key),
        "SqsManagedSseEnabled": True if node.key is None else None,
        "Tags": to.tags,
    }
    policy = {"Queues": [{"Ref": node.id}], "PolicyDocument": to.resolve(documents.queue_policy(to.graph, node))}
    return {node.id: resource("SQS::Queue", properties), f"{node.id}Policy": resource("SQS::QueuePolicy", policy)}


def source(node: Source, to: Formation) -> Resources:
    """Messages to an alias; what failed of a batch comes again alone."""
    alias = to.graph[node.alias]
    assert isinstance(alias, Alias)
    owner = to.graph[alias.function]
    assert isinstance(owner, Function)
    properties = {
        "EventSourceArn": to.value(Ref(node.queue)),
        "FunctionName": to.value(Ref(node.alias)),
        "BatchSize": node.batch,
        "MaximumBatchingWindowInSeconds": node.window_s,
        "ScalingConfig": {"MaximumConcurrency": node.most_at_once},
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "Tags": to.tags,
    }
    return {node.id: resource("Lambda::EventSourceMapping", properties, DependsOn=granted(to, owner))}


def bucket(node: Bucket, to: Formation) -> Resources:
    """An encrypted bucket that nobody reaches from outside; kept when the stack goes."""
    encryption = (
        {"SSEAlgorithm": "AES256"} if node.key is None else {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": to.value(node.key)}
    )
    rules: list[dict[str, Any]] = [
        {"Id": "unfinished", "Status": "Enabled", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}}
    ]
    if node.expire_days is not None:
        rules.append({"Id": "expire", "Status": "Enabled", "ExpirationInDays": node.expire_days})
    waits = []
    for event in node.events:
        heard = to.graph[event[2].node]
        if isinstance(heard, Queue):
            waits.append(f"{heard.id}Policy")
        waits += [each.id for each in to.graph.of(Permission) if each.alias == heard.id and each.service == "s3.amazonaws.com"]
    properties = {
        "BucketName": None if node.name is None else to.value(node.name),
        "BucketEncryption": {"ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": encryption}]},
        "PublicAccessBlockConfiguration": dict.fromkeys(documents.BLOCKED, True),
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "VersioningConfiguration": {"Status": "Enabled"} if node.versioned else None,
        "LifecycleConfiguration": {"Rules": rules},
        "NotificationConfiguration": _notifications(node, to),
        "Tags": to.tags,
    }
    policy = {"Bucket": {"Ref": node.id}, "PolicyDocument": to.resolve(documents.bucket_policy(node))}
    return {
        node.id: resource("S3::Bucket", properties, **KEEP, DependsOn=sorted(set(waits))),
        f"{node.id}Policy": resource("S3::BucketPolicy", policy),
    }


def _notifications(node: Bucket, to: Formation) -> dict[str, Any]:
    result: dict[str, list[Any]] = {}
    for event, prefix, hears in node.events:
        queues = isinstance(to.graph[hears.node], Queue)
        entry: dict[str, Any] = {"Event": event, "Queue" if queues else "Function": to.value(hears)}
        if prefix:
            entry["Filter"] = {"S3Key": {"Rules": [{"Name": "prefix", "Value": prefix}]}}
        result.setdefault("QueueConfigurations" if queues else "LambdaConfigurations", []).append(entry)
    return result


def table(node: Table, to: Formation) -> Resources:
    """A table paid by request; kept when the stack goes."""
    keys = [node.hash_key, *([node.range_key] if node.range_key else [])]
    properties = {
        "TableName": node.name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind} for name, kind in keys],
        "KeySchema": [{"AttributeName": name, "KeyType": kind} for (name, _), kind in zip(keys, ("HASH", "RANGE"), strict=False)],
        "TimeToLiveSpecification": {"AttributeName": node.ttl, "Enabled": True} if node.ttl else None,
        "SSESpecification": None
        if node.key is None
        else {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": to.value(node.key)},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": node.recovery},
        "Tags": to.tags,
    }
    return {node.id: resource("DynamoDB::Table", properties, **KEEP)}


def topic(node: Topic, to: Formation) -> Resources:
    """A topic, TLS only. AWS's own key would keep alarms out: encryption takes a key of the account."""
    properties = {"TopicName": node.name, "KmsMasterKeyId": None if node.key is None else to.value(node.key), "Tags": to.tags}
    policy = {"Topics": [{"Ref": node.id}], "PolicyDocument": to.resolve(documents.topic_policy(node))}
    return {node.id: resource("SNS::Topic", properties), f"{node.id}Policy": resource("SNS::TopicPolicy", policy)}


def alarm(node: Alarm, to: Formation) -> Resources:
    """An alarm on a metric, or on metric math."""
    watched: dict[str, Any] = {"Metrics": metric_queries(node.metric, to)}
    if isinstance(node.metric, Metric):
        kind = "ExtendedStatistic" if node.metric.statistic not in documents.PLAIN_STATISTICS else "Statistic"
        watched = {
            "Namespace": node.metric.namespace,
            "MetricName": node.metric.name,
            "Dimensions": [{"Name": name, "Value": to.value(value)} for name, value in node.metric.dimensions],
            kind: node.metric.statistic,
            "Period": node.metric.period_s,
        }
    properties = {
        "AlarmName": node.name,
        "AlarmDescription": node.description,
        **watched,
        "ComparisonOperator": documents.COMPARISONS[node.comparison],
        "Threshold": node.threshold,
        "EvaluationPeriods": node.periods,
        "DatapointsToAlarm": node.points,
        "TreatMissingData": node.missing,
        "EvaluateLowSampleCountPercentile": node.low_samples,
        "AlarmActions": to.resolve(node.actions),
        "Tags": to.tags,
    }
    return {node.id: resource("CloudWatch::Alarm", properties)}


def composite_alarm(node: CompositeAlarm, to: Formation) -> Resources:
    """An alarm over alarms."""
    word = " OR " if node.mode == "any" else " AND "
    properties = {
        "AlarmName": node.name,
        "AlarmDescription": node.description,
        "AlarmRule": intrinsic(word.join(f'ALARM("{to.attribute(each, "name")}")' for each in node.alarms)),
        "AlarmActions": to.resolve(node.actions),
        "Tags": to.tags,
    }
    return {node.id: resource("CloudWatch::CompositeAlarm", properties)}


def dashboard(node: Dashboard, to: Formation) -> Resources:
    """A dashboard."""
    properties = {"DashboardName": node.name, "DashboardBody": to.text(documents.dashboard(node))}
    return {node.id: resource("CloudWatch::Dashboard", properties)}


def budget(node: Budget, to: Formation) -> Resources:
    """Dollars a month, and word at shares of them."""
    limit = {
        "BudgetName": node.name,
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": node.month_usd, "Unit": "USD"},
        "CostFilters": {"TagKeyValue": [f"user:service${node.service}"]},
    }
    words = [
        {
            "Notification": {
                "NotificationType": "ACTUAL",
                "ComparisonOperator": "GREATER_THAN",
                "Threshold": round(share * 100, 6),
                "ThresholdType": "PERCENTAGE",
            },
            "Subscribers": [{"SubscriptionType": "SNS", "Address": to.value(Ref(node.topic))}],
        }
        for share in node.at
    ]
    return {node.id: resource("Budgets::Budget", {"Budget": limit, "NotificationsWithSubscribers": words})}


def anomaly(node: Anomaly, to: Formation) -> Resources:
    """Word of unusual costs, once they are worth it."""
    monitor = {
        "MonitorName": node.name,
        "MonitorType": "CUSTOM",
        "MonitorSpecification": to.text(documents.anomaly_scope(node)),
    }
    subscription = {
        "SubscriptionName": node.name,
        "Frequency": "IMMEDIATE",
        "MonitorArnList": [{"Ref": node.id}],
        "Subscribers": [{"Type": "SNS", "Address": to.value(Ref(node.topic))}],
        "ThresholdExpression": to.text(documents.anomaly_size(node)),
    }
    return {
        node.id: resource("CE::AnomalyMonitor", monitor),
        f"{node.id}Subscription": resource("CE::AnomalySubscription", subscription),
    }
