"""A workspace: where builds keep what they made, and whom they tell.

Promises: what lies in its store is found again by every other workspace, and by the command, that uses the same store; leaving it
keeps the store below its size.
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
        only: Only candidates whose id matches this pattern, such as `int8@*`. The float that they are compared with is built, too.
        keep: Whose packages to leave in the output directory: the chosen candidate's, or those of all.
        effort: How much to time. `quick` takes few timings, so that no p99 can be told.
        base: What replaces the base of image targets: a reference in a container registry, an OCI layout, an archive, a directory.
        labels: Labels of the images.
        created: When the images were created: ISO 8601, or seconds since 1970 as text. None is 1970, so that equal inputs give
            equal bytes.
        verify: Run every step again, and compare what comes out with what was made before.
    """

    only: str | None = None
    keep: Keep = "chosen"
    effort: EffortName = "full"
    base: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created: str | None = None
    verify: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (("keep", self.keep, _KEEP), ("effort", self.effort, _EFFORT)):
            if value not in known:
                raise RecipeError(f"{name}: {value!r} is none of {', '.join(known)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """A store that a build has opened, what it may take, and when that was, seconds since 1970."""

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
        """Take a store. Nothing is opened before the first call.

        Args:
            store: The store's directory, on a local disk. None is the command's: `MLPACK_STORE`, else `mlpack` in the user's cache.
            progress: Whom to tell what is done. None is nobody.
            environ: The variables to go by, as `docs/interface.md` lists them. None is the process's own environment.

        Raises:
            RecipeError: A variable has no meaning; the message names it.
        """
        self._environment = Environment(environ)
        self._progress: Progress = progress or Silent()
        self.root = self._environment.store if store is None else Path(store)
        self._opened: list[_Build] = []
        self._tiers: list[SharedCache] = []

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        opened, self._opened = self._opened, []
        tiers, self._tiers = self._tiers, []
        for build in opened:
            build.store.release()
        # A build that fails has put something in as well. What was interrupted is to end now.
        ended = error is None or (isinstance(error, MlpackError) and not interrupts.pending())
        if ended and any(build.store.grew for build in opened):
            stores.tidy(self.root, opened[-1].max_bytes, min(build.began_s for build in opened), self._progress)
        if error is None:
            for tier in tiers:
                tier.tell()

    def plan(self, recipe: AnyPath, *, only: str | None = None) -> PlanResult:
        """Say what a build would do, without doing it: see `mlpack.plan`."""
        from mlpack.pipeline import outlook
        from mlpack.store.local import Store

        return PlanResult(candidates=outlook.foresee(Path(recipe), Store(self.root), (Path.cwd(),), only))

    def build(self, recipe: AnyPath, *, out: AnyPath | None = None, options: BuildOptions | None = None) -> BuildResult:
        """Build a recipe: see `mlpack.build`."""
        from mlpack.oci.distribution import keychain
        from mlpack.pipeline import verbs
        from mlpack.pipeline.library import images

        wanted = options or BuildOptions()
        chosen = verbs.Options(
            out=None if out is None else Path(out),
            only=wanted.only,
            base=wanted.base,
            keep_all=wanted.keep == "all",
            tools=self._environment.program,
            credentials=keychain.of_environment(self._environment.variables, self._environment.home),
            facts=images.facts(wanted.labels, wanted.created),
            effort=verbs.EFFORTS[wanted.effort],
        )
        store = self._open_to_build(verify=wanted.verify)
        return verbs.build(Path(recipe), store, (Path.cwd(),), chosen, self._progress)

    def rerun_step(self, folder: AnyPath, *, out: AnyPath | None = None) -> str:
        """Run the one step alone that failed in a build: see `mlpack.rerun_step`."""
        from mlpack.pipeline import reproduce
        from mlpack.store.local import Store

        return reproduce.told(Path(folder), Store(self.root), None if out is None else Path(out))

    def status(self) -> StoreStatus:
        """Say what the store holds. Changes nothing.

        Returns:
            Its size in bytes, its kinds of entries, and how much of it running builds use.
        """
        from mlpack.store import care

        return care.status(self.root)

    def prune(self, max_bytes: int | None, *, dry_run: bool = False) -> PruneResult:
        """Remove what killed builds left, then what was not used for longest, until the store is small enough.

        Args:
            max_bytes: What the store may take, in bytes; None for any number, so that only what killed builds left goes.
            dry_run: Only say what would go.

        Returns:
            What went or would go. What running builds use stays.

        Raises:
            RecipeError: `max_bytes` is less than 0.
            MlpackError: This system has no locks of open files, so nobody can say what running builds use.
        """
        if max_bytes is not None and max_bytes < 0:
            raise RecipeError(f"max_bytes: {max_bytes:,} is less than 0")
        return stores.prune(self.root, max_bytes, dry_run=dry_run)

    @property
    def max_bytes(self) -> int | None:
        """How many bytes the store may take (`MLPACK_STORE_MAX`); None for any number."""
        return self._environment.store_max_bytes

    def _open_to_build(self, *, verify: bool) -> Store:
        """The store, to be made small enough at the end."""
        from mlpack.store import shared_cache
        from mlpack.store.local import Store

        most, variables = self._environment.store_max_bytes, self._environment.variables
        tier = shared_cache.configured(variables, self._progress) if variables.get("MLPACK_CACHE") else None
        if tier is not None:
            self._tiers.append(tier)
        store = Store(self.root, verify=verify, tier=tier)
        self._opened.append(_Build(store=store, max_bytes=most, began_s=time.time()))
        return store
