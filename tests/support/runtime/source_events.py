"""Events as AWS's services bring them to a function: of each what tells it from others, with values of our own.

A row stands for the samples that are named in it: `sam local generate-event` of aws-sam-cli 1.170.0 (`sam:FOLDER/FILE`) and the
fixtures of aws-powertools/powertools-lambda-python, tests/events (`pt:FILE`). All of both are here, and some that are in neither.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

REQUEST: dict[str, Any] = {"inputs": {"pixels": [[1, 1, 1, 1]], "marks": [2]}}
TEXT = json.dumps(REQUEST)
DATA = base64.b64encode(TEXT.encode()).decode()


@dataclass(frozen=True, slots=True)
class Row:
    """`outcome`: "http STATUS", "direct STATUS", "answered", "batch", or "refused WORD" for a function error that has the word."""

    samples: str
    event: Any
    outcome: str


def sqs(*bodies: object, arn: str = "arn:aws:sqs:eu-west-1:1:work", group: str = "", **more: Any) -> dict[str, Any]:
    """An event of an SQS queue; messages are `m-0`, `m-1`, ..."""
    system = {"ApproximateReceiveCount": "1", "SentTimestamp": "1700000000000", **({"MessageGroupId": group} if group else {})}
    rows = [
        {
            "messageId": f"m-{at}",
            "body": body if isinstance(body, str) else json.dumps(body),
            "attributes": dict(system),
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": arn,
            **more,
        }
        for at, body in enumerate(bodies)
    ]
    return {"Records": rows}


def sns(message: str = TEXT, **attributes: str) -> dict[str, Any]:
    """An event of an SNS topic."""
    told = {name: {"Type": "String", "Value": value} for name, value in attributes.items()}
    return {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "n-1", "Message": message, "MessageAttributes": told}}]}


def bridge(detail: object, kind: str = "Order Placed", source: str = "shop") -> dict[str, Any]:
    """An event of EventBridge."""
    return {"version": "0", "id": "e-1", "detail-type": kind, "source": source, "detail": detail}


def kinesis(*data: str) -> dict[str, Any]:
    """An event of a Kinesis data stream; sequence numbers are 100, 101, ..."""
    return {
        "Records": [
            {
                "eventSource": "aws:kinesis",
                "eventID": f"shard-0:{100 + at}",
                "kinesis": {"sequenceNumber": f"{100 + at}", "data": one, "approximateArrivalTimestamp": 1.7e9},
            }
            for at, one in enumerate(data)
        ]
    }


def item(value: object) -> dict[str, Any]:
    """A value as DynamoDB writes it."""
    match value:
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int() | float():
            return {"N": str(value)}
        case list():
            return {"L": [item(one) for one in value]}
        case dict():
            return {"M": {name: item(one) for name, one in value.items()}}
    return {"NULL": True}


def dynamodb(*images: object, name: str = "INSERT", table: str = "orders") -> dict[str, Any]:
    """An event of a DynamoDB stream; sequence numbers are 200, 201, ..."""
    return {
        "Records": [
            {
                "eventSource": "aws:dynamodb",
                "eventName": name,
                "eventID": f"d-{at}",
                "eventSourceARN": f"arn:aws:dynamodb:eu-west-1:1:table/{table}/stream/now",
                "dynamodb": {"SequenceNumber": f"{200 + at}", "NewImage": item(image)["M"], "Keys": {"id": {"S": f"tiny/{at}"}}},
            }
            for at, image in enumerate(images)
        ]
    }


def s3(key: str = "in/one.json", name: str = "ObjectCreated:Put", bucket: str = "results") -> dict[str, Any]:
    """A notification of S3."""
    thing = {"bucket": {"name": bucket}, "object": {"key": key, "size": 12, "sequencer": "0A"}}
    return {"Records": [{"eventSource": "aws:s3", "eventName": name, "eventTime": "2026-01-01T00:00:00Z", "s3": thing}]}


V2 = {"version": "2.0", "rawPath": "/v2/models/tiny/infer", "headers": {}, "requestContext": {"http": {"method": "POST"}}}
V1 = {"httpMethod": "POST", "path": "/v2/models/tiny/infer", "headers": {}, "requestContext": {"stage": "p"}}
ELB = {"httpMethod": "POST", "path": "/", "headers": {}, "requestContext": {"elb": {}}}
LATTICE = {"raw_path": "/v2/models/tiny/infer", "method": "POST", "headers": {}, "is_base64_encoded": False}
LATTICE_2 = {"version": "2.0", "path": "/", "method": "POST", "headers": {}, "requestContext": {"serviceArn": "arn"}}
SOCKET = {"requestContext": {"connectionId": "c", "eventType": "MESSAGE", "routeKey": "$default"}, "body": TEXT}
COGNITO = {"userPoolId": "eu_1", "userName": "u", "request": {}, "response": {}}
AUTHORIZER = {"methodArn": "arn:aws:execute-api:x", "authorizationToken": "t"}
FIREHOSE = {"invocationId": "i", "records": [{"recordId": "r", "data": DATA}]}
CONFIG = {"invokingEvent": "{}", "resultToken": "t", "configRuleName": "r"}
STACK = {"RequestType": "Create", "ResponseURL": "https://x", "StackId": "s", "LogicalResourceId": "l"}
LEX = {"messageVersion": "1.0", "bot": {"name": "b"}, "invocationSource": "DialogCodeHook"}
AGENT = {"messageVersion": "1.0", "agent": {"id": "a"}, "actionGroup": "g", "inputText": "x"}
ALEXA = {"version": "1.0", "session": {"new": True}, "request": {"type": "LaunchRequest", "requestId": "r"}}
RESOLVER = {"arguments": {}, "identity": None, "source": None, "request": {}, "prev": None}
GROUND = {"labelingJobArn": "arn", "dataObject": {}}
KAFKA = {"records": {"topic-0": [{"topic": "t", "partition": 0, "offset": 1, "value": DATA}]}}

ROWS = (
    Row("sam:apigateway/HttpApi pt:apiGatewayProxyV2Event pt:apiGatewayProxyV2EventPathTrailingSlash pt:apiGatewayProxyV2IamEvent"
        " pt:apiGatewayProxyV2LambdaAuthorizerEvent pt:apiGatewayProxyV2SchemaMiddlwareInvalidEvent"
        " pt:apiGatewayProxyV2SchemaMiddlwareValidEvent pt:lambdaFunctionUrlEvent pt:lambdaFunctionUrlEventPathTrailingSlash"
        " pt:lambdaFunctionUrlEventWithHeaders pt:lambdaFunctionUrlIAMEvent", V2 | {"body": TEXT}, "http 200"),
    Row("pt:apiGatewayProxyV2Event_GET pt:apiGatewayProxyV2OtherGetEvent",
        V2 | {"rawPath": "/v2/health/live", "requestContext": {"http": {"method": "GET"}}}, "http 200"),
    Row("sam:apigateway/AwsProxy pt:apiGatewayProxyEvent pt:apiGatewayProxyEventAnotherPath pt:apiGatewayProxyEventNoOrigin"
        " pt:apiGatewayProxyEventPathTrailingSlash pt:apiGatewayProxyEventPrincipalId pt:apiGatewayProxyEvent_noVersionAuth"
        " pt:apiGatewayProxyOtherEvent pt:apigatewayeSchemaMiddlwareInvalidEvent pt:apigatewayeSchemaMiddlwareValidEvent",
        V1 | {"body": TEXT}, "http 200"),
    Row("sam:alb/ALBRequest pt:albEvent pt:albEventPathTrailingSlash pt:albMultiValueHeadersEvent"
        " pt:albMultiValueQueryStringEvent", ELB | {"body": TEXT}, "http 200"),
    Row("pt:vpcLatticeEvent pt:vpcLatticeEventPathTrailingSlash", LATTICE | {"body": TEXT}, "http 200"),
    Row("pt:vpcLatticeEventV2PathTrailingSlash pt:vpcLatticeV2Event pt:vpcLatticeV2EventWithHeaders",
        LATTICE_2 | {"body": TEXT}, "http 200"),
    Row("a WebSocket's message", SOCKET, "http 200"),
    Row("sam:sqs/Sqs pt:sqsEvent pt:sqsDlqTriggerEvent", sqs(TEXT, TEXT), "batch"),
    Row("pt:snsSqsEvent pt:snsSqsFifoEvent",
        sqs({"Type": "Notification", "TopicArn": "arn", "Message": TEXT}, group="g", arn="arn:aws:sqs:x:1:work.fifo"), "batch"),
    Row("EventBridge Pipes of a queue", sqs(TEXT)["Records"], "batch"),
    Row("EventBridge Pipes of a stream", [{"eventSource": "aws:kinesis", "sequenceNumber": "1", "data": DATA}], "batch"),
    Row("sam:kinesis/Kinesis pt:kinesisStreamEvent pt:kinesisStreamEventOneRecord", kinesis(DATA, DATA), "batch"),
    Row("pt:kinesisStreamCloudWatchLogsEvent", kinesis(base64.b64encode(b"\x1f\x8b\x08").decode()), "refused compressed"),
    Row("sam:dynamodb/DynamoDBUpdate pt:dynamoStreamEvent", dynamodb({"id": "1", "request": REQUEST}), "batch"),
    Row("sam:sns/Sns pt:snsEvent", sns(), "answered"),
    Row("pt:eventBridgeEvent", bridge(REQUEST), "answered"),
    Row("a batch of a Step Functions map", {"Items": [REQUEST, REQUEST], "BatchInput": {"a": 1}}, "listed"),
    Row("sam:cloudwatch/ScheduledEvent", bridge({}, "Scheduled Event", "aws.events"), "refused warmup"),
    Row("an event of EC2", bridge({"state": "running"}, "EC2 Instance State-change Notification", "aws.ec2"), "refused 'state'"),
    Row("sam:s3/S3Delete pt:s3EventDeleteObject", s3(name="ObjectRemoved:Delete"), "refused ObjectRemoved"),
    Row("a restored object", s3(name="ObjectRestore:Completed"), "refused ObjectRestore"),
    Row("pt:s3EventBridgeNotificationObjectDeletedEvent pt:s3EventBridgeNotificationObjectExpiredEvent"
        " pt:s3EventBridgeNotificationObjectRestoreCompletedEvent", bridge({}, "Object Deleted", "aws.s3"),
        "refused Object Deleted"),
    Row("pt:kafkaEventMsk", KAFKA | {"eventSource": "aws:kafka"}, "refused MSK"),
    Row("pt:kafkaEventSelfManaged", KAFKA | {"eventSource": "SelfManagedKafka"}, "refused Kafka"),
    Row("pt:activeMQEvent", {"eventSource": "aws:mq", "messages": [{"data": DATA}]}, "refused ActiveMQ"),
    Row("pt:rabbitMQEvent", {"eventSource": "aws:rmq", "rmqMessagesByQueue": {}}, "refused RabbitMQ"),
    Row("DocumentDB", {"eventSource": "aws:docdb", "events": []}, "refused DocumentDB"),
    Row("a source of tomorrow", {"Records": [{"eventSource": "aws:tomorrow"}]}, "refused aws:tomorrow"),
    Row("a tumbling window", kinesis(DATA) | {"window": {}, "state": {}, "isFinalInvokeForWindow": False}, "refused tumbling"),
    Row("sam:ses/SesEmailReceiving pt:sesEvent", {"Records": [{"eventSource": "aws:ses", "ses": {}}]}, "refused SES"),
    Row("sam:codecommit/CodeCommit", {"Records": [{"eventSource": "aws:codecommit"}]}, "refused CodeCommit"),
    Row(" ".join(f"sam:cloudfront/CloudFront{name}" for name in (
        "ABTest", "AccessRequestInResponse", "HttpRedirect", "ModifyQueryString", "ModifyResponseHeader",
        "MultipleRemoteCallsAggregateResponse", "NormalizeQuerystringToImproveCacheHit", "RedirectOnViewerCountry",
        "RedirectUnauthenticatedUsers", "ResponseGeneration", "ServeObjectOnViewerDevice", "SimpleRemoteCall",
    )), {"Records": [{"cf": {"config": {}, "request": {}}}]}, "refused CloudFront"),
    Row("sam:cloudwatch/CloudwatchLogs pt:cloudWatchLogEvent pt:cloudWatchLogEventWithPolicyLevel", {"awslogs": {"data": "H4s"}},
        "refused Logs"),
    Row("pt:cloudWatchAlarmEventCompositeMetric pt:cloudWatchAlarmEventSingleMetric",
        {"source": "aws.cloudwatch", "alarmArn": "arn", "alarmData": {}}, "refused alarm"),
    Row("pt:cloudWatchDashboardEvent", {"original": "param-to-widget", "widgetContext": {"title": "t"}}, "refused widget"),
    Row("sam:codepipeline/CodePipeline pt:codePipelineEvent pt:codePipelineEventData pt:codePipelineEventEmptyUserParameters"
        " pt:codePipelineEventWithEncryptionKey", {"CodePipeline.job": {"id": "j"}}, "refused CodePipeline"),
    Row("pt:codeDeployLifecycleHookEvent", {"DeploymentId": "d", "LifecycleEventHookExecutionId": "l"}, "refused CodeDeploy"),
    Row("pt:cognitoCreateAuthChallengeEvent pt:cognitoCustomEmailSenderEvent pt:cognitoCustomMessageEvent"
        " pt:cognitoCustomSMSSenderEvent pt:cognitoDefineAuthChallengeEvent pt:cognitoPostAuthenticationEvent"
        " pt:cognitoPostConfirmationEvent pt:cognitoPreAuthenticationEvent pt:cognitoPreSignUpEvent"
        " pt:cognitoPreTokenGenerationEvent pt:cognitoPreTokenV2GenerationEvent pt:cognitoUserMigrationEvent"
        " pt:cognitoVerifyAuthChallengeResponseEvent", COGNITO | {"triggerSource": "PreSignUp_SignUp"}, "refused Cognito"),
    Row("sam:cognito/CognitoSyncTrigger", {"eventType": "SyncTrigger", "identityPoolId": "p", "datasetRecords": {}},
        "refused Cognito"),
    Row("sam:config/ConfigurationItemChangeNotification sam:config/OversizedConfigurationItemChangeNotification"
        " sam:config/PeriodicRule pt:awsConfigRuleConfigurationChanged pt:awsConfigRuleOversizedConfiguration"
        " pt:awsConfigRuleScheduled", CONFIG, "refused Config"),
    Row("sam:cloudformation/CfnCreateRequest pt:cloudformationCustomResourceCreate pt:cloudformationCustomResourceDelete"
        " pt:cloudformationCustomResourceUpdate", STACK, "refused CloudFormation"),
    Row("a CloudFormation macro", {"fragment": {}, "transformId": "t", "requestId": "r"}, "refused macro"),
    Row("sam:connect/ConnectContactFlowEvent pt:connectContactFlowEventAll pt:connectContactFlowEventMin",
        {"Name": "ContactFlowEvent", "Details": {"ContactData": {}}}, "refused Connect"),
    Row("sam:lex/LexBookCar sam:lex/LexBookHotel sam:lex/LexMakeAppointment sam:lex/LexOrderFlowers",
        LEX | {"currentIntent": {}}, "refused Lex"),
    Row("sam:lex-v2/BankingBot sam:lex-v2/LexBookCar sam:lex-v2/LexBookHotel", LEX | {"sessionState": {}}, "refused Lex"),
    Row("pt:bedrockAgentEvent pt:bedrockAgentEventWithPathParams pt:bedrockAgentPostEvent", AGENT, "refused Bedrock"),
    Row("sam:alexa-skills-kit/AlexaIntentRecipe sam:alexa-skills-kit/AlexaEndSession sam:alexa-skills-kit/AlexaIntentMyColorIs"
        " sam:alexa-skills-kit/AlexaStartSession sam:alexa-skills-kit/AlexaIntentAnswer sam:alexa-skills-kit/AlexaIntentGetNewFact",
        ALEXA, "refused Alexa"),
    Row("sam:alexa-smart-home/AlexaSmartHomeDiscoveryRequest sam:alexa-smart-home/AlexaSmartHomeControlTurnOffRequest"
        " sam:alexa-smart-home/AlexaSmartHomeControlTurnOnRequest",
        {"header": {"namespace": "Alexa.ConnectedHome.Control", "name": "n"}, "payload": {}}, "refused Alexa"),
    Row("a directive of Alexa", {"directive": {"header": {"namespace": "Alexa.Discovery"}}}, "refused Alexa"),
    Row("sam:appsync/AppSyncDirectResolver pt:appSyncDirectResolver", RESOLVER | {"info": {}, "stash": {}}, "refused AppSync"),
    Row("pt:appSyncResolverEvent", RESOLVER | {"typeName": "Query", "fieldName": "f"}, "refused AppSync"),
    Row("pt:appSyncBatchEvent", [RESOLVER | {"typeName": "Query", "fieldName": "f"}], "refused AppSync"),
    Row("pt:appSyncAuthorizerEvent", {"authorizationToken": "t", "requestContext": {"apiId": "a"}}, "refused authorizer"),
    Row("events of AppSync", {"info": {"channel": {}}, "events": [], "stash": {}}, "refused AppSync"),
    Row("sam:apigateway/ApiGatewayAuthorizer pt:apiGatewayAuthorizerTokenEvent", AUTHORIZER | {"type": "TOKEN"},
        "refused API Gateway authorizer"),
    Row("sam:apigateway/ApiGatewayRestRequestAuthorizer pt:apiGatewayAuthorizerRequestEvent",
        V1 | AUTHORIZER | {"type": "REQUEST"}, "refused API Gateway authorizer"),
    Row("pt:apiGatewayAuthorizerV2Event", V2 | {"type": "REQUEST", "routeArn": "arn"}, "refused API Gateway authorizer"),
    Row("a WebSocket's beginning", {"requestContext": {"connectionId": "c", "eventType": "CONNECT"}}, "refused $connect"),
    Row("sam:kinesis/KinesisFirehose sam:kinesis/KinesisFirehoseApachelog sam:kinesis/KinesisFirehoseCloudwatchLogsProcessor"
        " sam:kinesis/KinesisFirehoseSyslog sam:kinesis/KinesisFirehoseStreamsAsSource sam:kinesis/KinesisAnalytics"
        " sam:kinesis/KinesisAnalyticsKpl pt:kinesisFirehoseKinesisEvent pt:kinesisFirehosePutEvent pt:kinesisFirehoseSQSEvent",
        FIREHOSE, "refused Firehose"),
    Row("sam:s3/S3BatchInvocation pt:s3BatchOperationEventSchemaV1 pt:s3BatchOperationEventSchemaV2",
        {"invocationSchemaVersion": "1.0", "invocationId": "i", "job": {}, "tasks": []}, "refused Batch Operations"),
    Row("pt:s3ObjectEventIAMUser pt:s3ObjectEventTempCredentials", {"getObjectContext": {}, "userRequest": {}},
        "refused Object Lambda"),
    Row("pt:secretsManagerEvent", {"Step": "createSecret", "SecretId": "s", "ClientRequestToken": "t"}, "refused secret"),
    Row("sam:sagemaker/PreHumanTask sam:sagemaker/AnnotationConsolidation", GROUND, "refused Ground Truth"),
    Row("sam:workmail/WorkMail", {"summaryVersion": "2018", "messageId": "m", "flowDirection": "INBOUND"}, "refused WorkMail"),
    Row("the destination of another function",
        {"requestContext": {"condition": "Success"}, "requestPayload": 1, "responseContext": {}}, "refused destination"),
    Row("an IoT button", {"serialNumber": "s", "clickType": "SINGLE", "batteryVoltage": "1mV"}, "refused button"),
    Row("IoT 1-Click", {"deviceInfo": {}, "deviceEvent": {}, "placementInfo": {}}, "refused 1-Click"),
    Row("the registry of IoT", {"eventType": "THING_EVENT", "eventId": "i", "operation": "CREATED"}, "refused registry"),
    Row("Transfer Family", {"username": "u", "serverId": "s", "sourceIp": "1", "protocol": "SFTP"}, "refused Transfer"),
    # What a function of one's own, or a state machine, sends is a direct request, whatever it holds.
    Row("sam:batch/BatchGetJob sam:batch/BatchSubmitJob", {"jobName": "j", "jobQueue": "q"}, "direct 400"),
    Row("sam:stepfunctions/StepFunctionsError", {"Error": "E", "Cause": "c"}, "direct 400"),
    Row("pt:appSyncAuthorizerResponse", {"isAuthorized": True}, "direct 400"),
    Row("a task of Step Functions", REQUEST, "direct 200"),
)  # fmt: skip
"""But those whose request is an object in S3: `OBJECTS`."""

OBJECTS = (
    Row("sam:s3/S3Put sam:rekognition/RekognitionS3Request pt:s3Event pt:s3EventDecodedKey pt:s3EventGlacier", s3(), "answered"),
    Row("pt:s3EventBridgeNotificationObjectCreatedEvent",
        bridge({"bucket": {"name": "results"}, "object": {"key": "in/one.json"}}, "Object Created", "aws.s3"), "answered"),
    Row("pt:s3SqsEvent", sqs(s3()), "batch"),
    Row("a notification by way of a topic", sns(json.dumps(s3())), "answered"),
    Row("the pointer of an extended client", sqs(json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer",
        {"s3BucketName": "results", "s3Key": "in/one.json"}])), "batch"),
)  # fmt: skip
