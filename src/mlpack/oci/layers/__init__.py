"""Layers as tar archives: written the same on every machine, and read within bounds."""
