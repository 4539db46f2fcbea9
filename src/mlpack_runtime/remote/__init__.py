"""Weights that lie outside the package: fetched by digest in parallel ranges, verified, kept in a cache directory, and mapped
into the engine."""
