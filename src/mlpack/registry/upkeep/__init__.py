"""Upkeep of a registry: verification, garbage collection, and migration to a newer format."""
