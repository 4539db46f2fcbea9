"""The control plane: fresh data, drift or a schedule -> train -> build -> register -> rollout; and the jobs that it needs. Pure.

Promises: a job may read the data and write its own findings; the machine may start what it starts, and nothing else.
"""

from __future__ import annotations

from mlpack.deploy import grants
from mlpack.deploy.design import flows
from mlpack.deploy.design.control import REGISTRY, ROLLOUT, as_text, machine, publishes
from mlpack.deploy.design.model import MODEL
from mlpack.deploy.design.parts import Program, bucket_name, logs, named, own_zip, program
from mlpack.deploy.graph.machines import Build, Schedule
from mlpack.deploy.graph.roles import Grant, Role
from mlpack.deploy.graph.stores import Bucket
from mlpack.deploy.graph.values import Id, Joined, Node, Parameter, Ref, Value
from mlpack.deploy.machines import retrain as machines
from mlpack.deploy.machines import triggers
from mlpack.deploy.machines.training import kind_of
from mlpack.deploy.service import Service
from mlpack.recipe.deploy.section import Retrain

JOBS, ARTIFACTS, RETRAIN, BUILD = "Jobs", Id("Artifacts"), Id("Retrain"), Id("Rebuild")
HANDLER = "mlpack_jobs.handler.handler"
_JOB_S, _AT_ONCE = 300, 10
_KEPT_DAYS = 365
_DRIFT = "cron(30 4 * * ? *)"


def jobs(service: Service, sha256: str) -> Program | None:
    """The program of the jobs that this service has; None where it has none."""
    data, retrain = service.deploy.data, service.deploy.retrain
    if data is None and retrain is None:
        return None
    return Program(
        id=JOBS,
        name="jobs",
        code=own_zip("jobs", sha256, HANDLER),
        timeout_s=_JOB_S,
        reserved=_AT_ONCE,
        memory_mb=1024,
        grants=(*_of_rows(service), *_of_retraining(service)),
        environment={"MLPACK_JOBS": as_text(_settings(service))},
    )


def _settings(service: Service) -> dict[str, object]:
    data, retrain, table = service.deploy.data, service.deploy.retrain, service.deploy.features
    told: dict[str, object] = {"service": service.stack}
    if data is not None and table is not None:
        key_type = "number" if table.type == "N" else "string"
        told |= {
            "columns": {table.key: key_type, **data.columns},
            "key": table.key,
            "table": table.table,
            "ttl_days": data.ttl_days,
        }
    if retrain is not None:
        told |= {"artifacts": Joined(("s3://", Ref(ARTIFACTS, "name")))}
        if retrain.fresh_data is not None:
            told["data"] = retrain.fresh_data
        if retrain.drift is not None and service.package.log is not None:
            told |= {"log": service.package.log["to"], "model": service.release.name, "drift": retrain.drift, "hours": 24}
    return told


def _of_rows(service: Service) -> tuple[Grant, ...]:
    data, table = service.deploy.data, service.deploy.features
    if data is None or table is None:
        return ()
    bucket, prefix = grants.split(data.source)
    features: Value = Ref(Id("FeatureTable")) if table.create else grants.table(table.table)
    return (*grants.source(Ref(flows.ROWS)), *grants.data_plane(rows=grants.bucket(bucket), prefix=prefix, features=features))


def _of_retraining(service: Service) -> tuple[Grant, ...]:
    retrain = service.deploy.retrain
    if retrain is None:
        return ()
    kept, own = Ref(ARTIFACTS), grants.arn("states", f"stateMachine:{named(service, 'retrain')}")
    found = [Grant(actions=("states:ListExecutions",), resources=(own,), why="sees whether another run is at work")]
    if retrain.fresh_data is not None:
        bucket, prefix = grants.split(retrain.fresh_data)
        found += grants.validation(data=grants.bucket(bucket), prefix=prefix, kept=kept, kept_prefix="retrain")
    else:
        found += grants.keeps(kept, "retrain", "reads what became of a step, and says what the data are")
    if retrain.drift is not None and service.package.log is not None:
        bucket, prefix = grants.split(service.package.log["to"])
        found += grants.drift(log=grants.bucket(bucket), prefix=prefix, kept=kept, kept_prefix="drift")
    return tuple(found)


def training(service: Service, topic: Id, of: Program | None) -> tuple[Node, ...]:
    """The jobs, and the machine of a retraining with what starts it."""
    if of is None:
        return ()
    made = program(service, of)
    retrain = service.deploy.retrain
    if retrain is None:
        return made
    parts = machines.Parts(
        jobs=Ref(of.alias),
        train=retrain.train,
        build=machines.Project(name=Ref(BUILD, "name")),
        bucket=Ref(ARTIFACTS, "name"),
        rollout=Ref(ROLLOUT),
        topic=Ref(topic),
        alias=service.release.alias or service.environment,
    )
    return (
        Bucket(id=ARTIFACTS, name=bucket_name(service, "artifacts"), expire_days=_KEPT_DAYS, versioned=True),
        *made,
        *_build(service, retrain),
        *machine(service, RETRAIN, "retrain", machines.definition(parts, name=service.stack), _rights(service, retrain, of, topic)),
        *_triggers(service, retrain, of),
    )


