"""Queues, buckets, tables, topics, and what watches them, as resources of Terraform. Pure."""

from __future__ import annotations

from typing import Any

from mlpack.deploy.graph.functions import Alias, Function, Permission
from mlpack.deploy.graph.stores import Bucket, Queue, Source, Table, Topic
from mlpack.deploy.graph.values import Ref
from mlpack.deploy.graph.watching import Alarm, Anomaly, Budget, CompositeAlarm, Dashboard, Metric
from mlpack.deploy.render import documents
from mlpack.deploy.render.tf.compute import granted
from mlpack.deploy.render.tf.language import Resources, Terraform, resource
from mlpack.deploy.render.tf.tasks import metric_queries


def queue(node: Queue, to: Terraform) -> Resources:
    """An encrypted queue, TLS only."""
    redrive = {"deadLetterTargetArn": None if node.dead is None else Ref(node.dead), "maxReceiveCount": node.receives}
    arguments = {
        "name": to.literal(node.name),
        "fifo_queue": True if node.fifo else None,
        "visibility_timeout_seconds": node.visibility_s,
        "message_retention_seconds": node.retention_s,
        "redrive_policy": None if node.dead is None else to.text(redrive),
        "kms_master_key_id": None if node.key is None else to.value(node.key),
        "sqs_managed_sse_enabled": True if node.key is None else None,
    }
    policy = {"queue_url": f"${{aws_sqs_queue.{node.id}.url}}", "policy": to.text(documents.queue_policy(to.graph, node))}
    return {("aws_sqs_queue", node.id): resource(arguments), ("aws_sqs_queue_policy", f"{node.id}Policy"): resource(policy)}


def source(node: Source, to: Terraform) -> Resources:
    """Messages to an alias; what failed of a batch comes again alone."""
    alias = to.graph[node.alias]
    assert isinstance(alias, Alias)
    owner = to.graph[alias.function]
    assert isinstance(owner, Function)
    arguments = {
        "event_source_arn": to.value(Ref(node.queue)),
        "function_name": to.value(Ref(node.alias)),
        "batch_size": node.batch,
        "maximum_batching_window_in_seconds": node.window_s,
        "scaling_config": {"maximum_concurrency": node.most_at_once},
        "function_response_types": ["ReportBatchItemFailures"],
    }
    return {("aws_lambda_event_source_mapping", node.id): resource(arguments, depends_on=granted(to, owner))}


def bucket(node: Bucket, to: Terraform) -> Resources:
    """An encrypted bucket that nobody reaches from outside."""
    here = f"${{aws_s3_bucket.{node.id}.bucket}}"
    encryption = {"sse_algorithm": "AES256"}
    if node.key is not None:
        encryption = {"sse_algorithm": "aws:kms", "kms_master_key_id": to.value(node.key)}
    rules: list[dict[str, Any]] = [
        {"id": "unfinished", "status": "Enabled", "filter": {}, "abort_incomplete_multipart_upload": {"days_after_initiation": 2}}
    ]
    if node.expire_days is not None:
        rules.append({"id": "expire", "status": "Enabled", "filter": {}, "expiration": {"days": node.expire_days}})
    blocked = {"block_public_acls": True, "block_public_policy": True, "ignore_public_acls": True, "restrict_public_buckets": True}
    result: Resources = {
        ("aws_s3_bucket", node.id): resource({"bucket": None if node.name is None else to.value(node.name)}),
        ("aws_s3_bucket_server_side_encryption_configuration", f"{node.id}Encryption"): {
            "bucket": here,
            "rule": {"apply_server_side_encryption_by_default": encryption},
        },
        ("aws_s3_bucket_public_access_block", f"{node.id}Access"): {"bucket": here, **blocked},
        ("aws_s3_bucket_ownership_controls", f"{node.id}Owner"): {
            "bucket": here,
            "rule": {"object_ownership": "BucketOwnerEnforced"},
        },
        ("aws_s3_bucket_lifecycle_configuration", f"{node.id}Lifecycle"): {"bucket": here, "rule": rules},
        ("aws_s3_bucket_policy", f"{node.id}Policy"): {"bucket": here, "policy": to.text(documents.bucket_policy(node))},
    }
    if node.versioned:
        enabled = {"bucket": here, "versioning_configuration": {"status": "Enabled"}}
        result["aws_s3_bucket_versioning", f"{node.id}Versions"] = enabled
    if node.events:
        result["aws_s3_bucket_notification", f"{node.id}Events"] = _notifications(node, to)
    return result


def _notifications(node: Bucket, to: Terraform) -> dict[str, Any]:
    queues: list[Any] = []
    aliases: list[Any] = []
    waits: set[str] = set()
    for event, prefix, hears in node.events:
        heard = to.graph[hears.node]
        entry = {"events": [event], "filter_prefix": to.literal(prefix) if prefix else None}
        if isinstance(heard, Queue):
            queues.append(resource(entry | {"queue_arn": to.value(hears)}))
            waits.add(f"aws_sqs_queue_policy.{heard.id}Policy")
        else:
            aliases.append(resource(entry | {"lambda_function_arn": to.value(hears)}))
        rights = (each for each in to.graph.of(Permission) if each.alias == heard.id and each.service == "s3.amazonaws.com")
        waits |= {f"aws_lambda_permission.{each.id}" for each in rights}
    arguments = {"bucket": f"${{aws_s3_bucket.{node.id}.bucket}}", "queue": queues, "lambda_function": aliases}
    return resource(arguments, depends_on=sorted(waits))


