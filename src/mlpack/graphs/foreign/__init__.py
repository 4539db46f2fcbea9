"""Brings graphs of other tools to the standard form that passes rely on."""
