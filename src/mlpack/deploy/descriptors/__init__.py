"""Descriptors of a container for platforms that are not AWS: Cloud Run and Azure Container Apps, from the same service. Pure.

Promises: a descriptor says what mlpack knows of the package: memory, processors, probes, port, the time to end; whoever may ask
nobody is let in from outside. Words in capitals are the account's to fill in.
Will not: apply anything, or know prices.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from io import StringIO
from typing import Any

from mlpack.deploy.service import Service
from mlpack.targets.prices import CLOUD_RUN_SIZES, MB_PER_VCPU

START_S = 120
"""For how long a container may take to load its model."""
CLOUD_RUN_KILL_S = 10
"""After SIGTERM. Cloud Run, "Container runtime contract"."""
APPS_SIZES = tuple((step / 4, step / 2) for step in range(1, 17))
"""vCPUs and GiB of a replica on the Consumption plan. Container Apps, "Containers in Azure Container Apps", vCPUs and memory."""
APPS_KILL_S = 30
MOST_AT_ONCE = 1000
ENVIRONMENT = "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.App/managedEnvironments/NAME"


def descriptors(service: Service) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """The files by name, and why others are left out. Only a container has some."""
    if service.package.kind != "container":
        return {}, ()
    files, left_out = {}, []
    for name, make in (("container/cloudrun.yaml", cloud_run), ("container/containerapp.yaml", container_app)):
        try:
            files[name] = _text(make(service))
        except ValueError as error:
            left_out.append(f"{name}: {error}")
    return files, tuple(left_out)


def cloud_run(service: Service) -> dict[str, Any]:
    """A service of Cloud Run, for `gcloud run services replace`. ValueError for what no instance has.

    Source: cloud.google.com/run/docs/reference/yaml/v1.
    """
    package, worker = service.package, service.deploy.worker
    if package.architecture != "x86_64":
        raise ValueError(f"Cloud Run has no {package.architecture} processors")
    threads, gib = _size(service)
    sizes = [(vcpus, max(least, gib)) for vcpus, least, most in CLOUD_RUN_SIZES if vcpus >= threads and most >= gib]
    if not sizes:
        raise ValueError(f"no instance of Cloud Run has {gib} GiB with {threads} vCPUs")
    vcpus, memory = sizes[0]
    annotations = {
        "autoscaling.knative.dev/maxScale": str(worker.most),
        "autoscaling.knative.dev/minScale": str(worker.least),
        "run.googleapis.com/cpu-throttling": "false",
        "run.googleapis.com/execution-environment": "gen2",
        "run.googleapis.com/startup-cpu-boost": "true",
    }
    ended = {"MLPACK_DRAIN_S": str(CLOUD_RUN_KILL_S - 1), "MLPACK_LAME_DUCK_S": "5"}
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": _secret(name), "key": "latest"}}} for name in package.environment
    ]
    container = {
        "name": "model",
        "image": _image(service),
        "ports": [{"name": "http1", "containerPort": package.port}],
        "env": [*({"name": name, "value": value} for name, value in ended.items()), *secret],
        "resources": {"limits": {"cpu": f"{vcpus:g}", "memory": f"{memory}Gi"}},
        "startupProbe": {"httpGet": {"path": "/startupz"}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": START_S},
        "livenessProbe": {"httpGet": {"path": "/v2/health/live"}, "periodSeconds": 10, "timeoutSeconds": 5},
    }
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "name": _name(service, 49),
            "labels": {_label(name): _label(value) for name, value in sorted(service.tags.items())},
            "annotations": {"run.googleapis.com/ingress": "internal" if service.deploy.endpoint.internal else "all"},
        },
        "spec": {
            "template": {
                "metadata": {"annotations": annotations},
                "spec": {
                    "containerConcurrency": _at_once(service),
                    "timeoutSeconds": max(package.timeout_s, 1),
                    "serviceAccountName": "ACCOUNT@PROJECT.iam.gserviceaccount.com",
                    "containers": [container],
                },
            },
            "traffic": [{"latestRevision": True, "percent": 100}],
        },
    }


def container_app(service: Service) -> dict[str, Any]:
    """An app of Azure Container Apps, for `az containerapp create --yaml`. ValueError for what no replica has.

    Source: learn.microsoft.com/azure/container-apps/azure-resource-manager-api-spec.
    """
    package, worker = service.package, service.deploy.worker
    if package.architecture != "x86_64":
        raise ValueError(f"Container Apps has no {package.architecture} processors")
    threads, gib = _size(service)
    sizes = [(vcpus, memory) for vcpus, memory in APPS_SIZES if vcpus >= threads and memory >= gib]
    if not sizes:
        raise ValueError(f"no replica of the Consumption plan has {gib} GiB with {threads} vCPUs")
    vcpus, memory = sizes[0]
    names = package.environment
    place = "https://VAULT.vault.azure.net/secrets/"
    vault = [{"name": _secret(name), "keyVaultUrl": f"{place}{_secret(name)}", "identity": "system"} for name in names]
    outside = (service.deploy.endpoint.public or package.authorize is not None) and not service.deploy.endpoint.internal
    ended = {"MLPACK_DRAIN_S": str(APPS_KILL_S - 5), "MLPACK_LAME_DUCK_S": "5"}

    def probe(kind: str, path: str, **times: int) -> dict[str, Any]:
        return {"type": kind, "httpGet": {"path": path, "port": package.port}, **times}

    container = {
        "name": "model",
        "image": _image(service),
        "env": [
            *({"name": name, "value": value} for name, value in ended.items()),
            *({"name": name, "secretRef": _secret(name)} for name in names),
        ],
        "resources": {"cpu": vcpus, "memory": f"{memory:g}Gi"},
        "probes": [
            probe("Startup", "/startupz", periodSeconds=START_S // 10, timeoutSeconds=5, failureThreshold=10),
            probe("Readiness", "/v2/health/ready", periodSeconds=2, timeoutSeconds=2, failureThreshold=1),
            probe("Liveness", "/v2/health/live", periodSeconds=10, timeoutSeconds=5, failureThreshold=3),
        ],
    }
    rule = {"name": "requests", "http": {"metadata": {"concurrentRequests": str(_at_once(service))}}}
    return {
        "type": "Microsoft.App/containerApps",
        "name": _name(service, 32),
        "location": "LOCATION",
        "tags": dict(sorted(service.tags.items())),
        **({"identity": {"type": "SystemAssigned"}} if names else {}),
        "properties": {
            "managedEnvironmentId": ENVIRONMENT,
            "configuration": {
                "activeRevisionsMode": "Multiple",
                "ingress": {
                    "external": outside, "allowInsecure": False, "targetPort": package.port, "transport": "auto",
                    "traffic": [{"latestRevision": True, "weight": 100}],
                },
                **({"secrets": vault} if names else {}),
            },
            "template": {
                "containers": [container],
                "scale": {"minReplicas": worker.least, "maxReplicas": max(worker.most, 1), "rules": [rule]},
                "terminationGracePeriodSeconds": APPS_KILL_S,
            },
        },
    }  # fmt: skip


def _size(service: Service) -> tuple[int, int]:
    """vCPUs, as many as the engine has threads, and whole GiB."""
    memory_mb = service.package.memory_mb
    return max(1, round(memory_mb / MB_PER_VCPU)), math.ceil(memory_mb / 1024)


def _at_once(service: Service) -> int:
    """Requests for one container at a time: two batches, and as many as it answers within the promise if that is more."""
    rate = service.measured.throughput_per_s or 0.0
    return max(1, min(MOST_AT_ONCE, max(2 * service.package.max_batch, math.floor(rate * service.slo_p95_ms / 1000))))


def _image(service: Service) -> str:
    return service.package.places.get("image_uri") or f"HOST/NAME@sha256:{service.package.sha256}"


def _name(service: Service, most: int) -> str:
    """The stack's name in letters that these platforms take, the first a letter."""
    text = re.sub(r"[^a-z0-9]+", "-", service.stack.lower()).strip("-")
    return (text if text[:1].isalpha() else f"m-{text}")[:most].rstrip("-")


def _label(text: str) -> str:
    """A label's key or value, as Cloud Run takes them."""
    return re.sub(r"[^-_a-z0-9]", "-", text.lower())[:63]


def _secret(name: str) -> str:
    return name.lower().replace("_", "-")


def _text(value: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml, out = YAML(), StringIO()
    yaml.width = 160
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(value, out)
    return out.getvalue()
