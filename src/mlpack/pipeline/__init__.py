"""The verbs of a build, in order. What only they need lies in the folders beside them."""
