"""A registry's infrastructure and the policies of its roles as text, for teams that use CloudFormation or Terraform.

Promises:
- The templates describe the same resources that `setup.create` makes, and hold nothing that depends on the time of day.
- Bucket and table outlive the stack.
- Afterwards `mlpack registry create` changes only the registry's own settings row, which it writes.
"""

from __future__ import annotations

import json
from typing import Any

from mlpack.core.text import sinks
from mlpack.registry.aws import opening
from mlpack.registry.aws.clients import Address
from mlpack.registry.infrastructure import blueprint
from mlpack.registry.infrastructure.blueprint import Arns, Json, RegistryOptions

_RETAINED = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}


def policies(url: str, options: RegistryOptions | None = None) -> str:
    """The IAM policies as JSON, by role: `blueprint.ROLES` and `CACHE_ROLES`. RecipeError when `url` is no address."""
    address = opening.parse(url)
    return _json(blueprint.role_policies(address, blueprint.arns_of(address), options or RegistryOptions()))


def cloudformation(url: str, options: RegistryOptions | None = None) -> str:
    """A CloudFormation template (JSON): bucket, table, and a managed policy for each role (`CAPABILITY_IAM`)."""
    address, options = opening.parse(url), options or RegistryOptions()
    tags = [{"Key": key, "Value": value} for key, value in options.all_tags.items()]
    key = {"KMSMasterKeyID": options.kms_key} if options.kms_key else {}
    default = {"SSEAlgorithm": "aws:kms" if key else "AES256", **key}
    bucket = {
        "BucketName": address.bucket,
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [
                {"ServerSideEncryptionByDefault": default, **({"BucketKeyEnabled": True} if key else {})}
            ]
        },
        "LifecycleConfiguration": {"Rules": [_formation_rule(each) for each in _lifecycle(address, options)]},
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "PublicAccessBlockConfiguration": dict.fromkeys(blueprint.PUBLIC_ACCESS, True),
        "Tags": tags,
        "VersioningConfiguration": {"Status": "Enabled"},
    }
    table = {
        "TableName": address.table,
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name, _ in blueprint.KEY_SCHEMA],
        "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in blueprint.KEY_SCHEMA],
        "BillingMode": "PAY_PER_REQUEST",
        "DeletionProtectionEnabled": True,
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "SSESpecification": {"SSEEnabled": True, "SSEType": "KMS", **({"KMSMasterKeyId": options.kms_key} if key else {})},
        "Tags": tags,
    }
    arns = Arns(bucket="${Bucket.Arn}", table="${Table.Arn}")
    policy = {"Bucket": {"Ref": "Bucket"}, "PolicyDocument": blueprint.document([blueprint.tls_only(arns.bucket)])}
    resources: Json = {
        "Bucket": {"Type": "AWS::S3::Bucket", **_RETAINED, "Properties": bucket},
        "BucketPolicy": {"Type": "AWS::S3::BucketPolicy", "Properties": policy},
        "Table": {"Type": "AWS::DynamoDB::Table", **_RETAINED, "Properties": table},
    }
    outputs: Json = {}
    for role, statements in blueprint.role_policies(address, arns, options).items():
        name = "".join(part.capitalize() for part in role.split("_"))
        properties = {"Description": f"mlpack {role} of {address.scope}", "PolicyDocument": statements}
        resources[name] = {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}
        outputs[f"{name}Policy"] = {"Value": {"Ref": name}}
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"mlpack registry. When the stack is there: mlpack registry create {sinks.shell(address)}",
        "Resources": resources,
        "Outputs": outputs,
    }
    return _json(_substituted(template))


