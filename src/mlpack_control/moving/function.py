"""The alias of a Lambda function.

Promises: each write names the revision that was read or written before, so that of two movers one is refused; a refusal is looked
at, never tried again blindly: the answer to our own write may have been lost (the description is our mark), and everything else is
somebody; only the versions that the caller names get traffic; `clear` names no version, so it can do nothing but clear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mlpack_control.failures import NotReady, Overtaken, Refused, code_of

MARK = "mlpack rollout "
_PRECONDITION = "PreconditionFailedException"
_TRIES = 20


class Seen(NamedTuple):
    """An alias as it was read."""

    main: str
    weights: dict[str, float]
    revision: str
    mark: str


class FunctionAlias:
    """See `Mover`."""

    def __init__(self, client: Any, function: str, alias: str, mark: str) -> None:
        self._client = client
        self._function = function
        self._alias = alias
        self._mark = f"{MARK}{mark}"[:256]

    def read(self) -> Seen:
        """The alias as it is."""
        answer = self._client.get_alias(FunctionName=self._function, Name=self._alias)
        routing = answer.get("RoutingConfig") or {}
        weights = {name: share for name, share in (routing.get("AdditionalVersionWeights") or {}).items() if share}
        return Seen(answer["FunctionVersion"], weights, answer["RevisionId"], answer.get("Description", ""))

    def begin(self) -> tuple[str, str]:
        """See `Mover`."""
        seen = self.read()
        if seen.weights:
            versions = ", ".join(sorted(seen.weights))
            raise Refused(
                f"{self._name}: version {versions} gets a part of the traffic already ({seen.mark or 'no description'}): "
                "another rollout is under way; end it with `mlpack rollout abort`"
            )
        return seen.main, seen.revision

    def publish(self, release: Mapping[str, Any]) -> str:
        """The version of exactly this release's code: `sha256` as Lambda says it (base64), or an image's `digest`."""
        settings = self._settings("$LATEST")
        if digest := release.get("digest"):
            uri = self._client.get_function(FunctionName=self._function)["Code"].get("ResolvedImageUri", "")
            if not uri.endswith(digest):
                raise Refused(
                    f"{self._function}: its image is {uri or 'none'}, not {digest}: apply the stack of this release first"
                )
        sha256 = release.get("sha256") or settings["CodeSha256"]
        try:
            answer = self._client.publish_version(FunctionName=self._function, CodeSha256=sha256, RevisionId=settings["RevisionId"])
        except Exception as error:
            if code_of(error) == _PRECONDITION:
                raise NotReady(f"{self._function}: its code or settings change at this moment") from error
            if code_of(error) == "InvalidParameterValueException" and settings["CodeSha256"] != sha256:
                why = f"its code has the SHA-256 {settings['CodeSha256']}, not {sha256}: apply the stack of this release first"
                raise Refused(f"{self._function}: {why}") from error
            raise
        version = str(answer["Version"])
        if version == self.read().main:
            raise Refused(f"{self._name}: version {version} has this release's code and settings, and all of the traffic, already")
        return version

    def warm(self, new: str, provisioned: int) -> None:
        """See `Mover`. Provisioned environments are the version's: an alias with weights takes none."""
        self._settings(new)
        if not provisioned:
            return
        which = {"FunctionName": self._function, "Qualifier": new}
        try:
            answer = self._client.get_provisioned_concurrency_config(**which)
        except Exception as error:
            if code_of(error) != "ProvisionedConcurrencyConfigNotFoundException":
                raise
            answer = self._client.put_provisioned_concurrency_config(**which, ProvisionedConcurrentExecutions=provisioned)
        if answer["Status"] == "FAILED":
            raise Refused(
                f"{self._function}:{new}: its environments do not get warm: {answer.get('StatusReason', 'no reason is given')}"
            )
        if answer["Status"] != "READY":
            raise NotReady(f"{self._function}:{new}: its environments get warm")

    def shift(self, old: str, new: str, percent: int, revision: str) -> str:
        """See `Mover`."""
        return self._write(old, {new: percent / 100}, revision)

    def finalise(self, old: str, new: str, revision: str) -> str:
        """See `Mover`. Environments that the old version kept warm are given back."""
        after = self._write(new, {}, revision)
        self._cool(old)
        return after

    def roll_back(self, old: str, new: str | None, revision: str) -> str:
        """See `Mover`. A write of ours whose answer was lost is what is rolled back then."""
        for _ in range(_TRIES):
            try:
                after = self._write(old, {}, revision)
                break
            except Overtaken:
                seen = self.read()
                if seen.main == old and not seen.weights:
                    after = seen.revision  # the brake, or a person, did it
                    break
                if seen.mark != self._mark:
                    raise
                revision = seen.revision
        else:
            raise NotReady(f"{self._name}: others move it again and again")
        if new is not None:
            self._cool(new)
        return after

    def clear(self, *, anybody: bool = False) -> bool:
        """See `Mover`."""
        for _ in range(_TRIES):
            seen = self.read()
            ours = seen.mark.startswith(MARK) if anybody else seen.mark == self._mark
            if not seen.weights or not ours:
                return False
            try:
                self._client.update_alias(
                    FunctionName=self._function,
                    Name=self._alias,
                    RoutingConfig={"AdditionalVersionWeights": {}},
                    RevisionId=seen.revision,
                )
            except Exception as error:
                if code_of(error) != _PRECONDITION:
                    raise
            else:
                return True
        raise NotReady(f"{self._name}: others move it again and again")

    @property
    def _name(self) -> str:
        return f"{self._function}:{self._alias}"

    def _write(self, main: str, weights: dict[str, float], revision: str) -> str:
        try:
            answer = self._client.update_alias(
                FunctionName=self._function,
                Name=self._alias,
                FunctionVersion=main,
                RoutingConfig={"AdditionalVersionWeights": weights},
                Description=self._mark,
                RevisionId=revision,
            )
        except Exception as error:
            if code_of(error) != _PRECONDITION:
                raise
            seen = self.read()
            if (seen.main, seen.weights, seen.mark) == (main, weights, self._mark):
                return seen.revision
            raise Overtaken(f"{self._name}: somebody moved it meanwhile: it is at {seen.main} with {seen.weights}") from error
        return str(answer["RevisionId"])

    def _settings(self, qualifier: str) -> Mapping[str, Any]:
        """The settings of a version that is active. NotReady while it starts."""
        settings: Mapping[str, Any] = self._client.get_function_configuration(FunctionName=self._function, Qualifier=qualifier)
        state, update = settings.get("State", "Active"), settings.get("LastUpdateStatus", "Successful")
        if "Failed" in (state, update):
            reason = settings.get("StateReason") or settings.get("LastUpdateStatusReason") or "no reason is given"
            raise Refused(f"{self._function}:{qualifier} does not start: {reason}")
        if state == "Pending" or update == "InProgress":
            raise NotReady(f"{self._function}:{qualifier} starts")
        return settings

    def _cool(self, version: str) -> None:
        """Give back what a version keeps warm. That it has none is no fault; that it fails costs money, and no traffic."""
        try:
            self._client.delete_provisioned_concurrency_config(FunctionName=self._function, Qualifier=version)
        except Exception as error:
            if not code_of(error):
                raise
