"""How sure each measure is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.outcomes import MACHINE, estimate, measurement, on_gpu, result

from mlpack.decide.bands import BANDS, ESTIMATE_BAND, LABELS


def test_every_measure_has_a_band_and_a_name() -> None:
    assert BANDS.keys() == LABELS.keys()


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


def test_ratio_to_the_float_widens_a_latency_of_one_machine() -> None:
    """By what the machine drifted between the two; a float that ran on another machine says nothing of it."""
    made = result("int8", measurement=measurement(10.0, 0.8))
    alone, baseline = BANDS["latency"](made, None, None), measurement(10.0)
    assert alone is not None
    hull = BANDS["latency"](made, baseline, None)
    assert hull is not None
    assert (hull.value, hull.high) == (alone.value, alone.high)
    assert 7.5 < hull.low < 8.5 < alone.low
    elsewhere = replace(baseline, machine=replace(MACHINE, cpu="another"))
    assert BANDS["latency"](made, elsewhere, None) == alone


def test_what_is_neither_has_no_band() -> None:
    nothing = result("int8", measurement=None, artifact=None, cost_per_million_usd=None)
    assert all(band(nothing, None, None) is None for band in BANDS.values())
