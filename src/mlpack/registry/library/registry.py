"""A registry: releases that never change, and aliases that move between them behind gates."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.core.environment import AnyPath
from mlpack.core.progress import Progress, Silent
from mlpack.core.text import times
from mlpack.errors import RecipeError
from mlpack.registry.library.access import Access, Damaged, open_access
from mlpack.registry.library.policies import Policies
from mlpack.registry.library.upkeep import Upkeep

if TYPE_CHECKING:
    from mlpack.registry.aliases.aliases import MoveResult
    from mlpack.registry.records import Release
    from mlpack.registry.releases.releases import ReleaseSummary
    from mlpack.registry.rows.rows import Move, Reference

_WAIT_LONGEST_S = 5.0


def open_registry(
    where: AnyPath | None = None,
    *,
    images: str | None = None,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
) -> Registry:
    """Open a registry. Nothing is read or made before the first call.

    Args:
        where: A directory on a local disk, or `s3://BUCKET/PREFIX?table=TABLE`. None is the command's: `MLPACK_REGISTRY`, else
            `.mlpack/registry` in the current directory.
        images: The container registry that images are pushed to: `HOST/REPOSITORY`. None is as the registry was created.
        progress: Whom to tell what is done. None is nobody.
        environ: The variables to go by, as `docs/interface.md` lists them. None is the process's own environment.

    Returns:
        The registry.

    Raises:
        RecipeError: `where` is no place for a registry, or boto3 is not installed.
    """
    return Registry(open_access(where, images, progress or Silent(), environ))


class Registry:
    """Releases of models, and aliases that point to them. Made by `open_registry`.

    A reference names a release: `NAME` is its newest, `NAME@VERSION` that one, `NAME:ALIAS` where the alias points.

    Attributes:
        where: The directory or address.
        policies: What aliases ask of a release.
        upkeep: The registry verified, collected, moved and looked back at.
    """

    def __init__(self, access: Access) -> None:
        """Use `open_registry`.

        Args:
            access: The registry as its caller has it.
        """
        self._access = access
        self.where = access.where
        self.policies = Policies(access)
        self.upkeep = Upkeep(access)

    # --- releases -----------------------------------------------------------------------------------------------------

    def publish(self, build: AnyPath, *, label: str | None = None, sources: AnyPath | None = None) -> Release:
        """Publish what a build left. The same content again changes nothing.

        Args:
            build: The build's directory.
            label: Its semantic version. None is the CI's tag, else what `git describe` says.
            sources: A directory in the repository that the build was made of. None is the build's directory.

        Returns:
            The release, or the one that it already was.

        Raises:
            RecipeError: The build chose nothing, its directory is not what its build.json says, or the label is none.
            ServiceError: The registry refused, or could not be reached.
        """
        from mlpack.registry.releases import provenance

        folder = Path(build)
        opened = self._access.to_publish()
        origin = provenance.read(self._access.environment.variables, folder if sources is None else Path(sources), label)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        with self._access.progress.progress(f"publish {folder.name}", size) as moved:
            return opened.publish(folder, origin, moved)

    def images_home(self) -> str | None:
        """Say where images go from now on: `HOST/REPOSITORY` as the registry was created; None: among its own bytes."""
        from mlpack.registry import settings

        return settings.images_of(self._access.opened)

    def summaries(self, name: str | None = None, *, damaged: Damaged | None = None) -> Iterator[ReleaseSummary]:
        """List releases, by name and version, as they are read.

        Args:
            name: Of this model. None is every model.
            damaged: Told of rows that cannot be read, which are passed over then. None: the first one raises.

        Returns:
            What a list shows of each.

        Raises:
            ServiceError: A row is damaged, and nobody is told.
        """
        return self._access.opened.listed(name, damaged)

    def releases(self, name: str | None = None, *, damaged: Damaged | None = None) -> Iterator[Release]:
        """List releases whole, by name and version, as they are read.

        Args:
            name: As of `summaries`.
            damaged: As of `summaries`.

        Returns:
            Each release.

        Raises:
            ServiceError: A row is damaged, and nobody is told.
        """
        return self._access.opened.releases(name, damaged)

    def show(self, reference: str, *, wait_s: float = 0.0) -> Release:
        """Give one release.

        Args:
            reference: The newest of `NAME`, `NAME@VERSION`, or where `NAME:ALIAS` points.
            wait_s: How long to wait until it is there, in seconds.

        Returns:
            The release.

        Raises:
            RecipeError: There is none, or `reference` is no name of one.
        """
        from mlpack.registry.rows import rows

        if not 0 <= wait_s < math.inf:
            raise RecipeError(f"wait_s: {wait_s!r} is no number of seconds to wait")
        parsed, deadline, pause_s = rows.parse_reference(reference), time.monotonic() + wait_s, 0.2
        while True:
            try:
                return self._access.opened.show(parsed)
            except RecipeError:
                if (remaining_s := deadline - time.monotonic()) <= 0:
                    raise
                time.sleep(min(pause_s, remaining_s))
                pause_s = min(pause_s * 2, _WAIT_LONGEST_S)

    def field(self, release: Release, name: str) -> str:
        """Give one value of a release, for scripts.

        Args:
            release: The release.
            name: One of `mlpack.RELEASE_FIELDS`, such as `image`, `zip` or `digest`.

        Returns:
            The value.

        Raises:
            RecipeError: This release has no such thing.
        """
        from mlpack.registry.releases import forms

        return forms.field(self._access.opened, release, name)

    def presign(self, release: Release, seconds: int) -> str:
        """Make a URL of the function's zip that anybody may fetch.

        Args:
            release: The release.
            seconds: How long the URL is good for.

        Returns:
            The URL.

        Raises:
            RecipeError: The release has no zip, the registry no URLs, or `seconds` is less than 1.
        """
        from mlpack.registry.releases import forms

        if seconds < 1:
            raise RecipeError(f"seconds: {seconds!r} is less than 1")
        return forms.presigned(self._access.opened, release, seconds)

    def terraform_values(self, release: Release) -> dict[str, str]:
        """Say what a deployment of a release needs, as Terraform's `external` data source takes it.

        Args:
            release: The release.

        Returns:
            One flat object of texts.
        """
        from mlpack.registry.releases import forms

        return forms.deployment(release, self._access.opened.place.blobs)

    def cloudformation_parameters(self, release: Release) -> list[dict[str, str]]:
        """Say what a deployment of a release needs, as CloudFormation takes it.

        Args:
            release: The release.

        Returns:
            A list of parameters: `ParameterKey` and `ParameterValue` each.
        """
        from mlpack.registry.releases import forms

        return forms.parameters(release, self._access.opened.place.blobs)

    def pull(self, release: Release | str, out: AnyPath | None = None, *, unpacked: bool = False) -> Path:
        """Pull a release's files, every byte verified. An interrupted pull goes on where it was.

        Args:
            release: The release, or a reference to it.
            out: A directory that is not there, or empty. None is `NAME-VERSION` in the current directory.
            unpacked: Write what the function will see at /var/task, instead of the packages.

        Returns:
            The directory.

        Raises:
            RecipeError: There is no such release, or `out` is not free.
            ServiceError: Bytes are missing or damaged, or the registry could not be reached.
        """
        from mlpack.registry.releases import task_root

        one = self.show(release) if isinstance(release, str) else release
        opened = self._access.to_pull(one)
        folder = Path(f"{one.name}-{one.version}") if out is None else Path(out)
        # What the store of a whole release holds: its packages; the evidence is small beside them.
        size = sum(each.compressed_bytes or 0 for each in one.packages.values()) or one.artifact.size_bytes
        with self._access.progress.progress(f"pull {one.name}@{one.version}", size) as moved:
            if unpacked:
                task_root.pull(opened, one, folder, moved)
            else:
                opened.pull(one, folder, moved)
        return folder

    def path_of(self, release: Release, file: str) -> str:
        """Name one of a release's files.

        Args:
            release: The release.
            file: Its path, or `zip` or `layer` for the function's.

        Returns:
            The path.

        Raises:
            RecipeError: The release has no zip or layer.
        """
        from mlpack.registry.releases import forms, releases

        path = {"zip": releases.function_zip, "layer": forms.layer_zip}.get(file, lambda _: file)(release)
        if path is None:
            raise RecipeError(f"{release.name}@{release.version} is an {release.artifact.kind}, which has no {file}")
        return path

    def pull_file(self, release: Release, file: str, out: AnyPath) -> Path:
        """Pull one file of a release, verified.

        Args:
            release: The release.
            file: As of `path_of`.
            out: The file to write.

        Returns:
            `out`.

        Raises:
            RecipeError: The release has no such file, or `out` is a directory.
            ServiceError: The bytes are missing or damaged, or the registry could not be reached.
        """
        path, target = self.path_of(release, file), Path(out)
        if target.is_dir():
            raise RecipeError(f"{target}: a directory; say with --out what the file is to be called")
        opened = self._access.to_pull(release)
        digest = release.files.get(path)
        with self._access.progress.progress(f"pull {path}", (opened.place.blobs.size(digest) if digest else None) or 1) as moved:
            opened.fetch(release, path, target, moved)
        return target

    # --- aliases ------------------------------------------------------------------------------------------------------

    def promote(
        self, reference: str, to: str, *, force: bool = False, why: str | None = None, expect: int | None = None
    ) -> MoveResult:
        """Point an alias at a release, after its gates: the alias's budgets, and what is live.

        Args:
            reference: `NAME@VERSION`.
            to: The alias, such as `prod`.
            force: Move it although gates refuse; the history keeps that, and why.
            why: The reason, for the history. `force` needs one.
            expect: The revision that the alias must be at (0: never moved); else nothing is moved.

        Returns:
            Where the alias is now, what the gates said, and whether it was moved for this.

        Raises:
            RecipeError: There is no such release, or the alias may not be called so.
            MlpackError: A gate refuses.
            ServiceError: Somebody else was quicker, or the registry could not be reached.
        """
        from mlpack.registry.aliases import aliases, gates, policies
        from mlpack.registry.rows import rows

        parsed, place = rows.parse_reference(reference), self._access.opened.place
        aliases.check_names(parsed, to)
        request = aliases.MoveRequest(who=self._access.who(), why=why, force=force, expect=expect)
        judge = partial(gates.judge, place, policies.of_alias(place, parsed.name, to))
        return aliases.promote(place, parsed, to, request, judge)

    def rollback(self, reference: str, *, why: str | None = None, expect: int | None = None) -> MoveResult:
        """Point an alias back at the last good release before this one.

        Args:
            reference: `NAME:ALIAS`.
            why: The reason, for the history.
            expect: As of `promote`.

        Returns:
            Where the alias is now, and whether it was moved for this.

        Raises:
            RecipeError: There is no such alias, or nothing before.
            ServiceError: Somebody else was quicker, or the registry could not be reached.
        """
        from mlpack.registry.aliases import aliases

        request = aliases.MoveRequest(who=self._access.who(), why=why, expect=expect)
        return aliases.rollback(self._access.opened.place, _alias(reference), request)

    def history(self, reference: str, *, whole: bool = True) -> Iterator[Move]:
        """List an alias's moves, newest first, as they are read.

        Args:
            reference: `NAME:ALIAS`.
            whole: With what the gates said; reading is slower then.

        Returns:
            The moves.

        Raises:
            RecipeError: There is no such alias.
        """
        from mlpack.registry.aliases import aliases

        return aliases.history(self._access.opened.place, _alias(reference), whole=whole)

    def live_at(self, reference: str, when: str) -> Move:
        """Say what was live at a time.

        Args:
            reference: `NAME:ALIAS`.
            when: ISO 8601, such as `2026-11-24` or `2026-11-24T09:30+01:00`; UTC unless it says.

        Returns:
            The move that had led there.

        Raises:
            RecipeError: There is no such alias, nothing was live then, or `when` is no time.
        """
        from mlpack.registry.aliases import aliases

        return aliases.live_at(self._access.opened.place, _alias(reference), times.parse_time(when))


def _alias(text: str) -> Reference:
    from mlpack.registry.rows import rows

    parsed = rows.parse_reference(text)
    if parsed.alias is None:
        raise RecipeError(f"{text!r} is not an alias: write NAME:ALIAS, as in {parsed.name}:prod")
    return parsed
