"""The parts of a registry on AWS, and what each role may do with them. `setup` makes them and `templates` writes them down. Pure.

Each role has no more rights than its commands need. DynamoDB's condition `LeadingKeys` limits a role to partitions of the table:

    reader      list, show, history, pull, verify
    publisher   reader, and publish: writes blobs that are not there yet and rows of releases; no aliases, no policies
    promoter    reader, and promote, rollback, policy set and remove: no blobs, no releases; deletes policies and marks
    collector   reader, and gc: deletes releases and blobs (versions of the bucket keep blobs for some days more)

    cache_reader, cache_writer    read or write the shared cache below the same prefix, and nothing of the registry

No role may make or change the registry itself, write its settings, or replace damaged blobs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlpack.errors import RecipeError
from mlpack.registry.aws import live
from mlpack.registry.aws.clients import Address
from mlpack.registry.images import ecr
from mlpack.registry.images.images import open_images
from mlpack.registry.rows import rows

Json = dict[str, Any]

KEY_SCHEMA = (("pk", "HASH"), ("sk", "RANGE"))
"""Names and kinds of the table's two keys, both of them strings."""
UNFINISHED_DAYS = 7
"""Unfinished uploads in parts are removed after so many days."""
NONCURRENT_DAYS = 30
"""Deleted or replaced objects can be restored for so many days."""
TAGS = {"application": "mlpack-registry"}
PUBLIC_ACCESS = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
"""All of them are on."""
ROLES = ("reader", "publisher", "promoter", "collector")
CACHE_ROLES = ("cache_reader", "cache_writer")
CACHE = "cache/v1/"
"""The folder of a shared cache below the prefix: see `mlpack.store.shared_cache`."""
CACHE_DAYS = 30
"""Entries of a shared cache are removed after so many days, unless the team chooses another number."""

