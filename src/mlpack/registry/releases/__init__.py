"""Releases: publish, list, show and pull them."""
