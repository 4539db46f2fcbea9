"""Start a package as its target would, call it once, and stop it."""
