"""The verbs of a build, in order. The folders beside them hold what only they need."""
