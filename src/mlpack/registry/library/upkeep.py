"""A registry looked after: verified, collected, brought to a newer format, moved and looked back at."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.core.environment import AnyPath
from mlpack.core.text import times
from mlpack.errors import RecipeError
from mlpack.registry import SCHEMA, places
from mlpack.registry.library.access import Access, Damaged, in_thousandths

if TYPE_CHECKING:
    from mlpack.registry.audit import AuditEntry
    from mlpack.registry.moving.transfer import ImportResult
    from mlpack.registry.upkeep.care import VerificationReport
    from mlpack.registry.upkeep.collection import CollectionPlan, RetentionPolicy


class Upkeep:
    """The care of a registry: `Registry.upkeep`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def verify(self, *, resume: AnyPath | None = None) -> VerificationReport:
        """Check every byte against its digest, and every row against its bytes.

        Args:
            resume: A file that remembers what was checked until this ends, so that it can go on after an interruption.

        Returns:
            What was looked at, each finding, and what container registries gave no answer about.

        Raises:
            ServiceError: The registry could not be reached.
        """
        from mlpack.registry.upkeep import care

        with self._access.progress.progress(f"verify {self._access.where}", 1000) as advance:
            memory = None if resume is None else Path(resume)
            return care.verify(self._access.to_look(), resume=memory, progress=in_thousandths(advance))

    def collect(self, policy: RetentionPolicy | None = None, *, remove: bool = False, live_on_aws: bool = False) -> CollectionPlan:
        """Say which releases and bytes nothing keeps, and remove them when asked to.

        Args:
            policy: What is kept, beside the newest of each name and what aliases point to. None is `RetentionPolicy()`.
            remove: Remove what nothing keeps; else only say what would go.
            live_on_aws: Keep also what Lambda functions and ECS services use, in the registry's account and region; for a directory
                in boto3's own.

        Returns:
            What went or would go, what is kept and why, and which images the container registry refused to remove.

        Raises:
            ServiceError: Another collects at this moment, a row is damaged, or the registry or AWS could not be reached.
        """
        from mlpack.registry.upkeep import collection

        opened, retention, used = self._access.to_publish(), policy or collection.RetentionPolicy(), None
        if live_on_aws:
            with self._access.progress.step("ask AWS what is live"):
                used = places.in_use_on_aws(self._access.where)
        if not remove:
            return collection.plan(opened, retention, used)
        who = self._access.who() or "somebody"
        with self._access.progress.progress(f"collect {self._access.where}", 1000) as advance:
            return collection.collect(opened, retention, used, who=who, progress=in_thousandths(advance))

    def audit(self, since: str | None = None, *, damaged: Damaged | None = None) -> list[AuditEntry]:
        """List everything that was done, oldest first: publications, moves, policies, collections, imports.

        Args:
            since: Only since then: ISO 8601, such as `2026-11-24`; UTC unless it says. None is everything.
            damaged: Told of rows that cannot be read, which are passed over then. None: the first one raises.

        Returns:
            What was done, when and by whom.

        Raises:
            RecipeError: `since` is no time.
            ServiceError: A row is damaged, and nobody is told.
        """
        from mlpack.registry import audit
        from mlpack.registry.rows import rows

        return audit.log(self._access.opened, rows.timestamp(times.parse_time(since)) if since else "", damaged)

    def migrate(self) -> int:
        """Bring the registry to the format of this mlpack. What is up to date stays as it is.

        Returns:
            The number of that format.

        Raises:
            ServiceError: It was written by a newer mlpack, or could not be reached.
        """
        from mlpack.registry.upkeep import migration

        migration.migrate(self._access.opened)
        return SCHEMA

    def export(self, out: AnyPath, names: Iterable[str] = ()) -> int:
        """Write models with their histories and policies to another place.

        Args:
            out: A new directory, or a file that ends with `.tar`.
            names: The models. None said is all of them.

        Returns:
            How many releases were written.

        Raises:
            RecipeError: `out` is there already, or there is no such model.
            ServiceError: Bytes are missing or damaged, or the registry could not be reached.
        """
        from mlpack.registry.moving import transfer

        opened = self._access.to_look()
        with self._access.progress.step(f"export {self._access.where}"):
            return transfer.export(opened, Path(out), names)

    def import_from(self, source: AnyPath, *, also: Collection[str] = ()) -> ImportResult:
        """Import the releases of an export and the histories of its aliases.

        Args:
            source: What `export` wrote.
            also: What else to import: `policies`, which decide about promotions, and `audit`, the records of collections.

        Returns:
            What came, what was there, and what was left behind.

        Raises:
            RecipeError: `source` is no export, or holds other releases under the same versions.
            ServiceError: The registry could not be reached.
        """
        from mlpack.registry.moving import transfer

        if unknown := sorted(set(also) - set(transfer.WITH)):
            raise RecipeError(f"also: {', '.join(unknown)} is none of {', '.join(transfer.WITH)}")
        opened = self._access.to_publish()
        with self._access.progress.step(f"import {source}"):
            return transfer.import_(opened, Path(source), self._access.who(), parts=also)
