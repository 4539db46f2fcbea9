"""Which service an event comes from, by its form; and for those that bring no request, what to use instead.

Promises: an event is recognized by what only its service puts into it, so that a request of a package's own is not mistaken for
one; every source that is not taken has a sentence. Will not: read records, or know a model.

Sources: AWS Lambda developer guide, "Using AWS Lambda with other services", and the guides of the services.
"""

from mlpack_runtime.jsontext import text_of
from mlpack_runtime.limits import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

TAKEN = {
    "sqs": "an SQS queue",
    "sns": "an SNS topic",
    "eventbridge": "EventBridge",
    "kinesis": "a Kinesis data stream",
    "dynamodb": "a DynamoDB stream",
    "s3": "an S3 notification",
    "map": "a batch of items of a Step Functions map",
    "batch": "an order for a batch",
}
"""Sources whose events are requests; `MLPACK_EVENTS` may name fewer."""
LATTICE = "lattice"
"""VPC Lattice in its first version, which is HTTP without a request context."""

_QUEUE = "let it send to an SQS queue, and give this package, or a worker, the queue"
_SELF = "call this package from a function of your own that speaks with this service"
_LIST = (
    "a sender of lists, as EventBridge Pipes with an input template is",
    "let the pipe hand its records on as they come, without a template",
)
"""No request is a list. An answer with an error would be a success to a pipe, which deletes what it has handed on."""
_OTHERS = {
    "kafka": ("Amazon MSK", "read the topic with EventBridge Pipes, and let the pipe send to an SQS queue"),
    "SelfManagedKafka": ("Apache Kafka", "read the topic with EventBridge Pipes, and let the pipe send to an SQS queue"),
    "amq": ("Amazon MQ (ActiveMQ)", "read the broker with EventBridge Pipes, and let the pipe send to an SQS queue"),
    "mq": ("Amazon MQ (ActiveMQ)", "read the broker with EventBridge Pipes, and let the pipe send to an SQS queue"),
    "rmq": ("Amazon MQ (RabbitMQ)", "read the broker with EventBridge Pipes, and let the pipe send to an SQS queue"),
    "docdb": ("Amazon DocumentDB", "let a function of your own send what is to be answered to an SQS queue"),
    "ses": ("Amazon SES", "let the receipt rule put the mail into S3, and a function of your own make a request of it"),
    "codecommit": ("AWS CodeCommit", "use a function of your own: its events are about repositories"),
    "cloudfront": ("CloudFront (Lambda@Edge)", "give the distribution this package's function URL as its origin"),
}
_FORMS: "tuple[tuple[tuple[str, ...], str, str], ...]" = (
    (("awslogs",), "CloudWatch Logs", "let a function of your own make requests of the log lines, which come compressed"),
    (("CodePipeline.job",), "AWS CodePipeline", _SELF),
    (("triggerSource", "userPoolId"), "an Amazon Cognito user pool", _SELF),
    (("datasetRecords", "identityPoolId"), "Amazon Cognito Sync", _SELF),
    (("invokingEvent", "resultToken"), "AWS Config", _SELF),
    (("ResponseURL", "StackId", "RequestType"), "a CloudFormation custom resource", "give the resource a function of its own"),
    (("transformId", "fragment"), "a CloudFormation macro", "give the macro a function of its own"),
    (("LifecycleEventHookExecutionId", "DeploymentId"), "an AWS CodeDeploy hook", "invoke this package from a hook of your own"),
    (("SecretId", "ClientRequestToken", "Step"), "the rotation of a secret", "give the secret a function of its own"),
    (("bot", "messageVersion"), "Amazon Lex", _SELF),
    (("sessionState", "bot"), "Amazon Lex", _SELF),
    (("agent", "messageVersion"), "a Bedrock agent", _SELF),
    (("alarmData", "alarmArn"), "a CloudWatch alarm", "let the alarm tell people, not a model"),
    (("widgetContext",), "a CloudWatch dashboard's widget", _SELF),
    (("labelingJobArn",), "SageMaker Ground Truth", _SELF),
    (("flowDirection", "messageId", "summaryVersion"), "Amazon WorkMail", _SELF),
    (("getObjectContext", "userRequest"), "S3 Object Lambda", _SELF),
    (("tasks", "invocationSchemaVersion", "job"), "S3 Batch Operations", "put the objects' names into an SQS queue, as S3 does"),
    (("records", "invocationId"), "a transformation of Amazon Data Firehose or Kinesis Analytics", "read the stream itself"),
    (("fieldName", "typeName", "arguments"), "an AWS AppSync resolver", "use an HTTP data source with this package's function URL"),
    (("info", "arguments", "stash"), "an AWS AppSync resolver", "use an HTTP data source with this package's function URL"),
    (("info", "events", "stash"), "AWS AppSync Events", "use an HTTP data source with this package's function URL"),
    (("methodArn", "type"), "an API Gateway authorizer", "give the API an authorizer of its own; its route may have this package"),
    (("routeArn", "type"), "an API Gateway authorizer", "give the API an authorizer of its own; its route may have this package"),
    (("authorizationToken", "requestContext"), "an AWS AppSync authorizer", "give the API an authorizer of its own"),
    (("responseContext", "requestPayload"), "the destination of another function", "send the record to an SQS queue or to people"),
    (("clickType", "serialNumber"), "an AWS IoT button", "let a rule of AWS IoT send a request"),
    (("serverId", "sourceIp", "username"), "AWS Transfer Family", "give the server an identity provider of its own"),
    (("deviceEvent", "deviceInfo"), "AWS IoT 1-Click", "let a rule of AWS IoT send a request"),
)  # fmt: skip


