"""Evaluation and calibration data, and the metrics that score a model's answers to them."""
