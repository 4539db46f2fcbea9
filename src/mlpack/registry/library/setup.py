"""A registry made, or written down for whoever makes infrastructure elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlpack.core.distribution import install
from mlpack.core.environment import AnyPath
from mlpack.errors import RecipeError

if TYPE_CHECKING:
    from mlpack.registry.infrastructure.blueprint import RegistryOptions


def create_registry(
    where: AnyPath,
    *,
    options: RegistryOptions | None = None,
    region: str | None = None,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _change: None,
) -> list[str]:
    """Make what a registry lacks: on AWS its bucket, its table and their settings; in a directory its settings.

    Args:
        where: A directory, or `s3://BUCKET/PREFIX?table=TABLE`.
        options: What of a registry is the team's to choose.
        region: Where to make it on AWS. None is as the address says, else as boto3 finds it.
        dry_run: Only look, and say what would be done.
        say: Told each change before it is made.

    Returns:
        The changes, a line each; nothing when the registry is complete.

    Raises:
        RecipeError: `where` is no place for a registry, or an option is not for this kind of registry.
        ServiceError: AWS refuses. What was made until then stays, and another call goes on.
    """
    images, where = None if options is None else options.images, os.fspath(where)
    if not where.startswith("s3:") and "://" not in where:
        from mlpack.registry import settings

        if region or (options is not None and (options.kms_key or options.tags or options.cache_days)):
            raise RecipeError(f"{where} is a directory: region, kms_key, tags and cache_days are for registries on AWS")
        return settings.create(Path(where), images, dry_run, say)
    try:
        from mlpack.registry.infrastructure import setup
    except ImportError as error:
        raise RecipeError(f"{where}: registries on AWS need boto3: {install('aws')}") from error
    return setup.create(where, region, dry_run, say, options)


def registry_template(
    where: str, form: Literal["cloudformation", "terraform", "iam"], *, options: RegistryOptions | None = None
) -> str:
    """Write down what `create_registry` would make on AWS. Asks AWS nothing.

    Args:
        where: `s3://BUCKET/PREFIX?table=TABLE`.
        form: A template of CloudFormation or Terraform, or the policies of IAM alone.
        options: As of `create_registry`.

    Returns:
        The text.

    Raises:
        RecipeError: `where` is no address of a registry on AWS, or there is no such form.
    """
    from mlpack.registry.infrastructure import templates

    write = {"cloudformation": templates.cloudformation, "terraform": templates.terraform, "iam": templates.policies}
    if form not in write:
        raise RecipeError(f"form: {form!r} is none of {', '.join(write)}")
    return write[form](where, options)
