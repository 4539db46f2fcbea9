"""The records of calibration: what a recipe says about it where it names no data, and what a build used."""

from __future__ import annotations

from dataclasses import dataclass

NOTHING = "none"
"""The word of a recipe for no calibration."""
INVENTED = "random"
"""The word of a recipe for calibration by generated data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutCalibration:
    """Calibration by a part of the evaluation data, on which no candidate is then judged. `share` None: the usual share, and only
    if a step needs calibration."""

    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationUse:
    """What calibrated the candidates of a build: `samples` of the recipe's own data ("recipe"), of `of` samples of the evaluation
    data ("evaluation"), on which no candidate was judged, or generated ones ("random")."""

    source: str
    samples: int
    of: int | None = None
