"""Ten thousand rollouts in a storm of crashes, second controllers, people and brakes; `make soak` plays a hundred thousand."""

from __future__ import annotations

import os

from tests.support.rollouts.storm import problems

COUNT = 100_000 if os.environ.get("MLPACK_SOAK") else 10_000


def test_ten_thousand_storms_end_well() -> None:
    assert problems(range(1000, 1000 + COUNT)) == {}
