"""The facts of a written file, whichever language it has. Pure.

Promises: the same graph gives the same facts in both languages; a reference is `<Id.attribute>`, what an environment gives
`<Name>`, what an account knows `<account>`. What is no known type is no fact: it is listed. Will not: say what is right (`rules`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlpack.deploy.check.facts.forms import formed
from mlpack.deploy.check.facts.table import TABLE
from mlpack.deploy.graph import endpoints, functions, machines, roles, stores, tasks, watching
from mlpack.deploy.graph.values import Node
from mlpack.deploy.render.attributes import ATTRIBUTES

_CFN = {f"AWS::{cfn}": kind for kind, (cfn, _, _) in TABLE.items() if cfn}
_TF = {tf: kind for kind, (_, tf, _) in TABLE.items() if tf}
_TOKEN = re.compile(r"\$\{([^}!][^}]*)\}")
_NOUNS: Mapping[str, type[Node]] = {
    "function": functions.Function, "alias": functions.Alias, "api": endpoints.HttpApi, "rest": endpoints.RestApi,
    "url": endpoints.FunctionUrl, "balancer": endpoints.LoadBalancer, "target group": endpoints.TargetGroup,
    "security group": endpoints.SecurityGroup, "machine": machines.Machine, "rule": machines.Rule, "schedule": machines.Schedule,
    "build": machines.Build, "role": roles.Role, "logs": roles.Logs, "queue": stores.Queue, "bucket": stores.Bucket,
    "table": stores.Table, "topic": stores.Topic, "source": stores.Source, "cluster": tasks.Cluster,
    "capacity": tasks.CapacityProvider, "task": tasks.Task, "service": tasks.Service, "alarm": watching.Alarm,
    "composite": watching.CompositeAlarm, "dashboard": watching.Dashboard,
}  # fmt: skip


class Unreadable:
    """What should have been a JSON document and is none."""

    def __init__(self, text: str, reason: str) -> None:
        self.text, self.reason = text, reason

    def __repr__(self) -> str:
        return f"no JSON: {self.reason}"


@dataclass(frozen=True, slots=True)
class Part:
    """A resource: its facts by name, and where in the file each stands."""

    id: str
    kind: str
    place: str
    paths: Mapping[str, str]
    facts: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.facts.get(name)

    def key(self, name: str = "") -> str:
        """Where in the file a fact stands, or would stand."""
        path = self.paths.get(name)
        if path is None:
            return self.place
        other, _, rest = path.rpartition("/")
        if not other:
            return f"{self.place}.{path}"
        kind, suffix = other.split(":")
        return f"resource.{kind}.{self.id}{suffix}.{rest}"


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts of a file. `tags`: by id, those that everything has in Terraform under ""."""

    file: str
    parts: Mapping[str, Part]
    tags: Mapping[str, Mapping[str, Any]]
    unknown: tuple[str, ...] = ()
    text: Mapping[str, Any] = field(default_factory=dict)

    def of(self, kind: str) -> Iterator[Part]:
        """All resources of a kind."""
        return (part for part in self.parts.values() if part.kind == kind)

    def get(self, reference: Any, kind: str) -> Part | None:
        """The resource that a fact names, if it is of this kind."""
        name = meant(reference)
        part = self.parts.get(name) if name else None
        return part if part is not None and part.kind == kind else None


def meant(reference: Any) -> str | None:
    """Whose id a reference has."""
    if isinstance(reference, list) and len(reference) == 1:
        reference = reference[0]
    match = re.search(r"<(\w+)(?:\.\w+)?>", reference) if isinstance(reference, str) else None
    return match[1] if match else None


def of_cloudformation(file: str, template: Mapping[str, Any]) -> Facts:
    """The facts of a CloudFormation template."""
    resources = {name: each for name, each in mapping(template.get("Resources")).items() if isinstance(each, Mapping)}
    kinds = {name: _CFN[each["Type"]] for name, each in resources.items() if str(each.get("Type")) in _CFN}
    plain = {"AWS::AccountId": "<account>", "AWS::Region": "<region>", "AWS::Partition": "<partition>"}
    plain |= {name: f"<{name}>" for name in mapping(template.get("Parameters"))}
    for name, each in resources.items():
        if kinds.get(name) == "version":
            owner = mapping(each.get("Properties")).get("FunctionName")
            plain[f"{name}.Version"] = f"<{owner['Ref'] if isinstance(owner, Mapping) and 'Ref' in owner else owner}.version>"
    names = _Names(kinds, 0, plain)
    parts = {}
    tags = {}
    for name, kind in kinds.items():
        properties = mapping(resources[name].get("Properties"))
        row = {fact: path for fact, (path, _) in TABLE[kind][2].items() if path is not None}
        facts = {fact: names.cfn(_at(properties, path), path) for fact, path in row.items()}
        paths = {fact: path.rstrip("@!") for fact, path in row.items()}
        parts[name] = Part(name, kind, f"Resources.{name}.Properties", paths, formed(facts))
        tags[name] = _tags(properties.get("Tags"))
    unknown = tuple(name for name in resources if name not in kinds)
    return Facts(file, parts, tags, unknown, template)


