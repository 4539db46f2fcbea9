"""Graphs of other tools, brought to the form that passes take for granted."""
