"""The parts of `serve` that have rules of their own: what their keys mean, and what can be wrong with them."""