def of_terraform(file: str, document: Mapping[str, Any]) -> Facts:
    """The facts of a Terraform configuration in its JSON form."""
    written = {kind: each for kind, each in mapping(document.get("resource")).items() if isinstance(each, Mapping)}
    if rights := _of_stacks(written):
        written |= {"aws_lambda_permission": {**written.get("aws_lambda_permission", {}), **rights}}
    kinds = {name: _TF[kind] for kind, each in written.items() if kind in _TF for name in each}
    plain = {
        "data.aws_caller_identity.current.account_id": "<account>",
        "data.aws_region.current.name": "<region>",
        "data.aws_partition.current.partition": "<partition>",
    }
    plain |= {f"var.{name}": f"<{name}>" for name in mapping(document.get("variable"))}
    plain |= {f"aws_lambda_function.{name}.version": f"<{name}.version>" for name, kind in kinds.items() if kind == "function"}
    names = _Names(kinds, 1, plain)
    parts = {}
    for kind, each in written.items():
        if kind not in _TF:
            continue
        for name, arguments in each.items():
            row = {fact: path for fact, (_, path) in TABLE[_TF[kind]][2].items() if path is not None}
            facts = {}
            for fact, path in row.items():
                other, _, rest = path.rpartition("/")
                held = arguments
                if other:
                    of_kind, suffix = other.split(":")
                    held = mapping(written.get(of_kind)).get(name + suffix)
                facts[fact] = names.tf(_at(held, rest), rest)
            paths = {fact: path.rstrip("@!") for fact, path in row.items()}
            parts[name] = Part(name, _TF[kind], f"resource.{kind}.{name}", paths, formed(facts))
    default = _at(document, "provider.aws.default_tags.tags")
    tags = {"": default if isinstance(default, Mapping) else {}}
    unknown = tuple(name for kind, each in written.items() if kind not in _TF for name in each if name not in rights)
    return Facts(file, parts, tags, unknown, document)


def _of_stacks(written: Mapping[str, Any]) -> dict[str, Any]:
    """Rights that stand in stacks of CloudFormation's, as the provider would write them."""
    rights = {}
    for name, stack in mapping(written.get("aws_cloudformation_stack")).items():
        try:
            right = mapping(json.loads(stack["template_body"])["Resources"][name])
        except (KeyError, TypeError, ValueError):
            continue
        if right.get("Type") == "AWS::Lambda::Permission":
            row = TABLE["permission"][2].values()
            rights[name] = {tf.rstrip("@"): mapping(right.get("Properties")).get(cfn.rstrip("@")) for cfn, tf in row if cfn and tf}
    return rights


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping, empty in the place of anything else."""
    return value if isinstance(value, Mapping) else {}


def _tags(tags: Any) -> Mapping[str, Any]:
    if isinstance(tags, list):
        return {str(tag.get("Key")): tag.get("Value") for tag in tags if isinstance(tag, Mapping)}
    return tags if isinstance(tags, Mapping) else {}


def _at(tree: Any, path: str) -> Any:
    """What stands at a path. A block that stands once may stand in a list or not."""
    for step in path.rstrip("@!").split("."):
        if step.isdecimal():
            tree = tree if isinstance(tree, list) else [tree]
            tree = tree[int(step)] if int(step) < len(tree) else None
        else:
            if isinstance(tree, list) and len(tree) == 1:
                tree = tree[0]
            tree = tree.get(step) if isinstance(tree, Mapping) else None
    return tree


class _Names:
    """References of one file as `<Id.attribute>`."""

    def __init__(self, kinds: Mapping[str, str], column: int, plain: Mapping[str, str]) -> None:
        self._tokens = dict(plain)
        self._longer: list[tuple[str, str]] = []
        for name, kind in kinds.items():
            for attribute, forms in ATTRIBUTES.get(_NOUNS.get(kind, Node), {}).items():
                template, token = forms[column].replace("@", name), f"<{name}.{attribute}>"
                alone = _TOKEN.fullmatch(template)
                if alone is not None:
                    self._tokens.setdefault(alone[1], token)
                else:
                    self._longer.append((template, token))

    def cfn(self, value: Any, path: str) -> Any:
        """A value of CloudFormation."""
        if isinstance(value, Mapping):
            if set(value) == {"Ref"}:
                return self._finished(f"${{{value['Ref']}}}", path)
            if set(value) == {"Fn::GetAtt"}:
                parts = value["Fn::GetAtt"]
                return self._finished(f"${{{parts if isinstance(parts, str) else '.'.join(map(str, parts))}}}", path)
            if set(value) == {"Fn::Sub"} and isinstance(value["Fn::Sub"], str):
                return self._finished(value["Fn::Sub"], path)
            return {key: self.cfn(each, "") for key, each in value.items()}
        if isinstance(value, list):
            listed = [self.cfn(each, "@" if path.endswith("@") else "") for each in value]
            return listed[0] if path.endswith("@") and len(listed) == 1 else listed
        if isinstance(value, str):
            return self._finished(value.replace("${", "${!"), path)
        return value

    def tf(self, value: Any, path: str) -> Any:
        """A value of Terraform."""
        if isinstance(value, Mapping):
            return {key: self.tf(each, "") for key, each in value.items()}
        if isinstance(value, list):
            listed = [self.tf(each, "@" if path.endswith("@") else "") for each in value]
            return listed[0] if path.endswith("@") and len(listed) == 1 else listed
        if isinstance(value, str):
            return self._finished(value.replace("$${", "${!").replace("%%{", "%{"), path)
        return value

    def _finished(self, template: str, path: str) -> Any:
        text = template
        for longer, token in self._longer:
            text = text.replace(longer, token)
        text = _TOKEN.sub(self._token, text)
        if path.endswith("@"):
            name = meant(text)
            return f"<{name}>" if name else text
        text = text.replace("${!", "${")
        if not path.endswith("!"):
            return text
        try:
            return json.loads(text)
        except ValueError as error:
            return Unreadable(text, str(error))

    def _token(self, match: re.Match[str]) -> str:
        known = self._tokens.get(match[1])
        if known is not None:
            return known
        words = match[1].split(".")
        return f"<{'.'.join(words[1:])}>" if words[0].startswith("aws_") else f"<{match[1]}>"