def table(node: Table, to: Terraform) -> Resources:
    """A table paid by request."""
    keys = [node.hash_key, *([node.range_key] if node.range_key else [])]
    arguments = {
        "name": to.literal(node.name),
        "billing_mode": "PAY_PER_REQUEST",
        "hash_key": node.hash_key[0],
        "range_key": node.range_key[0] if node.range_key else None,
        "attribute": [{"name": name, "type": kind} for name, kind in keys],
        "ttl": {"attribute_name": node.ttl, "enabled": True} if node.ttl else None,
        "server_side_encryption": None if node.key is None else {"enabled": True, "kms_key_arn": to.value(node.key)},
        "point_in_time_recovery": {"enabled": node.recovery},
    }
    return {("aws_dynamodb_table", node.id): resource(arguments)}


def topic(node: Topic, to: Terraform) -> Resources:
    """A topic, TLS only."""
    policy = {"arn": f"${{aws_sns_topic.{node.id}.arn}}", "policy": to.text(documents.topic_policy(node))}
    key = None if node.key is None else to.value(node.key)
    return {
        ("aws_sns_topic", node.id): resource({"name": to.literal(node.name), "kms_master_key_id": key}),
        ("aws_sns_topic_policy", f"{node.id}Policy"): resource(policy),
    }


def alarm(node: Alarm, to: Terraform) -> Resources:
    """An alarm on a metric, or on metric math."""
    watched: dict[str, Any] = {"metric_query": metric_queries(node.metric, to)}
    if isinstance(node.metric, Metric):
        kind = "extended_statistic" if node.metric.statistic not in documents.PLAIN_STATISTICS else "statistic"
        watched = {
            "namespace": node.metric.namespace,
            "metric_name": node.metric.name,
            "dimensions": {name: to.value(value) for name, value in node.metric.dimensions},
            kind: node.metric.statistic,
            "period": node.metric.period_s,
        }
    arguments = {
        "alarm_name": to.literal(node.name),
        "alarm_description": to.literal(node.description),
        **watched,
        "comparison_operator": documents.COMPARISONS[node.comparison],
        "threshold": node.threshold,
        "evaluation_periods": node.periods,
        "datapoints_to_alarm": node.points,
        "treat_missing_data": node.missing,
        "evaluate_low_sample_count_percentiles": node.low_samples,
        "alarm_actions": to.resolve(node.actions),
    }
    return {("aws_cloudwatch_metric_alarm", node.id): resource(arguments)}


def composite_alarm(node: CompositeAlarm, to: Terraform) -> Resources:
    """An alarm over alarms."""
    word = " OR " if node.mode == "any" else " AND "
    arguments = {
        "alarm_name": to.literal(node.name),
        "alarm_description": to.literal(node.description),
        "alarm_rule": word.join(f'ALARM("{to.attribute(each, "name")}")' for each in node.alarms),
        "alarm_actions": to.resolve(node.actions),
    }
    return {("aws_cloudwatch_composite_alarm", node.id): resource(arguments)}


def dashboard(node: Dashboard, to: Terraform) -> Resources:
    """A dashboard."""
    arguments = {"dashboard_name": to.literal(node.name), "dashboard_body": to.text(documents.dashboard(node))}
    return {("aws_cloudwatch_dashboard", node.id): resource(arguments)}


def budget(node: Budget, to: Terraform) -> Resources:
    """Dollars a month, and word at shares of them."""
    words = [
        {
            "notification_type": "ACTUAL",
            "comparison_operator": "GREATER_THAN",
            "threshold": round(share * 100, 6),
            "threshold_type": "PERCENTAGE",
            "subscriber_sns_topic_arns": [to.value(Ref(node.topic))],
        }
        for share in node.at
    ]
    arguments = {
        "name": to.literal(node.name),
        "budget_type": "COST",
        "time_unit": "MONTHLY",
        "limit_amount": f"{node.month_usd:g}",
        "limit_unit": "USD",
        "cost_filter": {"name": "TagKeyValue", "values": [to.literal(f"user:service${node.service}")]},
        "notification": words,
    }
    return {("aws_budgets_budget", node.id): resource(arguments)}


def anomaly(node: Anomaly, to: Terraform) -> Resources:
    """Word of unusual costs, once they are worth it."""
    size = documents.anomaly_size(node)["Dimensions"]
    monitor = {
        "name": to.literal(node.name),
        "monitor_type": "CUSTOM",
        "monitor_specification": to.text(documents.anomaly_scope(node)),
    }
    subscription = {
        "name": to.literal(node.name),
        "frequency": "IMMEDIATE",
        "monitor_arn_list": [f"${{aws_ce_anomaly_monitor.{node.id}.arn}}"],
        "subscriber": {"type": "SNS", "address": to.value(Ref(node.topic))},
        "threshold_expression": {
            "dimension": {"key": size["Key"], "match_options": size["MatchOptions"], "values": size["Values"]}
        },
    }
    return {
        ("aws_ce_anomaly_monitor", node.id): resource(monitor),
        ("aws_ce_anomaly_subscription", f"{node.id}Subscription"): resource(subscription),
    }
