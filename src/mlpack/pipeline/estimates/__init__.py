"""Numbers for devices that are not here, computed instead of measured."""
