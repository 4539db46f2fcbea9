"""Packed bytes run on this machine, and what machine that is."""
