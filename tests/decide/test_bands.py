"""How sure each measure is."""

from __future__ import annotations

import pytest
from tests.support.outcomes import estimate, measurement, on_gpu, result

from mlpack.decide.bands import BANDS, ESTIMATE_BAND, SAID


def test_every_measure_has_a_band_and_a_name() -> None:
    assert BANDS.keys() == SAID.keys()


def test_an_estimate_is_as_wide_as_its_band_says() -> None:
    guess = estimate(2.0, 0.5)
    for measure, value in (("latency", 2.0), ("cost", 0.5)):
        band = BANDS[measure](on_gpu("fp16"), None, guess)
        assert band is not None
        assert (band.low, band.value, band.high) == pytest.approx((value * (1 - ESTIMATE_BAND), value, value * (1 + ESTIMATE_BAND)))


def test_what_was_measured_is_never_replaced_by_an_estimate() -> None:
    both = result("int8", measurement=measurement(10.0), cost_per_million_usd=0.5)
    for measure in ("latency", "cost"):
        assert BANDS[measure](both, None, estimate(0.1, 0.01)) == BANDS[measure](both, None, None)


def test_what_is_neither_has_no_band() -> None:
    nothing = result("int8", measurement=None, artifact=None, cost_per_million_usd=None)
    assert all(band(nothing, None, None) is None for band in BANDS.values())
