"""The stages of a request, by the names that log lines and budgets have for them, in the order in which they take place."""

from __future__ import annotations

STAGES = ("decode", "preprocess", "features", "cache", "tokenize", "infer", "postprocess", "encode")
"""Those that a build can measure. `fetch` depends on other people's hosts, and `wait` on how many ask at once."""
SHARE = 0.95
"""The percentile that a stage's budget holds."""
