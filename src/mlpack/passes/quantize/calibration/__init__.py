"""Calibration: the values that calls reach in each activation, and the range that follows."""