def terraform(url: str, options: RegistryOptions | None = None) -> str:
    """The same for Terraform, in its JSON syntax (`registry.tf.json`), for version 5 of the AWS provider and later."""
    address, options = opening.parse(url), options or RegistryOptions()
    bucket, keyed = {"bucket": "${aws_s3_bucket.registry.id}"}, options.kms_key is not None
    default = {"sse_algorithm": "aws:kms", "kms_master_key_id": options.kms_key} if keyed else {"sse_algorithm": "AES256"}
    table = {
        "name": address.table,
        "billing_mode": "PAY_PER_REQUEST",
        "hash_key": blueprint.KEY_SCHEMA[0][0],
        "range_key": blueprint.KEY_SCHEMA[1][0],
        "attribute": [{"name": name, "type": "S"} for name, _ in blueprint.KEY_SCHEMA],
        "deletion_protection_enabled": True,
        "point_in_time_recovery": {"enabled": True},
        "server_side_encryption": {"enabled": True, **({"kms_key_arn": options.kms_key} if keyed else {})},
        "tags": options.all_tags,
        "lifecycle": {"prevent_destroy": True},
    }
    arns = Arns(bucket="${aws_s3_bucket.registry.arn}", table="${aws_dynamodb_table.registry.arn}")
    encryption = {"apply_server_side_encryption_by_default": default, **({"bucket_key_enabled": True} if keyed else {})}
    resources: Json = {
        "aws_s3_bucket": {"bucket": address.bucket, "tags": options.all_tags, "lifecycle": {"prevent_destroy": True}},
        "aws_s3_bucket_versioning": {**bucket, "versioning_configuration": {"status": "Enabled"}},
        "aws_s3_bucket_server_side_encryption_configuration": {**bucket, "rule": encryption},
        "aws_s3_bucket_public_access_block": {**bucket, **dict.fromkeys(map(_snake, blueprint.PUBLIC_ACCESS), True)},
        "aws_s3_bucket_ownership_controls": {**bucket, "rule": {"object_ownership": "BucketOwnerEnforced"}},
        "aws_s3_bucket_policy": {**bucket, "policy": _inline(blueprint.document([blueprint.tls_only(arns.bucket)]))},
        "aws_s3_bucket_lifecycle_configuration": {
            **bucket,
            "rule": [_terraform_rule(each) for each in _lifecycle(address, options)],
            "depends_on": ["aws_s3_bucket_versioning.registry"],
        },
        "aws_dynamodb_table": table,
    }
    roles = blueprint.role_policies(address, arns, options)
    blocks = {kind: {"registry": block} for kind, block in resources.items()}
    blocks["aws_iam_policy"] = {
        role: {
            "name_prefix": f"mlpack-{role.replace('_', '-')}-",
            "description": f"mlpack {role} of {address.scope}",
            "policy": _inline(block),
        }
        for role, block in roles.items()
    }
    return _json(
        {
            "terraform": {"required_providers": {"aws": {"source": "hashicorp/aws", "version": ">= 5.0"}}},
            "resource": blocks,
            "output": {f"{role}_policy": {"value": f"${{aws_iam_policy.{role}.arn}}"} for role in roles},
        }
    )


def _lifecycle(address: Address, options: RegistryOptions) -> list[Json]:
    return blueprint.lifecycle(address, options.cache_days or blueprint.CACHE_DAYS)


def _formation_rule(rule: Json) -> Json:
    """A lifecycle rule in CloudFormation's words."""
    converted = {"Id": rule["ID"]} | {key: value for key, value in rule.items() if key not in ("ID", "Filter", "Expiration")}
    ends = {"Days": "ExpirationInDays", "ExpiredObjectDeleteMarker": "ExpiredObjectDeleteMarker"}
    converted |= {ends[key]: value for key, value in rule["Expiration"].items()}
    return converted | ({"Prefix": rule["Filter"]["Prefix"]} if rule["Filter"]["Prefix"] else {})


def _terraform_rule(rule: Json) -> Json:
    """A lifecycle rule in Terraform's words."""
    converted: Json = {"id": rule["ID"], "status": rule["Status"]}
    return converted | {_snake(key): _snaked(value) for key, value in rule.items() if isinstance(value, dict)}


def _snaked(value: Json) -> Json:
    return {_snake(key): each for key, each in value.items()}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _inline(policy: Json) -> str:
    """A policy as Terraform's resources take it: text in which Terraform still replaces references."""
    return json.dumps(policy, separators=(",", ":"))


def _snake(name: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name).lstrip("_")


def _substituted(value: Any) -> Any:
    """The value, with every text that has `${...}` marked for CloudFormation to replace."""
    if isinstance(value, dict):
        return {key: _substituted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_substituted(each) for each in value]
    return {"Fn::Sub": value} if isinstance(value, str) and "${" in value else value
