"""All states of a machine and the ways between them, to hold a run's against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def states_of(machine: Mapping[str, Any]) -> set[str]:
    """Every state's name, those of maps too."""
    inner = [states_of(state["ItemProcessor"]) for state in machine["States"].values() if "ItemProcessor" in state]
    return set(machine["States"]).union(*inner)


def edges_of(machine: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Every way from a state to one that may follow it: by `Next`, `Default`, a choice or a `Catch`."""
    edges: set[tuple[str, str]] = set()
    for name, state in machine["States"].items():
        to = [
            state.get("Next"),
            state.get("Default"),
            *(rule["Next"] for word in ("Choices", "Catch") for rule in state.get(word, ())),
        ]
        edges |= {(name, then) for then in to if then}
        if "ItemProcessor" in state:
            edges |= edges_of(state["ItemProcessor"])
    return edges


def missing(
    machine: Mapping[str, Any], entered: Iterable[str], gone: Iterable[tuple[str, str]]
) -> tuple[set[str], set[tuple[str, str]]]:
    """(states, edges) that no run has come through."""
    return states_of(machine) - set(entered), edges_of(machine) - set(gone)
