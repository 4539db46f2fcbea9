"""What follows from a package, what the environment changes, and how little a stranger's value may say of itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime.limits import MESSAGE, MIB, NAMES, QUOTED, Limits, SettingsError, cut, exceeded, quoted, variable

BATCH = [{"shape": ["batch", 20]}]
TABULAR = {"memory_mb": 512, "inputs": BATCH, "outputs": [{"shape": ["batch", 3]}], "target": "lambda-zip"}


def test_a_package_that_says_nothing_has_limits() -> None:
    found = Limits({}, {})
    assert all(getattr(found, name) >= 1 for name in NAMES)
    assert found.json_bytes <= found.body_bytes <= 256 * MIB


def test_large_tables_pass_and_rows_of_large_outputs_are_fewer() -> None:
    assert Limits({}, TABULAR).rows > 200_000
    wide = {**TABULAR, "outputs": [{"shape": ["batch", 21, 224, 224]}]}
    assert 16 <= Limits({}, wide).rows < 100


def test_a_signals_samples_are_no_rows() -> None:
    sound = {"inputs": [{"shape": ["n"]}], "outputs": [{"shape": ["frames", 521]}]}
    assert not Limits({}, sound).counts_rows(("n",))
    assert Limits({}, sound).rows > 1_000_000
    assert not Limits({}, {**sound, "outputs": [{"shape": ["n"]}]}).counts_rows(("n",))
    follows = Limits({}, {**sound, "outputs": [{"shape": ["n", 1000]}]})
    assert follows.counts_rows(("n",))
    assert follows.rows < 30_000
    assert Limits({}, {}).counts_rows(("batch", 4))
    assert not any(Limits({}, {}).counts_rows(axes) for axes in ((), (3, 4), ("n",)))


def test_functions_own_memory_counts_and_a_front_doors_does_not() -> None:
    environment = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008"}
    assert Limits(environment, TABULAR).rows > Limits({}, TABULAR).rows
    assert Limits(environment, {**TABULAR, "target": "cpu-worker"}).rows == Limits({}, TABULAR).rows


@pytest.mark.parametrize("memory_mb", [128, 512, 1769, 10240])
def test_no_default_refuses_a_body_that_lambda_lets_through(memory_mb: int) -> None:
    assert Limits({}, {"memory_mb": memory_mb}).json_bytes >= 6 * MIB


@pytest.mark.parametrize("name", NAMES)
def test_each_limit_has_a_variable(name: str) -> None:
    assert getattr(Limits({variable(name): "77"}, {}), name) == 77
    for wrong in ("0", "-1", "x", "1e99", "nan", "9" * 5000):
        with pytest.raises(SettingsError, match=variable(name)) as caught:
            Limits({variable(name): wrong}, {})
        assert len(str(caught.value)) < 400


def test_builds_numbers_stand_between_defaults_and_environment() -> None:
    built = {"memory_mb": 2048, "limits": {"token_bytes": 1024, "rows": 5}}
    found = Limits({"MLPACK_LIMIT_ROWS": "6"}, built)
    assert (found.engine_tokens, found.rows) == (1 << 20, 6)
    assert Limits({}, built).rows == 5


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_is_quoted_is_short(value: Any) -> None:
    assert len(quoted(value)) <= 2 * QUOTED + 50


@pytest.mark.parametrize(
    "value",
    ["\U0010ffff" * 10**6, [1] * 10**6, 10**4299, 1 << 10**6, {"a": 1}, [[[]]], ["x" * 10**6] * 16, [10**4000] * 3, b"\0" * 10**6],
    ids=list("abcdefghi"),
)
def test_what_is_large_is_quoted_short_too(value: Any) -> None:
    assert len(quoted(value)) <= 2 * QUOTED + 50
    assert len(exceeded("rows", "rows are", 10**4000, 3)) < 200


def test_small_values_are_quoted_as_they_are() -> None:
    assert quoted("it's") == '"it\'s"'
    assert quoted([2, 3]) == "[2, 3]"
    assert (quoted(-5), quoted(1.5), quoted(None), quoted(True)) == ("-5", "1.5", "None", "True")


def test_a_long_message_keeps_its_ends() -> None:
    assert cut("short") == "short"
    found = cut("a" * 10**5 + "b" * 10**5)
    assert len(found) < MESSAGE + 60
    assert (found[0], found[-1]) == ("a", "b")