def _build(service: Service, retrain: Retrain) -> tuple[Node, ...]:
    registry = Parameter("RegistryBucket", "the name of the registry's bucket")
    data = grants.split(retrain.fresh_data) if retrain.fresh_data is not None else None
    rights = (
        *grants.logs(Id(f"{BUILD}Logs")),
        *grants.keeps(Ref(ARTIFACTS), "", "reads recipe, code and model, and writes the build and what became of it"),
        *(grants.reads(grants.bucket(data[0]), data[1], "reads the data") if data is not None else ()),
        *grants.keeps(grants.bucket(registry), "", "publishes the release"),
        Grant(
            actions=("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"),
            resources=(grants.table(REGISTRY),), why="publishes the release",
        ),
    )  # fmt: skip
    image = Parameter("BuildImage", "an image with mlpack that CodeBuild may pull, by its digest")
    exports = ['MLPACK_SOURCE="$MLPACK_ARTIFACTS/source"']
    if service.package.kind.startswith("lambda"):
        exports.append(f"MLPACK_FUNCTION={service.stack}")
        code = Grant(
            actions=("lambda:UpdateFunctionCode",), resources=(Ref(Id(MODEL)),), why="brings the release's code, without traffic"
        )
        rights = (*rights, code)
    commands = (*(f"export {each}" for each in exports), "python -m mlpack_jobs.building")
    return (
        logs(service, BUILD, f"/aws/codebuild/{named(service, 'rebuild')}"),
        Role(id=Id(f"{BUILD}Role"), service="codebuild.amazonaws.com", grants=rights),
        Build(
            id=BUILD,
            name=named(service, "rebuild"),
            role=Id(f"{BUILD}Role"),
            image=image,
            commands=commands,
            logs=Id(f"{BUILD}Logs"),
        ),
    )


def _rights(service: Service, retrain: Retrain, of: Program, topic: Id) -> tuple[Grant, ...]:
    job = kind_of(retrain.train)
    runs = grants.arn("states", f"execution:{named(service, 'rollout')}:*")
    waits = tuple(
        grants.arn("events", f"rule/{each}")
        for each in ("StepFunctionsGetEventForCodeBuildStartBuildRule", "StepFunctionsGetEventsForStepFunctionsExecutionRule")
    )
    return (
        *grants.invokes(Ref(of.alias)),
        *publishes(topic),
        Grant(actions=job.actions, resources=(retrain.train,), why="trains"),
        Grant(
            actions=("codebuild:BatchGetBuilds", "codebuild:StartBuild", "codebuild:StopBuild"), resources=(Ref(BUILD),),
            why="builds, and registers",
        ),
        *grants.starts(Ref(ROLLOUT)),
        Grant(actions=("states:DescribeExecution", "states:StopExecution"), resources=(runs,), why="waits for the rollout"),
        Grant(
            actions=("events:DescribeRule", "events:PutRule", "events:PutTargets"), resources=waits,
            why="hears of the ends of what it waits for",
        ),
    )  # fmt: skip


def _triggers(service: Service, retrain: Retrain, of: Program) -> tuple[Node, ...]:
    nodes: list[Node] = []
    starts = grants.starts(Ref(RETRAIN))
    if retrain.schedule is not None:
        role = Role(id=Id("RetrainClockRole"), service="scheduler.amazonaws.com", grants=starts)
        when = retrain.schedule
        clock = Schedule(
            id=Id("RetrainClock"), name=named(service, "retrain"), expression=when.expression, timezone=when.timezone,
            target=RETRAIN, role=role.id, input={"reason": "schedule"},
        )  # fmt: skip
        nodes += [role, clock]
    if retrain.fresh_data is not None or retrain.drift is not None:
        role = Role(id=Id("RetrainRuleRole"), service="events.amazonaws.com", grants=starts)
        nodes.append(role)
        if retrain.fresh_data is not None:
            nodes.append(triggers.fresh_data("FreshData", named(service, "fresh-data"), retrain.fresh_data, RETRAIN, role.id))
        if retrain.drift is not None:
            nodes.append(triggers.drift("Drift", named(service, "drift"), service.stack, RETRAIN, role.id))
    if retrain.drift is not None:
        daily = Role(id=Id("DriftClockRole"), service="scheduler.amazonaws.com", grants=grants.invokes(Ref(of.alias)))
        look = Schedule(
            id=Id("DriftClock"), name=named(service, "drift"), expression=_DRIFT, timezone="UTC", target=of.alias, role=daily.id,
            input={"job": "drift"},
        )  # fmt: skip
        nodes += [daily, look]
    return tuple(nodes)
