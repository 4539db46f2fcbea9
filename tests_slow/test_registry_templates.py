"""Templates and policies: what other tools think of them, and that each role can do its verbs and no other's."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session
from tests.support.registry.builds import build
from tests.support.services.aws_server import AwsServer
from tests.support.services.iam import Guard, Json, Request, allows, for_moto

from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import SCHEMA, Key, Put
from mlpack.registry.aliases import policies
from mlpack.registry.aliases.aliases import MoveRequest, promote, rollback
from mlpack.registry.aliases.policies import Policy as AliasPolicy
from mlpack.registry.aws.ranged import PART_BYTES
from mlpack.registry.infrastructure import setup, templates
from mlpack.registry.infrastructure.blueprint import CACHE_ROLES, ROLES, RegistryOptions
from mlpack.registry.places import open_registry
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import rows
from mlpack.registry.rows.rows import Reference
from mlpack.registry.upkeep.care import verify
from mlpack.registry.upkeep.collection import RetentionPolicy, collect
from mlpack.store import conditional, shared_objects

URL = "s3://models/team?table=mlpack-registry"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/0d1c2b3a"
HOST = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
EVERYTHING = RegistryOptions(kms_key=KEY, images=f"{HOST}/models", tags={"team": "search"})
DAY = 24 * 3600


# --- as text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [RegistryOptions(), EVERYTHING])
@pytest.mark.parametrize("url", [URL, "s3://models?table=mlpack-registry&region=eu-central-1"])
def test_cloudformation_is_what_its_linter_takes(url: str, wanted: RegistryOptions, tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    path.write_text(templates.cloudformation(url, wanted))
    program = "import sys; from cfnlint.runner import main; sys.exit(main())"
    command = [sys.executable, "-W", "ignore", "-c", program, "--regions", "eu-central-1", "--template", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_cloudformation_makes_what_create_then_leaves_alone(aws: AwsServer) -> None:
    aws.client("cloudformation").create_stack(
        StackName="registry", TemplateBody=templates.cloudformation(URL), Capabilities=["CAPABILITY_IAM"]
    )
    # What moto's CloudFormation passes over, or does another way than AWS.
    passed_over = ("old versions", "own every object", "block public", "set tags", "backups", "account's key")
    left = [said for said in setup.create(URL) if not any(each in said for each in passed_over)]
    assert left == [f"write the registry's format ({SCHEMA})"]


def test_terraform_refers_to_what_it_makes() -> None:
    made = json.loads(templates.terraform(URL, EVERYTHING))
    resources = made["resource"]
    assert resources["aws_s3_bucket"]["registry"]["bucket"] == "models"
    table = resources["aws_dynamodb_table"]["registry"]
    assert (table["hash_key"], table["range_key"]) == ("pk", "sk")
    assert [each["name"] for each in table["attribute"]] == ["pk", "sk"]
    assert table["server_side_encryption"] == {"enabled": True, "kms_key_arn": KEY}
    assert table["deletion_protection_enabled"] is True
    assert table["point_in_time_recovery"] == {"enabled": True}
    assert resources["aws_s3_bucket_public_access_block"]["registry"] == {
        "bucket": "${aws_s3_bucket.registry.id}",
        "block_public_acls": True,
        "block_public_policy": True,
        "ignore_public_acls": True,
        "restrict_public_buckets": True,
    }
    known = {f"{kind}.{name}" for kind, named in resources.items() for name in named}
    assert set(_references(made)) <= known
    assert set(resources["aws_iam_policy"]) == {*ROLES, *CACHE_ROLES}
    for role in CACHE_ROLES:
        policy = json.loads(resources["aws_iam_policy"][role]["policy"])
        assert policy["Statement"][0]["Resource"] == "${aws_s3_bucket.registry.arn}/team/cache/v1/*"
    assert resources["aws_s3_bucket_lifecycle_configuration"]["registry"]["rule"] == [
        {
            "id": "mlpack team",
            "status": "Enabled",
            "filter": {"prefix": "team/"},
            "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
            "noncurrent_version_expiration": {"noncurrent_days": 30},
            "expiration": {"expired_object_delete_marker": True},
        },
        {
            "id": "mlpack-cache team",
            "status": "Enabled",
            "filter": {"prefix": "team/cache/v1/"},
            "noncurrent_version_expiration": {"noncurrent_days": 1},
            "expiration": {"days": 30},
        },
    ]
    for role in ROLES:
        policy = json.loads(resources["aws_iam_policy"][role]["policy"])
        assert policy["Statement"][0]["Resource"] == "${aws_dynamodb_table.registry.arn}"


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
    elif isinstance(value, str):
        for part in value.split("${")[1:]:
            kind, name, _ = part.split("}")[0].split(".")
            yield f"{kind}.{name}"


def test_entries_of_a_shared_cache_end_when_it_is_said() -> None:
    wanted = RegistryOptions(cache_days=90)
    made = json.loads(templates.cloudformation(URL, wanted))["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert made == [
        {
            "Id": "mlpack team",
            "Prefix": "team/",
            "Status": "Enabled",
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
            "ExpiredObjectDeleteMarker": True,
        },
        {
            "Id": "mlpack-cache team",
            "Prefix": "team/cache/v1/",
            "Status": "Enabled",
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
            "ExpirationInDays": 90,
        },
    ]
    rule = json.loads(templates.terraform(URL, wanted))["resource"]["aws_s3_bucket_lifecycle_configuration"]["registry"]["rule"][1]
    assert rule["expiration"] == {"days": 90}


@pytest.mark.parametrize("write", [templates.cloudformation, templates.terraform, templates.policies])
def test_text_does_not_depend_on_the_moment(write: Callable[[str, RegistryOptions], str]) -> None:
    again = RegistryOptions(kms_key=KEY, images=f"{HOST}/models", tags={"team": "search"})
    assert write(URL, EVERYTHING) == write(URL, again)
    json.loads(write(URL, again))


def test_policies_are_small_enough_for_iam() -> None:
    for policy in _policies(EVERYTHING).values():
        assert len(json.dumps(policy, separators=(",", ":"))) < 6144


def test_what_cannot_be_written_down_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"a prefix with \*"):
        templates.policies("s3://models/team*?table=mlpack-registry")
    with pytest.raises(RecipeError, match="not the ARN of a KMS key"):
        RegistryOptions(kms_key="alias/models")
    with pytest.raises(RecipeError, match="is not a tag"):
        RegistryOptions(tags={"team": "${oops}"})
    with pytest.raises(RecipeError, match="is not a tag"):
        RegistryOptions(tags={"aws:team": "x"})
    with pytest.raises(RecipeError, match="say the host too"):
        RegistryOptions(images="models")


# --- what policies say ------------------------------------------------------------------------------------------------


def _policies(wanted: RegistryOptions | None = None, url: str = URL) -> dict[str, Json]:
    found: dict[str, Json] = json.loads(templates.policies(url, wanted))
    return found


def _row(action: str, partition: str, scope: str = "models/team") -> Request:
    table = "arn:aws:dynamodb:eu-central-1:123456789012:table/mlpack-registry"
    return Request(f"dynamodb:{action}", table, {"dynamodb:LeadingKeys": (f"{scope}:{partition}",)})


WRITERS = {
    rows.NAMES: {"publisher"},
    rows.releases("minilm"): {"publisher"},
    rows.heads("minilm"): {"publisher"},
    rows.digests("minilm"): {"publisher"},
    rows.moves("minilm", "prod"): {"promoter"},
    rows.moves("minilm", "releases"): {"promoter"},
    rows.moves("minilm", "heads"): {"promoter"},
    rows.moves("minilm", "digests"): {"promoter"},
    rows.aliases("minilm"): {"promoter"},
    rows.POLICIES: {"promoter"},
    rows.PUBLISHING: {"publisher", "promoter"},
    rows.AUDIT: {"promoter", "collector"},
    rows.FENCES: {"promoter", "collector"},
    rows.LEASE.partition: {"collector"},
    rows.SETTINGS: set(),
}
"""Who may write rows of which partition."""
DELETERS = {
    rows.releases("minilm"): {"collector"},
    rows.heads("minilm"): {"collector"},
    rows.digests("minilm"): {"collector"},
    rows.PUBLISHING: {"publisher", "promoter", "collector"},
    rows.POLICIES: {"promoter"},
    rows.LEASE.partition: {"collector"},
}


@pytest.mark.parametrize("partition", WRITERS)
def test_who_may_write_and_delete_which_rows(partition: str) -> None:
    made = _policies()
    assert {role for role in ROLES if allows(made[role], _row("PutItem", partition))} == WRITERS[partition]
    assert {role for role in ROLES if allows(made[role], _row("DeleteItem", partition))} == DELETERS.get(partition, set())
    for verb in ("PutItem", "DeleteItem", "GetItem", "Query"):
        assert not [role for role in CACHE_ROLES if allows(made[role], _row(verb, partition))]
        for other in ("models/teams", "models/", "other/team"):
            assert not [role for role in ROLES if allows(made[role], _row(verb, partition, other))]


def test_nobody_may_read_or_write_without_saying_which_rows() -> None:
    for policy in _policies().values():
        for action in ("PutItem", "Scan", "GetItem", "UpdateItem", "DeleteTable"):
            assert not allows(policy, dataclasses.replace(_row(action, ""), context={}))


def test_a_publisher_writes_bytes_only_where_there_are_none() -> None:
    made = _policies()
    blob = "arn:aws:s3:::models/team/blobs/sha256/ab/abcd"
    new = Request("s3:PutObject", blob, {"s3:if-none-match": ("*",), "s3:ObjectCreationOperation": ("true",)})
    assert {role for role in ROLES if allows(made[role], new)} == {"publisher"}
    for context in (
        {"s3:ObjectCreationOperation": ("true",)},
        {"s3:if-match": ('"tag"',), "s3:ObjectCreationOperation": ("true",)},
    ):
        assert not [role for role in ROLES if allows(made[role], Request("s3:PutObject", blob, context))]
    for elsewhere in ("arn:aws:s3:::models/other/blobs/x", "arn:aws:s3:::models/team/cache/x", "arn:aws:s3:::others/team/blobs/x"):
        assert not [role for role in ROLES if allows(made[role], dataclasses.replace(new, resource=elsewhere))]
    deleted = Request("s3:DeleteObject", blob)
    assert {role for role in ROLES if allows(made[role], deleted)} == {"collector"}
    for action in ("s3:DeleteObjectVersion", "s3:PutBucketPolicy", "s3:PutLifecycleConfiguration"):
        assert not [role for role in ROLES if allows(made[role], Request(action, blob))]


def test_who_may_take_from_a_shared_cache_and_give_to_it() -> None:
    """Exactly what docs/shared-cache.md asks for."""
    made, arn = _policies(), "arn:aws:s3:::models"
    assert {role: _actions(made[role]) for role in CACHE_ROLES} == {
        "cache_reader": {"s3:GetObject", "s3:ListBucket"},
        "cache_writer": {"s3:GetObject", "s3:ListBucket", "s3:PutObject"},
    }
    every = (*ROLES, *CACHE_ROLES)
    for entry in ("team/cache/v1/0123", "team/cache/v1/a/b"):
        assert {role for role in every if allows(made[role], Request("s3:GetObject", f"{arn}/{entry}"))} == set(CACHE_ROLES)
        assert {role for role in every if allows(made[role], Request("s3:PutObject", f"{arn}/{entry}"))} == {"cache_writer"}
        assert not [role for role in every if allows(made[role], Request("s3:DeleteObject", f"{arn}/{entry}"))]
    for other in ("team/cache/v2/0123", "team/blobs/sha256/ab/abcd", "other/cache/v1/0123", "cache/v1/0123"):
        for action in ("s3:GetObject", "s3:PutObject"):
            assert not [role for role in CACHE_ROLES if allows(made[role], Request(action, f"{arn}/{other}"))]
    with_key = _policies(EVERYTHING)
    assert _actions(with_key["cache_reader"]) - _actions(made["cache_reader"]) == {"kms:Decrypt", "kms:DescribeKey"}
    assert "kms:GenerateDataKey*" in _actions(with_key["cache_writer"])


def test_images_and_keys_are_in_policies_when_they_are_used() -> None:
    plain, made = _policies(), _policies(EVERYTHING)
    for role in ROLES:
        assert not [each for each in _actions(plain[role]) if each.startswith(("ecr:", "kms:"))]
        assert "kms:Decrypt" in _actions(made[role])
        assert "ecr:GetAuthorizationToken" in _actions(made[role])
    repository = "arn:aws:ecr:eu-central-1:123456789012:repository/"
    pushed = {role for role in ROLES if allows(made[role], Request("ecr:PutImage", f"{repository}models/minilm"))}
    deleted = {role for role in ROLES if allows(made[role], Request("ecr:BatchDeleteImage", f"{repository}models/minilm"))}
    assert (pushed, deleted) == ({"publisher"}, {"collector"})
    assert not allows(made["publisher"], Request("ecr:PutImage", f"{repository}other/minilm"))
    whole = _policies(RegistryOptions(images=HOST))
    assert allows(whole["publisher"], Request("ecr:PutImage", f"{repository}minilm"))
    assert not [
        each for each in _actions(_policies(RegistryOptions(images="ghcr.io/team"))["publisher"]) if each.startswith("ecr:")
    ]


def _actions(policy: Json) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def test_policies_name_the_region_and_partition_that_are_known() -> None:
    made = _policies(url="s3://models?table=mlpack-registry&region=cn-north-1")["reader"]
    resources = [statement["Resource"] for statement in made["Statement"]]
    table = "arn:aws-cn:dynamodb:cn-north-1:*:table/mlpack-registry"
    assert resources == [table, "arn:aws-cn:s3:::models/blobs/*", "arn:aws-cn:s3:::models"]
    assert made["Statement"][0]["Condition"]["ForAllValues:StringLike"] == {"dynamodb:LeadingKeys": ["models/:*"]}


# --- what roles can do ------------------------------------------------------------------------------------------------


def _pull(registry: Registry, folder: Path) -> None:
    assert max(each.version for each in registry.listed("old")) == 2
    registry.pull(registry.show(rows.parse_reference("minilm:prod")), folder / "pulled")


def _verify(registry: Registry, _folder: Path) -> None:
    assert verify(registry).findings == ()


def _publish(registry: Registry, folder: Path) -> None:
    registry.publish(build(folder / "small", content=b"small"))
    registry.publish(build(folder / "large", content=bytes(PART_BYTES + 1)))


def _promote(registry: Registry, _folder: Path) -> None:
    promote(registry.place, Reference(name="minilm", version=2), "prod", MoveRequest(who="alice"), lambda _release, _live: ())


def _rollback(registry: Registry, _folder: Path) -> None:
    _promote(registry, _folder)
    rollback(registry.place, Reference(name="minilm", alias="prod"), MoveRequest(who="alice"))


def _set_policy(registry: Registry, _folder: Path) -> None:
    policies.put(registry.place, AliasPolicy(subject="minilm:prod", refuses=()), "alice")


def _remove_policy(registry: Registry, _folder: Path) -> None:
    policies.remove(registry.place, "minilm:canary", "alice")


def _collect(registry: Registry, _folder: Path) -> None:
    keep_nothing = RetentionPolicy(newest=0, days=0, tags=(), moves=0, window_days=0, grace_days=0)
    late = dataclasses.replace(registry.place, now=lambda: time.time() + 400 * DAY)
    assert [each.reference for each in collect(Registry(late), keep_nothing, who="alice").releases] == ["old@1"]


def _set_images(registry: Registry, _folder: Path) -> None:
    registry.place.table.commit(Put(key=Key(rows.SETTINGS, "images"), head={"prefix": "elsewhere.example/models"}))


VERBS = {
    "pull": _pull,
    "verify": _verify,
    "publish": _publish,
    "promote": _promote,
    "rollback": _rollback,
    "set a policy": _set_policy,
    "remove a policy": _remove_policy,
    "collect": _collect,
    "change the settings": _set_images,
}
READS = {"pull", "verify"}
CAN = {
    "reader": READS,
    "publisher": READS | {"publish"},
    "promoter": READS | {"promote", "rollback", "set a policy", "remove a policy"},
    "collector": READS | {"collect"},
}


@pytest.fixture
def registry(aws: AwsServer, tmp_path: Path) -> Registry:
    """Two releases of minilm with an alias, and one of another name that could be collected."""
    setup.create(URL)
    made = open_registry(URL)
    for number, name in enumerate(("minilm", "minilm", "old", "old")):
        made.publish(build(tmp_path / f"o{number}", name=name, content=str(number).encode()))
    promote(made.place, Reference(name="minilm", version=1), "prod", MoveRequest(who="alice"), lambda _release, _live: ())
    policies.put(made.place, AliasPolicy(subject="minilm:canary"), "alice")
    made.place.table.close()
    return made


@pytest.fixture
def become(aws: AwsServer, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Registry, Guard]]:
    """The registry as one of its roles sees it: a user with its policy and no other, whose signatures moto checks."""

    def become(role: str) -> tuple[Registry, Guard]:
        policy, iam = _policies()[role], aws.client("iam")
        iam.create_user(UserName=role)
        iam.put_user_policy(UserName=role, PolicyName=role, PolicyDocument=json.dumps(for_moto(policy)))
        key = iam.create_access_key(UserName=role)["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        monkeypatch.delenv("AWS_SESSION_TOKEN")
        guard, make = Guard(policy), Session.create_client
        monkeypatch.setattr(conditional, "_AMAZON", ("127.0.0.1",))  # Amazon's own, for whom these roles are, is not asked

        def client(self: Any, *args: Any, **kwargs: Any) -> Any:
            made = make(self, *args, **kwargs)
            guard.watch(made)
            return made

        monkeypatch.setattr(Session, "create_client", client)
        aws.enforce_iam()
        # An hour and more later, so that a promotion leaves a mark for garbage collection.
        opened = open_registry(URL)
        return Registry(dataclasses.replace(opened.place, now=lambda: time.time() + 7200)), guard

    return become


@pytest.mark.parametrize("role", ROLES)
def test_a_role_can_do_its_verbs(role: str, become: Callable[[str], tuple[Registry, Guard]], tmp_path: Path) -> None:
    registry, guard = become(role)
    for verb in sorted(CAN[role]):
        (tmp_path / verb).mkdir()
        VERBS[verb](registry, tmp_path / verb)
    assert guard.refused == []
    registry.place.table.close()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_can_do_nobody_elses_verbs(role: str, become: Callable[[str], tuple[Registry, Guard]], tmp_path: Path) -> None:
    registry, guard = become(role)
    for verb in sorted(VERBS.keys() - CAN[role]):
        (tmp_path / verb).mkdir()
        with pytest.raises(ServiceError, match="permission is missing"):
            VERBS[verb](registry, tmp_path / verb)
    assert len(guard.refused) >= len(VERBS) - len(CAN[role])
    registry.place.table.close()


@pytest.mark.parametrize("role", [*CACHE_ROLES, "reader"])
def test_a_shared_cache_needs_what_its_roles_have(
    role: str, become: Callable[[str], tuple[Registry, Guard]], tmp_path: Path
) -> None:
    entry, fresh = tmp_path / "entry", shared_objects.Bucket("models", "team")
    entry.write_bytes(b"an entry")

    def written(to: shared_objects.Bucket, name: str, version: str | None = None) -> bool:
        return to.write(f"cache/v1/{name}", entry, version, time.monotonic() + 60)

    assert written(fresh, "there")  # by whoever made the registry
    registry, guard = become(role)
    cache = shared_objects.Bucket("models", "team")
    if role == "reader":
        with pytest.raises(shared_objects.StorageUnavailableError), cache.open("cache/v1/there"):
            pass
        return
    with cache.open("cache/v1/there") as found, cache.open("cache/v1/missing") as missing:
        assert found is not None
        assert (found.read(100), missing) == (b"an entry", None)
        version = found.version
    if role == "cache_writer":
        assert written(cache, "new")
        assert written(cache, "there", version)  # was damaged, say
        assert guard.refused == []
    else:
        with pytest.raises(shared_objects.StorageUnavailableError) as caught:
            written(cache, "new")
        assert caught.value.writes_only
    for verb in ("pull", "publish", "promote", "collect"):
        (tmp_path / verb).mkdir()
        with pytest.raises(ServiceError, match="permission is missing"):
            VERBS[verb](registry, tmp_path / verb)
    registry.place.table.close()


@pytest.mark.parametrize(
    ("role", "verb"),
    # All that moto can tell apart: it knows no partitions, and so no promoter from a publisher that brings no bytes.
    [("reader", "publish"), ("reader", "promote"), ("reader", "collect"), ("promoter", "publish"), ("publisher", "collect")],
)
def test_moto_refuses_too(role: str, verb: str, aws: AwsServer, become: Any, tmp_path: Path) -> None:
    registry, guard = become(role)
    guard.policy = {"Statement": [{"Effect": "Allow", "Action": ["*"], "Resource": "*"}]}
    with pytest.raises(ServiceError, match="permission is missing"):
        VERBS[verb](registry, tmp_path)
    registry.place.table.close()
