"""A workspace: the store of builds, their environment, and their progress.

Promises:
- Every other workspace with the same store, and the command, finds its entries again.
- Leaving it keeps the store below its size.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, get_args

from mlpack.core import interrupts
from mlpack.core.environment import AnyPath, Environment
from mlpack.core.progress import Progress, Silent
from mlpack.errors import MlpackError, RecipeError
from mlpack.pipeline.library import stores
from mlpack.pipeline.library.results import PlanResult, PruneResult

if TYPE_CHECKING:
    from mlpack.pipeline.outcome import BuildResult
    from mlpack.store.care import StoreStatus
    from mlpack.store.local import Store
    from mlpack.store.shared_cache import SharedCache


Keep = Literal["chosen", "all"]
EffortName = Literal["full", "quick"]
_KEEP, _EFFORT = get_args(Keep), get_args(EffortName)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How to build, beside what the recipe says.

    Attributes:
        only: Only candidates whose id matches this pattern, such as `int8@*`, and the float baseline.
        keep: Whose packages to leave in the output directory: the chosen candidate's, or those of all.
        effort: How much to time. `quick` takes few timings and gives no p99.
        base: Replaces the base of image targets: a reference in a container registry, an OCI layout, an archive, a directory.
        labels: Labels of the images.
        created: When the images were created: ISO 8601, or seconds since 1970 as text. None is 1970, so that equal inputs give
            equal bytes.
        verify: Run every step again, and compare its result with the stored one.
    """

    only: str | None = None
    keep: Keep = "chosen"
    effort: EffortName = "full"
    base: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created: str | None = None
    verify: bool = False

    def __post_init__(self) -> None:
        for name, value, values in (("keep", self.keep, _KEEP), ("effort", self.effort, _EFFORT)):
            if value not in values:
                raise RecipeError(f"{name}: {value!r} is none of {', '.join(values)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """The store of one build, its limit in bytes, and the start of the build in seconds since 1970."""

    store: Store
    max_bytes: int | None
    began_s: float


class Workspace:
    """A store with its environment, for several calls. Use it as a context manager.

    ```python
    with mlpack.Workspace("/var/cache/models") as workspace:
        for recipe in recipes:
            result = workspace.build(recipe, out=f"out/{recipe.stem}")
    ```
    """

    def __init__(
        self, store: AnyPath | None = None, *, progress: Progress | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        """Name a store. Nothing is opened before the first call.

        Args:
            store: The store's directory, on a local disk. None is the command's: `MLPACK_STORE`, else `mlpack` in the user's cache.
            progress: Receives notes about progress. None prints nothing.
            environ: The environment variables that `docs/interface.md` lists. None is the process's own environment.

        Raises:
            RecipeError: A variable has an invalid value; the message names it.
        """
        self._environment = Environment(environ)
        self._progress: Progress = progress or Silent()
        self.root = self._environment.store if store is None else Path(store)
        self._builds: list[_Build] = []
        self._tiers: list[SharedCache] = []

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        builds, self._builds = self._builds, []
        tiers, self._tiers = self._tiers, []
        for build in builds:
            build.store.release()
        # A build that fails has added entries, too. After an interrupt the process has to end at once.
        may_tidy = error is None or (isinstance(error, MlpackError) and not interrupts.pending())
        if may_tidy and any(build.store.grew for build in builds):
            stores.tidy(self.root, builds[-1].max_bytes, min(build.began_s for build in builds), self._progress)
        if error is None:
            for tier in tiers:
                tier.tell()

    def plan(self, recipe: AnyPath, *, only: str | None = None) -> PlanResult:
        """Say what a build would do: see `mlpack.plan`."""
        from mlpack.pipeline import outlook
        from mlpack.store.local import Store

        return PlanResult(candidates=outlook.foresee(Path(recipe), Store(self.root), (Path.cwd(),), only))

    def build(self, recipe: AnyPath, *, out: AnyPath | None = None, options: BuildOptions | None = None) -> BuildResult:
        """Build a recipe: see `mlpack.build`."""
        from mlpack.oci.distribution import keychain
        from mlpack.pipeline import combining, verbs
        from mlpack.pipeline.library import images
        from mlpack.recipe import several

        settings = options or BuildOptions()
        verb_options = verbs.Options(
            out=None if out is None else Path(out),
            only=settings.only,
            base=settings.base,
            keep_all=settings.keep == "all",
            tools=self._environment.program,
            credentials=keychain.of_environment(self._environment.variables, self._environment.home),
            facts=images.facts(settings.labels, settings.created),
            effort=verbs.EFFORTS[settings.effort],
        )
        store = self._open_to_build(verify=settings.verify)
        if several.is_several(Path(recipe)):
            return combining.build(Path(recipe), store, verb_options, self._progress)
        return verbs.build(Path(recipe), store, (Path.cwd(),), verb_options, self._progress)

    def rerun_step(self, folder: AnyPath, *, out: AnyPath | None = None) -> str:
        """Run the failed step of a build alone: see `mlpack.rerun_step`."""
        from mlpack.pipeline import reproduce
        from mlpack.store.local import Store

        return reproduce.run_and_report(Path(folder), Store(self.root), None if out is None else Path(out))

    def status(self) -> StoreStatus:
        """Say what the store holds. Changes nothing.

        Returns:
            Its size in bytes, its kinds of entries, and the part that running builds use.
        """
        from mlpack.store import care

        return care.status(self.root)

    def prune(self, max_bytes: int | None, *, dry_run: bool = False) -> PruneResult:
        """Remove left-overs of killed builds, then the entries that were not used for longest, until the store is small enough.

        Args:
            max_bytes: The store's limit in bytes; None for no limit, which removes only the left-overs.
            dry_run: Only say what would be removed.

        Returns:
            The removed entries. What running builds use stays.

        Raises:
            RecipeError: `max_bytes` is less than 0.
            MlpackError: This system has no locks of open files, so nobody can say what running builds use.
        """
        if max_bytes is not None and max_bytes < 0:
            raise RecipeError(f"max_bytes: {max_bytes:,} is less than 0")
        return stores.prune(self.root, max_bytes, dry_run=dry_run)

    @property
    def max_bytes(self) -> int | None:
        """The store's limit in bytes (`MLPACK_STORE_MAX`); None for no limit."""
        return self._environment.store_max_bytes

    def _open_to_build(self, *, verify: bool) -> Store:
        """Open the store for a build; `__exit__` prunes it."""
        from mlpack.store import shared_cache
        from mlpack.store.local import Store

        most, variables = self._environment.store_max_bytes, self._environment.variables
        tier = shared_cache.configured(variables, self._progress) if variables.get("MLPACK_CACHE") else None
        if tier is not None:
            self._tiers.append(tier)
        store = Store(self.root, verify=verify, tier=tier)
        self._builds.append(_Build(store=store, max_bytes=most, began_s=time.time()))
        return store
