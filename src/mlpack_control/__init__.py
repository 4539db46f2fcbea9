"""The controller of rollouts: decides from counts whether a release gets more traffic, and moves it. The standard library only."""
