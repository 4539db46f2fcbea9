"""What AWS refuses, in words: each code as the service answers it, each failure as boto3 raises it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore import exceptions
from tests.support.services.aws_server import REGION, AwsServer, Fault

from mlpack.core.digest import of_bytes
from mlpack.errors import ExitCode, ServiceError
from mlpack.registry import Key, Place, Put
from mlpack.registry.aws.clients import Timeouts
from mlpack.registry.aws.opening import open_registry
from mlpack.registry.aws.refusals import AwsCall, explained

QUICK = Timeouts(connect_s=1, read_s=1, tries=2)
WHERE = "s3://models/team?table=mlpack-registry"
NAMED = of_bytes(b"some bytes")
OBJECT = f"arn:aws:s3:::models/team/blobs/sha256/{NAMED.hex[:2]}/{NAMED.hex}"
TABLE = f"arn:aws:dynamodb:{REGION}:*:table/mlpack-registry"


@pytest.fixture
def place(aws: AwsServer) -> Iterator[Place]:
    made = open_registry(aws.make_place(), patience=QUICK).place
    yield made
    made.table.close()


def read(place: Place) -> object:
    return place.blobs.read(NAMED)


def put(place: Place) -> object:
    return place.blobs.put(NAMED, b"some bytes")


def size(place: Place) -> object:
    return place.blobs.size(NAMED)


def names(place: Place) -> object:
    return list(place.blobs.list())


def row(place: Place) -> object:
    return place.table.get(Key("p", "a"))


def commit(place: Place) -> object:
    return place.table.commit(Put(key=Key("p", "a"), head={}))


Ask = Callable[[Place], object]


def refused(place: Place, ask: Ask) -> ServiceError:
    """What is said; on one line but for statements of policies, with what was asked of what, and exit code 4."""
    with pytest.raises(ServiceError) as caught:
        ask(place)
    assert caught.value.exit_code is ExitCode.SERVICE
    said = str(caught.value)
    action, resource = {
        read: ("s3:GetObject", OBJECT),
        size: ("s3:GetObject", OBJECT),
        put: ("s3:PutObject", OBJECT),
        names: ("s3:ListBucket", "arn:aws:s3:::models"),
        row: ("dynamodb:GetItem", TABLE),
        commit: ("dynamodb:PutItem", TABLE),
    }[ask]
    assert said.startswith(f"{WHERE}: {action} on {resource}")
    return caught.value


# --- what AWS answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "code", "status"),
    [
        *((ask, "SlowDown", 503) for ask in (read, put, size, names)),
        *((ask, "ProvisionedThroughputExceededException", 400) for ask in (row, commit)),
        (row, "ThrottlingException", 400),
        (commit, "RequestLimitExceeded", 400),
    ],
)
def test_throttling(aws: AwsServer, place: Place, ask: Ask, code: str, status: int) -> None:
    aws.plan(Fault("error", status=status, code=code, onward=True, operation="PutObject" if ask is put else None))
    error = refused(place, ask)
    assert f"was throttled 2 times ({code})" in str(error)
    assert error.retryable


@pytest.mark.parametrize(("ask", "code"), [(read, "ExpiredToken"), (size, "ExpiredToken"), (row, "ExpiredTokenException")])
def test_expired_credentials(aws: AwsServer, place: Place, ask: Ask, code: str) -> None:
    aws.plan(Fault("error", status=400, code=code, onward=True))
    error = refused(place, ask)
    assert f"the credentials have expired ({code}); sign in again" in str(error)
    assert not error.retryable


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        *((read, code) for code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken")),
        *((row, code) for code in ("UnrecognizedClientException", "InvalidSignatureException", "NotSignedUp")),
    ],
)
def test_credentials_that_aws_does_not_know(aws: AwsServer, place: Place, ask: Ask, code: str) -> None:
    aws.plan(Fault("error", status=403, code=code, onward=True))
    assert f"AWS does not know these credentials, or their secret is another ({code})" in str(refused(place, ask))


def test_clocks_that_differ_are_both_said(aws: AwsServer, place: Place) -> None:
    theirs = (datetime.now(UTC) - timedelta(hours=3)).isoformat(timespec="seconds")
    details = {"ServerTime": theirs, "MaxAllowedSkewMilliseconds": 900000}
    aws.plan(Fault("error", status=403, code="RequestTimeTooSkewed", details=details))
    before = datetime.now(UTC)
    said = str(refused(place, read))
    told = re.search(r"the clocks differ by too much: it is (\S+) here", said)
    assert told, said
    assert before - timedelta(seconds=1) <= datetime.fromisoformat(told[1]) <= datetime.now(UTC)
    assert f"{theirs} at AWS; set this machine's clock" in said
    aws.plan(
        Fault(
            "error",
            status=400,
            code="InvalidSignatureException",
            message="Signature expired: 20261124T080000Z is now earlier than 20261124T104500Z (20261124T110000Z - 5 min.)",
        )
    )
    said = str(refused(place, row))
    assert "here and 20" in said  # from the answer's Date
    assert "Z at AWS; set this machine's clock" in said


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            Fault("error", status=400, code="AuthorizationHeaderMalformed", details={"Region": "eu-west-1"}),
            "the bucket is in the region eu-west-1; set AWS_REGION=eu-west-1, or write ...&region=eu-west-1",
        ),
        (
            Fault("error", status=301, code="PermanentRedirect", headers={"x-amz-bucket-region": "us-west-2"}),
            "the bucket is in the region us-west-2; set AWS_REGION=us-west-2",
        ),
        (Fault("error", status=301, code="PermanentRedirect"), "the bucket is in another region (PermanentRedirect)"),
    ],
)
def test_another_region(aws: AwsServer, place: Place, fault: Fault, said: str) -> None:
    aws.plan(replace(fault, onward=True, operation="ListObjectsV2"))  # boto3 goes to the other region by itself, where it can
    assert said in str(refused(place, names))


def statements(error: ServiceError) -> list[dict[str, str]]:
    """What the policy lines of a message allow; each is JSON on a line of its own."""
    found = [json.loads(line) for line in str(error).splitlines()[1:]]
    assert all(one.pop("Effect") == "Allow" for one in found)
    return found


READ_GRANTS = [
    {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::models/team/*"},
    {"Action": "s3:ListBucket", "Resource": "arn:aws:s3:::models"},
]


@pytest.mark.parametrize(
    ("ask", "grants"),
    [
        (read, READ_GRANTS),
        (size, READ_GRANTS),
        (names, [{"Action": "s3:ListBucket", "Resource": "arn:aws:s3:::models"}]),
        (row, [{"Action": "dynamodb:GetItem", "Resource": TABLE}]),
        (commit, [{"Action": "dynamodb:PutItem", "Resource": TABLE}]),
    ],
)
def test_missing_permission_with_what_would_give_it(aws: AwsServer, place: Place, ask: Ask, grants: list[dict[str, str]]) -> None:
    code = "AccessDeniedException" if ask in (row, commit) else "AccessDenied"
    aws.plan(Fault("error", status=403, code=code, message="Access Denied", onward=True))
    error = refused(place, ask)
    assert "was refused: permission is missing. In its policy this allows it:\n" in str(error)
    assert statements(error) == grants
    assert not error.retryable


def test_missing_permission_to_put(aws: AwsServer, place: Place) -> None:
    aws.plan(Fault("error", status=403, code="AccessDenied", message="Access Denied", operation="PutObject"))
    assert statements(refused(place, put)) == [{"Action": "s3:PutObject", "Resource": "arn:aws:s3:::models/team/*"}]


def test_who_may_not_do_what_as_aws_says_it(aws: AwsServer, place: Place) -> None:
    key = "arn:aws:kms:eu-central-1:123456789012:key/1"
    said = (
        "User: arn:aws:sts::123456789012:assumed-role/ci/1 is not authorized to perform: kms:GenerateDataKey on resource: "
        f"{key} because no identity-based policy allows the kms:GenerateDataKey action"
    )
    aws.plan(Fault("error", status=403, code="AccessDenied", message=said, operation="PutObject"))
    with pytest.raises(ServiceError) as caught:
        put(place)
    assert f"kms:GenerateDataKey on {key} was refused for arn:aws:sts::123456789012:assumed-role/ci/1" in str(caught.value)
    assert statements(caught.value) == [{"Action": "kms:GenerateDataKey", "Resource": key}]


def test_an_explicit_deny_cannot_be_allowed(aws: AwsServer, place: Place) -> None:
    said = "User: arn:aws:iam::1:user/x is not authorized to perform: s3:PutObject with an explicit deny in a session policy"
    aws.plan(Fault("error", status=403, code="AccessDenied", message=said, operation="PutObject"))
    error = refused(place, put)
    assert "a policy denies it explicitly, which no other can allow" in str(error)
    assert "Allow" not in str(error)


@pytest.mark.usefixtures("aws")
def test_no_such_bucket_and_no_such_table() -> None:
    nowhere = open_registry(WHERE, patience=QUICK).place
    for ask, what in ((read, "bucket"), (put, "bucket"), (names, "bucket"), (row, "table"), (commit, "table")):
        said = str(refused(nowhere, ask))
        assert f": there is no such {what}" in said
        assert f"make it with `mlpack registry create '{WHERE}'`, or correct the name" in said
    nowhere.table.close()


@pytest.mark.parametrize("code", ["BadDigest", "XAmzContentChecksumMismatch", "IncompleteBody", "InvalidPart"])
def test_what_was_broken_on_its_way(aws: AwsServer, place: Place, code: str) -> None:
    aws.plan(Fault("error", status=400, code=code, operation="PutObject", onward=True))
    error = refused(place, put)
    assert f"the upload was cut off, aborted or altered on its way ({code}); try again" in str(error)
    assert error.retryable


@pytest.mark.parametrize("ask", [read, put, size, names, row, commit])
def test_a_service_that_is_down(aws: AwsServer, place: Place, ask: Ask) -> None:
    operation = "PutObject" if ask is put else None
    aws.plan(Fault("error", status=500, code="InternalError", message="we are sorry", onward=True, operation=operation))
    error = refused(place, ask)
    assert "failed 2 times with 500" in str(error)
    assert error.retryable


def test_what_nobody_has_foreseen(aws: AwsServer, place: Place) -> None:
    aws.plan(Fault("error", status=400, code="Novelty", message="something new"))
    assert "was refused: Novelty: something new" in str(refused(place, read))


# --- what boto3 could not even ask ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [read, put, row, commit])
@pytest.mark.parametrize("action", ["close", "hang"])
def test_no_answer(aws: AwsServer, place: Place, ask: Ask, action: str) -> None:
    aws.plan(Fault(action, onward=True))
    with pytest.raises(ServiceError, match=r"got no answer: .*check the network, the proxy, AWS_ENDPOINT_URL") as caught:
        ask(place)
    assert caught.value.retryable


@pytest.mark.parametrize("ask", [read, put, row, commit])
def test_nobody_there(aws: AwsServer, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        place = open_registry(WHERE, patience=QUICK).place
        with pytest.raises(ServiceError, match="got no answer: Could not connect") as caught:
            ask(place)
    assert caught.value.retryable
    place.table.close()


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("ask", [read, put, row, commit])
def test_no_credentials(monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    place = open_registry(WHERE, patience=QUICK).place
    with pytest.raises(ServiceError, match=r"was not tried: no AWS credentials were found.*set AWS_PROFILE or AWS_ACCESS_KEY_ID"):
        ask(place)
    with pytest.raises(ServiceError, match="no AWS credentials were found"):
        place.blobs.presign(NAMED, 60)
    place.table.close()


@pytest.mark.usefixtures("aws")
def test_half_of_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ServiceError, match=r"or half of them .*AWS_SECRET_ACCESS_KEY"):
        row(open_registry(WHERE, patience=QUICK).place)


@pytest.mark.usefixtures("aws")
def test_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ServiceError, match=r"no region is set; set AWS_REGION, or write \.\.\.&region="):
        row(open_registry(WHERE, patience=QUICK).place)


@pytest.mark.usefixtures("aws")
def test_no_such_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ServiceError, match=r"was not tried: .*nobody.*; check AWS_PROFILE and ~/\.aws/config"):
        row(open_registry(WHERE, patience=QUICK).place)


@pytest.mark.usefixtures("aws")
def test_a_configuration_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile a\nb")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(ServiceError, match=r"was not tried: .*; check AWS_PROFILE and ~/\.aws/config"):
        row(open_registry(WHERE, patience=QUICK).place)


CALL = AwsCall(where=WHERE, action="s3:GetObject", resource=OBJECT)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (exceptions.TokenRetrievalError(provider="sso", error_msg="old"), "the credentials could not be renewed: .*sign in again"),
        (exceptions.SSOTokenLoadError(error_msg="none"), "the credentials could not be renewed: .*aws sso login"),
        (exceptions.UnauthorizedSSOTokenError(), "the credentials could not be renewed"),
        (exceptions.CredentialRetrievalError(provider="role", error_msg="no"), "the credentials could not be renewed"),
        (exceptions.InvalidRegionError(region_name="x y"), r"check AWS_REGION and \.\.\.&region="),
        (exceptions.SSLError(endpoint_url="https://x", error="bad certificate"), "got no answer: .*bad certificate"),
        (exceptions.ProxyConnectionError(proxy_url="http://p"), "got no answer: .*the proxy"),
        (exceptions.ConnectTimeoutError(endpoint_url="https://x"), "got no answer: .*has a route or an endpoint"),
        (exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), "got no answer"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_failures_of_this_machine(error: Exception, said: str) -> None:
    with pytest.raises(ServiceError, match=said) as caught, explained(CALL):
        raise error
    assert str(caught.value).startswith(f"{WHERE}: s3:GetObject on {OBJECT}")


def test_our_own_mistakes_stay_what_they_are() -> None:
    with pytest.raises(exceptions.ParamValidationError), explained(CALL):
        raise exceptions.ParamValidationError(report="Unknown parameter")
    with pytest.raises(KeyError), explained(CALL):
        raise KeyError
