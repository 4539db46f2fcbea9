"""IAM as far as a registry's policies use it, in front of boto3: a call that a policy does not allow is refused as AWS would.

moto's own IAM knows actions and the resources of S3, and neither conditions nor the resources of DynamoDB; it takes a transaction
for an action of its own, where AWS asks for those of its writes. `for_moto` makes of a policy what moto can enforce, `Guard`
enforces it whole.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

Json = dict[str, Any]
TABLE = "arn:aws:dynamodb:eu-central-1:123456789012:table/"
UPLOADS = {"PutObject": "true", "CompleteMultipartUpload": "true", "CreateMultipartUpload": "false", "UploadPart": "false"}
CONDITIONS = {"IfNoneMatch": "s3:if-none-match", "IfMatch": "s3:if-match"}
OTHERS = {"GetObject": "GetObject", "HeadObject": "GetObject"} | {one: one for one in ("DeleteObject", "AbortMultipartUpload")}


@dataclass(frozen=True)
class Request:
    """What AWS would look at."""

    action: str
    resource: str
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Guard:
    """Holds clients to a policy. `allowed` and `refused`: what was asked for, in order."""

    def __init__(self, policy: Json) -> None:
        self.policy = policy
        self.allowed: list[Request] = []
        self.refused: list[Request] = []

    def watch(self, client: Any) -> None:
        client.meta.events.register("before-parameter-build", self._keep)
        client.meta.events.register("before-call", self._check)

    @staticmethod
    def _keep(params: Json, context: Json, **_: Any) -> None:
        context["asked"] = copy.copy(params)

    def _check(self, model: Any, context: Json, **_: Any) -> Any:
        for request in requests(model.service_model.service_name, model.name, context["asked"]):
            if not allows(self.policy, request):
                self.refused.append(request)
                said = f"User: arn:aws:iam::123456789012:user/role is not authorized to perform: {request.action} on resource: "
                s3 = request.action.startswith("s3:")
                status, code = (403, "AccessDenied") if s3 else (400, "AccessDeniedException")
                error = {"Code": code, "Message": said + request.resource}
                return SimpleNamespace(status_code=status), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
            self.allowed.append(request)
        return None


def requests(service: str, operation: str, asked: Json) -> Iterator[Request]:
    """What a call of boto3's needs."""
    if service == "dynamodb":
        for action, write in writes_of(operation, asked):
            key = write["ExpressionAttributeValues"][":pk"] if action == "Query" else write.get("Item", write.get("Key"))["pk"]
            yield Request(f"dynamodb:{action}", TABLE + write["TableName"], {"dynamodb:LeadingKeys": (key["S"],)})
        return
    bucket = f"arn:aws:s3:::{asked['Bucket']}"
    if operation == "ListObjectsV2":
        yield Request("s3:ListBucket", bucket, {"s3:prefix": (asked["Prefix"],)})
    elif operation in UPLOADS:
        said = {name: (asked[key],) for key, name in CONDITIONS.items() if key in asked}
        yield Request("s3:PutObject", f"{bucket}/{asked['Key']}", {**said, "s3:ObjectCreationOperation": (UPLOADS[operation],)})
    else:
        yield Request(f"s3:{OTHERS[operation]}", f"{bucket}/{asked['Key']}")


def writes_of(operation: str, asked: Json) -> Iterator[tuple[str, Json]]:
    if operation != "TransactWriteItems":
        yield operation, asked
        return
    for one in asked["TransactItems"]:
        ((verb, write),) = one.items()
        yield f"{verb}Item", write


def allows(policy: Json, request: Request) -> bool:
    """Whether some statement allows it. Knows no denials."""
    assert {statement["Effect"] for statement in policy["Statement"]} == {"Allow"}
    return any(
        any(like(each, request.action) for each in statement["Action"])
        and like(statement["Resource"], request.resource)
        and all(
            holds(operator, wanted, request.context.get(key, ()))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
        for statement in policy["Statement"]
    )


def holds(operator: str, wanted: Any, found: tuple[str, ...]) -> bool:
    match operator:
        case "Null":
            return (not found) == (wanted == "true")
        case "Bool":
            return found == (wanted,)
        case "ForAllValues:StringLike":
            return all(any(like(pattern, each) for pattern in wanted) for each in found)
        case "ForAllValues:StringNotLike":
            return not any(like(pattern, each) for pattern in wanted for each in found)
    raise ValueError(operator)


def like(pattern: str, text: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text) is not None


def for_moto(policy: Json) -> Json:
    """What moto can enforce of it."""
    made = copy.deepcopy(policy)
    for statement in made["Statement"]:
        if any(action.startswith("dynamodb:") for action in statement["Action"]):
            statement["Resource"] = "*"
        if "dynamodb:PutItem" in statement["Action"]:
            statement["Action"].append("dynamodb:TransactWriteItems")
    return made
