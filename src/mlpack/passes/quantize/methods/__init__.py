"""The ways to compute or store in integers, a module each."""
