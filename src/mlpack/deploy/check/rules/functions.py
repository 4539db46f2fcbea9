"""Functions, their aliases, and who invokes them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mlpack.deploy.check.facts.reading import Facts, meant
from mlpack.deploy.check.records import Finding
from mlpack.deploy.check.rules.common import Rule, function_of, number, said, within

RESERVED_NAMES = re.compile(r"AWS_(?!XRAY_|LWA_|RIE)\w*|_HANDLER|_X_AMZN_TRACE_ID|LAMBDA_\w+|TZ")
_RUNTIME = re.compile(r"python3\.(9|1[0-9])|provided\.al2(023)?")


def function(facts: Facts) -> Iterator[Finding]:
    """Sizes, times and forms of a function."""
    for part in facts.of("function"):
        yield from within(facts, part, "memory", 128, 10240)
        yield from within(facts, part, "timeout", 1, 900)
        yield from within(facts, part, "disk", 512, 10240)
        yield from within(facts, part, "reserved", 0, 100_000)
        if part["architecture"] not in (["x86_64"], ["arm64"]):
            yield said(facts, part, "architecture", f"{part['architecture']} is neither [x86_64] nor [arm64]")
        image = part["package"] == "Image" or part["image"] is not None
        if image and (part["runtime"] or part["handler"] or part["object"] or part["layers"]):
            yield said(facts, part, "image", "an image has its runtime and handler in itself: one of image and zip has to go")
        if not image and part["runtime"] is None:
            yield said(facts, part, "runtime", "code in a zip needs a runtime")
        if part["runtime"] is not None and not _RUNTIME.fullmatch(str(part["runtime"])):
            yield said(facts, part, "runtime", f"{part['runtime']} is no runtime that packages of mlpack run on")
        for name in part["environment"] or {}:
            if RESERVED_NAMES.fullmatch(name):
                yield said(facts, part, "environment", f"{name} is a name that Lambda keeps for itself")
        if part["role"] is None or facts.get(part["role"], "role") is None:
            yield said(facts, part, "role", "names no role of this deployment: its rights are not the derived ones")
        if facts.get(part["logs"], "logs") is None:
            yield said(
                facts, part, "logs", "names no log group of this deployment: lines would be kept for ever in one that Lambda makes"
            )


def snapstart(facts: Facts) -> Iterator[Finding]:
    """What SnapStart cannot do."""
    warm = {function_id for function_id, _, _ in _provisioned(facts)}
    for part in facts.of("function"):
        if part["snapstart"] not in (None, "PublishedVersions", "None"):
            yield said(facts, part, "snapstart", f"{part['snapstart']}: SnapStart is for PublishedVersions alone")
        if part["snapstart"] != "PublishedVersions":
            continue
        if part["package"] == "Image" or part["image"] is not None:
            yield said(facts, part, "snapstart", "SnapStart is not for images: use a zip, or provisioned concurrency")
        if part.id in warm:
            yield said(facts, part, "snapstart", "SnapStart and provisioned concurrency exclude each other")
        if (number(part["disk"]) or 512) > 512:
            yield said(facts, part, "snapstart", "SnapStart takes no more than 512 MB of /tmp")
        if str(part["runtime"]) in ("python3.9", "python3.10", "python3.11"):
            yield said(facts, part, "snapstart", f"SnapStart needs python3.12 or later, not {part['runtime']}")


def _provisioned(facts: Facts) -> Iterator[tuple[str, float, tuple[str, str]]]:
    """(function's id, how many, (resource, fact)) of all provisioned concurrency."""
    for kind in ("version", "warmth", "alias"):
        for part in facts.of(kind):
            count = number(part["provisioned"])
            if count is not None:
                yield meant(part["function"]) or "", count, (part.id, "provisioned")
    for part in facts.of("scaling"):
        if part["of"] == "lambda":
            yield meant(part["resource"]) or "", number(part["most"]) or 0, (part.id, "most")


def provisioned(facts: Facts) -> Iterator[Finding]:
    """That old and new environments of a rollout fit into the reservation, and that none belong to an alias."""
    total: dict[str, float] = {}
    for owner, count, (name, fact) in _provisioned(facts):
        part, function_part = facts.parts[name], facts.parts.get(owner)
        reserved = number(function_part["reserved"]) if function_part is not None else None
        total[owner] = total.get(owner, 0) + count
        if reserved is not None and total[owner] > reserved:
            yield said(facts, part, fact, f"{total[owner]:g} provisioned environments are more than the {reserved:g} reserved")
        elif reserved is not None and 2 * total[owner] > reserved:
            yield said(
                facts,
                part,
                fact,
                f"a rollout keeps {total[owner]:g} of both versions, which is more than the {reserved:g} reserved",
            )
        if part.kind == "alias":
            yield said(facts, part, fact, "Lambda refuses provisioned concurrency of an alias with weights: it belongs to versions")


def alias(facts: Facts) -> Iterator[Finding]:
    """That an alias is the rollout's: no weights, no fixed version, and hands off in Terraform."""
    for part in facts.of("alias"):
        weights = part["weights"]
        if isinstance(weights, Mapping):
            listed = [(str(version), number(weight)) for version, weight in weights.items()]
        else:
            listed = [
                (str(each.get("FunctionVersion")), number(each.get("FunctionWeight")))
                for each in weights or ()
                if isinstance(each, Mapping)
            ]
        for version, weight in listed:
            if weight is None or not 0 <= weight <= 1:
                yield said(facts, part, "weights", f"the weight of version {version} is {weight}: weights are from 0 to 1")
        if len(listed) > 1:
            yield said(facts, part, "weights", f"an alias sends to its version and one other, not to {len(listed)} others")
        if listed:
            yield said(facts, part, "weights", "weights are the rollout's: one in a file moves traffic at the next update")
        version = str(part["version"])
        owner = meant(part["version"])
        if version == "$LATEST" or owner is None:
            yield said(facts, part, "version", f"{version} is no version of this deployment: an update would move traffic")
        elif owner != meant(part["function"]):
            yield said(facts, part, "version", f"is a version of {owner}, not of its own function")
        if facts.get(part["function"], "function") is None:
            yield said(facts, part, "function", "names no function of this deployment")
        if "ignored" in part.paths and not {"function_version", "routing_config"} <= set(part["ignored"] or ()):
            yield said(facts, part, "ignored", "has to ignore function_version and routing_config: an apply would undo a rollout")


def version(facts: Facts) -> Iterator[Finding]:
    """That the version that an alias begins with outlives changes of the stack."""
    for part in facts.of("version"):
        if facts.text.get("Resources", {}).get(part.id, {}).get("DeletionPolicy") != "Retain":
            yield Finding(facts.file, f"Resources.{part.id}.DeletionPolicy", "has to be Retain: traffic may still be on it")


def invokers(facts: Facts) -> Iterator[Finding]:
    """That everything that invokes goes by the alias, never by the bare function."""
    kinds = (("permission", "alias"), ("source", "alias"), ("integration", "alias"), ("target group", "alias"))
    for kind, fact in (*kinds, ("rule", "target"), ("schedule", "target")):
        for part in facts.of(kind):
            if facts.get(part[fact], "function") is not None:
                yield said(facts, part, fact, "names the function in place of its alias: a rollout would not reach it")
            elif fact == "alias" and facts.get(part[fact], "alias") is None and part[fact] is not None:
                yield said(facts, part, fact, f"{part[fact]} is no alias of this deployment")
    for part in facts.of("permission"):
        if part["alias"] is None:
            yield said(facts, part, "alias", "names no alias: a rollout would not reach who is allowed")
        if not part["source"] and not part["account"] and part["url"] is None and part["by url"] is not True:
            yield said(facts, part, "source", f"lets {part['principal']} of any account invoke: name the source")
        if part["action"] == "lambda:*":
            yield said(facts, part, "action", "lets a service do everything with the function")
    for part in facts.of("url"):
        if "qualifier" in part.paths and part["qualifier"] is None:
            yield said(facts, part, "qualifier", "an address without the alias's name is of $LATEST: a rollout would not reach it")


def source(facts: Facts) -> Iterator[Finding]:
    """Messages of a queue to a function: how many at once, and for how long they are hidden."""
    for part in facts.of("source"):
        owner, queue = function_of(facts, part["alias"]), facts.get(part["queue"], "queue")
        yield from within(facts, part, "at once", 2, 1000)
        at_once, batch = number(part["at once"]), number(part["batch"]) or 10
        if at_once is None:
            yield said(facts, part, "at once", "pollers would take more than the function can run, and fill the DLQ")
        if batch > 10 and not number(part["window"]):
            yield said(facts, part, "batch", "batches of more than ten messages need a window")
        if "ReportBatchItemFailures" not in (part["failures"] or ()):
            yield said(facts, part, "failures", "without ReportBatchItemFailures one bad message sends its whole batch again")
        reserved = number(owner["reserved"]) if owner is not None else None
        if at_once is not None and reserved is not None and at_once > reserved:
            yield said(facts, part, "at once", f"{at_once:g} at once are more than the {reserved:g} reserved")
        hidden = number(queue["visibility"]) if queue is not None else None
        timeout = number(owner["timeout"]) if owner is not None else None
        if queue is not None and hidden is not None and timeout is not None and hidden < 6 * timeout:
            yield said(
                facts,
                queue,
                "visibility",
                f"{hidden:g} s are less than six times the function's {timeout:g} s: messages come twice",
            )


CODE_DEPLOY = re.compile(
    r"CodeDeployDefault\.Lambda(AllAtOnce|Canary10Percent(5|10|15|30)Minutes|Linear10PercentEvery(1|2|3|10)Minutes?)"
)


def code_deploy(facts: Facts) -> Iterator[Finding]:
    """That nobody beside the rollout moves an alias, and that CodeDeploy, where a team brings it, is told something it knows."""
    for name, each in facts.text.get("Resources", {}).items():
        if "CodeDeployLambdaAliasUpdate" in (each.get("UpdatePolicy") or {}) and any(facts.of("machine")):
            yield Finding(facts.file, f"Resources.{name}.UpdatePolicy", "CodeDeploy and the rollout would both move this alias")
        config = each.get("Properties", {}).get("DeploymentConfigName")
        if each.get("Type") == "AWS::CodeDeploy::DeploymentGroup" and isinstance(config, str) and not CODE_DEPLOY.fullmatch(config):
            where = f"Resources.{name}.Properties.DeploymentConfigName"
            yield Finding(facts.file, where, f"CodeDeploy has no {config} of its own, and this deployment makes none")


RULES: tuple[Rule, ...] = (function, snapstart, provisioned, alias, version, invokers, source, code_deploy)
