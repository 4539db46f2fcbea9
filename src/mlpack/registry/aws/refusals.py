"""What AWS refuses, in words: which action on which resource, why, and what to do about it.

Promises:
- Within `explained`, everything that boto3 raises because of the network, the credentials, the permissions or the service becomes
  a ServiceError (exit 4). An error that boto3 raises because mlpack called it wrongly is a bug and stays as it is.

Will not: repeat a request. boto3 has done that already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from mlpack.core.text import sinks
from mlpack.errors import ServiceError

_THROTTLED = {
    *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException", "SlowDown"),
    *("TooManyRequestsException", "ProvisionedThroughputExceededException", "RequestLimitExceeded", "BandwidthLimitExceeded"),
    *("LimitExceededException", "TransactionInProgressException", "PriorRequestNotComplete"),
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_UNKNOWN = {
    *("InvalidAccessKeyId", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidToken", "SignatureDoesNotMatch"),
    *("InvalidSignatureException", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "AuthFailure"),
    *("NotSignedUp", "InvalidSecurity"),
}
_SKEWED = {"RequestTimeTooSkewed", "RequestInTheFuture"}
_SKEWED_WORDS = re.compile(r"signature (expired|not yet current)", re.IGNORECASE)
_ELSEWHERE = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AllAccessDisabled", "403"}
_NO_BUCKET = {"NoSuchBucket"}
_NO_TABLE = {"ResourceNotFoundException", "TableNotFoundException"}
_BROKEN_ON_THE_WAY = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "IncompleteBody", "NoSuchUpload", "InvalidPart"}
_NOT_AUTHORIZED = re.compile(
    r"(?:User: (?P<who>\S+) )?is not authorized to perform: (?P<action>[\w:-]+)(?: on resource: (?P<on>\S+))?"
)

_SIGN_IN = "sign in again (`aws sso login`, or whatever gives this machine its credentials)"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsCall:
    """A request to AWS: `s3:GetObject` on an ARN, for the registry `where`. `grants`: the actions on ARNs or patterns that a policy
    would name; this one when there are none."""

    where: str
    action: str
    resource: str
    grants: tuple[tuple[str, str], ...] = ()


@contextmanager
def explained(call: AwsCall) -> Iterator[None]:
    """A context in which AWS's refusals of this request become ServiceErrors."""
    try:
        yield
    except ClientError as error:
        raise of_answer(call, error) from error
    except ResponseParserError as error:  # no BotoCoreError
        raise ServiceError(
            f"{call.where}: {call.action} on {call.resource} got an answer that no such service gives; check AWS_ENDPOINT_URL, "
            f"and any proxy between this machine and the service: {str(error)[:200]!r}"
        ) from error
    except BotoCoreError as error:
        explanation = _of_machine(call, error)
        if explanation is None:
            raise
        raise explanation from error


