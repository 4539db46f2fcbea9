"""What aliases ask of a release before they move to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mlpack.registry.library.access import Access, Damaged

if TYPE_CHECKING:
    from mlpack.registry.aliases.policies import Policy


class Policies:
    """The policies of a registry's aliases: `Registry.policies`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def set(
        self,
        subject: str,
        *,
        budgets: Mapping[str, str | float | bool] | Sequence[str] = (),
        refuses: Sequence[str] = (),
        expect: int | None = None,
    ) -> Policy:
        """Set the whole policy of an alias, in place of the one before.

        Args:
            subject: `NAME:ALIAS`, or `*:ALIAS` for every model. The first goes before the second.
            budgets: In a recipe's words, as a mapping (`{"latency_p95": "20ms", "accuracy_drop": 0.005}`) or as KEY=VALUE each.
            refuses: The regressions against the live release that refuse a promotion: `size`, `latency`, `cold_start`, `accuracy`.
                Empty: all of them; `none` alone: none.
            expect: The revision that the policy must be at (0: never set); else nothing is changed.

        Returns:
            The policy as it is now.

        Raises:
            RecipeError: The subject, a budget or a regression is none.
            ServiceError: The policy is not at the revision `expect`.
        """
        from mlpack.recipe import reader
        from mlpack.registry.aliases import policies

        policy = policies.Policy(
            subject=policies.parse_subject(subject),
            budgets=reader.budgets(budgets) if isinstance(budgets, Mapping) else policies.parse_budgets(budgets),
            refuses=policies.parse_refuses(refuses),
        )
        return policies.put(self._access.opened.place, policy, self._access.who(), expect)

    def get(self, subject: str) -> Policy:
        """Give one policy.

        Args:
            subject: `NAME:ALIAS` or `*:ALIAS`.

        Returns:
            The policy that was set for exactly this.

        Raises:
            RecipeError: The subject is none, or nobody has set a policy for it.
        """
        from mlpack.registry.aliases import policies

        return policies.get(self._access.opened.place, subject)

    def all(self, *, damaged: Damaged | None = None) -> Iterator[Policy]:
        """Give all policies that were set.

        Args:
            damaged: Told of rows that cannot be read, which are passed over then. None: the first one raises.

        Returns:
            The policies, by subject, as they are read.

        Raises:
            ServiceError: A row is damaged, and nobody is told.
        """
        from mlpack.registry.aliases import policies

        return policies.listed(self._access.opened.place, damaged)

    def remove(self, subject: str, *, expect: int | None = None) -> bool:
        """Remove a policy.

        Args:
            subject: `NAME:ALIAS` or `*:ALIAS`.
            expect: As of `set`.

        Returns:
            Whether there was one.

        Raises:
            ServiceError: The policy is not at the revision `expect`.
        """
        from mlpack.registry.aliases import policies

        return policies.remove(self._access.opened.place, subject, self._access.who(), expect)
