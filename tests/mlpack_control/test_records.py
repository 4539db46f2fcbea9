"""Policies and states as JSON, and what is refused of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_control import Policy, PolicyError, State


def test_a_policy_is_read_as_it_is_written() -> None:
    policy = Policy.of(
        {
            "steps": [10, 100],
            "bake_s": 60,
            "rules": {"slow": {"limit": 0.05}, "errors": {"limit": 0.1, "sources": ["package"]}},
            "provisioned": 2,
        }
    )
    assert Policy.of(policy.json()) == policy
    assert (policy.bake_s, policy.rules[0].sources) == ((60,), ("package",))
    assert policy.rules[1].sources == ("package",)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ([], "object"),
        ({"stepz": []}, "stepz"),
        ({"steps": [5, 5, 100]}, "rise"),
        ({"steps": [5, 50]}, "rise"),
        ({"steps": []}, "rise"),
        ({"steps": [0, 100]}, "steps"),
        ({"steps": "all"}, "list"),
        ({"bake_s": [1]}, "bake_s"),
        ({"bake_s": -1}, "bake_s"),
        ({"on_doubt": "panic"}, "panic"),
        ({"on_doubt": []}, "none of"),
        ({"rules": {}}, "empty"),
        ({"rules": {"errors": {"limit": 0}}}, "errors"),
        ({"rules": {"errors": {"limit": 0.1, "magin": 0.1}}}, "errors"),
        ({"rules": {"errors": {"limit": 0.1, "sources": "package"}}}, "sources"),
        ({"rules": {"errors": {"limit": 0.1, "sources": [1]}}}, "sources"),
        ({"rules": {"errors": 1}}, "object"),
        ({"look_s": 0}, "look_s"),
        ({"give_up_s": 1.5}, "give_up_s"),
        ({"provisioned": -1}, "provisioned"),
    ],
)
def test_a_policy_that_will_not_do_is_named(value: Any, word: str) -> None:
    with pytest.raises(PolicyError, match=word):
        Policy.of(value)


@given(st.dictionaries(st.sampled_from([*State.__dataclass_fields__]), st.none() | st.integers() | st.text() | st.lists(st.text())))
def test_a_state_is_read_whole_or_refused(value: dict[str, Any]) -> None:
    given_state = {**State(old="1", begun=0, since=0).json(), **value}
    try:
        state = State.of(given_state)
    except PolicyError:
        return
    assert state.json() == given_state
