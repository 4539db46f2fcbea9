"""Evaluation and calibration data: from the users' files to the calls that a package receives, and back into arrays."""
