"""The records of calibration: what a recipe says about it where it names no data, and what a build used."""

from __future__ import annotations

from dataclasses import dataclass

NOTHING = "none"
"""What a recipe says where nothing may calibrate."""
INVENTED = "random"
"""What it says where calibration is made up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutCalibration:
    """Calibration by a part of the evaluation data, which no candidate is then judged on. `share` None: as much as is usual, and
    only where a step cannot do without."""

    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationUse:
    """What calibrated the candidates of a build: `samples` of the recipe's own data ("recipe"), of `of` samples of the evaluation
    data ("evaluation"), which then judged nobody, or invented ("random")."""

    source: str
    samples: int
    of: int | None = None