class Source:
    """Where an event comes from. `name`: of `TAKEN`, or `LATTICE`; "" for one that brings no request: `what` it is, and what to use
    `instead`. `records`: its records, where it has them."""

    __slots__ = ("instead", "name", "records", "what")

    def __init__(self, name: str, what: str = "", instead: str = "", records: "list[Any] | None" = None) -> None:
        self.name = name
        self.what = what or TAKEN.get(name, "")
        self.instead = instead
        self.records = records


def recognize(event: object) -> "Source | None":
    """Where an event comes from; None for a request of the package's own, and for HTTP."""
    if type(event) is list:  # EventBridge Pipes, and AppSync's batches
        first = event[0] if event and type(event[0]) is dict else {}
        found = _by_records(event) if "eventSource" in first else _by_form(first)
        return found or (Source("", *_LIST) if event else None)
    if type(event) is not dict:
        return None
    if "isFinalInvokeForWindow" in event:
        return Source(
            "", "a stream with a tumbling window", "take the window out of the event source mapping: requests have no sum"
        )
    if type(event.get("Records")) is list:
        return _by_records(event["Records"])
    return _by_value(event) or _by_form(event)


def refusal(source: Source, taken: str) -> str:
    """The sentence for a source that brings no request. `taken`: what is taken here, in words."""
    return (
        f"this event is from {source.what}, which is not taken here: {taken} are. Instead: {source.instead}. (With"
        " MLPACK_EVENTS=direct every event is a direct request)"
    )


def as_http(event: "Mapping[str, Any]") -> "dict[str, Any]":
    """An event of VPC Lattice's first version as its second has it."""
    return {
        "requestContext": {},
        "path": event["raw_path"],
        "method": event["method"],
        "headers": event["headers"],
        "body": event.get("body"),
        "isBase64Encoded": event.get("is_base64_encoded") is True,
    }


def _by_records(records: "list[Any]") -> "Source | None":
    first = records[0] if records and type(records[0]) is dict else {}
    kind = first.get("eventSource") or first.get("EventSource")
    if type(kind) is not str:
        return _other("cloudfront") if type(first.get("cf")) is dict else None
    name = kind.removeprefix("aws:")
    if name in TAKEN and kind != name:
        return Source(name, records=records)
    return _other(name) if kind != name else None


def _by_value(event: "Mapping[str, Any]") -> "Source | None":
    """Those that one key does not tell from a request of the package's own."""
    kind, text = event.get("eventSource"), text_of(event, "detail-type")
    if type(kind) is str and kind.startswith(("aws:", "SelfManagedKafka")):
        return _other(kind.removeprefix("aws:"))
    if text and text_of(event, "source") and "detail" in event:
        return Source("eventbridge", f"EventBridge: {quoted(event['source'])}, {quoted(text)}")
    if text_of(event, "raw_path") and text_of(event, "method") and type(event.get("headers")) is dict:
        return Source(LATTICE)
    if type(event.get("batch")) is dict and "manifest" in event["batch"] and event.keys() <= {"batch", "done"}:
        return Source("batch")
    if type(event.get("Items")) is list and event.keys() <= {"Items", "BatchInput"}:
        return Source("map", records=event["Items"])
    if event.get("Name") == "ContactFlowEvent" and type(event.get("Details")) is dict:
        return Source("", "Amazon Connect", _SELF)
    header = event.get("header") or (event["directive"].get("header") if type(event.get("directive")) is dict else None)
    if type(header) is dict and text_of(header, "namespace").startswith("Alexa"):
        return Source("", "an Alexa smart home skill", _SELF)
    request = event.get("request")
    if type(event.get("session")) is dict and type(request) is dict and text_of(request, "type") and text_of(request, "requestId"):
        return Source("", "an Alexa skill", _SELF)
    if text_of(event, "eventType").endswith("_EVENT") and text_of(event, "operation") and text_of(event, "eventId"):
        return Source("", "the registry of AWS IoT", "let a rule of AWS IoT send a request")
    context = event.get("requestContext")
    if type(context) is dict and text_of(context, "connectionId") and context.get("eventType") in ("CONNECT", "DISCONNECT"):
        return Source("", f"a WebSocket's {context['eventType']}", "give the routes $connect and $disconnect no integration")
    return None


def _by_form(event: "Mapping[str, Any]") -> "Source | None":
    return next((Source("", what, instead) for keys, what, instead in _FORMS if all(key in event for key in keys)), None)


def _other(kind: str) -> Source:
    what, instead = _OTHERS.get(kind, (f"the event source {quoted(f'aws:{kind}')}", _QUEUE))
    return Source("", what, instead)
