"""What calibration calls reach in each activation, and the range that follows."""
