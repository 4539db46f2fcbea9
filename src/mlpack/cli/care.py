"""Upkeep of a registry on the command line: verify, gc, and the group `registry`. Commands parse, print and choose exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

import mlpack
from mlpack.cli import stdout
from mlpack.cli.releases import (
    Amount,
    DamagedRows,
    NewPath,
    as_json,
    images_option,
    open_console,
    print_json,
    quiet_option,
    registry_option,
)
from mlpack.core.text import sinks, words
from mlpack.errors import ExitCode, RecipeError

if TYPE_CHECKING:
    from mlpack import CollectionPlan


@click.command()
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep in this file what was checked, so that an interrupted check goes on; removed at the end.",
)
@images_option
@registry_option
@as_json
@quiet_option
@click.pass_obj
def verify(quiet: bool, resume: Path | None, images: str | None, registry: str, as_json: bool) -> int:
    """Check every byte against its digest and every row against its bytes. Prints each finding; exit 4 when there is one, 6 when
    nothing is wrong but a container registry did not answer about an image."""
    with open_console(quiet) as console:
        report = mlpack.open_registry(registry, images=images, progress=console).upkeep.verify(resume=resume)
        parts = ((report.releases, "release"), (report.moves, "move"), (report.blobs, "blob"), (report.images, "image"))
        unasked = f"; {words.count(len(report.images_unasked), 'image')} could not be asked for" if report.images_unasked else ""
        console.note(f"{', '.join(words.count(number, what) for number, what in parts)}; {len(report.findings)} wrong{unasked}")
        for question in report.unasked:
            console.warn(question)
    if as_json:
        print_json(mlpack.registry_json(report))
    for finding in () if as_json else (*report.findings, *report.images_unasked):
        stdout.row(str(finding))
    if report.findings:
        return ExitCode.SERVICE
    return ExitCode.UNASKED if report.images_unasked else ExitCode.OK


@click.command()
@click.option("--yes", is_flag=True, help="Remove it; without this only say what would go.")
@click.option(
    "--keep", type=click.IntRange(min=1), default=10, show_default=True, metavar="N", help="Keep this many newest of each name."
)
@click.option("--days", type=Amount(), default=30.0, show_default=True, metavar="DAYS", help="Keep releases younger than this.")
@click.option(
    "--moves",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="N",
    help="Keep the releases of the last N moves of each alias.",
)
@click.option(
    "--window", type=Amount(), default=90.0, show_default=True, metavar="DAYS", help="Keep what was live in this many days."
)
@click.option(
    "--tag", "tags", multiple=True, default=("keep",), show_default=True, metavar="KEY[=VALUE]", help="Keep releases with this tag."
)
@click.option("--grace", type=Amount(), default=1.0, show_default=True, metavar="DAYS", help="Keep bytes younger than this.")
@click.option("--live-aws", is_flag=True, help="Keep what Lambda functions and ECS services of this AWS account and region use.")
@images_option
@registry_option
@as_json
@quiet_option
@click.pass_obj
def gc(  # noqa: PLR0913 - click hands every option over by itself
    quiet: bool,
    yes: bool,
    keep: int,
    days: float,
    moves: int,
    window: float,
    tags: tuple[str, ...],
    grace: float,
    live_aws: bool,
    images: str | None,
    registry: str,
    as_json: bool,
) -> None:
    """List the releases and bytes that no rule keeps; with --yes, remove them. The newest release of each name and those that
    aliases point to always stay; the options say what else to keep."""
    policy = mlpack.RetentionPolicy(newest=keep, days=days, tags=tags, moves=moves, window_days=window, grace_days=grace)
    with open_console(quiet) as console:
        upkeep = mlpack.open_registry(registry, images=images, progress=console).upkeep
        plan = upkeep.collect(policy, remove=yes, live_on_aws=live_aws)
        console.note(_summary(plan, removed=yes))
        if plan.refused:
            console.warn(_refusal_note(plan))
    if as_json:
        return print_json(mlpack.registry_json(plan) | {"removed": yes})
    for each in plan.releases:
        stdout.row(each.reference)
    return None


def _summary(plan: CollectionPlan, *, removed: bool) -> str:
    images = len(plan.images) - len(plan.refused)
    parts = ((len(plan.releases), "release"), (len(plan.blobs), "blob"), (images, "image"))
    what = ", ".join(words.count(number, name) for number, name in parts)
    fate = "removed" if removed else "would go; --yes removes them"
    return f"{what} ({words.size(plan.size_bytes)}) {fate}; {words.count(len(plan.kept), 'release')} kept"


def _refusal_note(plan: CollectionPlan) -> str:
    """One line for all refused images, with the first reason; --json has the others."""
    images = f"{words.count(len(plan.refused), 'image')} without a release stay in the container registry"
    return f"{images}: {plan.refused[0].why}. The next gc asks again; --json names each"


@click.group("registry")
def registry_group() -> None:
    """Setting up a registry and looking after it: create, policy, audit, migrate, export, import."""


@registry_group.command()
@click.argument("url", metavar="s3://BUCKET/PREFIX?table=NAME|DIR")
@click.option("--region", metavar="REGION", help="Where to make it. [default: as boto3 finds it]")
@click.option("--images", metavar="HOST/REPO", help="Where images go, as in 123456789012.dkr.ecr.eu-west-1.amazonaws.com/team.")
@click.option("--kms-key", metavar="ARN", help="Encrypt bytes and rows with this key. [default: AWS's own]")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag of bucket and table. May be given again.")
@click.option(
    "--cache-days",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many days a shared cache there keeps entries. [default: as it is, else 30]",
)
@click.option("--dry-run", is_flag=True, help="Only look, and say what would be done.")
@click.option(
    "--print", "printed", type=click.Choice(["cloudformation", "terraform", "iam"]), help="Print that instead, and ask AWS nothing."
)
@as_json
@quiet_option
@click.pass_obj
def create(  # noqa: PLR0913 - click hands every option over by itself
    quiet: bool,
    url: str,
    region: str | None,
    images: str | None,
    kms_key: str | None,
    tags: tuple[str, ...],
    cache_days: int | None,
    dry_run: bool,
    printed: Literal["cloudformation", "terraform", "iam"] | None,
    as_json: bool,
) -> None:
    """Make what a registry lacks: on AWS bucket, table, settings; in a directory its settings. Prints each change; what is complete
    stays as it is."""

    def say(line: str) -> None:
        if not as_json:
            stdout.row(line)

    with open_console(quiet) as console:
        if "://" not in url and not url.startswith("s3:") and printed is None and (region or kms_key or tags or cache_days):
            raise RecipeError(f"{url} is a directory: --region, --kms-key, --tag and --cache-days are for registries on AWS")
        options = mlpack.RegistryOptions(kms_key=kms_key, images=images, tags=_pairs(tags), cache_days=cache_days)
        if printed is not None:
            return stdout.document(mlpack.registry_template(url, printed, options=options))
        changes = mlpack.create_registry(url, options=options, region=region, dry_run=dry_run, say=say)
        if not changes:
            console.note(f"{url} lacks nothing")
    return print_json({"url": url, "changes": changes, "made": not dry_run}) if as_json else None


def _pairs(tags: tuple[str, ...]) -> dict[str, str]:
    pairs = [tag.partition("=") for tag in tags]
    if bad := [tag for tag, (key, is_pair, _) in zip(tags, pairs, strict=True) if not (key and is_pair)]:
        raise RecipeError(f"--tag {bad[0]}: write KEY=VALUE")
    return {key: value for key, _, value in pairs}


@registry_group.command("audit")
@click.option("--since", metavar="TIME", help="Only since then: 2026-11-24 or 2026-11-24T09:30+01:00, UTC unless it says.")
@registry_option
@as_json
def audit_log(since: str | None, registry: str, as_json: bool) -> int:
    """List everything that was done, oldest first: publications, moves, policies, collections, imports. A damaged row is named on
    stderr and passed over; exit 4 in the end."""
    import json

    damaged = DamagedRows()
    entries = mlpack.open_registry(registry).upkeep.audit(since, damaged=damaged)
    if as_json:
        print_json([mlpack.registry_json(entry) for entry in entries])
        return damaged.code
    for entry in entries:
        who, details = entry.who or "unknown", json.dumps(dict(entry.details), sort_keys=True)
        stdout.rows(f"{sinks.line(entry.when)}  {sinks.line(entry.what)}  by {sinks.line(who)}  {sinks.line(details)}")
    return damaged.code


@registry_group.command()
@registry_option
def migrate(registry: str) -> None:
    """Bring a registry to the format of this mlpack. Prints its schema; what is up to date stays as it is."""
    stdout.row(mlpack.open_registry(registry).upkeep.migrate())


@registry_group.command("export")
@click.argument("out", type=NewPath(path_type=Path))
@click.argument("names", nargs=-1, metavar="[NAME]...")
@images_option
@registry_option
@quiet_option
@click.pass_obj
def export_releases(quiet: bool, out: Path, names: tuple[str, ...], images: str | None, registry: str) -> None:
    """Write models, or all of them, with their histories and policies to OUT: a new directory, or a file that ends with .tar."""
    with open_console(quiet) as console:
        count = mlpack.open_registry(registry, images=images, progress=console).upkeep.export(out, names)
        console.note(f"{words.count(count, 'release')} exported")
    stdout.path(out)


@registry_group.command("import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--with",
    "asked",
    type=click.Choice(["policies", "audit"]),
    multiple=True,
    help="Bring the export's policies, or its records of collections, too. May be given again.",
)
@images_option
@registry_option
@as_json
@quiet_option
@click.pass_obj
def import_releases(quiet: bool, source: Path, asked: tuple[str, ...], images: str | None, registry: str, as_json: bool) -> None:
    """Import the releases of an export and the histories of its aliases. Its policies and its records of collections come only
    --with them. Prints the releases that came."""
    with open_console(quiet) as console:
        report = mlpack.open_registry(registry, images=images, progress=console).upkeep.import_from(source, also=asked)
        for subject in report.policies_kept:
            console.warn(f"the policy of {subject} differs from the export's and stays as it is here")
        for subject in report.aliases_left:
            why = mlpack.why_reserved(subject.partition(":")[2])
            console.warn(f"{subject} did not come, neither its history nor its policy: {why}. Promote to another name here")
        for subject in report.policies:
            console.note(f"the policy of {subject} came, and decides about its promotions from now on")
        if report.audit:
            console.note(f"{words.count(report.audit, 'record')} of collections came, as the export has them")
        if report.policies_left:
            what = words.count(len(report.policies_left), "policy", "policies")
            console.note(f"{what} of the export did not come ({', '.join(report.policies_left[:10])}); --with policies brings them")
        if report.audit_left:
            console.note(f"{words.count(report.audit_left, 'record')} of collections did not come; --with audit brings them")
        console.note(f"{words.count(report.moves, 'move')} of aliases came; {words.count(report.known, 'release')} were there")
    if as_json:
        return print_json(mlpack.registry_json(report))
    for reference in report.releases:
        stdout.row(reference)
    return None


VERBS: tuple[click.Command, ...] = (verify, gc)
