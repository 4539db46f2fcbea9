"""Models of the zoo that are made on the spot instead of fetched: a list of modules that make them."""

from __future__ import annotations

from sample_models.zoo import Member
from tests.support.models import classical_zoo, hf_zoo

MAKERS = (classical_zoo, hf_zoo)
"""Each with `models()`, which yields `sample_models.zoo.Member`s."""


def members() -> tuple[Member, ...]:
    """What every maker makes."""
    return tuple(member for maker in MAKERS for member in maker.models())
