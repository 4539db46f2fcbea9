"""The function that runs the package, and the tables around its model. Pure."""

from __future__ import annotations

import math

from mlpack.deploy import grants
from mlpack.deploy.design.parts import Program, program
from mlpack.deploy.graph.functions import Image, Provisioned, Zip
from mlpack.deploy.graph.roles import Grant
from mlpack.deploy.graph.stores import Table
from mlpack.deploy.graph.values import Id, Node, Parameter, Ref, Value
from mlpack.deploy.service import Service

MODEL = "Model"
LIVE = Id("ModelLive")
_SPARE_MB = 64


def model(
    service: Service, *, timeout_s: int | None = None, more: tuple[Grant, ...] = (), dead: Id | None = None
) -> tuple[Node, ...]:
    """The package's function with its tables. `more`: rights that its work needs."""
    package = service.package
    of = Program(
        id=MODEL,
        name="",
        code=code(service),
        timeout_s=timeout_s or package.timeout_s,
        reserved=reserved(service),
        memory_mb=package.memory_mb,
        architecture=package.architecture,
        grants=(*around(service), *more),
        environment=environment(service),
        ephemeral_mb=ephemeral_mb(service),
        snapstart=service.deploy.warm.snapstart,
        dead=dead,
    )
    return (*tables(service), *program(service, of), *warmth(service))


def reserved(service: Service) -> int:
    """What the peak needs and twenty for chance, what may come at once, and one for each ten requests a second, of which Lambda
    lets no more through."""
    return max(service.need + 20, service.burst, math.ceil(rate(service) / 10), 2 * service.deploy.warm.provisioned)


def rate(service: Service) -> float:
    """Requests a second that a gateway lets through: the peak and three tenths, and one at least."""
    return max(1.0, round(1.3 * service.deploy.traffic.peak_rps, 3))


def code(service: Service) -> Zip | Image:
    """Where the package lies: the registry's place, or what the environment says."""
    package, places = service.package, service.package.places
    if package.kind == "lambda-image":
        return Image(uri=image(service))
    layers: tuple[Value, ...] = ()
    if package.layer_sha256 is not None:
        layers = (Parameter("LayerArn", f"the ARN of the layer that was made of layer.zip (sha256 {package.layer_sha256})"),)
    return Zip(
        bucket=Parameter("CodeBucket", "the bucket that the package lies in, of this region", places.get("s3_bucket")),
        key=Parameter("CodeKey", "the package's key there", places.get("s3_key", f"{service.name}/{package.sha256}.zip")),
        runtime=package.runtime,
        handler=package.handler,
        layers=layers,
        sha256=package.sha256,
    )


def image(service: Service) -> Parameter:
    """Where the image lies."""
    digest = f"sha256:{service.package.sha256}"
    return Parameter("Image", f"the image by its digest: HOST/NAME@{digest}", service.package.places.get("image_uri"))


def repository() -> Parameter:
    """Where tasks pull their image from."""
    return Parameter("ImageRepository", "the ARN of the repository in ECR that the image lies in")


def environment(service: Service) -> dict[str, Value]:
    """What the package is told, beside what watches it."""
    keys = (service.package.authorize or {}).get("api_keys") or {}
    name = keys.get("env")
    if not name:
        return {}
    return {name: Parameter("ApiKeyDigests", f"{name}: tenant=sha256 of a key, separated by spaces")}


def ephemeral_mb(service: Service) -> int:
    """/tmp has room for weights that are fetched into it."""
    package = service.package
    places = tuple((package.weights or {}).get("cache", ("/tmp",)))
    if not package.weight_bytes or not any(place == "/tmp" or place.startswith("/tmp/") for place in places):
        return 512
    return min(10_240, max(512, -(-package.weight_bytes // (1 << 20)) + _SPARE_MB))


def around(service: Service) -> tuple[Grant, ...]:
    """Rights to what is around the model."""
    package, made = service.package, {node.name: node.id for node in tables(service)}
    features, cache = (package.features or {}).get("table"), (package.cache or {}).get("table")
    log, weights = (package.log or {}).get("to"), (package.weights or {}).get("from", "")
    return grants.around(
        features=_table(features, made) if features else None,
        cache=_table(cache, made) if cache else None,
        log=_log(log) if log else None,
        weights=_below(weights) if weights.startswith("s3://") else None,
    )


def _table(name: str, made: dict[str, Id]) -> Value:
    if name in made:
        return Ref(made[name])
    return name if name.startswith("arn:") else grants.table(name)


def _log(to: str) -> Value:
    scheme, _, name = to.partition("://")
    return grants.arn("firehose", f"deliverystream/{name}") if scheme == "firehose" else _below(to)


def _below(place: str) -> Value:
    bucket, prefix = grants.split(place)
    return grants.below(grants.bucket(bucket), prefix)


def tables(service: Service) -> tuple[Table, ...]:
    """The tables that the stack makes: of features where the section says so, of answers that are kept."""
    asked, cache = service.deploy.features, (service.package.cache or {}).get("table")
    made: list[Table] = []
    if asked is not None and asked.create:
        ttl = "expires" if service.deploy.data is not None else None
        made.append(Table(id=Id("FeatureTable"), name=asked.table, hash_key=(asked.key, asked.type), ttl=ttl))
    if cache and not cache.startswith("arn:"):
        made.append(Table(id=Id("AnswerTable"), name=cache, hash_key=("id", "S"), ttl="expires", recovery=False))
    return tuple(made)


def warmth(service: Service) -> tuple[Node, ...]:
    """Environments that are kept."""
    warm = service.deploy.warm
    if not warm.provisioned:
        return ()
    if warm.when is None:
        return (Provisioned(id=Id("Warmth"), alias=LIVE, count=warm.provisioned),)
    crons = warm.when.crons(warm.provisioned)
    return (Provisioned(id=Id("Warmth"), alias=LIVE, count=0, schedule=crons, timezone=warm.when.timezone),)
