"""What candidates are judged on: evaluation and calibration data, and the metrics that score answers to them."""
