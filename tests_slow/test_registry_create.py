"""Making a registry on AWS: every setting as AWS says it afterwards, nothing done twice, and what is refused."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.registry.builds import build
from tests.support.services.aws_server import REGION, AwsServer

from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import SCHEMA, Put
from mlpack.registry.aws.opening import parse
from mlpack.registry.infrastructure import blueprint, setup
from mlpack.registry.infrastructure.blueprint import RegistryOptions
from mlpack.registry.places import open_registry
from mlpack.registry.rows import rows
from mlpack.store import conditional

URL = "s3://models/team?table=mlpack-registry"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/0d1c2b3a"
MADE = [
    "make the bucket models in eu-central-1",
    "bucket models: keep old versions",
    "bucket models: block public access",
    "bucket models: own every object",
    "bucket models: encrypt with the keys of S3",
    "bucket models: end unfinished uploads after 7 days, old versions after 30, old entries of the shared cache",
    "bucket models: set tags",
    "make the table mlpack-registry in eu-central-1",
    "table mlpack-registry: keep backups of every moment",
    f"write the registry's format ({SCHEMA})",
]

PASSED_OVER = "table mlpack-registry: encrypt with the account's key for DynamoDB"
"""moto knows the encryption of a table that is made, and passes over that of one that is changed."""


def _bucket(s3: Any, name: str = "models") -> dict[str, Any]:
    """Everything that AWS says of a bucket."""
    said = {
        "versions": s3.get_bucket_versioning(Bucket=name).get("Status"),
        "public": s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"],
        "ownership": s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"],
        "encryption": s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"],
        "lifecycle": s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"],
        "tags": s3.get_bucket_tagging(Bucket=name)["TagSet"],
    }
    return {**said, "region": s3.get_bucket_location(Bucket=name)["LocationConstraint"]}


def _table(dynamodb: Any, name: str = "mlpack-registry") -> dict[str, Any]:
    """Everything that AWS says of a table, but for numbers and times."""
    found = dynamodb.describe_table(TableName=name)["Table"]
    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    kept = ("KeySchema", "AttributeDefinitions", "BillingModeSummary", "DeletionProtectionEnabled", "TableStatus", "SSEDescription")
    return {key: found.get(key) for key in kept} | {
        "backups": backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
        "tags": dynamodb.list_tags_of_resource(ResourceArn=found["TableArn"])["Tags"],
    }


def test_every_setting_is_there_and_second_time_changes_nothing(aws: AwsServer) -> None:
    told: list[str] = []
    assert setup.create(URL, say=told.append) == told == MADE
    s3, dynamodb = aws.client("s3"), aws.client("dynamodb")
    bucket, table = _bucket(s3), _table(dynamodb)
    assert bucket == {
        "versions": "Enabled",
        "public": dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True),
        "ownership": [{"ObjectOwnership": "BucketOwnerEnforced"}],
        "encryption": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}],
        "lifecycle": [
            {
                "ID": "mlpack team",
                "Filter": {"Prefix": "team/"},
                "Status": "Enabled",
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
                "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
                "Expiration": {"ExpiredObjectDeleteMarker": True},
            },
            {
                "ID": "mlpack-cache team",
                "Filter": {"Prefix": "team/cache/v1/"},
                "Status": "Enabled",
                "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
                "Expiration": {"Days": 30},
            },
        ],
        "tags": [{"Key": "application", "Value": "mlpack-registry"}],
        "region": REGION,
    }
    assert table["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
    assert table["AttributeDefinitions"] == [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")]
    assert table["BillingModeSummary"] == {"BillingMode": "PAY_PER_REQUEST"}
    assert (table["DeletionProtectionEnabled"], table["TableStatus"], table["backups"]) == (True, "ACTIVE", "ENABLED")
    assert (table["SSEDescription"]["Status"], table["SSEDescription"]["SSEType"]) == ("ENABLED", "KMS")
    assert table["tags"] == [{"Key": "application", "Value": "mlpack-registry"}]
    row = open_registry(URL).place.table.get(rows.SCHEMA_KEY)
    assert row is not None
    assert row.head == {"version": SCHEMA}

    aws.clear_log()
    assert setup.create(URL) == []
    changed = [one for one in aws.log() if not one.operation.startswith(("Get", "Head", "Describe", "List", "Query"))]
    # But for what bucket and table are asked, since this is not Amazon's own: of the table all is refused but one row.
    changed = [one for one in changed if not one.path.endswith(conditional.NAME)]
    assert [one.operation for one in changed] == ["PutItem", "PutItem", "PutItem", "DeleteItem", "TransactWriteItems"]
    assert [one.status for one in changed] == [200, 400, 400, 400, 400]
    assert (_bucket(s3), _table(dynamodb)) == (bucket, table)


def test_a_made_registry_works(aws: AwsServer, tmp_path: Path) -> None:
    setup.create(URL)
    registry = open_registry(URL)
    release = registry.publish(build(tmp_path / "out"))
    registry.pull(registry.show(rows.parse_reference("minilm")), tmp_path / "pulled")
    assert release.version == 1
    registry.place.table.close()


def test_a_dry_run_changes_nothing(aws: AwsServer) -> None:
    assert setup.create(URL, dry_run=True) == MADE
    assert aws.client("s3").list_buckets()["Buckets"] == []
    assert aws.client("dynamodb").list_tables()["TableNames"] == []
    setup.create(URL)
    wanted = RegistryOptions(images="ghcr.io/team", tags={"team": "search"})
    more = ["bucket models: set tags", "table mlpack-registry: set tags", "send images to ghcr.io/team"]
    assert setup.create(URL, dry_run=True, options=wanted) == more
    assert setup.create(URL, dry_run=True) == []
    assert setup.create(URL, options=wanted) == more


def test_only_what_differs_is_changed_others_things_stay(aws: AwsServer) -> None:
    setup.create(URL)
    s3, dynamodb = aws.client("s3"), aws.client("dynamodb")
    bucket = _bucket(s3)
    theirs = {"ID": "theirs", "Filter": {"Prefix": "logs/"}, "Status": "Enabled", "Expiration": {"Days": 9}}
    s3.put_bucket_lifecycle_configuration(Bucket="models", LifecycleConfiguration={"Rules": [theirs]})
    s3.put_bucket_tagging(Bucket="models", Tagging={"TagSet": [{"Key": "cost", "Value": "42"}]})
    s3.put_bucket_versioning(Bucket="models", VersioningConfiguration={"Status": "Suspended"})
    public = dict.fromkeys(blueprint.PUBLIC_ACCESS, True) | {"BlockPublicPolicy": False}
    s3.put_public_access_block(Bucket="models", PublicAccessBlockConfiguration=public)
    dynamodb.update_table(TableName="mlpack-registry", DeletionProtectionEnabled=False)
    assert setup.create(URL) == [
        "bucket models: keep old versions",
        "bucket models: block public access",
        "bucket models: end unfinished uploads after 7 days, old versions after 30, old entries of the shared cache",
        "bucket models: set tags",
        "table mlpack-registry: protect it from deletion",
    ]
    tags = sorted([{"Key": "cost", "Value": "42"}, *bucket["tags"]], key=lambda tag: tag["Key"])
    found = _bucket(s3)
    found["tags"].sort(key=lambda tag: tag["Key"])
    assert found == {**bucket, "lifecycle": [theirs, *bucket["lifecycle"]], "tags": tags}
    assert setup.create(URL) == []


def test_a_bare_bucket_and_table_are_completed(aws: AwsServer) -> None:
    aws.make_place()
    said = [
        *MADE[1:7],
        "table mlpack-registry: protect it from deletion",
        PASSED_OVER,
        "table mlpack-registry: set tags",
        *MADE[8:],
    ]
    assert setup.create(URL) == said
    assert setup.create(URL) == [PASSED_OVER]


def test_a_provisioned_table_pays_per_request_afterwards(aws: AwsServer) -> None:
    aws.client("dynamodb").create_table(
        TableName="mlpack-registry",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
    )
    assert "table mlpack-registry: pay per request" in setup.create(URL)
    assert setup.create(URL) == [PASSED_OVER]


def test_a_key_of_the_teams_encrypts_both_and_is_not_taken_away(aws: AwsServer) -> None:
    wanted = RegistryOptions(kms_key=KEY)
    assert f"bucket models: encrypt with {KEY}" in setup.create(URL, options=wanted)
    (rule,) = _bucket(aws.client("s3"))["encryption"]
    assert rule == {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY},
        "BucketKeyEnabled": True,
    }
    assert _table(aws.client("dynamodb"))["SSEDescription"]["KMSMasterKeyArn"] == KEY
    assert setup.create(URL, options=wanted) == []
    assert setup.create(URL) == []


def test_where_images_go_is_written_down_and_moved(aws: AwsServer) -> None:
    for prefix in ("ghcr.io/team", "ghcr.io/other"):
        assert setup.create(URL, options=RegistryOptions(images=prefix))[-1] == f"send images to {prefix}"
        assert setup.create(URL, options=RegistryOptions(images=prefix)) == []
        row = open_registry(URL).place.table.get(rows.IMAGES_KEY)
        assert row is not None
        assert row.head == {"prefix": prefix}
    assert setup.create(URL) == []


def test_a_shared_cache_keeps_its_entries_as_long_as_it_is_said(aws: AwsServer) -> None:
    def days() -> dict[str, Any]:
        return {rule["ID"]: rule["Expiration"].get("Days") for rule in _bucket(aws.client("s3"))["lifecycle"]}

    setup.create(URL, options=RegistryOptions(cache_days=90))
    said = "bucket models: end unfinished uploads after 7 days, old versions after 30, old entries of the shared cache"
    assert days() == {"mlpack team": None, "mlpack-cache team": 90}
    assert setup.create(URL) == []  # as long as before
    assert setup.create(URL, options=RegistryOptions(cache_days=7)) == [f"{said} after 7"]
    other = "s3://models?table=mlpack-registry"
    assert setup.create(other)[0] == said
    assert days() == {"mlpack team": None, "mlpack-cache team": 7, "mlpack": None, "mlpack-cache": 30}
    with pytest.raises(RecipeError, match="one day at least"):
        RegistryOptions(cache_days=0)


@pytest.mark.parametrize("prefix", ["cache/v1", "team/cache/v1", "team/cache/v1/models"])
def test_no_registry_is_made_where_entries_of_a_cache_end(aws: AwsServer, prefix: str) -> None:
    with pytest.raises(RecipeError, match="forgets its entries"):
        setup.create(f"s3://models/{prefix}?table=mlpack-registry")
    assert aws.client("s3").list_buckets()["Buckets"] == []


def test_the_rule_of_a_cache_takes_nothing_of_another_registry() -> None:
    """A registry may be at PREFIX/cache."""
    nested = parse("s3://models/team/cache?table=mlpack-registry")
    rules = blueprint.lifecycle(parse(URL), 30)
    blobs = f"{blueprint.folder(nested)}blobs/"
    ending = [rule["Filter"]["Prefix"] for rule in rules if "Days" in rule["Expiration"]]
    assert ending == ["team/cache/v1/"]
    assert not [prefix for prefix in ending if blobs.startswith(prefix)]


def test_two_registries_share_bucket_and_table(aws: AwsServer) -> None:
    setup.create(URL)
    other = "s3://models/other?table=mlpack-registry"
    assert setup.create(other) == [MADE[5], MADE[9]]
    assert setup.create(URL) == setup.create(other) == []


def test_the_region_is_the_addresses_or_the_one_given(aws: AwsServer) -> None:
    assert setup.create(URL, "us-east-1")[0] == "make the bucket models in us-east-1"
    assert setup.create(f"{URL}&region=us-east-1") == []
    with pytest.raises(RecipeError, match=r"the bucket models is in us-east-1, not in eu-central-1: write ...&region=us-east-1"):
        setup.create(URL)
    with pytest.raises(RecipeError, match="say one of them"):
        setup.create(f"{URL}&region=us-east-1", "eu-central-1")
    with pytest.raises(RecipeError, match="does not begin with s3"):
        setup.create("models")


def test_table_with_other_keys_is_refused_before_any_change(aws: AwsServer) -> None:
    aws.client("dynamodb").create_table(
        TableName="mlpack-registry",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "N"}],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(RecipeError, match=r"has the keys pk \(HASH, N\), and a registry's are pk \(HASH, S\), sk \(RANGE, S\)"):
        setup.create(URL)
    assert aws.client("s3").list_buckets()["Buckets"] == []


def test_a_registry_of_a_newer_mlpack_is_left_alone(aws: AwsServer) -> None:
    setup.create(URL)
    table = open_registry(URL).place.table
    table.commit(Put(key=rows.SCHEMA_KEY, head={"version": SCHEMA + 1}, expect=1))
    with pytest.raises(ServiceError, match="written by a newer mlpack"):
        setup.create(URL)
    table.close()


def test_missing_permission_names_the_line_that_allows_it(aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    iam = aws.client("iam")
    iam.create_user(UserName="nobody")
    statement = {"Effect": "Allow", "Action": ["dynamodb:*", "s3:HeadBucket", "s3:CreateBucket"], "Resource": "*"}
    iam.put_user_policy(UserName="nobody", PolicyName="few", PolicyDocument=json.dumps(blueprint.document([statement])))
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    aws.enforce_iam()
    with pytest.raises(ServiceError, match=r'"Action": "s3:PutObject", "Resource": "arn:aws:s3:::models/team/blobs/!conditional-'):
        setup.create(URL)
    monkeypatch.setattr(conditional, "_AMAZON", ("127.0.0.1",))  # whose own needs no right to anything but the settings
    with pytest.raises(ServiceError, match=r'"Action": "s3:GetBucketVersioning", "Resource": "arn:aws:s3:::models"'):
        setup.create(URL)


# --- over TLS, and in a world with others -----------------------------------------------------------------------------


@dataclasses.dataclass
class Secure:
    """moto that speaks TLS, and lets nobody see the buckets of other accounts."""

    port: int
    certificate: Path

    def client(self, service: str, **credentials: Any) -> Any:
        import boto3

        return boto3.session.Session().client(service, **credentials)

    def of_another_account(self) -> dict[str, str]:
        """What makes a client one of another account."""
        arn = "arn:aws:iam::210987654321:role/other"
        role = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="other")["Credentials"]
        return {
            "aws_access_key_id": role["AccessKeyId"],
            "aws_secret_access_key": role["SecretAccessKey"],
            "aws_session_token": role["SessionToken"],
        }


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws: AwsServer) -> Iterator[Secure]:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    _certify(certificate, key)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(
        [*command, "-s", "-c", str(certificate), "-k", str(key)],
        env={"MOTO_S3_ALLOW_CROSSACCOUNT_ACCESS": "false", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    # Not to be asked what it keeps: moto looks at no conditions, and once the bucket has its policy, denies every upload.
    monkeypatch.setattr(conditional, "_AMAZON", ("127.0.0.1",))
    trusted = ssl.create_default_context(cafile=str(certificate))
    for _ in range(1200):
        try:
            urllib.request.urlopen(f"https://127.0.0.1:{port}/moto-api/data.json", timeout=5, context=trusted).close()
            break
        except OSError:
            time.sleep(0.05)
    else:
        pytest.fail("moto did not come up within 60 s")
    yield Secure(port, certificate)
    process.kill()
    process.wait()


def _certify(certificate: Path, key: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=private.public_key(), serial_number=1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))


def test_the_bucket_refuses_whoever_comes_without_tls(secure: Secure) -> None:
    said = "bucket models: refuse unencrypted connections"
    assert setup.create(URL) == [*MADE[:5], said, *MADE[5:]]
    s3 = secure.client("s3")
    policy = json.loads(s3.get_bucket_policy(Bucket="models")["Policy"])
    assert policy["Statement"] == [blueprint.tls_only("arn:aws:s3:::models")]
    theirs = {"Sid": "Theirs", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::models/*"}
    ours = {**policy["Statement"][0], "Action": "s3:PutObject"}
    s3.put_bucket_policy(Bucket="models", Policy=json.dumps(blueprint.document([theirs, ours])))
    assert setup.create(URL) == [said]
    mended = json.loads(s3.get_bucket_policy(Bucket="models")["Policy"])
    assert mended["Statement"] == [theirs, policy["Statement"][0]]
    assert setup.create(URL) == []


def test_bucket_of_somebody_else_is_refused_before_any_change(secure: Secure) -> None:
    where = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
    secure.client("s3", **secure.of_another_account()).create_bucket(Bucket="models", **where)
    with pytest.raises(ServiceError, match=r"the bucket models belongs to somebody else than this account \(123456789012\)"):
        setup.create(URL)
    with pytest.raises(ClientError):
        secure.client("dynamodb").describe_table(TableName="mlpack-registry")