_KMS_KEY = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")
_TAG = re.compile(r"[\w .:/=+@-]{1,256}")
_POLICY_VERSION = "2012-10-17"
_TLS_SID = "MlpackTlsOnly"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions:
    """The settings of a registry that its team chooses."""

    kms_key: str | None = None
    """ARN of the KMS key that encrypts bytes and rows; None: S3's own keys, and AWS's key for DynamoDB in this account."""
    images: str | None = None
    """Where images go: `host/repository`. None: among the bytes."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of bucket and table, beside `TAGS`."""
    cache_days: int | None = None
    """Entries of the shared cache are removed after so many days. None: as many as are set already, else `CACHE_DAYS`."""

    def __post_init__(self) -> None:
        if self.kms_key is not None and not _KMS_KEY.fullmatch(self.kms_key):
            raise RecipeError(f"{self.kms_key!r} is not the ARN of a KMS key: arn:aws:kms:REGION:ACCOUNT:key/ID (no alias)")
        for key, value in self.tags.items():
            if not (_TAG.fullmatch(key) and _TAG.fullmatch(value or "-") and len(key) <= 128) or key.startswith("aws:"):
                raise RecipeError(f"{key}={value} is not a tag: letters, digits, spaces and any of + - = . _ : / @, not aws:...")
        if self.cache_days is not None and self.cache_days < 1:
            raise RecipeError(f"{self.cache_days} days: an entry of the shared cache is kept for one day at least")
        if self.images is not None:
            open_images(self.images, lambda _: None)  # RecipeError when it is no place for images

    @property
    def all_tags(self) -> dict[str, str]:
        """Every tag, by name."""
        return dict(sorted({**TAGS, **self.tags}.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Arns:
    """Bucket and table as a policy names them: by ARN, or by the expression of a template."""

    bucket: str
    table: str


def arns_of(address: Address) -> Arns:
    """The ARNs, as far as an address tells them. (Policies of an account cannot reach another account's table anyway.)"""
    partition = ecr.partition_of(address.region or "")
    table = f"arn:{partition}:dynamodb:{address.region or '*'}:*:table/{address.table}"
    return Arns(bucket=f"arn:{partition}:s3:::{address.bucket}", table=table)


def folder(address: Address) -> str:
    """The prefix of all object names of a registry."""
    return f"{address.prefix}/" if address.prefix else ""


def lifecycle_id(address: Address) -> str:
    """The name of the bucket's rule for this registry."""
    return f"mlpack {address.prefix}".strip()


def lifecycle(address: Address, cache_days: int) -> list[Json]:
    """The bucket's lifecycle rules for this registry, in the form of S3's API.

    The rule of the cache covers `CACHE` only, so that it can never remove blobs of another registry, which may be at
    PREFIX/cache.
    """
    everything = {
        "ID": lifecycle_id(address),
        "Filter": {"Prefix": folder(address)},
        "Status": "Enabled",
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UNFINISHED_DAYS},
        "NoncurrentVersionExpiration": {"NoncurrentDays": NONCURRENT_DAYS},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
    }
    cache = {
        "ID": cache_lifecycle_id(address),
        "Filter": {"Prefix": f"{folder(address)}{CACHE}"},
        "Status": "Enabled",
        # Entries of a cache can be made again, so old versions of them are not worth their space.
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
        "Expiration": {"Days": cache_days},
    }
    return [everything, cache]


def cache_lifecycle_id(address: Address) -> str:
    """The name of the bucket's rule for the shared cache below the same prefix."""
    return f"mlpack-cache {address.prefix}".strip()


def document(statements: list[Json]) -> Json:
    """A policy of these statements."""
    return {"Version": _POLICY_VERSION, "Statement": statements}


def tls_only(bucket_arn: str) -> Json:
    """The statement of the bucket's policy that refuses unencrypted connections."""
    return {
        "Sid": _TLS_SID,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [bucket_arn, f"{bucket_arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def role_policies(address: Address, arns: Arns, options: RegistryOptions) -> dict[str, Json]:
    """The policy of each of `ROLES` and `CACHE_ROLES`. RecipeError when the prefix has a wildcard, or is a cache's."""
    if "*" in address.prefix:
        raise RecipeError(f"{address}: a policy cannot name a prefix with * in it; choose another one")
    if f"/{CACHE}" in f"/{address.prefix}/":
        raise RecipeError(f"{address}: what is below {CACHE} is a shared cache's, which forgets its entries; choose another prefix")
    scope = _RegistryScope(address, arns, options)
    makers = (_reader, _publisher, _promoter, _collector, _cache_reader, _cache_writer)
    return {role: document(make(scope)) for role, make in zip((*ROLES, *CACHE_ROLES), makers, strict=True)}


@dataclass(frozen=True, slots=True)
class _RegistryScope:
    """The part of bucket and table that belongs to one registry."""

    address: Address
    arns: Arns
    options: RegistryOptions

    @property
    def blobs(self) -> str:
        return f"{self.arns.bucket}/{folder(self.address)}blobs/*"

    @property
    def cache(self) -> str:
        return f"{self.arns.bucket}/{folder(self.address)}{CACHE}*"

    def on_rows(self, sid: str, actions: list[str], *partitions: str, but: str | None = None) -> Json:
        """A statement for these actions on rows of these partitions, `*` standing for anything, except those that match `but`."""
        conditions: Json = {
            "ForAllValues:StringLike": {"dynamodb:LeadingKeys": [f"{self.address.scope}:{each}" for each in partitions]},
            # ForAllValues is true for an empty set, such as a scan's keys.
            "Null": {"dynamodb:LeadingKeys": "false"},
        }
        if but is not None:
            conditions["ForAllValues:StringNotLike"] = {"dynamodb:LeadingKeys": [f"{self.address.scope}:{but}"]}
        return _allow(sid, actions, self.arns.table, conditions)

    def on_images(self, sid: str, actions: tuple[str, ...]) -> list[Json]:
        """Statements for these actions on its images, and for signing in; none when images do not go to Amazon's registry."""
        if self.options.images is None:
            return []
        host, _, repository = self.options.images.rstrip("/").partition("/")
        account = ecr.of_host(host)
        if account is None:
            return []
        repositories = account.arn(f"{repository}/*" if repository else "*")
        return [_allow("SignIn", [ecr.SIGN_IN], "*"), _allow(sid, list(actions), repositories)]

    def with_key(self, *actions: str) -> list[Json]:
        return [_allow("Key", list(actions), self.options.kms_key)] if self.options.kms_key else []


def _reader(scope: _RegistryScope) -> list[Json]:
    return [*_reading(scope), *scope.on_images("PullImages", ecr.PULL), *scope.with_key(*_DECRYPT)]


def _publisher(scope: _RegistryScope) -> list[Json]:
    release = (rows.releases("*"), rows.heads("*"), rows.digests("*"))
    return [
        *_reading(scope),
        # What is there a publisher cannot replace: every upload must carry the condition with which S3 then refuses. The parts of
        # one carry none, and make no object yet. S3 user guide, "Enforce conditional writes".
        _allow("NewBlobs", ["s3:PutObject"], scope.blobs, {"Null": {"s3:if-none-match": "false"}}),
        _allow("Parts", ["s3:PutObject"], scope.blobs, {"Bool": {"s3:ObjectCreationOperation": "false"}}),
        _allow("Aborts", ["s3:AbortMultipartUpload"], scope.blobs),
        # An alias may be called `releases`: its partition would match, too.
        scope.on_rows("Releases", ["dynamodb:PutItem"], rows.NAMES, rows.PUBLISHING, *release, but=rows.moves("*", "*")),
        _marks(scope),
        *scope.on_images("PushImages", (*ecr.PUSH, *ecr.MAKE)),
        *scope.with_key(*_DECRYPT, *_ENCRYPT),
    ]


def _promoter(scope: _RegistryScope) -> list[Json]:
    partitions = (rows.moves("*", "*"), rows.aliases("*"), rows.FENCES, rows.POLICIES, rows.AUDIT, rows.PUBLISHING)
    return [
        *_reading(scope),
        scope.on_rows("Aliases", ["dynamodb:PutItem"], *partitions),
        _marks(scope),
        # A role that may empty a policy may as well remove it; the log records what it was.
        scope.on_rows("Policies", ["dynamodb:DeleteItem"], rows.POLICIES),
        *scope.on_images("PullImages", ecr.PULL),
        *scope.with_key(*_DECRYPT, *_ENCRYPT),
    ]


def _collector(scope: _RegistryScope) -> list[Json]:
    partitions, lease = (rows.releases("*"), rows.heads("*"), rows.digests("*"), rows.PUBLISHING), rows.LEASE.partition
    return [
        *_reading(scope),
        scope.on_rows("Collected", ["dynamodb:DeleteItem"], *partitions, lease, but=rows.moves("*", "*")),
        scope.on_rows("Lease", ["dynamodb:PutItem"], lease, rows.AUDIT, rows.FENCES),
        _allow("Bytes", ["s3:DeleteObject"], scope.blobs),
        _allow("InUse", list(live.ACTIONS), "*"),
        *scope.on_images("Images", (*ecr.PULL, ecr.DELETE)),
        *scope.with_key(*_DECRYPT, *_ENCRYPT),
    ]


def _cache_reader(scope: _RegistryScope) -> list[Json]:
    return [*_cache_reading(scope), *scope.with_key(*_DECRYPT)]


def _cache_writer(scope: _RegistryScope) -> list[Json]:
    # A reader that finds a damaged entry replaces it, so uploads cannot require the condition.
    puts = _allow("NewEntries", ["s3:PutObject"], scope.cache)
    return [*_cache_reading(scope), puts, *scope.with_key(*_DECRYPT, *_ENCRYPT)]


def _cache_reading(scope: _RegistryScope) -> list[Json]:
    return [_allow("Entries", ["s3:GetObject"], scope.cache), _missing(scope)]


def _reading(scope: _RegistryScope) -> list[Json]:
    return [
        scope.on_rows("Rows", ["dynamodb:GetItem", "dynamodb:Query"], "*"),
        _allow("Blobs", ["s3:GetObject"], scope.blobs),
        _missing(scope),
    ]


def _missing(scope: _RegistryScope) -> Json:
    """The right without which S3 calls a missing object forbidden. It must not depend on a prefix, since a request for an object
    has none."""
    return _allow("Missing", ["s3:ListBucket"], scope.arns.bucket)


def _marks(scope: _RegistryScope) -> Json:
    """The rows that protect what one is about to refer to from garbage collection."""
    return scope.on_rows("Marks", ["dynamodb:DeleteItem"], rows.PUBLISHING)


def _allow(sid: str, actions: list[str], resource: str | None, condition: Json | None = None) -> Json:
    statement: Json = {"Sid": sid, "Effect": "Allow", "Action": sorted(actions), "Resource": resource}
    return statement | ({"Condition": condition} if condition else {})


_DECRYPT = ("kms:Decrypt", "kms:DescribeKey")
_ENCRYPT = ("kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*")
"""DynamoDB uses these rights in the name of the writer. DynamoDB developer guide, "Encryption at rest: usage notes"."""
