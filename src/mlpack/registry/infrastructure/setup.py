"""Makes a registry on AWS: its bucket, its table, and the row that holds its format.

Promises:
- A second run changes nothing. A run reads every setting, changes only those that differ, and reports each change.
- Rules, statements and tags of others stay.
- It never weakens a setting: a bucket or table that is encrypted with the team's key stays so when no key is given.
- It refuses, before the first change, a bucket of somebody else's or in another region, and a table with other keys.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any

from botocore.exceptions import ClientError, WaiterError

from mlpack.core import retry
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import settings
from mlpack.registry.aws import opening, promises
from mlpack.registry.aws.clients import Address, Clients, Timeouts
from mlpack.registry.aws.refusals import AwsCall, code, explained
from mlpack.registry.infrastructure import blueprint
from mlpack.registry.infrastructure.blueprint import Json, RegistryOptions
from mlpack.registry.releases.releases import Registry
from mlpack.registry.settings import Say, SettingChange

_BACKUPS_TRIES, _BACKUPS_PAUSE_S = 60, 2.0
"""A new table refuses point-in-time recovery for some seconds."""
_TABLE_POLLS, _TABLE_PAUSE_S = 300, 2
_NO_BUCKET = {"NoSuchBucket"}
_NO_TABLE = {"ResourceNotFoundException"}


def create(
    url: str,
    region: str | None = None,
    dry_run: bool = False,
    say: Say = lambda _: None,
    options: RegistryOptions | None = None,
) -> list[str]:
    """Make what the registry at `url` lacks. Returns each change in words ("make the bucket models"), none when it is complete.

    `region`: used when the address has none. `dry_run`: only report the changes. `say` is called with each change before it is
    made. RecipeError: the address is invalid, or what exists cannot be used. ServiceError: AWS refuses; the changes so far stay,
    and a second run continues.
    """
    address = opening.parse(url)
    if region is not None and address.region not in (None, region):
        raise RecipeError(f"{url} is in {address.region}, and {region} was asked for: say one of them")
    address = dataclasses.replace(address, region=address.region or region)
    options = options or RegistryOptions()
    blueprint.role_policies(address, blueprint.arns_of(address), options)  # raises RecipeError for a prefix that no policy can name
    clients = Clients(address, Timeouts())
    done: list[str] = []
    try:
        table, bucket, place = (
            _Table(clients, address, options),
            _Bucket(clients, address, options),
            opening.place_of(clients, address),
        )
        described, there = table.look(), bucket.look()  # raises for what cannot be used, before the first change
        # A dry run writes nothing, so it cannot run the tests.
        ask_bucket, ask_table = (partial(promises.refuse_any, () if dry_run else (doubt,)) for doubt in place.doubts)
        if there:
            ask_bucket()
        if described is not None:
            ask_table()
        for step in chain(
            bucket.steps(there=there, create=ask_bucket),
            table.steps(described, create=ask_table),
            settings.missing(Registry(place), options.images, blind=dry_run and described is None),
        ):  # each looks only when those before it are done
            done.append(step.description)
            say(step.description)
            if not dry_run:
                step.make()
    finally:
        clients.close()
    return done


def _code_of(error: ServiceError) -> str:
    """The error code that AWS sent; "" when it gave no answer."""
    return code(error.__cause__) if isinstance(error.__cause__, ClientError) else ""


def _until_backups_can_be(error: Exception, _: int) -> float | None:
    """A table that was made a moment ago has none yet: see `retry.call`."""
    early = isinstance(error, ServiceError) and _code_of(error) == "ContinuousBackupsUnavailableException"
    return _BACKUPS_PAUSE_S if early else None


class _Half(ABC):
    """What bucket and table have in common."""

    def __init__(self, clients: Clients, address: Address, options: RegistryOptions) -> None:
        self._clients = clients
        self._address = address
        self._options = options

    @property
    def _region(self) -> str:
        return str(self._clients.get("dynamodb").meta.region_name)

    def _look(self, service: str, action: str, absent: set[str], **arguments: Any) -> Json | None:
        """AWS's answer; None when it is one of these error codes. `action`: as policies name it, and boto3's method."""
        permission, method = action.split(" ")
        client = self._clients.get(service)
        with explained(self._call(f"{service}:{permission}")):
            try:
                answer: Json = getattr(client, method)(**arguments)
            except ClientError as error:
                if code(error) in absent:
                    return None
                raise
        return answer

    def _change(self, service: str, action: str, **arguments: Any) -> None:
        """As `_look`, for a change."""
        self._look(service, action, set(), **arguments)

    def _call(self, action: str) -> AwsCall:
        return AwsCall(where=str(self._address), action=action, resource=self._arn)

    @property
    @abstractmethod
    def _arn(self) -> str:
        """The ARN for policies."""


class _Bucket(_Half):
    """The bucket, which holds the blobs."""

    @property
    def _arn(self) -> str:
        return f"arn:{self._clients.partition}:s3:::{self._address.bucket}"

    @property
    def _at(self) -> dict[str, str]:
        return {"Bucket": self._address.bucket}

    def look(self) -> bool:
        """Whether the bucket exists. ServiceError when it is somebody else's, RecipeError when it is in another region."""
        with explained(AwsCall(where=str(self._address), action="sts:GetCallerIdentity", resource="*")):
            account = self._clients.get("sts").get_caller_identity()["Account"]
        try:
            answer = self._look("s3", "ListBucket head_bucket", {"404", "NoSuchBucket"}, **self._at, ExpectedBucketOwner=account)
        except ServiceError as error:
            if _code_of(error) not in ("403", "AccessDenied"):
                raise
            raise ServiceError(
                f"{self._address}: the bucket {self._address.bucket} belongs to somebody else than this account ({account}), which "
                f"means that the name is taken; if it is yours, permission is missing: {error}"
            ) from error
        if answer is None:
            return False
        if (region := answer.get("BucketRegion", self._region)) != self._region:
            raise RecipeError(
                f"{self._address}: the bucket {self._address.bucket} is in {region}, not in {self._region}: "
                f"write ...&region={region}, or choose another bucket"
            )
        return True

    def steps(self, *, there: bool, create: Callable[[], None]) -> Iterator[SettingChange]:
        """The changes that are needed. A missing bucket needs all of them. `create` is called once it was made."""
        if not there:
            yield SettingChange(f"make the bucket {self._address.bucket} in {self._region}", self._make)
            create()
        ends = f"end unfinished uploads after {blueprint.UNFINISHED_DAYS} days, old versions after {blueprint.NONCURRENT_DAYS}, "
        ends += "old entries of the shared cache" + (f" after {self._options.cache_days}" if self._options.cache_days else "")
        for text, step in (
            ("keep old versions", self._versioning),
            ("block public access", self._public_access),
            ("own every object", self._ownership),
            (f"encrypt with {self._options.kms_key or 'the keys of S3'}", self._encryption),
            ("refuse unencrypted connections", self._policy),
            (ends, self._ends),
            ("set tags", self._tags),
        ):
            if (make := step()) is not None:
                yield SettingChange(f"bucket {self._address.bucket}: {text}", make)

    def _make(self) -> None:
        where = {} if self._region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": self._region}}
        try:
            self._change("s3", "CreateBucket create_bucket", **self._at, **where)
        except ServiceError as error:
            if _code_of(error) == "BucketAlreadyExists":
                raise RecipeError(f"the bucket {self._address.bucket} belongs to somebody else: choose another name") from error
            if _code_of(error) != "BucketAlreadyOwnedByYou":  # made at this moment
                raise

    def _versioning(self) -> Callable[[], object] | None:
        current = self._look("s3", "GetBucketVersioning get_bucket_versioning", _NO_BUCKET, **self._at) or {}
        if current.get("Status") == "Enabled":
            return None
        on = {"VersioningConfiguration": {"Status": "Enabled"}}
        return partial(self._change, "s3", "PutBucketVersioning put_bucket_versioning", **self._at, **on)

    def _public_access(self) -> Callable[[], object] | None:
        absent, on = {"NoSuchPublicAccessBlockConfiguration", *_NO_BUCKET}, dict.fromkeys(blueprint.PUBLIC_ACCESS, True)
        current = self._look("s3", "GetBucketPublicAccessBlock get_public_access_block", absent, **self._at) or {}
        if current.get("PublicAccessBlockConfiguration") == on:
            return None
        put = "PutBucketPublicAccessBlock put_public_access_block"
        return partial(self._change, "s3", put, **self._at, PublicAccessBlockConfiguration=on)

    def _ownership(self) -> Callable[[], object] | None:
        absent = {"OwnershipControlsNotFoundError", *_NO_BUCKET}
        current = self._look("s3", "GetBucketOwnershipControls get_bucket_ownership_controls", absent, **self._at) or {}
        rules = [{"ObjectOwnership": "BucketOwnerEnforced"}]
        if current.get("OwnershipControls", {}).get("Rules") == rules:
            return None
        put = "PutBucketOwnershipControls put_bucket_ownership_controls"
        return partial(self._change, "s3", put, **self._at, OwnershipControls={"Rules": rules})

    def _encryption(self) -> Callable[[], object] | None:
        absent, key = {"ServerSideEncryptionConfigurationNotFoundError", *_NO_BUCKET}, self._options.kms_key
        answer = self._look("s3", "GetEncryptionConfiguration get_bucket_encryption", absent, **self._at) or {}
        rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules") or [{}]
        current = rules[0].get("ApplyServerSideEncryptionByDefault", {})
        if current if key is None else current.get("KMSMasterKeyID") == key and rules[0].get("BucketKeyEnabled"):
            return None
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key} if key else {"SSEAlgorithm": "AES256"}
        rule = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": key is not None}
        put = "PutEncryptionConfiguration put_bucket_encryption"
        return partial(self._change, "s3", put, **self._at, ServerSideEncryptionConfiguration={"Rules": [rule]})

    def _policy(self) -> Callable[[], object] | None:
        if str(self._clients.get("s3").meta.endpoint_url).startswith("http://"):
            return None  # an emulator, or a store within a closed network: the policy would shut everybody out
        answer = self._look("s3", "GetBucketPolicy get_bucket_policy", {"NoSuchBucketPolicy", *_NO_BUCKET}, **self._at) or {}
        try:
            statements: list[Json] = list(json.loads(answer["Policy"])["Statement"]) if "Policy" in answer else []
        except (ValueError, KeyError, TypeError) as error:  # a store was seen that lists the bucket instead
            raise ServiceError(f"{self._address}: the store answers GetBucketPolicy with something that is no policy") from error
        ours = blueprint.tls_only(self._arn)
        if ours in statements:
            return None
        others = [each for each in statements if each.get("Sid") != ours["Sid"]]
        text = json.dumps(blueprint.document([*others, ours]))
        return partial(self._change, "s3", "PutBucketPolicy put_bucket_policy", **self._at, Policy=text)

    def _ends(self) -> Callable[[], object] | None:
        absent = {"NoSuchLifecycleConfiguration", *_NO_BUCKET}
        answer = self._look("s3", "GetLifecycleConfiguration get_bucket_lifecycle_configuration", absent, **self._at) or {}
        rules = [_filtered(each) for each in answer.get("Rules", ())]
        cache = next((each for each in rules if each.get("ID") == blueprint.cache_lifecycle_id(self._address)), {})
        days = self._options.cache_days or cache.get("Expiration", {}).get("Days", blueprint.CACHE_DAYS)
        ours = blueprint.lifecycle(self._address, days)
        if all(rule in rules for rule in ours):
            return None
        others = [each for each in rules if each.get("ID") not in {rule["ID"] for rule in ours}]
        size = {key: answer[key] for key in ("TransitionDefaultMinimumObjectSize",) if key in answer}
        put = "PutLifecycleConfiguration put_bucket_lifecycle_configuration"
        return partial(self._change, "s3", put, **self._at, **size, LifecycleConfiguration={"Rules": [*others, *ours]})

    def _tags(self) -> Callable[[], object] | None:
        answer = self._look("s3", "GetBucketTagging get_bucket_tagging", {"NoSuchTagSet", *_NO_BUCKET}, **self._at) or {}
        current = {each["Key"]: each["Value"] for each in answer.get("TagSet", ())}
        if self._options.all_tags.items() <= current.items():
            return None
        tags = [{"Key": key, "Value": value} for key, value in {**current, **self._options.all_tags}.items()]
        return partial(self._change, "s3", "PutBucketTagging put_bucket_tagging", **self._at, Tagging={"TagSet": tags})


