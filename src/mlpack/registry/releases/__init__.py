"""Releases: published, listed, shown and pulled."""
