"""Numbers for devices that are not here: computed, not measured."""
