"""What two keys of the section `deploy` say together, and the record of the section.

Promises:
- Every problem is told at once, at its place in the recipe, with its reason.
- A section that is read can be deployed as far as it says itself; `mlpack.deploy` refuses what the package cannot do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mlpack.core.yaml_positions import Place
from mlpack.recipe.deploy import section as form

if TYPE_CHECKING:
    from mlpack.recipe.deploy.keys import DeployKeys, EndpointKeys

_KEY = "an HTTP API has neither keys nor usage plans (only API Gateway's REST API has): take endpoint.kind: rest"
_AUTHS = {
    "http-api": {"iam", "jwt", "none"},
    "rest": {"iam", "key", "none"},
    "alb": {"none"},
    "url": {"iam", "none"},
    "none": {"iam"},
}
_WHY_NOT = {
    ("http-api", "key"): _KEY,
    (
        "rest",
        "jwt",
    ): "a REST API checks no tokens of any issuer: take kind: http-api, or let the package check them (serve.authorize)",
    ("alb", "iam"): "a load balancer checks no signatures: take kind: http-api or url",
    ("alb", "key"): "a load balancer knows no keys: take kind: rest, or let the package check them (serve.authorize)",
    ("alb", "jwt"): "tokens before a load balancer are not written by mlpack: take kind: http-api, or serve.authorize",
    ("url", "key"): "a function's address knows no keys: take kind: rest, or let the package check them (serve.authorize)",
    ("url", "jwt"): "a function's address checks no tokens: take kind: http-api, or let the package check them (serve.authorize)",
    ("none", "key"): "without an endpoint only AWS's Invoke asks, which is IAM's",
    ("none", "jwt"): "without an endpoint only AWS's Invoke asks, which is IAM's",
    ("none", "none"): "without an endpoint only AWS's Invoke asks, which is IAM's",
}
ARN_OF_TRAINERS = ("states", "lambda", "codebuild")


def problems(keys: DeployKeys) -> Iterator[tuple[Place, str]]:
    """What is wrong with keys that are right one by one."""
    yield from _of_endpoint(keys.endpoint)
    traffic, slo, warm, rollout = keys.traffic, keys.slo, keys.warm, keys.rollout
    if traffic.mean_rps is not None and traffic.mean_rps > traffic.peak_rps:
        yield ("traffic", "mean_rps"), f"is more than the peak of {traffic.peak_rps:g} requests a second"
    if traffic.tenants and keys.endpoint.kind != "rest":
        yield (
            ("traffic", "tenants"),
            _KEY if keys.endpoint.kind == "http-api" else "only a REST API has tenants: endpoint.kind: rest",
        )
    elif traffic.tenants and keys.endpoint.auth != "key":
        yield ("traffic", "tenants"), "tenants are told apart by their keys: say endpoint.auth: key"
    for name, rate in traffic.tenants.items():
        if rate > traffic.peak_rps:
            yield ("traffic", "tenants", name), f"{rate:g} requests a second are more than the peak of {traffic.peak_rps:g}"
    if slo.hops and slo.latency_p95 is None:
        yield ("slo", "hops"), "are parts of slo.latency_p95, which is not said"
    elif slo.hops and (total := sum(slo.hops.values())) > (slo.latency_p95 or 0):
        yield ("slo", "hops"), f"take {total:g} ms together, more than latency_p95 ({slo.latency_p95:g} ms)"
    if rollout.codedeploy is not None and rollout.steps is not None:
        why = "an alias has one owner: CodeDeploy or mlpack's controller, and two of them undo each other's weights"
        yield ("rollout", "codedeploy"), f"stands beside steps: {why}; take one out"
    if rollout.give_up < rollout.bake:
        yield ("rollout", "give_up"), "is less than bake, so that no step could ever be decided"
    if warm.snapstart and warm.provisioned is not None:
        yield ("warm", "snapstart"), "stands beside provisioned: Lambda takes one of them for a function; take one out"
    if warm.when is not None and warm.provisioned is None:
        yield ("warm", "when"), "says when provisioned environments are kept, and there are none: add provisioned"
    if warm.on == "alias" and warm.provisioned is not None and rollout.codedeploy is None and rollout.steps != (100,):
        why = "Lambda refuses provisioned concurrency on an alias with weights, which the rollout's steps need"
        yield ("warm", "on"), f"{why}: take on: version, rollout.steps: [100], or rollout.codedeploy"
    yield from _of_retraining(keys)


def _of_endpoint(endpoint: EndpointKeys) -> Iterator[tuple[Place, str]]:
    auth = "jwt" if isinstance(endpoint.auth, dict) else endpoint.auth
    if endpoint.internal and endpoint.kind != "alb":
        yield ("endpoint", "internal"), f"is a load balancer's: {endpoint.kind} has none (kind: alb)"
    if auth is not None and auth not in _AUTHS[endpoint.kind]:
        yield ("endpoint", "auth"), f"{auth} does not go with {endpoint.kind}: {_WHY_NOT[endpoint.kind, auth]}"
    if endpoint.accept == "public" and auth != "none":
        yield ("endpoint", "accept"), "says that anybody may ask, and auth does not: add auth: none, or take it out"


def _of_retraining(keys: DeployKeys) -> Iterator[tuple[Place, str]]:
    retrain = keys.retrain
    if retrain is not None:
        if retrain.train.split(":")[2] not in ARN_OF_TRAINERS:
            yield ("retrain", "train"), "is the ARN of a state machine, a function or a CodeBuild project, not of this"
        if not retrain.when and retrain.schedule is None:
            yield ("retrain",), "begins never: add when: [{fresh_data: s3://...}], when: [{drift: psi>0.2}] or schedule: weekly"
        for index, trigger in enumerate(retrain.when):
            if (trigger.fresh_data is None) == (trigger.drift is None):
                yield ("retrain", "when", index), "says one of fresh_data and drift"
        for name in ("fresh_data", "drift"):
            if sum(getattr(trigger, name) is not None for trigger in retrain.when) > 1:
                yield ("retrain", "when"), f"says {name} twice"
    if keys.batch is not None and keys.batch.schedule is not None and not keys.batch.source.endswith((".jsonl", ".csv")):
        yield ("batch", "from"), "is answered by a schedule, so it is a manifest: s3://BUCKET/KEY that ends in .jsonl or .csv"
    if keys.data is not None and keys.features is None:
        yield ("data",), "writes features, and no table of them is said: add features: {table: ..., key: ...}"


def record(keys: DeployKeys) -> form.Section:
    """The record of keys that have no problems."""
    traffic, worker, retrain, features = keys.traffic, keys.worker, keys.retrain, keys.features
    auth, data, batch = keys.endpoint.auth, keys.data, keys.batch
    triggers = retrain.when if retrain is not None else ()
    return form.Section(
        traffic=form.Traffic(
            peak_rps=traffic.peak_rps,
            mean_rps=traffic.mean_rps or traffic.peak_rps / 10,
            burst=traffic.burst,
            tenants=dict(traffic.tenants),
            account=traffic.account_concurrency,
        ),
        endpoint=form.Endpoint(
            kind=keys.endpoint.kind,
            auth=form.Jwt(issuer=auth["issuer"], audience=tuple(auth["audience"])) if isinstance(auth, Mapping) else auth,
            public=keys.endpoint.accept == "public",
            internal=keys.endpoint.internal,
        ),
        slo=form.Slo(
            latency_p95_ms=keys.slo.latency_p95,
            error_rate=keys.slo.error_rate,
            cold_starts=keys.slo.cold_starts,
            hops_ms=dict(keys.slo.hops),
        ),
        rollout=form.Rollout(
            steps=keys.rollout.steps or form.Rollout().steps,
            bake_s=keys.rollout.bake,
            give_up_s=keys.rollout.give_up,
            on_doubt=keys.rollout.on_doubt,
            codedeploy=keys.rollout.codedeploy,
        ),
        warm=form.Warm(provisioned=keys.warm.provisioned or 0, when=keys.warm.when, on=keys.warm.on, snapstart=keys.warm.snapstart),
        worker=form.Worker(
            least=worker.tasks[0],
            most=worker.tasks[1],
            wait_s=worker.wait,
            spot=worker.spot,
            on=worker.on,
            instances=worker.instances,
            receives=worker.receives,
        ),
        batch=form.Batch(**batch.model_dump(exclude={"schedule"}), schedule=batch.schedule) if batch else None,
        data=form.Data(source=data.source, columns=dict(data.columns), ttl_days=max(1, round(data.ttl / 86_400))) if data else None,
        retrain=form.Retrain(
            train=retrain.train,
            fresh_data=next((one.fresh_data for one in triggers if one.fresh_data is not None), None),
            drift=next((one.drift for one in triggers if one.drift is not None), None),
            schedule=retrain.schedule,
        )
        if retrain
        else None,
        budget=form.Budget(month_usd=keys.budget.month, per_1k_usd=keys.budget.per_1k),
        features=form.FeatureTable(**features.model_dump()) if features else None,
        log=form.Log(sample=keys.log.sample, to=keys.log.to, keep_days=max(1, round(keys.log.keep / 86_400))),
        notify=keys.notify,
    )
