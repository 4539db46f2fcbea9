"""Evaluation and calibration data: from what users have to the calls that a package receives, and back into arrays."""
