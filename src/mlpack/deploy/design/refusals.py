"""What a section asks for and a package cannot do: refused before anything is designed, with the reason. Pure.

What the section alone says wrong is refused where it is read (`recipe.deploy.reading`).
"""

from __future__ import annotations

from collections.abc import Iterator

from mlpack.core.yaml_positions import Place, PlacedError, Problem
from mlpack.deploy.design.model import ephemeral_mb
from mlpack.deploy.machines.rollout import MOST_S
from mlpack.deploy.service import Service

NAME_LETTERS = 48
"""Of a stack's name: the longest thing that is added to it fits into Lambda's 64."""


def check(service: Service) -> None:
    """PlacedError with everything that does not go together."""
    if problems := tuple(Problem(place=("deploy", *place), message=message) for place, message in _problems(service)):
        raise PlacedError(*problems)


def _problems(service: Service) -> Iterator[tuple[Place, str]]:
    yield from _of_names(service)
    yield from _of_endpoint(service)
    yield from _of_warmth(service)
    yield from _of_worker(service)
    yield from _of_tables(service)
    yield from _of_flows(service)
    yield from _of_rollout(service)


def _of_names(service: Service) -> Iterator[tuple[Place, str]]:
    if len(service.stack) > NAME_LETTERS:
        yield (), f"names would begin with {service.stack}, which has more than {NAME_LETTERS} letters: a shorter name or tags.env"


def _of_endpoint(service: Service) -> Iterator[tuple[Place, str]]:
    package, endpoint = service.package, service.deploy.endpoint
    if endpoint.kind == "alb" and endpoint.auth is None and not endpoint.internal and package.authorize is None:
        why = "a load balancer asks nobody who they are, so it has to be said"
        yield ("endpoint", "auth"), f"{why}: auth: none with accept: public, internal: true, or serve.authorize in the recipe"
    if endpoint.auth == "none" and not endpoint.public and not endpoint.internal and package.authorize is None:
        why = "would let anybody ask: say accept: public beside it, or have the package ask (serve.authorize)"
        yield ("endpoint", "auth"), f"none {why}"
    if (
        endpoint.auth == "iam"
        and package.authorize is not None
        and (package.authorize.get("api_keys") or {}).get("header") in ("authorization",)
    ):
        yield ("endpoint", "auth"), "iam signs in the header authorization, which serve.authorize reads a key from: another header"
    if endpoint.kind == "url" and endpoint.auth != "none" and package.cors is not None:
        why = "serve.cors lets pages ask, and nobody signs their preflights, so that this address refuses them"
        yield ("endpoint", "kind"), f"{why}: kind: http-api, which lets them through"
    if package.kind == "container" and endpoint.kind != "alb":
        why = f"{endpoint.kind} stands before functions: a container's tasks are behind a load balancer"
        yield ("endpoint", "kind"), f"{why}: kind: alb, which asks nobody who they are"


def _of_warmth(service: Service) -> Iterator[tuple[Place, str]]:
    package, warm = service.package, service.deploy.warm
    if package.kind in ("container", "worker") and (warm.snapstart or warm.provisioned):
        key = "snapstart" if warm.snapstart else "provisioned"
        yield ("warm", key), f"is Lambda's: a {package.kind} stays warm by deploy.worker.tasks (at least 1)"
        return
    if not warm.snapstart:
        return
    if package.kind == "lambda-image":
        yield ("warm", "snapstart"), "takes zips alone, and this package is an image: provisioned, or the target lambda-zip"
    if package.from_mount:
        yield ("warm", "snapstart"), "takes no function with a file system (EFS), from which serve.weights come: /tmp or memory"
    if ephemeral_mb(service) > 512:
        yield (
            ("warm", "snapstart"),
            "takes no function with more than 512 MB of /tmp, which its weights need: serve.weights.cache: [memory]",
        )


def _of_worker(service: Service) -> Iterator[tuple[Place, str]]:
    package, worker = service.package, service.deploy.worker
    if package.gpu and worker.on == "fargate":
        yield ("worker", "on"), "Fargate has no GPUs: ec2, or the target cpu-worker"
    if package.kind == "worker" and package.door is None:
        yield ("worker",), "this package has no frontdoor.zip: build it again with this mlpack"


def _of_tables(service: Service) -> Iterator[tuple[Place, str]]:
    asked, told = service.deploy.features, service.package.features
    if asked is not None and told is not None:
        if told["table"].rpartition("/")[2] != asked.table:
            yield ("features", "table"), f"is {asked.table}, and the package reads {told['table']} (serve.features.table)"
        elif next(iter(told["key"])) != asked.key:
            yield ("features", "key"), f"is {asked.key}, and the package asks by {next(iter(told['key']))} (serve.features.key)"
    log = service.deploy.log
    for key, value in (("sample", log.sample), ("to", log.to)):
        built = (service.package.log or {}).get(key)
        if value is not None and built is None:
            yield ("log", key), f"the package logs no predictions: add serve.log.{key} to the recipe and build"
        elif value is not None and built != value:
            yield ("log", key), f"is {value}, and the package was built with {built}: change serve.log.{key} and build"


def _of_flows(service: Service) -> Iterator[tuple[Place, str]]:
    package, batch, retrain = service.package, service.deploy.batch, service.deploy.retrain
    if batch is not None and package.kind == "container":
        yield ("batch",), "a container answers HTTP alone: the targets lambda-zip, lambda-image and cpu-worker answer batches"
    if retrain is None:
        return
    if service.deploy.rollout.codedeploy is not None:
        yield ("retrain",), "ends with a rollout of mlpack's own, and rollout.codedeploy leaves that to CodeDeploy: take one out"
    if retrain.drift is not None and not str((package.log or {}).get("to", "")).startswith("s3://"):
        yield ("retrain", "when"), "drift is seen in logged inputs: add serve.log with `to: s3://...` to the recipe, and build"


def _of_rollout(service: Service) -> Iterator[tuple[Place, str]]:
    rollout = service.deploy.rollout
    if rollout.codedeploy is None and (least := rollout.bake_s * (len(rollout.steps) - 1)) >= MOST_S:
        days = f"{least / 86_400:.1f} days at least, and is rolled back after {MOST_S / 86_400:.1f}"
        yield ("rollout", "bake"), f"a rollout of these steps takes {days}: a shorter bake, or fewer steps"
