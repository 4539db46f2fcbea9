"""Lambda's API of versions and aliases in memory, with the refusals of the real one. moto accepts a weight of 1.5, a version that
is not there, a second version, and a stale RevisionId.

Source: API reference of UpdateAlias, PublishVersion and PutProvisionedConcurrencyConfig; developer guide, "Alias routing".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError


def refusal(code: str, message: str) -> ClientError:
    """The exception that boto3 raises for it."""
    return ClientError({"Error": {"Code": code, "Message": message}}, "Lambda")


INVALID, PRECONDITION = "InvalidParameterValueException", "PreconditionFailedException"


@dataclass
class Alias:
    """An alias. `warm`: its provisioned environments."""

    main: str
    weights: dict[str, float] = field(default_factory=dict)
    description: str = ""
    revision: str = "r0"
    warm: int = 0


@dataclass
class AliasApi:
    """One function with its alias `live`. boto3's client for `lambda`, as far as rollouts use it.

    Attributes:
        code: The SHA-256 of the code that $LATEST has.
        state: State and LastUpdateStatus of $LATEST, or of a version by its name; Active and Successful of others.
        provisioning: What a version's provisioned environments say, one answer after the other; the last one stays.
        before: Called before each request with its name; what it raises is raised. `after`: once it took effect.
        history: What the alias was after each write: main version, weights, and the revision that the write named.
    """

    name: str = "fashion-prod"
    code: str = "new-code"
    image: str = ""
    role: str = "role"
    state: dict[str, tuple[str, str]] = field(default_factory=dict)
    provisioning: list[str] = field(default_factory=lambda: ["READY"])
    before: Callable[[str], None] = lambda _call: None
    after: Callable[[str], None] = lambda _call: None
    alias: Alias = field(default_factory=lambda: Alias("7"))
    versions: dict[str, tuple[str, str]] = field(default_factory=lambda: {"7": ("old-code", "role")})
    provisioned: dict[str, int] = field(default_factory=dict)
    history: list[tuple[str, dict[str, float], str | None]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    _number: Any = field(default_factory=lambda: itertools.count(1))

    def get_alias(self, FunctionName: str, Name: str) -> dict[str, Any]:  # noqa: N803 - boto3's names
        """GetAlias."""
        self._begin("get_alias", FunctionName, Name)
        return self._alias()

    def update_alias(self, **given: Any) -> dict[str, Any]:
        """UpdateAlias. What is left out stays."""
        self._begin("update_alias", given["FunctionName"], given["Name"])
        if "RevisionId" in given and given["RevisionId"] != self.alias.revision:
            raise refusal(PRECONDITION, "The RevisionId provided does not match the latest RevisionId")
        main = given.get("FunctionVersion", self.alias.main)
        weights = given.get("RoutingConfig", {"AdditionalVersionWeights": self.alias.weights}).get("AdditionalVersionWeights", {})
        self._check(main, weights)
        self.alias.main, self.alias.weights = main, {name: share for name, share in weights.items() if share}
        self.alias.description = given.get("Description", self.alias.description)
        self.alias.revision = f"r{next(self._number)}"
        self.history.append((main, dict(self.alias.weights), given.get("RevisionId")))
        answer = self._alias()
        self.after("update_alias")
        return answer

    def _check(self, main: str, weights: dict[str, float]) -> None:
        for version in (main, *weights):
            if version == "$LATEST" and weights:
                raise refusal(INVALID, "$LATEST is not supported for an alias that points to more than 1 version")
            if version != "$LATEST" and version not in self.versions:
                raise refusal("ResourceNotFoundException", f"Function not found: {self.name}:{version}")
        if len(weights) > 1:
            raise refusal(INVALID, "Only one additional version is supported")
        if main in weights:
            raise refusal(INVALID, "The additional version is the alias's own")
        if any(not 0.0 <= share <= 1.0 for share in weights.values()):
            raise refusal(INVALID, "Weight must be between 0.0 and 1.0")
        if len({self.versions[version][1] for version in (main, *weights) if version in self.versions}) > 1:
            raise refusal(INVALID, "Both versions must have the same execution role")
        if weights and self.alias.warm:
            raise refusal(INVALID, "Alias with provisioned concurrency can not have weights")

    def publish_version(self, FunctionName: str, **given: Any) -> dict[str, Any]:  # noqa: N803
        """PublishVersion. Unchanged code is the version that there is."""
        self._begin("publish_version", FunctionName)
        if self._states("$LATEST") != ("Active", "Successful"):
            raise refusal(
                "ResourceConflictException", "The operation cannot be performed at this time. The function is being updated"
            )
        if given.get("RevisionId", f"c-{self.code}") != f"c-{self.code}":
            raise refusal(PRECONDITION, "The RevisionId provided does not match the latest RevisionId")
        if given.get("CodeSha256", self.code) != self.code:
            raise refusal(
                INVALID, f"CodeSHA256 ({given['CodeSha256']}) is different from current CodeSHA256 in $LATEST ({self.code})"
            )
        same = [version for version, content in self.versions.items() if content == (self.code, self.role)]
        version = max(same, key=int) if same else str(max(map(int, self.versions)) + 1)
        self.versions[version] = (self.code, self.role)
        self.after("publish_version")
        return {"Version": version, "CodeSha256": self.code}

    def get_function_configuration(self, FunctionName: str, Qualifier: str = "$LATEST") -> dict[str, Any]:  # noqa: N803
        """GetFunctionConfiguration."""
        self._begin("get_function_configuration", FunctionName)
        if Qualifier not in ("$LATEST", *self.versions):
            raise refusal("ResourceNotFoundException", f"Function not found: {self.name}:{Qualifier}")
        state, update = self._states(Qualifier)
        code = self.code if Qualifier == "$LATEST" else self.versions[Qualifier][0]
        return {"State": state, "LastUpdateStatus": update, "CodeSha256": code, "RevisionId": f"c-{code}"}

    def get_function(self, FunctionName: str) -> dict[str, Any]:  # noqa: N803
        """GetFunction."""
        self._begin("get_function", FunctionName)
        return {"Code": {"ResolvedImageUri": self.image} if self.image else {"Location": "https://"}}

    def put_provisioned_concurrency_config(self, **given: Any) -> dict[str, Any]:
        """PutProvisionedConcurrencyConfig, of a version or of the alias."""
        self._begin("put_provisioned_concurrency_config", given["FunctionName"])
        if given["Qualifier"] == "live":
            if self.alias.weights:
                raise refusal(INVALID, "Alias with weights can not be used with Provisioned Concurrency")
            self.alias.warm = given["ProvisionedConcurrentExecutions"]
        else:
            self.provisioned[given["Qualifier"]] = given["ProvisionedConcurrentExecutions"]
        return {"Status": "IN_PROGRESS"}

    def get_provisioned_concurrency_config(self, FunctionName: str, Qualifier: str) -> dict[str, Any]:  # noqa: N803
        """GetProvisionedConcurrencyConfig."""
        self._begin("get_provisioned_concurrency_config", FunctionName)
        if Qualifier not in self.provisioned:
            raise refusal("ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found")
        return {"Status": self.provisioning.pop(0) if len(self.provisioning) > 1 else self.provisioning[0], "StatusReason": "init"}

    def delete_provisioned_concurrency_config(self, FunctionName: str, Qualifier: str) -> None:  # noqa: N803
        """DeleteProvisionedConcurrencyConfig."""
        self._begin("delete_provisioned_concurrency_config", FunctionName)
        if self.provisioned.pop(Qualifier, None) is None:
            raise refusal("ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found")

    def _alias(self) -> dict[str, Any]:
        routing = {"RoutingConfig": {"AdditionalVersionWeights": dict(self.alias.weights)}} if self.alias.weights else {}
        known = {"FunctionVersion": self.alias.main, "Description": self.alias.description, "RevisionId": self.alias.revision}
        return {"Name": "live", **known, **routing}

    def _begin(self, call: str, function: str, alias: str = "live") -> None:
        self.before(call)
        self.calls.append(call)
        if (function, alias) != (self.name, "live"):
            raise refusal("ResourceNotFoundException", f"Cannot find {function}:{alias}")

    def _states(self, qualifier: str) -> tuple[str, str]:
        return self.state.get(qualifier, ("Active", "Successful"))
