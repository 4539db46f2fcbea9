"""Write the directory of a deployment.

Promises:
- Same inputs, same bytes. A new directory appears whole. In one that is there each file is replaced whole, `deploy.lock` last, so
  that an interrupted write is seen by `mlpack deploy check`.
- `overrides.yaml` is the user's: it is written once, and never again. So is every file that mlpack did not write.
- A file of mlpack's that somebody changed is not overwritten: the error says where the change belongs.

Will not: talk to AWS, or upload anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlpack.core import digest, distribution
from mlpack.core.files import atomically, bounded, temporary
from mlpack.core.text import sinks
from mlpack.deploy import plan_page, programs, render
from mlpack.deploy.bill.prices import PRICES
from mlpack.deploy.descriptors import descriptors
from mlpack.deploy.graph.functions import Function, Zip
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.machines import Machine
from mlpack.deploy.graph.values import Context, Joined, Parameter, Ref
from mlpack.deploy.graph.watching import Dashboard
from mlpack.deploy.planning import DeploymentPlan
from mlpack.deploy.render import documents, overrides
from mlpack.deploy.render.overrides import Overrides
from mlpack.deploy.rollouts import settings
from mlpack.deploy.service import Service
from mlpack.deploy.simulate import facts
from mlpack.errors import RecipeError

LOCK, OVERRIDES, PLAN = "deploy.lock", overrides.NAME, "PLAN.md"
SCHEMA = 1
_LOCK_BYTES = 1 << 20
_OVERRIDES_TEXT = """\
# Yours: mlpack never writes over this file, and `mlpack deploy check` checks what comes of it.
# parameters:       values of parameters.ENV.json          {Subnets: "subnet-1,subnet-2"}
# cloudformation:   merged into resources by logical id    {Model: {Properties: {MemorySize: 2048}}}
# terraform:        merged into service.tf.json            {resource: {aws_lambda_function: {Model: {memory_size: 2048}}}}
parameters: {}
cloudformation: {}
terraform: {}
"""
_WHAT = {
    "PLAN.md": "this page",
    "service.cfn.json": "everything, for CloudFormation: `aws cloudformation deploy`, `sam deploy`, CDK's `CfnInclude`",
    "service.tf.json": "the same for Terraform",
    "parameters": "values that this environment gives",
    "openapi.json": "what the service takes and answers over HTTP",
    "dashboard.json": "the dashboard alone",
    "container": "the same container for another platform: its words in capitals are yours to fill in",
    "policies": "what each role may do, and why",
    "rollout.json": "what rollouts move and go by: `mlpack rollout start --deployment` reads it",
    "asl": "a state machine, to read",
    "zip": "a program of mlpack's own: put it where the parameters say",
    "simulation.json": "what `mlpack deploy simulate` has to know",
    "overrides.yaml": "yours",
    "deploy.lock": "the digest of each file, and of what they were made from",
}


def files(service: Service, graph: Graph, plan: DeploymentPlan, own: bytes = _OVERRIDES_TEXT.encode()) -> dict[str, bytes]:
    """Every file of mlpack's, by its path, in order. `own`: the team's overrides, which are merged into both languages."""
    made = dict(sorted(_files(service, graph, overrides.parse(own.decode(errors="replace")))))
    said = {name: _what(name) for name in sorted((*made, PLAN, OVERRIDES, LOCK))}
    made[PLAN] = plan_page.markdown(plan, said).encode()
    made[LOCK] = _json(_lock(service, made) | {"overrides": str(digest.of_bytes(own))})
    return made


def _files(service: Service, graph: Graph, own: Overrides) -> Iterator[tuple[str, bytes]]:
    environment = service.environment
    yield "service.cfn.json", _json(overrides.into_cloudformation(render.cloudformation(graph), own))
    yield "service.tf.json", _json(overrides.into_terraform(render.terraform(graph), own))
    yield f"parameters.{environment}.json", _json(render.parameters(graph, environment, own.parameters))
    yield f"{environment}.tfvars.json", _json(render.variables(graph, environment, own.parameters))
    yield facts.FILE, _json(facts.facts(service, graph, settings.policy(service)))
    for name, policy in render.policies(graph).items():
        yield f"policies/{name}.json", _json(policy)
    for machine in graph.of(Machine):
        yield f"{str(machine.id).lower()}.asl.json", _json(_shown(machine.definition))
    for board in graph.of(Dashboard):
        yield "dashboard.json", _json(_shown(documents.dashboard(board)))
    if service.package.document:
        yield "openapi.json", _json(service.package.document)
    if (led := settings.of_graph(service, graph)) is not None:
        yield settings.FILE, _json(led)
    for name, text in descriptors(service)[0].items():
        yield name, text.encode()
    for name in _programs(graph):
        yield f"{name}.zip", programs.archive(name)


def _programs(graph: Graph) -> tuple[str, ...]:
    """mlpack's own programs that the graph's functions run."""
    handlers = {node.code.handler.partition(".")[0] for node in graph.of(Function) if isinstance(node.code, Zip)}
    return tuple(name for name, package in programs.PACKAGES.items() if package in handlers)


def _shown(value: Any) -> Any:
    """A tree for readers and linters, with `${Id.attribute}` for what only the account will know."""
    if isinstance(value, Joined):
        return "".join(_shown(part) for part in value.parts)
    if isinstance(value, Ref):
        return f"${{{value.node}.{value.attribute}}}"
    if isinstance(value, Parameter | Context):
        return f"${{{value.name}}}"
    if isinstance(value, Mapping):
        return {str(key): _shown(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_shown(one) for one in value]
    return value


def _json(value: Any) -> bytes:
    return (sinks.json_seen(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)) + "\n").encode()


def _lock(service: Service, made: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "mlpack": distribution.VERSION,
        "prices": max(price.read for price in PRICES.values()),
        "release": {"name": service.release.reference, "digest": service.release.digest, "package": service.package.sha256},
        "files": {name: str(digest.of_bytes(data)) for name, data in sorted(made.items())},
    }


def _what(name: str) -> str:
    key = name if name in _WHAT else name.partition("/")[0] if "/" in name else ""
    if not key:
        key = "parameters" if "parameters" in name or "tfvars" in name else "asl" if name.endswith(".asl.json") else "zip"
    return _WHAT[key]


def write(made: Mapping[str, bytes], out: Path) -> tuple[str, ...]:
    """Put the files into `out`. Returns the names of those that changed. RecipeError where `out` is not free for them."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise RecipeError(f"{out}: is no directory; say with -o where the deployment's files go")
    if out.is_dir() and any(out.iterdir()):
        return _replace(made, out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RecipeError(f"{out}: lies below a file, not in a directory; say with -o where the deployment's files go") from None
    with temporary.directory("deploy", out.absolute().parent) as work:
        fresh = work / "files"
        for name, data in {**made, OVERRIDES: _OVERRIDES_TEXT.encode()}.items():
            _put(fresh / name, data)
        if out.is_dir():
            out.rmdir()
        fresh.rename(out)
    return tuple(made)


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomically.write(path, data)


def _replace(made: Mapping[str, bytes], out: Path) -> tuple[str, ...]:
    """Replace what mlpack wrote there, and take away what it no longer writes."""
    before = _locked(out)
    changed: list[str] = []
    for name, digest_text in before.items():
        path = out / name
        if path.is_file() and str(digest.of_file(path)) not in (digest_text, str(digest.of_bytes(made.get(name, b"")))):
            changed.append(name)
    taken = [name for name, data in made.items() if name not in {*before, LOCK} and not _is_free(out / name, data)]
    if changed or taken:
        edited = f"{', '.join(changed)} changed by hand: put the change into {OVERRIDES}, and remove the file" if changed else ""
        strange = f"{', '.join(taken)} not written by mlpack: move it away" if taken else ""
        raise RecipeError(f"{out}: {'; '.join(filter(None, (edited, strange)))}")
    news = [name for name, data in made.items() if not (out / name).is_file() or (out / name).read_bytes() != data]
    for name in news:
        if name != LOCK:
            _put(out / name, made[name])
    for name in before:
        if name not in made:
            (out / name).unlink(missing_ok=True)
    if not (out / OVERRIDES).exists():
        _put(out / OVERRIDES, _OVERRIDES_TEXT.encode())
    if LOCK in news:
        _put(out / LOCK, made[LOCK])
    return tuple(news)


def _is_free(path: Path, data: bytes) -> bool:
    """Whether nothing is there, or what an interrupted write left."""
    return not path.exists() or (path.is_file() and path.read_bytes() == data)


def own_part(out: Path) -> bytes:
    """The team's overrides in a directory; those of a new one where there are none."""
    try:
        return bounded.read(out / OVERRIDES, _LOCK_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return _OVERRIDES_TEXT.encode()


def _locked(out: Path) -> dict[str, str]:
    """What an earlier write left there."""
    try:
        value = json.loads(bounded.read(out / LOCK, _LOCK_BYTES))
        names = value["files"]
        if not isinstance(names, dict) or not all(isinstance(each, str) for pair in names.items() for each in pair):
            raise TypeError("files are no mapping of texts")
    except FileNotFoundError:
        raise RecipeError(
            f"{out}: is not empty, and has no {LOCK} of an earlier `mlpack deploy write`: name another directory"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"{out / LOCK}: cannot be read ({error}): remove it with the files that mlpack wrote there") from None
    if bad := [name for name in names if name.startswith("/") or ".." in name.split("/") or "\\" in name]:
        raise RecipeError(f"{out / LOCK}: names {bad[0]!r}, which is no file below it: remove {LOCK}, and write again")
    return names
