"""Amazon's container registry (ECR), as far as it differs from others: signing in, making repositories, deleting images.

Promises:
- A host is Amazon's when its name has Amazon's form; account and region are read from that name.
- It asks for a new token when the last one is about to expire.
- An error names the refused action and the policy statement that allows it.

Will not: copy an image. `mlpack.oci` does that.

Sources: the ECR user guide ("Registry authentication", "Required IAM permissions for pushing an image"); its tokens last 12
hours.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mlpack.core.digest import Digest
from mlpack.core.distribution import install
from mlpack.errors import RecipeError
from mlpack.registry import ImageRefusedError

SIGN_IN = "ecr:GetAuthorizationToken"
"""IAM allows this action on `*` only."""
PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
PUSH = (
    *PULL,
    *("ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"),
)
MAKE = ("ecr:DescribeRepositories", "ecr:CreateRepository")
DELETE = "ecr:BatchDeleteImage"

_HOST = re.compile(r"(?P<account>[0-9]{12})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_BEFORE_THE_END = timedelta(minutes=10)
_DENIED = "AccessDeniedException"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The AWS account that a host belongs to. Made by `of_host`."""

    host: str
    account: str
    region: str

    @property
    def partition(self) -> str:
        """The partition in its ARNs."""
        return partition_of(self.region)

    def arn(self, repository: str) -> str:
        """The ARN of a repository, or of the repositories that a pattern matches."""
        return f"arn:{self.partition}:ecr:{self.region}:{self.account}:repository/{repository}"


def of_host(host: str) -> Account | None:
    """The account that `123456789012.dkr.ecr.eu-central-1.amazonaws.com` names; None for any other host."""
    match = _HOST.fullmatch(host)
    return Account(host=host, account=match["account"], region=match["region"]) if match else None


def partition_of(region: str) -> str:
    """`aws`, `aws-cn` or `aws-us-gov`."""
    return next((f"aws-{part}" for part in ("cn", "us-gov") if region.startswith(f"{part}-")), "aws")


def statement(actions: Sequence[str], resource: str) -> str:
    """The statement of an IAM policy that allows these actions."""
    return json.dumps({"Effect": "Allow", "Action": list(actions), "Resource": resource})


class Ecr:
    """The ECR registry of one account in one region. Threads may share it."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._lock = threading.Lock()
        self._service: Any = None
        self._token: tuple[str, str] | None = None
        self._until = datetime.min.replace(tzinfo=UTC)
        self._there: set[str] = set()

    def credentials(self) -> tuple[str, str]:
        """User and password. ServiceError when AWS gives none, RecipeError when boto3 is not installed."""
        with self._lock:
            if self._token is None or datetime.now(UTC) > self._until - _BEFORE_THE_END:
                from mlpack.registry.aws.refusals import explained

                with explained(self._call(SIGN_IN, "*")):
                    answer = self._client().get_authorization_token()["authorizationData"][0]
                user, _, password = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
                self._token, self._until = (user, password), answer["expiresAt"]
            return self._token

    def make_repository(self, name: str) -> None:
        """Make a repository unless it exists, with immutable tags and a scan of every image. ServiceError when AWS refuses.

        Without the right to look, it assumes that the repository exists; a push fails if not.
        """
        from botocore.exceptions import ClientError

        from mlpack.registry.aws.refusals import code, explained

        with self._lock:
            if name in self._there:
                return
            with explained(self._call("ecr:DescribeRepositories", self.account.arn(name))):
                try:
                    self._client().describe_repositories(registryId=self.account.account, repositoryNames=[name])
                except ClientError as error:
                    if code(error) not in ("RepositoryNotFoundException", _DENIED):
                        raise
                    if code(error) != _DENIED:
                        self._create(name)
            self._there.add(name)

    def _create(self, name: str) -> None:
        from botocore.exceptions import ClientError

        from mlpack.registry.aws.refusals import code, explained

        with explained(self._call("ecr:CreateRepository", self.account.arn(name))):
            try:
                self._client().create_repository(
                    registryId=self.account.account,
                    repositoryName=name,
                    imageTagMutability="IMMUTABLE",
                    imageScanningConfiguration={"scanOnPush": True},
                )
            except ClientError as error:
                if code(error) != "RepositoryAlreadyExistsException":  # another publisher was first
                    raise

    def delete(self, repository: str, image_digest: Digest) -> None:
        """Remove an image with its tags, if it exists. ImageRefusedError when AWS does not allow it."""
        from botocore.exceptions import ClientError

        from mlpack.registry.aws.refusals import code, explained, of_answer

        call = self._call(DELETE, self.account.arn(repository))
        with explained(call):
            try:
                answer = self._client().batch_delete_image(
                    registryId=self.account.account, repositoryName=repository, imageIds=[{"imageDigest": str(image_digest)}]
                )
            except ClientError as error:
                if code(error) == _DENIED:
                    raise ImageRefusedError(str(of_answer(call, error))) from error
                if code(error) != "RepositoryNotFoundException":
                    raise
                return
        for failure in answer["failures"]:
            if failure["failureCode"] != "ImageNotFound":
                reason = f"{failure['failureCode']}: {failure.get('failureReason', '')}"
                raise ImageRefusedError(f"{self.account.host}/{repository}@{image_digest} was not deleted: {reason}")

    def _client(self) -> Any:
        if self._service is None:
            try:
                from botocore.session import get_session
            except ImportError as error:
                raise RecipeError(f"{self.account.host}: Amazon's registry needs boto3: {install('aws')}") from error
            self._service = get_session().create_client("ecr", region_name=self.account.region)
        return self._service

    def _call(self, action: str, resource: str) -> Any:
        from mlpack.registry.aws.refusals import AwsCall

        return AwsCall(where=self.account.host, action=action, resource=resource)