def _filtered(rule: Json) -> Json:
    """A rule in the newer of two forms, which S3 does not accept together."""
    if rule.get("Filter"):
        return rule
    return {key: value for key, value in rule.items() if key != "Prefix"} | {"Filter": {"Prefix": rule.get("Prefix", "")}}


class _Table(_Half):
    """The table, which holds the rows."""

    @property
    def _arn(self) -> str:
        return f"arn:{self._clients.partition}:dynamodb:{self._region}:*:table/{self._address.table}"

    @property
    def _at(self) -> dict[str, str]:
        return {"TableName": self._address.table}

    def look(self) -> Json | None:
        """The description of the table; None when it does not exist. RecipeError when it has other keys than a registry's."""
        answer = self._look("dynamodb", "DescribeTable describe_table", _NO_TABLE, **self._at)
        if answer is None:
            return None
        description: Json = answer["Table"]
        kinds = {each["AttributeName"]: each["AttributeType"] for each in description["AttributeDefinitions"]}
        keys = tuple((each["AttributeName"], each["KeyType"], kinds[each["AttributeName"]]) for each in description["KeySchema"])
        if keys != tuple((name, kind, "S") for name, kind in blueprint.KEY_SCHEMA):
            text = ", ".join(f"{name} ({kind}, {type_})" for name, kind, type_ in keys)
            raise RecipeError(
                f"{self._address}: the table {self._address.table} has the keys {text}, and a registry's are "
                f"{', '.join(f'{name} ({kind}, S)' for name, kind in blueprint.KEY_SCHEMA)}: choose another table"
            )
        return description

    def steps(self, description: Json | None, create: Callable[[], None]) -> Iterator[SettingChange]:
        """The changes that are needed. `create` is called once the table was made."""
        table = f"table {self._address.table}"
        if description is None:
            yield SettingChange(f"make the {table} in {self._region}", self._make)
            create()
        else:
            if description.get("BillingModeSummary", {}).get("BillingMode") != "PAY_PER_REQUEST":
                yield SettingChange(f"{table}: pay per request", partial(self._update, BillingMode="PAY_PER_REQUEST"))
            if not description.get("DeletionProtectionEnabled"):
                yield SettingChange(f"{table}: protect it from deletion", partial(self._update, DeletionProtectionEnabled=True))
            if not self._is_encrypted(description.get("SSEDescription", {})):
                by = self._options.kms_key or "the account's key for DynamoDB"
                yield SettingChange(f"{table}: encrypt with {by}", partial(self._update, SSESpecification=self._encryption))
            if (make := self._tags(description["TableArn"])) is not None:
                yield SettingChange(f"{table}: set tags", make)
        absent = {"TableNotFoundException", *_NO_TABLE}
        answer = self._look("dynamodb", "DescribeContinuousBackups describe_continuous_backups", absent, **self._at) or {}
        backups = answer.get("ContinuousBackupsDescription", {}).get("PointInTimeRecoveryDescription", {})
        if backups.get("PointInTimeRecoveryStatus") != "ENABLED":
            yield SettingChange(f"{table}: keep backups of every moment", self._back_up)

    @property
    def _encryption(self) -> Json:
        key = self._options.kms_key
        return {"Enabled": True, "SSEType": "KMS", **({"KMSMasterKeyId": key} if key else {})}

    def _is_encrypted(self, description: Json) -> bool:
        on = description.get("Status") in ("ENABLED", "ENABLING", "UPDATING")
        return on and self._options.kms_key in (None, description.get("KMSMasterKeyArn"))

    def _make(self) -> None:
        self._change(
            "dynamodb",
            "CreateTable create_table",
            **self._at,
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in blueprint.KEY_SCHEMA],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in blueprint.KEY_SCHEMA],
            BillingMode="PAY_PER_REQUEST",
            DeletionProtectionEnabled=True,
            SSESpecification=self._encryption,
            Tags=[{"Key": key, "Value": value} for key, value in self._options.all_tags.items()],
        )
        self._wait()

    def _update(self, **setting: Any) -> None:
        """Change one setting at a time, as DynamoDB requires."""
        self._wait()
        self._change("dynamodb", "UpdateTable update_table", **self._at, **setting)
        self._wait()

    def _tags(self, arn: str) -> Callable[[], object] | None:
        answer = self._look("dynamodb", "ListTagsOfResource list_tags_of_resource", set(), ResourceArn=arn) or {}
        current = {each["Key"]: each["Value"] for each in answer.get("Tags", ())}
        missing = self._options.all_tags.items() - current.items()
        if not missing:
            return None
        tags = [{"Key": key, "Value": value} for key, value in sorted(missing)]
        return partial(self._change, "dynamodb", "TagResource tag_resource", ResourceArn=arn, Tags=tags)

    def _back_up(self) -> None:
        on = {"PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True}}
        retry.call(
            partial(self._change, "dynamodb", "UpdateContinuousBackups update_continuous_backups", **self._at, **on),
            _BACKUPS_TRIES,
            _until_backups_can_be,
        )

    def _wait(self) -> None:
        """Wait until the table is active."""
        waiter = self._clients.get("dynamodb").get_waiter("table_exists")
        with explained(self._call("dynamodb:DescribeTable")):
            try:
                waiter.wait(**self._at, WaiterConfig={"Delay": _TABLE_PAUSE_S, "MaxAttempts": _TABLE_POLLS})
            except WaiterError as error:
                raise ServiceError(
                    f"{self._address}: the table {self._address.table} is not ready yet ({error}): run it again", retryable=True
                ) from error