def code(error: ClientError) -> str:
    """The error's code as AWS sends it; for answers without a body, the status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def tries(error: ClientError) -> int:
    """How many attempts boto3 made."""
    return int(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) + 1


def statement(action: str, resource: str) -> str:
    """The statement of an IAM policy that would allow it."""
    return json.dumps({"Effect": "Allow", "Action": action, "Resource": resource})


def of_answer(call: AwsCall, error: ClientError) -> ServiceError:
    """The ServiceError for an answer of AWS."""
    error_code, message = code(error), str(error.response.get("Error", {}).get("Message", "")).strip()
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    begun = f"{call.where}: {call.action} on {call.resource}"
    if error_code in _SKEWED or _SKEWED_WORDS.search(message):
        return ServiceError(f"{begun} was refused: {_clocks(error)}")
    if error_code in _THROTTLED:
        return ServiceError(
            f"{begun} was throttled {_times(tries(error))} ({error_code}): others use it as much as it takes; try again later, "
            "or raise its limits",
            retryable=True,
        )
    if error_code in _EXPIRED:
        return ServiceError(f"{begun} was refused: the credentials have expired ({error_code}); {_SIGN_IN}")
    if error_code in _ELSEWHERE:
        return ServiceError(f"{begun} was refused: {_region(error)}")
    if error_code in _NO_BUCKET:
        return ServiceError(f"{begun}: there is no such bucket; {_create(call)}")
    if error_code in _NO_TABLE:
        return ServiceError(f"{begun}: there is no such table in this region; say which one with &region=..., or {_create(call)}")
    if error_code in _BROKEN_ON_THE_WAY:
        return ServiceError(
            f"{begun}: the upload was cut off, aborted or altered on its way ({error_code}); try again", retryable=True
        )
    if error_code in _UNKNOWN or "InvalidClientTokenId" in message:
        return ServiceError(
            f"{begun} was refused: AWS does not know these credentials, or their secret is another ({error_code}); check which "
            f"ones are in use with `aws sts get-caller-identity`, or {_SIGN_IN}"
        )
    if error_code in _DENIED or status == 403:
        return ServiceError(_denied(call, message))
    if isinstance(status, int) and status >= 500:
        return ServiceError(
            f"{begun} failed {_times(tries(error))} with {status} {error_code}: {message}; try again later", retryable=True
        )
    return ServiceError(f"{begun} was refused: {error_code}: {message}")


def of_transport(call: AwsCall, error: Exception) -> ServiceError:
    """The ServiceError for a missing or incomplete answer."""
    return ServiceError(
        f"{call.where}: {call.action} on {call.resource} got no answer: {error}; check the network, the proxy, AWS_ENDPOINT_URL "
        "and whether this subnet has a route or an endpoint to the service, then try again",
        retryable=True,
    )


def _of_machine(call: AwsCall, error: BotoCoreError) -> ServiceError | None:
    """The ServiceError for a request that boto3 could not send; None when the fault is mlpack's."""
    begun = f"{call.where}: {call.action} on {call.resource} was not tried: "
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return ServiceError(
            f"{begun}no AWS credentials were found, or half of them ({error}); set AWS_PROFILE or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, give this machine a role, or `aws sso login`"
        )
    if isinstance(
        error,
        (
            exceptions.TokenRetrievalError,
            exceptions.NoAuthTokenError,
            exceptions.CredentialRetrievalError,
            exceptions.MetadataRetrievalError,
            exceptions.SSOError,
            exceptions.LoginError,
        ),
    ):
        return ServiceError(f"{begun}the credentials could not be renewed: {error}; {_SIGN_IN}")
    if isinstance(error, exceptions.NoRegionError):
        return ServiceError(f"{begun}no region is set; set AWS_REGION, or write ...&region=eu-central-1 behind the registry's name")
    if isinstance(error, (exceptions.ProfileNotFound, exceptions.ConfigParseError, exceptions.InvalidConfigError)):
        return ServiceError(f"{begun}{error}; check AWS_PROFILE and ~/.aws/config")
    if isinstance(error, exceptions.InvalidRegionError):
        return ServiceError(f"{begun}{error}; check AWS_REGION and ...&region= behind the registry's name")
    if isinstance(error, (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError)):
        return of_transport(call, error)
    return None


def _denied(call: AwsCall, message: str) -> str:
    """Who may not do what, and the statement that would allow it."""
    match = _NOT_AUTHORIZED.search(message)
    action = match["action"] if match else call.action
    resource = (match["on"] if match else None) or call.resource
    who = f" for {match['who']}" if match and match["who"] else ""
    begun = f"{call.where}: {action} on {resource} was refused{who}"
    if "explicit deny" in message:
        return f"{begun}: a policy denies it explicitly, which no other can allow; AWS says: {message}"
    grants = call.grants or ((call.action, call.resource),)
    if action != call.action:  # AWS names another resource: a key, or one of several
        grants = tuple(grant for grant in grants if grant[0] == action) or ((action, resource),)
    why = f"; AWS says: {message}" if message and message not in ("Forbidden", "Access Denied") else ""
    lines = "".join(f"\n{statement(*grant)}" for grant in grants)
    return f"{begun}: permission is missing{why}. In its policy this allows it:{lines}"


def _clocks(error: ClientError) -> str:
    """Both times, as far as AWS sends its own."""
    details: Mapping[str, Any] = error.response.get("Error", {})
    theirs = details.get("ServerTime")
    header = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if theirs is None and header is not None:
        try:
            theirs = parsedate_to_datetime(header).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        except ValueError:
            theirs = header
    ours = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return f"the clocks differ by too much: it is {ours} here and {theirs or 'another time'} at AWS; set this machine's clock"


def _region(error: ClientError) -> str:
    response = error.response
    right = response.get("Error", {}).get("Region") or response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(
        "x-amz-bucket-region"
    )
    if right is None:
        return f"the bucket is in another region ({code(error)}); say which one with ...&region= behind the registry's name"
    return f"the bucket is in the region {right}; set AWS_REGION={right}, or write ...&region={right} behind the registry's name"


def _create(call: AwsCall) -> str:
    return f"make it with `mlpack registry create {sinks.shell(call.where)}`, or correct the name"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
