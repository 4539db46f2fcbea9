"""Pack a model: the runtime part, wheels, and every candidate's package."""
