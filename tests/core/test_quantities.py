from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.core.text.quantities import parse_duration_ms, parse_size, parse_usd, quoted, share_of
from mlpack.errors import RecipeError
from mlpack.registry.aliases import policies

PARSERS = (parse_size, parse_duration_ms, parse_usd)
KEYS = ("package_size", "latency_p95", "cost_per_million")
ODD: tuple[Any, ...] = (
    *("100 MBytes", "5EUR", "5 sec", "5Ms", "100%", "5 parsecs"),
    *("", " ", "MB", "-5MB", "+5ms", "1e3 MB", "1,5MB", "1 000MB", "1_000MB", "1.MB", "0x10MB", "5MB/s", "5 M B"),
    *("\u096b\u096b MB", "5\u00a0MB", "\uff15MB", "\u221e", "nan", "inf", "-inf", "NaN MB", "inf ms"),
    *(math.nan, math.inf, -math.inf, -1, -0.5, 0.0, 1e-320, 10**400, True, False, None, [], [5], {"a": 1}),
)


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("value", ODD, ids=lambda value: f"{value!r:.20}")
def test_odd_value_is_quoted(parse: Any, value: Any) -> None:
    if parse is parse_usd and value == 1e-320:
        return  # more than nothing, and dollars need no unit
    with pytest.raises(ValueError, match=r"must be|is not|has no unit") as caught:
        parse(value)
    assert quoted(value) in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("parse", "near"), [(parse_size, "MB"), (parse_duration_ms, "ms"), (parse_usd, "USD")])
def test_unit_in_other_letters_is_named(parse: Any, near: str) -> None:
    with pytest.raises(ValueError, match=rf"^'5 {near.swapcase()}': .*\({near} is\)"):
        parse(f"5 {near.swapcase()}")


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("text", ["9" * 41, "9" * 5000 + "MB", "5" + "M" * 5000, " " * 5000 + "-"])
def test_long_value_is_quoted_short(parse: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|is not|has no unit") as caught:
        parse(text)
    assert len(str(caught.value)) < 300
    assert "..." in str(caught.value) or text in str(caught.value)


def test_micro_sign_and_greek_letter_are_one_unit() -> None:
    assert parse_duration_ms("5\u00b5s") == parse_duration_ms("5\u03bcs") == parse_duration_ms("5us")


@given(st.text(max_size=80) | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(st.integers(), max_size=2))
def test_any_value_is_read_or_a_value_error(value: Any) -> None:
    for parse in PARSERS:
        try:
            found = parse(value)
        except ValueError:
            continue
        assert 0 < found < math.inf


@given(st.decimals(0, 10**9, places=4))
def test_percentage_is_a_share(percentage: Decimal) -> None:
    share = share_of(f"{percentage:f} %")
    assert share is not None
    assert Decimal(share) * 100 == percentage


@pytest.mark.parametrize("text", ["5", "5MB", "-5%", "%", "5%%", 5, None])
def test_what_is_no_percentage_has_no_share(text: Any) -> None:
    assert share_of(text) is None


@pytest.mark.parametrize("key", KEYS)
def test_policy_quotes_a_unit_that_is_none(key: str) -> None:
    with pytest.raises(RecipeError, match=r"'5 parsecs': parsecs is not"):
        policies.parse_budgets([f"{key}=5 parsecs"])


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e400", "9" * 50])
def test_number_that_no_recipe_holds_is_one_problem(tmp_path: Path, value: str) -> None:
    from mlpack.recipe import reader

    path = tmp_path / "r.yaml"
    path.write_text("name: x\nbudgets:\n" + "".join(f"  {key}: {value}\n" for key in (*KEYS, "confidence")))
    with pytest.raises(RecipeError) as caught:
        reader.load(path)
    for key in (*KEYS, "confidence"):
        assert sum(f"budgets.{key}" in problem for problem in caught.value.problems) == 1


def test_percentage_in_the_place_of_a_number_says_the_number(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'must be a number, not "2.5 %": write 0\.025'):
        policies.parse_budgets(["accuracy_drop=2.5 %"])
