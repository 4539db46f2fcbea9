"""The recipe: its keys, its file, and a first one by looking at a model."""
