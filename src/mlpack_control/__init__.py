"""The controller of rollouts: decides from counts whether a release gets more traffic, and moves it. The standard library only."""

from mlpack_control.deciding import decide
from mlpack_control.records import Action, Policy, PolicyError, Rule, State
from mlpack_control.replaying import canonical, replay

__all__ = ["Action", "Policy", "PolicyError", "Rule", "State", "canonical", "decide", "replay"]
