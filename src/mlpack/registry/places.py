"""Opens the registry that a name means: a directory, or `s3://bucket/prefix?table=NAME`. Heavy libraries are imported late."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.errors import RecipeError
from mlpack.registry import DamagedError

if TYPE_CHECKING:
    from mlpack.registry.records import Release
    from mlpack.registry.releases.releases import Registry

Credentials = Callable[[str], tuple[str, str] | None]


def open_registry(where: str) -> Registry:
    """The registry at `where`. RecipeError when it cannot be one."""
    if where.startswith("s3:"):
        from mlpack.registry.aws import opening

        return opening.open_registry(where)
    if "://" in where:
        raise RecipeError(f"{where}: registries are directories, or s3://bucket/prefix?table=NAME")
    from mlpack.registry.local import directory

    return directory.open_registry(Path(where))


def with_images(opened: Registry, prefix: str | None, credentials: Credentials) -> Registry:
    """The same registry with a container registry for its images: `host/repository`, else the one of its settings.

    `credentials` returns user and password for a host.
    """
    from mlpack.registry import settings
    from mlpack.registry.releases.releases import Registry

    if prefix is None:
        prefix = settings.images_of(opened)
    if prefix is None:
        return opened
    from mlpack.registry.images import images

    return Registry(opened.place, images.open_images(prefix, credentials))


def with_recorded_images(opened: Registry, prefix: str | None, credentials: Credentials) -> Registry:
    """As `with_images`, for upkeep. Without a container registry in the settings, images that were published to one of their own
    (`publish --images`) are found where their records say. Not for publishing."""
    try:
        registry = with_images(opened, prefix, credentials)
    except DamagedError:  # `verify` reports the damaged row
        registry = opened
    if registry.images is not None:
        return registry
    from mlpack.registry.images import images
    from mlpack.registry.releases.releases import Registry

    return Registry(opened.place, images.recorded_images(credentials))


def with_images_of(opened: Registry, release: Release, credentials: Credentials) -> Registry:
    """The same registry with the container registry of this release's images, if it has any."""
    for reference in release.images.values():
        return with_images(opened, reference.partition("@")[0].rpartition("/")[0], credentials)
    return opened


def in_use_on_aws(where: str) -> dict[str, str]:
    """What Lambda functions and ECS services use, and which of them: see `live`.

    For a registry on AWS in its account and region; for a directory, whose releases may run there too, in those that boto3
    finds. ServiceError when it finds none.
    """
    from types import SimpleNamespace

    from mlpack.registry.aws import live, opening
    from mlpack.registry.aws.clients import Clients, DefaultAccount, Timeouts

    account = opening.parse(where) if where.startswith("s3:") else DefaultAccount(where=where)
    clients = Clients(account, Timeouts())  # RecipeError without boto3, which the next import needs
    from mlpack.registry.aws.refusals import AwsCall, explained

    grants = tuple((action, "*") for action in live.ACTIONS)
    with explained(AwsCall(where=where, action="looking for what Lambda and ECS use", resource="*", grants=grants)):
        return live.live_in_aws(SimpleNamespace(client=clients.get))
