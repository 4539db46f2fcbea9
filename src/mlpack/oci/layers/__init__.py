"""Layers as tar archives: written the same everywhere, and read within bounds."""
